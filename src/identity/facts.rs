//! What a certificate says, typed: names, serial, digests, dates (RFC 5280 §4.1, §4.2.1.6).
//!
//! A name counts only as the type it was given in the DER, and only whole (`names`); what is unusable is kept with its reason. Subject and issuer
//! are values (`distinguished`), and text for people beside it, escaped; nothing is ever matched on the text, nor on an emailAddress in the
//! subject.
//!
//! Never: verifies anything; decides what a name grants. Fails only on what is no certificate.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::asn1_rs::{Error as Asn1Error, FromDer as _, TaggedExplicit, Utf8String};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::distinguished::{DistinguishedName, SerialNumber};
use super::names;
use crate::mail::Address;
use crate::sys::WallTime;
use crate::tls::VerifiedChain;

/// The longest text of a subject, issuer or unusable name that is kept, characters.
pub const NAME_TEXT_MAX: usize = 512;
/// id-on-SmtpUTF8Mailbox, 1.3.6.1.5.5.7.8.9 (RFC 9598 §3). By its octets, as name constraints go by them: in dotted decimals an identifier with
/// a padded arc looks the same.
pub(crate) const SMTP_UTF8_MAILBOX: &[u8] = &[43, 6, 1, 5, 5, 7, 8, 9];
/// The user principal name of Active Directory's certificates, smart cards among them: 1.3.6.1.4.1.311.20.2.3.
const USER_PRINCIPAL_NAME: &[u8] = &[43, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest256(pub [u8; 32]);

impl Digest256 {
    /// The digest of some octets.
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }

    /// As openssl writes it: pairs of capital digits, with colons between.
    pub fn colons(&self) -> String {
        self.0.map(|octet| format!("{octet:02X}")).join(":")
    }
}

impl fmt::Display for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

impl fmt::Debug for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256: it has 64 hexadecimal digits, with or without colons (openssl x509 -fingerprint -sha256)")]
pub struct NotADigest;

impl FromStr for Digest256 {
    type Err = NotADigest;

    /// Reads 64 hexadecimal digits of either case; colons between pairs are passed over, as openssl writes them.
    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|&letter| letter != ':')
            .map(|letter| letter.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or(NotADigest))
            .collect::<Result<_, _>>()?;
        if digits.len() != 64 {
            return Err(NotADigest);
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return Err(NotADigest) };
            *octet = (high << 4) | low;
        }
        Ok(Self(octets))
    }
}

/// What logs, audit and the queue keep of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSummary {
    /// SHA-256 of the DER.
    pub fingerprint: Digest256,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub spki: Digest256,
    /// The serial in lower-case hexadecimal, without leading zeros.
    pub serial: String,
    /// The subject for people; never compared.
    pub subject: String,
    /// The issuer for people; never compared.
    pub issuer: String,
    /// When it begins.
    pub not_before: WallTime,
    /// When it ends.
    pub not_after: WallTime,
    /// When the first certificate of its verified chain ends, the anchor's own among them; never, of a pin that counts beyond its end. Of one that was not
    /// verified, when it ends itself. What a CRL says of the next one is no end.
    pub ends: WallTime,
    /// Its first usable e-mail name; of an identity the first that counts.
    pub email: Option<Address>,
    /// Issuer and serial of each certificate of the verified chain, leaf first, anchor excluded.
    pub chain: Vec<(String, String)>,
    /// The same certificates as a CRL knows them.
    pub links: Vec<Link>,
}

/// A certificate as a CRL knows it: octets, never text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// SHA-256 of the issuer's name in DER.
    pub issuer: Digest256,
    /// SHA-256 of the issuer's SubjectPublicKeyInfo; not known of a pin, for which every list under its issuer's name counts.
    pub issuer_key: Option<Digest256>,
    /// The serial's octets, as the certificate has them.
    pub serial: Vec<u8>,
}

/// A name that a certificate has but that grants nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableName {
    /// The kind and value, escaped for people.
    pub name: String,
    /// Why it is unusable.
    pub reason: &'static str,
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct CertificateFacts {
    /// rfc822Names and SmtpUTF8Mailboxes that are good addresses.
    pub emails: Vec<Address>,
    /// User principal names.
    pub upns: Vec<Address>,
    /// dNSNames, lower case.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// The subject, when it has one that is usable.
    pub subject: Option<DistinguishedName>,
    /// The issuer, when it is usable.
    pub issuer: Option<DistinguishedName>,
    /// The serial; none when it is negative or over 20 octets.
    pub serial: Option<SerialNumber>,
    /// Names that grant nothing.
    pub unusable: Vec<UnusableName>,
    /// For logs and the queue.
    pub summary: CertificateSummary,
}

/// The octets are no certificate of RFC 5280.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate of RFC 5280")]
pub struct NotACertificate;

impl CertificateFacts {
    /// Reads one certificate; the summary's chain holds it alone.
    pub fn of(der: &CertificateDer<'_>) -> Result<Self, NotACertificate> {
        let certificate = parse(der)?;
        let summary = summary(der, &certificate);
        Ok(Self::read(&certificate, summary))
    }

    fn read(certificate: &X509Certificate<'_>, summary: CertificateSummary) -> Self {
        let mut facts = Self {
            emails: Vec::new(),
            upns: Vec::new(),
            dns: Vec::new(),
            uris: Vec::new(),
            subject: None,
            issuer: None,
            serial: SerialNumber::of(certificate.raw_serial()),
            unusable: Vec::new(),
            summary,
        };
        facts.subject = facts.distinguished("subject", certificate.subject());
        facts.issuer = facts.distinguished("issuer", certificate.issuer());
        match certificate.subject_alternative_name() {
            Ok(Some(names)) => facts.take_names(&names.value.general_names),
            Ok(None) => {}
            Err(_) => facts.refuse("subjectAltName", "", "malformed, or there are two"),
        }
        facts.summary.email = facts.emails.first().cloned();
        facts
    }

    /// Reads the leaf of a verified chain; the summary holds issuer and serial of the whole chain.
    pub fn of_chain(chain: &VerifiedChain) -> Result<Self, NotACertificate> {
        let mut facts = Self::read(&parse(chain.leaf())?, chain.summary().ok_or(NotACertificate)?);
        facts.keep_upns(&chain.permits_each(&facts.upns));
        Ok(facts)
    }

    /// A user principal name that grants or matches is an address: beyond the e-mail constraints of its CAs it counts for nothing.
    fn keep_upns(&mut self, permitted: &[bool]) {
        for (upn, permitted) in std::mem::take(&mut self.upns).into_iter().zip(permitted) {
            if *permitted {
                self.upns.push(upn);
            } else {
                self.refuse("upn", upn.as_str(), "the e-mail name constraints of a CA above do not permit it");
            }
        }
    }

    /// Every usable name: its kind, called as the key of `match` that asks for it, and its text as that key takes it.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        let emails = self.emails.iter().map(|email| ("email", email.to_string()));
        let upns = self.upns.iter().map(|upn| ("upn", upn.to_string()));
        let dns = self.dns.iter().map(|name| ("dns", name.clone()));
        let uris = self.uris.iter().map(|uri| ("uri", uri.clone()));
        let subject = self.subject.iter().map(|subject| ("subject", subject.to_string()));
        emails.chain(upns).chain(dns).chain(uris).chain(subject)
    }

    /// A CA that speaks for one SPIFFE trust domain mints IDs of no other (SPIFFE X.509-SVID §3.2): such a one counts for nothing.
    pub(super) fn keep_trust_domain(&mut self, trust_domain: &str) {
        let foreign = |uri: &String| names::trust_domain_of(uri).is_some_and(|domain| domain != trust_domain);
        let (foreign, kept) = std::mem::take(&mut self.uris).into_iter().partition(foreign);
        self.uris = kept;
        for uri in foreign {
            self.refuse("uri", &uri, "its trust domain is not the one of its CA (trust_domain)");
        }
    }

    fn distinguished(&mut self, kind: &str, name: &X509Name<'_>) -> Option<DistinguishedName> {
        DistinguishedName::of(name).unwrap_or_else(|reason| {
            self.refuse(kind, &name_text(name), reason);
            None
        })
    }

    fn take_names(&mut self, general: &[GeneralName<'_>]) {
        for name in general {
            match name {
                GeneralName::RFC822Name(text) => match names::email(text) {
                    Ok(address) => self.emails.push(address),
                    Err(reason) => self.refuse("email", text, reason),
                },
                GeneralName::DNSName(text) => match names::dns(text) {
                    Ok(name) => self.dns.push(name),
                    Err(reason) => self.refuse("dns", text, reason),
                },
                GeneralName::URI(text) => match names::uri(text) {
                    Ok(uri) => self.uris.push(uri),
                    Err(reason) => self.refuse("uri", text, reason),
                },
                GeneralName::OtherName(kind, content) => self.take_other(kind.as_bytes(), content),
                GeneralName::Invalid(tag, octets) => {
                    let kind = match tag.0 {
                        1 => "email",
                        2 => "dns",
                        6 => "uri",
                        _ => "name",
                    };
                    self.refuse(kind, &octets.escape_ascii().to_string(), "octets beyond ASCII, or malformed");
                }
                GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        self.check_spiffe(general);
    }

    /// otherName: `[0] EXPLICIT` around a UTF8String, for the two kinds that are known; of others nothing is thought.
    fn take_other(&mut self, kind: &[u8], content: &[u8]) {
        let kind = match kind {
            SMTP_UTF8_MAILBOX => "email",
            USER_PRINCIPAL_NAME => "upn",
            _ => return,
        };
        let text = match TaggedExplicit::<Utf8String<'_>, Asn1Error, 0>::from_der(content) {
            Ok(([], text)) => text.into_inner().string(),
            Ok(_) | Err(_) => {
                return self.refuse(kind, &content.escape_ascii().to_string(), "not one UTF8String");
            }
        };
        let read = if kind == "upn" { names::upn(&text) } else { names::utf8_mailbox(&text) };
        match read {
            Ok(address) if kind == "upn" => self.upns.push(address),
            Ok(address) => self.emails.push(address),
            Err(reason) => self.refuse(kind, &text, reason),
        }
    }

    /// SPIFFE X.509-SVID §2: exactly one URI. With two, nobody knows which workload it is, so none of them counts.
    fn check_spiffe(&mut self, general: &[GeneralName<'_>]) {
        let is_uri = |name: &&GeneralName<'_>| matches!(name, GeneralName::URI(_) | GeneralName::Invalid(_, _));
        if general.iter().filter(is_uri).count() > 1 && self.uris.iter().any(|uri| names::is_spiffe(uri)) {
            for uri in std::mem::take(&mut self.uris) {
                self.refuse("uri", &uri, "a SPIFFE certificate has exactly one URI");
            }
        }
    }

    fn refuse(&mut self, kind: &str, text: &str, reason: &'static str) {
        self.unusable.push(UnusableName { name: format!("{kind}:{}", escaped(text)), reason });
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, NotACertificate> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(NotACertificate),
    }
}

fn summary(der: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> CertificateSummary {
    let issuer = name_text(certificate.issuer());
    let serial = serial_text(certificate.raw_serial());
    let not_after = WallTime::from_seconds(certificate.validity().not_after.timestamp());
    CertificateSummary {
        fingerprint: Digest256::of(der),
        spki: Digest256::of(certificate.public_key().raw),
        chain: vec![(issuer.clone(), serial.clone())],
        links: Vec::new(),
        serial,
        subject: name_text(certificate.subject()),
        issuer,
        not_before: WallTime::from_seconds(certificate.validity().not_before.timestamp()),
        not_after,
        ends: not_after,
        email: None,
    }
}

/// A distinguished name for people, in the order of the DER, after RFC 4514's manner: `C=DE, O=Example, CN=Alice`.
pub(crate) fn name_text(name: &X509Name<'_>) -> String {
    let parts: Vec<String> = name.iter_attributes().map(attribute_text).collect();
    shortened(&parts.join(", "))
}

fn attribute_text(attribute: &AttributeTypeAndValue<'_>) -> String {
    let kind = match oid2abbrev(attribute.attr_type(), oid_registry()) {
        Ok(known) => known.to_owned(),
        Err(_) => attribute.attr_type().to_id_string(),
    };
    match attribute.as_str() {
        Ok(text) => format!("{kind}={}", escaped(text)),
        Err(_) => format!("{kind}=#{}", hexadecimal(attribute.as_slice())),
    }
}

/// A serial in lower-case hexadecimal without leading zeros.
pub(crate) fn serial_text(octets: &[u8]) -> String {
    let text = hexadecimal(octets);
    let significant = text.trim_start_matches('0');
    if significant.is_empty() { "0".to_owned() } else { shortened(significant) }
}

fn hexadecimal(octets: &[u8]) -> String {
    let shown = octets.get(..NAME_TEXT_MAX).unwrap_or(octets);
    let mut text = String::with_capacity(shown.len().saturating_mul(2));
    let digits = shown.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    text.extend(digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)));
    text
}

/// Text of strangers made safe for a log line: controls, marks of direction and whatever is neither a letter nor a digit nor printable ASCII are
/// escaped, and so are the characters by which one name could pass for two.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for letter in text.chars().take(NAME_TEXT_MAX) {
        match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => safe.extend(['\\', letter]),
            ' '..='~' => safe.push(letter),
            _ if letter.is_alphanumeric() => safe.push(letter),
            _ => safe.extend(letter.escape_unicode()),
        }
    }
    shortened(&safe)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(NAME_TEXT_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_openssl_writes_it() {
        let digest = Digest256::of(b"sealpost");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(digest.colons().parse(), Ok(digest));
        let short: String = text.chars().skip(1).collect();
        for wrong in ["", "00", &short, &format!("{text}0"), &format!("g{short}"), &format!("é{short}")] {
            assert_eq!(wrong.parse::<Digest256>(), Err(NotADigest), "{wrong}");
        }
    }

    #[test]
    fn text_of_strangers_is_escaped_for_the_log() {
        assert_eq!(escaped("Müller"), "Müller");
        assert_eq!(escaped("a\nb"), "a\\u{a}b");
        assert_eq!(escaped("a, CN=b"), "a\\, CN=b");
        assert_eq!(escaped("a\u{202e}b"), "a\\u{202e}b");
        assert!(escaped(&"x".repeat(10_000)).len() <= NAME_TEXT_MAX + 3);
    }

    #[test]
    fn a_serial_has_no_leading_zeros() {
        assert_eq!(serial_text(&[0, 0x0a, 0xff]), "aff");
        assert_eq!(serial_text(&[0]), "0");
        assert_eq!(serial_text(&[]), "0");
    }
}
