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
