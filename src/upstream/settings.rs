//! What is configured of an upstream, checked: values that `config` makes and the courier obeys.
//!
//! The combinations that must not exist cannot be written: TLS that is demanded has its [`ClientTls`], and whether a credential may be
//! spoken is a question to [`Security`]. Never: shows a password, in `Debug` neither.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use super::blame::Phase;
use super::dane::Tlsa;
use super::tls::ClientTls;
use super::tlsa::Dane;
use crate::smtp::{Code, Reply, Status};

/// Connections at once to one upstream, unless set.
pub const CONNECTIONS: usize = 10;
/// Messages on one connection, unless set.
pub const MESSAGES_PER_CONNECTION: u32 = 100;
/// How long a connection is kept idle for the next message, unless set. Under the five minutes that RFC 5321 §4.5.3.2.7 has servers wait.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets of a password at most: `AUTH PLAIN` carries it in base64 on one line (RFC 4954 §4: 12,288 octets).
pub const PASSWORD_MAX: usize = 4096;

/// The next MTA, and how to talk to it. Equal when everything is that a reload could change, passwords, keys and CAs included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the configuration, the log and `queue stats`.
    pub name: String,
    /// Host name, IPv4 or IPv6 address; looked up on each connect.
    pub host: String,
    /// Its port; with [`LookUp::Service`] the record says it.
    pub port: u16,
    /// What of its name is looked up.
    pub lookup: LookUp,
    /// The name servers that are asked; the machine's own when empty.
    pub name_servers: Vec<SocketAddr>,
    /// From which addresses of this machine we connect.
    pub source: SourceAddresses,
    /// What we call ourselves in EHLO: a fully-qualified name (RFC 5321 §4.1.1.1).
    pub helo: String,
    /// How the connection is protected.
    pub security: Security,
    /// Who we are to it. Spoken only when [`Security::may_carry_credentials`].
    pub credentials: Option<Credentials>,
    /// How long each phase may take.
    pub deadlines: Deadlines,
    /// Connections at once; at least one.
    pub connections: usize,
    /// Messages on one connection; at least one.
    pub messages_per_connection: u32,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Replies that mean that the upstream or our configuration is wrong, whatever their code says of the message.
    pub ours: Vec<ReplyPattern>,
    /// How messages are given to it.
    pub manner: Manner,
    /// Who is asked for TLSA records, where DANE is used (RFC 7672).
    pub dane: Option<Dane>,
}

/// How messages are given to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// By BDAT or by DATA.
    pub chunking: Chunking,
    /// What becomes of octets over 127 when it has no 8BITMIME.
    pub eight_bit: EightBit,
    /// What MAIL says of who submitted the message first.
    pub submitter: Submitter,
}

/// Whether CHUNKING is used (RFC 3030).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chunking {
    /// When it is offered.
    #[default]
    WhenOffered,
    /// Never: for an upstream that offers it, behind something that does not know BDAT.
    Never,
}

/// What MAIL says, where we have logged in, of who submitted the message first (RFC 4954 §5). We vouch for nobody either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submitter {
    /// Nothing: for all the servers that refuse mail over `AUTH=<>`.
    #[default]
    Unsaid,
    /// `AUTH=<>`.
    Nobody,
}

/// What becomes of a message with octets over 127 when the upstream does not offer 8BITMIME (RFC 6152 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EightBit {
    /// It is sent as it is: nearly everybody takes it, and signatures stay good.
    #[default]
    SendAnyway,
    /// Its parts are encoded; what can't be is reported to the sender.
    Encode,
    /// It is reported to the sender.
    Report,
}

impl Upstream {
    /// An upstream with every other setting at its default.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16, helo: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port,
            lookup: LookUp::Address,
            name_servers: Vec::new(),
            source: SourceAddresses::default(),
            helo: helo.into(),
            security: Security::Plaintext,
            credentials: None,
            deadlines: Deadlines::default(),
            connections: CONNECTIONS,
            messages_per_connection: MESSAGES_PER_CONNECTION,
            idle_timeout: IDLE_TIMEOUT,
            ours: ReplyPattern::known(),
            manner: Manner::default(),
            dane: None,
        }
    }
}

/// `lookup`: what of a name leads to the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LookUp {
    /// Its addresses.
    #[default]
    Address,
    /// Its MX records (RFC 5321 §5.1).
    Exchange,
    /// Its SRV records for submission (RFC 6186, RFC 8314 §5.1).
    Service,
}

/// `source_address`: from where we connect. With one of a family, addresses of the other are not tried: who names an address wants no other to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceAddresses {
    /// To IPv4 addresses.
    pub v4: Option<Ipv4Addr>,
    /// To IPv6 addresses.
    pub v6: Option<Ipv6Addr>,
}

impl SourceAddresses {
    /// Whether an address may be tried at all.
    pub fn allow(&self, to: IpAddr) -> bool {
        *self == Self::default() || self.towards(to).is_some()
    }

    /// From where we connect to this address; none where the machine chooses.
    pub fn towards(&self, to: IpAddr) -> Option<IpAddr> {
        match to {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// How the connection to an upstream is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Security {
    /// No TLS (`tls = "none"`). Carries no credentials.
    Plaintext,
    /// STARTTLS when offered, without a look at the certificate, else plaintext: helps against listeners only (RFC 7435 §3). Carries no
    /// credentials.
    Opportunistic(ClientTls),
    /// STARTTLS or nothing (RFC 3207).
    StartTls(ClientTls),
    /// TLS from the first octet (RFC 8314 §3.3).
    Implicit(ClientTls),
}

impl Security {
    /// Whether a password may be said on such a connection. With `tls = "require"` the certificate is not checked: the password is then
    /// safe from listeners, not from someone who can stand in between.
    pub fn may_carry_credentials(&self) -> bool {
        matches!(self, Self::StartTls(_) | Self::Implicit(_))
    }

    /// What a handshake proves of the certificate, as it stands behind "yes, "; none where nobody looks at it.
    pub fn proof(&self) -> Option<&str> {
        match self {
            Self::Plaintext | Self::Opportunistic(_) => None,
            Self::StartTls(tls) | Self::Implicit(tls) => tls.proof(),
        }
    }

    /// The same with what TLSA records demand instead of what `tls` does: TLS or nothing (RFC 7672 §2.2). None without TLS to build on.
    pub fn by_records(&self, host: &str, records: Vec<Tlsa>) -> Option<Self> {
        match self {
            Self::Plaintext => None,
            Self::Opportunistic(tls) | Self::StartTls(tls) => Some(Self::StartTls(tls.by_records(host, records)?)),
            Self::Implicit(tls) => Some(Self::Implicit(tls.by_records(host, records)?)),
        }
    }

    /// Whether nothing is said to anybody but an upstream that has proved who it is.
    pub fn proves_the_upstream(&self) -> bool {
        self.proof().is_some()
    }

    /// What TLS is made with, where there is any.
    pub fn tls(&self) -> Option<&ClientTls> {
        match self {
            Self::Plaintext => None,
            Self::Opportunistic(tls) | Self::StartTls(tls) | Self::Implicit(tls) => Some(tls),
        }
    }
}

/// A text that is never shown and is wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself; for the octets of AUTH only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A mechanism of AUTH that we can log in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM-SHA-256, bound to the TLS connection (RFC 7677, RFC 9266).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// OAUTHBEARER (RFC 7628).
    OauthBearer,
    /// XOAUTH2: what Google and Microsoft had before RFC 7628, and kept.
    Xoauth2,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN: never specified, spoken by many.
    Login,
    /// EXTERNAL (RFC 4422 appendix A): our certificate says who we are.
    External,
}

impl Mechanism {
    /// All, the strongest first: what proves the most and gives away the least.
    pub const ALL: [Self; 7] = [
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::OauthBearer,
        Self::Xoauth2,
        Self::Plain,
        Self::Login,
        Self::External,
    ];

    /// Its name in EHLO and AUTH.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Xoauth2 => "XOAUTH2",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::External => "EXTERNAL",
        }
    }

    /// What it says who we are by.
    pub const fn evidence(self) -> Evidence {
        match self {
            Self::ScramSha256Plus | Self::ScramSha256 | Self::Plain | Self::Login => Evidence::Password,
            Self::OauthBearer | Self::Xoauth2 => Evidence::Token,
            Self::External => Evidence::Certificate,
        }
    }
}

/// By what we say who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// A password.
    Password,
    /// A token of OAuth 2, which somebody else renews.
    Token,
    /// Our certificate, which TLS has shown.
    Certificate,
}

/// What we hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Password(Secret),
    /// The file with the token; it is read for each login.
    TokenFile(PathBuf),
    Certificate,
}

/// Who we are to an upstream (RFC 4954).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    held: Held,
    only: Option<Mechanism>,
}

impl Credentials {
    /// Credentials that the mechanisms can carry: no NUL (RFC 4616 §2), nothing empty, at most [`PASSWORD_MAX`] octets each.
    pub fn new(username: impl Into<String>, password: Secret) -> Result<Self, CredentialsMistake> {
        let username = username.into();
        can_be_carried(&username)?;
        can_be_carried(password.reveal())?;
        Ok(Self { username, held: Held::Password(password), only: None })
    }

    /// A user with a token of OAuth 2, which stands in a file.
    pub fn with_token_file(username: impl Into<String>, file: PathBuf) -> Result<Self, CredentialsMistake> {
        let username = username.into();
        can_be_carried(&username)?;
        // RFC 7628 §3.1: 0x01 ends a field.
        if username.contains('\u{1}') {
            return Err(CredentialsMistake::Control);
        }
        Ok(Self { username, held: Held::TokenFile(file), only: None })
    }

    /// The certificate that TLS shows; `acting_as` is empty for whom the certificate names.
    pub fn by_certificate(acting_as: impl Into<String>) -> Result<Self, CredentialsMistake> {
        let username = acting_as.into();
        if !username.is_empty() {
            can_be_carried(&username)?;
        }
        Ok(Self { username, held: Held::Certificate, only: None })
    }

    /// The same, by this mechanism and no other.
    #[must_use]
    pub fn only_by(mut self, mechanism: Option<Mechanism>) -> Self {
        self.only = mechanism;
        self
    }

    /// The user's name at the upstream; empty for whom the certificate names.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// The password, where that is what we hold.
    pub fn password(&self) -> Option<&Secret> {
        match &self.held {
            Held::Password(password) => Some(password),
            Held::TokenFile(_) | Held::Certificate => None,
        }
    }

    /// The file with the token, where that is what we hold.
    pub fn token_file(&self) -> Option<&Path> {
        match &self.held {
            Held::TokenFile(file) => Some(file),
            Held::Password(_) | Held::Certificate => None,
        }
    }

    /// The mechanisms that they can be shown by, the strongest first.
    pub fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        let evidence = match self.held {
            Held::Password(_) => Evidence::Password,
            Held::TokenFile(_) => Evidence::Token,
            Held::Certificate => Evidence::Certificate,
        };
        let only = self.only;
        Mechanism::ALL
            .into_iter()
            .filter(move |mechanism| mechanism.evidence() == evidence && only.is_none_or(|only| only == *mechanism))
    }
}

fn can_be_carried(text: &str) -> Result<(), CredentialsMistake> {
    if text.is_empty() {
        Err(CredentialsMistake::Empty)
    } else if text.contains('\0') {
        Err(CredentialsMistake::Nul)
    } else if text.len() > PASSWORD_MAX {
        Err(CredentialsMistake::TooLong)
    } else {
        Ok(())
    }
}

/// Why a user name and password can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsMistake {
    /// One of them is empty.
    #[error("user name and password must not be empty")]
    Empty,
    /// One holds NUL, which AUTH PLAIN uses as its separator.
    #[error("user name and password must not contain NUL")]
    Nul,
    /// The name holds the octet that ends a field of OAUTHBEARER.
    #[error("the user name must not contain control characters")]
    Control,
    /// Too long for one line of AUTH.
    #[error("user name and password may have {PASSWORD_MAX} octets each")]
    TooLong,
}

/// How long each phase may take; defaults are the minimum times of RFC 5321 §4.5.3.2, where it names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Looking up the name.
    pub lookup: Duration,
    /// TCP, for each address.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// The greeting (§4.5.3.2.1).
    pub greeting: Duration,
    /// The reply to EHLO, HELO, STARTTLS, AUTH and RSET, each.
    pub command: Duration,
    /// The reply to MAIL (§4.5.3.2.2).
    pub mail: Duration,
    /// The reply to each RCPT (§4.5.3.2.3).
    pub recipient: Duration,
    /// The reply to DATA (§4.5.3.2.4).
    pub data: Duration,
    /// Writing a piece of the body (§4.5.3.2.5).
    pub block: Duration,
    /// The reply to the final dot (§4.5.3.2.6).
    pub end_of_data: Duration,
    /// The reply to QUIT.
    pub quit: Duration,
    /// One message in all, from its MAIL to the final dot: an upstream that keeps each deadline and still never ends.
    pub transaction: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            lookup: Duration::from_secs(30),
            connect: Duration::from_secs(30),
            tls: Duration::from_secs(60),
            greeting: Duration::from_secs(5 * 60),
            command: Duration::from_secs(5 * 60),
            mail: Duration::from_secs(5 * 60),
            recipient: Duration::from_secs(5 * 60),
            data: Duration::from_secs(2 * 60),
            block: Duration::from_secs(3 * 60),
            end_of_data: Duration::from_secs(10 * 60),
            quit: Duration::from_secs(5),
            transaction: Duration::from_secs(60 * 60),
        }
    }
}

impl Deadlines {
    /// How long the upstream may take in a phase.
    pub fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Lookup => self.lookup,
            Phase::Connect => self.connect,
            Phase::Tls => self.tls,
            Phase::Greeting => self.greeting,
            Phase::Hello | Phase::StartTls | Phase::Auth | Phase::Reset => self.command,
            Phase::Mail => self.mail,
            Phase::Recipient => self.recipient,
            Phase::Data => self.data,
            Phase::Body => self.block,
            Phase::EndOfData => self.end_of_data,
            Phase::Quit => self.quit,
        }
    }
}

/// A reply by which an upstream says that *we* are wrong: `5.7.64`, `550`, or `550 5.7.64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyPattern {
    code: Option<Code>,
    status: Option<Status>,
}

impl ReplyPattern {
    /// What is known of the large providers: Microsoft 365 says `550 5.7.64 TenantAttribution` when its connector does not know us.
    pub fn known() -> Vec<Self> {
        vec![Self { code: None, status: Status::new(5, 7, 64) }]
    }

    /// Whether a reply is the one meant.
    pub fn matches(&self, reply: &Reply) -> bool {
        self.code.is_none_or(|code| code == reply.code()) && self.status.is_none_or(|s| reply.status() == Some(s))
    }
}

/// The text is no pattern for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a code, a status or both, like \"550\", \"5.7.64\" or \"550 5.7.64\"; only 4yz and 5yz make sense")]
pub struct NotAReplyPattern;

impl FromStr for ReplyPattern {
    type Err = NotAReplyPattern;

    fn from_str(text: &str) -> Result<Self, NotAReplyPattern> {
        let mut pattern = Self { code: None, status: None };
        for word in text.split_ascii_whitespace() {
            match (word.contains('.'), pattern.code, pattern.status) {
                (true, _, None) => pattern.status = Some(status(word).ok_or(NotAReplyPattern)?),
                (false, None, None) => pattern.code = Some(code(word).ok_or(NotAReplyPattern)?),
                _ => return Err(NotAReplyPattern),
            }
        }
        if pattern == (Self { code: None, status: None }) { Err(NotAReplyPattern) } else { Ok(pattern) }
    }
}

fn code(word: &str) -> Option<Code> {
    let code = Code::new(word.parse().ok()?)?;
    (code.is_transient() || code.is_permanent()).then_some(code)
}

fn status(word: &str) -> Option<Status> {
    word.parse().ok().filter(|status: &Status| status.class() != 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let credentials = Credentials::new("relay", Secret::new("hunter2"));
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn credentials_that_no_mechanism_can_carry_are_refused() {
        let long = "x".repeat(PASSWORD_MAX + 1);
        for (user, password, mistake) in [
            ("", "p", CredentialsMistake::Empty),
            ("u", "", CredentialsMistake::Empty),
            ("u\0v", "p", CredentialsMistake::Nul),
            ("u", "p\0q", CredentialsMistake::Nul),
            ("u", long.as_str(), CredentialsMistake::TooLong),
        ] {
            assert_eq!(Credentials::new(user, Secret::new(password)), Err(mistake), "{user:?}");
        }
    }

    #[test]
    fn with_a_source_address_of_one_family_the_other_is_not_tried() {
        let (four, six): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let any = SourceAddresses::default();
        assert!(any.allow(four) && any.allow(six) && any.towards(four).is_none());
        let only_four = SourceAddresses { v4: Some(Ipv4Addr::LOCALHOST), v6: None };
        assert!(only_four.allow(four) && !only_four.allow(six));
        assert_eq!(only_four.towards(four), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let both = SourceAddresses { v6: Some(Ipv6Addr::LOCALHOST), ..only_four };
        assert_eq!(both.towards(six), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn reply_patterns_match_what_they_name() {
        let reply = |code, status: (u8, u16, u16)| {
            Reply::new(Code::new(code).unwrap(), Status::new(status.0, status.1, status.2), "no")
        };
        for (pattern, code, status, expected) in [
            ("5.7.64", 550, (5, 7, 64), true),
            ("5.7.64", 550, (5, 7, 1), false),
            ("550", 550, (5, 1, 1), true),
            ("550 5.7.64", 554, (5, 7, 64), false),
            ("550 5.7.64", 550, (5, 7, 64), true),
            ("451 4.7.500", 451, (4, 7, 500), true),
        ] {
            let parsed: ReplyPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(&reply(code, status)), expected, "{pattern} on {code} {status:?}");
        }
    }

    #[test]
    fn texts_that_are_no_reply_pattern_are_refused() {
        for text in [
            "",
            " ",
            "250",
            "2.0.0",
            "5.7",
            "5.7.64.1",
            "550 550",
            "5.7.64 550",
            "5.7.64 5.7.1",
            "999",
            "TenantAttribution",
        ] {
            assert_eq!(text.parse::<ReplyPattern>(), Err(NotAReplyPattern), "{text:?}");
        }
    }
}
