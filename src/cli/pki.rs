//! `sealpost pki`: the small authority on the command line.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::pki::{self, Bearer, CERTIFICATE_DAYS, CRL_DAYS, Entry, Folder, Given, Made, ROOT_DAYS, Reason, Validity};
use crate::sys::{Entropy, SystemEntropy, WallTime};

/// `sealpost pki`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  \
    sealpost pki init --dir pki --name \"Example mail CA\"\n  \
    sealpost pki server --dir pki mail.example.com            for [tls] of the configuration\n  \
    sealpost pki issue --dir pki --email alice@example.com    for a person: .pem, .key and .p12\n  \
    sealpost pki issue --dir pki --dns backup.example.com     for a program\n  \
    sealpost pki revoke --dir pki alice@example.com           and a new ca.crl; SIGHUP makes the relay read it\n  \
    sealpost pki crl --dir pki                                a new ca.crl before the old one ends (from cron)\n  \
    sealpost pki list --dir pki\n\n\
    The directory holds ca.key, the key to everything: keep it on a machine that few can reach; the relay needs only ca.pem and ca.crl.\n\
    Nothing is ever overwritten but ca.crl and index.toml.")]
pub struct PkiArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// What can be done with an authority.
#[derive(Clone, Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a root CA in a directory, with an empty CRL
    Init {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// What the CA is called in certificates
        #[arg(long, default_value = "sealpost CA")]
        name: String,
        /// For how long
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = days())]
        days: u32,
    },
    /// Make a certificate for a TLS server
    Server {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// The server's DNS names or IP addresses
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// What is made.
        #[command(flatten)]
        made: MadeArguments,
    },
    /// Make a client certificate for a person (--email) or a program (--dns, --uri)
    Issue {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// An e-mail address of the person; may be given more than once
        #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["dns", "uri"], conflicts_with_all = ["dns", "uri"])]
        email: Vec<String>,
        /// What the certificate is called where people choose one; the address when nothing is said
        #[arg(long, value_name = "NAME", requires = "email")]
        common_name: Option<String>,
        /// A DNS name of the program; may be given more than once
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// A URI of the program, like spiffe://example.com/billing; may be given more than once
        #[arg(long, value_name = "URI")]
        uri: Vec<String>,
        /// What is made.
        #[command(flatten)]
        made: MadeArguments,
        /// The PKCS#12 file.
        #[command(flatten)]
        bundle: BundleArguments,
    },
    /// Revoke a certificate and make a new CRL
    Revoke {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// The name of its files, or its serial
        which: String,
        /// Why
        #[arg(long, value_enum, default_value_t)]
        reason: Reason,
    },
    /// Make a new CRL with the next number
    Crl {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// Until the next must be there
        #[arg(long, value_name = "DAYS", default_value_t = CRL_DAYS, value_parser = days())]
        days: u32,
    },
    /// Make a new key and certificate for the bearer of an old one; the old files are kept as NAME-SERIAL.*
    Renew {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// The name of its files, or its serial
        which: String,
        /// For how long
        #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_DAYS, value_parser = days())]
        days: u32,
        /// The PKCS#12 file.
        #[command(flatten)]
        bundle: BundleArguments,
    },
    /// List what was issued, with the days that are left
    List {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// One JSON object for each certificate
        #[arg(long)]
        json: bool,
    },
}

/// The authority's directory.
#[derive(Clone, Debug, Args)]
pub struct Dir {
    /// The authority's directory
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// What a certificate's files are called, and how long it is good.
#[derive(Clone, Debug, Args)]
pub struct MadeArguments {
    /// What the files are called (FILE.pem, FILE.key); the first name when nothing is said
    #[arg(long, value_name = "FILE")]
    pub file: Option<String>,
    /// For how long
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_DAYS, value_parser = days())]
    pub days: u32,
}

/// The PKCS#12 file that mail programs import.
#[derive(Clone, Debug, Args)]
pub struct BundleArguments {
    /// The password for the .p12 file, from the first line of a file; without it one is made up and shown once
    #[arg(long, value_name = "FILE", conflicts_with = "no_p12")]
    pub p12_password_file: Option<PathBuf>,
    /// Make no .p12 file
    #[arg(long)]
    pub no_p12: bool,
}

fn days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(pki::DAYS_MAX))
}

/// Does it and says what was done.
///
/// # Errors
/// [`pki::PkiError`].
pub fn run(arguments: &PkiArguments, now: WallTime) -> anyhow::Result<ExitCode> {
    let said = answer(&arguments.command, now, &SystemEntropy)?;
    print!("{said}");
    Ok(ExitCode::SUCCESS)
}

fn answer(command: &PkiCommand, now: WallTime, entropy: &dyn Entropy) -> anyhow::Result<String> {
    match command {
        PkiCommand::Init { dir, name, days } => init(&dir.dir, name, Validity::days(now, *days), now, entropy),
        PkiCommand::Server { dir, names, made } => {
            let bearer = Bearer::Server { names: names.clone() };
            let given =
                Given { name: made.file.clone(), bearer, validity: Validity::days(now, made.days), password: None };
            Ok(told(&Folder::open(&dir.dir)?.issue(&given, entropy)?, None))
        }
        PkiCommand::Issue { dir, email, common_name, dns, uri, made, bundle } => {
            let bearer = match email.as_slice() {
                [] => Bearer::Robot { dns: dns.clone(), uris: uri.clone() },
                emails => Bearer::Person { emails: emails.to_vec(), common_name: common_name.clone() },
            };
            let password = bundle.password(entropy)?;
            let validity = Validity::days(now, made.days);
            let given = Given { name: made.file.clone(), bearer, validity, password: password.text() };
            Ok(told(&Folder::open(&dir.dir)?.issue(&given, entropy)?, password.made_up()))
        }
        PkiCommand::Revoke { dir, which, reason } => {
            let mut folder = Folder::open(&dir.dir)?;
            folder.revoke(which, *reason, now, Validity::days(now, CRL_DAYS))?;
            Ok(crl_told(&folder))
        }
        PkiCommand::Crl { dir, days } => {
            let mut folder = Folder::open(&dir.dir)?;
            folder.renew_crl(Validity::days(now, *days))?;
            Ok(crl_told(&folder))
        }
        PkiCommand::Renew { dir, which, days, bundle } => {
            let password = bundle.password(entropy)?;
            let mut folder = Folder::open(&dir.dir)?;
            let made = folder.renew(which, Validity::days(now, *days), password.text(), entropy)?;
            Ok(told(&made, password.made_up()))
        }
        PkiCommand::List { dir, json } => {
            let folder = Folder::open(&dir.dir)?;
            if *json { listed_as_json(&folder.index().entries, now) } else { Ok(listed(&folder.index().entries, now)) }
        }
    }
}

fn init(path: &Path, name: &str, validity: Validity, now: WallTime, entropy: &dyn Entropy) -> anyhow::Result<String> {
    let folder = Folder::create(path, name, validity, now, entropy)?;
    let [certificate, crl, key] = ["ca.pem", "ca.crl", "ca.key"].map(|file| folder.file(file));
    Ok(format!(
        "certificate {}\nCRL         {}\nkey         {} (keep it; who has it can make any certificate)\n\n\
         For the configuration:\n\n[[client_ca]]\nname = \"staff\"\ncertificates = {:?}\ncrls = [{:?}]\n\
         domains = [\"example.com\"]    # what its certificates may speak for\n\
         send_as_email = true         # each may send as the addresses in it\nsend_to = [\"*\"]\n",
        certificate.display(),
        crl.display(),
        key.display(),
        certificate.display().to_string(),
        crl.display().to_string(),
    ))
}

fn told(made: &Made, password: Option<&str>) -> String {
    let entry = &made.issued.entry;
    let mut text = format!("certificate {}\nkey         {}\n", made.certificate.display(), made.key.display());
    if let Some(bundle) = &made.pkcs12 {
        let _ = writeln!(text, "PKCS#12     {}", bundle.display());
    }
    if let Some(password) = password {
        let _ = writeln!(text, "password    {password} (of the PKCS#12 file; it is kept nowhere)");
    }
    let _ = writeln!(
        text,
        "for         {}\nserial      {}\ngood until  {}",
        entry.names.join(", "),
        entry.serial,
        entry.until
    );
    text
}

fn crl_told(folder: &Folder) -> String {
    format!(
        "CRL {} number {}; make the relay read it with SIGHUP\n",
        folder.file("ca.crl").display(),
        folder.index().crl_number
    )
}

fn state(entry: &Entry, now: WallTime) -> String {
    match (&entry.revoked, entry.days_left(now)) {
        (Some(revocation), _) => format!("revoked {}", revocation.at),
        (None, Some(days)) if days < 0 => "ended".to_owned(),
        (None, Some(days)) => format!("{days} days left"),
        (None, None) => "unreadable date".to_owned(),
    }
}

fn listed(entries: &[Entry], now: WallTime) -> String {
    if entries.is_empty() {
        return "nothing issued yet\n".to_owned();
    }
    let width = entries.iter().map(|entry| entry.name.chars().count()).max().unwrap_or(0);
    entries.iter().fold(String::new(), |mut text, entry| {
        let (name, names) = (&entry.name, entry.names.join(", "));
        let _ = writeln!(text, "{name:width$}  {}  {}  {}  {names}", entry.serial, entry.until, state(entry, now));
        text
    })
}

fn listed_as_json(entries: &[Entry], now: WallTime) -> anyhow::Result<String> {
    let mut text = String::new();
    for entry in entries {
        let mut object = serde_json::to_value(entry)?;
        if let Some(fields) = object.as_object_mut() {
            fields.insert("days_left".to_owned(), entry.days_left(now).into());
        }
        let _ = writeln!(text, "{object}");
    }
    Ok(text)
}

/// The password of a PKCS#12 file.
enum Password {
    NoFile,
    Given(String),
    MadeUp(String),
}

impl Password {
    fn text(&self) -> Option<String> {
        match self {
            Self::NoFile => None,
            Self::Given(text) | Self::MadeUp(text) => Some(text.clone()),
        }
    }

    fn made_up(&self) -> Option<&str> {
        match self {
            Self::MadeUp(text) => Some(text),
            Self::NoFile | Self::Given(_) => None,
        }
    }
}

/// Letters and digits that are not mistaken for one another; 32 of them, so that each octet gives one without favour.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz23456789X";
/// Letters of a password made up here: 100 bits.
const PASSWORD_LENGTH: usize = 20;

impl BundleArguments {
    fn password(&self, entropy: &dyn Entropy) -> anyhow::Result<Password> {
        if self.no_p12 {
            return Ok(Password::NoFile);
        }
        let Some(path) = &self.p12_password_file else { return Ok(Password::MadeUp(made_up(entropy))) };
        let text = super::read_text(path)?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(Password::Given(line.to_owned())),
            _ => anyhow::bail!("{}: its first line is empty; it should hold the password", path.display()),
        }
    }
}

fn made_up(entropy: &dyn Entropy) -> String {
    let mut octets = [0; PASSWORD_LENGTH];
    entropy.fill(&mut octets);
    let letter = |octet: &u8| PASSWORD_LETTERS.get(usize::from(octet % 32)).copied().unwrap_or(b'a');
    octets.iter().map(letter).map(char::from).collect()
}
