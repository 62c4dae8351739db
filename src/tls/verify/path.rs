//! What a path that webpki finds good must be besides: its anchor, its CAs by RFC 5280 as far as webpki leaves that out, the CA's own rules,
//! e-mail name constraints, revocation.
//!
//! webpki's path ends at what it takes for an anchor. Where that is a constrained intermediate, the path goes on from there to a configured
//! anchor ([`ways`](crate::tls::ways)), and what is asked of any certificate is asked of those too.
//!
//! Pure, like its parent.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, VerifiedPath};

use super::{ALGORITHMS, check_validity};
use crate::sys::WallTime;
use crate::tls::CertificateFault;
use crate::tls::rejection::{Culprit, Flaw, Rejection};
use crate::tls::revocation::{RevocationMode, Status};
use crate::tls::rules::{KeyKind, Policies, Purposes, policy_is_valid};
use crate::tls::trust::{AnchorView, ClientCa};
use crate::tls::view::{Purpose, View};
use crate::tls::ways::{Link, Way};

/// A path that is in order.
#[derive(Clone, Debug)]
pub(in crate::tls) struct GoodPath {
    /// The leaf first, the configured anchor last.
    pub(in crate::tls) links: Vec<Link>,
    /// When the first of them ends.
    pub(in crate::tls) ends: WallTime,
    /// The earliest end of all that it rests on, a CRL among it.
    pub(in crate::tls) good_until: WallTime,
}

/// Asks of a path that webpki finds good what webpki does not ask. `below` is the path without its anchor.
pub(super) fn check_path(
    ca: &ClientCa,
    below: &[Link],
    path: &VerifiedPath<'_>,
    now: WallTime,
    time: UnixTime,
) -> Result<GoodPath, Rejection> {
    // One name and key may stand in several certificates (renewed, or under several CAs), and each may lead up in several ways. One that is in
    // order is enough, as it is in RFC 5280 §6.1; the one that lasts longest vouches.
    let mut best: Option<GoodPath> = None;
    let mut held: Option<Rejection> = None;
    for anchor in ca.anchors().iter().filter(|anchor| anchor.trusted == *path.anchor()) {
        for way in &anchor.ways {
            match check_way(ca, below, path, anchor, way, now, time) {
                Ok(good) => {
                    if best.as_ref().is_none_or(|best| best.good_until < good.good_until) {
                        best = Some(good);
                    }
                }
                Err(rejection) => {
                    held = Some(match held.take() {
                        Some(earlier) => earlier.heavier(rejection),
                        None => rejection,
                    });
                }
            }
        }
    }
    best.ok_or_else(|| held.unwrap_or_else(|| Rejection::untrusted(Flaw::Broken, None)))
}

fn check_way(
    ca: &ClientCa,
    below: &[Link],
    path: &VerifiedPath<'_>,
    anchor: &AnchorView,
    way: &Way,
    now: WallTime,
    time: UnixTime,
) -> Result<GoodPath, Rejection> {
    let links: Vec<Link> = below.iter().chain([&anchor.link]).chain(way).cloned().collect();
    let views: Vec<&View> = links.iter().map(|link| &*link.view).collect();
    let mut ends = WallTime::MAX;
    for (depth, view) in views.iter().enumerate() {
        check_validity(view, depth, now)?;
        check_certificate(ca, view, depth)?;
        ends = ends.min(view.not_after);
    }
    check_length(ca, &views)?;
    check_purposes(ca, &views)?;
    check_policies(ca, &views)?;
    check_mail_names(&views)?;
    check_other_names(path, anchor, way, ca, time)?;
    let mut good_until = ends;
    for (depth, pair) in views.windows(2).enumerate() {
        if let [certificate, issuer] = pair {
            good_until = good_until.min(check_revocation(ca, certificate, issuer, depth, now)?);
        }
    }
    Ok(GoodPath { links, ends, good_until })
}

fn refuse(flaw: Flaw, view: &View, depth: usize) -> Rejection {
    Rejection::untrusted(flaw, Some(Culprit::of(view, depth)))
}

/// RFC 5280 §6.1.4 (k), (n): an issuer is a CA, and one with a key usage has keyCertSign in it. webpki leaves out the second, and both of the
/// anchor.
fn check_certificate(ca: &ClientCa, view: &View, depth: usize) -> Result<(), Rejection> {
    let keys = ca.rules().keys;
    if depth > 0 && (!view.is_ca || view.signs_certificates == Purpose::Forbidden) {
        Err(refuse(Flaw::IssuerNotACa, view, depth))
    } else if keys.is_short(view.key_kind) {
        Err(refuse(Flaw::WeakKey(keys.rsa_bits_min), view, depth))
    } else if view.key_kind == KeyKind::Other {
        Err(refuse(Flaw::KeyKind, view, depth))
    } else if view.serial.is_none() {
        Err(refuse(Flaw::LongSerial, view, depth))
    } else {
        Ok(())
    }
}

/// RFC 5280 §6.1.4 (l), (m): pathLenConstraint counts the intermediates below that are not self-issued; the anchor's counts too.
fn check_length(ca: &ClientCa, views: &[&View]) -> Result<(), Rejection> {
    let most = ca.rules().chain_max;
    if views.len() > most {
        return Err(Rejection::untrusted(Flaw::ChainTooLong(most), views.first().map(|leaf| Culprit::of(leaf, 0))));
    }
    let mut below: u32 = 0;
    for (depth, view) in views.iter().enumerate().skip(1) {
        if view.path_length.is_some_and(|length| below > length) {
            return Err(refuse(Flaw::PathLength, view, depth));
        }
        below = below.saturating_add(u32::from(!view.is_self_issued()));
    }
    Ok(())
}

/// One purpose must hold from the leaf to the last CA below the anchor.
fn check_purposes(ca: &ClientCa, views: &[&View]) -> Result<(), Rejection> {
    let Some((_, [leaf, cas @ ..])) = views.split_last() else { return Ok(()) };
    let mut wanted = ca.rules().purposes.wanted_of_issuers(leaf.purposes);
    for (depth, view) in (1..).zip(cas) {
        let Some(stated) = view.purposes.filter(|stated| !stated.any) else { continue };
        wanted = wanted.common(stated);
        if wanted == Purposes::NONE {
            return Err(refuse(Flaw::CaNotForClients, view, depth));
        }
    }
    Ok(())
}

fn check_policies(ca: &ClientCa, views: &[&View]) -> Result<(), Rejection> {
    let policies: Vec<&Policies> = views.iter().map(|view| &view.policies).collect();
    let wanted = &ca.rules().policies;
    match views.first() {
        Some(leaf) if !wanted.is_empty() && !policy_is_valid(wanted, &policies) => Err(refuse(Flaw::Policy, leaf, 0)),
        Some(_) | None => Ok(()),
    }
}

/// RFC 5280 §6.1.3 (b), (c) for e-mail: each certificate under the constraints of each one above it, the anchor's among them. Also of those
/// that webpki has looked at: it does not know SmtpUTF8Mailbox.
fn check_mail_names(views: &[&View]) -> Result<(), Rejection> {
    for (place, above) in views.iter().enumerate() {
        let Some(constraints) = above.constraints.as_ref().filter(|constraints| !constraints.mail.is_empty()) else {
            continue;
        };
        let below = views.iter().enumerate().take(place);
        if let Some((depth, view)) = below.into_iter().find(|(_, view)| !constraints.mail.allow(&view.mail_names)) {
            return Err(refuse(Flaw::NameConstraints, view, depth));
        }
    }
    Ok(())
}

/// The other constraints above a constrained intermediate: webpki is asked about the same path once more under each of them.
fn check_other_names(
    path: &VerifiedPath<'_>,
    anchor: &AnchorView,
    way: &Way,
    ca: &ClientCa,
    time: UnixTime,
) -> Result<(), Rejection> {
    let intermediates: Vec<CertificateDer<'_>> =
        path.intermediate_certificates().map(|certificate| certificate.der()).collect();
    for (above, link) in way.iter().enumerate() {
        let Some(others) = link.view.constraints.as_ref().and_then(|constraints| constraints.others.as_ref()) else {
            continue;
        };
        let trusted = [TrustAnchor {
            subject: anchor.trusted.subject.as_ref().into(),
            subject_public_key_info: anchor.trusted.subject_public_key_info.as_ref().into(),
            name_constraints: Some(others.as_slice().into()),
        }];
        let usage = Stated(ca.rules().purposes);
        let again = path.end_entity().verify_for_usage(ALGORITHMS, &trusted, &intermediates, time, usage, None, None);
        if let Err(error) = again {
            // The path is the same; only the constraints are new.
            let depth = intermediates.len().saturating_add(above).saturating_add(2);
            return Err(refuse(Flaw::of(&error), &link.view, depth));
        }
    }
    Ok(())
}

fn check_revocation(
    ca: &ClientCa,
    certificate: &View,
    issuer: &View,
    depth: usize,
    now: WallTime,
) -> Result<WallTime, Rejection> {
    if ca.revocation() == RevocationMode::Off {
        return Ok(WallTime::MAX);
    }
    let fault = |fault| Err(Rejection::of(fault, Some(Culprit::of(certificate, depth))));
    match (ca.crls().status(certificate, issuer, ca.crl_grace(), now), ca.revocation()) {
        (Status::Revoked, _) => fault(CertificateFault::Revoked),
        (Status::Good { until }, _) => Ok(until),
        (Status::Unknown, RevocationMode::Require) => {
            let lacks = Some(ca.crls().lack(certificate, issuer));
            fault(CertificateFault::RevocationUnknown).map_err(|rejection| Rejection { lacks, ..rejection })
        }
        (Status::Unknown, RevocationMode::IfAvailable | RevocationMode::Off) => Ok(WallTime::MAX),
    }
}

/// RFC 5280 §4.2.1.12, as webpki asks it of each certificate: who states purposes must state one that the CA takes, or any. Which one, and
/// what the leaf must state, is asked above and of the leaf alone.
pub(super) struct Stated(pub(super) Purposes);

impl ExtendedKeyUsageValidator for Stated {
    fn validate(&self, stated: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 2]);
        const EMAIL_PROTECTION: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 4]);
        const SERVER_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 1]);
        const ANY: KeyPurposeId<'static> = KeyPurposeId::new(&[85, 29, 37, 0]);
        let mut others = false;
        for purpose in stated {
            let purpose = purpose?;
            let taken = purpose == ANY
                || purpose == CLIENT_AUTH
                || (self.0.email_protection && purpose == EMAIL_PROTECTION)
                || (self.0.server_auth && purpose == SERVER_AUTH);
            if taken {
                return Ok(());
            }
            others = true;
        }
        // Any error will do: `refused_by_webpki` says it in our words.
        if others { Err(webpki::Error::EmptyEkuExtension) } else { Ok(()) }
    }
}

/// The links of a path of webpki's without its anchor: from what is at hand, else read again.
pub(super) fn links_below(leaf: &Link, at_hand: &[&Link], path: &VerifiedPath<'_>) -> Option<Vec<Link>> {
    let mut links = vec![leaf.clone()];
    for certificate in path.intermediate_certificates() {
        let der = certificate.der();
        let link = match at_hand.iter().find(|link| link.der == der) {
            Some(link) => (*link).clone(),
            None => Link { view: Arc::new(View::of(&der)?), der: der.into_owned() },
        };
        links.push(link);
    }
    Some(links)
}
