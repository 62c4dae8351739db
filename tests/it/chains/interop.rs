//! Certificates that other programs made, OpenSSL and GnuTLS, to the profiles of the CAs that organizations have.
//!
//! Keys, extensions and CRLs are as those CAs write them; the relay's side is the same configuration and the same handshakes as in the table.

use std::path::Path;
use std::process::Command;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost::sys::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::{Case, World, check};

/// Runs a program (openssl, or certtool of gnutls-bin), in a directory.
fn run(directory: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let done = Command::new(program).args(words).current_dir(directory).output();
    let done = done.unwrap_or_else(|fault| panic!("{program} can't be run ({fault}): is it installed?"));
    assert!(done.status.success(), "{line}\n{}", String::from_utf8_lossy(&done.stderr));
}

/// A directory where certificates are made, by `name.key` and `name.pem`.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap()
    }

    fn run(&self, line: &str) {
        run(self.0.path(), line);
    }

    /// A certificate by OpenSSL: `key` is what genpkey wants, `options` go to x509.
    fn openssl(&self, name: &str, subject: &str, ca: Option<&str>, key: &str, extensions: &str, options: &str) {
        self.write(&format!("{name}.ext"), &format!("[x]\n{extensions}\n"));
        self.run(&format!("openssl genpkey {key} -out {name}.key"));
        self.run(&format!("openssl req -new -key {name}.key -subj {subject} -out {name}.csr"));
        let signer = match ca {
            Some(ca) => format!("-CA {ca}.pem -CAkey {ca}.key -CAcreateserial"),
            None => format!("-signkey {name}.key"),
        };
        self.run(&format!(
            "openssl x509 -req -in {name}.csr {signer} -days 30 -extfile {name}.ext -extensions x {options} -out {name}.pem"
        ));
    }

    /// A CRL by OpenSSL, listing these certificates.
    fn crl(&self, ca: &str, revoked: &[&str], extensions: &str) {
        self.write("index.txt", "");
        self.write("crlnumber", "1000\n");
        self.write(
            "ca.cnf",
            &format!(
                "[ca]\ndefault_ca=x\n[x]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n\
                 default_crl_days=7\ncrl_extensions=crlx\n[crlx]\nauthorityKeyIdentifier=keyid\n{extensions}\n"
            ),
        );
        let signer = format!("-config ca.cnf -cert {ca}.pem -keyfile {ca}.key");
        for name in revoked {
            self.run(&format!("openssl ca {signer} -revoke {name}.pem"));
        }
        self.run(&format!("openssl ca {signer} -gencrl -out {ca}.crl"));
    }

    /// A certificate by GnuTLS.
    fn gnutls(&self, name: &str, ca: Option<&str>, template: &str) {
        self.write(&format!("{name}.tmpl"), template);
        self.run(&format!("certtool --generate-privkey --key-type ecdsa --curve secp256r1 --outfile {name}.key"));
        let how = match ca {
            Some(ca) => format!("--generate-certificate --load-ca-certificate {ca}.pem --load-ca-privkey {ca}.key"),
            None => "--generate-self-signed".to_owned(),
        };
        self.run(&format!("certtool {how} --load-privkey {name}.key --template {name}.tmpl --outfile {name}.pem"));
    }

    fn world(&self, text: &str, files: &[&str]) -> World {
        let files: Vec<(&str, Vec<u8>)> = files.iter().map(|name| (*name, self.read(name))).collect();
        let now = SystemClock::start().now().wall;
        World::read_at(text, &files, now).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
    }

    fn case(&self, name: &str, shown: &[&str], expected: &str) -> Case {
        let read = |name: &&str| CertificateDer::from_pem_slice(&self.read(&format!("{name}.pem"))).unwrap();
        Case {
            name: name.to_owned(),
            listener: 0,
            shown: shown.iter().map(read).collect(),
            key: Some(PrivateKeyDer::from_pem_slice(&self.read(&format!("{}.key", shown[0]))).unwrap()),
            expected: expected.to_owned(),
        }
    }
}

const P256: &str = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign,digitalSignature\n\
                  subjectKeyIdentifier=hash";

/// An enterprise CA of Active Directory: RSA, alternate signature format (PSS), template and application policy extensions, a user with UPN and
/// e-mail for smart card logon, LDAP and HTTP distribution points, a base CRL with its point.
#[test]
fn active_directory_certificate_services() {
    let bench = Bench::new();
    let pss = "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest";
    let points = "crlDistributionPoints=cdp\n[cdp]\nfullname=URI:http://pki.example.com/CertEnroll/Issuing.crl";
    bench.openssl("root", "/DC=com/DC=example/CN=Example-Root-CA", None, RSA, CA, pss);
    let issuing = format!("{CA}\n1.3.6.1.4.1.311.21.1=ASN1:INTEGER:0\n1.3.6.1.4.1.311.20.2=ASN1:BMPSTRING:SubCA");
    bench.openssl("issuing", "/DC=com/DC=example/CN=Example-Issuing-CA", Some("root"), RSA, &issuing, pss);
    let user = |email: &str| {
        format!(
            "keyUsage=critical,digitalSignature,keyEncipherment\n\
             extendedKeyUsage=clientAuth,emailProtection,1.3.6.1.4.1.311.20.2.2,1.3.6.1.4.1.311.10.3.4\n\
             1.3.6.1.4.1.311.21.7=ASN1:SEQUENCE:template\n\
             subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:{email},email:{email}\n\
             subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n{points}\n\
             [template]\nid=OID:1.3.6.1.4.1.311.21.8.1.2.3\nmajor=INTEGER:100\nminor=INTEGER:3"
        )
    };
    let subject = "/DC=com/DC=example/OU=Users/CN=Alice/emailAddress=alice@example.com";
    bench.openssl("alice", subject, Some("issuing"), RSA, &user("alice@example.com"), pss);
    bench.openssl("bob", "/CN=Bob", Some("issuing"), RSA, &user("bob@example.com"), pss);
    bench.crl(
        "issuing",
        &["bob"],
        "1.3.6.1.4.1.311.21.1=ASN1:INTEGER:0\nissuingDistributionPoint=critical,@idp\n[idp]\n\
         fullname=URI:http://pki.example.com/CertEnroll/Issuing.crl",
    );
    bench.crl("root", &[], "");
    let world = bench.world(
        "[[client_ca]]\nname = \"ad\"\ncertificates = \"root.pem\"\nintermediates = \"issuing.pem\"\n\
         crls = [\"root.crl\", \"issuing.crl\"]\ndomains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n",
        &["root.pem", "issuing.pem", "root.crl", "issuing.crl"],
    );
    check(
        &world,
        vec![
            bench.case("the user alone", &["alice"], "ad:alice@example.com"),
            bench.case("with its CA", &["alice", "issuing", "root"], "ad:alice@example.com"),
            bench.case("revoked", &["bob"], "revoked"),
        ],
    );
}

/// step-ca: P-256, an intermediate with path length 0, a provisioner extension, server and client authentication, a CRL with its point.
#[test]
fn step_ca() {
    let bench = Bench::new();
    bench.openssl(
        "root",
        "/O=Smallstep/CN=Smallstep-Root-CA",
        None,
        P256,
        &CA.replace("CA:TRUE", "CA:TRUE,pathlen:1"),
        "",
    );
    let intermediate = CA.replace("CA:TRUE", "CA:TRUE,pathlen:0");
    bench.openssl("issuing", "/O=Smallstep/CN=Smallstep-Intermediate-CA", Some("root"), P256, &intermediate, "");
    let leaf = |names: &str, point: &str| {
        format!(
            "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid\nsubjectAltName={names}\n\
             1.3.6.1.4.1.37476.9000.64.1=ASN1:SEQUENCE:provisioner\n{point}\n\
             [provisioner]\ntype=INTEGER:1\nname=OCTETSTRING:admin\nid=OCTETSTRING:x"
        )
    };
    let point = "crlDistributionPoints=URI:http://ca.example.com/1.0/crl";
    bench.openssl("alice", "/CN=alice@example.com", Some("issuing"), P256, &leaf("email:alice@example.com", point), "");
    bench.openssl("backup", "/CN=backup", Some("issuing"), P256, &leaf("DNS:backup.example.com", point), "");
    bench.openssl("pointless", "/CN=p", Some("issuing"), P256, &leaf("email:p@example.com", ""), "");
    bench.crl(
        "issuing",
        &["backup"],
        "issuingDistributionPoint=critical,@idp\n[idp]\nfullname=URI:http://ca.example.com/1.0/crl",
    );
    bench.crl("root", &[], "");
    let world = bench.world(
        "[[client_ca]]\nname = \"step\"\ncertificates = \"root.pem\"\nintermediates = \"issuing.pem\"\n\
         crls = [\"root.crl\", \"issuing.crl\"]\ndomains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n",
        &["root.pem", "issuing.pem", "root.crl", "issuing.crl"],
    );
    check(
        &world,
        vec![
            bench.case("a person", &["alice", "issuing"], "step:alice@example.com"),
            bench.case("revoked", &["backup", "issuing"], "revoked"),
            bench.case("the list is for another point", &["pointless", "issuing"], "revocation status unknown"),
        ],
    );
}

/// SPIRE: an X.509-SVID for an hour, its only name a URI, from a CA that has its trust domain's URI.
#[test]
fn spire() {
    let bench = Bench::new();
    let ca = format!("{CA}\nsubjectAltName=URI:spiffe://example.com");
    bench.openssl("ca", "/C=US/O=SPIFFE", None, P256, &ca, "");
    let svid = |uri: &str| {
        format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment,keyAgreement\n\
             extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=URI:{uri}\nsubjectKeyIdentifier=hash\n\
             authorityKeyIdentifier=keyid"
        )
    };
    bench.openssl("billing", "/C=US/O=SPIRE", Some("ca"), P256, &svid("spiffe://example.com/billing"), "");
    bench.openssl("other", "/C=US/O=SPIRE", Some("ca"), P256, &svid("spiffe://example.com/other"), "");
    let world = bench.world(
        "[[client_ca]]\nname = \"spire\"\ncertificates = \"ca.pem\"\nrevocation = \"off\"\n\
         [[identity]]\nname = \"billing\"\nmatch = { ca = \"spire\", uri = \"spiffe://example.com/billing\" }\n\
         send_as = [\"billing@example.com\"]\nsend_to = [\"*\"]\n",
        &["ca.pem"],
    );
    check(
        &world,
        vec![
            bench.case("the workload", &["billing"], "billing"),
            bench.case("with its CA", &["billing", "ca"], "billing"),
            bench.case("another workload", &["other"], "nobody"),
        ],
    );
}

/// GnuTLS: a CA whose e-mail names are constrained, as `certtool` writes it, and its clients.
#[test]
fn certtool_with_email_name_constraints() {
    let bench = Bench::new();
    let ca = "ca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n";
    bench.gnutls("root", None, &format!("cn = \"GnuTLS Root\"\n{ca}"));
    let constrained = "nc_permit_email = \"example.com\"\nnc_exclude_email = \"ceo@example.com\"\npath_len = 0\n";
    bench.gnutls("issuing", Some("root"), &format!("cn = \"GnuTLS Issuing\"\n{ca}{constrained}"));
    for (name, email) in [("alice", "alice@example.com"), ("ceo", "ceo@example.com"), ("bob", "bob@example.net")] {
        let template =
            format!("cn = \"{name}\"\nemail = \"{email}\"\ntls_www_client\nsigning_key\nexpiration_days = 9\n");
        bench.gnutls(name, Some("issuing"), &template);
    }
    let world = bench.world(
        "[[client_ca]]\nname = \"gnutls\"\ncertificates = \"root.pem\"\nintermediates = \"issuing.pem\"\nrevocation = \"off\"\n\
         domains = [\"*\"]\nsend_as_email = true\nsend_to = [\"*\"]\n",
        &["root.pem", "issuing.pem"],
    );
    let not_permitted = "its names are not permitted by the name constraints of its CA";
    check(
        &world,
        vec![
            bench.case("permitted", &["alice", "issuing"], "gnutls:alice@example.com"),
            bench.case("excluded", &["ceo", "issuing"], not_permitted),
            bench.case("not permitted", &["bob", "issuing"], not_permitted),
        ],
    );
}
