//! The authority as a value: a CA certificate with its key; what it makes are values too.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData as _, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::index::{Entry, Kind, Reason};
use super::{DAYS_MAX, PkiError};
use crate::mail::Address;
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

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A person, by e-mail addresses (rfc822Name), as a TLS client.
    Person {
        /// The addresses; ASCII, at least one.
        emails: Vec<String>,
        /// What the certificate is called in selection dialogues; the first address when empty.
        common_name: Option<String>,
    },
    /// A program, by DNS names or URIs (SPIFFE ids), as a TLS client.
    Robot {
        /// DNS names.
        dns: Vec<String>,
        /// URIs.
        uris: Vec<String>,
    },
    /// A TLS server, by DNS names or IP addresses.
    Server {
        /// The names.
        names: Vec<String>,
    },
}

/// A certificate just made.
#[derive(Debug)]
pub struct Issued {
    /// The certificate, PEM; intermediates behind it where there are any.
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
        let mut params = base(validity, entropy);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&key)?;
        Ok(Self {
            certificate: made.der().clone(),
            certificate_pem: made.pem(),
            until: validity.until,
            issuer: Issuer::new(params, key),
        })
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
            return Err(PkiError::Certificate(rcgen::Error::CouldNotParseKeyPair));
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

    /// Makes a key and a certificate for it. `name` is what the index and the files call it.
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
        if validity.until > self.until {
            return Err(PkiError::BeyondAuthority(self.until.rfc3339()));
        }
        let mut params = base(validity, entropy);
        let names = bearer.describe(&mut params)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let made = params.signed_by(&key, &self.issuer)?;
        let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes).unwrap_or_default();
        let entry = Entry {
            name: name.to_owned(),
            serial: hex(&serial),
            kind: bearer.kind(),
            names,
            common_name: bearer.common_name(),
            from: validity.from.rfc3339(),
            until: validity.until.rfc3339(),
            revoked: None,
        };
        Ok(Issued {
            certificate_pem: made.pem(),
            certificate: made.der().clone(),
            key_pem: Zeroizing::new(key.serialize_pem()),
            entry,
        })
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

/// Certificate, key and CA in one file that mail programs import (RFC 7292), under a password.
///
/// # Errors
/// [`PkiError::Pkcs12`].
pub fn pkcs12(issued: &Issued, authority: &Authority, password: &str) -> Result<Vec<u8>, PkiError> {
    let fault = |fault: p12_keystore::error::Error| PkiError::Pkcs12(fault.to_string());
    let key = PrivatePkcs8KeyDer::from_pem_slice(issued.key_pem.as_bytes())
        .map_err(|fault| PkiError::Pkcs12(fault.to_string()))?;
    let key = p12_keystore::PrivateKey::from_der(key.secret_pkcs8_der()).map_err(fault)?;
    let leaf = p12_keystore::Certificate::from_der(&issued.certificate).map_err(fault)?;
    let root = p12_keystore::Certificate::from_der(&authority.certificate).map_err(fault)?;
    let chain = p12_keystore::PrivateKeyChain::new(issued.entry.serial.as_bytes(), key, [leaf, root]);
    let mut store = p12_keystore::KeyStore::new();
    store.add_entry(&issued.entry.name, p12_keystore::KeyStoreEntry::PrivateKeyChain(chain));
    store.writer(password).write().map_err(fault)
}

impl Bearer {
    /// Which kind of certificate it gets.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Person { .. } => Kind::Person,
            Self::Robot { .. } => Kind::Robot,
            Self::Server { .. } => Kind::Server,
        }
    }

    /// The first of its names: what its files are called when nothing else is said.
    pub(super) fn first_name(&self) -> Option<&str> {
        let first = match self {
            Self::Person { emails, .. } => emails.first(),
            Self::Robot { dns, uris } => dns.first().or(uris.first()),
            Self::Server { names } => names.first(),
        };
        first.map(String::as_str)
    }

    fn common_name(&self) -> Option<String> {
        match self {
            Self::Person { common_name, .. } => common_name.clone(),
            Self::Robot { .. } | Self::Server { .. } => None,
        }
    }

    /// Who bears a certificate like this one: for its renewal.
    pub fn of(entry: &Entry) -> Self {
        let names = entry.names.clone();
        match entry.kind {
            Kind::Person => Self::Person { emails: names, common_name: entry.common_name.clone() },
            Kind::Server => Self::Server { names },
            Kind::Robot => {
                let (uris, dns) = names.into_iter().partition(|name| name.contains(':'));
                Self::Robot { dns, uris }
            }
        }
    }

    /// Writes the names into the certificate to be; gives them back as the index keeps them.
    fn describe(&self, params: &mut CertificateParams) -> Result<Vec<String>, PkiError> {
        let mut names = Vec::new();
        let purpose = match self {
            Self::Person { emails, .. } => {
                for email in emails {
                    params.subject_alt_names.push(SanType::Rfc822Name(email_name(email)?.try_into()?));
                    names.push(email.clone());
                }
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Self::Robot { dns, uris } => {
                for name in dns {
                    params.subject_alt_names.push(SanType::DnsName(dns_name(name)?.try_into()?));
                    names.push(name.clone());
                }
                for uri in uris {
                    params.subject_alt_names.push(SanType::URI(uri_name(uri)?.try_into()?));
                    names.push(uri.clone());
                }
                ExtendedKeyUsagePurpose::ClientAuth
            }
            Self::Server { names: given } => {
                for name in given {
                    params.subject_alt_names.push(match name.parse() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(dns_name(name)?.try_into()?),
                    });
                    names.push(name.clone());
                }
                ExtendedKeyUsagePurpose::ServerAuth
            }
        };
        params.extended_key_usages = vec![purpose];
        let common_name = self.common_name().or_else(|| names.first().cloned()).ok_or(PkiError::Nameless)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        if names.is_empty() { Err(PkiError::Nameless) } else { Ok(names) }
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
            Reason::AffiliationChanged => Some(RevocationReason::AffiliationChanged),
            Reason::Superseded => Some(RevocationReason::Superseded),
            Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Reason::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        },
        invalidity_date: None,
    })
}

/// RFC 5280 §4.2.1.6: an rfc822Name is ASCII, without display name or comments.
fn email_name(text: &str) -> Result<&str, PkiError> {
    let good = text.is_ascii() && text.contains('@') && Address::parse(text).is_ok();
    if good { Ok(text) } else { Err(PkiError::Name { name: text.to_owned(), what: "e-mail address in ASCII" }) }
}

/// RFC 5280 §4.2.1.6 with RFC 1034 §3.5: letters, digits, hyphens; a whole first label may be `*`.
fn dns_name(text: &str) -> Result<&str, PkiError> {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let octets = label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_');
        octets && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let good = rest.len() <= 253 && rest.split('.').all(label);
    if good { Ok(text) } else { Err(PkiError::Name { name: text.to_owned(), what: "DNS name in ASCII" }) }
}

/// RFC 5280 §4.2.1.6: an absolute URI with a scheme, ASCII.
fn uri_name(text: &str) -> Result<&str, PkiError> {
    let graphic = text.bytes().all(|octet| octet.is_ascii_graphic());
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        let letters = scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet));
        letters && scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && !rest.is_empty()
    });
    if graphic && scheme { Ok(text) } else { Err(PkiError::Name { name: text.to_owned(), what: "URI" }) }
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
