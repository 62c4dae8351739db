//! What operators do by filter, when the clock was set back since mail came: names are made by the clock of their time.

use std::sync::Arc;
use std::time::Duration;

use sealpost::daemon::steering::selection::Filters;
use sealpost::daemon::steering::{Action, Answer, Answers, Command, Desk, Target};
use sealpost::queue::Queue;
use sealpost::sys::{ManualClock, SimulatedDisk, WallTime};

use super::{START, block_on, deposit, open};

async fn ask(queue: &Queue, now: WallTime, command: Command) -> Vec<Answer> {
    let roster = Arc::default();
    let mut answers = Answers::new(command, "a test".to_owned());
    let mut all = Vec::new();
    while let Some(answer) = answers.next(Desk { queue, daemon: None, roster: &roster, now }).await {
        all.push(answer);
    }
    all
}

#[test]
fn what_came_before_the_clock_was_set_back_is_counted_exported_and_steered() {
    block_on(async {
        let clock = Arc::new(ManualClock::at(START));
        let (queue, _) = open(&SimulatedDisk::new(1), &clock, 1).unwrap();
        for _ in 0..2 {
            let mut incoming = queue.admit("alice", None).await.unwrap();
            incoming.write(b"Subject: x\r\n\r\n").await.unwrap();
            incoming.commit(deposit(&*clock, 1)).await.unwrap();
            clock.advance(Duration::from_secs(60));
        }
        let set_back = START.before(Duration::from_secs(3 * 3600));
        let filters = Filters::default;

        let counted = ask(&queue, set_back, Command::Count { filters: filters(), action: None }).await;
        assert!(
            counted.iter().any(|answer| matches!(answer, Answer::Count(count) if count.messages == 2)),
            "{counted:?}"
        );
        let summed = ask(&queue, set_back, Command::Stats { top: 10 }).await;
        let is_whole = |answer: &Answer| matches!(answer, Answer::Stats(sums) if sums.breakdown.as_ref().is_some_and(|by| by.identities.len() == 1));
        assert!(summed.iter().any(is_whole), "{summed:?}");
        let exported = ask(&queue, set_back, Command::Export { filters: filters() }).await;
        assert_eq!(exported.iter().filter(|answer| matches!(answer, Answer::Parcel(_))).count(), 2, "{exported:?}");
        let hold = Command::Steer { action: Action::Hold, target: Target::All, filters: filters() };
        let held = ask(&queue, set_back, hold).await;
        assert_eq!(held.iter().filter(|answer| matches!(answer, Answer::Done(_))).count(), 2, "{held:?}");
        queue.close().await;
    });
}
