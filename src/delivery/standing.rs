//! `queue.recheck`: whether he who sent a message that still waits would be let in now. Of a message that was to wait (FUTURERELEASE) it is asked always.
//!
//! The newest snapshot is asked: the roster for the identity, the CRLs for each certificate of the recorded chain, the listeners for the load balancer that
//! vouched for it, if one did. That a certificate has ended meanwhile stops nothing that waits for an upstream: it was good when the message was accepted. What
//! was to wait is sent by whom its release finds, so its certificate must be good until then; an upstream that is down at that moment takes nothing away any more.
//! Of messages from before chains, or ends, were recorded only the identity is looked up, or what is there. Pure. Never: matches on text; stops our own reports, nor
//! what an operator has let go.

use std::str::FromStr as _;

use crate::identity::{Digest256, Link};
use crate::queue::{self, Custodian, Record};
use crate::snapshot::{Recheck, Snapshot};
use crate::sys::WallTime;
use crate::tls::Witness;

/// Why the message must not go out, when it must not.
pub(super) fn lapsed(record: &Record, snapshot: &Snapshot, now: WallTime) -> Option<String> {
    let custodian = &record.custodian;
    let hold_until = record.envelope.parameters().hold_until;
    // RFC 4865 §4: what was to wait is sent when it is released, and by whom it is let in then.
    let is_asked = snapshot.recheck == Recheck::Yes || hold_until.is_some();
    if !is_asked || record.recheck == queue::Recheck::Waived || custodian.is_ours() {
        return None;
    }
    // An operator may have had it tried before its moment.
    let released = hold_until.map(|until| until.min(now));
    let why = why(custodian, snapshot).or_else(|| ended(custodian, snapshot, released?));
    why.map(|why| format!("{}: {why}", custodian.identity))
}

/// That the certificate was at its end before the message was released. At the door one ends with the second of its notAfter (RFC 5280 §4.1.2.5).
fn ended(custodian: &Custodian, snapshot: &Snapshot, released: WallTime) -> Option<String> {
    let ends = custodian.ends.filter(|ends| ends.seconds() < released.seconds())?;
    let fingerprint = Digest256::from_str(&custodian.fingerprint).ok()?;
    let key = custodian.key.map(Digest256);
    // Of a pin may be said that its certificate counts beyond its end (`pin_ignores_expiry`).
    if snapshot.doors.iter().any(|door| door.trust.pins().count_beyond_expiry(fingerprint, key)) {
        return None;
    }
    Some(format!("its certificate ended on {}, before the message was to be sent", ends.rfc3339()))
}

fn why(custodian: &Custodian, snapshot: &Snapshot) -> Option<String> {
    let fingerprint = Digest256::from_str(&custodian.fingerprint).ok();
    let key = custodian.key.map(Digest256);
    let voucher = custodian.vouched.map(|balancer| (Digest256(balancer.fingerprint), Digest256(balancer.key)));
    let witness = voucher.map_or(Witness::Handshake, |(fingerprint, _)| Witness::Balancer(fingerprint));
    let known = snapshot.roster.standing(&custodian.identity, custodian.ca.as_deref(), fingerprint, key, witness);
    if let Err(lapsed) = known {
        return Some(lapsed.to_string());
    }
    if let Some((fingerprint, key)) = voucher
        && !snapshot.doors.iter().any(|door| door.vouchers.hold(fingerprint, key))
    {
        return Some(format!(
            "the load balancer {fingerprint} vouched for its certificate, and counts at no listener now"
        ));
    }
    let links: Vec<Link> = custodian.links.iter().map(link).collect();
    let place = snapshot.doors.iter().find_map(|door| door.trust.revoked(&links))?;
    let (issuer, serial) = custodian.chain.get(place).cloned().unwrap_or_default();
    Some(format!("the certificate {serial} of {issuer} has been revoked"))
}

fn link(recorded: &queue::Link) -> Link {
    let queue::Link { issuer, issuer_key, serial } = recorded;
    Link { issuer: Digest256(*issuer), issuer_key: issuer_key.map(Digest256), serial: serial.clone() }
}
