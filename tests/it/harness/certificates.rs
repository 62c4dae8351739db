//! Certificates by recipe: a CA that the relay trusts, one that it does not, the server's, and clients'.
//!
//! The daemon runs on the machine's clock, so what is valid here is valid for a century, and nothing expires with time.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub certificate: PathBuf,
    pub key: PathBuf,
    serial: u64,
}

impl Leaf {
    /// The same with another serial, as a CRL may name it: no certificate is made.
    #[allow(dead_code, reason = "benches/compare makes CRLs of a million serials")]
    pub fn with_serial(&self, serial: u64) -> Self {
        Self { serial, ..self.clone() }
    }

    /// Its serial as `openssl ca` writes it.
    pub fn serial_hexadecimal(&self) -> String {
        let text = format!("{:X}", self.serial);
        if text.len() % 2 == 0 { text } else { format!("0{text}") }
    }
}

/// A CA in a directory of its own.
pub struct Authority {
    directory: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
    issued: u64,
}

impl Authority {
    pub fn new(directory: &Path, name: &str) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut recipe = recipe(name, 1);
        recipe.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        recipe.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(recipe, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        Self { directory: directory.to_owned(), issuer, issued: 1 }
    }

    /// The anchor, as a PEM file.
    pub fn anchor(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A client certificate with this e-mail name.
    pub fn client(&mut self, email: &str) -> Leaf {
        let names = vec![SanType::Rfc822Name(email.try_into().unwrap())];
        self.issue(email, names, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for answering by OCSP in this CA's stead (RFC 6960 §4.2.2.2).
    pub fn responder(&mut self) -> Leaf {
        self.issue("responder", Vec::new(), ExtendedKeyUsagePurpose::OcspSigning)
    }

    /// The CA's own certificate and key.
    pub fn itself(&self) -> Leaf {
        let key = self.directory.join("ca.key");
        write_secret(&key, &self.issuer.key().serialize_pem());
        Leaf { certificate: self.anchor(), key, serial: 1 }
    }

    /// A client certificate with this e-mail name that names where its CRL lies.
    pub fn client_naming(&mut self, email: &str, crl: &str) -> Leaf {
        let names = vec![SanType::Rfc822Name(email.try_into().unwrap())];
        let point = rcgen::CrlDistributionPoint { uris: vec![crl.to_owned()] };
        self.issue_with(&format!("naming-{email}"), names, ExtendedKeyUsagePurpose::ClientAuth, |recipe| {
            recipe.crl_distribution_points = vec![point];
        })
    }

    /// A client certificate with this e-mail name that ends so many seconds from now.
    pub fn client_for(&mut self, email: &str, seconds: u64) -> Leaf {
        let names = vec![SanType::Rfc822Name(email.try_into().unwrap())];
        let end = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds);
        self.issue_with(&format!("short-{email}"), names, ExtendedKeyUsagePurpose::ClientAuth, |recipe| {
            recipe.not_after = end.into();
        })
    }

    /// A server certificate for localhost.
    pub fn server(&mut self) -> Leaf {
        let names = vec![SanType::DnsName("localhost".try_into().unwrap()), SanType::IpAddress([127, 0, 0, 1].into())];
        self.issue("localhost", names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Writes the CRL that revokes these, in the place of an older one; its path.
    pub fn write_crl(&self, number: u64, revoked: &[&Leaf]) -> PathBuf {
        let file = self.directory.join("ca.crl");
        fs::write(&file, self.crl(number, revoked)).unwrap();
        file
    }

    /// The CRL that revokes these, as PEM.
    pub fn crl(&self, number: u64, revoked: &[&Leaf]) -> String {
        let recipe = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2125, 1, 1),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(|leaf| revocation(leaf)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        recipe.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    fn issue(&mut self, name: &str, names: Vec<SanType>, purpose: ExtendedKeyUsagePurpose) -> Leaf {
        self.issue_with(name, names, purpose, |_| {})
    }

    fn issue_with(
        &mut self,
        name: &str,
        names: Vec<SanType>,
        purpose: ExtendedKeyUsagePurpose,
        more: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        self.issued += 1;
        let mut recipe = recipe(name, self.issued);
        recipe.subject_alt_names = names;
        recipe.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        recipe.extended_key_usages = vec![purpose];
        recipe.use_authority_key_identifier_extension = true;
        more(&mut recipe);
        let pair = KeyPair::generate().unwrap();
        let made = recipe.signed_by(&pair, &self.issuer).unwrap();
        let leaf = Leaf {
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
            serial: self.issued,
        };
        fs::write(&leaf.certificate, made.pem()).unwrap();
        write_secret(&leaf.key, &pair.serialize_pem());
        leaf
    }
}

/// A file that only its owner may read.
fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn recipe(name: &str, serial: u64) -> CertificateParams {
    let mut recipe = CertificateParams::default();
    recipe.distinguished_name.push(DnType::CommonName, name);
    recipe.serial_number = Some(SerialNumber::from(serial));
    (recipe.not_before, recipe.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2125, 1, 1));
    recipe
}

fn revocation(leaf: &Leaf) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(leaf.serial),
        revocation_time: date_time_ymd(2025, 6, 1),
        reason_code: None,
        invalidity_date: None,
    }
}
