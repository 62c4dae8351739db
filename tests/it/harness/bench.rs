//! Everything that one daemon needs, in a directory that goes away: certificates, configuration, addresses.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
        self.configure_with("retry = [\"2s\"]", &format!("{upstreams}{more}"));
    }

    /// The same with these keys of `[queue]`; `more` has the upstreams in it.
    pub fn configure_with(&self, queue: &str, more: &str) {
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
{queue}

{more}"#,
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

    /// Puts a file of credentials in place with one line, as `sealpost passwd` prints it.
    pub fn write_credential(&self, file: &Path, whose: &str, password: &str) {
        Self::write_credential_by(&["passwd", whose], file, password);
    }

    /// The same, for SCRAM.
    pub fn write_scram_credential(&self, file: &Path, whose: &str, password: &str) {
        Self::write_credential_by(&["passwd", "--scram", whose], file, password);
    }

    fn write_credential_by(words: &[&str], file: &Path, password: &str) {
        let mut asking = Command::new(super::process::program())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        asking.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        let said = asking.wait_with_output().unwrap();
        assert!(said.status.success());
        let new = file.with_extension("new");
        fs::write(&new, said.stdout).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, file).unwrap();
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
