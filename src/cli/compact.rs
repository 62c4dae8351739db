//! `sealpost queue compact`: gives the disk back what the store's file does not need.
//!
//! With a daemon it is the daemon that does it, when little is kept: all mail waits meanwhile. Without one there is no limit, and a terminal sees how
//! far it is. Ended in the middle, it has changed nothing.

use std::io::{self, IsTerminal as _};

use super::output;
use super::queue::reach::{Reach, Unreached};
use crate::plain::size;
use crate::queue::Compaction;

/// Opens the store, as its owner, and writes it anew. Gives an exit code when that may not be.
///
/// # Errors
/// The store can't be opened, or the disk fails or has no room.
pub(super) fn without_daemon(reach: &Reach) -> anyhow::Result<Unreached> {
    reach.with_store(async |queue, _| {
        match queue.compact(u64::MAX, progress()).await? {
            Compaction::Done { before, after } => tell(before, after),
            // Not when all that there can be is allowed.
            Compaction::TooMuch { .. } => {}
        }
        Ok(())
    })
}

/// Says so on a terminal each time another hundredth is done.
fn progress() -> impl FnMut(u64, u64) + Send {
    let (mut said, shown) = (0, io::stderr().is_terminal());
    move |done, all| {
        let percent = done.saturating_mul(100).checked_div(all).unwrap_or(100);
        if shown && percent > said {
            said = percent;
            eprint!("\r{done} of {} ({percent} %){}", output::counted(all, "row"), if done == all { "\n" } else { "" });
        }
    }
}

/// What came of it.
pub(super) fn tell(before: u64, after: u64) {
    println!("the store's file had {}, and has {}", size(before), size(after));
}
