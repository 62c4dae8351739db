//! What the operator may set of the queue, and the constants that nobody sets.

use std::path::PathBuf;
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The largest body that gathers in memory and goes to the file of messages, octets; larger ones get a file of their own.
pub const GATHER_MAX: usize = 256 * 1024;

/// Octets of a body that one read fetches.
pub const PIECE: usize = 128_000;

/// Records that one read fetches: whoever changes the store waits for no longer.
pub const READ_AT_ONCE: usize = 128;

/// The same of a listing that shows little of each.
pub const BRIEFS_AT_ONCE: usize = 1024;

/// Threads that read one listing, at the most, where the machine has so many cores.
pub const READERS_MAX: usize = 4;

/// Octets of records that one read fetches, before it ends where it is: one may have near a megabyte.
pub const READ_OCTETS: u64 = MIB;

/// The same of one page of a listing.
pub const PAGE_OCTETS: u64 = 4 * MIB;

/// The memory that every message being received holds, octets: it is granted before `354`, and is the write buffer of a body file.
pub const GRANTED_MEMORY: usize = 64 * 1024;

/// What of it a message keeps whose body goes to a file, once memory is scarce: smaller would cost more of writing than it gives to others.
pub const SCARCE_MEMORY: usize = GRANTED_MEMORY / 2;

/// Messages of one identity that may wait for its share of memory, each for [`QueueSettings::wait`].
pub const WAITING_MAX: u64 = 32;

/// How many orders the writer takes into one transaction.
pub const BATCH_MAX: usize = 512;

/// Orders that may wait for the writer. Their octets have a budget of their own.
pub const HAND_OFF: usize = 1024;

/// Reads, and writes and syncs of body files, that may run side by side.
pub const POOL: usize = 8;

/// Deliveries under way at once, whoever they are for; each upstream's own limit on connections lies below.
pub const DELIVERIES_MAX: usize = 256;

/// Histories of the ledger that one commit looks through for idle ones.
pub const LEDGER_SWEEP: usize = 8;

/// Octets of messages that stay in memory from their commit to their first attempt, besides those that are being received; and, as many again, of what was read for who is to send it.
pub const AT_HAND: u64 = 8 * MIB;

/// The longest sleep of a claim before it looks at the clock again: the wall clock may have been set.
pub const NAP_MAX: Duration = Duration::from_secs(60);

/// How long a claim waits after the store failed, before it tries again.
pub const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How long a finished message waits for room in the writer's backlog before its client is told to come again.
pub const COMMIT_WAIT: Duration = Duration::from_secs(60);

/// How long it waits before that for the sync of its body's file: half of what its client waits behind the final dot (RFC 5321 §4.5.3.2.6). Many large bodies
/// that end together are more than a disk takes in a minute, and each client that is told to come again brings all of it again.
pub const BODY_SYNC_WAIT: Duration = Duration::from_secs(300);

/// The most entries of one listing.
pub const PAGE_MAX: usize = 1000;

/// The same of a listing that shows little of each.
pub const BRIEFS_MAX: usize = 4096;

/// The most records one listing reads in one transaction, matching or not.
pub const SCAN_MAX: usize = 10_000;

/// Who runs the store's core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driving {
    /// One thread that commits whatever has gathered, and a bounded pool for reads.
    #[default]
    WriterThread,
    /// Whoever calls, before the call returns: no threads, so that a simulation replays.
    Inline,
    /// A task of the runtime that commits whatever has gathered, as the thread does, each commit taking so long of the runtime's time; reads as with `Inline`.
    /// So a simulation has commits that are shared.
    Simulated(Duration),
}

/// Settings of the queue.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// The folder that this queue owns; made with mode 0700.
    pub data_dir: PathBuf,
    /// Octets of memory for messages being received and waiting for the writer.
    pub memory: u64,
    /// Octets of bodies that may wait for the writer.
    pub backlog: u64,
    /// Octets of messages in the queue.
    pub size: u64,
    /// Messages in the queue.
    pub count: u64,
    /// Octets of `size`, and of free disk, that intake leaves to outcomes and reports.
    pub reserve_size: u64,
    /// Messages of `count` that intake leaves to reports.
    pub reserve_count: u64,
    /// How much of `size` and `count`, without the reserves, one identity may have, per cent: kept and being received together.
    pub share_per_identity: u64,
    /// How much of `memory` the messages of one identity may hold that are being received, per cent.
    pub memory_share_per_identity: u64,
    /// Messages of one identity that may be received at once.
    pub receiving_per_identity: u64,
    /// Messages of one identity that may be tried at once.
    pub per_identity: usize,
    /// How long a message may wait for a budget before its client hears 452.
    pub wait: Duration,
    /// How long a claim is exclusive unless renewed; longer than the longest attempt (RFC 5321 §4.5.3.2 allows 10 minutes for the last reply alone).
    pub lease: Duration,
    /// redb's cache, octets.
    pub cache: u64,
    /// Octets of what was kept a moment ago that stay in memory until its first attempt.
    pub at_hand: u64,
    /// Threads that read one listing beside one another: [`QueueSettings::readers_here`], or one where a simulation is to replay.
    pub readers: usize,
    /// Who runs the core.
    pub driving: Driving,
}

impl QueueSettings {
    /// The defaults, in this folder.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            memory: 64 * MIB,
            backlog: 32 * MIB,
            size: 20 * GIB,
            count: 1_000_000,
            reserve_size: 64 * MIB,
            reserve_count: 1_000,
            share_per_identity: 50,
            memory_share_per_identity: 25,
            receiving_per_identity: 100,
            per_identity: 10,
            wait: Duration::from_secs(5),
            lease: Duration::from_secs(3600),
            cache: 32 * MIB,
            at_hand: AT_HAND,
            readers: 1,
            driving: Driving::WriterThread,
        }
    }
    /// As many readers as this machine has cores for.
    pub fn readers_here() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(READERS_MAX)
    }
}
