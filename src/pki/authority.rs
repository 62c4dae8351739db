//! The authority as a value: a CA certificate with its key; what it makes are values too.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::bearer::Bearer;
use super::index::{Entry, Kind, Reason};
use super::{DAYS_MAX, PkiError};
use crate::sys::{Entropy, WallTime};

/// Octets of a serial: 16 random ones, of which the first bit is 0 and the second 1, so that it is positive and of one length
/// (RFC 5280 §4.1.2.2 allows 20).
const SERIAL_OCTETS: usize = 16;
/// A certificate is good from a little before it is made, for clients whose clocks are behind.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// From when to when a certificate or CRL is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: WallTime,
    /// The last moment.
    pub until: WallTime,
}

impl Validity {
    /// So many days from now (at most [`DAYS_MAX`]); it begins an hour earlier, for clocks that are behind.
    pub fn days(now: WallTime, days: u32) -> Self {
        let from =
            WallTime::from_millis(now.millis().saturating_sub(i64::try_from(CLOCK_SLACK.as_millis()).unwrap_or(0)));
        Self { from, until: now.after(Duration::from_secs(u64::from(days.min(DAYS_MAX)) * 86_400)) }
    }
}

/// A certificate just made, for a key that its bearer holds.
#[derive(Debug)]
pub struct Signed {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// For the index.
    pub entry: Entry,
}

/// A certificate just made, with its key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// For the index.
    pub entry: Entry,
}

/// A certificate authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    until: WallTime,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a root of this name.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn create(name: &str, validity: Validity, entropy: &dyn Entropy) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let params = authority_params(name, BasicConstraints::Unconstrained, validity, entropy);
        let made = params.self_signed(&key)?;
        Ok(Self {
            certificate: made.der().clone(),
            certificate_pem: made.pem(),
            until: validity.until,
            issuer: Issuer::new(params, key),
        })
    }

    /// Makes an authority of this name below this one, which makes certificates for its bearers and no further authority. With the key
    /// of an older one its certificate is made anew, and what the older one signed stays good.
    ///
    /// # Errors
    /// [`PkiError::BeyondAuthority`], [`PkiError::Certificate`].
    pub fn create_issuing(
        &self,
        name: &str,
        validity: Validity,
        key: Option<KeyPair>,
        entropy: &dyn Entropy,
    ) -> Result<(Self, Entry), PkiError> {
        self.refuse_beyond(validity)?;
        let key = key.map_or_else(KeyPair::generate, Ok)?;
        let mut params = authority_params(name, BasicConstraints::Constrained(0), validity, entropy);
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&key, &self.issuer)?;
        let entry = entry(name, Kind::Authority, vec![name.to_owned()], None, validity, &params);
        let issuing = Self {
            certificate: made.der().clone(),
            certificate_pem: made.pem(),
            until: validity.until,
            issuer: Issuer::new(params, key),
        };
        Ok((issuing, entry))
    }

    /// An authority from its files' texts.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] when either is no PEM, or they do not belong together.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let unreadable = || PkiError::Certificate(rcgen::Error::CouldNotParseCertificate);
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).map_err(|_| unreadable())?;
        let key = KeyPair::from_pem(key_pem)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(|_| unreadable())?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(PkiError::ForeignKey);
        }
        let until = WallTime::from_seconds(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { certificate_pem: certificate_pem.to_owned(), until, issuer, certificate })
    }

    /// Its certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Until when its certificate is good.
    pub fn until(&self) -> WallTime {
        self.until
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let parsed = x509_parser::parse_x509_certificate(&self.certificate);
        let name = parsed.ok().and_then(|(_, read)| {
            read.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
        });
        name.unwrap_or_default()
    }

    /// Makes a key (P-256) and a certificate for it. `name` is what the index and the files call it.
    ///
    /// # Errors
    /// [`PkiError::Name`], [`PkiError::Nameless`], [`PkiError::BeyondAuthority`].
    pub fn issue(
        &self,
        name: &str,
        bearer: &Bearer,
        validity: Validity,
        entropy: &dyn Entropy,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        let Signed { certificate_pem, certificate, entry } = self.certify(name, bearer, validity, &key, entropy)?;
        Ok(Issued { certificate_pem, certificate, key_pem: Zeroizing::new(key.serialize_pem()), entry })
    }

    /// Makes a certificate for this public key.
    ///
    /// # Errors
    /// As [`Self::issue`].
    pub fn certify(
        &self,
        name: &str,
        bearer: &Bearer,
        validity: Validity,
        key: &impl PublicKeyData,
        entropy: &dyn Entropy,
    ) -> Result<Signed, PkiError> {
        self.refuse_beyond(validity)?;
        let mut params = base(validity, entropy);
        let names = bearer.describe(&mut params)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(key, &self.issuer)?;
        Ok(Signed {
            certificate_pem: made.pem(),
            certificate: made.der().clone(),
            entry: entry(name, bearer.kind(), names, bearer.common_name(), validity, &params),
        })
    }

    fn refuse_beyond(&self, validity: Validity) -> Result<(), PkiError> {
        if validity.until > self.until { Err(PkiError::BeyondAuthority(self.until.rfc3339())) } else { Ok(()) }
    }

    /// A CRL (RFC 5280 §5), PEM, with this number, over those of the entries that are revoked.
    ///
    /// # Errors
    /// [`PkiError::Certificate`].
    pub fn crl(&self, number: u64, validity: Validity, entries: &[Entry]) -> Result<String, PkiError> {
        let revoked = entries.iter().filter_map(revoked_entry).collect();
        let params = CertificateRevocationListParams {
            this_update: date(validity.from),
            next_update: date(validity.until),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }
}

fn authority_params(
    name: &str,
    below: BasicConstraints,
    validity: Validity,
    entropy: &dyn Entropy,
) -> CertificateParams {
    let mut params = base(validity, entropy);
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(below);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn entry(
    name: &str,
    kind: Kind,
    names: Vec<String>,
    common_name: Option<String>,
    validity: Validity,
    params: &CertificateParams,
) -> Entry {
    let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
    Entry {
        name: name.to_owned(),
        serial: hex(&serial),
        kind,
        names,
        common_name,
        from: validity.from.rfc3339(),
        until: validity.until.rfc3339(),
        revoked: None,
    }
}

fn base(validity: Validity, entropy: &dyn Entropy) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date(validity.from);
    params.not_after = date(validity.until);
    let mut serial = [0; SERIAL_OCTETS];
    entropy.fill(&mut serial);
    let [first, ..] = &mut serial;
    *first = (*first & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// The moment in whole seconds (RFC 5280 §4.1.2.5 has no fractions); the epoch for what no calendar can say.
fn date(at: WallTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.seconds()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn revoked_entry(entry: &Entry) -> Option<RevokedCertParams> {
    let revocation = entry.revoked.as_ref()?;
    Some(RevokedCertParams {
        serial_number: SerialNumber::from(unhex(&entry.serial)?),
        revocation_time: date(revocation.moment()?),
        // RFC 5280 §5.3.1: "unspecified" should not be written at all.
        reason_code: match revocation.reason {
            Reason::Unspecified => None,
            Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Reason::CaCompromise => Some(RevocationReason::CaCompromise),
            Reason::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Reason::Superseded => Some(RevocationReason::Superseded),
            Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Reason::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        },
        invalidity_date: None,
    })
}

/// Lower-case hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text
        .chars()
        .map(|letter| letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<Vec<_>>>()?;
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(high << 4 | low),
        _ => None,
    };
    digits.chunks(2).map(pair).collect()
}
