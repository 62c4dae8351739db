//! Certificates by recipe, at test time: no fixture lies in the tree, so none expires.
//!
//! Dates are counted from a fixed clock ([`NOW`]), or from the real one where a daemon runs ([`Recipe::around`]). Serials are random, because
//! rcgen's default repeats per key; validity is set, because its default is the years 1975 to 4096. Used by the unit tests of the library, too
//! (`tls::recipe`), so it names nothing of it: seconds, octets and text go in, DER and PEM come out.

#![allow(dead_code, reason = "each of the two test binaries uses its own part of the recipes")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlIssuingDistributionPoint, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// The fixed clock: 2027-01-15T08:00:00Z, in seconds.
pub(crate) const NOW: i64 = 1_800_000_000;
/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

/// What a certificate is to be.
pub(crate) struct Recipe {
    pub(crate) params: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
}

impl Recipe {
    /// A client's certificate: clientAuth, digitalSignature, from yesterday for ninety days.
    pub(crate) fn client(name: &str) -> Self {
        let mut recipe = Self::bare(name);
        recipe.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        recipe.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        recipe
    }

    /// A server's certificate for this name.
    pub(crate) fn server(name: &str) -> Self {
        let mut recipe = Self::bare(name).dns(name);
        recipe.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        recipe.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        recipe
    }

    /// A CA's, for ten years.
    pub(crate) fn ca(name: &str) -> Self {
        let mut recipe = Self::bare(name).valid(NOW - DAY, NOW + 3650 * DAY);
        recipe.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        recipe.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        recipe
    }

    fn bare(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        Self { params, algorithm: &rcgen::PKCS_ECDSA_P256_SHA256 }.valid(NOW - DAY, NOW + 90 * DAY)
    }

    /// notBefore and notAfter, in seconds since the epoch.
    pub(crate) fn valid(mut self, from: i64, to: i64) -> Self {
        self.params.not_before = moment(from).into();
        self.params.not_after = moment(to).into();
        self
    }

    /// From a day before to a day after: for tests that run a daemon by the real clock.
    pub(crate) fn around(self, seconds: i64) -> Self {
        self.valid(seconds - DAY, seconds + DAY)
    }

    /// With this rfc822Name, be it good or bad (any ASCII).
    pub(crate) fn email(self, name: &str) -> Self {
        let name = name.try_into().unwrap();
        self.san(SanType::Rfc822Name(name))
    }

    /// With this dNSName.
    pub(crate) fn dns(self, name: &str) -> Self {
        let name = name.try_into().unwrap();
        self.san(SanType::DnsName(name))
    }

    /// With this URI.
    pub(crate) fn uri(self, name: &str) -> Self {
        let name = name.try_into().unwrap();
        self.san(SanType::URI(name))
    }

    pub(crate) fn san(mut self, name: SanType) -> Self {
        self.params.subject_alt_names.push(name);
        self
    }

    /// With exactly these extended key usages; none leaves the extension out.
    pub(crate) fn purposes(mut self, purposes: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = purposes.to_vec();
        self
    }

    /// With exactly these key usages; none leaves the extension out.
    pub(crate) fn usages(mut self, usages: &[KeyUsagePurpose]) -> Self {
        self.params.key_usages = usages.to_vec();
        self
    }

    /// With a pathLenConstraint.
    pub(crate) fn path_length(mut self, length: u8) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
        self
    }

    /// With name constraints that permit e-mail names of this domain.
    pub(crate) fn permits_email(self, domain: &str) -> Self {
        self.constraints(vec![GeneralSubtree::Rfc822Name(domain.to_owned())], Vec::new())
    }

    /// With these name constraints.
    pub(crate) fn constraints(
        mut self,
        permitted_subtrees: Vec<GeneralSubtree>,
        excluded_subtrees: Vec<GeneralSubtree>,
    ) -> Self {
        self.params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
        self
    }

    /// With a cRLDistributionPoint of this URI.
    pub(crate) fn crl_point(self, uri: &str) -> Self {
        let name = der(0xa0, &der(0xa0, &der(0x86, uri.as_bytes())));
        self.extension(&[2, 5, 29, 31], false, der(0x30, &der(0x30, &name)))
    }

    /// With an extension of this OID.
    pub(crate) fn extension(mut self, oid: &[u64], critical: bool, content: Vec<u8>) -> Self {
        let mut extension = CustomExtension::from_oid_content(oid, content);
        extension.set_criticality(critical);
        self.params.custom_extensions.push(extension);
        self
    }

    /// With this serial.
    pub(crate) fn serial(mut self, octets: &[u8]) -> Self {
        self.params.serial_number = Some(SerialNumber::from_slice(octets));
        self
    }

    /// With a key of this kind.
    pub(crate) fn key(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Signed by a CA.
    pub(crate) fn signed_by(self, ca: &Made) -> Made {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        self.with_key(key, Some(ca))
    }

    /// Signed by itself.
    pub(crate) fn self_signed(self) -> Made {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        self.with_key(key, None)
    }

    /// For this key, signed by a CA or by itself.
    pub(crate) fn with_key(mut self, key: KeyPair, ca: Option<&Made>) -> Made {
        self.params.serial_number.get_or_insert_with(|| random_serial(&key));
        let made = match ca {
            Some(ca) => self.params.signed_by(&key, &ca.issuer()),
            None => self.params.self_signed(&key),
        };
        Made { der: made.unwrap().der().clone(), params: self.params, key }
    }

    /// Signed by itself as X.509 version 1: without a version and without extensions (RFC 5280 §4.1).
    pub(crate) fn self_signed_of_version_1(self) -> Made {
        let made = self.self_signed();
        let whole = content(&made.der);
        let (signed, behind) = whole.split_at(value_length(whole));
        let mut fields = content(signed);
        let mut kept = Vec::new();
        while !fields.is_empty() {
            let (field, rest) = fields.split_at(value_length(fields));
            if !matches!(field.first(), Some(0xa0 | 0xa3)) {
                kept.extend_from_slice(field);
            }
            fields = rest;
        }
        let signed = der(0x30, &kept);
        let algorithm = behind.get(..value_length(behind)).unwrap().to_vec();
        let signature = [vec![0], made.key.sign(&signed).unwrap()].concat();
        let certificate = der(0x30, &[signed, algorithm, der(0x03, &signature)].concat());
        Made { der: certificate.into(), ..made }
    }

    /// For a public key whose private key nobody has; signed by a CA.
    pub(crate) fn for_public_key(mut self, key: &ForeignKey, ca: &Made) -> CertificateDer<'static> {
        self.params.serial_number.get_or_insert_with(|| random_serial(&ca.key));
        self.params.signed_by(key, &ca.issuer()).unwrap().der().clone()
    }
}

/// A certificate with its key.
pub(crate) struct Made {
    pub(crate) params: CertificateParams,
    pub(crate) key: KeyPair,
    pub(crate) der: CertificateDer<'static>,
}

impl Made {
    pub(crate) fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// With the other signature that is as good.
    pub(crate) fn with_the_other_signature(&self) -> CertificateDer<'static> {
        with_the_other_signature(&self.der)
    }

    /// The certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// The key in PEM (PKCS#8).
    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The key in DER (PKCS#8).
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// The serial's octets.
    pub(crate) fn serial(&self) -> Vec<u8> {
        self.params.serial_number.as_ref().unwrap().to_bytes()
    }

    /// SHA-256 of the certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> [u8; 32] {
        Sha256::digest(self.key.subject_public_key_info()).into()
    }

    /// This CA's CRL in DER.
    pub(crate) fn crl(&self, recipe: &CrlRecipe<'_>) -> Vec<u8> {
        recipe.signed_by(&self.issuer())
    }
}

/// What a CRL is to be.
pub(crate) struct CrlRecipe<'a> {
    /// The serials it lists.
    pub(crate) revoked: &'a [Vec<u8>],
    /// thisUpdate, in seconds since the epoch.
    pub(crate) from: i64,
    /// nextUpdate, in seconds since the epoch.
    pub(crate) to: i64,
    /// cRLNumber, its last eight octets.
    pub(crate) number: u64,
    /// Those before them, of cRLNumbers that no u64 holds.
    pub(crate) number_begins: &'a [u8],
    /// issuingDistributionPoint.
    pub(crate) point: Option<CrlIssuingDistributionPoint>,
}

impl<'a> CrlRecipe<'a> {
    /// From yesterday for a week, listing these serials.
    pub(crate) fn listing(revoked: &'a [Vec<u8>]) -> Self {
        Self { revoked, from: NOW - DAY, to: NOW + 7 * DAY, number: 1, number_begins: &[], point: None }
    }

    pub(crate) fn valid(self, from: i64, to: i64) -> Self {
        Self { from, to, ..self }
    }

    pub(crate) fn signed_by(&self, issuer: &Issuer<'_, &KeyPair>) -> Vec<u8> {
        let revoked = |serial: &Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: moment(self.from).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(self.from).into(),
            next_update: moment(self.to).into(),
            crl_number: match self.number_begins {
                [] => SerialNumber::from(self.number),
                begins => SerialNumber::from([begins, self.number.to_be_bytes().as_slice()].concat()),
            },
            issuing_distribution_point: self.point.clone(),
            revoked_certs: self.revoked.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(issuer).unwrap().der().to_vec()
    }
}

/// What a responder is to say of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OcspStatus {
    Good,
    Revoked,
}

/// The OCSP answer of an issuer about a certificate of its (RFC 6960 §4.2.1), without a nonce, that counts from then to then. The key is one for P-256.
pub(crate) fn ocsp_answer(
    issuer: &CertificateDer<'_>,
    key: &KeyPair,
    about: &CertificateDer<'_>,
    status: OcspStatus,
    (from, to): (i64, i64),
) -> Vec<u8> {
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let time = |seconds| {
        let text = jiff::Timestamp::from_second(seconds).unwrap().strftime("%Y%m%d%H%M%SZ").to_string();
        der(0x18, text.as_bytes())
    };
    // RFC 5280 §4.1: version, serial, algorithm, issuer, validity, subject, key.
    let (issued, issuing) = (values(content(content(about))), values(content(content(issuer))));
    let (serial, name) = (issued[1], issuing[5]);
    let key_bits = &content(values(content(issuing[6]))[1])[1..];
    let algorithm = |oid| der(0x30, &der(0x06, oid));
    let hash = |octets: &[u8]| der(0x04, &Sha256::digest(octets));
    let id = der(0x30, &[algorithm(SHA256), hash(name), hash(key_bits), serial.to_vec()].concat());
    let status = match status {
        OcspStatus::Good => vec![0x80, 0],
        OcspStatus::Revoked => der(0xa1, &time(from)),
    };
    let single = der(0x30, &[id, status, time(from), der(0xa0, &time(to))].concat());
    let data = der(0x30, &[der(0xa1, name), time(from), der(0x30, &single)].concat());
    let signature = der(0x03, &[vec![0], key.sign(&data).unwrap()].concat());
    let basic = der(0x30, &[data, algorithm(ECDSA_WITH_SHA256), signature].concat());
    let octets = der(0x30, &[der(0x06, BASIC), der(0x04, &basic)].concat());
    der(0x30, &[der(0x0a, &[0]), der(0xa0, &octets)].concat())
}

/// A public key without its private one, or with one that signs nonsense: for kinds that no library makes any more.
pub(crate) struct ForeignKey {
    octets: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl ForeignKey {
    /// An RSA key of so many octets, by its looks (RFC 8017 A.1.1): an odd modulus, exponent 65537.
    pub(crate) fn rsa(octets: usize) -> Self {
        let mut modulus = vec![0xc5; octets];
        modulus.insert(0, 0);
        let number = |content: &[u8]| der(0x02, content);
        let octets = der(0x30, &[number(&modulus), number(&[1, 0, 1])].concat());
        Self { octets, algorithm: &rcgen::PKCS_RSA_SHA256 }
    }
}

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.octets
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for ForeignKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(vec![0x5a; 128])
    }
}

/// One DER value (X.690 §8.1).
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len().to_be_bytes().to_vec();
    length.retain({
        let mut leading = true;
        move |&octet| {
            leading &= octet == 0;
            !leading
        }
    });
    let head = match content.len() {
        short @ 0..=127 => vec![tag, u8::try_from(short).unwrap()],
        _ => [vec![tag, 0x80 | u8::try_from(length.len()).unwrap()], length].concat(),
    };
    [head, content.to_vec()].concat()
}

/// The same certificate with the other signature that is as good (ECDSA on P-256: n - s for s), which anybody can put there.
pub(crate) fn with_the_other_signature(certificate: &[u8]) -> CertificateDer<'static> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let whole = content(certificate);
    let (signed, behind) = whole.split_at(value_length(whole));
    let (algorithm, signature) = behind.split_at(value_length(behind));
    let pair = content(content(signature).get(1..).unwrap());
    let (r, s) = pair.split_at(value_length(pair));
    let octets = content(s);
    let octets = octets.strip_prefix(&[0]).unwrap_or(octets);
    let mut other = [0; 32];
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let octet = (place + octets.len()).checked_sub(32).map_or(0, |at| octets[at]);
        let left = i16::from(ORDER[place]) - i16::from(octet) - borrow;
        borrow = i16::from(left < 0);
        other[place] = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    let other: Vec<u8> = other.into_iter().skip_while(|octet| *octet == 0).collect();
    let padding: &[u8] = if other[0] & 0x80 == 0 { &[] } else { &[0] };
    let pair = der(0x30, &[r, &der(0x02, &[padding, &other].concat())].concat());
    der(0x30, &[signed, algorithm, &der(0x03, &[&[0], pair.as_slice()].concat())].concat()).into()
}

/// The octets of the first DER value, its head included.
fn value_length(octets: &[u8]) -> usize {
    let (head, length) = match octets.get(1).copied().unwrap() {
        short @ 0..=127 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            let length = octets.get(2..2 + count).unwrap();
            (2 + count, length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
        }
    };
    head + length
}

/// The DER values that stand behind one another, each with its head.
fn values(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while !octets.is_empty() {
        let (value, rest) = octets.split_at(value_length(octets));
        found.push(value);
        octets = rest;
    }
    found
}

/// What is in the first DER value.
fn content(octets: &[u8]) -> &[u8] {
    let head = match octets.get(1).copied().unwrap() {
        0..=127 => 2,
        long => 2 + usize::from(long & 0x7f),
    };
    octets.get(head..value_length(octets)).unwrap()
}

/// A PEM block (RFC 7468).
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Seconds since the epoch as the standard library's time, which rcgen's own is made from.
fn moment(seconds: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap())
}

/// Sixteen octets that no other certificate has: the key is random, the count is for a key used twice.
fn random_serial(key: &KeyPair) -> SerialNumber {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let count = MADE.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let digest = Sha256::new().chain_update(key.public_key_raw()).chain_update(count).finalize();
    let mut serial = digest.get(..16).unwrap().to_vec();
    // Positive, and without a leading zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}
