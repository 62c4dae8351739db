//! The one judge of a client's chain (RFC 5280 §6).
//!
//! [`judge`] is called after the handshake, at MAIL, by `explain`, and inside the rustls verifier in alert mode; nothing else decides whether a
//! certificate is good, and nothing else makes a [`VerifiedChain`].
//!
//! CA by CA: do the issuer names lead to an anchor at all? Is the leaf in its validity, meant for what the CA's rules say, its key strong
//! enough? Then webpki builds and checks the path (signatures, validity, basic constraints, path lengths, name constraints, unknown critical
//! extensions), and each path it finds is asked (`path`): are the anchor and the CAs of it in order and as the CA's rules want them, do the
//! e-mail constraints hold, is any certificate of it revoked?
//! Only if no CA's path can be had at all may a pin of the roster vouch instead, never for what is revoked, nor for what is expired unless the
//! pin says so.
//!
//! Last, where the CA wants it, an OCSP answer about the leaf must be at hand; the judge never waits for one, it says that it wants it.
//!
//! Known traps, and how they are avoided:
//! - A CA of the same name gives a wrong signature, not an unknown issuer: reported as such.
//! - webpki takes a leaf without extended key usage for any purpose: here it must say clientAuth, or what the CA's rules take instead.
//! - webpki's trust anchors have no dates, no path length, no key usage: here the anchor's count.
//! - Under a CA with e-mail name constraints webpki refuses every certificate with an e-mail name, and knows no SmtpUTF8Mailbox. Of CAs that the
//!   configuration lists, these constraints are kept from webpki and judged here; of others webpki's refusal stands, by a pin neither overridden.
//! - Hostile chains: number and size of the certificates are limited, and a chain that leads by name to none of our CAs costs no signature
//!   check. webpki bounds the rest (100 signatures, 6 intermediates).
//!
//! A chain that a load balancer tells of ([`judge_vouched`]) is judged no otherwise; what is made of it says who has seen that the client holds the
//! key, and is relied on no longer than the balancer is.
//!
//! Pure: no clock, no file, no log. What can fail is a [`Rejection`].

mod path;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use webpki::{EndEntityCert, VerifiedPath};

use self::path::{GoodPath, Stated, check_path, links_below};
use super::constraints::MailName;
use super::ocsp::{CertificateStatus, Known, Query};
use super::recall::Readings;
use super::rejection::{Culprit, Flaw, Rejection};
use super::revocation::RevocationMode;
use super::rules::{CHAIN_MOST, CaRules, KeyKind, KeyRules};
use super::trust::{ClientCa, OcspMode, Trust};
use super::view::{Purpose, View};
use super::vouched::{BalancerFault, BalancerPins, VouchedChain, Witness};
use super::ways::Link;
use super::{Anchor, CertificateFault, PeerChain};
use crate::identity::facts::{self, CertificateSummary, Digest256};
use crate::mail::Address;
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

/// A chain that has been judged good. Made by [`judge`] and [`judge_vouched`] only.
#[derive(Clone, Debug)]
pub struct VerifiedChain {
    anchor: Anchor,
    witness: Witness,
    leaf: CertificateDer<'static>,
    certificates: Vec<CertificateDer<'static>>,
    links: Vec<Link>,
    ends: WallTime,
    good_until: WallTime,
}

impl VerifiedChain {
    /// What logs, audit and the queue keep of it, but for the leaf's e-mail name.
    pub(crate) fn summary(&self) -> Option<CertificateSummary> {
        let leaf = &self.links.first()?.view;
        let below = || self.links.iter().take(self.certificates.len());
        // Each certificate with the key of the next one, the last with the anchor's.
        let keys = self.links.iter().skip(1).map(|issuer| Some(issuer.view.key)).chain([None]);
        let as_listed = |(one, issuer_key): (&Link, Option<Digest256>)| facts::Link {
            issuer: Digest256::of(&one.view.issuer),
            issuer_key,
            serial: one.view.raw_serial.clone(),
        };
        Some(CertificateSummary {
            fingerprint: leaf.fingerprint,
            spki: leaf.key,
            serial: leaf.serial_text.clone(),
            subject: leaf.subject_text.clone(),
            issuer: leaf.issuer_text.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            ends: self.ends,
            email: None,
            chain: below().map(|one| (one.view.issuer_text.clone(), one.view.serial_text.clone())).collect(),
            links: below().zip(keys).map(as_listed).collect(),
        })
    }

    /// What it was verified to.
    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    /// Who has seen that the client holds the leaf's key.
    pub fn witness(&self) -> Witness {
        self.witness
    }

    /// The same as it would be if a load balancer of this fingerprint had told of it, which is worth less; for `explain`.
    #[must_use]
    pub fn as_if_told_by(self, balancer: Digest256) -> Self {
        Self { witness: Witness::Balancer(balancer), ..self }
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

    /// Which of these addresses of the leaf's user principal names lie within the e-mail constraints of every CA above it. RFC 5280 §4.2.1.10
    /// knows no constraints on such names, and a certificate may have one of another suffix; but what grants as an address is held to what
    /// its CA may say of addresses.
    pub(crate) fn permits_each(&self, upns: &[Address]) -> Vec<bool> {
        let names: Vec<MailName> = upns.iter().map(MailName::of).collect();
        let above = self.links.iter().skip(1).filter_map(|link| link.view.constraints.as_ref());
        let mut permitted = vec![true; names.len()];
        for constraints in above.filter(|constraints| !constraints.mail.is_empty()) {
            for (permitted, allowed) in permitted.iter_mut().zip(constraints.mail.allow_each(&names)) {
                *permitted = *permitted && allowed;
            }
        }
        permitted
    }

    /// The certificates of the path below its anchor; all that the client has shown of it are among them.
    fn shown(&self) -> &[Link] {
        self.links.get(..self.certificates.len()).unwrap_or_default()
    }

    /// Whether the other says what this one says in all: then whatever follows from the one follows from the other.
    pub(crate) fn is_the_same(&self, other: &Self) -> bool {
        let Self { anchor, witness, leaf, certificates, links, ends, good_until } = self;
        let same_links =
            || links.iter().map(|one| one.view.fingerprint).eq(other.links.iter().map(|one| one.view.fingerprint));
        *good_until == other.good_until
            && *ends == other.ends
            && *anchor == other.anchor
            && *witness == other.witness
            && *leaf == other.leaf
            && certificates.len() == other.certificates.len()
            && same_links()
    }

    /// Octets of its certificates.
    pub(crate) fn octets(&self) -> usize {
        self.certificates.iter().map(|certificate| certificate.len()).sum()
    }

    /// The path as it was judged, the anchor last: each certificate is signed by the key of the next. A pinned leaf stands alone.
    pub(super) fn links(&self) -> &[Link] {
        &self.links
    }
}

/// Judges a chain; the fault is what the reply is made from. See [`judge`] for what the log wants.
pub fn verify(chain: &PeerChain, trust: &Trust, now: WallTime) -> Result<VerifiedChain, CertificateFault> {
    judge(chain, trust, now).map_err(|rejection| rejection.fault)
}

/// Judges a chain where no OCSP responder can be asked: what one would have to vouch for has no known status.
pub fn judge(chain: &PeerChain, trust: &Trust, now: WallTime) -> Result<VerifiedChain, Rejection> {
    judge_asking(chain, trust, &|_| Some(Known::Unavailable(WallTime::MAX)), now)
}

/// Judges a chain. `known` looks up what OCSP responders have answered; where something is wanted that it does not have, the rejection carries
/// the [`Query`], and the chain is to be judged again when that is answered.
pub fn judge_asking(
    chain: &PeerChain,
    trust: &Trust,
    known: &dyn Fn(&Query) -> Option<Known>,
    now: WallTime,
) -> Result<VerifiedChain, Rejection> {
    let PeerChain(certificates) = chain;
    judge_shown(&Shown::read(certificates, Witness::Handshake, trust.readings())?, trust, known, now)
}

/// Judges a chain that a load balancer tells of, at a listener where `pins` count: [`judge_asking`] otherwise. The balancer must be one of these
/// now, each time that the chain is judged.
pub fn judge_vouched(
    chain: &VouchedChain,
    pins: &BalancerPins,
    trust: &Trust,
    known: &dyn Fn(&Query) -> Option<Known>,
    now: WallTime,
) -> Result<VerifiedChain, Rejection> {
    let balancer = chain.balancer();
    pins.admit_again(balancer, now).map_err(not_vouched)?;
    let witness = Witness::Balancer(balancer.fingerprint());
    let verified = judge_shown(&Shown::read(chain.certificates(), witness, trust.readings())?, trust, known, now)?;
    let good_until = verified.good_until.min(balancer.good_until());
    Ok(VerifiedChain { good_until, ..verified })
}

fn not_vouched(fault: BalancerFault) -> Rejection {
    let lacks = Some(format!("of the load balancer: {fault}"));
    Rejection { lacks, ..Rejection::untrusted(Flaw::NotVouched, None) }
}

fn judge_shown(
    shown: &Shown,
    trust: &Trust,
    known: &dyn Fn(&Query) -> Option<Known>,
    now: WallTime,
) -> Result<VerifiedChain, Rejection> {
    let mut heaviest: Option<Rejection> = None;
    let mut verified = None;
    for ca in trust.cas().iter().filter(|ca| leads_to(ca, shown)) {
        match under(ca, shown, known, now) {
            Ok(first) => verified = verified.or(Some(first)),
            // The same root may stand below two names, one of which asks no CRL: revoked is revoked.
            Err(revoked) if revoked.fault == CertificateFault::Revoked => return Err(revoked),
            Err(other) => {
                heaviest = Some(match heaviest.take() {
                    Some(earlier) => earlier.heavier(other),
                    None => other,
                });
            }
        }
    }
    if let Some(verified) = verified {
        trust.readings().hold(verified.shown());
        return Ok(verified);
    }
    // What is said of a stranger is put together for strangers only.
    let stranger = shown.stranger();
    let rejection = match heaviest {
        Some(heaviest) => stranger.heavier(heaviest),
        None => stranger,
    };
    by_pin(shown, trust, now, rejection)
}

/// What the client showed, read and within limits.
pub(super) struct Shown {
    pub(super) leaf: Link,
    /// What can't be read of the rest is left out: it helps no path.
    pub(super) others: Vec<Link>,
    witness: Witness,
}

impl Shown {
    pub(super) fn read(
        certificates: &[CertificateDer<'static>],
        witness: Witness,
        readings: &Readings,
    ) -> Result<Self, Rejection> {
        let (leaf, others) = certificates.split_first().ok_or_else(|| Rejection::untrusted(Flaw::Malformed, None))?;
        if certificates.len() > CHAIN_CERTIFICATES_MAX {
            return Err(Rejection::untrusted(Flaw::TooManyCertificates, None));
        }
        let sizes = || certificates.iter().map(|der| der.as_ref().len());
        if sizes().any(|size| size > CERTIFICATE_OCTETS_MAX) || sizes().sum::<usize>() > CHAIN_OCTETS_MAX {
            return Err(Rejection::untrusted(Flaw::TooLarge, None));
        }
        let read = |der: &CertificateDer<'static>| {
            let view = readings.of(der).or_else(|| View::of(der).map(Arc::new))?;
            Some(Link { der: der.clone(), view })
        };
        let leaf = read(leaf).ok_or_else(|| Rejection::untrusted(Flaw::Malformed, None))?;
        check_usable(&leaf.der, &leaf.view)?;
        if leaf.view.serial.is_none() {
            return Err(Rejection::untrusted(Flaw::LongSerial, Some(Culprit::of(&leaf.view, 0))));
        }
        Ok(Self { leaf, others: others.iter().filter_map(read).collect(), witness })
    }

    fn leaf_culprit(&self) -> Option<Box<Culprit>> {
        Some(Culprit::of(&self.leaf.view, 0))
    }

    /// What is to be said when no CA's name fits.
    fn stranger(&self) -> Rejection {
        let alone = self.others.is_empty() && !self.leaf.view.is_self_issued();
        let flaw = if alone { Flaw::UnknownIssuerOrGap } else { Flaw::UnknownIssuer };
        Rejection::untrusted(flaw, self.leaf_culprit())
    }
}

/// What TLS itself can't use is good for nothing, pinned or not: the handshake would end at it.
fn check_usable(leaf: &CertificateDer<'_>, view: &View) -> Result<(), Rejection> {
    let Err(error) = EndEntityCert::try_from(leaf) else { return Ok(()) };
    Err(Rejection::untrusted(Flaw::of(&error), Some(Culprit::of(view, 0))))
}

/// The same before a chain is judged, inside the handshake, so that the log learns why it ends there. What TLS can use is not looked at any further:
/// what else is wrong with it, the judge says, in words that the client hears.
pub(super) fn usable_in_handshake(leaf: &CertificateDer<'_>) -> Result<(), Rejection> {
    let Err(error) = EndEntityCert::try_from(leaf) else { return Ok(()) };
    match View::of(leaf) {
        Some(view) => Err(Rejection::untrusted(Flaw::of(&error), Some(Culprit::of(&view, 0)))),
        None => Err(Rejection::untrusted(Flaw::Malformed, None)),
    }
}

/// Judges under one CA, to which names lead.
fn under(
    ca: &Arc<ClientCa>,
    shown: &Shown,
    known: &dyn Fn(&Query) -> Option<Known>,
    now: WallTime,
) -> Result<VerifiedChain, Rejection> {
    let judged = match check_leaf(&shown.leaf.view, ca.rules(), now) {
        Ok(()) => build_path(ca, shown, now),
        Err(rejection) => Err(rejection),
    };
    let judged = judged.and_then(|verified| check_ocsp(ca, verified, known, now));
    judged.map_err(|rejection| Rejection { ca: Some(Arc::clone(ca.name())), ..rejection })
}

/// What the CA's OCSP responder says of the leaf, where it is to be asked (RFC 6960). A missing answer is never taken for a good one unless
/// the CA's rule is `if-available`, and that only when it has been asked for.
fn check_ocsp(
    ca: &Arc<ClientCa>,
    verified: VerifiedChain,
    known: &dyn Fn(&Query) -> Option<Known>,
    now: WallTime,
) -> Result<VerifiedChain, Rejection> {
    let mode = ca.asks().ocsp;
    let [leaf, issuer, ..] = verified.links.as_slice() else { return Ok(verified) };
    if mode == OcspMode::Off {
        return Ok(verified);
    }
    let refused = |fault| Rejection::of(fault, Some(Culprit::of(&leaf.view, 0)));
    let query = Query::new(ca, leaf, issuer);
    let until = match known(&query).filter(|known| now < known.until()) {
        None => {
            let query = Some(Box::new(query));
            return Err(Rejection { query, ..refused(CertificateFault::RevocationUnknown) });
        }
        Some(Known::Answer(CertificateStatus::Revoked, _)) => return Err(refused(CertificateFault::Revoked)),
        Some(Known::Answer(CertificateStatus::Good, until)) => until,
        Some(Known::Answer(CertificateStatus::Unknown, until) | Known::Unavailable(until)) => match mode {
            OcspMode::Require => {
                let lacks = match known(&query) {
                    Some(Known::Answer(..)) => "its OCSP responder does not know it".to_owned(),
                    Some(Known::Unavailable(_)) | None => "no OCSP responder has answered".to_owned(),
                };
                let lacks = Some(format!("{lacks} (ocsp = \"require\"; issuer {})", issuer.view.subject_text));
                return Err(Rejection { lacks, ..refused(CertificateFault::RevocationUnknown) });
            }
            OcspMode::IfAvailable | OcspMode::Off => until,
        },
    };
    let good_until = verified.good_until.min(until);
    Ok(VerifiedChain { good_until, ..verified })
}

/// Whether issuer names lead from the leaf to an anchor. Nothing is proved by it, but what does not lead there by name has no path, whatever
/// its dates and purposes are; and a stranger costs us no signature check.
fn leads_to(ca: &ClientCa, shown: &Shown) -> bool {
    let anchors: HashSet<&[u8]> = ca.anchors().iter().map(|anchor| anchor.link.view.subject.as_slice()).collect();
    let helpers: Vec<&View> = issuers(ca, shown).map(|link| &*link.view).collect();
    let mut wanted = vec![shown.leaf.view.issuer.as_slice()];
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

/// The certificates to which issuer names lead from the leaf, with the least depth at which they could stand.
fn ancestors<'a>(ca: &'a ClientCa, shown: &'a Shown) -> Vec<(usize, &'a View)> {
    let mut found: Vec<(usize, &View)> = Vec::new();
    let mut below = vec![&*shown.leaf.view];
    for depth in 1..CHAIN_MOST {
        let known = |view: &View| found.iter().any(|(_, earlier)| earlier.fingerprint == view.fingerprint);
        let next: Vec<&View> = issuers(ca, shown)
            .map(|link| &*link.view)
            .filter(|view| !known(view) && below.iter().any(|lower| lower.issuer == view.subject))
            .collect();
        found.extend(next.iter().map(|view| (depth, *view)));
        below = next;
    }
    found
}

/// The certificates a path may lead over.
fn issuers<'a>(ca: &'a ClientCa, shown: &'a Shown) -> impl Iterator<Item = &'a Link> {
    shown.others.iter().chain(ca.intermediates())
}

/// What the leaf must be by itself.
fn check_leaf(leaf: &View, rules: &CaRules, now: WallTime) -> Result<(), Rejection> {
    check_validity(leaf, 0, now)?;
    let flaw = if leaf.is_ca {
        Flaw::CaAsLeaf
    } else if !rules.purposes.accept(leaf.purposes) {
        Flaw::NotForClients
    } else if leaf.signs_handshakes == Purpose::Forbidden {
        // RFC 8446 §4.4.2.4, RFC 5246 §7.4.6: the key must be allowed to sign the handshake.
        Flaw::NotForSignatures
    } else {
        return check_key(leaf, rules.keys);
    };
    Err(Rejection::untrusted(flaw, Some(Culprit::of(leaf, 0))))
}

fn check_key(leaf: &View, keys: KeyRules) -> Result<(), Rejection> {
    let flaw = if keys.is_short(leaf.key_kind) {
        Flaw::WeakKey(keys.rsa_bits_min)
    } else if leaf.key_kind == KeyKind::Other {
        Flaw::KeyKind
    } else {
        return Ok(());
    };
    Err(Rejection::untrusted(flaw, Some(Culprit::of(leaf, 0))))
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

fn build_path(ca: &ClientCa, shown: &Shown, now: WallTime) -> Result<VerifiedChain, Rejection> {
    let at_hand: Vec<&Link> = issuers(ca, shown).collect();
    let helpers: Vec<CertificateDer<'_>> = at_hand.iter().map(|link| CertificateDer::from(link.der.as_ref())).collect();
    let leaf = EndEntityCert::try_from(&shown.leaf.der).map_err(|error| refused_by_webpki(&error, ca, shown, now))?;
    let seconds = Duration::from_secs(u64::try_from(now.seconds()).unwrap_or(0));
    let time = UnixTime::since_unix_epoch(seconds);
    // What we hold against paths that webpki finds good; and the path taken.
    let held_against: RefCell<Option<Rejection>> = RefCell::new(None);
    let taken: RefCell<Option<GoodPath>> = RefCell::new(None);
    let check = |path: &VerifiedPath<'_>| {
        let broken = || Rejection::untrusted(Flaw::Broken, None);
        let checked = match links_below(&shown.leaf, &at_hand, path) {
            Some(below) => check_path(ca, &below, path, now, time),
            None => Err(broken()),
        };
        match checked {
            Ok(good) => {
                taken.replace(Some(good));
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
        }
    };
    let usage = Stated(ca.rules().purposes);
    let recalling = ca.recall().over(ALGORITHMS);
    let algorithms: Vec<&dyn SignatureVerificationAlgorithm> =
        recalling.iter().map(|algorithm| -> &dyn SignatureVerificationAlgorithm { algorithm }).collect();
    let verified = leaf.verify_for_usage(&algorithms, ca.trusted(), &helpers, time, usage, None, Some(&check));
    match (verified, taken.into_inner()) {
        (Ok(_), Some(GoodPath { links, ends, good_until })) => {
            // The anchor is left out.
            let below = links.len().saturating_sub(1);
            let certificates = links.iter().take(below).map(|link| link.der.clone()).collect();
            let anchor = Anchor::Ca(Arc::clone(ca.name()));
            let (leaf, witness) = (shown.leaf.der.clone(), shown.witness);
            Ok(VerifiedChain { anchor, witness, leaf, certificates, links, ends, good_until })
        }
        (Ok(_), None) => Err(Rejection::untrusted(Flaw::Broken, None)),
        (Err(error), _) => Err(held_against.into_inner().unwrap_or_else(|| refused_by_webpki(&error, ca, shown, now))),
    }
}

/// webpki's refusal in our words, with the certificate at fault where it can be told.
fn refused_by_webpki(error: &webpki::Error, ca: &ClientCa, shown: &Shown, now: WallTime) -> Rejection {
    // webpki says when a certificate of a path ended, not which one it was.
    let dated = matches!(error, webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. });
    let mut steps = issuers(ca, shown).map(|link| &*link.view).enumerate();
    let outdated = steps.find_map(|(place, view)| check_validity(view, place.saturating_add(1), now).err());
    match outdated {
        Some(rejection) if dated => rejection,
        Some(_) | None => {
            unlisted(error, ca, shown).unwrap_or_else(|| Rejection::untrusted(Flaw::of(error), shown.leaf_culprit()))
        }
    }
}

/// A refusal for e-mail constraints that nobody evaluates: those of a CA that only the client sends, or that leads over such a one.
fn unlisted(error: &webpki::Error, ca: &ClientCa, shown: &Shown) -> Option<Rejection> {
    let listed = |view: &View| ca.anchors().iter().any(|anchor| anchor.link.view.fingerprint == view.fingerprint);
    let above = ancestors(ca, shown);
    let (depth, culprit) = above.into_iter().find(|(_, view)| view.constrains_mail() && !listed(view))?;
    (*error == webpki::Error::NameConstraintViolation && !shown.leaf.view.mail_names.is_empty())
        .then(|| Rejection::untrusted(Flaw::UnlistedConstraints, Some(Culprit::of(culprit, depth))))
}

/// A pin of the roster vouches where no CA's path can be had at all. The handshake has proved the key; the dates of the leaf still count, unless
/// the pin says that its end does not; and what any CA of ours lists as revoked stays so.
fn by_pin(shown: &Shown, trust: &Trust, now: WallTime, rejection: Rejection) -> Result<VerifiedChain, Rejection> {
    let leaf = &shown.leaf.view;
    let beyond_expiry = trust.pins().hold_beyond_expiry(leaf);
    let may_stand_in = match (&rejection.fault, rejection.flaw) {
        (CertificateFault::Expired { .. }, _) => beyond_expiry,
        (_, Some(flaw)) => flaw.pin_may_stand_in(),
        (_, None) => false,
    };
    if !trust.pins().hold(leaf) || !may_stand_in {
        return Err(rejection);
    }
    match check_validity(leaf, 0, now) {
        Err(Rejection { fault: CertificateFault::Expired { .. }, .. }) if beyond_expiry => {}
        checked => checked?,
    }
    check_key(leaf, KeyRules::default())?;
    let mut asked = trust.all_cas().filter(|ca| ca.revocation() != RevocationMode::Off);
    if let Some(ca) = asked.find(|ca| leaf.serial.is_some_and(|serial| ca.crls().lists(&leaf.issuer, serial))) {
        let ca = Some(Arc::clone(ca.name()));
        return Err(Rejection { ca, ..Rejection::of(CertificateFault::Revoked, shown.leaf_culprit()) });
    }
    let ends = if beyond_expiry { WallTime::MAX } else { leaf.not_after };
    Ok(VerifiedChain {
        anchor: Anchor::Pin,
        witness: shown.witness,
        leaf: shown.leaf.der.clone(),
        certificates: vec![shown.leaf.der.clone()],
        links: vec![shown.leaf.clone()],
        ends,
        good_until: ends,
    })
}

#[cfg(test)]
mod tests;
