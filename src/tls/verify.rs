//! The one judge of a client's chain (RFC 5280 §6).
//!
//! [`judge`] is called after the handshake, at MAIL, by `explain`, and inside the rustls verifier in alert mode; nothing else decides whether a
//! certificate is good, and nothing else makes a [`VerifiedChain`].
//!
//! CA by CA: do the issuer names lead to an anchor at all? Is the leaf in its validity, meant for client authentication, its key strong
//! enough? Then webpki builds and checks the path (signatures, validity, basic constraints, path lengths, name constraints, unknown critical
//! extensions), and each path it finds is asked: are the anchor and the CAs of it in order, is any certificate of it revoked?
//! Only if no CA's path can be had at all may a pin of the roster vouch instead, never for what is expired or revoked.
//!
//! Known traps, and how they are avoided:
//! - A CA of the same name gives a wrong signature, not an unknown issuer: reported as such.
//! - webpki takes a leaf without extended key usage for any purpose: here it must say clientAuth.
//! - webpki's trust anchors have no dates: here the anchor's dates count.
//! - A CA with e-mail name constraints refuses every certificate with an e-mail name. That check happens inside the path building; its error
//!   is never overridden, by a pin neither.
//! - Hostile chains: number and size of the certificates are limited, and a chain that leads by name to none of our CAs costs no signature
//!   check. webpki bounds the rest (100 signatures, 6 intermediates).
//!
//! Pure: no clock, no file, no log. What can fail is a [`Rejection`].

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, VerifiedPath};

use super::rejection::{Culprit, Flaw, Rejection};
use super::revocation::{RevocationMode, Status};
use super::trust::{AnchorView, ClientCa, Trust};
use super::view::{Purpose, View};
use super::{Anchor, CertificateFault, PeerChain};
use crate::identity::facts::Digest256;
use crate::sys::WallTime;

/// The most certificates a client may show. A path has at most 8: the leaf, webpki's 6 intermediates, the anchor.
pub const CHAIN_CERTIFICATES_MAX: usize = 10;
/// The most octets of one certificate.
pub const CERTIFICATE_OCTETS_MAX: usize = 32 * 1024;
/// The most octets of all certificates a client shows.
pub const CHAIN_OCTETS_MAX: usize = 64 * 1024;

/// The signatures taken in chains and CRLs: RSA from 2048 bits (PKCS#1 1.5 and PSS), ECDSA, Ed25519; SHA-256 and up, no SHA-1.
pub(super) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P256_SHA512,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA512,
    webpki::aws_lc_rs::ECDSA_P521_SHA256,
    webpki::aws_lc_rs::ECDSA_P521_SHA384,
    webpki::aws_lc_rs::ECDSA_P521_SHA512,
    webpki::aws_lc_rs::ED25519,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
];

/// A chain that has been judged good. Made by [`judge`] only.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    anchor: Anchor,
    leaf: CertificateDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
    /// SHA-256 of the anchor's SubjectPublicKeyInfo; none for a pin.
    anchor_key: Option<Digest256>,
    good_until: WallTime,
}

impl VerifiedChain {
    /// SHA-256 of the key that signed the last of [`Self::certificates`]; none for a pin.
    pub fn anchor_key(&self) -> Option<Digest256> {
        self.anchor_key
    }

    /// What it was verified to.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// The client's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.leaf
    }

    /// The path as it was built: the leaf first, the anchor left out; not what the client happened to send. Never empty.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// Until when this may be relied on: the earliest notAfter of the chain, its anchor included, and nextUpdate of each CRL it rests on.
    pub fn good_until(&self) -> WallTime {
        self.good_until
    }
}

/// Judges a chain; the fault is what the reply is made from. See [`judge`] for what the log wants.
pub fn verify(chain: &PeerChain, trust: &Trust, now: WallTime) -> Result<VerifiedChain, CertificateFault> {
    judge(chain, trust, now).map_err(|rejection| rejection.fault)
}

/// Judges a chain.
pub fn judge(chain: &PeerChain, trust: &Trust, now: WallTime) -> Result<VerifiedChain, Rejection> {
    let shown = Shown::read(chain)?;
    let mut rejection = shown.stranger();
    for ca in trust.cas() {
        match under(ca, &shown, now) {
            Ok(verified) => return Ok(verified),
            Err(other) => rejection = rejection.heavier(other),
        }
    }
    by_pin(&shown, trust, now, rejection)
}

/// What the client showed, read and within limits.
struct Shown<'a> {
    leaf: &'a CertificateDer<'static>,
    leaf_view: View,
    /// What can't be read of the rest is left out: it helps no path.
    others: Vec<(&'a CertificateDer<'static>, View)>,
}

impl<'a> Shown<'a> {
    fn read(chain: &'a PeerChain) -> Result<Self, Rejection> {
        let PeerChain(certificates) = chain;
        let (leaf, others) = certificates.split_first().ok_or_else(|| Rejection::untrusted(Flaw::Malformed, None))?;
        if certificates.len() > CHAIN_CERTIFICATES_MAX {
            return Err(Rejection::untrusted(Flaw::TooManyCertificates, None));
        }
        let sizes = || certificates.iter().map(|der| der.as_ref().len());
        if sizes().any(|size| size > CERTIFICATE_OCTETS_MAX) || sizes().sum::<usize>() > CHAIN_OCTETS_MAX {
            return Err(Rejection::untrusted(Flaw::TooLarge, None));
        }
        let leaf_view = View::of(leaf).ok_or_else(|| Rejection::untrusted(Flaw::Malformed, None))?;
        if leaf_view.serial.is_none() {
            return Err(Rejection::untrusted(Flaw::LongSerial, Some(Culprit::of(&leaf_view, 0))));
        }
        let others = others.iter().filter_map(|der| View::of(der).map(|view| (der, view))).collect();
        Ok(Self { leaf, leaf_view, others })
    }

    fn leaf_culprit(&self) -> Option<Box<Culprit>> {
        Some(Culprit::of(&self.leaf_view, 0))
    }

    /// What is to be said when no CA's name fits.
    fn stranger(&self) -> Rejection {
        let alone = self.others.is_empty() && self.leaf_view.subject != self.leaf_view.issuer;
        let flaw = if alone { Flaw::UnknownIssuerOrGap } else { Flaw::UnknownIssuer };
        Rejection::untrusted(flaw, self.leaf_culprit())
    }
}

/// Judges under one CA.
fn under(ca: &ClientCa, shown: &Shown<'_>, now: WallTime) -> Result<VerifiedChain, Rejection> {
    if !leads_to(ca, shown) {
        return Err(shown.stranger());
    }
    let judged = match check_leaf(&shown.leaf_view, now) {
        Ok(()) => build_path(ca, shown, now),
        Err(rejection) => Err(rejection),
    };
    judged.map_err(|rejection| Rejection { ca: Some(Arc::clone(ca.name())), ..rejection })
}

/// Whether issuer names lead from the leaf to an anchor. Nothing is proved by it, but what does not lead there by name has no path, whatever
/// its dates and purposes are; and a stranger costs us no signature check.
fn leads_to(ca: &ClientCa, shown: &Shown<'_>) -> bool {
    let anchors: HashSet<&[u8]> = ca.anchors().iter().map(|anchor| anchor.view.subject.as_slice()).collect();
    let helpers: Vec<&View> = issuers(ca, shown).map(|(_, view)| view).collect();
    let mut wanted = vec![shown.leaf_view.issuer.as_slice()];
    let mut seen: HashSet<&[u8]> = HashSet::new();
    while let Some(name) = wanted.pop() {
        if anchors.contains(name) {
            return true;
        }
        if seen.insert(name) {
            wanted.extend(helpers.iter().filter(|view| view.subject == name).map(|view| view.issuer.as_slice()));
        }
    }
    false
}

/// The certificates a path may lead over.
fn issuers<'a>(
    ca: &'a ClientCa,
    shown: &'a Shown<'_>,
) -> impl Iterator<Item = (&'a CertificateDer<'static>, &'a View)> {
    let shown = shown.others.iter().map(|(der, view)| (*der, view));
    shown.chain(ca.intermediates().iter().map(|(der, view)| (der, view)))
}

/// What the leaf must be by itself.
fn check_leaf(leaf: &View, now: WallTime) -> Result<(), Rejection> {
    let culprit = || Some(Culprit::of(leaf, 0));
    check_validity(leaf, 0, now)?;
    let flaw = if leaf.is_ca {
        Flaw::CaAsLeaf
    } else if leaf.client_auth != Purpose::Allowed {
        Flaw::NotForClients
    } else if leaf.signs_handshakes == Purpose::Forbidden {
        // RFC 8446 §4.4.2.4, RFC 5246 §7.4.6: the key must be allowed to sign the handshake.
        Flaw::NotForSignatures
    } else if leaf.weak_key {
        Flaw::WeakKey
    } else {
        return Ok(());
    };
    Err(Rejection::untrusted(flaw, culprit()))
}

fn check_validity(view: &View, depth: usize, now: WallTime) -> Result<(), Rejection> {
    let fault = if view.covers(now) {
        return Ok(());
    } else if now < view.not_before {
        CertificateFault::NotYetValid { from: view.not_before }
    } else {
        CertificateFault::Expired { at: view.not_after }
    };
    Err(Rejection::of(fault, Some(Culprit::of(view, depth))))
}

fn build_path(ca: &ClientCa, shown: &Shown<'_>, now: WallTime) -> Result<VerifiedChain, Rejection> {
    let helpers: Vec<CertificateDer<'_>> =
        issuers(ca, shown).map(|(der, _)| CertificateDer::from(der.as_ref())).collect();
    let leaf = EndEntityCert::try_from(shown.leaf).map_err(|error| refused_by_webpki(&error, ca, shown, now))?;
    // What we hold against paths that webpki finds good; and of the path taken, until when it is good.
    let held_against: RefCell<Option<Rejection>> = RefCell::new(None);
    let good_until = RefCell::new(WallTime::MAX);
    let check = |path: &VerifiedPath<'_>| match check_path(ca, &shown.leaf_view, path, now) {
        Ok(until) => {
            good_until.replace(until);
            Ok(())
        }
        Err(rejection) => {
            let mut held = held_against.borrow_mut();
            *held = Some(match held.take() {
                Some(earlier) => earlier.heavier(rejection),
                None => rejection,
            });
            Err(webpki::Error::CertDistrusted)
        }
    };
    let seconds = Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0));
    let time = UnixTime::since_unix_epoch(seconds);
    match leaf.verify_for_usage(ALGORITHMS, ca.trusted(), &helpers, time, ClientAuth, None, Some(&check)) {
        Ok(path) => {
            let intermediates = path.intermediate_certificates().map(|certificate| certificate.der().into_owned());
            let certificates = std::iter::once(shown.leaf.clone()).chain(intermediates).collect();
            Ok(VerifiedChain {
                anchor: Anchor::Ca(Arc::clone(ca.name())),
                leaf: shown.leaf.clone(),
                certificates,
                anchor_key: anchor_of(ca, &path, now).map(|anchor| anchor.view.key),
                good_until: good_until.into_inner(),
            })
        }
        Err(error) => Err(held_against.into_inner().unwrap_or_else(|| refused_by_webpki(&error, ca, shown, now))),
    }
}

/// RFC 5280 §4.2.1.12 on the whole path: who states purposes must state this one, or any. That the leaf must state it, and clientAuth itself,
/// is [`check_leaf`]'s.
struct ClientAuth;

impl ExtendedKeyUsageValidator for ClientAuth {
    fn validate(&self, stated: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        // 1.3.6.1.5.5.7.3.2 and 2.5.29.37.0
        const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[43, 6, 1, 5, 5, 7, 3, 2]);
        const ANY: KeyPurposeId<'static> = KeyPurposeId::new(&[85, 29, 37, 0]);
        let mut others = false;
        for purpose in stated {
            let purpose = purpose?;
            if purpose == CLIENT_AUTH || purpose == ANY {
                return Ok(());
            }
            others = true;
        }
        // Any error will do: `refused_by_webpki` says it in our words.
        if others { Err(webpki::Error::EmptyEkuExtension) } else { Ok(()) }
    }
}

/// Asks of a path that webpki finds good what webpki does not ask; gives the time until which it is good.
fn check_path(ca: &ClientCa, leaf: &View, path: &VerifiedPath<'_>, now: WallTime) -> Result<WallTime, Rejection> {
    let broken = || Rejection::untrusted(Flaw::Broken, None);
    let mut steps = vec![leaf.clone()];
    for certificate in path.intermediate_certificates() {
        steps.push(View::of(&certificate.der()).ok_or_else(broken)?);
    }
    let anchor = anchor_of(ca, path, now).ok_or_else(broken)?;
    steps.push(anchor.view.clone());
    let mut good_until = WallTime::MAX;
    for (depth, step) in steps.iter().enumerate() {
        check_validity(step, depth, now)?;
        check_issuer(step, depth)?;
        good_until = good_until.min(step.not_after);
    }
    for (depth, pair) in steps.windows(2).enumerate() {
        if let [step, issuer] = pair {
            good_until = good_until.min(check_revocation(ca, step, issuer, depth, now)?);
        }
    }
    Ok(good_until)
}

/// The anchor that a path leads to. One certificate may be renewed under the same name and key: the one that lasts longest vouches.
fn anchor_of<'a>(ca: &'a ClientCa, path: &VerifiedPath<'_>, now: WallTime) -> Option<&'a AnchorView> {
    let anchors = ca.anchors().iter().filter(|anchor| anchor.trusted == *path.anchor());
    anchors.max_by_key(|anchor| (anchor.view.covers(now), anchor.view.not_after))
}

/// RFC 5280 §6.1.4 (n): a CA with a key usage must have keyCertSign in it; webpki leaves that out.
fn check_issuer(step: &View, depth: usize) -> Result<(), Rejection> {
    let flaw = if depth > 0 && step.signs_certificates == Purpose::Forbidden {
        Flaw::IssuerNotACa
    } else if step.weak_key {
        Flaw::WeakKey
    } else if step.serial.is_none() {
        Flaw::LongSerial
    } else {
        return Ok(());
    };
    Err(Rejection::untrusted(flaw, Some(Culprit::of(step, depth))))
}

fn check_revocation(
    ca: &ClientCa,
    step: &View,
    issuer: &View,
    depth: usize,
    now: WallTime,
) -> Result<WallTime, Rejection> {
    let culprit = || Some(Culprit::of(step, depth));
    if ca.revocation() == RevocationMode::Off {
        return Ok(WallTime::MAX);
    }
    let Some(serial) = step.serial else { return Err(Rejection::untrusted(Flaw::LongSerial, culprit())) };
    match (ca.crls().status((&issuer.subject, issuer.key), serial, now), ca.revocation()) {
        (Status::Revoked, _) => Err(Rejection::of(CertificateFault::Revoked, culprit())),
        (Status::Good { until }, _) => Ok(until),
        (Status::Unknown, RevocationMode::Require) => {
            Err(Rejection::of(CertificateFault::RevocationUnknown, culprit()))
        }
        (Status::Unknown, RevocationMode::IfAvailable | RevocationMode::Off) => Ok(WallTime::MAX),
    }
}

/// webpki's refusal in our words, with the certificate at fault where it can be told.
fn refused_by_webpki(error: &webpki::Error, ca: &ClientCa, shown: &Shown<'_>, now: WallTime) -> Rejection {
    // webpki says when a certificate of a path ended, not which one it was.
    let dated = matches!(error, webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. });
    let mut steps = issuers(ca, shown).map(|(_, view)| view).enumerate();
    let outdated = steps.find_map(|(place, view)| check_validity(view, place.saturating_add(1), now).err());
    match outdated {
        Some(rejection) if dated => rejection,
        Some(_) | None => Rejection::untrusted(Flaw::of(error), shown.leaf_culprit()),
    }
}

/// A pin of the roster vouches where no CA's path can be had at all. The handshake has proved the key; the dates of the leaf still count, and
/// what any CA of ours lists as revoked stays so.
fn by_pin(shown: &Shown<'_>, trust: &Trust, now: WallTime, rejection: Rejection) -> Result<VerifiedChain, Rejection> {
    let Some(flaw) = rejection.flaw else { return Err(rejection) };
    let pins = trust.pins();
    let leaf = &shown.leaf_view;
    let pinned = pins.keys.contains(&leaf.key) || pins.certificates.contains(&Digest256::of(shown.leaf));
    if !pinned || !flaw.pin_may_stand_in() {
        return Err(rejection);
    }
    check_validity(leaf, 0, now)?;
    if leaf.weak_key {
        return Err(Rejection::untrusted(Flaw::WeakKey, shown.leaf_culprit()));
    }
    let asked = trust.cas().iter().filter(|ca| ca.revocation() != RevocationMode::Off);
    if let Some(ca) =
        asked.into_iter().find(|ca| leaf.serial.is_some_and(|serial| ca.crls().lists(&leaf.issuer, serial)))
    {
        let ca = Some(Arc::clone(ca.name()));
        return Err(Rejection { ca, ..Rejection::of(CertificateFault::Revoked, shown.leaf_culprit()) });
    }
    Ok(VerifiedChain {
        anchor: Anchor::Pin,
        leaf: shown.leaf.clone(),
        certificates: vec![shown.leaf.clone()],
        anchor_key: None,
        good_until: leaf.not_after,
    })
}

#[cfg(test)]
mod tests;
