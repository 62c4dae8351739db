//! What a certificate says, typed: names, serial, digests, dates (RFC 5280 §4.1, §4.2.1.6).
//!
//! A name counts only as the type it was given in the DER, and only whole: one with NUL, control octets, spaces or octets beyond ASCII is
//! unusable and says why (CVE-2009-4565, CVE-2021-44531 and kin lived of such names). Subject and issuer are made text for people, escaped;
//! nothing is ever matched on them, nor on an emailAddress in the subject.
//!
//! Never: verifies anything; decides what a name grants. Fails only on what is no certificate.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use crate::mail::{Address, Domain};
use crate::sys::WallTime;
use crate::tls::VerifiedChain;

/// The longest text of a subject, issuer or unusable name that is kept, characters.
pub const NAME_TEXT_MAX: usize = 512;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest256(pub [u8; 32]);

impl Digest256 {
    /// The digest of some octets.
    pub fn of(octets: &[u8]) -> Self {
        Self(Sha256::digest(octets).into())
    }
}

impl fmt::Display for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for octet in self.0 {
            write!(f, "{octet:02x}")?;
        }
        Ok(())
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
    /// When it ends.
    pub not_after: WallTime,
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
    /// rfc822Names that are good addresses.
    pub emails: Vec<Address>,
    /// dNSNames, lower case.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
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
        let mut facts = Self {
            emails: Vec::new(),
            dns: Vec::new(),
            uris: Vec::new(),
            unusable: Vec::new(),
            summary: summary(der, &certificate),
        };
        match certificate.subject_alternative_name() {
            Ok(Some(names)) => facts.take_names(&names.value.general_names),
            Ok(None) => {}
            Err(_) => facts.refuse("subjectAltName", "", "malformed, or there are two"),
        }
        Ok(facts)
    }

    /// Reads the leaf of a verified chain; the summary holds issuer and serial of the whole chain.
    pub fn of_chain(chain: &VerifiedChain) -> Result<Self, NotACertificate> {
        let mut facts = Self::of(chain.leaf())?;
        let entry = |der| parse(der).map(|read| (name_text(read.issuer()), serial_text(read.raw_serial())));
        facts.summary.chain = chain.certificates().iter().map(entry).collect::<Result<_, _>>()?;
        facts.summary.links = links(chain)?;
        Ok(facts)
    }

    fn take_names(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::RFC822Name(text) => match email(text) {
                    Ok(address) => self.emails.push(address),
                    Err(reason) => self.refuse("email", text, reason),
                },
                GeneralName::DNSName(text) => match dns_name(text) {
                    Ok(name) => self.dns.push(name),
                    Err(reason) => self.refuse("dns", text, reason),
                },
                GeneralName::URI(text) => match uri(text) {
                    Ok(uri) => self.uris.push(uri),
                    Err(reason) => self.refuse("uri", text, reason),
                },
                GeneralName::Invalid(tag, octets) => {
                    let kind = match tag.0 {
                        1 => "email",
                        2 => "dns",
                        6 => "uri",
                        _ => "name",
                    };
                    self.refuse(kind, &octets.escape_ascii().to_string(), "octets beyond ASCII, or malformed");
                }
                GeneralName::OtherName(..)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        self.check_spiffe(names);
    }

    /// SPIFFE X.509-SVID §2: exactly one URI. With two, nobody knows which workload it is, so none of them counts.
    fn check_spiffe(&mut self, names: &[GeneralName<'_>]) {
        let uris = names.iter().filter(|name| matches!(name, GeneralName::URI(_) | GeneralName::Invalid(_, _))).count();
        if uris > 1 && self.uris.iter().any(|uri| is_spiffe(uri)) {
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

/// Each certificate with the key of the next one, the last with the anchor's.
fn links(chain: &VerifiedChain) -> Result<Vec<Link>, NotACertificate> {
    let read: Vec<X509Certificate<'_>> = chain.certificates().iter().map(parse).collect::<Result<_, _>>()?;
    let keys = read.iter().skip(1).map(|issuer| Some(Digest256::of(issuer.public_key().raw)));
    let keys = keys.chain(std::iter::once(chain.anchor_key()));
    let link = |(one, issuer_key): (&X509Certificate<'_>, Option<Digest256>)| Link {
        issuer: Digest256::of(one.issuer().as_raw()),
        issuer_key,
        serial: one.raw_serial().to_vec(),
    };
    Ok(read.iter().zip(keys).map(link).collect())
}

fn summary(der: &CertificateDer<'_>, certificate: &X509Certificate<'_>) -> CertificateSummary {
    let issuer = name_text(certificate.issuer());
    let serial = serial_text(certificate.raw_serial());
    CertificateSummary {
        fingerprint: Digest256::of(der),
        spki: Digest256::of(certificate.public_key().raw),
        chain: vec![(issuer.clone(), serial.clone())],
        links: Vec::new(),
        serial,
        subject: name_text(certificate.subject()),
        issuer,
        not_after: WallTime::from_seconds(certificate.validity().not_after.timestamp()),
    }
}

/// What is wrong with the characters of any name.
fn plain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("empty")
    } else if text.contains('\0') {
        Err("holds NUL")
    } else if !text.is_ascii() {
        Err("holds octets beyond ASCII")
    } else if text.chars().any(|letter| letter.is_ascii_control()) {
        Err("holds control octets")
    } else if text.contains(' ') {
        Err("holds spaces")
    } else {
        Ok(())
    }
}

/// RFC 5280 §4.2.1.6: a Mailbox of RFC 5321 §4.1.2, without a phrase, comment or angle brackets. International ones are SmtpUTF8Mailbox.
fn email(text: &str) -> Result<Address, &'static str> {
    plain(text)?;
    let address = Address::parse(text).map_err(|_| "not an address of RFC 5321")?;
    if address.host().domain().is_none() {
        return Err("its host is an IP address");
    }
    if !address.host().is_fully_qualified() {
        return Err("its domain is not fully qualified");
    }
    Ok(address)
}

/// RFC 5280 §4.2.1.6: a host name in the preferred syntax; a wildcard names no one host.
fn dns_name(text: &str) -> Result<String, &'static str> {
    plain(text)?;
    if text.contains('*') {
        return Err("a wildcard names nobody");
    }
    Domain::parse(text).map(|name| name.ascii().to_owned()).map_err(|_| "not a host name")
}

/// RFC 5280 §4.2.1.6: absolute, with a scheme. Compared octet for octet.
fn uri(text: &str) -> Result<String, &'static str> {
    plain(text)?;
    let scheme = text.split_once(':').map(|(scheme, _)| scheme).ok_or("it has no scheme")?;
    let well_formed = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
    if !well_formed {
        return Err("it has no scheme");
    }
    if is_spiffe(text) && !spiffe_is_canonical(text) {
        return Err("not a SPIFFE ID: spiffe://, a trust domain in lower case, a path");
    }
    Ok(text.to_owned())
}

fn is_spiffe(uri: &str) -> bool {
    uri.split_at_checked(7).is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// SPIFFE ID §2: scheme and trust domain in lower case, no user, port, query or fragment, no empty or relative segments.
fn spiffe_is_canonical(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
    let of = |text: &str, more: &str, upper: bool| {
        text.chars().all(|letter| {
            letter.is_ascii_lowercase()
                || letter.is_ascii_digit()
                || (upper && letter.is_ascii_uppercase())
                || more.contains(letter)
        })
    };
    let segment = |text: &str| !text.is_empty() && text != "." && text != ".." && of(text, "-._", true);
    !domain.is_empty() && of(domain, "-._", false) && path.is_none_or(|path| path.split('/').all(segment))
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
    octets.iter().take(NAME_TEXT_MAX).map(|octet| format!("{octet:02x}")).collect()
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
        let colons: Vec<String> = digest.0.iter().map(|octet| format!("{octet:02X}")).collect();
        assert_eq!(text.parse(), Ok(digest));
        assert_eq!(colons.join(":").parse(), Ok(digest));
        let short: String = text.chars().skip(1).collect();
        for wrong in ["", "00", &short, &format!("{text}0"), &format!("g{short}"), &format!("é{short}")] {
            assert_eq!(wrong.parse::<Digest256>(), Err(NotADigest), "{wrong}");
        }
    }

    #[test]
    fn an_email_name_counts_only_when_it_is_plain_and_whole() {
        assert_eq!(
            email("Alice@Example.com").map(|address| address.as_str().to_owned()),
            Ok("Alice@Example.com".into())
        );
        for wrong in [
            "",
            "alice",
            "@example.com",
            "alice@",
            "alice@example.com\0.evil.example",
            "alice\0@example.com",
            "alice@example.com\n",
            "al ice@example.com",
            "älice@example.com",
            "alice@exämple.com",
            "<alice@example.com>",
            "Alice <alice@example.com>",
            "alice@example.com,bob@example.com",
            "alice@[192.0.2.1]",
            "alice@localhost",
            "alice@example.com.",
        ] {
            assert!(email(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_dns_name_counts_only_as_one_host() {
        assert_eq!(dns_name("Printer.Example.COM").as_deref(), Ok("printer.example.com"));
        for wrong in ["", "*.example.com", "a\0b.example.com", "a b", "exämple.com", ".example.com", "example.com."] {
            assert!(dns_name(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_spiffe_id_counts_only_in_its_one_form() {
        for right in ["spiffe://example.com/billing", "spiffe://example.com", "https://Example.com/a?b#c", "urn:uuid:1"]
        {
            assert_eq!(uri(right).as_deref(), Ok(right));
        }
        for wrong in [
            "",
            "no-scheme",
            ":x",
            "1a:x",
            "SPIFFE://example.com/a",
            "spiffe://Example.com/a",
            "spiffe:///a",
            "spiffe://example.com/",
            "spiffe://example.com//a",
            "spiffe://example.com/../a",
            "spiffe://user@example.com/a",
            "spiffe://example.com:1/a",
            "spiffe://example.com/a?b",
            "spiffe://example.com/%61",
            "spiffe://example.com/a\0",
        ] {
            assert!(uri(wrong).is_err(), "{wrong:?}");
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
