//! A disk whose syncs hang, and one that tells of an error when all was done: nothing is sent a second time, and nobody waits who could be told.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Condvar, Mutex};

use super::*;
use crate::queue::stall::STALLED;
use crate::queue::steer::Intake;
use crate::sys::{Disk, DiskFile};

/// What becomes of the syncs of a disk.
trait Syncs: Send + Sync + std::fmt::Debug {
    fn before(&self) {}
    fn after(&self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Odd<S>(SimulatedDisk, Arc<S>);

#[derive(Debug)]
struct OddFile<S>(Box<dyn DiskFile>, Arc<S>);

impl<S: Syncs> DiskFile for OddFile<S> {
    fn length(&self) -> std::io::Result<u64> {
        self.0.length()
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, into)
    }
    fn write_at(&self, offset: u64, octets: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, octets)
    }
    fn set_length(&self, length: u64) -> std::io::Result<()> {
        self.0.set_length(length)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.1.before();
        self.0.sync()?;
        self.1.after()
    }
}

impl<S: Syncs + 'static> Disk for Odd<S> {
    fn create_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.create_folder(folder)
    }
    fn lock(&self, path: &Path) -> std::io::Result<Box<dyn crate::sys::disk::Lock>> {
        self.0.lock(path)
    }
    fn open(&self, path: &Path, how: Open) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OddFile(self.0.open(path, how)?, Arc::clone(&self.1))))
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn list(&self, folder: &Path) -> std::io::Result<Vec<crate::sys::disk::Entry>> {
        self.0.list(folder)
    }
    fn sync_folder(&self, folder: &Path) -> std::io::Result<()> {
        self.0.sync_folder(folder)
    }
    fn space_left(&self, folder: &Path) -> std::io::Result<u64> {
        self.0.space_left(folder)
    }
}

/// Whether syncs hang, and how many do.
#[derive(Debug, Default)]
struct Hanging(Mutex<(bool, usize)>, Condvar);

impl Syncs for Hanging {
    fn before(&self) {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        self.1.notify_all();
        state = self.1.wait_while(state, |(hangs, _)| *hangs).unwrap();
        state.1 -= 1;
    }
}

impl Hanging {
    fn set(&self, hangs: bool) {
        self.0.lock().unwrap().0 = hangs;
        self.1.notify_all();
    }

    fn wait_until_one_hangs(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |(_, hanging)| *hanging == 0).unwrap());
    }
}

/// The n-th sync from now on tells of an error behind what it did.
#[derive(Debug, Default)]
struct Late(AtomicI64);

impl Syncs for Late {
    fn after(&self) -> std::io::Result<()> {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 { Err(std::io::Error::other("late")) } else { Ok(()) }
    }
}

fn open<S: Syncs + 'static>(driving: Driving, syncs: &Arc<S>) -> (Queue, Arc<ManualClock>) {
    let disk = Odd(SimulatedDisk::new(1), Arc::clone(syncs));
    let clock = Arc::new(ManualClock::at(START));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let settings = QueueSettings { driving, ..settings() };
    (Queue::open(settings, Arc::new(disk), shared, Arc::new(SeededEntropy::new(1))).unwrap().0, clock)
}

async fn keep(queue: &Queue) -> Result<QueueId, QueueError> {
    let mut incoming = queue.admit("alice", None).await?;
    incoming.write(b"x").await?;
    Ok(incoming.commit(samples::deposit(START)).await?.id())
}

async fn claimed(queue: &Queue) -> Option<Claim> {
    tokio::time::timeout(Duration::from_millis(20), queue.claim()).await.ok()
}

/// Lets all tasks go as far as they can without the writer.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Once the lease ran out while the outcome stood behind the commit that hung: the message was given out again, and the first outcome was refused.
#[test]
fn on_a_disk_that_hangs_nothing_is_sent_again_however_long_and_whoever_can_be_told_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let hanging = Arc::new(Hanging::default());
        let (queue, clock) = open(Driving::WriterThread, &hanging);
        for _ in 0..4 {
            keep(&queue).await.unwrap();
        }
        let (first, other) = (queue.claim().await, queue.claim().await);
        let receiving = async |octets: &'static [u8]| {
            let mut incoming = queue.admit("alice", None).await.unwrap();
            incoming.write(octets).await.unwrap();
            incoming
        };
        let (written, waiting) = (receiving(b"in the commit").await, receiving(b"in none").await);
        let (written_id, waiting_id) = (written.id(), waiting.id());
        hanging.set(true);
        // One commit hangs, with a message; behind it stand two outcomes and a message.
        let written = tokio::spawn(written.commit(samples::deposit(START)));
        settle().await;
        hanging.wait_until_one_hangs();
        let outcomes = [first, other].map(|claim| tokio::spawn(claim.conclude_surely(nothing_tried(Next::Finished))));
        let waiting = tokio::spawn(waiting.commit(samples::deposit(START)));
        settle().await;
        clock.advance(STALLED - Duration::from_secs(1));
        assert_eq!(queue.intake(1).await, Ok(Intake::Open), "a disk may be slow");
        let third = queue.claim().await;
        clock.advance(Duration::from_secs(1));
        let Ok(Intake::NoRoom(why)) = queue.intake(1).await else { panic!("mail is taken") };
        assert!(why.starts_with("the disk of data_dir hangs: it has not finished a commit for 10 s"), "{why}");
        assert_eq!(keep(&queue).await, Err(QueueError::Full(why)));
        assert!(claimed(&queue).await.is_none(), "what comes of it could not be recorded");
        let id = third.id();
        assert!(tokio::time::timeout(Duration::from_millis(20), queue.claim_one(id)).await.is_err());
        assert!(!waiting.is_finished(), "nobody has seen it yet");
        let watching = queue.clone();
        let watch = tokio::spawn(async move { watching.watch().await });
        let taken_back = waiting.await.unwrap();
        assert!(matches!(&taken_back, Err(QueueError::Full(why)) if why.contains("in none yet")), "{taken_back:?}");
        assert!(!written.is_finished(), "nobody knows whether it is kept");
        // The lease of all that is claimed is over.
        clock.advance(settings().lease * 2);
        hanging.set(false);
        assert_eq!(written.await.unwrap().unwrap().id(), written_id);
        for outcome in outcomes {
            assert_eq!(outcome.await.unwrap(), Ok(None), "it was recorded");
        }
        assert_eq!(queue.show(waiting_id).await, Err(QueueError::NotFound(waiting_id)));
        assert_eq!(queue.intake(1).await, Ok(Intake::Open));
        // The third ran out, since nobody brought what came of it; the fourth, and the one that was written, were never tried.
        let given_out = [queue.claim().await.id(), queue.claim().await.id(), queue.claim().await.id()];
        assert!(given_out.contains(&id) && given_out.contains(&written_id), "{given_out:?}");
        assert!(claimed(&queue).await.is_none());
        watch.abort();
        queue.close().await;
    });
}

/// Once it switched the watch off while it waited for the very commit that hung: clients waited for nothing, and nobody was told.
#[test]
fn a_compaction_that_waits_for_a_commit_that_hangs_hides_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let hanging = Arc::new(Hanging::default());
        let (queue, clock) = open(Driving::WriterThread, &hanging);
        keep(&queue).await.unwrap();
        hanging.set(true);
        let writing = queue.clone();
        let written = tokio::spawn(async move { keep(&writing).await });
        settle().await;
        hanging.wait_until_one_hangs();
        let compacting = queue.clone();
        let compacted = tokio::spawn(async move { compacting.compact(u64::MAX, |_, _| {}).await });
        settle().await;
        clock.advance(STALLED);
        assert!(matches!(queue.intake(1).await, Ok(Intake::NoRoom(_))), "mail is taken");
        hanging.set(false);
        assert!(written.await.unwrap().is_ok());
        assert!(compacted.await.unwrap().is_ok());
        assert_eq!(queue.intake(1).await, Ok(Intake::Open));
        queue.close().await;
    });
}

/// Whoever had an outcome in hand and went away has laid it down.
#[test]
fn what_nobody_waits_to_record_any_more_runs_out() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"x").await;
        let claim = bench.claim_now().await.unwrap();
        bench.disk.fail(1, u64::MAX, Fault::Error);
        let concluding = tokio::spawn(claim.conclude_surely(nothing_tried(Next::Finished)));
        tokio::time::sleep(Duration::from_secs(10)).await;
        bench.clock.advance(settings().lease * 2);
        bench.disk.mend();
        concluding.abort();
        assert!(concluding.await.unwrap_err().is_cancelled());
        assert_eq!(bench.claim_now().await.map(|claim| claim.id()), Some(id));
    });
}

/// Once the outcome was recorded a second time though the report on it had gone out since: another report was sent, or the first one was in no audit.
#[test]
fn a_report_that_went_out_before_its_outcome_was_recorded_again_is_sent_once_and_named() {
    block_on(async {
        let mut doubted = 0;
        for nth in 1..6 {
            for (next, has_report) in [
                (Next::Retry(START.after(Duration::from_secs(9000))), true),
                (Next::Finished, true),
                (Next::Finished, false),
                (Next::Dead("nobody can be told".to_owned()), true),
            ] {
                let late = Arc::new(Late::default());
                let (queue, _) = open(Driving::Inline, &late);
                let id = keep(&queue).await.unwrap();
                let claim = claimed(&queue).await.unwrap();
                let report = (Deposit { custodian: Custodian::ours(), ..samples::deposit(START) }, b"why".to_vec());
                let report = has_report.then_some(report);
                let conclusion = Conclusion { report, ..nothing_tried(next.clone()) };
                let send = async || {
                    let mut sent = 0;
                    while let Some(report) = claimed(&queue).await {
                        report.conclude_surely(nothing_tried(Next::Finished)).await.unwrap();
                        sent += 1;
                    }
                    sent
                };
                late.0.store(nth, Ordering::SeqCst);
                // The report goes out within the second after which the outcome is recorded again.
                let meanwhile = async {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    let has_failed = late.0.load(Ordering::SeqCst) <= 0;
                    (has_failed, send().await)
                };
                let what = format!("sync {nth}, {next:?}, {has_report}");
                let (recorded, (has_failed, went)) = tokio::join!(claim.conclude_surely(conclusion), meanwhile);
                let later = send().await;
                let recorded = recorded.unwrap_or_else(|fault| panic!("{what}: {fault}"));
                assert_eq!(recorded.is_some(), has_report, "{what}");
                assert_eq!(went + later, usize::from(has_report), "{what}");
                doubted += if has_failed { went } else { 0 };
                let state = queue.show(id).await.map(|listed| listed.state());
                let expected = match next {
                    Next::Finished => Err(QueueError::NotFound(id)),
                    Next::Dead(_) => Ok(State::Dead),
                    Next::Retry(_) | Next::Held(_) => Ok(State::Queued),
                };
                assert_eq!(state, expected, "{what}");
                assert!(!queue.is_being_tried(id), "{what}: the claim has ended");
            }
        }
        assert!(doubted > 0, "some were on the disk though that was not told");
    });
}
