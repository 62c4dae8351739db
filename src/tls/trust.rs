//! What chains are judged by: the configured CAs, each with its intermediates and CRLs, and the certificates and keys pinned in the roster.
//!
//! Only what is configured is trusted; the system's store never is. Intermediates help to build chains and are trusted for nothing: each must
//! itself lead to an anchor. E-mail name constraints are kept from webpki and judged by us (see `ways`). Each CA stands alone: a faulty CRL is that CA's trouble only. Building fails with a [`CaFault`] that names the
//! certificate and the remedy; CRLs that can't be used are handed back beside the CA, which then goes without them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::points::HttpUrl;
use super::read;
use super::recall::{Readings, Recall};
use super::revocation::list::{self, Read};
use super::revocation::{CRL_OCTETS_MAX, CrlAge, CrlCause, CrlFacts, CrlFault, CrlSetback, CrlShelf, RevocationMode};
use super::rules::{CaRules, KeyRules};
use super::view::{Serial, View};
use super::ways::{self, Link, Way};
use crate::identity::facts::{self, Digest256};
use crate::sys::WallTime;

/// A file of CRLs, read.
#[derive(Clone, Debug)]
pub struct CrlFile {
    /// Its name for people.
    pub place: String,
    /// What is in it: PEM or DER.
    pub octets: Vec<u8>,
}

/// What a `[[client_ca]]` is made from.
#[derive(Clone, Debug)]
pub struct ClientCaSettings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Trust anchors.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Certificates that help to build chains.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// CRL files.
    pub crls: Vec<CrlFile>,
    /// How much certificates depend on the CRLs.
    pub revocation: RevocationMode,
    /// How long after its nextUpdate a CRL still vouches for what it does not list.
    pub crl_grace: Duration,
    /// What its certificates must be.
    pub rules: CaRules,
}

/// A configured CA that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaFault {
    /// No anchor.
    #[error("client_ca {name:?} has no certificate; name at least one in `certificates`")]
    NoAnchor {
        /// The CA.
        name: Arc<str>,
    },
    /// A certificate that cannot be read.
    #[error("certificate {number} of client_ca {name:?} is malformed; export it again")]
    Malformed {
        /// The CA.
        name: Arc<str>,
        /// Which one: anchors first, then intermediates, from 1.
        number: usize,
    },
    /// A leaf where a CA belongs.
    #[error(
        "certificate {number} of client_ca {name:?} ({subject}) is no CA certificate (basic constraints); to trust one certificate alone, \
         give its fingerprint in an [[identity]]"
    )]
    NotACa {
        /// The CA.
        name: Arc<str>,
        /// Which one: anchors first, then intermediates, from 1.
        number: usize,
        /// Its subject for people.
        subject: String,
    },
    /// A short RSA key.
    #[error(
        "certificate {number} of client_ca {name:?} ({subject}) has an RSA key under {bits_min} bits; renew the CA with a stronger key"
    )]
    WeakKey {
        /// The CA.
        name: Arc<str>,
        /// Which one: anchors first, then intermediates, from 1.
        number: usize,
        /// Its subject for people.
        subject: String,
        /// The shortest that is taken, bits.
        bits_min: usize,
    },
}

/// Where a path of webpki's may end: webpki looks only at its name, key and name constraints.
pub(super) struct AnchorView {
    /// Without e-mail subtrees.
    pub(super) trusted: TrustAnchor<'static>,
    pub(super) link: Link,
    /// How it goes on from here to a configured anchor: one way without a certificate, when it is one itself. Never empty.
    pub(super) ways: Vec<Way>,
}

/// One configured CA.
pub struct ClientCa {
    name: Arc<str>,
    certificates: Vec<Link>,
    intermediates: Vec<Link>,
    /// The certificates, and the constrained intermediates that lead to one of them.
    anchors: Vec<AnchorView>,
    trusted: Vec<TrustAnchor<'static>>,
    revocation: RevocationMode,
    crl_grace: Duration,
    rules: CaRules,
    crls: CrlShelf,
    asks: Asks,
    recall: Recall,
}

/// What is asked of other servers about a CA's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// Whether the CRLs are fetched that clients' certificates name.
    pub named_crls: bool,
    /// Whether its OCSP responder is asked about clients' certificates.
    pub ocsp: OcspMode,
    /// The responder; without it, the one that the certificate names.
    pub ocsp_url: Option<HttpUrl>,
}

/// How much a client's certificate depends on its CA's OCSP responder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OcspMode {
    /// It is not asked.
    #[default]
    Off,
    /// Revoked is no; without an answer the certificate is good.
    IfAvailable,
    /// Only an answer that it is good will do.
    Require,
}

impl ClientCa {
    /// Builds a CA and verifies its CRLs. The faults are of CRLs that are not used.
    pub fn new(settings: ClientCaSettings) -> Result<(Self, Vec<CrlFault>), CaFault> {
        let ClientCaSettings { name, certificates, intermediates, crls, revocation, crl_grace, rules } = settings;
        if certificates.is_empty() {
            return Err(CaFault::NoAnchor { name });
        }
        let behind = certificates.len();
        let read = |(place, der): (usize, CertificateDer<'static>)| link(&name, place, der, rules.keys);
        let certificates: Vec<Link> = (1..).zip(certificates).map(read).collect::<Result<_, _>>()?;
        let intermediates: Vec<Link> =
            (behind.saturating_add(1)..).zip(intermediates).map(read).collect::<Result<_, _>>()?;
        let mut anchors = Vec::new();
        for (link, number) in certificates.iter().zip(1..) {
            let malformed = || CaFault::Malformed { name: Arc::clone(&name), number };
            let trusted = without_mail_subtrees(link).ok_or_else(malformed)?;
            anchors.push(AnchorView { trusted, link: link.clone(), ways: vec![Way::new()] });
        }
        for link in intermediates.iter().filter(|link| link.view.constrains_mail()) {
            let ways = ways::up(link, &intermediates, &certificates);
            let trusted = without_mail_subtrees(link).filter(|_| !ways.is_empty());
            anchors.extend(trusted.map(|trusted| AnchorView { trusted, link: link.clone(), ways }));
        }
        let issuers: Vec<Arc<View>> =
            certificates.iter().chain(&intermediates).map(|link| Arc::clone(&link.view)).collect();
        let (crls, faults) = shelve(&crls, &issuers);
        let mut trusted: Vec<TrustAnchor<'static>> = Vec::new();
        for anchor in &anchors {
            if !trusted.contains(&anchor.trusted) {
                trusted.push(anchor.trusted.clone());
            }
        }
        let (asks, recall) = (Asks::default(), Recall::default());
        let ca = Self {
            name,
            certificates,
            intermediates,
            anchors,
            trusted,
            revocation,
            crl_grace,
            rules,
            crls,
            asks,
            recall,
        };
        Ok((ca, faults))
    }

    /// The same, with what is asked of other servers.
    #[must_use]
    pub fn asking(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    /// What is asked of other servers.
    pub fn asks(&self) -> &Asks {
        &self.asks
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How much its certificates depend on its CRLs.
    pub fn revocation(&self) -> RevocationMode {
        self.revocation
    }

    /// How long after its nextUpdate a CRL still vouches for what it does not list.
    pub fn crl_grace(&self) -> Duration {
        self.crl_grace
    }

    /// What its certificates must be.
    pub fn rules(&self) -> &CaRules {
        &self.rules
    }

    /// Its CRLs, deltas among them, by their places.
    pub fn crl_facts(&self) -> Vec<CrlFacts> {
        self.crls.facts()
    }

    /// The earliest nextUpdate of its CRLs: from then on, what that list covers is unknown.
    pub fn crls_fresh_until(&self) -> Option<WallTime> {
        self.crl_facts().iter().map(|list| list.next_update).min()
    }

    /// How many certificates its CRLs list.
    pub fn revoked(&self) -> usize {
        self.crls.revoked()
    }

    /// Subject and notAfter of each of its certificates and intermediates, for countdowns.
    pub fn ends(&self) -> impl Iterator<Item = (&str, WallTime)> {
        let links = self.certificates.iter().chain(&self.intermediates);
        links.map(|link| (link.view.subject_text.as_str(), link.view.not_after))
    }

    /// The subjects of intermediates with e-mail name constraints that lead to none of its certificates: what is below them is refused.
    pub fn lost_constraints(&self) -> impl Iterator<Item = &str> {
        let lost = |link: &&Link| {
            link.view.constrains_mail()
                && !self.anchors.iter().any(|anchor| anchor.link.view.fingerprint == link.view.fingerprint)
        };
        self.intermediates.iter().filter(lost).map(|link| link.view.subject_text.as_str())
    }

    /// The subjects of its certificates and intermediates that have no CRL here: what these issued, nothing vouches for.
    pub fn without_crl(&self) -> impl Iterator<Item = &str> {
        let links = self.certificates.iter().chain(&self.intermediates);
        links.filter(|link| !self.crls.has_of(&link.view)).map(|link| link.view.subject_text.as_str())
    }

    /// Which of its CRLs are older than they were `before`, or gone although the issuer is still one of its own. None where CRLs are not asked.
    pub fn crl_setbacks(&self, before: &Self) -> Vec<CrlSetback> {
        if self.revocation == RevocationMode::Off || before.revocation == RevocationMode::Off {
            return Vec::new();
        }
        let links = || self.certificates.iter().chain(&self.intermediates);
        let is_ours = |setback: &CrlSetback| links().any(|link| link.view.subject_text == setback.issuer);
        self.crls.setbacks(&before.crls).into_iter().filter(is_ours).collect()
    }

    /// Verifies one CRL, PEM or DER, as those of files are.
    ///
    /// # Errors
    /// It is not one CRL, or can't be used.
    pub fn read_crl(&self, octets: &[u8]) -> Result<CrlAge, CrlCause> {
        let lists = read::crls(octets, CRL_OCTETS_MAX)?;
        let [one] = lists.as_slice() else { return Err(CrlCause::NotOne(lists.len())) };
        let links = self.certificates.iter().chain(&self.intermediates);
        let issuers: Vec<Arc<View>> = links.map(|link| Arc::clone(&link.view)).collect();
        Ok(list::read(one, &issuers, &Arc::from(""))?.newness())
    }

    /// The DER of its certificates and intermediates.
    pub fn ders(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.certificates.iter().chain(&self.intermediates).map(|link| &link.der)
    }

    pub(super) fn certificates(&self) -> &[Link] {
        &self.certificates
    }

    pub(super) fn anchors(&self) -> &[AnchorView] {
        &self.anchors
    }

    pub(super) fn trusted(&self) -> &[TrustAnchor<'static>] {
        &self.trusted
    }

    pub(super) fn intermediates(&self) -> &[Link] {
        &self.intermediates
    }

    pub(super) fn recall(&self) -> &Recall {
        &self.recall
    }

    pub(super) fn crls(&self) -> &CrlShelf {
        &self.crls
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa")
            .field("name", &self.name)
            .field("certificates", &self.certificates.len())
            .field("intermediates", &self.intermediates.len())
            .field("revocation", &self.revocation)
            .field("revoked", &self.revoked())
            .finish()
    }
}

/// What webpki is to take for the anchor: the certificate's name and key, and its name constraints but those on e-mail.
fn without_mail_subtrees(link: &Link) -> Option<TrustAnchor<'static>> {
    let mut trusted = webpki::anchor_from_trusted_cert(&link.der).ok()?.to_owned();
    if let Some(constraints) = &link.view.constraints {
        trusted.name_constraints = constraints.others.clone().map(Into::into);
    }
    Some(trusted)
}

fn link(name: &Arc<str>, number: usize, der: CertificateDer<'static>, keys: KeyRules) -> Result<Link, CaFault> {
    let name = Arc::clone(name);
    let Some(view) = View::of(&der) else { return Err(CaFault::Malformed { name, number }) };
    if !view.is_ca {
        return Err(CaFault::NotACa { name, number, subject: view.subject_text });
    }
    if keys.is_short(view.key_kind) {
        return Err(CaFault::WeakKey { name, number, subject: view.subject_text, bits_min: keys.rsa_bits_min });
    }
    Ok(Link { der, view: Arc::new(view) })
}

fn shelve(files: &[CrlFile], issuers: &[Arc<View>]) -> (CrlShelf, Vec<CrlFault>) {
    let mut shelf = CrlShelf::default();
    let (mut faults, mut deltas) = (Vec::new(), Vec::new());
    for file in files {
        let place: Arc<str> = file.place.as_str().into();
        let mut refuse = |cause| faults.push(CrlFault { place: file.place.clone(), cause });
        match read::crls(&file.octets, CRL_OCTETS_MAX) {
            Err(fault) => refuse(CrlCause::Unreadable(fault)),
            Ok(lists) => {
                for octets in lists {
                    match list::read(&octets, issuers, &place) {
                        Ok(Read::Complete(list)) => shelf.put(list),
                        Ok(Read::Delta(delta)) => deltas.push(delta),
                        Err(cause) => refuse(cause),
                    }
                }
            }
        }
    }
    let without_base = shelf.put_deltas(deltas);
    let fault = |delta: list::Delta| CrlFault { place: delta.place().to_owned(), cause: CrlCause::DeltaWithoutBase };
    faults.extend(without_base.into_iter().map(fault));
    (shelf, faults)
}

/// Certificates and keys enrolled one by one: SHA-256 of the certificate's DER, or of its SubjectPublicKeyInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Of whole certificates.
    pub certificates: HashSet<Digest256>,
    /// Of keys.
    pub keys: HashSet<Digest256>,
    /// Those of both that count after the certificate's notAfter too.
    pub ignoring_expiry: HashSet<Digest256>,
}

impl Pins {
    /// Whether a certificate, or its key, is pinned.
    pub(super) fn hold(&self, view: &View) -> bool {
        self.keys.contains(&view.key) || self.certificates.contains(&view.fingerprint)
    }

    /// Whether it is pinned in such a way that its end does not matter.
    pub(super) fn hold_beyond_expiry(&self, view: &View) -> bool {
        self.count_beyond_expiry(view.fingerprint, Some(view.key))
    }

    /// The same of a certificate of which no more is known than its digest, and perhaps its key's.
    pub fn count_beyond_expiry(&self, fingerprint: Digest256, key: Option<Digest256>) -> bool {
        // The roster goes by the fingerprint first: so does this.
        if self.certificates.contains(&fingerprint) {
            return self.ignoring_expiry.contains(&fingerprint);
        }
        key.is_some_and(|key| self.keys.contains(&key) && self.ignoring_expiry.contains(&key))
    }
}

/// Everything a chain may be verified to.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    cas: Vec<Arc<ClientCa>>,
    /// CAs that count elsewhere: their CRLs hold against pinned certificates here too.
    elsewhere: Vec<Arc<ClientCa>>,
    pins: Pins,
    readings: Arc<Readings>,
}

impl Trust {
    /// Trust in these CAs and pins, and in nothing else. A CA that has not changed can be shared with the trust before.
    pub fn new(cas: Vec<Arc<ClientCa>>, pins: Pins) -> Self {
        Self { cas, elsewhere: Vec::new(), pins, readings: Arc::default() }
    }

    /// What of this counts at a listener that takes these CAs only, and pinned certificates or not. A name that no CA has is passed over.
    #[must_use]
    pub fn limited(&self, names: &[Arc<str>], taken: TakenPins) -> Self {
        let (cas, elsewhere) = self.cas.iter().cloned().partition(|ca| names.contains(ca.name()));
        let pins = match taken {
            TakenPins::All => self.pins.clone(),
            TakenPins::None => Pins::default(),
        };
        Self { cas, elsewhere, pins, readings: Arc::clone(&self.readings) }
    }

    /// The CAs.
    pub fn cas(&self) -> &[Arc<ClientCa>] {
        &self.cas
    }

    /// The first of these certificates that a CRL lists which is asked at all, here or elsewhere, by its place.
    pub fn revoked(&self, links: &[facts::Link]) -> Option<usize> {
        let asked = || self.all_cas().filter(|ca| ca.revocation != RevocationMode::Off);
        links.iter().position(|link| {
            let serial = Serial::from_octets(&link.serial);
            serial.is_some_and(|serial| asked().any(|ca| ca.crls.lists_recorded(link.issuer, link.issuer_key, serial)))
        })
    }

    /// The CAs that count here or elsewhere.
    pub(super) fn all_cas(&self) -> impl Iterator<Item = &Arc<ClientCa>> {
        self.cas.iter().chain(&self.elsewhere)
    }

    /// What certificates say that were found good before.
    pub(super) fn readings(&self) -> &Readings {
        &self.readings
    }

    /// The pins.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The names to hint in the CertificateRequest (RFC 8446 §4.2.4): subjects of anchors and intermediates, each once. Clients choose their
    /// certificate by them, and one that holds its leaf alone knows only the intermediate's name. With pins there are none: no name leads to
    /// a pinned certificate, and a client that goes by the hints would keep it back.
    pub fn hints(&self) -> Vec<DistinguishedName> {
        if self.pins != Pins::default() {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let anchors = self.cas.iter().flat_map(|ca| ca.certificates());
        let intermediates = self.cas.iter().flat_map(|ca| ca.intermediates());
        let named = anchors.chain(intermediates).filter(|link| seen.insert(link.view.subject.clone()));
        named.map(|link| DistinguishedName::from(link.view.subject.clone())).collect()
    }
}

/// Whether a listener takes pinned certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakenPins {
    /// All of the roster.
    All,
    /// Not one.
    None,
}
