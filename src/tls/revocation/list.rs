//! One CRL, read (RFC 5280 §5): whose it is, which certificates it covers, until when, and the serials in it.
//!
//! Read element by element and without a copy: of an entry nothing is kept but its serial, so that a list of a million entries takes twenty
//! octets for each. Never: verifies less than everything that a list must be before it is used; follows an indirect list.

use std::sync::Arc;

use x509_parser::asn1_rs::{FromDer as _, Oid};
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Name;

use super::{Crl, CrlAge, CrlCause, Issuer};
use crate::identity::facts::name_text;
use crate::sys::WallTime;
use crate::tls::der::{self, Element};
use crate::tls::signature::{self, Unverified};
use crate::tls::view::{Purpose, Serial, View};

/// A list that was read: by itself, or on top of another.
pub(in crate::tls) enum Read {
    /// Complete for its scope.
    Complete(Crl),
    /// What changed since a complete list (RFC 5280 §5.2.4).
    Delta(Delta),
}

/// A delta list.
pub(in crate::tls) struct Delta {
    pub(super) list: Crl,
    /// BaseCRLNumber, as [`Crl::number`].
    pub(super) base: Vec<u8>,
    /// Serials that are no longer revoked.
    pub(super) removed: Vec<Serial>,
}

impl Read {
    /// By what it is held against another.
    pub(in crate::tls) fn newness(&self) -> CrlAge {
        match self {
            Self::Complete(list) => list.newness(),
            Self::Delta(delta) => CrlAge { is_delta: true, ..delta.list.newness() },
        }
    }
}

impl Delta {
    /// Where it was read from.
    pub(in crate::tls) fn place(&self) -> &str {
        &self.list.place
    }
}

/// Which certificates of its issuer a list covers (RFC 5280 §5.2.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::tls) struct Scope {
    kinds: Kinds,
    /// The GeneralNames of its distribution point, sorted; none is no point, and all certificates.
    points: Option<Vec<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Kinds {
    #[default]
    All,
    /// onlyContainsUserCerts.
    Users,
    /// onlyContainsCACerts.
    Cas,
}

impl Scope {
    /// RFC 5280 §6.3.3 (b) (2): the certificate is of the kind, and names the same point. Besides its own points each certificate has the one
    /// that is called as its issuer.
    pub(in crate::tls) fn covers(&self, certificate: &View) -> bool {
        let kind = match self.kinds {
            Kinds::All => true,
            Kinds::Users => !certificate.is_ca,
            Kinds::Cas => certificate.is_ca,
        };
        kind && self.points.as_ref().is_none_or(|points| {
            let issuer = der::write(0xa4, &certificate.issuer);
            points.iter().any(|point| *point == issuer || certificate.crl_points.contains(point))
        })
    }

    /// In words, when it is not everything.
    pub(in crate::tls) fn text(&self) -> Option<String> {
        let kind = match self.kinds {
            Kinds::All => None,
            Kinds::Users => Some("for certificates that are no CA's".to_owned()),
            Kinds::Cas => Some("for CA certificates".to_owned()),
        };
        let points = self.points.as_ref().map(|points| {
            let names: Vec<String> = points.iter().filter_map(|point| point_text(point)).collect();
            format!("for the distribution point {}", names.join(", "))
        });
        let parts: Vec<String> = kind.into_iter().chain(points).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    /// From the value of issuingDistributionPoint.
    fn read(value: &[u8]) -> Result<Self, CrlCause> {
        let fields = der::only(value, der::SEQUENCE).and_then(der::all).ok_or(CrlCause::Malformed)?;
        let mut scope = Self::default();
        for field in fields {
            match field.tag {
                0xa0 => scope.points = Some(points(field.content)?),
                0x81 if is_true(&field) => scope.kinds = Kinds::Users,
                0x82 if is_true(&field) => scope.kinds = Kinds::Cas,
                0x83 => return Err(CrlCause::SomeReasons),
                0x84 if is_true(&field) => return Err(CrlCause::Indirect),
                0x85 if is_true(&field) => return Err(CrlCause::Attributes),
                0x81 | 0x82 | 0x84 | 0x85 => {}
                _ => return Err(CrlCause::Malformed),
            }
        }
        Ok(scope)
    }
}

fn points(name: &[u8]) -> Result<Vec<Vec<u8>>, CrlCause> {
    let (name, rest) = der::first(name).ok_or(CrlCause::Malformed)?;
    match (name.tag, rest) {
        (0xa0, []) => {
            let mut points: Vec<Vec<u8>> =
                der::all(name.content).ok_or(CrlCause::Malformed)?.iter().map(|name| name.raw.to_vec()).collect();
            points.sort_unstable();
            Ok(points)
        }
        (0xa1, []) => Err(CrlCause::RelativePoint),
        _ => Err(CrlCause::Malformed),
    }
}

fn point_text(point: &[u8]) -> Option<String> {
    let (name, _) = der::first(point)?;
    match name.tag {
        0x86 => Some(name.content.escape_ascii().to_string()),
        0xa4 => X509Name::from_der(name.content).ok().map(|(_, name)| name_text(&name)),
        _ => Some("of another form".to_owned()),
    }
}

/// An IMPLICIT BOOLEAN.
fn is_true(field: &Element<'_>) -> bool {
    field.content != [0]
}

struct Extension<'a> {
    oid: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// The content octets of the id-ce arc's object identifiers: 2.5.29.x.
const fn id_ce(last: u8) -> [u8; 3] {
    [0x55, 0x1d, last]
}
const CRL_NUMBER: [u8; 3] = id_ce(20);
const REASON_CODE: [u8; 3] = id_ce(21);
const INVALIDITY_DATE: [u8; 3] = id_ce(24);
const DELTA_CRL_INDICATOR: [u8; 3] = id_ce(27);
const ISSUING_DISTRIBUTION_POINT: [u8; 3] = id_ce(28);
const CERTIFICATE_ISSUER: [u8; 3] = id_ce(29);
const AUTHORITY_KEY_IDENTIFIER: [u8; 3] = id_ce(35);

/// The reason removeFromCRL (RFC 5280 §5.3.1).
const REMOVE_FROM_CRL: u8 = 8;

/// Reads a CRL and verifies its signature by one of `issuers`.
pub(in crate::tls) fn read(octets: &[u8], issuers: &[Arc<View>], place: &Arc<str>) -> Result<Read, CrlCause> {
    let whole = der::only(octets, der::SEQUENCE).ok_or(CrlCause::Malformed)?;
    let (signed, behind) = der::first(whole).ok_or(CrlCause::Malformed)?;
    let fields = Fields::read(signed.content).ok_or(CrlCause::Malformed)?;
    // RFC 5280 §5.1.1.2: the algorithm inside is the one outside.
    if der::first(behind).is_none_or(|(outside, _)| outside.raw != fields.algorithm.raw) {
        return Err(CrlCause::Malformed);
    }
    let issuer = signer(&fields, signed.raw, behind, issuers)?;
    let head = Head::read(&fields.extensions)?;
    let (revoked, removed) = entries(fields.entries, head.base.is_some())?;
    let list = Crl {
        issuer: Issuer { name: issuer.subject.clone(), key: issuer.key },
        issuer_text: issuer.subject_text.clone(),
        scope: head.scope,
        place: Arc::clone(place),
        this_update: time(&fields.this_update).ok_or(CrlCause::Malformed)?,
        next_update: time(&fields.next_update.ok_or(CrlCause::NoNextUpdate)?).ok_or(CrlCause::Malformed)?,
        number: head.number,
        revoked,
        delta: None,
    };
    Ok(match head.base {
        Some(base) => Read::Delta(Delta { list, base, removed }),
        None => Read::Complete(list),
    })
}

/// The fields of a TBSCertList.
struct Fields<'a> {
    algorithm: Element<'a>,
    issuer: Element<'a>,
    this_update: Element<'a>,
    next_update: Option<Element<'a>>,
    /// The content of revokedCertificates; empty when it is absent.
    entries: &'a [u8],
    extensions: Vec<Extension<'a>>,
}

impl<'a> Fields<'a> {
    fn read(octets: &'a [u8]) -> Option<Self> {
        let mut rest = octets;
        let _version = der::take(&mut rest, der::INTEGER);
        let algorithm = der::take_raw(&mut rest, der::SEQUENCE)?;
        let issuer = der::take_raw(&mut rest, der::SEQUENCE)?;
        let mut moment = || der::take_raw(&mut rest, UTC_TIME).or_else(|| der::take_raw(&mut rest, GENERALIZED_TIME));
        let (this_update, next_update) = (moment()?, moment());
        let entries = der::take(&mut rest, der::SEQUENCE).unwrap_or_default();
        let extensions = match der::take(&mut rest, 0xa0) {
            Some(explicit) => extensions(der::only(explicit, der::SEQUENCE)?)?,
            None => Vec::new(),
        };
        rest.is_empty().then_some(Self { algorithm, issuer, this_update, next_update, entries, extensions })
    }
}

const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

fn time(element: &Element<'_>) -> Option<WallTime> {
    let (_, time) = ASN1Time::from_der(element.raw).ok()?;
    Some(WallTime::from_seconds(time.timestamp()))
}

/// RFC 5280 §4.2: no extension is there twice.
fn extensions(octets: &[u8]) -> Option<Vec<Extension<'_>>> {
    let mut found: Vec<Extension<'_>> = Vec::new();
    for extension in der::all(octets)? {
        let mut rest = extension.content;
        let oid = der::take(&mut rest, der::OID)?;
        let critical = der::take(&mut rest, der::BOOLEAN).is_some_and(|flag| flag != [0]);
        let value = der::only(rest, der::OCTET_STRING)?;
        if extension.tag != der::SEQUENCE || found.iter().any(|earlier| earlier.oid == oid) {
            return None;
        }
        found.push(Extension { oid, critical, value });
    }
    Some(found)
}

/// What the extensions of a list say.
#[derive(Default)]
struct Head {
    scope: Scope,
    number: Vec<u8>,
    base: Option<Vec<u8>>,
}

impl Head {
    /// RFC 5280 §5.2: a list with a critical extension that is not understood must not be used.
    fn read(extensions: &[Extension<'_>]) -> Result<Self, CrlCause> {
        let mut head = Self::default();
        for Extension { oid, critical, value } in extensions {
            if *oid == CRL_NUMBER {
                head.number = number(value)?;
            } else if *oid == DELTA_CRL_INDICATOR {
                // Critical by the RFC, but a delta is one even when not marked so.
                head.base = Some(number(value)?);
            } else if *oid == ISSUING_DISTRIBUTION_POINT {
                head.scope = Scope::read(value)?;
            } else if *critical && *oid != AUTHORITY_KEY_IDENTIFIER {
                return Err(unknown(oid));
            }
        }
        Ok(head)
    }
}

fn unknown(oid: &[u8]) -> CrlCause {
    CrlCause::UnknownCritical { oid: Oid::new(oid.into()).to_id_string() }
}

/// cRLNumber as unsigned octets without leading zeros.
fn number(value: &[u8]) -> Result<Vec<u8>, CrlCause> {
    let octets = der::only(value, der::INTEGER).ok_or(CrlCause::Malformed)?;
    Ok(octets.iter().copied().skip_while(|octet| *octet == 0).collect())
}

/// The serials listed, sorted, and in a delta those that are taken off.
fn entries(octets: &[u8], delta: bool) -> Result<(Vec<Serial>, Vec<Serial>), CrlCause> {
    let (mut revoked, mut removed) = (Vec::new(), Vec::new());
    let mut rest = octets;
    while !rest.is_empty() {
        let mut entry = der::take(&mut rest, der::SEQUENCE).ok_or(CrlCause::Malformed)?;
        let serial = der::take(&mut entry, der::INTEGER).ok_or(CrlCause::Malformed)?;
        let (date, extensions) = der::first(entry).ok_or(CrlCause::Malformed)?;
        if date.tag != UTC_TIME && date.tag != GENERALIZED_TIME {
            return Err(CrlCause::Malformed);
        }
        let reason = check_entry(extensions)?;
        // A serial of over 20 octets belongs to no certificate that is accepted here.
        let Some(serial) = Serial::from_octets(serial) else { continue };
        // removeFromCRL has a meaning in deltas only; certificateHold is revoked as long as it lasts.
        if delta && reason == Some(REMOVE_FROM_CRL) { removed.push(serial) } else { revoked.push(serial) }
    }
    revoked.sort_unstable();
    revoked.dedup();
    revoked.shrink_to_fit();
    removed.sort_unstable();
    Ok((revoked, removed))
}

/// RFC 5280 §5.3: so too with an entry's extensions; certificateIssuer (§5.3.3) marks another CA's certificate. Gives the reason.
fn check_entry(octets: &[u8]) -> Result<Option<u8>, CrlCause> {
    if octets.is_empty() {
        return Ok(None);
    }
    let read = der::only(octets, der::SEQUENCE).and_then(extensions).ok_or(CrlCause::Malformed)?;
    let mut reason = None;
    for Extension { oid, critical, value } in read {
        if oid == REASON_CODE {
            const ENUMERATED: u8 = 0x0a;
            let octets = der::only(value, ENUMERATED).ok_or(CrlCause::Malformed)?;
            reason = octets.first().copied().filter(|_| octets.len() == 1);
        } else if oid == CERTIFICATE_ISSUER {
            return Err(CrlCause::Indirect);
        } else if critical && oid != INVALIDITY_DATE {
            return Err(unknown(oid));
        }
    }
    Ok(reason)
}

/// The certificate among `issuers` by whose key the list is signed (RFC 5280 §6.3.3 (f), (g)).
fn signer<'a>(
    fields: &Fields<'_>,
    signed: &[u8],
    behind: &[u8],
    issuers: &'a [Arc<View>],
) -> Result<&'a View, CrlCause> {
    let text = || X509Name::from_der(fields.issuer.raw).map_or_else(|_| String::new(), |(_, name)| name_text(&name));
    let mut named = issuers.iter().filter(|view| view.subject == fields.issuer.raw).peekable();
    if named.peek().is_none() {
        return Err(CrlCause::UnknownIssuer { issuer: text() });
    }
    let mut cause = CrlCause::BadSignature { issuer: text() };
    for view in named {
        match signature::verify(signed, behind, &view.spki) {
            Ok(()) if view.signs_crls == Purpose::Forbidden => cause = CrlCause::NotACrlSigner,
            Ok(()) => return Ok(view),
            Err(Unverified::WeakKind) => cause = CrlCause::WeakSignature,
            Err(Unverified::WrongKey) => {}
        }
    }
    Err(cause)
}
