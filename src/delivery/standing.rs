//! `queue.recheck`: whether he who sent a message that still waits would be let in now.
//!
//! The newest snapshot is asked: the roster for the identity, the CRLs for each certificate of the recorded chain. That a certificate has
//! ended meanwhile stops nothing: it was good when the message was accepted. Of messages from before chains were recorded as octets only the
//! identity is looked up. Pure. Never: matches on text; stops our own reports, nor what an operator has let go.

use std::str::FromStr as _;

use super::REPORTS;
use crate::identity::{Digest256, Link};
use crate::queue::{self, Custodian, Record};
use crate::snapshot::{Recheck, Snapshot};

/// Why the message must not go out, when it must not.
pub(super) fn lapsed(record: &Record, snapshot: &Snapshot) -> Option<String> {
    let custodian = &record.custodian;
    if snapshot.recheck == Recheck::No || record.recheck == queue::Recheck::Waived || is_ours(custodian) {
        return None;
    }
    why(custodian, snapshot).map(|why| format!("{}: {why}", custodian.identity))
}

/// Whether it is a report of our own: no certificate sent it. An identity may be called as reports are.
pub(super) fn is_ours(custodian: &Custodian) -> bool {
    custodian.identity == REPORTS && custodian.fingerprint.is_empty()
}

fn why(custodian: &Custodian, snapshot: &Snapshot) -> Option<String> {
    let fingerprint = Digest256::from_str(&custodian.fingerprint).ok();
    let key = custodian.key.map(Digest256);
    let known = snapshot.roster.standing(&custodian.identity, custodian.ca.as_deref(), fingerprint, key);
    if let Err(lapsed) = known {
        return Some(lapsed.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::samples;
    use crate::sys::WallTime;

    #[test]
    fn who_is_called_as_reports_are_is_not_one() {
        let sent = samples::deposit(WallTime::from_seconds(0)).custodian;
        let of = |fingerprint: &str| Custodian {
            identity: REPORTS.to_owned(),
            fingerprint: fingerprint.to_owned(),
            ..sent.clone()
        };
        assert!(is_ours(&of("")) && !is_ours(&of(&sent.fingerprint)) && !is_ours(&sent));
    }
}
