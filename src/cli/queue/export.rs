//! The file of an export: one stream, written and read once from front to back.
//!
//! ```text
//! {"sealpost_export":1,"export":ID,"made":TIME,"sealpost":VERSION}
//!
//! --ID PLACE HEAD BODY HEAD-SUM BODY-SUM LINE-SUM      for each message: octets of head and body, XXH3-64 of head, body and this line
//! {"record":BASE64,"entry":{..}}                       its head: what is stored of it, and the same for people, as `queue show --json`
//! the message's octets
//!
//! --ID end COUNT FILE-SUM                              XXH3-64 of all octets before this sum
//! ```
//!
//! Each part stands on lines of its own. ID is 26 letters that hold 80 random bits, so that no message holds a line that begins like one of the file's
//! own: behind damage, reading goes on with the next. Places count from 0. The record has a version and a checksum of its own (`queue::codec`).
//!
//! Never: holds a body in memory; takes a message for whole whose sums do not agree.

use std::io::{self, BufRead, Read as _, Write};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::daemon::steering::moving::Parcel;

/// The version of the file that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;
/// The longest line of the file's own, octets.
const LINE_MAX: u64 = 4096;
/// The longest head, octets.
const HEAD_MAX: u64 = 48 * 1024 * 1024;
/// Octets of a body that are handed on at once.
const PIECE: usize = 96 * 1024;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct First {
    /// [`VERSION`].
    pub(super) sealpost_export: u32,
    /// The export's name.
    pub(super) export: String,
    /// When it was made, RFC 3339.
    pub(super) made: String,
    /// By which version of the program.
    pub(super) sealpost: String,
}

/// Counts and sums what goes through.
#[derive(Debug)]
struct Summed<T> {
    inner: T,
    place: u64,
    sum: Box<Xxh3Sum>,
}

/// `Xxh3` can't be shown.
struct Xxh3Sum(Xxh3);

impl std::fmt::Debug for Xxh3Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0.digest())
    }
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self { inner, place: 0, sum: Box::new(Xxh3Sum(Xxh3::new())) }
    }

    fn note(&mut self, octets: &[u8]) {
        self.place = self.place.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        self.sum.0.update(octets);
    }
}

/// Writes an export.
#[derive(Debug)]
pub(super) struct Writer<W> {
    to: Summed<W>,
    export: String,
    count: u64,
    /// Octets of the body that are still to come.
    owed: u64,
    /// How far it was, and its sum, before the message that is being written.
    before: (u64, Box<Xxh3Sum>),
}

impl<W: Write> Writer<W> {
    pub(super) fn begin(to: W, first: &First) -> io::Result<Self> {
        let before = (0, Box::new(Xxh3Sum(Xxh3::new())));
        let mut writer = Self { to: Summed::new(to), export: first.export.clone(), count: 0, owed: 0, before };
        writer.write(&serde_json::to_vec(first)?)?;
        writer.write(b"\n")?;
        Ok(writer)
    }

    /// A message; its octets are to follow.
    pub(super) fn message(&mut self, parcel: &Parcel) -> io::Result<()> {
        self.before = (self.to.place, Box::new(Xxh3Sum(self.to.sum.0.clone())));
        let head = serde_json::to_vec(&serde_json::json!({ "record": parcel.record, "entry": parcel.entry }))?;
        let line = format!(
            "--{} {} {} {} {:016x} {:016x}",
            self.export,
            self.count,
            head.len(),
            parcel.octets,
            xxh3_64(&head),
            parcel.checksum
        );
        let line = format!("\n{line} {:016x}\n", xxh3_64(line.as_bytes()));
        self.write(line.as_bytes())?;
        self.write(&head)?;
        self.write(b"\n")?;
        self.owed = parcel.octets;
        self.piece(&[])
    }

    /// Octets of it.
    pub(super) fn piece(&mut self, octets: &[u8]) -> io::Result<()> {
        self.write(octets)?;
        self.owed = self.owed.saturating_sub(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if self.owed == 0 {
            self.write(b"\n")?;
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }

    /// Whether a message has been begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        self.owed > 0
    }

    /// The message that was begun will not be whole. Gives what is written to, and the length to which it is to be cut.
    pub(super) fn give_up(&mut self) -> (&mut W, u64) {
        self.owed = 0;
        self.to.place = self.before.0;
        self.to.sum.0 = self.before.1.0.clone();
        (&mut self.to.inner, self.before.0)
    }

    /// The last line; gives back what was written to, and how many messages there are.
    pub(super) fn end(mut self) -> io::Result<(W, u64)> {
        // The empty line belongs to what is summed.
        self.write(b"\n")?;
        let line = format!("--{} end {} ", self.export, self.count);
        self.write(line.as_bytes())?;
        let sum = format!("{:016x}\n", self.to.sum.0.digest());
        self.write(sum.as_bytes())?;
        self.to.inner.flush()?;
        Ok((self.to.inner, self.count))
    }

    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.to.note(octets);
        self.to.inner.write_all(octets)
    }
}

/// What stands next in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A message; its octets are read by [`Reader::piece`].
    Message(Message),
    /// A part of the file that is no whole message, and why. Reading goes on behind it.
    Damage(String),
    /// The end, as it was written, with this many messages.
    End(u64),
}

/// A message in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its place in the export.
    pub(super) place: u64,
    /// Its name, as its head tells.
    pub(super) id: String,
    /// Its record, in base64.
    pub(super) record: String,
    /// Octets of its body.
    pub(super) octets: u64,
}

/// Reads an export.
pub(super) struct Reader<R> {
    from: Summed<R>,
    pub(super) first: First,
    mark: Vec<u8>,
    /// The line that ended what was passed over.
    found: Option<Found>,
    /// Whether damage has been told: what follows it is told of no more.
    told: bool,
    body: Body,
    over: bool,
}

/// The body that is being read.
#[derive(Default)]
struct Body {
    left: u64,
    sum: Xxh3,
    expected: u64,
}

/// A line of the file's own.
struct Found {
    line: Vec<u8>,
    /// The sum of all before it.
    before: Xxh3,
    /// Whether something stood before it but an empty line.
    passed: bool,
}

/// What a piece of a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Octets.
    Octets(Vec<u8>),
    /// All was read, and it is what was written.
    Whole,
    /// It is not what was written, and why.
    Damaged(String),
}

#[derive(Deserialize)]
struct Head {
    record: String,
    entry: HeadEntry,
}

#[derive(Deserialize)]
struct HeadEntry {
    id: String,
}

/// A line of the file's own, read.
enum Line<'a> {
    Message { place: u64, head: u64, body: u64, head_sum: u64, body_sum: u64 },
    End { count: u64, sum: u64, summed: &'a str },
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// It is no export, or one that is newer than this program.
    pub(super) fn begin(from: R) -> anyhow::Result<Self> {
        let mut from = Summed::new(from);
        let line = from.line(LINE_MAX)?;
        let first: First = serde_json::from_slice(&line)
            .map_err(|fault| anyhow::anyhow!("this is no export of a queue: its first line can't be read: {fault}"))?;
        if first.sealpost_export > VERSION {
            anyhow::bail!(
                "this export has version {}, and this sealpost reads versions up to {VERSION}: use the newer sealpost",
                first.sealpost_export
            );
        }
        let mark = format!("--{} ", first.export).into_bytes();
        Ok(Self { from, first, mark, found: None, told: false, body: Body::default(), over: false })
    }

    /// What stands next; none behind the end. A body that was not read is passed over.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        while self.body.left > 0 {
            self.piece()?;
        }
        if self.over {
            return Ok(None);
        }
        let found = match self.found.take() {
            Some(found) => Some(found),
            None => self.seek()?,
        };
        let Some(found) = found else {
            self.over = true;
            return Ok(Some(Item::Damage("the file is cut off: its end is missing".to_owned())));
        };
        if found.passed && !self.told {
            let at = self.from.place.saturating_sub(u64::try_from(found.line.len()).unwrap_or(0));
            (self.found, self.told) = (Some(found), true);
            return Ok(Some(Item::Damage(format!("something stands before octet {at} that is no message"))));
        }
        let item = self.item(&found)?;
        self.told = matches!(item, Item::Damage(_));
        Ok(Some(item))
    }

    fn item(&mut self, Found { line, before, .. }: &Found) -> io::Result<Item> {
        let at = self.from.place;
        match read_line(line, &self.mark) {
            None => Ok(Item::Damage(format!("the line that ends with octet {at} is damaged"))),
            Some(Line::End { count, sum, summed }) => {
                self.over = true;
                let mut before = before.clone();
                before.update(summed.as_bytes());
                let is_whole = sum == before.digest();
                Ok(if is_whole {
                    Item::End(count)
                } else {
                    Item::Damage("the sum of the whole file is another".to_owned())
                })
            }
            Some(Line::Message { place, head, body, head_sum, body_sum }) => {
                let octets = self.from.exactly(head.min(HEAD_MAX))?;
                self.from.exactly(1)?;
                // Also of a message that can't be taken: its octets are passed over.
                self.body = Body { left: body, sum: Xxh3::new(), expected: body_sum };
                if xxh3_64(&octets) != head_sum {
                    return Ok(Item::Damage(format!("the head of message {place} is damaged, behind octet {at}")));
                }
                let Ok(Head { record, entry }) = serde_json::from_slice(&octets) else {
                    return Ok(Item::Damage(format!("the head of message {place} can't be read, behind octet {at}")));
                };
                Ok(Item::Message(Message { place, id: entry.id, record, octets: body }))
            }
        }
    }

    /// The next octets of the body.
    ///
    /// # Errors
    /// The file can't be read.
    pub(super) fn piece(&mut self) -> io::Result<Piece> {
        if self.body.left == 0 {
            let whole = self.body.sum.digest() == self.body.expected;
            return Ok(if whole { Piece::Whole } else { Piece::Damaged("its octets fail their checksum".to_owned()) });
        }
        let wanted = self.body.left.min(u64::try_from(PIECE).unwrap_or(u64::MAX));
        let octets = self.from.exactly(wanted)?;
        let got = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        if got < wanted {
            self.body.left = 0;
            return Ok(Piece::Damaged("the file ends within it".to_owned()));
        }
        self.body.left = self.body.left.saturating_sub(got);
        self.body.sum.update(&octets);
        Ok(Piece::Octets(octets))
    }

    /// The next line of the file's own; none at the end of the file.
    fn seek(&mut self) -> io::Result<Option<Found>> {
        let mut passed = false;
        loop {
            let before = self.from.sum.0.clone();
            let line = self.from.line(LINE_MAX)?;
            if line.is_empty() {
                return Ok(None);
            }
            if line.starts_with(&self.mark) {
                return Ok(Some(Found { line, before, passed }));
            }
            passed |= line != b"\n";
        }
    }
}

/// A line, if it is one and whole.
fn read_line<'a>(line: &'a [u8], mark: &[u8]) -> Option<Line<'a>> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let words: Vec<&str> = text.get(mark.len()..)?.split(' ').collect();
    let sum = |text: &str| u64::from_str_radix(text, 16).ok();
    match words.as_slice() {
        ["end", count, of_file] => {
            let summed = text.strip_suffix(of_file)?;
            Some(Line::End { count: count.parse().ok()?, sum: sum(of_file)?, summed })
        }
        [place, head, body, head_sum, body_sum, of_line] => {
            let summed = text.strip_suffix(of_line)?.strip_suffix(' ')?;
            (xxh3_64(summed.as_bytes()) == sum(of_line)?).then_some(())?;
            Some(Line::Message {
                place: place.parse().ok()?,
                head: head.parse().ok()?,
                body: body.parse().ok()?,
                head_sum: sum(head_sum)?,
                body_sum: sum(body_sum)?,
            })
        }
        _ => None,
    }
}

impl<R: BufRead> Summed<R> {
    /// A line with its end, or as much of it as may be; empty at the end of the file.
    fn line(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.inner).take(most).read_until(b'\n', &mut line)?;
        self.note(&line);
        Ok(line)
    }

    /// So many octets; fewer when the file ends.
    fn exactly(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut octets = Vec::new();
        (&mut self.inner).take(count).read_to_end(&mut octets)?;
        self.note(&octets);
        Ok(octets)
    }
}

#[cfg(test)]
#[expect(clippy::as_conversions, reason = "tests count and measure")]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::daemon::steering::entry::Entry;
    use crate::queue::Queue;
    use crate::queue::record::samples;

    const EXPORT: &str = "01jdkz3n7q8w0x2y4z6a8b0c1d";

    fn parcel(number: u128, body: &[u8]) -> Parcel {
        use base64::Engine as _;
        let mut record = samples::record(number);
        (record.length, record.checksum) = (body.len() as u64, xxh3_64(body));
        let packed = Queue::pack(&record).unwrap();
        Parcel {
            entry: Box::new(Entry::of(&record)),
            record: base64::engine::general_purpose::STANDARD.encode(packed),
            octets: record.length,
            checksum: record.checksum,
        }
    }

    fn bodies() -> Vec<Vec<u8>> {
        let lines = format!("Subject: x\r\n\r\n--{EXPORT}\r\n--\n\n").into_bytes();
        vec![lines.clone(), Vec::new(), lines.repeat(5000), b"last".to_vec()]
    }

    fn export() -> Vec<u8> {
        let first = First {
            sealpost_export: VERSION,
            export: EXPORT.to_owned(),
            made: "2026-11-26T00:00:00Z".to_owned(),
            sealpost: "0".to_owned(),
        };
        let mut writer = Writer::begin(Vec::new(), &first).unwrap();
        for (number, body) in (1..).zip(bodies()) {
            writer.message(&parcel(number, &body)).unwrap();
            body.chunks(1000).for_each(|piece| writer.piece(piece).unwrap());
            assert!(!writer.is_within());
        }
        let (octets, count) = writer.end().unwrap();
        assert_eq!(count, 4);
        octets
    }

    /// Name and record of each message.
    static HEADS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let parcels = (1..).zip(bodies()).map(|(number, body)| parcel(number, &body));
        parcels.map(|parcel| (parcel.entry.id.clone(), parcel.record)).collect()
    });

    /// The places of the messages that are whole, what was told of damage, and the count at the end.
    fn read(octets: &[u8]) -> (Vec<u64>, Vec<String>, Option<u64>) {
        let (mut whole, mut damage, mut end) = (Vec::new(), Vec::new(), None);
        let mut reader = Reader::begin(octets).unwrap();
        while let Some(item) = reader.next().unwrap() {
            match item {
                Item::Damage(why) => damage.push(why),
                Item::End(count) => end = Some(count),
                Item::Message(message) => {
                    let Message { place, id, record, .. } = &message;
                    assert_eq!((id, record), (&HEADS[*place as usize].0, &HEADS[*place as usize].1), "a damaged head");
                    let mut body = Vec::new();
                    loop {
                        match reader.piece().unwrap() {
                            Piece::Octets(octets) => body.extend(octets),
                            Piece::Damaged(why) => break damage.push(why),
                            Piece::Whole => {
                                assert_eq!(body, bodies()[message.place as usize]);
                                break whole.push(message.place);
                            }
                        }
                    }
                }
            }
        }
        (whole, damage, end)
    }

    #[test]
    fn an_export_reads_back() {
        assert_eq!(read(&export()), (vec![0, 1, 2, 3], vec![], Some(4)));
        let octets = export();
        let mut reader = Reader::begin(octets.as_slice()).unwrap();
        let Some(Item::Message(message)) = reader.next().unwrap() else { panic!("no message") };
        assert_eq!((message.id, message.place), (parcel(1, b"").entry.id, 0));
        // A body that nobody reads is passed over.
        assert!(matches!(reader.next().unwrap(), Some(Item::Message(Message { place: 1, .. }))));
    }

    #[test]
    fn any_flipped_bit_is_told_and_costs_one_message_at_the_most() {
        let octets = export();
        let first = octets.iter().position(|octet| *octet == b'\n').unwrap() + 1;
        let places =
            (first..4000).chain((4000..octets.len() - 1500).step_by(997)).chain(octets.len() - 1500..octets.len());
        for place in places {
            let mut damaged = octets.clone();
            damaged[place] ^= 4;
            let (whole, damage, end) = read(&damaged);
            assert!(whole.len() >= 3, "octet {place}: {whole:?}");
            assert!(!damage.is_empty() || end.is_none(), "octet {place}");
        }
    }

    #[test]
    fn a_file_that_is_cut_off_gives_what_is_whole_and_says_so() {
        let octets = export();
        for length in (octets.len() - 3000..octets.len()).chain((600..octets.len()).step_by(1009)) {
            let (whole, damage, end) = read(&octets[..length]);
            let expected: Vec<u64> = (0..whole.len() as u64).collect();
            assert!(whole == expected && !damage.is_empty() && end.is_none(), "{length}: {whole:?} {damage:?} {end:?}");
        }
    }

    #[test]
    fn what_is_no_export_or_a_newer_one_is_refused_by_name() {
        for (text, part) in [
            ("", "no export"),
            ("From alice\n", "no export"),
            (r#"{"sealpost_export":2,"export":"x","made":"","sealpost":""}"#, "version 2"),
        ] {
            let fault = Reader::begin(text.as_bytes()).err().unwrap().to_string();
            assert!(fault.contains(part), "{text}: {fault}");
        }
    }

    #[test]
    fn a_message_that_does_not_come_to_its_end_leaves_nothing_in_the_file() {
        let first =
            First { sealpost_export: VERSION, export: EXPORT.to_owned(), made: String::new(), sealpost: String::new() };
        let mut writer = Writer::begin(Vec::new(), &first).unwrap();
        writer.message(&parcel(1, b"one")).unwrap();
        writer.piece(b"one").unwrap();
        writer.message(&parcel(2, b"two, which fails")).unwrap();
        writer.piece(b"two,").unwrap();
        assert!(writer.is_within());
        let (to, length) = writer.give_up();
        to.truncate(length as usize);
        writer.message(&parcel(3, b"three")).unwrap();
        writer.piece(b"three").unwrap();
        let (octets, count) = writer.end().unwrap();
        assert_eq!(count, 2);
        let mut reader = Reader::begin(octets.as_slice()).unwrap();
        let mut ids = Vec::new();
        while let Some(item) = reader.next().unwrap() {
            match item {
                Item::Message(message) => ids.push(message.id),
                Item::End(count) => assert_eq!(count, 2),
                Item::Damage(why) => panic!("{why}"),
            }
        }
        assert_eq!(ids, [parcel(1, b"").entry.id, parcel(3, b"").entry.id]);
    }
}
