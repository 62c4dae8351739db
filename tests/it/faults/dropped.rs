//! Futures dropped at each of their polls: a connection that is torn down, a delivery that is.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use sealpost::delivery;
use sealpost::queue::Driving;
use sealpost::sys::SimulatedDisk;

use super::relay::{Dialog, How, LARGE, Relay, virtual_time};
use crate::polled::Polled;
use crate::scripted_upstream::{Script, Scripted};

/// Plays the dialog against an intake that is dropped at its `nth` poll; whether it came to its end, and what the client heard.
async fn converse(relay: &Relay, dialog: &Dialog, nth: usize) -> (bool, Vec<u16>) {
    let (ours, intake) = relay.conversation(dialog.persona);
    let heard: Arc<Mutex<Vec<u16>>> = Arc::default();
    let polled = async { Polled { work: Box::pin(intake), left: nth }.await };
    let (done, ()) = tokio::join!(polled, dialog.play(ours, usize::MAX, Arc::clone(&heard)));
    let heard = heard.lock().unwrap().clone();
    (done, heard)
}

/// Whether the message was answered 250.
fn accepted(heard: &[u16], dialog: &Dialog) -> bool {
    heard.len() == dialog.replies() && heard.last() == Some(&250)
}

fn check(how: How, length: usize) {
    virtual_time().block_on(async {
        for nth in 1.. {
            let relay = Relay::new(Driving::Inline, &Scripted::new(Script::default()));
            let dialog = Dialog::new(how, length);
            let (done, heard) = converse(&relay, &dialog, nth).await;
            let story = format!("{how:?}, {length} octets, dropped at poll {nth}, the client heard {heard:?}");
            let kept = relay.records().await.len();
            // Kept and not yet answered is possible; answered and not kept is not.
            assert!(kept == 1 || !accepted(&heard, &dialog), "{story}");
            relay.is_clean(&dialog, kept, &story).await;
            if done {
                assert!(accepted(&heard, &dialog), "{story}");
                assert!(nth > 5, "{story}: a dialog of five replies has more polls");
                return;
            }
        }
    });
}

#[test]
fn intake_dropped_at_any_poll_leaves_nothing_or_the_whole_message() {
    for how in [How::Data, How::Chunks, How::Guarded, How::Counted] {
        check(how, 200);
    }
    check(How::Data, LARGE);
    check(How::Chunks, LARGE);
}

/// With the real writer, whose commits go on when nobody waits for them any more.
#[test]
fn what_reached_the_writer_is_kept_whole_whoever_was_dropped() {
    for length in [200, LARGE] {
        for nth in 1.. {
            let disk = SimulatedDisk::new(1);
            let dialog = Dialog::new(How::Data, length);
            let (done, heard) = {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let relay = Relay::on(disk.clone(), Driving::WriterThread, &Scripted::new(Script::default()));
                    let ended = converse(&relay, &dialog, nth).await;
                    // Obeys what was handed over.
                    relay.house.queue.close().await;
                    ended
                })
            };
            virtual_time().block_on(async {
                let relay = Relay::on(disk, Driving::Inline, &Scripted::new(Script::default()));
                let kept = relay.records().await.len();
                let story = format!("{length} octets, dropped at poll {nth}, the client heard {heard:?}");
                assert!(kept == 1 || !accepted(&heard, &dialog), "{story}");
                relay.is_clean(&dialog, kept, &story).await;
            });
            if done {
                break;
            }
        }
    }
}

/// Lets one other task go on.
async fn turn() {
    let mut had = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A delivery that is torn down after so many turns of its runtime. Nothing of the courier is held afterwards, and the message arrives: once, or twice
/// when the upstream had it already and we had not noted it yet.
#[test]
fn a_delivery_dropped_at_any_turn_loses_nothing() {
    for length in [200, LARGE] {
        let (mut again, mut turns) = (0, 0);
        loop {
            turns += 1;
            let upstream = Scripted::new(Script { extensions: vec!["PIPELINING"], ..Script::default() });
            let dialog = Dialog::new(How::Data, length);
            // One task has its turn between two of ours.
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_time().start_paused(true).event_interval(1).build().unwrap();
            let (relay, arrived) = runtime.block_on(async {
                let relay = Relay::new(Driving::Inline, &upstream);
                assert_eq!(relay.submit(&dialog).await, 250);
                relay.house.tasks.spawn("delivery", delivery::run(Arc::clone(&relay.house)));
                for _ in 0..turns {
                    turn().await;
                }
                let arrived = upstream.taken().len();
                (relay, arrived)
            });
            // All tasks go, wherever they are.
            drop(runtime);
            let standing = relay.house.courier.standings().into_iter().find(|one| one.upstream == "main").unwrap();
            assert_eq!((standing.busy, standing.waiting), (0, 0), "turn {turns}: a place is held by nobody");
            let left = virtual_time().block_on(async {
                let left = relay.records().await.len();
                assert!(left == 1 || arrived == 1, "turn {turns}: gone, and never arrived");
                relay.house.queue.close().await;
                left
            });
            let disk = relay.disk.clone();
            drop(relay);
            virtual_time().block_on(async {
                let relay = Relay::on(disk, Driving::Inline, &upstream);
                relay.house.tasks.spawn("delivery", delivery::run(Arc::clone(&relay.house)));
                tokio::time::sleep(Duration::from_secs(60)).await;
                let taken = upstream.taken();
                assert_eq!(taken.len(), arrived + left, "turn {turns}: {left} left");
                assert!(taken.iter().all(|one| one.octets.ends_with(&dialog.message)), "turn {turns}: not whole");
                assert!(relay.records().await.is_empty(), "turn {turns}: still there");
            });
            again += usize::from(arrived == 1 && left == 1);
            if left == 0 {
                break;
            }
        }
        assert!(turns > 5, "{turns} turns for a whole delivery");
        println!("{length} octets: dropped at each of {turns} turns; {again} of them behind the upstream's last word");
    }
}
