//! Certificates that were seen: with a message, without one, through crashes, and how many.

use super::*;
use crate::queue::seen::{Certificate, Mark, Marked, OF_IDENTITY_MAX, Seen, Sighting, Stage};

const ALICE: &str = "staff:alice@example.com";
const HOUR: Duration = Duration::from_secs(3600);

fn sighting(identity: &str, number: u8, at: WallTime) -> Sighting {
    Sighting {
        identity: identity.to_owned(),
        fingerprint: [number; 32],
        certificate: Certificate {
            ca: Some("staff".to_owned()),
            serial: format!("{number:02x}"),
            subject: "ä".repeat(1000),
            issuer: "CN=Staff".to_owned(),
            email: Some("alice@example.com".to_owned()),
            not_before: START,
            not_after: START.after(HOUR * 24 * 365),
        },
        client: "192.0.2.1".to_owned(),
        at,
    }
}

async fn note(queue: &Queue, sighting: Sighting) -> Result<(), QueueError> {
    queue.see(&sighting.identity.clone(), sighting.fingerprint, || sighting).await
}

async fn of(queue: &Queue, identity: &str) -> Vec<Seen> {
    queue.seen_of(vec![identity.to_owned()]).await.unwrap().remove(0)
}

impl Bench {
    async fn keep_seen(&self, number: u8) -> Result<(), QueueError> {
        let mut incoming = self.queue.admit(ALICE, None).await?;
        incoming.write(b"hello").await?;
        incoming.see(sighting(ALICE, number, self.clock.now().wall));
        incoming.commit(samples::deposit(self.clock.now().wall)).await.map(drop)
    }
}

#[test]
fn a_certificate_is_noted_with_its_message_without_a_sync_of_its_own_and_outlasts_a_crash() {
    block_on(async {
        let mut bench = Bench::new(settings());
        // A commit that makes the file longer syncs once more: the least of several is what a message takes.
        let mut least = [u64::MAX; 2];
        for _ in 0..5 {
            let before = bench.disk.syncs();
            bench.keep(b"hello").await;
            let between = bench.disk.syncs();
            bench.keep_seen(1).await.unwrap();
            bench.clock.advance(HOUR);
            least = [least[0].min(between - before), least[1].min(bench.disk.syncs() - between)];
        }
        assert!(least[0] > 0 && least[0] == least[1], "{least:?}");
        bench.keep_seen(1).await.unwrap();
        bench.disk.crash();
        bench.reopen();
        let seen = of(&bench.queue, ALICE).await;
        assert_eq!(seen.len(), 1);
        let row = &seen[0].row;
        assert_eq!((row.first, row.last, row.client.as_str()), (START, START.after(HOUR * 5), "192.0.2.1"));
        assert_eq!((row.certificate.serial.as_str(), row.told), ("01", None));
        assert!(row.certificate.subject.len() <= 160);
    });
}

#[test]
fn message_and_sighting_are_there_together_or_not_at_all() {
    let mut both = [0, 0];
    for nth in 1..30 {
        block_on(async {
            let mut bench = Bench::new(settings());
            bench.disk.fail(nth, u64::MAX, Fault::Error);
            bench.keep_seen(1).await.ok();
            bench.disk.crash();
            bench.disk.mend();
            bench.reopen();
            let kept = bench.queue.stats().await.unwrap().totals.queued.count;
            assert_eq!(of(&bench.queue, ALICE).await.len() as u64, kept, "operation {nth}");
            both[usize::from(kept > 0)] += 1;
        });
    }
    assert!(both.iter().all(|count| *count > 0), "{both:?}");
}

#[test]
fn a_session_without_a_message_is_noted_once_an_hour() {
    block_on(async {
        let mut bench = Bench::new(settings());
        let see = async |bench: &Bench, number| {
            let before = bench.disk.syncs();
            note(&bench.queue, sighting(ALICE, number, bench.clock.now().wall)).await.unwrap();
            bench.disk.syncs() > before
        };
        assert!(see(&bench, 1).await);
        assert!(!see(&bench, 1).await);
        assert!(see(&bench, 2).await, "another certificate");
        bench.clock.advance(HOUR);
        assert!(see(&bench, 1).await);
        bench.clock.advance(HOUR);
        bench.keep_seen(2).await.unwrap();
        assert!(!see(&bench, 2).await, "the message noted it");
        bench.restart().await;
        let seen = of(&bench.queue, ALICE).await;
        assert_eq!(seen.iter().map(|one| one.row.last).collect::<Vec<_>>(), [START.after(HOUR), START.after(HOUR * 2)]);
    });
}

#[test]
fn one_identity_has_so_many_and_the_one_unseen_longest_goes() {
    block_on(async {
        let bench = Bench::new(settings());
        let count = u8::try_from(OF_IDENTITY_MAX).unwrap();
        for number in 0..count + 3 {
            bench.clock.advance(HOUR);
            note(&bench.queue, sighting(ALICE, number, bench.clock.now().wall)).await.unwrap();
        }
        note(&bench.queue, sighting("bob", 0, bench.clock.now().wall)).await.unwrap();
        let numbers: Vec<u8> = of(&bench.queue, ALICE).await.iter().map(|one| one.fingerprint[0]).collect();
        assert_eq!(numbers, (3..count + 3).collect::<Vec<_>>());
        assert_eq!(bench.queue.seen_count().await.unwrap(), u64::from(count) + 1);
    });
}

#[test]
fn what_was_told_is_known_after_a_crash_and_what_is_forgotten_is_gone() {
    block_on(async {
        let mut bench = Bench::new(settings());
        for number in [1, 2] {
            bench.keep_seen(number).await.unwrap();
        }
        let mark = |number: u8, what| Mark { identity: ALICE.to_owned(), fingerprint: [number; 32], what };
        let told = |stage| Marked::Told(stage);
        bench.queue.mark(vec![mark(1, told(Stage::Week)), mark(2, Marked::Forgotten)]).await.unwrap();
        // A stage that is past is not told again, and who is not there needs no mark.
        bench.queue.mark(vec![mark(1, told(Stage::Month)), mark(9, told(Stage::Day))]).await.unwrap();
        bench.disk.crash();
        bench.reopen();
        bench.clock.advance(HOUR);
        bench.keep_seen(1).await.unwrap();
        let seen = of(&bench.queue, ALICE).await;
        assert_eq!(
            seen.iter().map(|one| (one.fingerprint[0], one.row.told)).collect::<Vec<_>>(),
            [(1, Some(Stage::Week))]
        );
    });
}

#[test]
fn a_page_has_whole_identities_and_goes_on_behind_the_last() {
    block_on(async {
        let bench = Bench::new(settings());
        let names = ["a", "ab", "b", "c"];
        for (name, number) in (0..12).map(|number| (names[usize::from(number) / 3], number)) {
            note(&bench.queue, sighting(name, number, START)).await.unwrap();
        }
        let mut after = None;
        let mut pages = Vec::new();
        loop {
            let page = bench.queue.seen(after, 4).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.identity.clone());
            pages.push(page.iter().map(|one| one.identity.clone()).collect::<Vec<_>>());
        }
        assert_eq!(pages, [["a", "a", "a", "ab", "ab", "ab"], ["b", "b", "b", "c", "c", "c"]]);
    });
}

#[test]
fn one_identity_that_shows_ever_new_certificates_is_written_seldom_and_mutes_nobody() {
    block_on(async {
        let bench = Bench::new(settings());
        let see = async |identity, number| {
            let before = bench.disk.syncs();
            note(&bench.queue, sighting(identity, number, bench.clock.now().wall)).await.unwrap();
            bench.disk.syncs() > before
        };
        let mut written = 0;
        for number in 0..200 {
            written += usize::from(see("mallory", number).await);
        }
        assert_eq!((written, of(&bench.queue, "mallory").await.len()), (4, 4));
        assert!(see("bob", 1).await, "another identity's");
        bench.clock.advance(HOUR);
        assert!(see("mallory", 201).await, "an hour later");
    });
}
