//! Lines on their way to the log: a queue bounded in octets, and the one thread that writes.
//!
//! Whoever has something to say hands it over and goes on, however slowly the log's reader takes it. What can't be accounted for must not be
//! sent: when more than half of the bound waits, the log is strained, and the relay takes no new mail and claims none; the other half is for
//! what is in flight. When even that is full, lines are dropped and counted, and the count is said once the log flows.
//!
//! The thread is woken by a line, not by each: those that come within `GATHER` go with it. Never: waits for the log, except in [`Backlog::flush`], for as long as
//! it is told; logs while it holds its lock.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Octets of lines that may wait. Half of it holds some ten thousand lines of the audit.
pub const BACKLOG_MAX: usize = 32 * 1024 * 1024;

/// How long the writer lets a log alone that could not take a line just now.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the writer lets lines gather behind the one that woke it: whoever pushes another meanwhile need not wake it.
const GATHER: Duration = Duration::from_millis(2);

/// Whether new work may begin, as far as the log is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strain {
    Flowing,
    Strained,
}

/// What the writer's thread tells of the log when it flows again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relief {
    /// Lines that were lost.
    pub dropped: u64,
}

/// The lines that wait. Clones are the same backlog; one into which nothing is put is never strained.
#[derive(Clone, Debug)]
pub struct Backlog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max: usize,
    waiting: Mutex<Waiting>,
    /// Rung when a line comes and the writer has nothing to do.
    bell: Condvar,
    /// Rung when one has been written.
    less: Condvar,
    strain: watch::Sender<Strain>,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    /// Of the lines that wait, and of the one that is being written.
    octets: usize,
    /// Whether the writer waits for the bell.
    writer_is_idle: bool,
    dropped: u64,
    /// Whether there was a strain that has not been told of.
    untold: bool,
}

impl Default for Backlog {
    fn default() -> Self {
        Self::new(BACKLOG_MAX)
    }
}

impl Backlog {
    /// A backlog of at most `max` octets.
    pub fn new(max: usize) -> Self {
        let strain = watch::Sender::new(Strain::Flowing);
        let (bell, less) = (Condvar::new(), Condvar::new());
        Self { shared: Arc::new(Shared { max, waiting: Mutex::default(), bell, less, strain }) }
    }

    /// Starts the thread that hands each line to `write`, in order; `tell` is called, by that thread, when the log flows after a strain.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        &self,
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
        tell: impl Fn(Relief) + Send + 'static,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            loop {
                let line = shared.take();
                let written = write(&line);
                if let Some(relief) = shared.written(line.len(), &written) {
                    tell(relief);
                }
            }
        })?;
        Ok(())
    }

    /// Hands a line over. Never waits; a line for which there is no room is dropped and counted.
    pub fn push(&self, line: Vec<u8>) {
        let shared = &self.shared;
        let mut waiting = shared.waiting();
        let octets = waiting.octets.saturating_add(line.len());
        if octets > shared.max {
            waiting.dropped = waiting.dropped.saturating_add(1);
            return;
        }
        waiting.octets = octets;
        waiting.lines.push_back(line);
        if octets > shared.max / 2 && !waiting.untold {
            waiting.untold = true;
            shared.strain.send_replace(Strain::Strained);
        }
        let rings = std::mem::take(&mut waiting.writer_is_idle);
        drop(waiting);
        if rings {
            shared.bell.notify_one();
        }
    }

    /// Whether no new mail may be taken, because what is done with it might not be told.
    pub fn is_strained(&self) -> bool {
        *self.shared.strain.borrow() == Strain::Strained
    }

    /// Waits until the log is not strained. Cancel-safe.
    pub async fn flowing(&self) {
        let mut strain = self.shared.strain.subscribe();
        // The sender is this value's own.
        let _ = strain.wait_for(|strain| *strain == Strain::Flowing).await;
    }

    /// Waits until all is written, but no longer than `most`. Gives the octets that are left.
    pub fn flush(&self, most: Duration) -> usize {
        let waiting = self.shared.waiting();
        let waited = self.shared.less.wait_timeout_while(waiting, most, |waiting| waiting.octets > 0);
        waited.unwrap_or_else(PoisonError::into_inner).0.octets
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                return line;
            }
            waiting.writer_is_idle = true;
            let rung = self.bell.wait_while(waiting, |waiting| waiting.writer_is_idle);
            drop(rung.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(GATHER);
            waiting = self.waiting();
        }
    }

    /// A line is written, or lost; says so when that ended a strain. Half of what made the strain must have gone, so that it does not flicker.
    fn written(&self, octets: usize, outcome: &io::Result<()>) -> Option<Relief> {
        let mut waiting = self.waiting();
        waiting.octets = waiting.octets.saturating_sub(octets);
        if outcome.is_err() {
            waiting.dropped = waiting.dropped.saturating_add(1);
        }
        let low = waiting.octets <= self.max / 4;
        if low && waiting.untold {
            self.strain.send_replace(Strain::Flowing);
        }
        // What was lost is told when the log takes lines again, not while it takes none.
        let relief = (low && outcome.is_ok() && (waiting.untold || waiting.dropped > 0))
            .then(|| Relief { dropped: std::mem::take(&mut waiting.dropped) });
        if low {
            waiting.untold &= relief.is_none() && outcome.is_err();
        }
        drop(waiting);
        self.less.notify_all();
        relief
    }
}

/// Writes a whole line; waits for a log that can't take it just now (a terminal or pipe that somebody made non-blocking).
///
/// # Errors
/// The log can't be written.
pub fn write_patiently(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => line = line.get(count..).unwrap_or_default(),
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(fault) => return Err(fault),
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LINE: usize = 10;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A log of ten lines whose reader takes one when he is given a token; what it took, and what was told at relief.
    fn stalled() -> (Backlog, mpsc::SyncSender<()>, mpsc::Receiver<Vec<u8>>, mpsc::Receiver<Relief>) {
        let backlog = Backlog::new(10 * LINE);
        let (token, tokens) = mpsc::sync_channel(100);
        let (take, taken) = mpsc::sync_channel(100);
        let (tell, told) = mpsc::sync_channel(100);
        let write = move |line: &[u8]| {
            tokens.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            take.send(line.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        backlog.start(write, move |relief| tell.send(relief).unwrap()).unwrap();
        (backlog, token, taken, told)
    }

    fn line(number: u8) -> Vec<u8> {
        vec![number; LINE]
    }

    #[test]
    fn nobody_waits_for_a_stalled_reader_and_no_line_is_lost_without_being_counted() {
        let (backlog, token, taken, told) = stalled();
        // This returns, though nobody reads.
        (0..5).for_each(|number| backlog.push(line(number)));
        assert!(!backlog.is_strained(), "half of the bound is not more than half");
        backlog.push(line(5));
        assert!(backlog.is_strained());
        (6..14).for_each(|number| backlog.push(line(number)));
        assert_eq!(backlog.flush(Duration::ZERO), 10 * LINE, "the bound is kept");
        (0..10).for_each(|_| token.send(()).unwrap());
        for number in 0..10 {
            assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), line(number), "in order");
        }
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Relief { dropped: 4 });
        assert_eq!(backlog.flush(PATIENCE), 0);
        assert!(!backlog.is_strained());
        assert!(told.try_recv().is_err(), "told once");
    }

    #[test]
    fn a_strain_ends_when_a_quarter_is_left_and_whoever_waits_for_it_goes_on() {
        let (backlog, token, taken, told) = stalled();
        (0..6).for_each(|number| backlog.push(line(number)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let strained = runtime.block_on(async { tokio::time::timeout(Duration::ZERO, backlog.flowing()).await });
        assert!(strained.is_err());
        (0..4).for_each(|_| token.send(()).unwrap());
        runtime.block_on(backlog.flowing());
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Relief { dropped: 0 });
        assert_eq!(taken.iter().take(4).count(), 4);
        assert_eq!(backlog.flush(Duration::ZERO), 2 * LINE);
    }

    #[test]
    fn a_log_that_can_not_be_written_strains_nobody() {
        let backlog = Backlog::new(10 * LINE);
        backlog.start(|_| Err(io::ErrorKind::BrokenPipe.into()), |_| panic!("nothing flows")).unwrap();
        for number in 0..100 {
            backlog.push(line(number));
            assert_eq!(backlog.flush(PATIENCE), 0);
        }
        assert!(!backlog.is_strained());
    }

    #[test]
    fn a_line_is_written_whole_to_what_takes_it_in_pieces() {
        struct Reluctant(Vec<u8>, u8);
        impl Write for Reluctant {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 3 {
                    0 => Err(io::ErrorKind::WouldBlock.into()),
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    _ => {
                        self.0.push(octets[0]);
                        Ok(1)
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut reluctant = Reluctant(Vec::new(), 0);
        write_patiently(&mut reluctant, b"line\n").unwrap();
        assert_eq!(reluctant.0, b"line\n");
    }
}
