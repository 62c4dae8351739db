//! One identity with more connections than one may have, from many addresses, and with more messages under way than its share of memory has room for: others
//! are let in, and it is told why it is not.

use sealpost::doors::UNDISTURBED;
use sealpost::queue::QueueSettings;
use sealpost::snapshot::{DoorLimits, Snapshot};

use super::half_open::{Besieged, Client, IMPLICIT, STARTTLS, Silent};

/// What is said to one connection too many.
const CROWDED: &str = "421 4.7.0 mail.example.com Too many connections of this identity, close some or try later";

/// With `limits.connections` and `limits.connections_per_identity`.
async fn besieged(connections: usize, connections_per_identity: usize) -> Besieged {
    let besieged = Besieged::new(connections).await;
    besieged.stage.change(|now| {
        let door_limits = DoorLimits { connections_per_identity, ..now.door_limits };
        Snapshot { door_limits, ..now }
    });
    besieged
}

/// Comes as `persona`, from an address of its own, as far as the first reply inside TLS.
async fn comes(besieged: &mut Besieged, persona: &str, door: usize) -> (Client, String) {
    let mut client = besieged.knocks(door).await;
    client = match door {
        IMPLICIT => client.secure(persona).await,
        _ => {
            assert!(client.hear().await.starts_with("220 "));
            client.start_tls(persona).await
        }
    };
    let said = if door == IMPLICIT { client.hear().await } else { client.say("EHLO client.example").await };
    (client, said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_identity_so_many_are_let_in_and_others_beside_them() {
    let mut besieged = besieged(8, 3).await;
    let mut kept = Vec::new();
    for door in [STARTTLS, IMPLICIT, STARTTLS] {
        let (mut client, said) = comes(&mut besieged, "alice", door).await;
        assert!(said.starts_with("250") || said.starts_with("220 "), "{said}");
        client.submit().await;
        kept.push(client);
    }
    for door in [STARTTLS, IMPLICIT] {
        let (client, said) = comes(&mut besieged, "alice", door).await;
        assert_eq!(said, CROWDED);
        assert_eq!(client.until_it_ends().await, "");
    }
    assert_eq!(besieged.stage.house.counts.read().refused, 2);
    // Others have their places, and who is here is not disturbed.
    let (_other, said) = comes(&mut besieged, "bob", STARTTLS).await;
    assert!(said.starts_with("250"), "{said}");
    for client in &mut kept {
        client.submit().await;
    }
    besieged.until_inside(4).await;
    // Who goes makes room for another, whether it says so or not.
    assert!(kept.remove(0).say("QUIT").await.starts_with("221 "));
    drop(kept.pop());
    besieged.until_inside(2).await;
    for _ in 0..2 {
        let (mut client, said) = comes(&mut besieged, "alice", STARTTLS).await;
        assert!(said.starts_with("250"), "{said}");
        client.submit().await;
        kept.push(client);
    }
    assert_eq!(comes(&mut besieged, "alice", STARTTLS).await.1, CROWDED);
}

/// Who is one too many, and silent, holds a place only while nobody wants it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_too_many_leaves_for_a_newcomer() {
    let mut besieged = besieged(3, 1).await;
    let (mut first, _) = comes(&mut besieged, "alice", STARTTLS).await;
    let (mut crowd, mut silent) = (Vec::new(), Vec::new());
    for refused in 1..=2 {
        let mut client = besieged.knocks(STARTTLS).await;
        assert!(client.hear().await.starts_with("220 "));
        crowd.push(client.start_tls("alice").await);
        // TLS 1.3: the client is through before the server has its certificate, and only who is known to be one too many leaves before others.
        besieged.until_refused(refused).await;
    }
    besieged.until_inside(3).await;
    besieged.clock.advance(UNDISTURBED);
    for client in crowd {
        let (mut newcomer, said) = comes(&mut besieged, "bob", STARTTLS).await;
        assert!(said.starts_with("250"), "{said}");
        assert!(client.until_it_ends().await.starts_with("421 4.7.0 "));
        assert!(newcomer.say("QUIT").await.starts_with("221 "));
        besieged.until_inside(2).await;
        silent.push(besieged.attack(Silent::AtOnce).await);
        besieged.until_inside(3).await;
    }
    first.submit().await;
}

/// Who sends slowly over many connections once held all of `queue.memory`, and everybody else heard 452.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_identity_messages_under_way_leave_memory_to_others() {
    let wait = std::time::Duration::from_millis(100);
    let settings =
        QueueSettings { memory: 1 << 20, memory_share_per_identity: 25, wait, ..QueueSettings::new("/queue") };
    let mut besieged = Besieged::with(100, settings).await;
    let (mut sending, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let (mut client, _) = comes(&mut besieged, "alice", STARTTLS).await;
        assert!(client.say("MAIL FROM:<alice@example.com>").await.starts_with("250"));
        assert!(client.say("RCPT TO:<bob@example.net>").await.starts_with("250"));
        let said = client.say("DATA").await;
        match said.split(' ').next() {
            Some("354") => sending.push(client),
            _ => refused.push((client, said)),
        }
    }
    // Sixty-four kibibytes each, and a little for the envelope.
    assert_eq!((sending.len(), refused.len()), (3, 17));
    for (_, said) in &refused {
        assert!(said.starts_with("452 4.3.1 Too much mail of "), "{said}");
    }
    let (mut other, _) = comes(&mut besieged, "metered", STARTTLS).await;
    assert!(other.say("MAIL FROM:<metered@example.com>").await.starts_with("250"));
    assert!(other.say("RCPT TO:<bob@example.net>").await.starts_with("250"));
    assert!(other.say("DATA").await.starts_with("354"));
    // What is over gives back what it held, whether it was kept or the client went away.
    let message = "From: alice@example.com\r\n\r\ntext\r\n.";
    assert!(sending.remove(0).say(message).await.starts_with("250 2.0.0 "));
    let (mut again, _) = refused.remove(0);
    assert!(again.say("DATA").await.starts_with("354"));
    drop(sending.pop());
    besieged.until_inside(19).await;
    assert!(refused.remove(0).0.say("DATA").await.starts_with("354"));
    assert!(again.say(message).await.starts_with("250 2.0.0 "));
}
