//! Ready settings for the programs that are to use a certificate: real paths, the real server, nothing to fill in.
//!
//! The relay's own certificate is taken to come from the same CA (`sealpost pki server`); each text says what to name if it does not.
//! tests/peers delivers mail with the settings of each program as they are printed here.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::pki::Made;

/// Where settings are printed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Thunderbird
    Thunderbird,
    /// msmtp: ~/.msmtprc
    Msmtp,
    /// mutt and neomutt: ~/.muttrc
    Mutt,
    /// Postfix as a client: main.cf
    Postfix,
    /// git send-email, through msmtp
    Git,
    /// curl
    Curl,
    /// Python's smtplib
    Python,
}

/// The relay, as a mail program is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    host: String,
    port: u16,
}

/// The port of submission with TLS from the first octet (RFC 8314 §7.3).
const IMPLICIT_PORT: u16 = 465;

impl FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no HOST:PORT, like mail.example.com:587");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._[:]".contains(letter);
        if host.is_empty() || port == 0 || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl Server {
    fn is_implicit(&self) -> bool {
        self.port == IMPLICIT_PORT
    }
}

/// Settings of this program for this certificate.
///
/// # Errors
/// When the certificate's directory can't be found.
pub(super) fn of(program: Program, server: &Server, made: &Made, ca: &Path) -> anyhow::Result<String> {
    let key = made.key.clone().unwrap_or_else(|| PathBuf::from("/path/of/the/key"));
    let paths = Paths { certificate: absolute(&made.certificate)?, key: absolute(&key)?, ca: absolute(ca)? };
    let sender = made.issued.entry.names.iter().find(|name| name.contains('@')).map_or("ADDRESS", String::as_str);
    let text = match program {
        Program::Thunderbird => thunderbird(server, made, &paths)?,
        Program::Msmtp => msmtp(server, sender, &paths),
        Program::Mutt => mutt(server, sender, &paths),
        Program::Postfix => postfix(server, &paths),
        Program::Git => git(server, sender, &paths),
        Program::Curl => curl(server, sender, &paths),
        Program::Python => python(server, sender, &paths),
    };
    Ok(format!("\n{text}"))
}

/// Files by their whole path, since settings are read elsewhere than where they were made.
struct Paths {
    certificate: String,
    key: String,
    ca: String,
}

fn absolute(path: &Path) -> anyhow::Result<String> {
    Ok(std::path::absolute(path)?.display().to_string())
}

/// How TLS begins, in the words of the settings.
fn by<'a>(server: &Server, implicit: &'a str, starttls: &'a str) -> &'a str {
    if server.is_implicit() { implicit } else { starttls }
}

fn thunderbird(server: &Server, made: &Made, Paths { ca, .. }: &Paths) -> anyhow::Result<String> {
    let Server { host, port } = server;
    let bundle = match &made.pkcs12 {
        Some(path) => absolute(path)?,
        None => "a .p12 file of the certificate and its key".to_owned(),
    };
    let security = by(server, "SSL/TLS", "STARTTLS");
    Ok(format!(
        "# Thunderbird\n\
         # 1. Settings > Privacy & Security > Certificates > Manage Certificates > Your Certificates > Import:\n\
         #      {bundle}\n\
         # 2. The same place > Authorities > Import, and trust it to identify websites, if the relay's certificate is of this CA:\n\
         #      {ca}\n\
         # 3. Account Settings > Outgoing Server (SMTP) > Add:\n\
         Server Name:            {host}\n\
         Port:                   {port}\n\
         Connection security:    {security}\n\
         Authentication method:  TLS Certificate\n"
    ))
}

fn msmtp(server: &Server, sender: &str, paths: &Paths) -> String {
    let Server { host, port } = server;
    let Paths { certificate, key, ca } = paths;
    let starttls = by(server, "off", "on");
    format!(
        "# ~/.msmtprc (tls_trust_file system if the relay's certificate is of a public CA)\n\
         account default\n\
         host {host}\n\
         port {port}\n\
         from {sender}\n\
         tls on\n\
         tls_starttls {starttls}\n\
         tls_trust_file \"{ca}\"\n\
         tls_cert_file \"{certificate}\"\n\
         tls_key_file \"{key}\"\n\
         auth off\n"
    )
}

fn mutt(server: &Server, sender: &str, paths: &Paths) -> String {
    let Server { host, port } = server;
    let Paths { certificate, key, ca } = paths;
    let scheme = by(server, "smtps", "smtp");
    let both = certificate.strip_suffix(".pem").unwrap_or(certificate);
    format!(
        "# ~/.muttrc; mutt wants certificate and key in one file. Make it first:\n\
         #   (umask 077; cat '{certificate}' '{key}' > '{both}-with-key.pem')\n\
         set smtp_url = \"{scheme}://{host}:{port}\"\n\
         set ssl_starttls = yes\n\
         set ssl_force_tls = yes\n\
         set ssl_client_cert = \"{both}-with-key.pem\"\n\
         # Whom to trust; leave this out if the relay's certificate is of a public CA.\n\
         set certificate_file = \"{ca}\"\n\
         set from = \"{sender}\"\n\
         set envelope_from_address = \"{sender}\"\n\
         set use_envelope_from = yes\n"
    )
}

fn postfix(server: &Server, paths: &Paths) -> String {
    let Server { host, port } = server;
    let Paths { certificate, key, ca } = paths;
    let wrapped = by(server, "smtp_tls_wrappermode = yes\n", "");
    format!(
        "# /etc/postfix/main.cf (the system's CA file if the relay's certificate is of a public CA); give the relay's listener\n\
         # refusal = \"defer\", so that a certificate that has run out delays mail and does not bounce it\n\
         relayhost = [{host}]:{port}\n\
         {wrapped}smtp_tls_security_level = secure\n\
         smtp_tls_secure_cert_match = hostname\n\
         smtp_tls_CAfile = {ca}\n\
         smtp_tls_cert_file = {certificate}\n\
         smtp_tls_key_file = {key}\n"
    )
}

fn git(server: &Server, sender: &str, paths: &Paths) -> String {
    format!(
        "# git send-email has no option for a client certificate; msmtp sends for it. Put this into ~/.msmtprc, then run:\n\
         #   git config --global sendemail.sendmailCmd msmtp\n\
         #   git config --global sendemail.from {sender}\n\
         #   git config --global sendemail.envelopeSender auto\n{}",
        msmtp(server, sender, paths)
    )
}

fn curl(server: &Server, sender: &str, paths: &Paths) -> String {
    let Server { host, port } = server;
    let Paths { certificate, key, ca } = paths;
    let scheme = by(server, "smtps", "smtp");
    format!(
        "# leave --cacert out if the relay's certificate is of a public CA, and --crlf if the message's lines end in CRLF already\n\
         curl --ssl-reqd --url {scheme}://{host}:{port} --cacert '{ca}' --cert '{certificate}' --key '{key}' \\\n     \
         --crlf --mail-from '{sender}' --mail-rcpt RECIPIENT --upload-file MESSAGE\n"
    )
}

fn python(server: &Server, sender: &str, paths: &Paths) -> String {
    let Server { host, port } = server;
    let Paths { certificate, key, ca } = paths;
    let begin = if server.is_implicit() {
        format!(
            "with open(\"MESSAGE\", \"rb\") as file, smtplib.SMTP_SSL({host:?}, {port}, context=context) as smtp:\n"
        )
    } else {
        format!(
            "with open(\"MESSAGE\", \"rb\") as file, smtplib.SMTP({host:?}, {port}) as smtp:\n    smtp.starttls(context=context)\n"
        )
    };
    format!(
        "import re, smtplib, ssl\n\
         context = ssl.create_default_context(cafile={ca:?})  # without cafile if the relay's certificate is of a public CA\n\
         context.load_cert_chain({certificate:?}, {key:?})\n\
         {begin}    \
         # SMTP's lines end in CRLF; a bare LF is refused.\n    \
         smtp.sendmail({sender:?}, [\"RECIPIENT\"], re.sub(rb\"\\r?\\n\", b\"\\r\\n\", file.read()))\n"
    )
}
