//! `queue.recheck`: whether he who sent a message that still waits would be let in now. Of a message that was to wait (FUTURERELEASE) it is asked always.
//!
//! The newest snapshot is asked: the roster for the identity, the CRLs for each certificate of the recorded chain, the listeners for the load balancer that
//! vouched for it, if one did. That a certificate has ended meanwhile stops nothing: it was good when the message was accepted. Of messages from before chains were recorded as octets only the
//! identity is looked up. Pure. Never: matches on text; stops our own reports, nor what an operator has let go.

use std::str::FromStr as _;

use crate::identity::{Digest256, Link};
use crate::queue::{self, Custodian, Record};
use crate::snapshot::{Recheck, Snapshot};
use crate::tls::Witness;

/// Why the message must not go out, when it must not.
pub(super) fn lapsed(record: &Record, snapshot: &Snapshot) -> Option<String> {
    let custodian = &record.custodian;
    // RFC 4865 §4: what was to wait is sent when it is released, and by whom it is let in then.
    let is_asked = snapshot.recheck == Recheck::Yes || record.envelope.parameters().hold_until.is_some();
    if !is_asked || record.recheck == queue::Recheck::Waived || custodian.is_ours() {
        return None;
    }
    why(custodian, snapshot).map(|why| format!("{}: {why}", custodian.identity))
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
