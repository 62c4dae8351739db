//! Recipients of a transaction that is open take memory of `queue.memory`: refused one by one where there is none, given back at each way out.

use sealpost::queue::{Driving, QueueSettings};
use sealpost::route::Routes;

use crate::dialog::memory::routes_to;
use crate::scripted_upstream::Script;
use crate::through::stage::{Client, Stage, through, upstream};

const KIB: u64 = 1024;
/// All of `queue.memory`: eight transactions with a hundred recipients of the longest kind hold more than half of it.
const MEMORY: u64 = 1024 * KIB;
/// What each transaction may hold beyond what is counted.
const FREE: u64 = 4 * KIB;

const NO_ROOM: &str = "452 4.3.1 No room for more recipients now; send the others in another message";

fn stage(share: u64, routes: Routes) -> Stage {
    let settings = QueueSettings {
        driving: Driving::Inline,
        cache: 1 << 20,
        memory: MEMORY,
        memory_share_per_identity: share,
        ..QueueSettings::new("/queue")
    };
    Stage::kept_by(settings, Script::default(), Script::default(), routes)
}

fn queued() -> Routes {
    (*routes_to("*")).clone()
}

/// RCPT of one of the longest recipients.
async fn rcpt(client: &mut Client, number: usize) -> String {
    let host = ["d".repeat(60), "e".repeat(60), "f".repeat(50)].join(".");
    let original = "x".repeat(480);
    client.rcpt(&format!("<{}{number:04}@{host}.example.net> ORCPT=rfc822;{original}", "l".repeat(60))).await
}

/// MAIL and so many of the longest recipients; how many were taken. Who is not taken hears that there is no room.
async fn fill(client: &mut Client, most: usize) -> usize {
    assert!(client.mail("").await.starts_with("250"));
    let mut taken = 0;
    for number in 0..most {
        match rcpt(client, number).await {
            said if said.starts_with("250") => taken += 1,
            said => assert_eq!(said, NO_ROOM),
        }
    }
    taken
}

/// Nobody has anything to do any more.
async fn settle() {
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn recipients_of_open_transactions_hold_half_of_memory_at_the_most_and_those_taken_are_sent_to() {
    for routes in [queued(), through(vec![upstream()])] {
        let stage = stage(100, routes);
        let held = || stage.house.queue.memory_given_out();
        let (mut open, mut taken) = (Vec::new(), 0);
        for number in 0..20 {
            let mut client = stage.client(["alice", "bob"][number % 2]).await;
            let here = fill(&mut client, 100).await;
            taken += here;
            assert!(held() <= MEMORY / 2, "{}", held());
            let counted = held() + FREE * u64::try_from(open.len() + 1).unwrap();
            assert!(counted >= u64::try_from(taken * 740).unwrap(), "{} for {taken}", held());
            open.push((client, here));
        }
        assert!(taken < 900 && held() > MEMORY / 2 - 17 * KIB, "{taken}, {}", held());
        // A message waits for room while its own envelope holds some: all of them come through, however many begin at once.
        let mut all = Vec::new();
        for (mut client, here) in open {
            assert!(here >= 2, "what is free of charge is there for everybody");
            client.write(b"DATA\r\n").await;
            all.push((client, here));
        }
        for (mut client, here) in all {
            assert!(client.hear().await.starts_with("354"));
            let message = client.message("");
            let said = client.try_say(&message).await;
            assert!(said.starts_with("250"), "{said}");
            let was_kept = |record: &sealpost::queue::Record| record.recipients.len() == here;
            assert!(!stage.up.taken().is_empty() || stage.records().await.iter().any(was_kept), "{here}");
        }
        settle().await;
        assert_eq!(held(), 0);
        assert_eq!(fill(&mut stage.client("alice").await, 100).await, 100, "now there is room for them");
    }
}

#[tokio::test(start_paused = true)]
async fn what_recipients_hold_is_given_back_at_each_way_out() {
    for line in ["RSET", "EHLO client.example", "QUIT", "BDAT x", "", "DATA"] {
        let stage = stage(100, queued());
        let held = || stage.house.queue.memory_given_out();
        let mut client = stage.client("alice").await;
        assert_eq!(fill(&mut client, 100).await, 100);
        let all = held();
        assert!((70 * KIB..100 * KIB).contains(&all), "{line}: {all}");
        client.say("NOOP").await;
        assert_eq!(held(), all);
        match line {
            "" => drop(client),
            "DATA" => {
                assert!(client.say("DATA").await.starts_with("354"));
                let message = client.message("");
                assert!(client.try_say(&message).await.starts_with("250"));
            }
            _ => drop(client.say(line).await),
        }
        settle().await;
        assert_eq!(held(), 0, "{line}");
    }
}

/// Of one identity they hold half of its share; alone it has as many as everybody must take (RFC 5321 §4.5.3.1.8).
#[tokio::test(start_paused = true)]
async fn one_identitys_recipients_leave_room_for_others() {
    let stage = stage(25, queued());
    let mut open = Vec::new();
    let mut first = stage.client("alice").await;
    assert_eq!(fill(&mut first, 100).await, 100);
    for _ in 0..20 {
        let mut client = stage.client("alice").await;
        fill(&mut client, 100).await;
        open.push(client);
    }
    assert!(stage.house.queue.memory_given_out() <= MEMORY / 8, "{}", stage.house.queue.memory_given_out());
    assert_eq!(fill(&mut stage.client("bob").await, 100).await, 100);
    // Who asks again and again is left, and tells nobody by that whom one may write to.
    let mut last = open.remove(0);
    let mut said = String::new();
    for number in 0..1000 {
        said = rcpt(&mut last, number).await;
        if said != NO_ROOM {
            break;
        }
    }
    assert!(said.starts_with("421"), "{said}");
}
