//! Everything that one daemon needs, in a directory that goes away: certificates, configuration, addresses.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use super::certificates::{Authority, Leaf};
use super::client;
use super::free_addresses;

/// The place of one daemon.
pub struct Bench {
    pub directory: TempDir,
    pub configuration: PathBuf,
    pub starttls: SocketAddr,
    pub implicit: SocketAddr,
    pub staff: Authority,
    pub alice: Leaf,
    pub bob: Leaf,
    /// alice@example.com, but of a CA that nobody trusts.
    pub stranger: Leaf,
    pub server: Leaf,
}

impl Bench {
    /// A place with a configuration whose mail goes to these upstreams, in their order.
    pub fn new(upstreams: &[SocketAddr]) -> Self {
        let directory = tempfile::Builder::new().prefix("sealpost-it-").tempdir().unwrap();
        let mut staff = Authority::new(&directory.path().join("staff"), "Staff CA");
        let mut strangers = Authority::new(&directory.path().join("strangers"), "Stranger CA");
        let [starttls, implicit] = free_addresses();
        let bench = Self {
            configuration: directory.path().join("sealpost.toml"),
            alice: staff.client("alice@example.com"),
            bob: staff.client("bob@example.com"),
            stranger: strangers.client("alice@example.com"),
            server: staff.server(),
            directory,
            starttls,
            implicit,
            staff,
        };
        bench.staff.write_crl(1, &[]);
        bench.configure(upstreams, "");
        bench
    }

    /// Writes the configuration anew; `more` is put at its end.
    pub fn configure(&self, upstreams: &[SocketAddr], more: &str) {
        let upstreams: String = upstreams
            .iter()
            .enumerate()
            .map(|(index, address)| {
                format!("[[upstream]]\nname = \"upstream-{index}\"\naddress = \"{address}\"\ntls = \"none\"\n\n")
            })
            .collect();
        let text = format!(
            r#"hostname = "localhost"
data_dir = "data"

[[listener]]
address = "{starttls}"
mode = "starttls"

[[listener]]
address = "{implicit}"
mode = "implicit"

[tls]
certificate = "{certificate}"
private_key = "{key}"

[[client_ca]]
name = "staff"
certificates = "{anchor}"
crls = ["{crl}"]
revocation = "require"
domains = ["example.com"]
send_as_email = true
send_to = ["*"]

[queue]
retry = ["2s"]

{upstreams}{more}"#,
            starttls = self.starttls,
            implicit = self.implicit,
            certificate = self.server.certificate.display(),
            key = self.server.key.display(),
            anchor = self.staff.anchor().display(),
            crl = self.staff.anchor().with_file_name("ca.crl").display(),
        );
        fs::create_dir_all(self.directory.path().join("data")).unwrap();
        fs::write(&self.configuration, text).unwrap();
    }

    /// TLS settings of a client with this certificate, or none.
    pub fn tls(&self, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        client::tls(&self.staff.anchor(), leaf)
    }

    /// The configuration's path as an argument.
    pub fn config_argument(&self) -> &str {
        self.configuration.to_str().unwrap()
    }
}
