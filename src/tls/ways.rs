//! The ways from a constrained CA certificate up to an anchor, over configured certificates only.
//!
//! A configured intermediate with e-mail name constraints is shown to webpki as an anchor without these subtrees, since webpki refuses every
//! e-mail name below it (see [`constraints`](super::constraints)). What webpki then no longer sees, the certificates from it up to an anchor,
//! is found here when the configuration is loaded: names and signatures, which do not change. What may change with time or with a CA's rules
//! (validity, revocation, path length, purposes, keys) is asked of these certificates at every judgement, as of all others.
//!
//! Never: follows a certificate that a client sent; takes one that webpki would not read, unknown critical extensions among it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::rules::CHAIN_MOST;
use super::signature;
use super::view::View;

/// The most ways that are kept for one certificate.
const WAYS_MAX: usize = 16;
/// The most signatures that are verified to find them.
const SIGNATURES_MAX: usize = 200;

/// A certificate and what it says.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) der: CertificateDer<'static>,
    pub(super) view: Arc<View>,
}

/// The certificates above one, in order, an anchor last.
pub(super) type Way = Vec<Link>;

/// Whether this certificate was issued by that one, by name and by signature. Of what can't be read, or is signed by means unknown here, nothing is known: it may
/// have been.
pub(crate) fn is_issued_by(one: &CertificateDer<'_>, issuer: &CertificateDer<'_>) -> bool {
    let (Some(below), Some(above)) = (View::of(one), View::of(issuer)) else { return true };
    below.issuer == above.subject
        && signature::verify_certificate(one, &above.spki) != Err(signature::Unverified::WrongKey)
}

/// All ways from `start` to one of the anchors.
pub(super) fn up(start: &Link, intermediates: &[Link], anchors: &[Link]) -> Vec<Way> {
    let mut search = Search { intermediates, anchors, signatures: 0, found: Vec::new() };
    if is_readable(start) {
        search.climb(&mut vec![start.clone()]);
    }
    search.found
}

struct Search<'a> {
    intermediates: &'a [Link],
    anchors: &'a [Link],
    signatures: usize,
    found: Vec<Way>,
}

impl Search<'_> {
    /// Not deeper than a path may be long.
    fn climb(&mut self, path: &mut Vec<Link>) {
        let Some(last) = path.last().cloned() else { return };
        if path.len() >= CHAIN_MOST || self.found.len() >= WAYS_MAX {
            return;
        }
        for anchor in self.anchors {
            if self.is_signed_by(&last, anchor) {
                let way: Way = path.iter().skip(1).chain([anchor]).cloned().collect();
                if !is_constrained_in_vain(path.iter().chain([anchor])) {
                    self.found.push(way);
                }
            }
        }
        for next in self.intermediates {
            let walked =
                path.iter().any(|link| link.view.key == next.view.key && link.view.subject == next.view.subject);
            if !walked && is_readable(next) && self.is_signed_by(&last, next) {
                path.push(next.clone());
                self.climb(path);
                path.pop();
            }
        }
    }

    fn is_signed_by(&mut self, link: &Link, issuer: &Link) -> bool {
        if link.view.issuer != issuer.view.subject || self.signatures >= SIGNATURES_MAX {
            return false;
        }
        self.signatures = self.signatures.saturating_add(1);
        signature::verify_certificate(&link.der, &issuer.view.spki).is_ok()
    }
}

/// Whether webpki can read it: the right version, no malformed and no unknown critical extension.
fn is_readable(link: &Link) -> bool {
    EndEntityCert::try_from(&link.der).is_ok()
}

/// Whether one of these CA certificates has names that the constraints of one above it are about, other than e-mail: nobody would compare
/// them. Seldom, since CAs have no names besides their subject; constraints on that one webpki refuses too.
fn is_constrained_in_vain<'a>(path: impl Iterator<Item = &'a Link>) -> bool {
    let mut below: Vec<u8> = Vec::new();
    for link in path {
        if link.view.constraints.as_ref().is_some_and(|constraints| !below.is_empty() && constraints.concern(&below)) {
            return true;
        }
        // Every certificate has a subject.
        below.push(0xa4);
        below.extend(&link.view.name_tags);
    }
    false
}
