//! Which messages are late, and which are astray: due at a moment that the schedule would never give.

use super::*;
use crate::mail::MailParameters;

fn at(seconds: i64) -> WallTime {
    START.after(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

#[test]
fn what_is_due_beyond_the_schedule_is_astray_unless_its_sender_asked_for_just_that() {
    let astray = Late::astray(at(1000));
    for (what, hold_until, due, late, concerns) in [
        ("within the schedule", None, 1000, astray, false),
        ("beyond it", None, 1001, astray, true),
        // RFC 4865 §4: it waits by its sender's own wish.
        ("as its sender asked", Some(1001), 1001, astray, false),
        ("as its sender asked, long", Some(900_000), 900_000, astray, false),
        ("later than its sender asked: it was put off since", Some(1001), 1002, astray, true),
        ("earlier than its sender asked, and beyond", Some(2000), 1001, astray, true),
        ("nobody looks for it", None, 900_000, Late { astray: None, ..astray }, false),
    ] {
        let mut record = samples::record(7);
        let parameters = MailParameters { hold_until: hold_until.map(at), ..MailParameters::default() };
        let (reverse, recipients) = (record.envelope.reverse_path().clone(), record.envelope.recipients().to_vec());
        record.envelope = Envelope::new(reverse, parameters, recipients).unwrap();
        record.due = at(due);
        assert_eq!(late.concerns(&record, START), concerns, "{what}");
        // Looked at in passing: what it lets pass is never one of them.
        assert!(!concerns || late.may_concern(record.trace.arrived, record.due, START), "{what}");
    }
}
