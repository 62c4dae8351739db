//! `sealpost submit`: one message from standard input, with a client certificate, to any submission server.
//!
//! The SMTP client is lettre's connection. Its own TLS cannot present intermediates, and it keeps what a server says in plaintext behind
//! STARTTLS (the response injection of CVE-2021-38371); so the way up to and through the TLS handshake is walked in `way`, on our own line
//! codec, and lettre is given a stream that is TLS already. lettre stuffs dots behind CRLF only and adds a CRLF of its own:
//! `wire_form` gives it a body that comes out right.

#[cfg(test)]
mod tests;
mod way;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::extension::Extension;
use lettre::transport::smtp::response::Response;
use rustls::pki_types::CertificateDer;

use super::exit::Exit;
use crate::mail::Address;
use way::{Tls, client_id, connect};

/// For connecting, for the TLS handshake, and for each reply but the last.
const PATIENCE: Duration = Duration::from_secs(120);
/// For the message to be taken and answered (RFC 5321 §4.5.3.2.6: ten minutes for the reply to the final dot).
const MESSAGE_PATIENCE: Duration = Duration::from_secs(1200);
/// For the reply to QUIT.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(5);
/// The largest message read from standard input, octets.
const MESSAGE_MAX: u64 = 256 * 1024 * 1024;

/// `sealpost submit`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  \
    sealpost submit --server localhost:1587 --cert alice.pem --key alice.key --ca ca.pem bob@example.net < mail.eml\n  \
    printf 'From: alice@example.com\\nSubject: hello\\n\\nhello\\n' | sealpost submit --server mail.example.com:465 --implicit \
    --cert alice.pem --key alice.key --ca ca.pem -f alice@example.com bob@example.net\n\n\
    The message is sent as it is, its line ends made CRLF. One refused recipient, and nothing is sent.\n\
    It shows the certificate and nothing else: where a second factor is demanded (530), take another program, like msmtp.")]
pub struct SubmitArguments {
    /// The server, like mail.example.com:587
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Server,
    /// The name that the server's certificate must carry, where it is not the host
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// TLS from the first octet (port 465) instead of STARTTLS
    #[arg(long)]
    pub implicit: bool,
    /// Your certificate, and its intermediates behind it
    #[arg(long, value_name = "PEM")]
    pub cert: PathBuf,
    /// The private key of your certificate
    #[arg(long, value_name = "PEM")]
    pub key: PathBuf,
    /// The CA that the server's certificate must come from
    #[arg(long, value_name = "PEM")]
    pub ca: PathBuf,
    /// The envelope's sender; the first e-mail address of your certificate when nothing is said; `<>` is the null sender
    #[arg(short = 'f', long = "from", value_name = "FROM")]
    pub from: Option<String>,
    /// The recipients
    #[arg(required = true, value_name = "RCPT")]
    pub recipients: Vec<String>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "write HOST:PORT, like mail.example.com:587 or [2001:db8::1]:465".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(wanted)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
            return Err(wanted());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| wanted())? })
    }
}

/// Why it was not sent.
#[derive(Debug)]
enum Failure {
    /// Certificate, key, CA or names can't be used.
    Setup(String),
    /// The message can't be read.
    Unreadable(String),
    /// The message or an address can't be sent as it is.
    Unsendable(String),
    /// The connection failed, or took too long.
    Unreachable(String),
    /// TLS failed: we do not trust the server.
    Untrusted(String),
    /// TLS failed: the server does not take our certificate.
    CertificateRefused(String),
    /// The server said something that is no SMTP.
    Nonsense(String),
    /// The server refused, at this step, with this reply.
    Refused { step: String, code: u16, text: String },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Setup(text) | Self::Unreadable(text) | Self::Unsendable(text) | Self::Unreachable(text) => {
                f.write_str(text)
            }
            Self::Untrusted(text) => write!(f, "the server can't be trusted: {text}"),
            Self::CertificateRefused(text) => write!(f, "the server refused the certificate: {text}"),
            Self::Nonsense(text) => write!(f, "the server does not speak SMTP as it should: {text}"),
            Self::Refused { step, code, text } => {
                write!(f, "refused at {step}: {code} {text}")?;
                // RFC 4954 §6.
                if *code == 530 {
                    f.write_str(" (the server asks for a password besides, which submit can't give: use a mail program, or msmtp)")?;
                }
                Ok(())
            }
        }
    }
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Unsendable(_) => Exit::Data,
            Self::Unreadable(_) => Exit::NoInput,
            Self::Untrusted(_) => Exit::Unavailable,
            Self::Unreachable(_) => Exit::NotNow,
            Self::Nonsense(_) => Exit::Nonsense,
            Self::CertificateRefused(_) => Exit::NotAllowed,
            Self::Setup(_) => Exit::Misconfigured,
            Self::Refused { code: 400..=499, .. } => Exit::NotNow,
            // RFC 3463 §3.8: 5.7 is security and policy; RFC 4954 §6: 530 and 535 are authentication.
            Self::Refused { code: 530 | 535, .. } => Exit::NotAllowed,
            Self::Refused { text, .. } if text.starts_with("5.7.") => Exit::NotAllowed,
            Self::Refused { .. } => Exit::Unavailable,
        }
    }
}

/// Submits the message on standard input.
///
/// # Errors
/// The asynchronous runtime can't be made. What goes wrong with the message is told here, and by the exit code.
pub fn run(arguments: &SubmitArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let read = read_message(std::io::stdin().lock());
    match read.and_then(|octets| runtime.block_on(submit(arguments, &octets))) {
        Ok(reply) => {
            println!("{reply}");
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("sealpost submit: {failure}");
            Ok(failure.exit().into())
        }
    }
}

async fn submit(arguments: &SubmitArguments, octets: &[u8]) -> Result<String, Failure> {
    let tls = Tls::load(arguments)?;
    let letter = Letter::new(arguments, &tls, octets)?;
    let stream = connect(arguments, &tls).await?;
    let ours = client_id(stream.local);
    let greeted = AsyncSmtpConnection::connect_with_transport(Box::new(stream), &ours);
    let mut connection = patient(PATIENCE, "EHLO", greeted).await?;
    let reply = letter.send(&mut connection).await?;
    // QUIT, and the end of TLS. The message is sent; how the goodbye goes changes nothing.
    let _ = tokio::time::timeout(GOODBYE_PATIENCE, connection.abort()).await;
    Ok(reply)
}

/// The envelope and the octets.
struct Letter {
    sender: String,
    recipients: Vec<Address>,
    octets: Vec<u8>,
    utf8: bool,
}

impl Letter {
    fn new(arguments: &SubmitArguments, tls: &Tls, octets: &[u8]) -> Result<Self, Failure> {
        let sender = match arguments.from.as_deref() {
            Some("" | "<>") => String::new(),
            Some(from) => address(from)?.to_string(),
            None => own_address(&tls.leaf).ok_or_else(|| {
                Failure::Unsendable("the certificate holds no e-mail address: say who sends with -f".to_owned())
            })?,
        };
        let recipients = arguments.recipients.iter().map(|text| address(text)).collect::<Result<Vec<_>, _>>()?;
        let header = header_of(octets);
        let utf8 = !sender.is_ascii() || !recipients.iter().all(Address::is_ascii) || !header.is_ascii();
        Ok(Self { sender, recipients, octets: wire_form(octets), utf8 })
    }

    /// MAIL, RCPT for each, DATA and the message; the reply to its end.
    async fn send(&self, connection: &mut AsyncSmtpConnection) -> Result<String, Failure> {
        let mail = format!("MAIL FROM:<{}>{}\r\n", self.sender, self.parameters(connection)?);
        patient(PATIENCE, "MAIL", connection.command(mail)).await?;
        for recipient in &self.recipients {
            let step = format!("RCPT TO:<{recipient}>");
            patient(PATIENCE, &step, connection.command(format!("{step}\r\n"))).await?;
        }
        patient(PATIENCE, "DATA", connection.command("DATA\r\n")).await?;
        let reply = patient(MESSAGE_PATIENCE, "the end of the message", connection.message(&self.octets)).await?;
        Ok(said(&reply))
    }

    fn parameters(&self, connection: &AsyncSmtpConnection) -> Result<String, Failure> {
        let mut parameters = String::new();
        let lacks =
            |what: &str, keyword| Failure::Unsendable(format!("{what}, and the server does not offer {keyword}"));
        if !self.octets.is_ascii() {
            if !connection.server_info().supports_feature(Extension::EightBitMime) {
                return Err(lacks("the message holds 8-bit octets", "8BITMIME"));
            }
            parameters.push_str(" BODY=8BITMIME");
        }
        if self.utf8 {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(lacks("an address or the header is not ASCII", "SMTPUTF8"));
            }
            parameters.push_str(" SMTPUTF8");
        }
        Ok(parameters)
    }
}

fn address(text: &str) -> Result<Address, Failure> {
    Address::parse(text).map_err(|_| Failure::Unsendable(format!("{text:?} is no e-mail address")))
}

/// The first e-mail address of a certificate.
fn own_address(certificate: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| {
        let GeneralName::RFC822Name(email) = name else { return None };
        Address::parse(email).ok().map(|address| address.to_string())
    })
}

fn read_message(from: impl io::Read) -> Result<Vec<u8>, Failure> {
    let mut octets = Vec::new();
    let read = io::Read::read_to_end(&mut io::Read::take(from, MESSAGE_MAX + 1), &mut octets);
    read.map_err(|fault| Failure::Unreadable(format!("standard input: {fault}")))?;
    if u64::try_from(octets.len()).unwrap_or(u64::MAX) > MESSAGE_MAX {
        return Err(Failure::Unsendable(format!("the message has more than {MESSAGE_MAX} octets")));
    }
    Ok(octets)
}

/// All up to the first empty line.
fn header_of(octets: &[u8]) -> &[u8] {
    let lines = octets.split_inclusive(|octet| *octet == b'\n');
    let end = lines.take_while(|line| *line != b"\n" && *line != b"\r\n").map(<[u8]>::len).sum();
    octets.get(..end).unwrap_or(octets)
}

/// The message as lettre must be given it: every line ends with CRLF (RFC 5321 §2.3.8), but the last one, whose CRLF lettre adds.
/// A CR that ends no line stays: the server is to say what it thinks of it.
fn wire_form(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut previous = 0;
    for &octet in octets {
        if octet == b'\n' && previous != b'\r' {
            wire.push(b'\r');
        }
        wire.push(octet);
        previous = octet;
    }
    if wire.ends_with(b"\r\n") {
        wire.truncate(wire.len() - 2);
    }
    wire
}

/// Waits for a step of lettre's, but not for ever.
async fn patient<T>(
    patience: Duration,
    step: &str,
    doing: impl Future<Output = Result<T, lettre::transport::smtp::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(patience, doing).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(fault)) => Err(failure(step, &fault)),
        Err(_) => Err(Failure::Unreachable(format!("no reply to {step} came"))),
    }
}

fn failure(step: &str, fault: &lettre::transport::smtp::Error) -> Failure {
    use std::error::Error as _;
    let source = fault.source();
    if let Some(code) = fault.status() {
        let text = source.map(ToString::to_string).unwrap_or_default();
        return Failure::Refused { step: step.to_owned(), code: code.into(), text };
    }
    let mut cause = source;
    while let Some(inner) = cause {
        if let Some(failure) = inner.downcast_ref::<io::Error>().and_then(alert) {
            return failure;
        }
        cause = inner.source();
    }
    if fault.is_response() {
        return Failure::Nonsense(format!("at {step}: {fault}"));
    }
    Failure::Unreachable(format!("at {step}: {fault}"))
}

/// With TLS 1.3 a server's refusal of our certificate comes only after the handshake, with the first reply.
fn alert(fault: &io::Error) -> Option<Failure> {
    match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(Failure::CertificateRefused(format!("alert {alert:?}"))),
        _ => None,
    }
}

fn tls_failure(fault: io::Error) -> Failure {
    alert(&fault).unwrap_or_else(|| match fault.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => Failure::Untrusted(tls.to_string()),
        None => unreachable(fault),
    })
}

fn unreachable(fault: io::Error) -> Failure {
    Failure::Unreachable(format!("connection: {fault}"))
}

fn said(reply: &Response) -> String {
    let lines: Vec<&str> = reply.message().collect();
    format!("{} {}", reply.code(), lines.join(" "))
}
