//! What chains are judged by: the configured CAs, each with its intermediates and CRLs, and the certificates and keys pinned in the roster.
//!
//! Only what is configured is trusted; the system's store never is. Intermediates help to build chains and are trusted for nothing: each must
//! itself lead to an anchor. Each CA stands alone: a faulty CRL is that CA's trouble only. Building fails with a [`CaFault`] that names the
//! certificate and the remedy; CRLs that can't be used are handed back beside the CA, which then goes without them.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::DistinguishedName;
use rustls::pki_types::{CertificateDer, TrustAnchor};

use super::read;
use super::revocation::{CRL_OCTETS_MAX, Crl, CrlCause, CrlFacts, CrlFault, CrlShelf, RevocationMode};
use super::view::View;
use crate::identity::facts::Digest256;
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
    /// RSA under 2048 bits.
    #[error(
        "certificate {number} of client_ca {name:?} ({subject}) has an RSA key under 2048 bits; renew the CA with a stronger key"
    )]
    WeakKey {
        /// The CA.
        name: Arc<str>,
        /// Which one: anchors first, then intermediates, from 1.
        number: usize,
        /// Its subject for people.
        subject: String,
    },
}

/// A trust anchor with its dates: webpki looks only at its name, key and name constraints.
pub(super) struct AnchorView {
    pub(super) trusted: TrustAnchor<'static>,
    pub(super) view: View,
    pub(super) der: CertificateDer<'static>,
}

/// One configured CA.
pub struct ClientCa {
    name: Arc<str>,
    anchors: Vec<AnchorView>,
    trusted: Vec<TrustAnchor<'static>>,
    intermediates: Vec<(CertificateDer<'static>, View)>,
    revocation: RevocationMode,
    crls: CrlShelf,
}

impl ClientCa {
    /// Builds a CA and verifies its CRLs. The faults are of CRLs that are not used.
    pub fn new(settings: ClientCaSettings) -> Result<(Self, Vec<CrlFault>), CaFault> {
        let ClientCaSettings { name, certificates, intermediates, crls, revocation } = settings;
        if certificates.is_empty() {
            return Err(CaFault::NoAnchor { name });
        }
        let behind = certificates.len();
        let anchors: Vec<AnchorView> = certificates
            .iter()
            .enumerate()
            .map(|(place, der)| anchor(&name, place.saturating_add(1), der))
            .collect::<Result<_, _>>()?;
        let intermediates: Vec<(CertificateDer<'static>, View)> = intermediates
            .into_iter()
            .enumerate()
            .map(|(place, der)| {
                ca_view(&name, behind.saturating_add(place).saturating_add(1), &der).map(|view| (der, view))
            })
            .collect::<Result<_, _>>()?;
        let issuers: Vec<View> = anchors
            .iter()
            .map(|anchor| &anchor.view)
            .chain(intermediates.iter().map(|(_, view)| view))
            .cloned()
            .collect();
        let (crls, faults) = shelve(&crls, &issuers);
        let trusted = anchors.iter().map(|anchor| anchor.trusted.clone()).collect();
        Ok((Self { name, anchors, trusted, intermediates, revocation, crls }, faults))
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How much its certificates depend on its CRLs.
    pub fn revocation(&self) -> RevocationMode {
        self.revocation
    }

    /// The earliest nextUpdate of its CRLs: from then on, what that list covers is unknown.
    pub fn crls_fresh_until(&self) -> Option<WallTime> {
        self.crls.next_updates().min()
    }

    /// How many certificates its CRLs list.
    pub fn revoked(&self) -> usize {
        self.crls.revoked()
    }

    /// The earliest notAfter of its anchors and intermediates, for countdowns.
    pub fn certificates_good_until(&self) -> Option<WallTime> {
        let anchors = self.anchors.iter().map(|anchor| anchor.view.not_after);
        anchors.chain(self.intermediates.iter().map(|(_, view)| view.not_after)).min()
    }

    /// The DER of its anchors and intermediates.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let anchors = self.anchors.iter().map(|anchor| &anchor.der);
        anchors.chain(self.intermediates.iter().map(|(der, _)| der))
    }

    /// Verifies one CRL, PEM or DER, as those of files are.
    ///
    /// # Errors
    /// It is not one CRL, or can't be used.
    pub fn read_crl(&self, octets: &[u8]) -> Result<CrlFacts, CrlCause> {
        let lists = read::crls(octets, CRL_OCTETS_MAX)?;
        let [list] = lists.as_slice() else { return Err(CrlCause::NotOne(lists.len())) };
        let anchors = self.anchors.iter().map(|anchor| &anchor.view);
        let issuers: Vec<View> = anchors.chain(self.intermediates.iter().map(|(_, view)| view)).cloned().collect();
        Ok(Crl::read(list, &issuers)?.facts())
    }

    pub(super) fn anchors(&self) -> &[AnchorView] {
        &self.anchors
    }

    pub(super) fn trusted(&self) -> &[TrustAnchor<'static>] {
        &self.trusted
    }

    pub(super) fn intermediates(&self) -> &[(CertificateDer<'static>, View)] {
        &self.intermediates
    }

    pub(super) fn crls(&self) -> &CrlShelf {
        &self.crls
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCa")
            .field("name", &self.name)
            .field("anchors", &self.anchors.len())
            .field("intermediates", &self.intermediates.len())
            .field("revocation", &self.revocation)
            .field("revoked", &self.revoked())
            .finish()
    }
}

fn anchor(name: &Arc<str>, number: usize, der: &CertificateDer<'static>) -> Result<AnchorView, CaFault> {
    let view = ca_view(name, number, der)?;
    let trusted = webpki::anchor_from_trusted_cert(der)
        .map_err(|_| CaFault::Malformed { name: Arc::clone(name), number })?
        .to_owned();
    Ok(AnchorView { trusted, view, der: der.clone() })
}

fn ca_view(name: &Arc<str>, number: usize, der: &CertificateDer<'_>) -> Result<View, CaFault> {
    let name = Arc::clone(name);
    let Some(view) = View::of(der) else { return Err(CaFault::Malformed { name, number }) };
    if !view.is_ca {
        return Err(CaFault::NotACa { name, number, subject: view.subject_text });
    }
    if view.weak_key {
        return Err(CaFault::WeakKey { name, number, subject: view.subject_text });
    }
    Ok(view)
}

fn shelve(files: &[CrlFile], issuers: &[View]) -> (CrlShelf, Vec<CrlFault>) {
    let mut shelf = CrlShelf::default();
    let mut faults = Vec::new();
    for file in files {
        let mut refuse = |cause| faults.push(CrlFault { place: file.place.clone(), cause });
        match read::crls(&file.octets, CRL_OCTETS_MAX) {
            Err(fault) => refuse(CrlCause::Unreadable(fault)),
            Ok(lists) => {
                for list in lists {
                    match Crl::read(&list, issuers) {
                        Ok(list) => shelf.put(list),
                        Err(cause) => refuse(cause),
                    }
                }
            }
        }
    }
    (shelf, faults)
}

/// Certificates and keys enrolled one by one: SHA-256 of the certificate's DER, or of its SubjectPublicKeyInfo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Of whole certificates.
    pub certificates: HashSet<Digest256>,
    /// Of keys.
    pub keys: HashSet<Digest256>,
}

/// Everything a chain may be verified to.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    cas: Vec<Arc<ClientCa>>,
    pins: Pins,
}

impl Trust {
    /// Trust in these CAs and pins, and in nothing else. A CA that has not changed can be shared with the trust before.
    pub fn new(cas: Vec<Arc<ClientCa>>, pins: Pins) -> Self {
        Self { cas, pins }
    }

    /// The CAs.
    pub fn cas(&self) -> &[Arc<ClientCa>] {
        &self.cas
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
        let anchors = self.cas.iter().flat_map(|ca| ca.anchors.iter().map(|anchor| &anchor.view));
        let intermediates = self.cas.iter().flat_map(|ca| ca.intermediates.iter().map(|(_, view)| view));
        let named = anchors.chain(intermediates).filter(|view| seen.insert(view.subject.clone()));
        named.map(|view| DistinguishedName::from(view.subject.clone())).collect()
    }
}
