//! How long we wait for an upstream in each phase: virtual time counts, nothing sleeps.

use std::time::Duration;

use sealpost::upstream::{Deadlines, Phase};

#[test]
fn no_phase_is_given_less_time_than_rfc_5321_asks_for() {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    // RFC 5321 §4.5.3.2.1 to §4.5.3.2.6.
    let least = [
        (Phase::Greeting, minutes(5)),
        (Phase::Mail, minutes(5)),
        (Phase::Recipient, minutes(5)),
        (Phase::Data, minutes(2)),
        (Phase::EndOfData, minutes(10)),
    ];
    let deadlines = Deadlines::default();
    for (phase, least) in least {
        assert!(deadlines.of(phase) >= least, "{phase:?} is given {:?}", deadlines.of(phase));
    }
    assert!(deadlines.block >= minutes(3), "a piece of the body is given {:?}", deadlines.block);
}
