//! What "all" means: what is in the queue when it is asked, whatever the clock says or said.

use super::*;
use crate::daemon::steering::look::Walk;
use crate::daemon::steering::selection::Selection;

/// Three that came at 0 s, while the clock was two hours ahead, and at 60 s.
async fn with_one_ahead(bench: &Bench) -> [QueueId; 3] {
    let first = bench.keep_at(0).await;
    let ahead = bench.keep_at(7200).await;
    [first, ahead, bench.keep_at(60).await]
}

async fn done(bench: &Bench, action: Action, filters: Filters) -> usize {
    let answers = bench.ask(Command::Steer { action, target: Target::All, filters }).await;
    answers.iter().filter(|answer| matches!(answer, Answer::Done(_))).count()
}

/// Once a clock that was ahead for a while left its messages out of all of these, without a word.
#[test]
fn what_came_while_the_clock_was_ahead_is_meant_as_well() {
    block_on(async {
        let bench = Bench::new(0);
        let all = with_one_ahead(&bench).await;
        let parcels = bench.ask(Command::Export { filters: Filters::default() }).await;
        assert_eq!(parcels.iter().filter(|answer| matches!(answer, Answer::Parcel(_))).count(), 3);
        let Some(Answer::Stats(sums)) = bench.ask(Command::Stats { top: 5 }).await.pop() else { panic!("no sums") };
        let counted = sums.breakdown.unwrap();
        assert_eq!(counted.identities.iter().map(|row| row.messages).sum::<u64>(), 3, "{counted:?}");
        for action in [Action::Hold, Action::Release, Action::Retry] {
            assert_eq!(done(&bench, action, Filters::default()).await, 3, "{action:?}");
        }
        // What is not older than an hour is not meant by who asks for what is.
        let old = Filters { older_than: Some(30_000), ..Filters::default() };
        assert_eq!(done(&bench, Action::Hold, old).await, 1);
        // Somebody is asked, and thinks for a while; and more comes.
        let command = Command::Count { filters: Filters::default(), action: Some(Action::Remove) };
        let Some(Answer::Count(count)) = bench.ask(command).await.pop() else { panic!("no count") };
        assert_eq!(count.messages, 3);
        let later = bench.keep_at(90).await;
        bench.clock.set_wall(START.after(Duration::from_secs(120)));
        let filters = Filters { until: Some(count.until), ..Filters::default() };
        assert_eq!(done(&bench, Action::Remove, filters).await, 3);
        assert_eq!(bench.ids().await, [later], "of {all:?}");
    });
}

#[test]
fn what_comes_while_a_round_goes_on_is_not_meant_also_between_now_and_what_is_ahead() {
    block_on(async {
        for limit in [1, 2, 100] {
            let bench = Bench::new(0);
            let [first, ahead, last] = with_one_ahead(&bench).await;
            let further = bench.keep_at(7300).await;
            let now = START.after(Duration::from_secs(60));
            let walk = Walk::over_what_is_here(&bench.queue, Selection::all(), None, now, now);
            let mut walk = walk.await.unwrap();
            let mut found = Vec::new();
            for second in 0.. {
                found.extend(walk.page(&bench.queue, limit).await.unwrap().iter().map(|one| one.id()));
                if walk.is_over() {
                    break;
                }
                assert!(second < 10, "it goes on for ever");
                bench.keep_at(61 + second).await;
                bench.keep_at(7250 + second).await;
            }
            assert_eq!(found, [first, last, ahead, further], "{limit} at once");
            assert!(!walk.has_left_out());
        }
    });
}

#[test]
fn of_more_that_are_ahead_than_one_round_is_of_the_rest_is_told() {
    block_on(async {
        let bench = Bench::new(0);
        let [.., ahead, _] = with_one_ahead(&bench).await;
        let further = bench.keep_at(7300).await;
        let edge = QueueId::new(START.after(Duration::from_secs(61)), 0);
        for (most, expected) in [(1, (vec![further], true)), (2, (vec![ahead, further], false))] {
            let mut walk = Walk::new(Selection::all(), None, ListOrder::NewestFirst, None);
            assert_eq!(walk.down_to(&bench.queue, edge, most).await.unwrap(), expected);
        }
    });
}

/// What a running relay exports is held: that of it which comes meanwhile is exported, or not.
#[test]
fn an_export_of_a_running_relay_goes_up_to_the_newest_name() {
    block_on(async {
        let bench = Bench::new(0);
        let [first, ahead, last] = with_one_ahead(&bench).await;
        let now = START.after(Duration::from_secs(60));
        let mut walk = Walk::up_to_the_newest(&bench.queue, Selection::all(), now).await.unwrap();
        bench.keep_at(7300).await;
        let found = walk.page(&bench.queue, 10).await.unwrap();
        assert_eq!(found.iter().map(|one| one.id()).collect::<Vec<_>>(), [first, last, ahead]);
        assert!(walk.is_over());
    });
}
