//! Charsets of encoded words: which octets are which letters.
//!
//! Where nobody knows (no name, `unknown-8bit`, octets over 127 in US-ASCII, UTF-16 without its mark), each reader guesses for itself, and each guess
//! is a reading. A charset that can't be read here may show anything, an address in EBCDIC too, and is a fault; so are the shifts of those of seven
//! bits of which there is no table. Never: passes octets over as noise because no table has them.

use mail_parser::decoders::charsets::map::charset_decoder;

use super::DisplayFault;

/// How much of a charset's name is told.
pub(super) const CHARSET_SHOWN: usize = 40;

/// What octets are read as where nobody says what they are: all that have a sign of several octets which shows as an `@`.
const GUESSES: [&str; 7] = ["utf-8", "shift_jis", "euc-jp", "gb18030", "euc-kr", "big5", "iso-2022-jp"];
/// UTF-16 may be of either order.
const OF_SIXTEEN_BITS: [&str; 3] = ["utf-16", "utf-16be", "utf-16le"];
/// How many readings one charset may have.
pub(super) const GUESSES_MAX: usize = GUESSES.len();

/// Names that say that nobody knows.
const UNKNOWN: [&str; 11] = [
    "",
    "unknown",
    "unknown8bit",
    "xunknown",
    "default",
    "defaultcharset",
    "ansi",
    "8bit",
    "binary",
    "usascii",
    "ascii",
];
/// Names of UTF-16; the first octets may say its order.
const SIXTEEN_BITS: [&str; 9] =
    ["utf16", "csutf16", "unicode", "csunicode", "unicodefeff", "unicodefffe", "ucs2", "iso10646ucs2", "xutf16"];
/// Charsets of seven bits that shift to tables which are not here.
const SHIFTING: [&str; 7] = ["iso2022kr", "csiso2022kr", "iso2022cn", "iso2022cnext", "hzgb2312", "hz", "replacement"];
/// Names that the library's table lacks, with one that it has.
const ALIASES: [(&[&str], &str); 7] = [
    (&["utf8", "utf8mb4", "utf8mac", "csutf8", "unicode11utf8", "unicode20utf8", "xunicode20utf8"], "utf-8"),
    (&["cp932", "xms932", "mskanji", "sjiswin", "cswindows31j", "windows932", "ibm943", "cp943"], "shift_jis"),
    (&["cp949", "ms949", "ibm949", "xibm949", "xwindows949", "uhc", "xuhc", "949"], "euc-kr"),
    (&["cp950", "ms950", "windows950", "xwindows950"], "big5"),
    (&["ujis", "eucjpms", "eucjpwin", "cp51932"], "euc-jp"),
    (&["unicode11utf7", "csunicode11utf7", "cp65000", "utf7"], "utf-7"),
    (&["cp874", "ibm874", "874"], "windows-874"),
];
/// Charsets of one octet whose lower half is ASCII, without a table here: what they have above is no `@`. EBCDIC (37, 273 to 297, 420 to 424, 500,
/// 870, 1026, 1047, 1140 to 1149) is not here, nor are the Macintosh's of several octets.
const OF_ONE_OCTET: [&str; 33] = [
    "437",
    "720",
    "737",
    "775",
    "852",
    "855",
    "857",
    "858",
    "860",
    "861",
    "862",
    "863",
    "864",
    "865",
    "869",
    "viscii",
    "csviscii",
    "xviscii",
    "tcvn",
    "xviettcvn5712",
    "xmacce",
    "xmaccentraleurope",
    "xmaccroatian",
    "xmacromanian",
    "xmacgreek",
    "xmacturkish",
    "xmacicelandic",
    "xmacthai",
    "xmacceltic",
    "xmacgaelic",
    "xmacdingbats",
    "xmacsymbol",
    "xmacroman",
];

/// The Macintosh's from right to left: at 0xA0 to 0xBF they have ASCII's 0x20 to 0x3F again, the full stop among them.
const MIRRORED: [&str; 3] = ["xmachebrew", "xmacarabic", "xmacfarsi"];

type Decoder = fn(&[u8]) -> String;

/// How a charset is read.
#[derive(Clone, Copy)]
enum Table {
    One(Decoder),
    /// As each of these, by turns.
    Guessed(&'static [&'static str]),
    /// ASCII, and letters that are not known.
    OneOctet,
    /// The same, and ASCII's signs once more for text from right to left.
    Mirrored,
    /// ASCII alone.
    Shifting,
}

/// A charset of an encoded word.
#[derive(Clone)]
pub(super) struct Charset {
    /// Its name without case and punctuation, or that of which it is an alias: two of one key are one.
    key: String,
    table: Table,
}

impl Charset {
    /// That of this name.
    pub(super) fn named(name: &str) -> Result<Self, DisplayFault> {
        let name = name.trim();
        let plain: String =
            name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect();
        let alias = ALIASES.iter().find(|(names, _)| names.contains(&plain.as_str())).map(|(_, known)| *known);
        let table = if UNKNOWN.contains(&plain.as_str()) {
            Table::Guessed(&GUESSES)
        } else if SIXTEEN_BITS.contains(&plain.as_str()) {
            Table::Guessed(&OF_SIXTEEN_BITS)
        } else if SHIFTING.contains(&plain.as_str()) {
            Table::Shifting
        } else if let Some(decoder) = decoder(alias.unwrap_or(name)) {
            Table::One(decoder)
        } else if MIRRORED.contains(&plain.as_str()) {
            Table::Mirrored
        } else if is_of_one_octet(&plain) {
            Table::OneOctet
        } else {
            return Err(unknown(name));
        };
        Ok(Self { key: alias.map_or(plain, str::to_owned), table })
    }

    /// Whether octets of both belong together where they stand side by side.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.key == other.key
    }

    /// In how many ways it is read.
    pub(super) fn guesses(&self) -> usize {
        match self.table {
            Table::Guessed(guesses) => guesses.len(),
            Table::One(_) | Table::OneOctet | Table::Mirrored | Table::Shifting => 1,
        }
    }

    /// The octets as letters; where they are guessed at, by this guess.
    pub(super) fn read(&self, octets: &[u8], guess: usize) -> Result<String, DisplayFault> {
        match self.table {
            Table::One(decode) => {
                let shown = decode(octets);
                let doubtful = shown.contains(char::REPLACEMENT_CHARACTER) || may_be_of_another(octets);
                Ok(if doubtful { with_ascii_beside(&shown, octets) } else { shown })
            }
            Table::Guessed(guesses) => {
                let named = guesses.get(guess).or(guesses.first()).and_then(|name| decoder(name));
                Ok(with_ascii_beside(&named.unwrap_or(lossy)(octets), octets))
            }
            Table::OneOctet => {
                let letter = |octet: &u8| {
                    if octet.is_ascii() { char::from(*octet) } else { char::REPLACEMENT_CHARACTER }
                };
                Ok(with_ascii_beside(&octets.iter().map(letter).collect::<String>(), octets))
            }
            Table::Mirrored => {
                let letter = |octet: &u8| match octet {
                    0xa0..=0xbf => char::from(octet & 0x7f),
                    octet if octet.is_ascii() => char::from(*octet),
                    _ => char::REPLACEMENT_CHARACTER,
                };
                Ok(with_ascii_beside(&octets.iter().map(letter).collect::<String>(), octets))
            }
            Table::Shifting if octets.iter().all(|octet| (b' '..b'~').contains(octet)) => Ok(lossy(octets)),
            Table::Shifting => Err(unknown(&self.key)),
        }
    }
}

fn unknown(name: &str) -> DisplayFault {
    DisplayFault::UnknownCharset(name.chars().filter(char::is_ascii_graphic).take(CHARSET_SHOWN).collect())
}

fn decoder(name: &str) -> Option<Decoder> {
    match name {
        "utf-8" => Some(lossy),
        "utf-7" => Some(of_seven_bits),
        _ => charset_decoder(name.as_bytes()),
    }
}

fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Whether the library reads these octets by another table than the one that is named, because of a byte order mark, or by an escape that not every
/// reader has: half-width kana, which ISO-2022-JP has not.
fn may_be_of_another(octets: &[u8]) -> bool {
    const MARKS: [&[u8]; 3] = [b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf"];
    MARKS.iter().any(|mark| octets.starts_with(mark)) || octets.windows(3).any(|three| three == b"\x1b(I")
}

/// UTF-7 (RFC 2152). Base64 there ends with `-`, which is no letter, or with any other octet, which is one; the library drops that one too, and a last
/// base64 that lacks its end.
fn of_seven_bits(octets: &[u8]) -> String {
    let is_of_base64 = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'/');
    let mut ended = Vec::with_capacity(octets.len().saturating_add(1));
    let mut shifted = false;
    for &octet in octets {
        if shifted && !is_of_base64(octet) {
            shifted = false;
            if octet != b'-' {
                ended.push(b'-');
            }
        } else if octet == b'+' {
            shifted = true;
        }
        ended.push(octet);
    }
    if shifted {
        ended.push(b'-');
    }
    charset_decoder(b"utf-7").unwrap_or(lossy)(&ended)
}

/// Names are compared without the maker's.
fn is_of_one_octet(plain: &str) -> bool {
    let page = ["cp", "ibm", "x"].iter().find_map(|maker| plain.strip_prefix(maker)).unwrap_or(plain);
    OF_ONE_OCTET.contains(&plain) || OF_ONE_OCTET.contains(&page) || plain.starts_with("iso8859")
}

/// The ASCII that stands in the octets counts as shown too: readers leave out what they can't read.
fn with_ascii_beside(shown: &str, octets: &[u8]) -> String {
    let plain = octets.iter().filter(|octet| octet.is_ascii_graphic() || **octet == b' ');
    let ascii: String = plain.map(|octet| char::from(*octet)).collect();
    if shown == ascii { ascii } else { format!("{shown} {ascii}") }
}
