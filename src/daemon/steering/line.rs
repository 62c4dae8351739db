//! The lines in which a listing tells of a message: to people, or to programs.
//!
//! A listing may have a million of them. So they are made beside the store, whole, and whoever asked copies them: many messages are one answer, and nothing is
//! allocated for one of them. Never: shows an octet of a body; has in it what could steer a terminal; a line for what stands in another.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::StateName;
use super::active::ActiveEntry;
use super::entry::{Entry, came_of};
use crate::mail::QueueId;
use crate::plain::{clean, json, push_age, push_size};
use crate::queue::{Brief, Listed, RecipientState, Sketch as _};
use crate::sys::WallTime;

/// Recipients of whom lines tell what came of them; `show` tells of all.
pub const LINE_TRIED_MAX: usize = 20;

/// Octets of lines after which an answer is long enough.
const ENOUGH: usize = 256 * 1024;

/// What is told of some messages of a listing, in their order. On the control socket the text follows the line that says how long it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// How many messages.
    pub messages: usize,
    /// The last of them.
    pub last: String,
    /// Octets of the text.
    pub octets: usize,
    /// Each line ends with LF.
    #[serde(skip)]
    pub text: String,
}

/// What people are shown of these messages; `active` tells how far the attempt is that is under way at one.
pub(super) fn lines(
    found: &[Listed<Brief>],
    now: WallTime,
    active: impl Fn(QueueId) -> Option<ActiveEntry>,
) -> Vec<Lines> {
    let mut told = Telling::default();
    for one in found {
        Scribe { text: told.text(), now }.tell(one, active(one.id()).as_ref());
        told.ends(one.id());
    }
    told.all()
}

/// What programs are told of these: all that is known, an object a line.
pub(super) fn objects(
    found: &[Listed],
    active: impl Fn(QueueId) -> Option<ActiveEntry>,
) -> serde_json::Result<Vec<Lines>> {
    let mut told = Telling::default();
    for one in found {
        let text = told.text();
        text.push_str(&json(&Entry { active: active(one.id()), ..Entry::of_listed(one) })?);
        text.push('\n');
        told.ends(one.id());
    }
    Ok(told.all())
}

/// Answers, of which none is longer than it need be.
#[derive(Default)]
struct Telling {
    ended: Vec<Lines>,
    messages: usize,
    text: String,
    last: Option<QueueId>,
}

impl Telling {
    /// Where the next message is told of.
    fn text(&mut self) -> &mut String {
        if self.text.capacity() == 0 {
            self.text.reserve(ENOUGH.saturating_add(ENOUGH / 16));
        }
        &mut self.text
    }

    /// This message has been told of.
    fn ends(&mut self, id: QueueId) {
        self.messages = self.messages.saturating_add(1);
        self.last = Some(id);
        if self.text.len() >= ENOUGH {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(last) = self.last.take() {
            let (text, messages) = (std::mem::take(&mut self.text), std::mem::take(&mut self.messages));
            self.ended.push(Lines { messages, last: last.to_string(), octets: text.len(), text });
        }
    }

    fn all(mut self) -> Vec<Lines> {
        self.end();
        self.ended
    }
}

/// Writes the lines of a message.
struct Scribe<'a> {
    text: &'a mut String,
    now: WallTime,
}

impl Scribe<'_> {
    fn tell(&mut self, one: &Listed<Brief>, active: Option<&ActiveEntry>) {
        match one {
            Listed::Message(brief) => self.message(brief, active),
            // Its name tells when it came; nothing else can.
            Listed::Unreadable(id, reason) => {
                let first = First { id: *id, state: StateName::Dead, octets: 0, arrived: id.arrived() };
                self.first(&first, "", Entry::UNREADABLE, std::iter::empty());
                self.line(&["    ", reason]);
            }
        }
    }

    fn message(&mut self, brief: &Brief, active: Option<&ActiveEntry>) {
        let state = StateName::from(brief.state);
        let first = First { id: brief.id, state, octets: brief.length, arrived: brief.arrived };
        self.first(&first, brief.sender(), brief.identity(), brief.recipients().map(|(to, _)| to));
        if let Some(reason) = &brief.reason {
            self.line(&["    ", reason]);
        }
        for words in active.into_iter().flat_map(|active| active.lines(brief.length)) {
            self.line(&["    ", &words]);
        }
        // While an answer is waited for, the attempt that is under way says so.
        let may_have_it = |state: &RecipientState| state.undetermined && active.is_none();
        let tried =
            brief.recipients().filter(|(_, state)| state.attempts > 0 || may_have_it(state) || state.is_taken_out());
        let mut untried = true;
        for (to, state) in tried.take(LINE_TRIED_MAX) {
            untried = false;
            self.recipient(to, state);
        }
        if untried && active.is_none() && state == StateName::Queued {
            match brief.hold_until.filter(|until| until.seconds() > self.now.seconds()) {
                Some(until) => {
                    self.line(&["    waits until ", &until.rfc3339(), ", as its sender asked (HOLDFOR, HOLDUNTIL)"])
                }
                None => self.line(&["    no attempt has ended yet: see `sealpost queue stats`"]),
            }
        }
    }

    fn first<'a>(&mut self, first: &First, sender: &str, identity: &str, recipients: impl Iterator<Item = &'a str>) {
        let from = self.text.len();
        let text = &mut *self.text;
        write!(text, "{}  {:6}  ", first.id, first.state.word()).ok();
        right(text, 8, |text| push_size(text, first.octets));
        text.push_str("  ");
        right(text, 4, |text| push_age(text, first.arrived, self.now));
        for piece in ["  ", shown_sender(sender), " (as ", identity, ") ->"] {
            text.push_str(piece);
        }
        for (place, to) in recipients.enumerate() {
            text.push_str(if place == 0 { " " } else { ", " });
            text.push_str(to);
        }
        self.end(from);
    }

    fn recipient(&mut self, to: &str, state: &RecipientState) {
        let (from, (outcome, detail, reply)) = (self.text.len(), came_of(state));
        for piece in ["    ", to, ": ", outcome] {
            self.text.push_str(piece);
        }
        push_said(self.text, detail, reply);
        self.end(from);
    }

    fn line(&mut self, pieces: &[&str]) {
        let from = self.text.len();
        self.text.extend(pieces.iter().copied());
        self.end(from);
    }

    /// Ends the line that begins there. Others chose some of it: now it is one line, whatever they chose.
    fn end(&mut self, from: usize) {
        if let Some(Cow::Owned(line)) = self.text.get(from..).map(clean) {
            self.text.truncate(from);
            self.text.push_str(&line);
        }
        self.text.push('\n');
    }
}

/// What the first line begins with.
struct First {
    id: QueueId,
    state: StateName,
    octets: u64,
    arrived: WallTime,
}

/// Puts something of these columns at least behind a text, to the right of them.
fn right(text: &mut String, columns: usize, put: impl FnOnce(&mut String)) {
    const SPACES: &str = "                ";
    let from = text.len();
    put(text);
    let missing = columns.saturating_sub(text.len().saturating_sub(from));
    text.insert_str(from, SPACES.get(..missing).unwrap_or_default());
}

/// The reverse path as people write it.
pub fn shown_sender(sender: &str) -> &str {
    if sender.is_empty() { "<>" } else { sender }
}

/// Puts behind a text what happened to a recipient, and what the upstream said, where the one does not hold the other.
pub fn push_said(text: &mut String, detail: &str, reply: Option<impl fmt::Display>) {
    if !detail.is_empty() {
        text.push_str(": ");
        text.push_str(detail);
    }
    let Some(reply) = reply else { return };
    let from = text.len();
    write!(text, ": {reply}").ok();
    if text.get(from..).and_then(|said| said.strip_prefix(": ")).is_some_and(|said| detail.contains(said)) {
        text.truncate(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Envelope, MailParameters};
    use crate::plain::clean_lines;
    use crate::queue::record::samples;
    use crate::queue::{Outcome, Record, State};
    use crate::smtp::{Code, Reply};

    const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

    /// The lines of one message.
    fn told(listed: Listed<Brief>) -> Vec<String> {
        let mut told = lines(&[listed], NOW, |_| None);
        let one = told.pop().unwrap();
        assert_eq!((told.len(), one.messages, one.octets), (0, 1, one.text.len()));
        assert!(one.text.ends_with('\n'));
        assert_eq!(clean_lines(&one.text), one.text);
        one.text.lines().map(str::to_owned).collect()
    }

    fn of(change: impl FnOnce(&mut Record)) -> Vec<String> {
        let mut record = samples::record(7);
        record.trace.arrived = NOW.before(std::time::Duration::from_secs(90));
        change(&mut record);
        told(Listed::Message(Brief::of(&record)))
    }

    fn deferred(reason: &str, reply: Option<&str>) -> Outcome {
        let reply = reply.map(|text| Reply::new(Code::new(451).unwrap(), None, text));
        Outcome::Deferred { reason: reason.to_owned(), reply }
    }

    #[test]
    fn the_first_line_tells_who_sent_what_to_whom() {
        let lines = of(|record| record.length = 4096);
        let id = QueueId::from_u128(7);
        let first = format!(
            "{id}  queued   4.0 KiB    1m  alice@example.com (as staff:alice@example.com) -> bob@example.net, carol@example.org"
        );
        assert_eq!(lines, [first.as_str(), "    no attempt has ended yet: see `sealpost queue stats`"]);
        let null = of(|record| {
            let (parameters, recipients) = (MailParameters::default(), record.envelope.recipients().to_vec());
            record.envelope = Envelope::new(crate::mail::ReversePath::Null, parameters, recipients).unwrap();
        });
        assert!(null[0].contains("  <> (as staff:alice@example.com) -> bob"), "{null:?}");
    }

    #[test]
    fn why_nothing_came_of_a_message_yet_is_said() {
        for (until, words) in [
            (None, "    no attempt has ended yet"),
            (Some(1_800_000_000), "    no attempt has ended yet"),
            (Some(1_800_000_001), "    waits until 2027-01-15T08:00:01Z, as its sender asked"),
        ] {
            let lines = of(|record| {
                let hold_until = until.map(WallTime::from_seconds);
                let parameters = MailParameters { hold_until, ..MailParameters::default() };
                let (sender, recipients) =
                    (record.envelope.reverse_path().clone(), record.envelope.recipients().to_vec());
                record.envelope = Envelope::new(sender, parameters, recipients).unwrap();
            });
            assert!(lines.len() == 2 && lines[1].starts_with(words), "{until:?}: {lines:?}");
        }
        let held =
            of(|record| (record.state, record.reason) = (State::Held, Some("its certificate has ended".to_owned())));
        assert_eq!(held[1..], ["    its certificate has ended"]);
    }

    #[test]
    fn what_came_of_who_was_tried_has_a_line_each() {
        for (outcome, line) in [
            (deferred("silent", None), "    bob@example.net: deferred: silent"),
            (deferred("it said 451 later", Some("later")), "    bob@example.net: deferred: it said 451 later"),
            (deferred("silent", Some("later")), "    bob@example.net: deferred: silent: 451 later"),
            (deferred("", Some("later")), "    bob@example.net: deferred: 451 later"),
            (deferred("a\r\n\u{1b}[2Jb", None), "    bob@example.net: deferred: a\\r\\n\\u{1b}[2Jb"),
        ] {
            let lines = of(|record| {
                record.recipients[0].last = Some(outcome);
                record.recipients[0].attempts = 2;
            });
            assert_eq!(lines[1..], [line]);
        }
        // An attempt is counted at its end.
        let waited_for = of(|record| {
            record.recipients[0].last = Some(deferred("it may have taken it", None));
            record.recipients[0].undetermined = true;
        });
        assert_eq!(waited_for[1..], ["    bob@example.net: deferred: it may have taken it"]);
    }

    #[test]
    fn what_cannot_be_read_is_told_of_by_its_name() {
        let id = QueueId::new(NOW.before(std::time::Duration::from_secs(5)), 9);
        let lines = told(Listed::Unreadable(id, "its sum is wrong".to_owned()));
        let first = format!("{id}  dead         0 B    5s  <> (as (unreadable)) ->");
        assert_eq!(lines, [first.as_str(), "    its sum is wrong"]);
    }

    #[test]
    fn answers_are_no_longer_than_they_need_be_and_tell_of_all_in_order() {
        const MANY: u128 = 5000;
        let found: Vec<_> = (0..MANY).map(|id| Listed::Message(Brief::of(&samples::record(id)))).collect();
        let told = lines(&found, NOW, |_| None);
        assert!(told.len() > 1 && told.iter().all(|one| one.octets < ENOUGH + 1024), "{}", told.len());
        assert_eq!(told.iter().map(|one| u128::try_from(one.messages).unwrap()).sum::<u128>(), MANY);
        let mut ids = (0..MANY).map(|id| QueueId::from_u128(id).to_string());
        for one in &told {
            let named: Vec<String> = ids.by_ref().take(one.messages).collect();
            assert_eq!(named.last(), Some(&one.last));
            let firsts = one.text.lines().filter(|line| !line.starts_with(' '));
            assert!(firsts.zip(&named).all(|(line, id)| line.starts_with(id.as_str())));
        }
        assert_eq!(lines(&[], NOW, |_| None), []);
    }

    #[test]
    fn programs_are_told_an_object_a_line() {
        let found = [
            Listed::Message(Box::new(samples::record(7))),
            Listed::Unreadable(QueueId::from_u128(9), "lost".to_owned()),
        ];
        let told = objects(&found, |_| None).unwrap();
        let objects: Vec<Entry> = told[0].text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((told.len(), told[0].messages, objects.len()), (1, 2, 2));
        assert_eq!(objects[1].id, told[0].last);
        assert_eq!(objects[0].identity, "staff:alice@example.com");
    }
}
