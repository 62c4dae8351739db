//! What came of one attempt, and what is wrong with an upstream, in values and in sentences.
//!
//! An [`UpstreamFault`] is never a property of a message: it says whose fault it was, whether trying again helps, and what a person can do.
//! Never: holds a secret; what the upstream said is kept as the reply it was.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::blame::Phase;
use super::body::BodyFault;
use super::dane::DaneFault;
use crate::queue::Outcome;
use crate::smtp::Reply;
use crate::sys::MonoTime;

/// What came of one attempt with one upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// One outcome per recipient that was asked for: its place in the envelope, and what came of it; in the order of places.
    pub outcomes: Vec<(usize, Outcome)>,
    /// What is wrong with the upstream, where something is.
    pub fault: Option<UpstreamFault>,
    /// Recipients (places in the envelope) that this upstream certainly did not take and said nothing about: another upstream may be
    /// tried for them at once.
    pub free: Vec<usize>,
    /// Recipients whose fate is unknown: the final dot was sent and no answer came. The next attempt goes to the same upstream, which can
    /// know a duplicate (RFC 5321 §4.5.3.2.6), and never at once to a sibling.
    pub undetermined: Vec<usize>,
    /// What it takes over with a message that it takes.
    pub undertaking: Undertaking,
    /// Whether all failed only because this upstream lacks an extension that the message needs: another may have it, and is asked.
    pub is_unable: bool,
    /// Whether nothing of the message was said to this upstream: what came of it says nothing of the upstream's health.
    pub is_unsaid: bool,
    /// Since when its connection was open; none where there was none.
    pub opened: Option<MonoTime>,
}

/// What an upstream has taken over with a message: what it has not, is still ours to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undertaking {
    /// It knows of whom the sender wants a report (DSN, RFC 3461 §5.2.1).
    pub reports: bool,
    /// It knows by when to deliver (DELIVERBY, RFC 2852 §4).
    pub deadline: bool,
}

impl Attempt {
    /// Everybody deferred for one reason that is not theirs.
    pub fn deferred(recipients: &[usize], fault: UpstreamFault) -> Self {
        let outcome = Outcome::Deferred { reason: fault.sentence(), reply: fault.reply().cloned() };
        Self {
            outcomes: recipients.iter().map(|&place| (place, outcome.clone())).collect(),
            free: recipients.to_vec(),
            fault: Some(fault),
            ..Self::default()
        }
    }

    /// Everybody failed, because the upstream lacks an extension.
    pub fn unable(recipients: &[usize], reason: &str) -> Self {
        let outcome = Outcome::Failed { reason: reason.to_owned(), reply: None };
        Self {
            outcomes: recipients.iter().map(|&place| (place, outcome.clone())).collect(),
            free: recipients.to_vec(),
            is_unable: true,
            is_unsaid: true,
            ..Self::default()
        }
    }

    /// Joins a later attempt for some of the same recipients: its word counts for them.
    pub fn followed_by(&mut self, later: Self) {
        self.outcomes.retain(|(place, _)| !later.outcomes.iter().any(|(other, _)| other == place));
        self.outcomes.extend(later.outcomes);
        self.outcomes.sort_by_key(|&(place, _)| place);
        self.undetermined.extend(later.undetermined);
        self.undertaking = later.undertaking;
        self.is_unable &= later.is_unable;
        self.is_unsaid &= later.is_unsaid;
        self.opened = later.opened.or(self.opened);
        self.free = later.free;
        self.fault = later.fault.or(self.fault.take());
    }
}

/// Whose fault it is, so who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// Our configuration: credentials, names, TLS demands, permission.
    OurSettings,
    /// Our own machine: the stored message can't be read.
    OurStore,
    /// The upstream.
    Upstream,
    /// The way there.
    Network,
}

/// What a fault speaks of, for the upstream's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bearing {
    /// The upstream: it never became ready for mail.
    Upstream,
    /// This message, as far as one message can tell: it was begun.
    Message,
    /// Neither.
    Neither,
}

/// Whether trying again helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// By itself, later.
    Helps,
    /// Only when somebody has repaired something: raise an alarm.
    HelpsAfterRepair,
}

/// What is wrong with an upstream, where and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamFault {
    /// The upstream's name.
    pub upstream: String,
    /// The address that was tried, when one was.
    pub address: Option<SocketAddr>,
    /// Where in the dialogue.
    pub phase: Phase,
    /// What happened.
    pub cause: FaultCause,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultCause {
    /// The name could not be looked up, or has no address.
    NoAddress(String),
    /// No connection.
    Unreachable(String),
    /// Nothing came for so long.
    Silent(Duration),
    /// The connection ended in the middle.
    Closed,
    /// Reading or writing failed.
    Lost(String),
    /// What DNS says of its certificates is not known (RFC 7672 §2.1.2).
    TlsaUnknown(String),
    /// TLS could not be made.
    Tls(TlsCause),
    /// TLS is demanded and not offered.
    TlsNotOffered,
    /// Octets in plaintext behind the go-ahead for TLS: somebody injects replies (CVE-2021-38371).
    Injected,
    /// Credentials are configured, and none of the mechanisms that serve them is offered.
    NoMechanism {
        /// What it offers.
        offered: Vec<String>,
        /// What we could use.
        wanted: Vec<&'static str>,
    },
    /// The file with the token could not be read.
    TokenUnreadable(String),
    /// The upstream does not take the token: its reply, and what it said of the token before.
    TokenRefused(Reply, String),
    /// It did not prove by SCRAM that it knows the password, which whoever stands between could not either.
    ServerUnproven(String),
    /// A password is configured for a connection without demanded TLS.
    CredentialsInTheClear,
    /// The upstream can't take mail now.
    Busy(Reply),
    /// The upstream refuses us, not the message.
    RefusesUs(Reply),
    /// It refuses message after message with the same code and status, whoever sends to whom.
    RefusesAll(Reply),
    /// 421: it leaves.
    Leaves(Reply),
    /// It offered CHUNKING, and does not know BDAT.
    NoChunking(Reply),
    /// A reply that has no meaning here.
    UnexpectedReply(Reply),
    /// No reply at all in RFC 5321's grammar, or one beyond the limits.
    Unintelligible(String),
    /// It spoke without being asked.
    Unasked,
    /// Too many failures in a row: it is left alone for so long, because of the last of them.
    LeftAlone(Duration, Option<Box<UpstreamFault>>),
    /// A reload has taken it out of the configuration.
    NotConfigured,
    /// Our own store did not give the message.
    BodyUnreadable(String),
    /// The message was removed, set aside or claimed anew while it was tried: no upstream's fault.
    Gone,
}

impl From<BodyFault> for FaultCause {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::Unreadable(why) => Self::BodyUnreadable(why),
            BodyFault::Gone => Self::Gone,
        }
    }
}

/// Why TLS could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsCause {
    /// The certificate is for other names.
    WrongName(String),
    /// No configured or system CA vouches for the certificate.
    Untrusted,
    /// The certificate has expired or is not valid yet.
    OutOfTime,
    /// Revoked.
    Revoked,
    /// Neither the certificate nor its key is pinned; the key's pin.
    NotPinned(String),
    /// It is not what its TLSA records name.
    Dane(DaneFault),
    /// It does not take the certificate that we show, and why.
    OurCertificate(&'static str),
    /// Anything else, in words.
    Other(String),
}

impl UpstreamFault {
    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match &self.cause {
            FaultCause::NoAddress(_)
            | FaultCause::Unreachable(_)
            | FaultCause::Lost(_)
            | FaultCause::TlsaUnknown(_)
            | FaultCause::Injected => Blame::Network,
            FaultCause::RefusesUs(_)
            | FaultCause::RefusesAll(_)
            | FaultCause::NoMechanism { .. }
            | FaultCause::TokenUnreadable(_)
            | FaultCause::TokenRefused(..)
            | FaultCause::CredentialsInTheClear => Blame::OurSettings,
            FaultCause::BodyUnreadable(_) | FaultCause::Gone => Blame::OurStore,
            FaultCause::Silent(_)
            | FaultCause::Closed
            | FaultCause::Tls(_)
            | FaultCause::TlsNotOffered
            | FaultCause::ServerUnproven(_)
            | FaultCause::NoChunking(_)
            | FaultCause::Busy(_)
            | FaultCause::Leaves(_)
            | FaultCause::UnexpectedReply(_)
            | FaultCause::Unintelligible(_)
            | FaultCause::Unasked
            | FaultCause::NotConfigured
            | FaultCause::LeftAlone(..) => Blame::Upstream,
        }
    }

    /// Whether trying again helps.
    pub fn retry(&self) -> Retry {
        match &self.cause {
            FaultCause::Tls(_)
            | FaultCause::TlsNotOffered
            | FaultCause::Injected
            | FaultCause::NoMechanism { .. }
            | FaultCause::TokenRefused(..)
            | FaultCause::TokenUnreadable(_)
            | FaultCause::ServerUnproven(_)
            | FaultCause::NoChunking(_)
            | FaultCause::CredentialsInTheClear
            | FaultCause::RefusesUs(_)
            | FaultCause::RefusesAll(_)
            | FaultCause::BodyUnreadable(_) => Retry::HelpsAfterRepair,
            FaultCause::NoAddress(_)
            | FaultCause::Unreachable(_)
            | FaultCause::TlsaUnknown(_)
            | FaultCause::Silent(_)
            | FaultCause::Closed
            | FaultCause::Lost(_)
            | FaultCause::Busy(_)
            | FaultCause::Leaves(_)
            | FaultCause::UnexpectedReply(_)
            | FaultCause::Unintelligible(_)
            | FaultCause::Unasked
            | FaultCause::NotConfigured
            | FaultCause::Gone => Retry::Helps,
            FaultCause::LeftAlone(_, because) => because.as_ref().map_or(Retry::Helps, |last| last.retry()),
        }
    }

    /// What it speaks of. An upstream that says in the middle that it is busy or leaves is one that works, and so is one that speaks about messages,
    /// though it refuses all: to leave it alone would keep the next accepted message, which ends that, from being tried.
    pub fn bearing(&self) -> Bearing {
        match &self.cause {
            FaultCause::BodyUnreadable(_)
            | FaultCause::Gone
            | FaultCause::LeftAlone(..)
            | FaultCause::NotConfigured
            | FaultCause::RefusesAll(_) => Bearing::Neither,
            FaultCause::Busy(_) | FaultCause::Leaves(_) if self.phase.is_setup() => Bearing::Upstream,
            FaultCause::Busy(_) | FaultCause::Leaves(_) => Bearing::Neither,
            FaultCause::NoAddress(_)
            | FaultCause::Unreachable(_)
            | FaultCause::TlsaUnknown(_)
            | FaultCause::Silent(_)
            | FaultCause::Closed
            | FaultCause::Lost(_)
            | FaultCause::Tls(_)
            | FaultCause::TlsNotOffered
            | FaultCause::Injected
            | FaultCause::NoMechanism { .. }
            | FaultCause::TokenRefused(..)
            | FaultCause::TokenUnreadable(_)
            | FaultCause::ServerUnproven(_)
            | FaultCause::NoChunking(_)
            | FaultCause::CredentialsInTheClear
            | FaultCause::RefusesUs(_)
            | FaultCause::UnexpectedReply(_)
            | FaultCause::Unintelligible(_)
            | FaultCause::Unasked => {
                if self.phase < Phase::Mail {
                    Bearing::Upstream
                } else {
                    Bearing::Message
                }
            }
        }
    }

    /// Whether anything was tried at all.
    pub fn was_tried(&self) -> bool {
        !matches!(self.cause, FaultCause::LeftAlone(..) | FaultCause::NotConfigured)
    }

    /// Whether there was nothing to send any more.
    pub fn is_that_it_is_gone(&self) -> bool {
        matches!(self.cause, FaultCause::Gone)
    }

    /// Whether it says nothing of any upstream: our own store did not give the message.
    pub fn is_of_our_store(&self) -> bool {
        self.blame() == Blame::OurStore
    }

    /// What the upstream said, if it said something.
    pub fn reply(&self) -> Option<&Reply> {
        match &self.cause {
            FaultCause::Busy(reply)
            | FaultCause::RefusesUs(reply)
            | FaultCause::RefusesAll(reply)
            | FaultCause::Leaves(reply)
            | FaultCause::TokenRefused(reply, _)
            | FaultCause::NoChunking(reply)
            | FaultCause::UnexpectedReply(reply) => Some(reply),
            FaultCause::NoAddress(_)
            | FaultCause::Unreachable(_)
            | FaultCause::TlsaUnknown(_)
            | FaultCause::Silent(_)
            | FaultCause::Closed
            | FaultCause::Lost(_)
            | FaultCause::Tls(_)
            | FaultCause::TlsNotOffered
            | FaultCause::Injected
            | FaultCause::NoMechanism { .. }
            | FaultCause::TokenUnreadable(_)
            | FaultCause::ServerUnproven(_)
            | FaultCause::CredentialsInTheClear
            | FaultCause::Unintelligible(_)
            | FaultCause::Unasked
            | FaultCause::LeftAlone(..)
            | FaultCause::NotConfigured
            | FaultCause::BodyUnreadable(_)
            | FaultCause::Gone => None,
        }
    }

    /// What happened, in one sentence; for the queue's listing and reports.
    pub fn sentence(&self) -> String {
        let (who, phase) = (self.who(), self.phase.words());
        match &self.cause {
            FaultCause::NoAddress(why) => format!("{who}: its name could not be looked up ({why})"),
            FaultCause::TlsaUnknown(why) => format!("{who}: what certificate it must show (DANE) is not known ({why})"),
            FaultCause::Unreachable(why) => format!("{who} can't be reached ({why})"),
            FaultCause::Silent(wait) => {
                format!("{who} was silent for {} at {phase}", humantime::format_duration(*wait))
            }
            FaultCause::Closed => format!("{who} closed the connection at {phase}"),
            FaultCause::Lost(why) => format!("the connection to {who} was lost at {phase} ({why})"),
            FaultCause::Tls(cause) => format!("no TLS with {who}: {cause}"),
            FaultCause::TlsNotOffered => format!("{who} does not offer STARTTLS, which is demanded"),
            FaultCause::Injected => format!("{who} sent plaintext behind its go-ahead for TLS"),
            FaultCause::NoMechanism { offered, .. } if offered.is_empty() => format!("{who} does not offer AUTH"),
            FaultCause::NoMechanism { offered, wanted }
                if wanted.iter().all(|name| offered.iter().any(|it| it == name)) =>
            {
                format!(
                    "{who} offers AUTH by {}, which needs TLS 1.3, and this connection has TLS 1.2",
                    wanted.join(", ")
                )
            }
            FaultCause::NoMechanism { offered, wanted } => {
                format!("{who} offers AUTH by {} only, not by {}", offered.join(", "), wanted.join(" or "))
            }
            FaultCause::TokenUnreadable(why) => format!("the token for {who} could not be read ({why})"),
            FaultCause::TokenRefused(reply, said) => {
                format!("{who} does not take the token: {reply}; it said of it: {said}")
            }
            FaultCause::ServerUnproven(what) => {
                format!("{who} did not prove at AUTH that it knows our password: it sent {what}")
            }
            FaultCause::CredentialsInTheClear => format!("the password for {who} is not said without demanded TLS"),
            FaultCause::Busy(reply) => format!("{who} can't take mail at the moment, at {phase}: {reply}"),
            FaultCause::RefusesUs(reply) => format!("{who} refused this relay, not the message, at {phase}: {reply}"),
            FaultCause::RefusesAll(reply) => {
                format!("{who} refuses message after message alike, whoever sends to whom: {reply}")
            }
            FaultCause::Leaves(reply) => format!("{who} ended the session at {phase}: {reply}"),
            FaultCause::NoChunking(reply) => format!("{who} offered CHUNKING, and does not know BDAT: {reply}"),
            FaultCause::UnexpectedReply(reply) => format!("{who} gave a reply without meaning at {phase}: {reply}"),
            FaultCause::Unintelligible(why) => format!("{who} gave no SMTP reply at {phase} ({why})"),
            FaultCause::Unasked => format!("{who} spoke without being asked at {phase}"),
            FaultCause::LeftAlone(wait, because) => {
                let last = because.as_ref().map(|last| format!(": {}", last.sentence())).unwrap_or_default();
                format!("{who} failed too often and is left alone for {} s{last}", wait.as_secs())
            }
            FaultCause::NotConfigured => format!("{who} is not configured any more"),
            FaultCause::BodyUnreadable(why) => format!("the stored message could not be read ({why})"),
            FaultCause::Gone => "the message was removed, or given to another attempt, while it was tried".to_owned(),
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match &self.cause {
            FaultCause::NoAddress(_) => {
                "check the name in `address` of this [[upstream]] and the resolver of this machine"
            }
            FaultCause::TlsaUnknown(_) => {
                "check [dns] and that the name servers answer for its TLSA records and prove them; `dane = false` does without"
            }
            FaultCause::Unreachable(_) => "check that it runs, and that a firewall lets this machine reach its port",
            FaultCause::Silent(_) | FaultCause::Closed | FaultCause::Lost(_) => {
                "look into its log; when it happens at the greeting or in the handshake, check `mode`: port 465 wants \"implicit\", 587 \"starttls\""
            }
            FaultCause::Tls(TlsCause::WrongName(_)) => {
                "ask its operator whether that certificate is its own: if it is, set `server_name` to a name that it carries, else treat the way to it as hostile"
            }
            FaultCause::Tls(TlsCause::Untrusted) => {
                "ask its operator which CA issues its certificate, and set `ca` to the file with that one; if it worked before, treat the way to it as hostile until then"
            }
            FaultCause::Tls(TlsCause::OutOfTime) => "have its certificate renewed, and check the clock of this machine",
            FaultCause::Tls(TlsCause::Revoked) => "ask its operator: its certificate is revoked",
            FaultCause::Tls(TlsCause::Dane(_)) => {
                "tell its operator: its TLSA records and its certificate do not fit, or somebody stands between"
            }
            FaultCause::Tls(TlsCause::NotPinned(_)) => {
                "ask its operator whether its key was changed; if it was, write the new pin, else treat the way to it as hostile"
            }
            FaultCause::Tls(TlsCause::OurCertificate(_)) => {
                "set `certificate` and `private_key` to what its operator has given this relay, and ask the operator what is accepted"
            }
            FaultCause::Tls(TlsCause::Other(_)) => {
                "check `mode`, `ca` and `server_name`, and which TLS versions it speaks"
            }
            FaultCause::TlsNotOffered => {
                "check `mode` and the port; if it offered STARTTLS before, ask its operator first, since whoever stands between can take it out. Only mail that anybody may read can do with `tls = \"opportunistic\"`"
            }
            FaultCause::Injected => {
                "treat the way to it as hostile; `mode = \"implicit\"` leaves nothing to inject into"
            }
            FaultCause::NoMechanism { .. } => {
                "ask its operator for one of these mechanisms on this port, or change `auth`, `username` and what goes with it"
            }
            FaultCause::TokenUnreadable(_) => "look after the program that writes `token_file`",
            FaultCause::TokenRefused(..) => {
                "see that `token_file` is renewed before the token ends, that it has the scope for sending mail, and that it is for `username`"
            }
            FaultCause::ServerUnproven(_) => {
                "treat the way to it as hostile, or ask its operator: whoever answers there may not be who it says"
            }
            FaultCause::CredentialsInTheClear => "set `tls` to \"verify\", or take out `username` and `password_file`",
            FaultCause::RefusesUs(_) => {
                "check `username`, `password_file` and what its operator permits this machine; mail waits meanwhile"
            }
            FaultCause::RefusesAll(_) => {
                "ask its operator whether it still takes mail from this relay and its account; mail waits until one message is accepted. Name the reply in `our_fault` when it always means that"
            }
            FaultCause::LeftAlone(_, Some(last)) => last.remedy(),
            FaultCause::Busy(_)
            | FaultCause::Leaves(_)
            | FaultCause::NotConfigured
            | FaultCause::Gone
            | FaultCause::LeftAlone(_, None) => "nothing: it is tried again by itself",
            FaultCause::NoChunking(_) => {
                "write `chunking = false`, and look for what stands between it and this machine"
            }
            FaultCause::UnexpectedReply(_) | FaultCause::Unintelligible(_) | FaultCause::Unasked => {
                "check that the port is one for SMTP; tell its operator"
            }
            FaultCause::BodyUnreadable(_) => "check the disk under `data_dir`",
        }
    }

    fn who(&self) -> String {
        match self.address {
            Some(address) => format!("upstream {} ({address})", self.upstream),
            None => format!("upstream {}", self.upstream),
        }
    }
}

impl fmt::Display for UpstreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; remedy: {}", self.sentence(), self.remedy())
    }
}

impl fmt::Display for TlsCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongName(why) => write!(f, "its certificate is for other names ({why})"),
            Self::Untrusted => f.write_str("its certificate is not issued by a CA trusted for it"),
            Self::OutOfTime => f.write_str("its certificate has expired or is not valid yet"),
            Self::Revoked => f.write_str("its certificate is revoked"),
            Self::Dane(fault) => write!(f, "{fault} (DANE)"),
            Self::NotPinned(shown) => write!(f, "its key is not the one that is pinned, but {shown}"),
            Self::OurCertificate(why) => write!(f, "our certificate is refused: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}
