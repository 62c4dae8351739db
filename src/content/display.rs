//! What a person sees in a display name: its encoded words decoded (RFC 2047), and what of it could be taken for an address.
//!
//! `"ceo@example.com" <mallory@example.com>` shows the first to many people. Such an address is a fact here; whether it is granted is
//! judged by `policy::author`. What looks like an address and can't be read as one is a fact, too: nobody can be granted it. Decoding is generous on
//! purpose: a name is read as it stands, and in each manner in which programs are known to decode (`words`), with what they guess where nobody says what
//! octets mean (`charset`); what any of them shows counts (`sight`). A charset that can't be read here, and that others may show an address in, is a fault.
//! All that is read costs effort, of which there is a limit. Never: a reason to pass something.

mod charset;
mod sight;
mod words;

pub(super) use sight::Sight;
pub(super) use words::touches_an_address;
use words::{Joining, Letters, Padding, decode, manners};

/// Why a name can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DisplayFault {
    /// A charset that is not read here, and that others may show an address in.
    UnknownCharset(String),
    /// It decodes to control characters.
    Control,
    /// Reading it in every manner would take more than [`EFFORT_MAX`].
    TooMuch,
}

/// How often what was decoded is decoded again: some programs do so twice, none so often.
const DECODINGS: usize = 3;
/// How much may be looked at for the names of one message, octets.
const EFFORT_MAX: usize = 4 * 1024 * 1024;

/// What reading may still cost, octets looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort(usize);

impl Default for Effort {
    fn default() -> Self {
        Self(EFFORT_MAX)
    }
}

impl Effort {
    fn spend(&mut self, octets: usize) -> Result<(), DisplayFault> {
        self.0 = self.0.checked_sub(octets).ok_or(DisplayFault::TooMuch)?;
        Ok(())
    }
}

/// Adds to `sight` what people may see in `text`.
pub(super) fn look(text: &str, sight: &mut Sight, effort: &mut Effort) -> Result<(), DisplayFault> {
    for reading in readings(text, effort)? {
        if sight.is_full() {
            break;
        }
        sight.look(&reading, effort)?;
    }
    Ok(())
}

/// The text as it stands, and as people may see it: decoded in each manner, and again where that leaves encoded words.
fn readings(text: &str, effort: &mut Effort) -> Result<Vec<String>, DisplayFault> {
    if has_controls(text) {
        return Err(DisplayFault::Control);
    }
    let mut all = vec![text.to_owned()];
    for manner in manners(text, effort)? {
        let mut last = text.to_owned();
        for _ in 0..DECODINGS {
            let again = decode(&last, manner, effort)?;
            // What is guessed at, or is no base64 when it is put together, may look like controls to one reader and not to another.
            let is_usual = manner.guess == 0
                && manner.joining != Joining::Letters
                && (manner.padding, manner.letters) == (Padding::Nothing, Letters::Plain);
            if is_usual && has_controls(&again) {
                return Err(DisplayFault::Control);
            }
            if again == last {
                break;
            }
            last.clone_from(&again);
            if !all.contains(&again) {
                all.push(again);
            }
            if !last.contains("=?") {
                break;
            }
        }
    }
    Ok(all)
}

fn has_controls(text: &str) -> bool {
    text.chars().any(|letter| letter.is_control() && letter != '\t')
}

#[cfg(test)]
mod tests;
