//! Encoded words (RFC 2047) as one reader or another cuts and decodes them.
//!
//! Readers differ in where a word ends when question marks stand in it, in whether the octets of words side by side, or their base64, are put
//! together before they are read, in what padding within base64 does and whether `-` and `_` are letters of it, and in what they guess where no
//! charset is named: a [`Manner`] is one way to do it all. A word without its end
//! goes to the end of the text. Each manner looks at each octet a few times at most; [`Effort`] counts, and ends what would go on for long.
//! Never: chooses among the manners; who asks takes all.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::charset::{Charset, GUESSES_MAX};
use super::{DisplayFault, Effort};

/// Takes base64 as carelessly as mail programs do.
const GENEROUS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The same with the letters of RFC 4648 §5, which some readers take as well.
const GENEROUS_OF_URLS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Where a word ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordEnd {
    /// At the first `?=`, whatever is before it.
    FirstMark,
    /// At the first `?`, behind which `=` must stand: a `=?utf-8?B?` in front of a whole word is none.
    FirstQuestion,
}

/// What is put together of words of one charset that stand side by side, before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joining {
    /// Nothing.
    Nothing,
    /// Their octets.
    Octets,
    /// Their base64, where it does not come out even; else the octets.
    Letters,
}

/// What a `=` does that stands within base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// Nothing: it is passed over like a sign that is no base64.
    Nothing,
    /// It ends a piece, and behind it the next begins.
    EndsPiece,
    /// It ends the word; what is behind it is nothing.
    EndsAll,
}

/// Which letters base64 has for 62 and 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    /// `+` and `/` (RFC 2045 §6.8); `-` and `_` are passed over.
    Plain,
    /// `-` and `_` as well.
    OfUrls,
}

/// How a reader decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) ends: WordEnd,
    pub(super) joining: Joining,
    pub(super) padding: Padding,
    pub(super) letters: Letters,
    /// Which of its charsets is taken for one that is guessed at.
    pub(super) guess: usize,
}

/// A text cut into encoded words and what is between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Plain(&'a str),
    Word(Word<'a>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    charset: &'a str,
    encoding: Encoding,
    text: &'a str,
    /// Whether its end is there, or the text ends within it.
    has_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Base64,
    Quoted,
}

/// The manners in which this text may be read differently; none when it holds no encoded word.
pub(super) fn manners(text: &str, effort: &mut Effort) -> Result<Vec<Manner>, DisplayFault> {
    let mut manners = Vec::new();
    let mut before: Option<Vec<Piece<'_>>> = None;
    for ends in [WordEnd::FirstMark, WordEnd::FirstQuestion] {
        let pieces = pieces(text, ends, effort)?;
        if before.as_ref() == Some(&pieces) {
            continue;
        }
        let words = pieces.iter().filter(|piece| matches!(piece, Piece::Word(_))).count();
        let joinings: &[Joining] = match words {
            0 => &[],
            1 => &[Joining::Nothing],
            _ => &[Joining::Nothing, Joining::Octets, Joining::Letters],
        };
        let guesses = guesses(&pieces)?;
        for (padding, letters) in readings_of_base64(&pieces) {
            for &joining in joinings {
                manners.extend((0..guesses).map(|guess| Manner { ends, joining, padding, letters, guess }));
            }
        }
        before = Some(pieces);
    }
    Ok(manners)
}

/// In how many ways the base64 here may be read; an honest word's in one.
fn readings_of_base64(pieces: &[Piece<'_>]) -> Vec<(Padding, Letters)> {
    let any = |is: fn(&str) -> bool| {
        let is = |piece: &Piece<'_>| matches!(piece, Piece::Word(word) if word.encoding == Encoding::Base64 && is(word.text));
        pieces.iter().any(is)
    };
    let paddings: &[Padding] = if any(has_padding_within) {
        &[Padding::Nothing, Padding::EndsPiece, Padding::EndsAll]
    } else {
        &[Padding::Nothing]
    };
    let letters: &[Letters] =
        if any(|text| text.contains(['-', '_'])) { &[Letters::Plain, Letters::OfUrls] } else { &[Letters::Plain] };
    paddings.iter().flat_map(|padding| letters.iter().map(|letters| (*padding, *letters))).collect()
}

fn has_padding_within(text: &str) -> bool {
    text.split_once('=').is_some_and(|(_, behind)| behind.contains(|letter| is_of_base64(letter, Letters::OfUrls)))
}

/// Whether an encoded word that has its end may hold part of an address, for a reader who decodes before it parses: it reaches over what only an address
/// has, or what stands behind it goes on with one. An honest word stands apart, before `<` or a space, or in a comment.
pub(in crate::content) fn touches_an_address(text: &str, effort: &mut Effort) -> Result<bool, DisplayFault> {
    for ends in [WordEnd::FirstMark, WordEnd::FirstQuestion] {
        let pieces = pieces(text, ends, effort)?;
        let following = pieces.iter().skip(1).map(Some).chain([None]);
        if pieces.iter().zip(following).any(|(piece, next)| is_of_an_address(piece, next)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_of_an_address(piece: &Piece<'_>, next: Option<&Piece<'_>>) -> bool {
    let Piece::Word(word) = piece else { return false };
    if !word.has_end {
        return false;
    }
    let Some(Piece::Plain(behind)) = next else { return word.text.contains(OF_ADDRESSES) };
    let is_apart = behind.starts_with([' ', '\t', ')', '"', ',', ';', ':', '<']);
    word.text.contains(OF_ADDRESSES) || !is_apart || behind.trim_start().starts_with(['@', '(', '.'])
}

/// What stands in an address, or about it, and in no honest word.
const OF_ADDRESSES: [char; 3] = ['<', '>', '@'];

fn guesses(pieces: &[Piece<'_>]) -> Result<usize, DisplayFault> {
    let mut most = 1;
    for piece in pieces {
        if let Piece::Word(word) = piece {
            most = most.max(Charset::named(word.charset)?.guesses());
        }
    }
    Ok(most.min(GUESSES_MAX))
}

/// The text in which every encoded word is decoded, wherever it stands, and the white space between two of them left out (RFC 2047 §6.2).
pub(super) fn decode(text: &str, manner: Manner, effort: &mut Effort) -> Result<String, DisplayFault> {
    let pieces = pieces(text, manner.ends, effort)?;
    effort.spend(text.len())?;
    let mut shown = String::with_capacity(text.len());
    let mut run: Option<Run> = None;
    let mut following = pieces.iter().skip(1);
    for piece in &pieces {
        let next = following.next();
        match piece {
            Piece::Plain(gap) if run.is_some() && gap.trim().is_empty() && matches!(next, Some(Piece::Word(_))) => {}
            Piece::Plain(text) => {
                read(run.take(), manner, &mut shown)?;
                shown.push_str(text);
            }
            Piece::Word(word) => {
                let charset = Charset::named(word.charset)?;
                let same =
                    manner.joining != Joining::Nothing && run.as_ref().is_some_and(|run| run.charset.is(&charset));
                if !same {
                    read(run.take(), manner, &mut shown)?;
                }
                run.get_or_insert_with(|| Run { charset, manner, octets: Vec::new(), letters: String::new() })
                    .add(word);
            }
        }
    }
    read(run, manner, &mut shown)?;
    Ok(shown)
}

/// Words that are read together.
struct Run {
    charset: Charset,
    manner: Manner,
    octets: Vec<u8>,
    /// Base64 that has not come out even yet.
    letters: String,
}

impl Run {
    fn add(&mut self, word: &Word<'_>) {
        match word.encoding {
            Encoding::Base64 => {
                for piece in self.manner.pieces_of(word.text) {
                    self.letters.extend(piece.chars().filter(|letter| is_of_base64(*letter, self.manner.letters)));
                    if self.manner.padding == Padding::EndsPiece {
                        self.settle();
                    }
                }
                let even = word.text.contains('=') || self.manner.joining != Joining::Letters;
                if even || self.letters.len().is_multiple_of(4) {
                    self.settle();
                }
            }
            Encoding::Quoted => {
                self.settle();
                self.octets.extend(decode_quoted(word.text.as_bytes()));
            }
        }
    }

    fn settle(&mut self) {
        self.octets.extend(decode_base64(&std::mem::take(&mut self.letters), self.manner.letters));
    }
}

fn read(run: Option<Run>, manner: Manner, shown: &mut String) -> Result<(), DisplayFault> {
    if let Some(mut run) = run {
        run.settle();
        shown.push_str(&run.charset.read(&run.octets, manner.guess)?);
    }
    Ok(())
}

/// Cuts a text.
pub(super) fn pieces<'a>(text: &'a str, ends: WordEnd, effort: &mut Effort) -> Result<Vec<Piece<'a>>, DisplayFault> {
    let mut cutter = Cutter { text, mark: Mark::Unsought, effort };
    let (mut found, mut plain, mut at) = (Vec::new(), 0, 0);
    while let Some(start) = cutter.find(at, "=?")? {
        let Some((word, end)) = cutter.word(start.saturating_add(2), ends)? else {
            at = start.saturating_add(2);
            continue;
        };
        found.extend(text.get(plain..start).filter(|text| !text.is_empty()).map(Piece::Plain));
        found.push(Piece::Word(word));
        (plain, at) = (end, end);
    }
    found.extend(text.get(plain..).filter(|text| !text.is_empty()).map(Piece::Plain));
    Ok(found)
}

struct Cutter<'a, 'e> {
    text: &'a str,
    mark: Mark,
    effort: &'e mut Effort,
}

/// Where the next `?=` is: sought once, however many words begin before it.
#[derive(Clone, Copy)]
enum Mark {
    Unsought,
    At(usize),
    None,
}

impl<'a> Cutter<'a, '_> {
    fn find(&mut self, from: usize, what: &str) -> Result<Option<usize>, DisplayFault> {
        let rest = self.text.get(from..).unwrap_or_default();
        let place = rest.find(what);
        self.effort.spend(place.unwrap_or(rest.len()).saturating_add(what.len()))?;
        Ok(place.map(|place| from.saturating_add(place)))
    }

    /// `charset[*language]?B|Q?text?=` behind its `=?`, and where what is behind it begins. White space about the letters counts for nothing.
    fn word(&mut self, from: usize, ends: WordEnd) -> Result<Option<(Word<'a>, usize)>, DisplayFault> {
        let Some(second) = self.find(from, "?")? else { return Ok(None) };
        let Some(third) = self.find(second.saturating_add(1), "?")? else { return Ok(None) };
        let between = |from: usize, to: usize| self.text.get(from..to).unwrap_or_default();
        let encoding = match between(second.saturating_add(1), third).trim() {
            "B" | "b" => Encoding::Base64,
            "Q" | "q" => Encoding::Quoted,
            _ => return Ok(None),
        };
        // RFC 2231 §5: a language may follow the charset.
        let charset = between(from, second);
        let charset = charset.split_once('*').map_or(charset, |(name, _)| name).trim();
        let start = third.saturating_add(1);
        let Some((end, behind)) = self.end(start, ends)? else { return Ok(None) };
        let text = self.text.get(start..end).unwrap_or_default();
        let has_end = self.text.get(end..).is_some_and(|rest| rest.starts_with("?="));
        Ok(Some((Word { charset, encoding, text, has_end }, behind)))
    }

    /// Where the word's text ends, and where what is behind its end begins.
    fn end(&mut self, start: usize, ends: WordEnd) -> Result<Option<(usize, usize)>, DisplayFault> {
        let length = self.text.len();
        let whole = Some((length, length));
        match ends {
            WordEnd::FirstMark => Ok(match self.next_mark(start)? {
                Some(end) => Some((end, end.saturating_add(2))),
                None => whole,
            }),
            WordEnd::FirstQuestion => {
                let Some(end) = self.find(start, "?")? else { return Ok(whole) };
                let behind = self.text.get(end.saturating_add(1)..).unwrap_or_default();
                Ok((behind.is_empty() || behind.starts_with('=')).then(|| (end, end.saturating_add(2).min(length))))
            }
        }
    }

    fn next_mark(&mut self, from: usize) -> Result<Option<usize>, DisplayFault> {
        match self.mark {
            Mark::None => return Ok(None),
            Mark::At(place) if place >= from => return Ok(Some(place)),
            Mark::At(_) | Mark::Unsought => {}
        }
        let found = self.find(from, "?=")?;
        self.mark = found.map_or(Mark::None, Mark::At);
        Ok(found)
    }
}

impl Manner {
    /// The parts of base64 that this reader takes.
    fn pieces_of(self, text: &str) -> impl Iterator<Item = &str> {
        let most = if self.padding == Padding::EndsPiece { usize::MAX } else { 1 };
        text.split(move |letter| letter == '=' && self.padding != Padding::Nothing).take(most)
    }
}

fn is_of_base64(letter: char, letters: Letters) -> bool {
    let is_plain = letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/');
    is_plain || (letters == Letters::OfUrls && matches!(letter, '-' | '_'))
}

fn decode_base64(letters: &str, of: Letters) -> Vec<u8> {
    // A last single letter stands for no octet; readers drop it.
    let whole = if letters.len() % 4 == 1 { letters.get(..letters.len().saturating_sub(1)) } else { Some(letters) };
    let whole = whole.unwrap_or_default();
    match of {
        Letters::Plain => GENEROUS.decode(whole),
        Letters::OfUrls => GENEROUS_OF_URLS.decode(whole.replace('+', "-").replace('/', "_")),
    }
    .unwrap_or_default()
}

/// RFC 2047 §4.2: `_` is a space, `=XX` an octet.
fn decode_quoted(text: &[u8]) -> Vec<u8> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digit = |octet: &u8| char::from(*octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let pair = match tail {
            [high, low, ..] if *first == b'=' => digit(high).zip(digit(low)),
            _ => None,
        };
        match pair {
            Some((high, low)) => octets.push(high << 4 | low),
            None => octets.push(if *first == b'_' { b' ' } else { *first }),
        }
        rest = tail.get(if pair.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    octets
}
