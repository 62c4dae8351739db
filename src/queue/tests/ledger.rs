//! The ledger in the store: what is written, what is given back, what a restart and a power cut leave.

use super::*;

const ALICE: &str = "staff:alice@example.com";
const ONE: Cost = Cost { messages: 1, recipients: 2 };
const HOUR: Duration = Duration::from_secs(3_600);

fn messages(limit: u32) -> Rates {
    Rates { messages_per_hour: Some(limit), ..Rates::default() }
}

impl Bench {
    async fn spend_of(&self, identity: &str, rates: Rates) -> Option<Spending> {
        match self.queue.spend(identity, rates, ONE).await.unwrap() {
            Spent::Granted(spending) => Some(spending),
            Spent::Until { .. } => None,
        }
    }

    /// A message within this many an hour, kept when there is room for it; whether there was.
    async fn keep_one(&self, limit: u32) -> bool {
        let Some(spending) = self.spend_of(ALICE, messages(limit)).await else { return false };
        let mut incoming = self.queue.admit("alice", None).await.unwrap();
        incoming.charge(spending);
        incoming.write(b"hello").await.unwrap();
        incoming.commit(samples::deposit(self.clock.now().wall)).await.unwrap();
        true
    }

    async fn keep_all(&self, limit: u32) -> u32 {
        let mut kept = 0;
        while self.keep_one(limit).await {
            kept += 1;
        }
        kept
    }

    fn histories(&self) -> Vec<String> {
        let file = self.disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
        let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
        let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
        let table = transaction.open_table(tables::LEDGER).unwrap();
        redb::ReadableTable::iter(&table).unwrap().map(|row| row.unwrap().0.value().to_owned()).collect()
    }
}

#[test]
fn a_restart_and_a_power_cut_reset_no_limit() {
    block_on(async {
        let mut bench = Bench::new(settings());
        assert_eq!(bench.keep_all(3).await, 3);
        bench.restart().await;
        assert_eq!(bench.keep_all(3).await, 0);
        assert_eq!(bench.keep_all(5).await, 2);
        bench.disk.crash();
        bench.reopen();
        assert_eq!(bench.keep_all(5).await, 0);
        bench.clock.advance(HOUR + Duration::from_secs(60));
        assert_eq!(bench.keep_all(5).await, 5);
    });
}

#[test]
fn what_is_not_kept_is_given_back() {
    block_on(async {
        let bench = Bench::new(settings());
        for _ in 0..9 {
            drop(bench.spend_of(ALICE, messages(1)).await.unwrap());
            let mut incoming = bench.queue.admit("alice", None).await.unwrap();
            incoming.charge(bench.spend_of(ALICE, messages(1)).await.unwrap());
            drop(incoming);
        }
        let under_way = bench.spend_of(ALICE, messages(1)).await.unwrap();
        assert!(bench.spend_of(ALICE, messages(1)).await.is_none(), "what is under way counts");
        assert!(bench.spend_of("staff:bob@example.com", messages(1)).await.is_some(), "each identity counts alone");
        drop(under_way);
        assert_eq!(bench.keep_all(1).await, 1);
    });
}

#[test]
fn joined_spendings_stand_or_fall_together() {
    block_on(async {
        let bench = Bench::new(settings());
        let rates = Rates { recipients_per_hour: Some(4), ..Rates::default() };
        let mut first = bench.spend_of(ALICE, rates).await.unwrap();
        first.join(bench.spend_of(ALICE, rates).await.unwrap());
        assert_eq!(first.cost(), ONE.plus(ONE));
        assert!(bench.spend_of(ALICE, rates).await.is_none());
        drop(first);
        assert!(bench.spend_of(ALICE, rates).await.is_some());
    });
}

#[test]
fn a_commit_that_fails_costs_nothing_whatever_the_disk_has_of_it() {
    for nth in 1..30 {
        block_on(async {
            let mut bench = Bench::new(settings());
            let spending = bench.spend_of(ALICE, messages(1)).await.unwrap();
            let mut incoming = bench.queue.admit("alice", None).await.unwrap();
            incoming.charge(spending);
            incoming.write(b"hello").await.unwrap();
            bench.disk.fail(nth, 0, Fault::Error);
            let committed = incoming.commit(samples::deposit(START)).await;
            bench.disk.mend();
            bench.queue.hold(QueueId::from_u128(0)).await.unwrap_err();
            let left = u32::from(committed.is_err());
            assert_eq!(bench.keep_all(1).await, left, "operation {nth}: {committed:?}");
            bench.restart().await;
            assert_eq!(bench.keep_all(1).await, 0, "operation {nth}");
        });
    }
}

#[test]
fn message_and_cost_are_there_together_or_not_at_all() {
    for nth in 1..30 {
        block_on(async {
            let mut bench = Bench::new(settings());
            let spending = bench.spend_of(ALICE, messages(1)).await.unwrap();
            let mut incoming = bench.queue.admit("alice", None).await.unwrap();
            incoming.charge(spending);
            incoming.write(b"hello").await.unwrap();
            bench.disk.fail(nth, u64::MAX, Fault::Error);
            incoming.commit(samples::deposit(START)).await.ok();
            bench.disk.crash();
            bench.disk.mend();
            bench.reopen();
            let kept = bench.queue.stats().await.unwrap().totals.queued.count;
            let free = bench.spend_of(ALICE, messages(1)).await.is_some();
            assert_eq!(free, kept == 0, "operation {nth}");
        });
    }
}

#[test]
fn limits_cost_no_sync() {
    block_on(async {
        let syncs = |limited: bool| async move {
            let bench = Bench::new(settings());
            bench.keep(b"hello").await;
            let before = bench.disk.syncs();
            for _ in 0..10 {
                if limited {
                    assert!(bench.keep_one(100).await);
                } else {
                    bench.keep(b"hello").await;
                }
            }
            bench.disk.syncs() - before
        };
        let (without, with) = (syncs(false).await, syncs(true).await);
        println!("10 messages: {without} syncs without limits, {with} with");
        assert!(without > 0 && with == without);
    });
}

#[test]
fn a_wall_clock_that_jumps_neither_locks_out_nor_opens_the_gate() {
    block_on(async {
        let mut bench = Bench::new(settings());
        assert_eq!(bench.keep_all(3).await, 3);
        // While it runs, the wall clock moves nothing.
        bench.clock.set_wall(START.after(1_000 * HOUR));
        assert_eq!(bench.keep_all(3).await, 0);
        bench.clock.set_wall(WallTime::from_seconds(1_000));
        assert_eq!(bench.keep_all(3).await, 0);
        // Set back over a restart: the ledger goes on where it was, and a window later there is room.
        bench.restart().await;
        assert_eq!(bench.keep_all(3).await, 0);
        bench.clock.advance(HOUR + Duration::from_secs(60));
        assert_eq!(bench.keep_all(3).await, 3);
        // Set forward over a restart: one window's limit, and no more.
        bench.clock.set_wall(START.after(9_000 * HOUR));
        bench.restart().await;
        assert_eq!(bench.keep_all(3).await, 3);
        // And set right again.
        bench.clock.set_wall(START.after(2 * HOUR));
        bench.restart().await;
        assert_eq!(bench.keep_all(3).await, 0);
        bench.clock.advance(HOUR + Duration::from_secs(60));
        assert_eq!(bench.keep_all(3).await, 3);
    });
}

#[test]
fn the_time_that_is_told_is_the_time_from_which_there_is_room() {
    block_on(async {
        let bench = Bench::new(settings());
        assert_eq!(bench.keep_all(2).await, 2);
        bench.clock.set_wall(WallTime::from_seconds(77));
        let Spent::Until { rate, at } = bench.queue.spend(ALICE, messages(2), ONE).await.unwrap() else { panic!() };
        assert_eq!(rate.to_string(), "2 messages per hour");
        let wait = at.since(bench.clock.now().wall);
        bench.clock.advance(wait - Duration::from_millis(1));
        assert_eq!(bench.keep_all(2).await, 0);
        bench.clock.advance(Duration::from_millis(1));
        assert_eq!(bench.keep_all(2).await, 2);
    });
}

#[test]
fn idle_histories_go_and_only_who_sends_is_in_memory() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let one = |bench: &Bench, identity: String| {
            let (queue, now) = (bench.queue.clone(), bench.clock.now().wall);
            async move {
                let Spent::Granted(spending) = queue.spend(&identity, messages(9), ONE).await.unwrap() else {
                    panic!()
                };
                let mut incoming = queue.admit("alice", None).await.unwrap();
                incoming.charge(spending);
                incoming.commit(samples::deposit(now)).await.unwrap();
            }
        };
        for number in 0..100 {
            one(&bench, format!("staff:{number}@example.com")).await;
        }
        bench.clock.advance(25 * HOUR);
        for _ in 0..20 {
            one(&bench, ALICE.to_owned()).await;
            bench.clock.advance(HOUR);
        }
        bench.queue.close().await;
        assert_eq!(bench.histories(), [ALICE]);
        bench.reopen();
    });
}

#[test]
fn an_account_is_in_memory_only_while_something_is_under_way() {
    let accounts = accounts::Accounts::default();
    let now = ManualClock::at(START).now();
    let spend =
        |identity: &str| accounts.spend(identity, &messages(1), ONE, now, || Ok(ledger::History::default())).unwrap();
    let (first, second) = (spend(ALICE), spend("bob"));
    assert!(matches!(spend(ALICE), Spent::Until { .. }));
    assert_eq!(accounts.count(), 2);
    let Spent::Granted(first) = first else { panic!() };
    first.settle(START);
    drop(second);
    assert_eq!(accounts.count(), 0);
}

#[test]
fn a_history_that_cannot_be_read_stops_no_mail() {
    block_on(async {
        let mut bench = Bench::new(settings());
        assert_eq!(bench.keep_all(1).await, 1);
        bench.queue.close().await;
        {
            let file = bench.disk.open(Path::new("/q/store.redb"), Open::Existing).unwrap();
            let database = redb::Database::builder().create_with_backend(storage::Storage(file)).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(tables::LEDGER).unwrap().insert(ALICE, &[0xff_u8; 3][..]).unwrap();
            transaction.commit().unwrap();
            database.close().unwrap();
        }
        bench.reopen();
        assert_eq!(bench.keep_all(1).await, 1);
    });
}

#[test]
fn a_message_that_is_held_when_it_is_kept_waits_for_its_release() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let mut incoming = bench.queue.admit("alice", None).await.unwrap();
        incoming.hold("waits for approval".to_owned());
        incoming.write(b"hello").await.unwrap();
        let id = incoming.commit(samples::deposit(START)).await.unwrap().id();
        bench.disk.crash();
        bench.reopen();
        assert!(bench.claim_now().await.is_none());
        let held = bench.record(id).await;
        assert_eq!((held.state, held.held_by), (State::Held, Some(HeldBy::Grant)));
        assert_eq!(held.reason.as_deref(), Some("waits for approval"));
        bench.clock.advance(9 * HOUR);
        bench.queue.release(id).await.unwrap();
        let claim = bench.claim_now().await.unwrap();
        let released = claim.record();
        assert_eq!(released.waits_since(), START.after(9 * HOUR), "its delay begins with its release");
        assert_eq!((released.recheck, released.reason.as_ref(), released.held_by), (Recheck::Due, None, None));
    });
}

#[test]
fn what_recheck_held_is_released_for_good() {
    block_on(async {
        let bench = Bench::new(settings());
        let id = bench.keep(b"hello").await;
        let claim = bench.claim_now().await.unwrap();
        claim.conclude(nothing_tried(Next::Held("revoked".to_owned()))).await.unwrap();
        let held = bench.record(id).await;
        assert_eq!((held.state, held.held_by, held.attempts), (State::Held, Some(HeldBy::Recheck), 0));
        assert!(bench.claim_now().await.is_none());
        bench.queue.release(id).await.unwrap();
        assert_eq!(bench.claim_now().await.unwrap().record().recheck, Recheck::Waived);
    });
}

/// Found by reading: who spent held the accounts and waited for the store, who opened the store again held it and waited for the accounts.
#[test]
fn spending_while_the_store_is_opened_again_hangs_nobody() {
    let bench = Bench::new(settings());
    let (store, clock) = (Arc::clone(&bench.queue.inner.store), Arc::clone(&bench.clock));
    let (done, is_done) = std::sync::mpsc::channel();
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let spender = {
        let (store, clock, over, done) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&over), done.clone());
        move || {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                // A store that is failing says so; what is granted is given back at once.
                drop(store.spend(ALICE, &messages(1), ONE, clock.now()));
            }
            done.send(()).unwrap();
        }
    };
    let disk = bench.disk.clone();
    let breaker = move || {
        for _ in 0..300 {
            disk.fail(1, 0, Fault::Error);
            store.apply(vec![Order::Remove(QueueId::from_u128(0))], clock.now());
            disk.mend();
            store.apply(vec![Order::Mend], clock.now());
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        done.send(()).unwrap();
    };
    std::thread::spawn(spender);
    std::thread::spawn(breaker);
    for _ in 0..2 {
        is_done.recv_timeout(Duration::from_secs(20)).expect("somebody hangs");
    }
}
