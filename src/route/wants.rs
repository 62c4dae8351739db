//! Whom a route takes: who sends, under which CA, from which domain, to which domain. What is not asked for does not matter; what is, must all hold.
//!
//! Names of identities compare octet for octet, with `*` for any text; domains as the `domains` of a CA: `example.com` exactly, `.example.com` its
//! subdomains, `*` all. The bare `<postmaster>` has no domain, and neither has the null sender, which may be named as `<>`. Pure.

use std::collections::BTreeSet;

use crate::identity::DomainSet;
use crate::mail::{ForwardPath, ReversePath};

/// One recipient of a message, and whose message it is: what a route is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// The identity that sent it; `reports` for our own.
    pub identity: &'a str,
    /// Its CA; none for a pin and for our own reports.
    pub ca: Option<&'a str>,
    /// The envelope sender.
    pub sender: &'a ReversePath,
    /// The recipient.
    pub recipient: &'a ForwardPath,
}

/// Whom a route takes. The default takes everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Of these identities.
    pub identities: Option<Vec<NamePattern>>,
    /// Under these CAs.
    pub cas: Option<BTreeSet<String>>,
    /// From these domains.
    pub senders: Option<Senders>,
    /// To these domains.
    pub recipients: Option<DomainSet>,
}

/// Senders that a route takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// Of these domains.
    pub domains: DomainSet,
    /// And the null sender?
    pub null: NullSender,
}

/// Whether a route takes the null sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NullSender {
    /// It does not.
    #[default]
    NotTaken,
    /// It does.
    Taken,
}

/// The name of an identity, in which each `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// This pattern; any text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can name only one identity.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    /// Whether it names this identity.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(mut rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            match rest.split_once(piece) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Wants {
    /// Whether it takes this recipient.
    pub fn takes(&self, errand: &Errand<'_>) -> bool {
        self.takes_identity(errand.identity)
            && self.cas.as_ref().is_none_or(|cas| errand.ca.is_some_and(|ca| cas.contains(ca)))
            && self.senders.as_ref().is_none_or(|senders| senders.take(errand.sender))
            && self.recipients.as_ref().is_none_or(|domains| goes_to(domains, errand.recipient))
    }

    fn takes_identity(&self, name: &str) -> bool {
        self.identities.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
    }

    /// Whether nothing is asked for.
    pub fn takes_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it certainly takes whatever the other takes.
    pub fn covers(&self, other: &Self) -> bool {
        covers(self.identities.as_ref(), other.identities.as_ref(), |all, some| {
            // A `*` of the other is a letter like any: what covers it covers all that it stands for.
            some.iter().all(|name| all.iter().any(|pattern| pattern.matches(name.as_str())))
        }) && covers(self.cas.as_ref(), other.cas.as_ref(), |all, some| some.is_subset(all))
            && covers(self.senders.as_ref(), other.senders.as_ref(), |all, some| {
                all.domains.covers(&some.domains)
                    && (all.null == NullSender::Taken || some.null == NullSender::NotTaken)
            })
            && covers(self.recipients.as_ref(), other.recipients.as_ref(), DomainSet::covers)
    }
}

impl Senders {
    fn take(&self, sender: &ReversePath) -> bool {
        match sender {
            ReversePath::Null => self.null == NullSender::Taken,
            ReversePath::Address(address) => self.domains.holds(&address.host().to_string()),
        }
    }
}

fn goes_to(domains: &DomainSet, recipient: &ForwardPath) -> bool {
    match recipient {
        ForwardPath::Postmaster => false,
        ForwardPath::Address(address) => domains.holds(&address.host().to_string()),
    }
}

/// Of two conditions, whether the first holds wherever the second does; none always holds.
fn covers<T>(all: Option<&T>, some: Option<&T>, within: impl FnOnce(&T, &T) -> bool) -> bool {
    match (all, some) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(all), Some(some)) => within(all, some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("robot", "robot", true),
            ("robot", "robots", false),
            ("*", "", true),
            ("*", "staff:a@example.com", true),
            ("staff:*", "staff:a@example.com", true),
            ("staff:*", "Staff:a@example.com", false),
            ("*-robot", "billing-robot", true),
            ("*-robot", "-robot", true),
            ("*-robot", "robot", false),
            ("staff:*@*.example.com", "staff:a@b.example.com", true),
            ("staff:*@*.example.com", "staff:a@example.com", false),
            ("a*a", "a", false),
            ("a*b*a", "aba", true),
            ("**", "x", true),
        ] {
            assert_eq!(NamePattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    fn domains(list: &[&str]) -> DomainSet {
        DomainSet::read(list.iter().copied()).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn identities(names: &[&str]) -> Wants {
        Wants { identities: Some(names.iter().map(|name| NamePattern::new(*name)).collect()), ..Wants::default() }
    }

    fn cas(names: &[&str]) -> Wants {
        Wants { cas: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..Wants::default() }
    }

    fn senders(list: &[&str], null: NullSender) -> Wants {
        Wants { senders: Some(Senders { domains: domains(list), null }), ..Wants::default() }
    }

    fn recipients(list: &[&str]) -> Wants {
        Wants { recipients: Some(domains(list)), ..Wants::default() }
    }

    #[test]
    fn every_condition_that_is_written_must_hold() {
        let from = ReversePath::Address(address("alice@sub.example.com"));
        let to = ForwardPath::Address(address("bob@Example.NET"));
        let errand = Errand { identity: "staff:alice", ca: Some("staff"), sender: &from, recipient: &to };
        let null = Errand { sender: &ReversePath::Null, ..errand };
        let pin = Errand { ca: None, ..errand };
        let postmaster = Errand { recipient: &ForwardPath::Postmaster, ..errand };
        let null_taken = NullSender::Taken;
        for (claim, wants, asked, expected) in [
            ("all", Wants::default(), errand, true),
            ("its identity", identities(&["x", "staff:*"]), errand, true),
            ("another identity", identities(&["x"]), errand, false),
            ("its CA", cas(&["staff"]), errand, true),
            ("another CA", cas(&["workloads"]), errand, false),
            ("a pin has no CA", cas(&["staff"]), pin, false),
            ("its sender's domain", senders(&[".example.com"], NullSender::NotTaken), errand, true),
            ("the domain above", senders(&["example.com"], NullSender::NotTaken), errand, false),
            ("every domain, but not the null sender", senders(&["*"], NullSender::NotTaken), null, false),
            ("the null sender", senders(&[], null_taken), null, true),
            ("its domain, in any case", recipients(&["example.net"]), errand, true),
            ("another domain", recipients(&["example.org"]), errand, false),
            ("the bare postmaster has no domain", recipients(&["*"]), postmaster, false),
            ("but an identity", identities(&["staff:alice"]), postmaster, true),
            ("both", Wants { recipients: Some(domains(&["example.net"])), ..cas(&["staff"]) }, errand, true),
            ("one of two", Wants { recipients: Some(domains(&["example.org"])), ..cas(&["staff"]) }, errand, false),
        ] {
            assert_eq!(wants.takes(&asked), expected, "{claim}");
        }
    }

    #[test]
    fn who_asks_for_less_covers_who_asks_for_more() {
        let everybody = Wants::default;
        for (all, some, expected) in [
            (everybody(), identities(&["a"]), true),
            (identities(&["a"]), everybody(), false),
            (identities(&["staff:*", "b"]), identities(&["staff:a*", "b"]), true),
            (identities(&["staff:a*"]), identities(&["staff:*"]), false),
            (cas(&["a", "b"]), cas(&["a"]), true),
            (cas(&["a"]), cas(&["a", "b"]), false),
            (cas(&["a"]), identities(&["a"]), false),
            (recipients(&["*"]), recipients(&["example.com"]), true),
            (recipients(&[".example.com"]), recipients(&["a.example.com", ".b.example.com"]), true),
            (recipients(&[".example.com"]), recipients(&["example.com"]), false),
            (recipients(&["example.com"]), recipients(&["*"]), false),
            (senders(&["*"], NullSender::NotTaken), senders(&["a.example"], NullSender::Taken), false),
            (senders(&["*"], NullSender::Taken), senders(&["a.example"], NullSender::Taken), true),
        ] {
            assert_eq!(all.covers(&some), expected, "{all:?} over {some:?}");
        }
    }
}
