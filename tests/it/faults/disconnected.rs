//! A client that is gone, at each octet of what it says.

use std::sync::{Arc, Mutex};

use sealpost::queue::Driving;

use super::relay::{Dialog, How, LARGE, Relay, virtual_time};
use crate::scripted_upstream::{Script, Scripted};

/// The octets at which a client goes: all of a short dialog; of a long one all of the commands, and some of the body.
fn places(dialog: &Dialog) -> Vec<usize> {
    let all = dialog.length();
    (1..=all).filter(|place| *place <= 400 || *place + 200 >= all || place % 30_011 == 0).collect()
}

fn check(how: How, length: usize) {
    virtual_time().block_on(async {
        let relay = Relay::new(Driving::Inline, &Scripted::new(Script::default()));
        let dialog = Dialog::new(how, length);
        let mut kept = 0;
        for place in places(&dialog) {
            let story = format!("{how:?}, gone after {place} octets of {}", dialog.length());
            let (ours, intake) = relay.conversation(dialog.persona);
            let heard: Arc<Mutex<Vec<u16>>> = Arc::default();
            relay.house.tasks.spawn("connection", Box::pin(intake));
            dialog.play(ours, place, Arc::clone(&heard)).await;
            // Whoever is gone is noticed without a timeout: nothing but that task has anything to do.
            relay.house.tasks.wait(std::time::Duration::from_secs(1)).await;
            kept += usize::from(place >= dialog.complete_at());
            relay.is_clean(&dialog, kept, &story).await;
            if dialog.counted && kept > 0 {
                break;
            }
        }
        if !dialog.counted {
            assert_eq!(relay.submit(&dialog).await, 250, "{how:?}");
        }
    });
}

/// The same while the upstream is asked: it has the message when the client said all of it, and otherwise nothing; nothing is kept.
fn check_through(how: How, length: usize, extensions: &[&'static str]) {
    virtual_time().block_on(async {
        let upstream = Scripted::new(Script { extensions: extensions.to_vec(), ..Script::default() });
        let relay = Relay::through(&upstream);
        let dialog = Dialog::new(how, length);
        let mut arrived = 0;
        for place in places(&dialog) {
            let story = format!("{how:?} through, {extensions:?}, gone after {place} octets of {}", dialog.length());
            let (ours, intake) = relay.conversation(dialog.persona);
            relay.house.tasks.spawn("connection", Box::pin(intake));
            dialog.play(ours, place, Arc::default()).await;
            relay.house.tasks.wait(std::time::Duration::from_secs(1)).await;
            arrived += usize::from(place >= dialog.complete_at());
            let taken = upstream.taken();
            assert_eq!(taken.len(), arrived, "{story}: upstream");
            assert!(taken.iter().all(|one| one.octets.ends_with(&dialog.message)), "{story}: not whole");
            relay.is_clean(&dialog, 0, &story).await;
            // As the daemon does now and then: a connection that has carried all it may is in use until it is ended.
            relay.house.courier.close_idle().await;
            let standing = relay.standing();
            assert_eq!((standing.busy, standing.waiting), (0, 0), "{story}: a place is held by nobody");
        }
        assert!(arrived > 0 && relay.submit(&dialog).await == 250, "{how:?} through");
        assert_eq!((upstream.taken().len(), relay.records().await.len()), (arrived + 1, 0));
    });
}

#[test]
fn a_client_gone_at_any_octet_of_data_leaves_nothing_or_its_whole_message() {
    check(How::Data, 200);
}

#[test]
fn a_client_gone_at_any_octet_of_auth_leaves_nothing_or_its_whole_message() {
    check(How::Guarded, 200);
}

#[test]
fn a_client_gone_before_its_message_was_whole_has_spent_nothing_of_its_limit() {
    check(How::Counted, 200);
}

#[test]
fn a_client_gone_in_a_body_that_is_a_file_leaves_no_file() {
    check(How::Data, LARGE);
}

#[test]
fn a_client_gone_at_any_octet_of_chunks_leaves_nothing_or_its_whole_message() {
    check(How::Chunks, 200);
    check(How::Chunks, LARGE);
}

/// RFC 5321 §4.1.1.4: once its end was said the message is delivered, whether or not the client is there to hear it.
#[test]
fn a_client_gone_at_any_octet_while_its_mail_goes_through_leaves_nothing_or_its_whole_message_upstream() {
    for how in [How::Data, How::Chunks] {
        for extensions in [&[][..], &["PIPELINING", "CHUNKING"]] {
            check_through(how, 200, extensions);
        }
    }
    check_through(How::Data, LARGE, &["PIPELINING"]);
}
