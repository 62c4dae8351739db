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

/// A round in which a million messages are late must not read those each time that were told before: they are passed over by name and due time alone.
#[test]
fn a_round_passes_over_what_the_one_before_has_looked_at_and_nothing_else() {
    const HOUR: i64 = 3600;
    let limits =
        |now: i64| Late { warn: Some(at(now - 4 * HOUR)), give_up: at(now - 24 * HOUR), ..Late::astray(at(0)) };
    let limits = |now: i64| Late { astray: None, ..limits(now) };
    // One round was at the 40th hour, this one is half an hour later.
    let (before, now) = (40 * HOUR, 40 * HOUR + 1800);
    let late = limits(now).behind(Some(limits(before).looked(at(before))));
    for (what, came, due, is_looked_at) in [
        ("late and due then", 30 * HOUR, 30 * HOUR, false),
        ("due since", 30 * HOUR, before + 1, true),
        ("due a little before", 30 * HOUR, before - 600, true),
        ("due a while before", 30 * HOUR, before - 3600, false),
        ("not due yet", 30 * HOUR, now + 1, false),
        ("late since", before - 4 * HOUR + 1, 0, true),
        ("late then by its name, and later by when it came", before - 4 * HOUR - 600, 0, true),
        ("late a while before", before - 4 * HOUR - 3600, 0, false),
        ("not late", now - 4 * HOUR + 1, 0, false),
        ("to be given up since", before - 24 * HOUR + 1, 0, true),
        ("to be given up then", before - 24 * HOUR - 3600, 0, false),
    ] {
        assert_eq!(late.may_concern(at(came), at(due), at(now)), is_looked_at, "{what}");
        assert!(!is_looked_at || limits(now).may_concern(at(came), at(due), at(now)), "{what}");
    }
    // A reload that shortens `warn_after` makes much late at once; where nobody is told of delays, the end counts alone.
    let shorter = Late { warn: Some(at(now - HOUR)), ..late };
    assert!(shorter.may_concern(at(38 * HOUR), at(38 * HOUR), at(now)));
    let none = Late { warn: None, ..late };
    assert!(!none.may_concern(at(30 * HOUR), at(30 * HOUR), at(now)));
    assert!(none.may_concern(at(before - 24 * HOUR + 1), at(0), at(now)));
}
