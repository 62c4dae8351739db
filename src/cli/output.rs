//! What commands say: `| head` ends them quietly, a terminal gets nothing that could steer it, and numbers have their words.
//!
//! Never: fails because the reader had enough.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exit::Exit;
use crate::plain::clean;

/// Octets that gather before they are written, where nobody looks on.
const GATHER: usize = 64 * 1024;

/// The narrowest terminal that lines are cut for, columns.
const WIDTH_MIN: usize = 40;

/// What could not be said for another reason than that nobody reads on.
static UNSAID: AtomicBool = AtomicBool::new(false);

// In all of `cli` these are meant, not the standard library's, which panic where nobody reads on: `sealpost check 2>&1 | head -1`.

macro_rules! println {
    ($($what:tt)*) => { $crate::cli::output::say(std::io::stdout(), std::format_args!($($what)*), "\n") };
}

macro_rules! print {
    ($($what:tt)*) => { $crate::cli::output::say(std::io::stdout(), std::format_args!($($what)*), "") };
}

macro_rules! eprintln {
    () => { $crate::cli::output::say(std::io::stderr(), std::format_args!(""), "\n") };
    ($($what:tt)*) => { $crate::cli::output::say(std::io::stderr(), std::format_args!($($what)*), "\n") };
}

macro_rules! eprint {
    ($($what:tt)*) => { $crate::cli::output::say(std::io::stderr(), std::format_args!($($what)*), "") };
}

/// Says something. That nobody reads it changes nothing of what a command does, nor of its exit code.
pub(super) fn say(mut to: impl Write, what: fmt::Arguments<'_>, end: &str) {
    let said = to.write_fmt(what).and_then(|()| to.write_all(end.as_bytes())).and_then(|()| to.flush());
    if said.is_err_and(|fault| fault.kind() != io::ErrorKind::BrokenPipe) {
        UNSAID.store(true, Ordering::Relaxed);
    }
}

/// The exit code of a command: success when the reader of its list had enough; a failure when what it had to say can't be written, to a full disk, say.
pub(super) fn ended(done: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let code = match done {
        Err(fault) if ended_early(&fault) => ExitCode::SUCCESS,
        Err(fault) if is_unwritten(&fault) => {
            eprintln!("sealpost: {fault:#}");
            return Ok(Exit::Unsaid.into());
        }
        done => done?,
    };
    if code == ExitCode::SUCCESS && UNSAID.load(Ordering::Relaxed) {
        return Ok(Exit::Unsaid.into());
    }
    Ok(code)
}

/// So many of them: `1 message`, `2 messages`.
pub(super) fn counted(count: impl TryInto<u64>, one: &str) -> String {
    match count.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

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
    /// Nothing more can be told.
    is_lost: bool,
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
        Self { to: BufWriter::with_capacity(gather, stdout), width, is_lost: false }
    }

    /// Tells of what is being done. That nobody reads it, or that it can't be written, stops none of it; the latter shows in the exit code.
    pub(super) fn tell(&mut self, what: fmt::Arguments<'_>) {
        self.unless_lost(|to| to.write_fmt(what).and_then(|()| to.write_all(b"\n")));
    }

    /// The same for all that has gathered.
    pub(super) fn tell_all(&mut self) {
        self.unless_lost(Write::flush);
    }

    fn unless_lost(&mut self, tell: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>) {
        if self.is_lost {
            return;
        }
        if let Err(fault) = tell(&mut self.to) {
            self.is_lost = true;
            UNSAID.fetch_or(fault.kind() != io::ErrorKind::BrokenPipe, Ordering::Relaxed);
        }
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
    if fault.kind() == io::ErrorKind::BrokenPipe {
        io::Error::other(HadEnough)
    } else {
        io::Error::other(Unwritten(fault))
    }
}

/// Our output can't be written.
#[derive(Debug)]
struct Unwritten(io::Error);

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "standard output can't be written: {}", self.0)
    }
}

impl std::error::Error for Unwritten {}

fn is_unwritten(fault: &anyhow::Error) -> bool {
    fault.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<Unwritten>())
    })
}

/// Whether a command ended because nobody reads on: that is no failure.
pub(super) fn ended_early(fault: &anyhow::Error) -> bool {
    fault.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<HadEnough>())
    })
}

/// A header section without what could steer a terminal.
pub(super) fn clean_section(text: &str) -> String {
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
    fn a_header_section_keeps_its_lines_and_tabs() {
        assert_eq!(clean_section("Subject: x\n\ty\u{7}\n"), "Subject: x\n\ty\\u{7}\n");
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
        assert_eq!(ended(Err(gone)).unwrap(), ExitCode::SUCCESS);
        // The daemon may go away too: that is one.
        assert!(!ended_early(&anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe))));
        let unwritten = anyhow::Error::from(told(io::ErrorKind::StorageFull.into()));
        assert_eq!(ended(Err(unwritten)).unwrap(), Exit::Unsaid.into());
    }

    /// A reader who goes away.
    struct Gone(io::ErrorKind);

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn that_nobody_reads_on_is_no_failure_and_a_full_disk_is_one() {
        let say = |kind| {
            say(Gone(kind), format_args!("x"), "");
            (ended(Ok(ExitCode::SUCCESS)).unwrap(), ended(Ok(ExitCode::FAILURE)).unwrap())
        };
        assert_eq!(say(io::ErrorKind::BrokenPipe), (ExitCode::SUCCESS, ExitCode::FAILURE));
        assert_eq!(say(io::ErrorKind::StorageFull), (Exit::Unsaid.into(), ExitCode::FAILURE));
        UNSAID.store(false, Ordering::Relaxed);
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "message")), ["0 messages", "1 message", "2 messages"]);
    }
}
