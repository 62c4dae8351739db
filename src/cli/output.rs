//! Standard output of commands that print lists: `| head` ends them quietly, and a terminal gets nothing that could steer it.
//!
//! Never: fails because the reader had enough.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;

/// Octets that gather before they are written, where nobody looks on.
const GATHER: usize = 64 * 1024;

/// The narrowest terminal that lines are cut for, columns.
const WIDTH_MIN: usize = 40;

/// The reader of our output has gone away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HadEnough;

impl fmt::Display for HadEnough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the reader of the output has gone away")
    }
}

impl std::error::Error for HadEnough {}

/// Standard output.
#[derive(Debug)]
pub(super) struct Output {
    to: BufWriter<io::Stdout>,
    width: Option<usize>,
}

impl Output {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let width = stdout.is_terminal().then(|| {
            let size = rustix::termios::tcgetwinsize(&stdout);
            // Some pretend to be one and have no columns.
            let columns = size.map(|size| usize::from(size.ws_col)).ok().filter(|&columns| columns > 0);
            columns.unwrap_or(80).max(WIDTH_MIN)
        });
        let gather = if width.is_some() { 0 } else { GATHER };
        Self { to: BufWriter::with_capacity(gather, stdout), width }
    }

    /// The columns of the terminal; none when it is none.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }
}

impl Write for Output {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.to.write(octets).map_err(told)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush().map_err(told)
    }
}

fn told(fault: io::Error) -> io::Error {
    if fault.kind() == io::ErrorKind::BrokenPipe { io::Error::other(HadEnough) } else { fault }
}

/// Whether a command ended because nobody reads on: that is no failure.
pub(super) fn ended_early(fault: &anyhow::Error) -> bool {
    fault.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<HadEnough>())
    })
}

/// The exit code of a command; success when its reader had enough.
pub(super) fn quietly(done: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match done {
        Err(fault) if ended_early(&fault) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

/// A text without what could steer a terminal: senders, upstreams and clients chose some of it.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { clean.extend(letter.escape_default()) } else { clean.push(letter) }
    }
    clean.into()
}

/// The same for lines of a header section.
pub(super) fn clean_lines(text: &str) -> String {
    text.split('\n')
        .map(|line| line.split('\t').map(clean).collect::<Vec<_>>().join("\t"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A line that fits; `width` is in letters.
pub(super) fn cut(line: &str, width: Option<usize>) -> Cow<'_, str> {
    let Some(width) = width.filter(|&width| line.chars().count() > width) else { return line.into() };
    let mut short: String = line.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_escaped() {
        for (text, shown) in [
            ("plain – größer", "plain – größer"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("a\r\nb", "a\\r\\nb"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ] {
            assert_eq!(clean(text), shown);
        }
        assert_eq!(clean_lines("Subject: x\n\ty\u{7}\n"), "Subject: x\n\ty\\u{7}\n");
    }

    #[test]
    fn a_line_is_cut_to_the_terminal_and_to_nothing_else() {
        assert_eq!(cut("größer", Some(6)), "größer");
        assert_eq!(cut("größer", Some(5)), "größ…");
        assert_eq!(cut("größer", None), "größer");
    }

    #[test]
    fn a_reader_who_had_enough_is_told_from_other_failures() {
        let gone = anyhow::Error::from(told(io::ErrorKind::BrokenPipe.into())).context("printing");
        assert!(ended_early(&gone));
        assert_eq!(quietly(Err(gone)).unwrap(), ExitCode::SUCCESS);
        // The daemon may go away too: that is one.
        assert!(!ended_early(&anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe))));
        assert!(quietly(Err(told(io::ErrorKind::StorageFull.into()).into())).is_err());
    }
}
