//! Extensions by their EHLO keyword: what we offer, and what an upstream offers (RFC 5321 §4.1.1.1, §2.2).
//!
//! [`Offered`] is one value for both directions: the session is given one, writes it into its EHLO reply and reads commands by it; the
//! upstream dialogue reads one out of a reply. Never: decides what to offer; BINARYMIME and ETRN are not known here at all.
//! Nothing fails: a line that is not understood offers nothing.

use std::fmt::{self, Write as _};

use super::line::COMMAND_LINE_MAX;
use super::reply::Reply;
use crate::sys::WallTime;

/// The most SASL mechanisms that are kept of an upstream's offer.
pub const MECHANISMS_MAX: usize = 32;

/// An extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// PIPELINING (RFC 2920).
    Pipelining,
    /// SIZE (RFC 1870).
    Size,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// CHUNKING (RFC 3030).
    Chunking,
    /// SMTPUTF8 (RFC 6531).
    SmtpUtf8,
    /// DSN (RFC 3461).
    Dsn,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    EnhancedStatusCodes,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth,
    /// REQUIRETLS (RFC 8689).
    RequireTls,
    /// LIMITS (RFC 9422).
    Limits,
    /// DELIVERBY (RFC 2852).
    DeliverBy,
    /// FUTURERELEASE (RFC 4865).
    FutureRelease,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
    /// HELP, a command that not every server has (RFC 5321 §4.1.1.1).
    Help,
}

impl Extension {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 15] = [
        Self::Pipelining,
        Self::Size,
        Self::EightBitMime,
        Self::Chunking,
        Self::SmtpUtf8,
        Self::Dsn,
        Self::EnhancedStatusCodes,
        Self::StartTls,
        Self::Auth,
        Self::RequireTls,
        Self::Limits,
        Self::DeliverBy,
        Self::FutureRelease,
        Self::MtPriority,
        Self::Help,
    ];

    /// The EHLO keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Pipelining => "PIPELINING",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::Chunking => "CHUNKING",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::Dsn => "DSN",
            Self::EnhancedStatusCodes => "ENHANCEDSTATUSCODES",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::RequireTls => "REQUIRETLS",
            Self::Limits => "LIMITS",
            Self::DeliverBy => "DELIVERBY",
            Self::FutureRelease => "FUTURERELEASE",
            Self::MtPriority => "MT-PRIORITY",
            Self::Help => "HELP",
        }
    }

    /// The extension of a keyword, in any case (RFC 5321 §2.4).
    pub fn from_keyword(keyword: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.keyword().eq_ignore_ascii_case(keyword))
    }

    /// By how many octets it lengthens MAIL and RCPT; each document says so in its summary of the extension.
    const fn lengthens(self) -> (usize, usize) {
        match self {
            Self::Size => (26, 0),
            Self::EightBitMime => (17, 0),
            Self::SmtpUtf8 => (10, 0),
            // RET=HDRS, ENVID= with 100; NOTIFY= with all three, ORCPT= with 500 (RFC 3461 §4).
            Self::Dsn => (9 + 107, 29 + 507),
            Self::Auth => (500, 0),
            Self::RequireTls => (11, 0),
            Self::DeliverBy => (17, 0),
            Self::FutureRelease => (34, 0),
            Self::MtPriority => (15, 0),
            Self::Pipelining
            | Self::Chunking
            | Self::EnhancedStatusCodes
            | Self::StartTls
            | Self::Limits
            | Self::Help => (0, 0),
        }
    }

    const fn bit(self) -> u32 {
        match self {
            Self::Pipelining => 1,
            Self::Size => 1 << 1,
            Self::EightBitMime => 1 << 2,
            Self::Chunking => 1 << 3,
            Self::SmtpUtf8 => 1 << 4,
            Self::Dsn => 1 << 5,
            Self::EnhancedStatusCodes => 1 << 6,
            Self::StartTls => 1 << 7,
            Self::Auth => 1 << 8,
            Self::RequireTls => 1 << 9,
            Self::Limits => 1 << 10,
            Self::DeliverBy => 1 << 11,
            Self::FutureRelease => 1 << 12,
            Self::MtPriority => 1 << 13,
            Self::Help => 1 << 14,
        }
    }
}

/// The values of LIMITS (RFC 9422); `None`: not said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `MAILMAX`: transactions in a session.
    pub mail_max: Option<u32>,
    /// `RCPTMAX`: recipients in a transaction.
    pub rcpt_max: Option<u32>,
    /// `RCPTDOMAINMAX`: different recipient domains in a session.
    pub rcpt_domain_max: Option<u32>,
}

/// How long a message may be held (RFC 4865): the values that FUTURERELEASE carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// The longest hold, seconds.
    pub interval_max: u32,
    /// The latest moment.
    pub latest: WallTime,
}

/// A set of extensions with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offered {
    extensions: u32,
    name: String,
    size: Option<u64>,
    mechanisms: Vec<String>,
    limits: Limits,
    deliver_by_min: Option<u32>,
    hold: Option<HoldLimits>,
    priority_profile: Option<String>,
}

impl Offered {
    /// This and one more, without a value.
    #[must_use]
    pub fn with(mut self, extension: Extension) -> Self {
        self.extensions |= extension.bit();
        self
    }

    /// This without one.
    #[must_use]
    pub fn without(mut self, extension: Extension) -> Self {
        self.extensions &= !extension.bit();
        self
    }

    /// SIZE with the largest message, octets.
    #[must_use]
    pub fn with_size(mut self, octets: u64) -> Self {
        self.size = Some(octets);
        self.with(Extension::Size)
    }

    /// AUTH with its mechanisms; without any it is not offered.
    #[must_use]
    pub fn with_auth(mut self, mechanisms: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.mechanisms = mechanisms.into_iter().map(Into::into).collect();
        if self.mechanisms.is_empty() { self.without(Extension::Auth) } else { self.with(Extension::Auth) }
    }

    /// LIMITS with its values; without any it is not offered.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        if limits == Limits::default() { self.without(Extension::Limits) } else { self.with(Extension::Limits) }
    }

    /// DELIVERBY with the shortest by-time, seconds (RFC 2852 §4).
    #[must_use]
    pub fn with_deliver_by(mut self, shortest: Option<u32>) -> Self {
        self.deliver_by_min = shortest;
        self.with(Extension::DeliverBy)
    }

    /// FUTURERELEASE with its limits.
    #[must_use]
    pub fn with_future_release(mut self, limits: HoldLimits) -> Self {
        self.hold = Some(limits);
        self.with(Extension::FutureRelease)
    }

    /// Whether an extension is offered.
    pub fn has(&self, extension: Extension) -> bool {
        self.extensions & extension.bit() != 0
    }

    /// The name in the first line of the EHLO reply this was read from; empty when it was not read from one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The largest message, octets; `None` when SIZE is not offered, or names no fixed limit (RFC 1870 §4: none, or 0).
    pub fn size_limit(&self) -> Option<u64> {
        self.size.filter(|&octets| octets > 0)
    }

    /// The mechanisms of AUTH, in upper case.
    pub fn auth_mechanisms(&self) -> &[String] {
        &self.mechanisms
    }

    /// The values of LIMITS.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The shortest by-time of DELIVERBY, seconds.
    pub fn deliver_by_min(&self) -> Option<u32> {
        self.deliver_by_min
    }

    /// The limits of FUTURERELEASE.
    pub fn hold_limits(&self) -> Option<HoldLimits> {
        self.hold
    }

    /// The longest command line under these extensions, octets with CRLF: 512 and what they add to MAIL or RCPT, whichever is more (RFC 5321 §4.5.3.1.4).
    pub fn command_line_limit(&self) -> usize {
        let offered = Extension::ALL.into_iter().filter(|&extension| self.has(extension));
        let (mail, rcpt) = offered.map(Extension::lengthens).fold((0, 0), |sum, add| (sum.0 + add.0, sum.1 + add.1));
        COMMAND_LINE_MAX + mail.max(rcpt)
    }

    /// The lines of the EHLO reply behind the first (RFC 5321 §4.1.1.1), in a fixed order.
    pub fn ehlo_lines(&self) -> Vec<String> {
        Extension::ALL
            .into_iter()
            .filter(|&extension| self.has(extension))
            .map(|extension| self.ehlo_line(extension))
            .collect()
    }

    fn ehlo_line(&self, extension: Extension) -> String {
        let mut line = extension.keyword().to_owned();
        let mut put = |value: &dyn fmt::Display| {
            // Writing into a text cannot fail.
            let _ = write!(line, " {value}");
        };
        match extension {
            Extension::Size => self.size.iter().for_each(|octets| put(octets)),
            Extension::Auth => self.mechanisms.iter().for_each(|mechanism| put(mechanism)),
            Extension::Limits => self.limits.each(|name, value| put(&format_args!("{name}={value}"))),
            Extension::DeliverBy => self.deliver_by_min.iter().for_each(|least| put(least)),
            Extension::FutureRelease => self.hold.iter().for_each(|hold| {
                put(&hold.interval_max);
                put(&hold.latest.rfc3339());
            }),
            Extension::MtPriority => self.priority_profile.iter().for_each(|profile| put(profile)),
            Extension::Pipelining
            | Extension::EightBitMime
            | Extension::Chunking
            | Extension::SmtpUtf8
            | Extension::Dsn
            | Extension::EnhancedStatusCodes
            | Extension::StartTls
            | Extension::RequireTls
            | Extension::Help => {}
        }
        line
    }

    /// What an EHLO reply offers: its first line is the server's name, each other one a keyword with values (RFC 5321 §4.1.1.1). Keywords and
    /// mechanisms in any case. The `AUTH=` of servers older than RFC 4954 counts as `AUTH`.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut lines = reply.lines().iter();
        let name = lines.next().and_then(|line| line.split_ascii_whitespace().next()).unwrap_or_default();
        let mut offered = Self { name: name.to_owned(), ..Self::default() };
        lines.for_each(|line| offered.read_line(line));
        offered
    }

    fn read_line(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { return };
        let (keyword, glued) = match first.split_once('=') {
            Some((keyword, mechanism)) if keyword.eq_ignore_ascii_case("AUTH") => (keyword, Some(mechanism)),
            _ => (first, None),
        };
        let Some(extension) = Extension::from_keyword(keyword) else { return };
        self.extensions |= extension.bit();
        self.read_values(extension, &glued.into_iter().chain(words).collect::<Vec<_>>());
    }

    fn read_values(&mut self, extension: Extension, values: &[&str]) {
        let first = values.first().copied();
        match extension {
            Extension::Size => self.size = first.and_then(|value| value.parse().ok()),
            Extension::Auth => values.iter().for_each(|name| self.add_mechanism(name)),
            Extension::Limits => self.limits = Limits::read(values),
            // RFC 2852 §2: further options may stand behind a comma.
            Extension::DeliverBy => {
                self.deliver_by_min =
                    first.and_then(|value| value.split(',').next()).and_then(|value| value.parse().ok());
            }
            Extension::FutureRelease => self.hold = read_hold(values),
            Extension::MtPriority => self.priority_profile = first.map(str::to_owned),
            Extension::Pipelining
            | Extension::EightBitMime
            | Extension::Chunking
            | Extension::SmtpUtf8
            | Extension::Dsn
            | Extension::EnhancedStatusCodes
            | Extension::StartTls
            | Extension::RequireTls
            | Extension::Help => {}
        }
    }

    fn add_mechanism(&mut self, name: &str) {
        let name = name.to_ascii_uppercase();
        if !name.is_empty() && self.mechanisms.len() < MECHANISMS_MAX && !self.mechanisms.contains(&name) {
            self.mechanisms.push(name);
        }
    }
}

impl Limits {
    fn each(self, mut told: impl FnMut(&str, u32)) {
        let named = [("MAILMAX", self.mail_max), ("RCPTMAX", self.rcpt_max), ("RCPTDOMAINMAX", self.rcpt_domain_max)];
        named.into_iter().for_each(|(name, value)| value.into_iter().for_each(|value| told(name, value)));
    }

    /// Limits with names or values that are not understood say nothing (RFC 9422).
    fn read(values: &[&str]) -> Self {
        let mut limits = Self::default();
        for (name, value) in values.iter().filter_map(|value| value.split_once('=')) {
            let value = value.parse().ok().filter(|&value| value > 0);
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => limits.mail_max = value,
                "RCPTMAX" => limits.rcpt_max = value,
                "RCPTDOMAINMAX" => limits.rcpt_domain_max = value,
                _ => {}
            }
        }
        limits
    }
}

fn read_hold(values: &[&str]) -> Option<HoldLimits> {
    let interval_max = values.first()?.parse().ok()?;
    let latest = values.get(1)?.parse::<jiff::Timestamp>().ok()?;
    Some(HoldLimits { interval_max, latest: WallTime::from_seconds(latest.as_second()) })
}

/// Everything that sealpost knows of, offered.
#[cfg(test)]
pub(crate) fn everything_offered() -> Offered {
    Extension::ALL
        .into_iter()
        .fold(Offered::default(), Offered::with)
        .with_size(10_000_000)
        .with_auth(["EXTERNAL", "PLAIN"])
        .with_deliver_by(Some(1))
        .with_future_release(HoldLimits { interval_max: u32::MAX, latest: WallTime::from_seconds(6_000_000_000) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::reply::Code;

    fn ehlo(lines: &[&str]) -> Offered {
        let lines = std::iter::once(&"relay.example says hello").chain(lines).map(|&line| line.to_owned());
        Offered::from_ehlo(&Reply::multiline(Code::known(250), None, lines))
    }

    /// RFC 5321 §2.2.2: what IANA's registry of SMTP service extensions had in November 2026 that is offered here, and no more.
    #[test]
    fn only_registered_keywords_are_offered() {
        const REGISTERED: [&str; 15] = [
            "8BITMIME",
            "AUTH",
            "CHUNKING",
            "DELIVERBY",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "FUTURERELEASE",
            "HELP",
            "LIMITS",
            "MT-PRIORITY",
            "PIPELINING",
            "REQUIRETLS",
            "SIZE",
            "SMTPUTF8",
            "STARTTLS",
        ];
        let mut all: Vec<&str> = Extension::ALL.map(Extension::keyword).into();
        all.sort_unstable();
        assert_eq!(all, REGISTERED);
    }

    #[test]
    fn keywords_are_read_in_any_case() {
        for extension in Extension::ALL {
            assert!(ehlo(&[extension.keyword()]).has(extension), "{extension:?}");
            assert!(ehlo(&[&extension.keyword().to_ascii_lowercase()]).has(extension), "{extension:?}");
            let others = Extension::ALL.into_iter().filter(|&other| other != extension);
            assert!(others.into_iter().all(|other| !ehlo(&[extension.keyword()]).has(other)), "{extension:?}");
        }
    }

    #[test]
    fn the_first_line_is_a_name_and_offers_nothing() {
        let reply =
            Reply::multiline(Code::known(250), None, ["PIPELINING".to_owned(), "XYZ".to_owned(), String::new()]);
        let offered = Offered::from_ehlo(&reply);
        assert_eq!(offered.name(), "PIPELINING");
        assert!(Extension::ALL.into_iter().all(|extension| !offered.has(extension)));
        assert_eq!(ehlo(&[]).name(), "relay.example");
    }

    #[test]
    fn values_are_read() {
        let offered = ehlo(&[
            "SIZE 35882577",
            "AUTH PLAIN login",
            "auth=LOGIN CRAM-MD5",
            "LIMITS RCPTMAX=100 mailmax=5 XMAX=2 RCPTDOMAINMAX=0",
            "DELIVERBY 240",
            "FUTURERELEASE 86400 2027-01-15T08:00:00Z",
        ]);
        assert_eq!(offered.size_limit(), Some(35_882_577));
        assert_eq!(offered.auth_mechanisms(), ["PLAIN", "LOGIN", "CRAM-MD5"]);
        assert_eq!(offered.limits(), Limits { mail_max: Some(5), rcpt_max: Some(100), rcpt_domain_max: None });
        assert_eq!(offered.deliver_by_min(), Some(240));
        for (line, least) in [("DELIVERBY 240,X", Some(240)), ("DELIVERBY ,X", None), ("DELIVERBY", None)] {
            assert_eq!(ehlo(&[line]).deliver_by_min(), least, "{line}");
        }
        let hold = HoldLimits { interval_max: 86_400, latest: WallTime::from_seconds(1_800_000_000) };
        assert_eq!(offered.hold_limits(), Some(hold));
        // RFC 6531 §3.1: values that do not belong there are passed over.
        assert!(ehlo(&["SMTPUTF8 with=more"]).has(Extension::SmtpUtf8));
    }

    /// Only AUTH had its value behind `=`; RFC 9422 counts a limit of domains like the others.
    #[test]
    fn a_value_stands_behind_a_space() {
        for line in ["SIZE=1000", "STARTTLS=yes", "LIMITS=RCPTMAX=5"] {
            let offered = ehlo(&[line]);
            assert!(Extension::ALL.into_iter().all(|extension| !offered.has(extension)), "{line}");
        }
        assert_eq!(ehlo(&["AUTH="]).auth_mechanisms(), [""; 0]);
        assert_eq!(ehlo(&["LIMITS RCPTDOMAINMAX=7"]).limits().rcpt_domain_max, Some(7));
    }

    #[test]
    fn one_is_taken_from_an_offer_and_the_rest_stays() {
        for one in Extension::ALL {
            let offered = everything_offered().without(one);
            assert!(Extension::ALL.into_iter().all(|other| offered.has(other) == (other != one)), "{one:?}");
            assert_eq!(offered.without(one), everything_offered().without(one), "{one:?}");
        }
    }

    #[test]
    fn no_value_and_zero_are_no_fixed_size_limit() {
        for line in ["SIZE", "SIZE 0", "SIZE many"] {
            assert!(ehlo(&[line]).has(Extension::Size), "{line}");
            assert_eq!(ehlo(&[line]).size_limit(), None, "{line}");
        }
    }

    #[test]
    fn an_offer_of_endless_mechanisms_is_cut() {
        let names: Vec<String> = (0..1000).map(|number| format!("M{number}")).collect();
        assert_eq!(ehlo(&[&format!("AUTH {}", names.join(" "))]).auth_mechanisms().len(), MECHANISMS_MAX);
    }

    #[test]
    fn an_offer_is_written_in_a_fixed_order_with_its_values() {
        let offered = Offered::default()
            .with_limits(Limits { mail_max: Some(50), rcpt_max: Some(100), rcpt_domain_max: None })
            .with_auth(["EXTERNAL", "PLAIN"])
            .with(Extension::EightBitMime)
            .with_size(1000)
            .with(Extension::Pipelining)
            .with_deliver_by(Some(60))
            .with_future_release(HoldLimits { interval_max: 60, latest: WallTime::from_seconds(1_800_000_000) });
        let lines = [
            "PIPELINING",
            "SIZE 1000",
            "8BITMIME",
            "AUTH EXTERNAL PLAIN",
            "LIMITS MAILMAX=50 RCPTMAX=100",
            "DELIVERBY 60",
            "FUTURERELEASE 60 2027-01-15T08:00:00Z",
        ];
        assert_eq!(offered.ehlo_lines(), lines);
    }

    #[test]
    fn what_has_no_values_is_not_offered() {
        let offered = Offered::default().with_auth(Vec::<String>::new()).with_limits(Limits::default());
        assert!(offered.ehlo_lines().is_empty());
    }

    #[test]
    fn extensions_lengthen_the_command_line() {
        assert_eq!(Offered::default().command_line_limit(), 512);
        assert_eq!(Offered::default().with_size(1).with(Extension::EightBitMime).command_line_limit(), 512 + 26 + 17);
        assert_eq!(Offered::default().with(Extension::Dsn).command_line_limit(), 512 + 536);
        let everything = everything_offered().command_line_limit();
        assert!((1200..2048).contains(&everything), "{everything}");
    }
}
