//! `sealpost queue compact`: gives the disk back what the store's file does not need.
//!
//! With a daemon it is the daemon that does it, when little is kept: all mail waits meanwhile. Without one there is no limit, and a terminal sees how
//! far it is. Ended in the middle, it has changed nothing.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::queue::{not_ours, size};
use crate::queue::{Compaction, Driving, Queue, QueueSettings};
use crate::sys::disk::SystemDisk;
use crate::sys::{SystemClock, SystemEntropy};

/// Opens the store, as its owner, and writes it anew.
///
/// # Errors
/// The store can't be opened, or the disk fails or has no room.
pub(super) fn without_daemon(settings: QueueSettings) -> anyhow::Result<ExitCode> {
    if let Some(code) = not_ours(&settings.data_dir)? {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let settings = QueueSettings { driving: Driving::Inline, ..settings };
        let data_dir = settings.data_dir.clone();
        let opened =
            Queue::open(settings, Arc::new(SystemDisk), Arc::new(SystemClock::start()), Arc::new(SystemEntropy));
        let (queue, _) = opened
            .with_context(|| format!("no daemon answers, and the store in {} can't be opened", data_dir.display()))?;
        let compacted = queue.compact(u64::MAX, progress()).await;
        queue.close().await;
        match compacted? {
            Compaction::Done { before, after } => tell(&mut io::stdout().lock(), before, after)?,
            // Not when all that there can be is allowed.
            Compaction::TooMuch { .. } => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Says so on a terminal each time another hundredth is done.
fn progress() -> impl FnMut(u64, u64) + Send {
    let (mut said, shown) = (0, io::stderr().is_terminal());
    move |done, all| {
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
        if shown && percent > said {
            said = percent;
            eprint!("\r{done} of {all} rows ({percent} %){}", if done == all { "\n" } else { "" });
        }
    }
}

/// What came of it.
pub(super) fn tell(out: &mut impl Write, before: u64, after: u64) -> io::Result<()> {
    writeln!(out, "the store's file had {}, and has {}", size(before), size(after))
}
