//! `sealpost quickstart`: the whole line on one machine, with nothing prepared.
//!
//! Makes a CA, certificates and a configuration, starts the relay and a catching upstream, and runs the very commands that it prints, so that
//! what is shown is what a person would see. Never: overwrites what is there; listens beyond loopback.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::net::TcpListener;

use super::catcher::{self, Catcher};
use super::exit::{self, Exit};
use super::output::Output;
use super::{QuickstartArguments, serve};
use crate::config::files;
use crate::daemon::{Daemon, DaemonFault, logging};
use crate::pki::{
    Age, Bearer, Bundle, CERTIFICATE_DAYS, CRL_DAYS, Folder, Given, KeyKind, KeySource, Plan, ROOT_DAYS, Validity,
};
use crate::sys::{Clock, Entropy, SystemClock, SystemEntropy, Tasks};
use crate::tls::read;
use crate::upstream::tls::identity_fault;

/// Where the relay takes STARTTLS, unless the ports are moved.
const STARTTLS: u16 = 1587;
/// Where the relay takes TLS from the first octet.
const IMPLICIT: u16 = 1465;
/// Where the catching upstream listens.
const UPSTREAM: u16 = 1025;
/// The password of the PKCS#12 files; they are for a trial.
const PKCS12_PASSWORD: &str = "sealpost";
/// How long the message may take from 250 into the outbox.
const CATCH_MAX: Duration = Duration::from_secs(20);

/// Sets everything up, shows one mail go through and one refused, and stays up until Ctrl-C.
///
/// # Errors
/// What could not be made or started, in words that name the remedy.
pub fn run(arguments: &QuickstartArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stage = Stage {
        dir: arguments.dir.clone(),
        ports: Ports::chosen(&arguments.dir.join("sealpost.toml"), arguments.port_offset)?,
        program: program()?,
        clock: Arc::new(SystemClock::start()),
        entropy: Arc::new(SystemEntropy),
    };
    let code = runtime.block_on(stage.play());
    runtime.shutdown_background();
    logging::flush();
    code
}

/// Where everything listens, on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    starttls: u16,
    implicit: u16,
    upstream: u16,
}

impl Ports {
    /// All ports moved by so much.
    fn moved(offset: u16) -> anyhow::Result<Self> {
        let moved = |port: u16| {
            port.checked_add(offset)
                .with_context(|| format!("--port-offset {offset}: there is no port {port} + {offset}"))
        };
        Ok(Self { starttls: moved(STARTTLS)?, implicit: moved(IMPLICIT)?, upstream: moved(UPSTREAM)? })
    }

    /// Those of a configuration that is there already; else what was asked for.
    fn chosen(configuration: &Path, asked: Option<u16>) -> anyhow::Result<Self> {
        if !configuration.exists() {
            return Self::moved(asked.unwrap_or(0));
        }
        let kept = Self::moved(offset_of(&super::read_text(configuration)?).unwrap_or(0))?;
        match asked {
            Some(offset) if Self::moved(offset)? != kept => bail!(
                "{} is there already, with port {} for STARTTLS; give another --dir, or remove it",
                configuration.display(),
                kept.starttls
            ),
            Some(_) | None => Ok(kept),
        }
    }

    /// The configuration of the trial with these ports.
    fn configuration(self) -> String {
        [(STARTTLS, self.starttls), (IMPLICIT, self.implicit), (UPSTREAM, self.upstream)]
            .into_iter()
            .fold(CONFIGURATION.to_owned(), |text, (usual, port)| {
                text.replace(&format!("\"127.0.0.1:{usual}\""), &format!("\"127.0.0.1:{port}\""))
            })
    }
}

/// By how much the ports of a trial's configuration are moved.
fn offset_of(configuration: &str) -> Option<u16> {
    let table: toml::Table = toml::from_str(configuration).ok()?;
    let address = table.get("listener")?.get(0)?.get("address")?.as_str()?;
    address.rsplit_once(':')?.1.parse::<u16>().ok()?.checked_sub(STARTTLS)
}

/// What a person types to run this program: its name when that is what the shell would find, else its path.
fn program() -> anyhow::Result<String> {
    let running = std::env::current_exe()?;
    let found = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("sealpost")).find(|program| program.is_file())
    });
    let is_it = found
        .and_then(|found| found.canonicalize().ok())
        .is_some_and(|found| Some(found) == running.canonicalize().ok());
    Ok(if is_it { "sealpost".to_owned() } else { pasteable(&running) })
}

/// A path as a shell takes it.
fn pasteable(path: &Path) -> String {
    crate::config::text::pasteable(&path.display().to_string())
}

struct Stage {
    dir: PathBuf,
    ports: Ports,
    /// As it is typed.
    program: String,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Stage {
    async fn play(&self) -> anyhow::Result<ExitCode> {
        // Ports that are taken are told before anything is written.
        let upstream = self.bind_upstream().await?;
        self.try_ports().await?;
        let kept = self.file("ca.pem").exists();
        self.prepare().map_err(|fault| if kept { self.damaged(fault) } else { fault })?;
        let tasks = Tasks::default();
        let mut catcher = self.catch(upstream, &tasks)?;
        let config = self.file("sealpost.toml");
        // The trial's own words come first; the relay's log speaks of what needs a person.
        let mut environment = super::environment();
        environment.push(("SEALPOST__LOG__LEVEL".to_owned(), "error".to_owned()));
        let daemon = match Daemon::start(&config, environment, Arc::clone(&self.clock)).await {
            Ok(daemon) => daemon,
            Err(DaemonFault::Configuration(mistakes)) => {
                let code = super::tell_mistakes(&mistakes);
                if kept {
                    eprintln!(
                        "sealpost: {} is of an earlier quickstart: remove it, or choose another with --dir",
                        pasteable(&self.dir)
                    );
                }
                return Ok(code);
            }
            Err(fault) => return Err(exit::fault(serve::exit_of(&fault), fault)),
        };
        say("")?;
        say(&format!(
            "The relay listens on 127.0.0.1:{} (STARTTLS) and :{} (TLS); its upstream catches mail on :{}.",
            self.ports.starttls, self.ports.implicit, self.ports.upstream
        ))?;
        let went_well = self.show(&mut catcher).await?;
        if !went_well && kept {
            bail!(
                "the trial did not go as it should; the lines above say where. {} is of an earlier quickstart: where that is why, remove it, or choose another with --dir",
                pasteable(&self.dir)
            );
        }
        if !went_well {
            bail!("the trial did not go as it should; the lines above say where");
        }
        self.hints()?;
        daemon.run().await?;
        tasks.begin_drain();
        tasks.wait(Duration::from_secs(1)).await;
        Ok(ExitCode::SUCCESS)
    }

    /// What an earlier trial left can't be used: nothing in it is worth a repair, and nothing is overwritten.
    fn damaged(&self, fault: anyhow::Error) -> anyhow::Error {
        let dir = pasteable(&self.dir);
        fault.context(format!(
            "{dir} was made by an earlier quickstart and is damaged: remove it, or choose another with --dir"
        ))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Certificates and configuration; what is there is kept.
    fn prepare(&self) -> anyhow::Result<()> {
        say(&format!("Everything is in {}:", self.dir.display()))?;
        let now = self.clock.now().wall;
        let mut folder = if self.file("ca.pem").exists() {
            say("  ca.pem             kept; ca.crl, its list of revoked certificates, made anew")?;
            let mut folder = Folder::open(&self.dir)?;
            folder.renew_crl(Validity::days(now, CRL_DAYS))?;
            folder
        } else {
            say("  ca.pem             a CA of your own, and ca.crl, its list of revoked certificates")?;
            // One CA is enough for a trial: its root issues by itself.
            let root = Validity::days(now, ROOT_DAYS);
            let plan = Plan { name: "sealpost quickstart CA".to_owned(), root, issuing: None };
            Folder::create(&self.dir, &plan, now, &*self.entropy)?
        };
        let server = Bearer::Server { names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()] };
        self.certificate(&mut folder, "server", server, "the relay's certificate, for localhost")?;
        for person in ["alice", "bob"] {
            let emails = vec![format!("{person}@example.com")];
            let what =
                format!("{person}@example.com, also as {person}.p12 for mail programs (password: {PKCS12_PASSWORD})");
            self.certificate(&mut folder, person, Bearer::Person { emails, common_name: None }, &what)?;
        }
        self.configuration()
    }

    fn certificate(&self, folder: &mut Folder, name: &str, bearer: Bearer, what: &str) -> anyhow::Result<()> {
        if self.file(&format!("{name}.pem")).exists() {
            self.can_be_used(name)?;
            say(&format!("  {:18} kept", format!("{name}.pem, .key")))?;
            return Ok(());
        }
        let protected = || Bundle { age: Age::default(), password: PKCS12_PASSWORD.to_owned() };
        let bundle = matches!(bearer, Bearer::Person { .. }).then(protected);
        let validity = Validity::days(self.clock.now().wall, CERTIFICATE_DAYS);
        let key = KeySource::New(KeyKind::default());
        folder.issue(&Given { name: Some(name.to_owned()), bearer, validity, key, bundle }, &*self.entropy)?;
        say(&format!("  {:18} {what}", format!("{name}.pem, .key")))?;
        Ok(())
    }

    /// Whether certificate and key that are kept are what TLS takes, before a client or the relay stumbles over them.
    fn can_be_used(&self, name: &str) -> anyhow::Result<()> {
        let [certificate, key] = ["pem", "key"].map(|kind| self.file(&format!("{name}.{kind}")));
        let octets = |path: &Path| files::read(path).map(|contents| contents.octets);
        let chain = octets(&certificate)
            .and_then(|octets| read::certificates(&octets).map_err(|fault| fault.to_string()))
            .map_err(|wrong| anyhow!("{}: {wrong}", certificate.display()))?;
        let key_of_it = octets(&key)
            .and_then(|octets| read::private_key(&octets).map_err(|fault| fault.to_string()))
            .map_err(|wrong| anyhow!("{}: {wrong}", key.display()))?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        match rustls::sign::CertifiedKey::from_der(chain, key_of_it, &provider) {
            Ok(_) => Ok(()),
            Err(fault) => bail!("{} with {}: {}", certificate.display(), key.display(), identity_fault(&fault)),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "quickstart makes files for its user")]
    fn configuration(&self) -> anyhow::Result<()> {
        let path = self.file("sealpost.toml");
        if path.exists() {
            say("  sealpost.toml      kept")?;
            return Ok(());
        }
        std::fs::write(&path, self.ports.configuration()).with_context(|| path.display().to_string())?;
        say("  sealpost.toml      the relay's configuration")?;
        Ok(())
    }

    async fn bind_upstream(&self) -> anyhow::Result<TcpListener> {
        bind(self.ports.upstream, "for the catching upstream").await
    }

    /// The relay binds its own ports later, by its configuration.
    async fn try_ports(&self) -> anyhow::Result<()> {
        for port in [self.ports.starttls, self.ports.implicit] {
            drop(bind(port, "for the relay").await?);
        }
        Ok(())
    }

    fn catch(&self, listener: TcpListener, tasks: &Tasks) -> anyhow::Result<Catcher> {
        let outbox = self.file("outbox");
        let catcher = catcher::start(listener, &outbox, Arc::clone(&self.clock), Arc::clone(&self.entropy), tasks)
            .with_context(|| outbox.display().to_string())?;
        say("  outbox/            a maildir of what the upstream caught")?;
        Ok(catcher)
    }

    /// The two scenes. Gives whether both went as they should.
    async fn show(&self, catcher: &mut Catcher) -> anyhow::Result<bool> {
        say("")?;
        say("1. alice sends a message with her certificate:")?;
        let sent = self.submit("alice@example.com", "alice.eml").await?;
        let arrived = if sent == Submitted::Accepted { self.arrived(catcher).await? } else { false };
        say("")?;
        say("2. alice tries to send as bob, with her own certificate:")?;
        let forged = self.submit("bob@example.com", "as-bob.eml").await?;
        say(match forged {
            Submitted::Accepted => "   It was accepted. It should not have been!",
            Submitted::Refused => "   Refused, as it should be.",
            Submitted::Not => "   It was not even asked; see above.",
        })?;
        Ok(sent == Submitted::Accepted && arrived && forged == Submitted::Refused)
    }

    /// Runs `sealpost submit` as a person would.
    async fn submit(&self, author: &str, file: &str) -> anyhow::Result<Submitted> {
        let message = self.message(author, file)?;
        let words = self.submit_words(author);
        say(&format!("   $ {} {} < {}", self.program, typed(&words), pasteable(&self.file(file))))?;
        let program = std::env::current_exe()?;
        let output = tokio::task::spawn_blocking(move || {
            let mut child = Command::new(program)
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(message.as_bytes())?;
            }
            child.wait_with_output()
        })
        .await??;
        for line in [&output.stdout, &output.stderr].into_iter().flat_map(|text| text.split(|&octet| octet == b'\n')) {
            if !line.is_empty() {
                say(&format!("   {}", String::from_utf8_lossy(line)))?;
            }
        }
        let refused = Some(i32::from(Exit::NotAllowed.number()));
        Ok(match output.status.code() {
            Some(0) => Submitted::Accepted,
            code if code == refused => Submitted::Refused,
            Some(_) | None => Submitted::Not,
        })
    }

    /// The message, in a file, so that what is shown can be typed again; one that is there is kept.
    #[expect(clippy::disallowed_methods, reason = "quickstart makes files for its user")]
    fn message(&self, author: &str, file: &str) -> anyhow::Result<String> {
        let path = self.file(file);
        if path.exists() {
            return super::read_text(&path);
        }
        let date = self.clock.now().wall.rfc5322();
        let message = format!(
            "From: {author}\r\nTo: carol@example.net\r\nSubject: the certificate is the login\r\nDate: {date}\r\n\r\n\
             Sent with alice's certificate, from {author}.\r\n"
        );
        std::fs::write(&path, &message).with_context(|| path.display().to_string())?;
        Ok(message)
    }

    fn submit_words(&self, from: &str) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        let server = format!("localhost:{}", self.ports.starttls);
        let (cert, key, ca) = (file("alice.pem"), file("alice.key"), file("ca.pem"));
        ["submit", "--server", &server, "--cert", &cert, "--key", &key, "--ca", &ca, "-f", from, "carol@example.net"]
            .map(str::to_owned)
            .into()
    }

    async fn arrived(&self, catcher: &mut Catcher) -> anyhow::Result<bool> {
        let Ok(Some(file)) = tokio::time::timeout(CATCH_MAX, catcher.caught.recv()).await else {
            say("   It did not arrive at the upstream.")?;
            return Ok(false);
        };
        say(&format!("   It arrived at the upstream: {}", file.display()))?;
        if let Ok(text) = tokio::fs::read_to_string(&file).await {
            for line in text.lines() {
                say(&format!("   | {line}"))?;
            }
        }
        Ok(true)
    }

    fn hints(&self) -> anyhow::Result<()> {
        let (dir, program) = (pasteable(&self.dir), &self.program);
        let submit = typed(&self.submit_words("alice@example.com"));
        let Ports { starttls, implicit, .. } = self.ports;
        say(&format!(
            "
Try it by hand, in another terminal:

  printf 'From: alice@example.com\\r\\nTo: carol@example.net\\r\\nSubject: by hand\\r\\n\\r\\nhello\\r\\n' > message.eml

  {program} {submit} < message.eml

  curl --ssl-reqd --url smtp://localhost:{starttls} --cacert {dir}/ca.pem --cert {dir}/alice.pem --key {dir}/alice.key \\
       --mail-from alice@example.com --mail-rcpt carol@example.net --upload-file message.eml

  swaks --server localhost:{starttls} --tls --tls-ca-path {dir}/ca.pem --tls-verify \\
        --tls-cert {dir}/alice.pem --tls-key {dir}/alice.key --from alice@example.com --to carol@example.net

  openssl s_client -connect localhost:{implicit} -quiet -crlf -CAfile {dir}/ca.pem -cert {dir}/alice.pem -key {dir}/alice.key

  {program} explain --config {dir}/sealpost.toml --cert {dir}/alice.pem --from bob@example.com --to carol@example.net
  {program} queue list --config {dir}/sealpost.toml

Ctrl-C stops it. Run again, it keeps what is there."
        ))?;
        Ok(())
    }
}

async fn bind(port: u16, what: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(("127.0.0.1", port)).await.with_context(|| {
        format!(
            "can't listen on 127.0.0.1:{port} {what}; does another quickstart run? See `ss -ltnp`, or choose other ports and another \
             folder: --port-offset 1000 --dir other"
        )
    });
    bound.map_err(|fault| exit::fault(Exit::Unavailable, fault))
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Submitted {
    Accepted,
    /// By the relay.
    Refused,
    /// It did not come so far.
    Not,
}

/// Words as a shell takes them.
fn typed(words: &[String]) -> String {
    words.iter().map(|word| pasteable(Path::new(word))).collect::<Vec<_>>().join(" ")
}

/// One line. Whoever reads on no more, as in `sealpost quickstart | head`, ends the trial.
fn say(line: &str) -> io::Result<()> {
    let mut out = Output::new();
    writeln!(out, "{line}")?;
    out.flush()
}

/// The configuration of the trial: as a real one, but on loopback and with an upstream without TLS.
const CONFIGURATION: &str = r#"# Made by `sealpost quickstart`. conf/sealpost.toml explains every key.

hostname = "localhost"
data_dir = "data"

[[listener]]
address = "127.0.0.1:1587"
mode = "starttls"

[[listener]]
address = "127.0.0.1:1465"
mode = "implicit"

[tls]
certificate = "server.pem"
private_key = "server.key"

# Whoever has a certificate of this CA sends as the e-mail addresses in it, within example.com.
[[client_ca]]
name = "quickstart"
certificates = "ca.pem"
crls = ["ca.crl"]
revocation = "require"
domains = ["example.com"]
send_as_email = true
send_to = ["*"]

[[upstream]]
name = "catcher"
address = "127.0.0.1:1025"
tls = "none"
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_moved_together_and_those_of_a_kept_configuration_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sealpost.toml");
        let usual = Ports::chosen(&file, None).unwrap();
        assert_eq!(usual.configuration(), CONFIGURATION);
        let moved = Ports::chosen(&file, Some(1000)).unwrap();
        assert_eq!(moved, Ports { starttls: 2587, implicit: 2465, upstream: 2025 });
        std::io::Write::write_all(
            &mut std::fs::File::options().create_new(true).write(true).open(&file).unwrap(),
            moved.configuration().as_bytes(),
        )
        .unwrap();
        assert_eq!(Ports::chosen(&file, None).unwrap(), moved);
        assert_eq!(Ports::chosen(&file, Some(1000)).unwrap(), moved);
        assert!(Ports::chosen(&file, Some(2000)).unwrap_err().to_string().contains("2587"));
        assert!(Ports::moved(64_000).is_err());
    }

    #[test]
    fn what_is_printed_can_be_pasted() {
        for (path, typed) in [
            ("target/debug/sealpost", "target/debug/sealpost"),
            ("my mail/it's", r"'my mail/it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ] {
            assert_eq!(pasteable(Path::new(path)), typed);
        }
    }
}
