//! What asks a program to end: caught, so that it can say what it has done, or leave the terminal as it was.
//!
//! Never: hears what it was told to ignore, as `nohup` and a shell's background have it; keeps a program from ending that is asked twice, or has nothing open.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From its beginning on these end nothing by themselves.
#[derive(Debug)]
pub(super) struct Signals {
    heard: Vec<(SignalKind, Signal)>,
}

impl Signals {
    /// Within a runtime.
    ///
    /// # Errors
    /// The system has no room for them.
    pub(super) fn begin() -> io::Result<Self> {
        let ignored = ignored();
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let heard = kinds.into_iter().filter(|kind| !is_within(ignored, *kind));
        Ok(Self { heard: heard.map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()? })
    }

    /// Waits for one.
    pub(super) async fn any(&mut self) -> SignalKind {
        std::future::poll_fn(|context| {
            let come =
                |(kind, signal): &mut (SignalKind, Signal)| signal.poll_recv(context).is_ready().then_some(*kind);
            self.heard.iter_mut().find_map(come).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Whether something is open that must be closed before the program may end.
static AT_WORK: AtomicBool = AtomicBool::new(false);
/// Whether it was asked to.
static ASKED: AtomicBool = AtomicBool::new(false);
static WATCH: OnceLock<io::Result<()>> = OnceLock::new();

/// Work that ends by itself when it is asked to. While there is none the program ends at once, and so it does when it is asked again.
#[derive(Debug)]
pub(super) struct Interruption(());

impl Interruption {
    /// Work begins; it ends when this is dropped.
    ///
    /// # Errors
    /// The system has no room for it.
    pub(super) fn at_work() -> io::Result<Self> {
        if let Err(fault) = WATCH.get_or_init(watch) {
            return Err(fault.kind().into());
        }
        AT_WORK.store(true, Ordering::SeqCst);
        Ok(Self(()))
    }

    /// Whether it is asked for.
    pub(super) fn has_come(&self) -> bool {
        ASKED.load(Ordering::SeqCst)
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        AT_WORK.store(false, Ordering::SeqCst);
    }
}

/// On a thread of its own: the work may wait for a disk, or for who reads.
fn watch() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut signals = runtime.block_on(async { Signals::begin() })?;
    let watching = move || {
        runtime.block_on(async {
            loop {
                let kind = signals.any().await;
                if !AT_WORK.load(Ordering::SeqCst) || ASKED.swap(true, Ordering::SeqCst) {
                    end(kind);
                }
            }
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watching).map(|_| ())
}

/// As a shell tells of who was ended by a signal.
#[expect(clippy::exit, reason = "nothing is open that would have to be closed, or it was asked for twice")]
fn end(kind: SignalKind) -> ! {
    std::process::exit(128_i32.saturating_add(kind.as_raw_value()))
}

/// The mask of what this process was begun to ignore, as the system tells it (proc_pid_status(5)).
#[expect(clippy::disallowed_methods, reason = "no call tells it without changing it")]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

/// Signal 1 is the lowest bit.
fn is_within(mask: u64, kind: SignalKind) -> bool {
    let bit = kind.as_raw_value().checked_sub(1).and_then(|place| u32::try_from(place).ok());
    bit.and_then(|place| 1_u64.checked_shl(place)).is_some_and(|bit| mask & bit != 0)
}
