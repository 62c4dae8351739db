//! `sealpost pki`: the small authority on the command line. What it says is written in `told`, settings of mail programs in `settings`.

mod settings;
#[cfg(test)]
mod tests;
mod told;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::exit::{self, Exit};
use crate::pki::{
    self, Age, Bearer, Bundle, CERTIFICATE_DAYS, CRL_DAYS, Folder, Given, ISSUING_DAYS, KeyKind, KeySource, PkiError,
    Plan, ROOT_CRL_DAYS, ROOT_DAYS, Reason, Renewal, RenewedKey, Request, Validity,
};
use crate::sys::{Entropy, SystemEntropy, WallTime};
use settings::{Program, Server};

/// `sealpost pki`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  \
    sealpost pki init --dir pki --name \"Example mail CA\"\n  \
    sealpost pki server --dir pki mail.example.com            for [tls] of the configuration\n  \
    sealpost pki issue --dir pki --email alice@example.com    for a person: .pem, .key and .p12\n  \
    sealpost pki issue --dir pki --dns backup.example.com     for a program\n  \
    sealpost pki renew --dir pki alice@example.com            a new key and certificate; the old files are kept\n  \
    sealpost pki revoke --dir pki alice@example.com           and a new CRL, to be copied to the relay\n  \
    sealpost pki crl --dir pki                                a new CRL before the old one ends (from cron)\n  \
    sealpost pki list --dir pki --expiring 30                 who needs a new certificate\n\n\
    The directory holds a root (ca.pem, ca.key, ca.crl) and the CA that issues from day to day (issuing.*). The relay needs ca.pem as `certificates`, \
    issuing.pem as `intermediates`, and both .crl as `crls`; it needs no .key of these.\n\
    ca.key, the root's, is needed once a year for ca.crl and to renew issuing.pem. Move it to a medium that lies in a safe, and name it then with \
    --root-key.\n\
    Whoever has issuing.key can make certificates: keep the directory on a machine that few can reach. \
    Nothing is ever overwritten but the CRLs and index.toml.")]
pub struct PkiArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: PkiCommand,
}

/// What can be done with an authority.
#[derive(Clone, Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a root CA and an issuing CA in a directory, with empty CRLs
    #[command(after_help = "Example:\n\n  sealpost pki init --dir pki --name \"Example mail CA\"\n  \
        mv pki/ca.key /media/safe/       the root's key goes offline; day-to-day work needs issuing.key only\n\n\
        Once a year:  sealpost pki crl --dir pki --root-key /media/safe/ca.key")]
    Init {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// What the CA is called in certificates
        #[arg(long, default_value = "sealpost CA")]
        name: String,
        /// For how long the root is good
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_DAYS, value_parser = days())]
        days: u32,
        /// For how long the issuing CA is good
        #[arg(long, value_name = "DAYS", default_value_t = ISSUING_DAYS, value_parser = days())]
        issuing_days: u32,
        /// Make no issuing CA: the root signs everything, and its key is needed every day
        #[arg(long, conflicts_with = "issuing_days")]
        single: bool,
    },
    /// Make a certificate for a TLS server
    #[command(after_help = "Example:\n\n  sealpost pki server --dir pki --file server mail.example.com\n\n\
        server.pem and server.key are `certificate` and `private_key` in [tls]. With --csr the key stays where it was made.")]
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
    #[command(after_help = "Examples:\n\n  \
        sealpost pki issue --dir pki --email alice@example.com --print-config thunderbird --server mail.example.com:587\n  \
        sealpost pki issue --dir pki --email bob@example.com --p12 legacy       for old Windows and macOS\n  \
        sealpost pki issue --dir pki --uri spiffe://example.com/billing --key ed25519\n  \
        sealpost pki issue --dir pki --email carol@example.com --csr carol.csr  for a key that carol made\n\n\
        Of a request (--csr) only the key is taken, after its signature was checked; the names are those that you give here. Without any, \
        the names that it asks for are shown, and nothing is made.")]
    Issue {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// An e-mail address of the person; may be given more than once
        #[arg(long, value_name = "ADDRESS", required_unless_present_any = ["dns", "uri", "csr"], conflicts_with_all = ["dns", "uri"])]
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
        /// Print ready settings for this program
        #[arg(long, value_enum, value_name = "PROGRAM", requires = "server")]
        print_config: Option<Program>,
        /// The relay in these settings; port 465 means TLS from the start, others STARTTLS
        #[arg(long, value_name = "HOST:PORT")]
        server: Option<Server>,
    },
    /// Revoke a certificate and make a new CRL
    #[command(after_help = "Examples:\n\n  \
        sealpost pki revoke --dir pki alice@example.com --reason key-compromise --all\n  \
        sealpost pki revoke --dir pki pki/alice.pem\n  sealpost pki revoke --dir pki 5f0c6e1b9a...\n\n\
        It makes a new CRL too. Copy that to the relay, which takes it over by itself unless `[reload] watch` is \"off\", or on SIGHUP (`systemctl reload sealpost`). Open sessions are refused at their next MAIL.\n\
        `revoke issuing --reason ca-compromise` revokes the issuing CA, and with it all that it has signed; it needs the root's key.")]
    Revoke {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// The certificate's file, its serial, the name of its files, or a name in it
        which: String,
        /// Why
        #[arg(long, value_enum, default_value_t)]
        reason: Reason,
        /// All certificates of that name, not only one
        #[arg(long)]
        all: bool,
        /// The root's key, where it is not ca.key in the directory
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
    /// Make a new CRL with the next number; the root's too, when its key is there
    #[command(
        after_help = "Examples:\n\n  sealpost pki crl --dir pki                                     from cron, every day or week\n  \
        sealpost pki crl --dir pki --root-key /media/safe/ca.key       once a year: ca.crl too"
    )]
    Crl {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// For how long it is good: until then the next must be there
        #[arg(long, value_name = "DAYS", default_value_t = CRL_DAYS, value_parser = days())]
        days: u32,
        /// For how long the root's is good
        #[arg(long, value_name = "DAYS", default_value_t = ROOT_CRL_DAYS, value_parser = days())]
        root_days: u32,
        /// The root's key, where it is not ca.key in the directory
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
    },
    /// Make a new certificate for the bearer of an old one; the old files are kept as NAME-SERIAL.*
    #[command(
        after_help = "Examples:\n\n  sealpost pki renew --dir pki alice                  a new key, of the old one's kind\n  \
        sealpost pki renew --dir pki alice --same-key       for a key that can't be changed (a smart card, a request)\n  \
        sealpost pki renew --dir pki alice --revoke-old     the old certificate ends now, not when it runs out\n  \
        sealpost pki renew --dir pki issuing                the issuing CA's certificate; what it has signed stays good"
    )]
    Renew {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// The certificate's file, its serial, the name of its files, or a name in it; `issuing` for the issuing CA
        which: String,
        /// For how long; the issuing CA 1825
        #[arg(long, value_name = "DAYS", value_parser = days())]
        days: Option<u32>,
        /// The kind of the new key; the old one's when nothing is said
        #[arg(long, value_enum, value_name = "KIND")]
        key: Option<KeyKind>,
        /// Keep the key, and make only the certificate anew
        #[arg(long, conflicts_with = "key")]
        same_key: bool,
        /// Revoke the older certificates of that name, as superseded
        #[arg(long)]
        revoke_old: bool,
        /// The root's key, where it is not ca.key in the directory
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
        /// The PKCS#12 file.
        #[command(flatten)]
        bundle: BundleArguments,
    },
    /// List what was issued, with the days that are left
    #[command(
        after_help = "Examples:\n\n  sealpost pki list --dir pki\n  sealpost pki list --dir pki --expiring 30 --json\n\n\
        Each JSON line is one certificate: name, serial, kind, names, from, until, days_left, state, and revoked where it was."
    )]
    List {
        /// Where.
        #[command(flatten)]
        dir: Dir,
        /// Only those that are good and end within so many days, and have no newer one of their name
        #[arg(long, value_name = "DAYS", value_parser = days())]
        expiring: Option<u32>,
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

/// What a certificate's files are called, how long it is good, and whose key it is for.
#[derive(Clone, Debug, Args)]
pub struct MadeArguments {
    /// What the files are called (FILE.pem, FILE.key); the first name when nothing is said
    #[arg(long, value_name = "FILE")]
    pub file: Option<String>,
    /// For how long
    #[arg(long, value_name = "DAYS", default_value_t = CERTIFICATE_DAYS, value_parser = days())]
    pub days: u32,
    /// The kind of key
    #[arg(long, value_enum, value_name = "KIND", default_value_t, conflicts_with = "csr")]
    pub key: KeyKind,
    /// A request (PKCS#10, PEM or DER) whose key is certified, instead of making one
    #[arg(long, value_name = "FILE")]
    pub csr: Option<PathBuf>,
}

/// The PKCS#12 file that mail programs import.
#[derive(Clone, Debug, Args)]
pub struct BundleArguments {
    /// For whom the .p12 file is
    #[arg(long, value_enum, value_name = "AGE", default_value_t, conflicts_with = "no_p12")]
    pub p12: Age,
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
    let said = answer(&arguments.command, now, &SystemEntropy).map_err(numbered)?;
    print!("{said}");
    Ok(ExitCode::SUCCESS)
}

/// A fault of the directory, with the number that it ends with.
fn numbered(fault: anyhow::Error) -> anyhow::Error {
    let Some(known) = fault.chain().find_map(|cause| cause.downcast_ref::<PkiError>()) else { return fault };
    let unread = |fault: &std::io::Error| {
        matches!(fault.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied)
    };
    let exit = match known {
        PkiError::Name { .. } | PkiError::Unusable { .. } | PkiError::Nameless => Exit::Usage,
        PkiError::Unknown(_) | PkiError::AlreadyRevoked(_) | PkiError::Several { .. } => Exit::No,
        PkiError::Exists(_) | PkiError::AuthorityExists(_) | PkiError::Unwritten { .. } => Exit::CantCreate,
        PkiError::NoAuthority(_) | PkiError::RootKeyAway(_) => Exit::NoInput,
        PkiError::File { fault, .. } if unread(fault) => Exit::NoInput,
        PkiError::Request(_) => Exit::Data,
        PkiError::Certificate(_)
        | PkiError::Pkcs12(_)
        | PkiError::File { .. }
        | PkiError::Index { .. }
        | PkiError::Compromised(_)
        | PkiError::BeyondAuthority(_)
        | PkiError::ForeignKey
        | PkiError::NoIssuing => Exit::Failed,
    };
    exit::fault(exit, format!("{fault:#}"))
}

fn answer(command: &PkiCommand, now: WallTime, entropy: &dyn Entropy) -> anyhow::Result<String> {
    match command {
        PkiCommand::Init { dir, name, days, issuing_days, single } => {
            let issuing = (!single).then(|| Validity::days(now, *issuing_days.min(days)));
            let plan = Plan { name: name.clone(), root: Validity::days(now, *days), issuing };
            Ok(told::init(&Folder::create(&dir.dir, &plan, now, entropy)?))
        }
        PkiCommand::Server { dir, names, made } => {
            let bearer = Bearer::Server { names: names.clone() };
            let mut folder = Folder::open(&dir.dir)?;
            let made = folder.issue(&made.given(bearer, now, None)?, entropy)?;
            Ok(told::made(&made, None) + &told::warnings(&folder, now))
        }
        PkiCommand::Issue { dir, email, common_name, dns, uri, made, bundle, print_config, server } => {
            if email.is_empty() && dns.is_empty() && uri.is_empty() {
                return Err(unnamed(made)?);
            }
            let bearer = match email.as_slice() {
                [] => Bearer::Robot { dns: dns.clone(), uris: uri.clone() },
                emails => Bearer::Person { emails: emails.to_vec(), common_name: common_name.clone() },
            };
            let password = if made.csr.is_some() { Password::NoFile } else { bundle.password(entropy)? };
            let mut folder = Folder::open(&dir.dir)?;
            let made = folder.issue(&made.given(bearer, now, bundle.protected(&password))?, entropy)?;
            let mut text = told::made(&made, password.made_up()) + &told::warnings(&folder, now);
            if let (Some(program), Some(server)) = (print_config, server) {
                text += &settings::of(*program, server, &made, &folder.file("ca.pem"))?;
            }
            Ok(text)
        }
        PkiCommand::Revoke { dir, which, reason, all, root_key } => {
            let mut folder = Folder::open(&dir.dir)?;
            let entries = folder.unrevoked(which)?;
            if let ([_, _, ..], false) = (entries.as_slice(), *all) {
                let serials = entries.into_iter().map(|entry| entry.serial).collect();
                return Err(PkiError::Several { which: which.clone(), serials }.into());
            }
            folder.revoke(&entries, *reason, now, root_key.as_deref())?;
            Ok(told::revoked(&entries) + &told::crl(&folder) + &told::warnings(&folder, now))
        }
        PkiCommand::Crl { dir, days, root_days, root_key } => {
            let mut folder = Folder::open(&dir.dir)?;
            folder.renew_crl(Validity::days(now, *days))?;
            let mut text = told::crl(&folder);
            if folder.has_issuing() && (root_key.is_some() || folder.file("ca.key").exists()) {
                folder.renew_root_crl(Validity::days(now, *root_days), root_key.as_deref())?;
                text += &told::root_crl(&folder);
            }
            Ok(text + &told::warnings(&folder, now))
        }
        PkiCommand::Renew { dir, which, days, key, same_key, revoke_old, root_key, bundle } => {
            let mut folder = Folder::open(&dir.dir)?;
            if which == "issuing" {
                let validity = Validity::days(now, days.unwrap_or(ISSUING_DAYS));
                let entry = folder.renew_issuing(validity, root_key.as_deref(), entropy)?;
                return Ok(told::renewed_issuing(&folder, &entry));
            }
            let password = bundle.password(entropy)?;
            let renewal = Renewal {
                validity: Validity::days(now, days.unwrap_or(CERTIFICATE_DAYS)),
                key: if *same_key { RenewedKey::Same } else { key.map_or(RenewedKey::LikeOld, RenewedKey::New) },
                bundle: bundle.protected(&password),
                revoke_old: revoke_old.then_some(now),
            };
            let remark = told::was_revoked(&folder, which);
            let made = folder.renew(which, &renewal, entropy)?;
            let password = made.pkcs12.as_ref().and_then(|_| password.made_up());
            let crl = if *revoke_old { told::crl(&folder) } else { String::new() };
            Ok(told::made(&made, password) + &remark + &crl + &told::warnings(&folder, now))
        }
        PkiCommand::List { dir, expiring, json } => {
            let folder = Folder::open(&dir.dir)?;
            let entries = told::chosen(&folder.index().entries, *expiring, now);
            if *json {
                told::listed_as_json(&entries, now)
            } else {
                Ok(told::listed(&entries, now) + &told::ends(&folder, now))
            }
        }
    }
}

/// What is said when a request is shown without names: those that it asks for, to be confirmed.
fn unnamed(made: &MadeArguments) -> anyhow::Result<anyhow::Error> {
    let Some(path) = &made.csr else {
        return Ok(exit::fault(Exit::Usage, "whom is it for? A person has --email, a program --dns or --uri"));
    };
    let request = read_request(path)?;
    let why = "nothing is taken over by itself: give the names that are right with --email, --dns or --uri";
    Ok(exit::fault(Exit::Usage, format!("{} asks for: {}; {why}", path.display(), request.asked().join(", "))))
}

#[expect(clippy::disallowed_methods, reason = "files named on the command line are read here")]
fn read_request(path: &std::path::Path) -> anyhow::Result<Request> {
    use std::io::Read as _;

    use anyhow::Context as _;
    let most = u64::try_from(pki::REQUEST_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut octets = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut octets))
        .map_err(|fault| exit::unread(path, &fault))?;
    Request::read(&octets).with_context(|| path.display().to_string())
}

impl MadeArguments {
    fn given(&self, bearer: Bearer, now: WallTime, bundle: Option<Bundle>) -> anyhow::Result<Given> {
        let key = match &self.csr {
            Some(path) => KeySource::Request(read_request(path)?),
            None => KeySource::New(self.key),
        };
        Ok(Given { name: self.file.clone(), bearer, validity: Validity::days(now, self.days), key, bundle })
    }
}

/// The password of a PKCS#12 file.
enum Password {
    NoFile,
    Given(String),
    MadeUp(String),
}

impl Password {
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
            _ => {
                let why = format!("{}: its first line is empty; it should hold the password", path.display());
                Err(exit::fault(Exit::Data, why))
            }
        }
    }

    fn protected(&self, password: &Password) -> Option<Bundle> {
        match password {
            Password::NoFile => None,
            Password::Given(text) | Password::MadeUp(text) => Some(Bundle { age: self.p12, password: text.clone() }),
        }
    }
}

fn made_up(entropy: &dyn Entropy) -> String {
    let mut octets = [0; PASSWORD_LENGTH];
    entropy.fill(&mut octets);
    let letter = |octet: &u8| PASSWORD_LETTERS.get(usize::from(octet % 32)).copied().unwrap_or(b'a');
    octets.iter().map(letter).map(char::from).collect()
}
