//! Who a certificate is for, and how that is written into it (RFC 5280 §4.2.1.6, RFC 9598 for addresses beyond ASCII).
//!
//! Never: writes a name that it could not read itself; takes a name from anywhere but its caller.

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType};

use super::PkiError;
use super::index::{Entry, Kind};
use crate::identity::names;
use crate::mail::Address;

/// id-on-SmtpUTF8Mailbox (RFC 9598 §3).
const SMTP_UTF8_MAILBOX: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 9];

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bearer {
    /// A person, by e-mail addresses, as a TLS client.
    Person {
        /// The addresses, at least one.
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

    pub(super) fn common_name(&self) -> Option<String> {
        match self {
            Self::Person { common_name, .. } => common_name.clone(),
            Self::Robot { .. } | Self::Server { .. } => None,
        }
    }

    /// Who bears a certificate like this one: for its renewal. `None` for an authority's own.
    pub fn of(entry: &Entry) -> Option<Self> {
        let names = entry.names.clone();
        match entry.kind {
            Kind::Person => Some(Self::Person { emails: names, common_name: entry.common_name.clone() }),
            Kind::Server => Some(Self::Server { names }),
            Kind::Robot => {
                let (uris, dns) = names.into_iter().partition(|name| name.contains(':'));
                Some(Self::Robot { dns, uris })
            }
            Kind::Authority => None,
        }
    }

    /// Writes the names into the certificate to be; gives them back as the index keeps them.
    pub(super) fn describe(&self, params: &mut CertificateParams) -> Result<Vec<String>, PkiError> {
        let (names, purpose) = match self {
            Self::Person { emails, .. } => {
                for email in emails {
                    params.subject_alt_names.push(email_name(email)?);
                }
                (emails.clone(), ExtendedKeyUsagePurpose::ClientAuth)
            }
            Self::Robot { dns, uris } => {
                check_usable(dns, uris)?;
                for name in dns {
                    params.subject_alt_names.push(SanType::DnsName(dns_name(name)?.try_into()?));
                }
                for uri in uris {
                    params.subject_alt_names.push(SanType::URI(uri_name(uri)?.try_into()?));
                }
                ([dns.as_slice(), uris.as_slice()].concat(), ExtendedKeyUsagePurpose::ClientAuth)
            }
            Self::Server { names } => {
                for name in names {
                    params.subject_alt_names.push(match name.parse() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(dns_name(name)?.try_into()?),
                    });
                }
                (names.clone(), ExtendedKeyUsagePurpose::ServerAuth)
            }
        };
        params.extended_key_usages = vec![purpose];
        let common_name = self.common_name().or_else(|| names.first().cloned()).ok_or(PkiError::Nameless)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        if names.is_empty() { Err(PkiError::Nameless) } else { Ok(names) }
    }
}

/// RFC 5280 §4.2.1.6: an rfc822Name is ASCII, without display name or comments, its domain in A-labels (§7.5). RFC 9598 §3: an address whose
/// local part is not ASCII is a SmtpUTF8Mailbox, its domain in A-labels too; with an ASCII local part that form must not be used.
fn email_name(text: &str) -> Result<SanType, PkiError> {
    let refused = || PkiError::Name { name: text.to_owned(), what: "e-mail address" };
    let address = Address::parse(text).map_err(|_| refused())?;
    let domain = address.host().domain().ok_or_else(refused)?.ascii();
    if !text.contains('@') || text.chars().any(|letter| letter.is_control() || letter == ' ') {
        return Err(refused());
    }
    let mailbox = format!("{}@{domain}", address.local_part());
    if mailbox.is_ascii() {
        // As it was given where it is ASCII already: a capital letter in a local part is its owner's.
        let kept = if text.is_ascii() { text } else { mailbox.as_str() };
        return Ok(SanType::Rfc822Name(kept.try_into()?));
    }
    Ok(SanType::OtherName((SMTP_UTF8_MAILBOX.to_vec(), mailbox.into())))
}

/// A program's certificate is there to log in with: a name that the relay takes from none is refused here already.
fn check_usable(dns: &[String], uris: &[String]) -> Result<(), PkiError> {
    let unusable = |name: &str, why| PkiError::Unusable { name: name.to_owned(), why };
    for name in dns.iter().filter(|name| dns_name(name).is_ok()) {
        names::dns(name).map_err(|why| unusable(name, why))?;
    }
    for uri in uris.iter().filter(|uri| uri_name(uri).is_ok()) {
        names::uri(uri).map_err(|why| unusable(uri, why))?;
    }
    // SPIFFE X.509-SVID §2.
    match uris.iter().find(|uri| names::is_spiffe(uri)) {
        Some(spiffe) if uris.len() > 1 => Err(unusable(spiffe, "a SPIFFE certificate has exactly one URI")),
        Some(_) | None => Ok(()),
    }
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
