//! A header section that is being read takes memory of `queue.memory`, as bodies do: refused where there is none, given back at each way out.

use std::time::Duration;

use sealpost::queue::{Driving, QueueSettings};
use sealpost::route::Routes;

use crate::dialog::memory::routes_to;
use crate::scripted_upstream::Script;
use crate::through::stage::{Client, Stage, through, upstream};

const KIB: u64 = 1024;
/// All of `queue.memory`: three messages with headers of the largest size, and one that has begun.
const MEMORY: u64 = 1024 * KIB;
const SECTION: usize = 256 * 1024;
/// What a message holds at most whose section is of the largest size, its envelope among it.
const LARGEST: u64 = 257 * KIB;
/// And at least when 200 KiB of it have come.
const MOST: usize = 200 * 1024;
const BODY: &str = "text\r\n";

/// How a message comes, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Data,
    Chunks,
    Through,
}

const WAYS: [By; 3] = [By::Data, By::Chunks, By::Through];

fn stage(by: By) -> Stage {
    let whole = 100;
    let settings = QueueSettings {
        driving: Driving::Inline,
        cache: 1 << 20,
        memory: MEMORY,
        memory_share_per_identity: whole,
        ..QueueSettings::new("/queue")
    };
    let routes: Routes = match by {
        By::Through => through(vec![upstream()]),
        By::Data | By::Chunks => (*routes_to("*")).clone(),
    };
    Stage::kept_by(settings, Script::default(), Script::default(), routes)
}

/// A section of so many octets, its blank line included.
fn section(from: &str, octets: usize) -> String {
    let line = format!("X-Filling: {}\r\n", "x".repeat(985));
    let mut text = format!("From: {from}@example.com\r\nMessage-ID: <1@example.com>\r\n");
    while text.len() + line.len() + 7 <= octets {
        text.push_str(&line);
    }
    let left = octets - text.len() - 2;
    format!("{text}X:{}\r\n\r\n", "y".repeat(left - 4))
}

/// Up to the first octet of the message.
async fn begin(client: &mut Client, by: By, octets: usize) {
    match by {
        By::Data | By::Through => client.begin(&["r0@example.net"]).await,
        By::Chunks => {
            assert!(client.mail("").await.starts_with("250"));
            assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
            client.write(format!("BDAT {} LAST\r\n", octets + BODY.len()).as_bytes()).await;
        }
    }
}

/// The body, and what is said to it all.
async fn end(client: &mut Client, by: By) -> String {
    let end = match by {
        By::Data | By::Through => ".\r\n",
        By::Chunks => "",
    };
    client.try_say(&format!("{BODY}{end}")).await
}

/// Nobody has anything to do any more.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn headers_under_way_stay_within_the_memory_for_messages_and_the_next_comes_again() {
    for by in WAYS {
        let stage = stage(by);
        let held = || stage.house.queue.memory_given_out();
        let largest = section("alice", SECTION);
        let (most, rest) = largest.split_at(SECTION - 2);
        let mut under_way = Vec::new();
        for number in 1..=3 {
            let mut client = stage.client("alice").await;
            begin(&mut client, by, SECTION).await;
            client.write(most.as_bytes()).await;
            settle().await;
            let octets = number * u64::try_from(SECTION).unwrap();
            assert!((octets..=number * LARGEST).contains(&held()), "{by:?}: {}", held());
            under_way.push(client);
        }
        let all = held();
        let mut late = stage.client("alice").await;
        begin(&mut late, by, SECTION).await;
        late.write(largest.as_bytes()).await;
        let said = end(&mut late, by).await;
        assert!(said.starts_with("452 4.3.1 "), "{by:?}: {said}");
        assert_eq!(held(), all, "{by:?}: what was refused holds nothing");
        // Whose header is judged goes on.
        let mut first = under_way.remove(0);
        first.write(rest.as_bytes()).await;
        settle().await;
        assert!(held() <= all, "{by:?}: nothing counts twice");
        let said = end(&mut first, by).await;
        assert!(said.starts_with("250 2.0.0 "), "{by:?}: {said}");
        assert!(held() <= 2 * LARGEST, "{by:?}");
        begin(&mut late, by, SECTION).await;
        late.write(largest.as_bytes()).await;
        let said = end(&mut late, by).await;
        assert!(said.starts_with("250 2.0.0 "), "{by:?}: {said}");
        drop(under_way);
        settle().await;
        assert_eq!(held(), 0, "{by:?}");
    }
}

/// Most headers are small: they ask for nothing. A larger one's memory is its message's.
#[tokio::test(start_paused = true)]
async fn a_header_counts_once_and_what_every_message_is_granted_holds_most() {
    for by in WAYS {
        for (octets, most) in [(1000, 65 * KIB), (60_000, 65 * KIB), (120_000, 129 * KIB), (200_000, LARGEST)] {
            let story = format!("{by:?}, {octets}");
            let stage = stage(by);
            let held = || stage.house.queue.memory_given_out();
            let text = section("alice", octets);
            let (first, rest) = text.split_at(octets - 2);
            let mut client = stage.client("alice").await;
            begin(&mut client, by, octets).await;
            client.write(first.as_bytes()).await;
            settle().await;
            assert!(held() >= u64::try_from(octets).unwrap() && held() <= most, "{story}: {}", held());
            client.write(rest.as_bytes()).await;
            settle().await;
            assert!(held() >= u64::try_from(octets).unwrap() && held() <= most, "{story}: {} when judged", held());
            let said = end(&mut client, by).await;
            assert!(said.starts_with("250 2.0.0 "), "{story}: {said}");
            assert_eq!(held(), 0, "{story}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_header_holds_is_given_back_at_each_way_out() {
    #[derive(Clone, Copy, Debug)]
    enum Out {
        Kept,
        ClientGone,
        TooSlow,
        /// The header is another's; the body still comes.
        Refused,
        /// The header is over the limit and goes on.
        TooLarge,
    }
    for by in WAYS {
        for out in [Out::Kept, Out::ClientGone, Out::TooSlow, Out::Refused, Out::TooLarge] {
            let story = format!("{by:?}, {out:?}");
            let stage = stage(by);
            let held = || stage.house.queue.memory_given_out();
            let (octets, from) = match out {
                Out::TooLarge => (SECTION + 4000, "alice"),
                Out::Refused => (SECTION, "bob"),
                Out::Kept | Out::ClientGone | Out::TooSlow => (SECTION, "alice"),
            };
            let text = section(from, octets);
            let (most, rest) = text.split_at(MOST);
            let mut client = stage.client("alice").await;
            begin(&mut client, by, octets).await;
            client.write(most.as_bytes()).await;
            settle().await;
            assert!(held() > u64::try_from(MOST).unwrap(), "{story}: {}", held());
            let said = match out {
                Out::Kept => {
                    client.write(rest.as_bytes()).await;
                    let said = end(&mut client, by).await;
                    assert!(said.starts_with("250 2.0.0 "), "{story}: {said}");
                    holds_nothing(&stage, &story).await;
                    continue;
                }
                Out::ClientGone => {
                    drop(client);
                    holds_nothing(&stage, &story).await;
                    continue;
                }
                Out::TooSlow => client.hear().await,
                Out::Refused | Out::TooLarge => {
                    client.write(rest.as_bytes()).await;
                    // Its end may be an hour away.
                    holds_nothing(&stage, &story).await;
                    end(&mut client, by).await
                }
            };
            let expected = match out {
                Out::TooSlow => "421 4.4.2 ",
                Out::Refused => "550 5.7.1 ",
                Out::Kept | Out::ClientGone | Out::TooLarge => "554 5.6.0 ",
            };
            assert!(said.contains(expected), "{story}: {said}");
            holds_nothing(&stage, &story).await;
        }
    }
}

async fn holds_nothing(stage: &Stage, story: &str) {
    settle().await;
    assert_eq!(stage.house.queue.memory_given_out(), 0, "{story}");
}

/// Between chunks a header that is not whole waits for the client, with what it holds.
#[tokio::test(start_paused = true)]
async fn a_header_that_waits_for_its_next_chunk_is_let_go_with_its_transaction() {
    for (line, expected) in [("RSET", "250"), ("EHLO client.example", "250"), ("QUIT", "221"), ("BDAT x", "501")] {
        let stage = stage(By::Chunks);
        let mut client = stage.client("alice").await;
        assert!(client.mail("").await.starts_with("250"));
        assert!(client.rcpt("<r0@example.net>").await.starts_with("250"));
        let text = section("alice", SECTION);
        let (most, _) = text.split_at(MOST);
        client.write(format!("BDAT {}\r\n{most}", most.len()).as_bytes()).await;
        assert!(client.hear().await.starts_with("250"));
        assert!(stage.house.queue.memory_given_out() > u64::try_from(MOST).unwrap(), "{line}");
        let said = client.say(line).await;
        assert!(said.starts_with(expected), "{line}: {said}");
        holds_nothing(&stage, line).await;
    }
}
