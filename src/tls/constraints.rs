//! E-mail name constraints (RFC 5280 §4.2.1.10, RFC 9598 §6): which addresses a CA's certificates may have.
//!
//! webpki refuses every certificate with an rfc822Name under a CA with such constraints, and knows nothing of SmtpUTF8Mailbox. So these subtrees
//! are read and judged here, for every certificate of a path under every constrained one above it; all other forms of names are webpki's.
//!
//! What can't be read is judged against the certificate: such a permitted subtree holds nothing, such an excluded one everything, such a name
//! is in no permitted subtree and in every excluded one. An excluded mailbox excludes its local part in any case of letters, since grants
//! compare local parts without case; a permitted one permits it as written.
//!
//! Never: looks at other forms; compares without limit ([`COMPARISONS_MAX`]).

use super::der::{self, Element};
use crate::mail::{Address, CanonicalAddress, Domain, LocalPartCase};

/// The most comparisons of the names of one certificate with the subtrees of one CA: a hundred names with five hundred subtrees.
pub(super) const COMPARISONS_MAX: usize = 50_000;

/// The tag of an rfc822Name among the forms of names (RFC 5280 §4.2.1.6).
const RFC822_NAME: u8 = 0x81;
/// The tag of a directoryName.
const DIRECTORY_NAME: u8 = 0xa4;
/// The bits of a tag that name the form, whether its content is constructed or not.
const FORM: u8 = 0x1f;

/// A name of a certificate to which e-mail constraints apply: an rfc822Name, a SmtpUTF8Mailbox, or an emailAddress in the subject when there
/// is no subjectAltName.
#[derive(Clone, Debug)]
pub(super) struct MailName(Option<Address>);

impl MailName {
    /// One that is read already: a user principal name, which grants as an address does.
    pub(super) fn of(address: &Address) -> Self {
        Self(Some(address.clone()).filter(|address| address.host().domain().is_some()))
    }

    /// From its octets; what is no address stays a name, and fits nothing.
    pub(super) fn read(octets: &[u8]) -> Self {
        let text = std::str::from_utf8(octets).ok();
        Self(text.and_then(|text| Address::parse(text).ok()).filter(|address| address.host().domain().is_some()))
    }
}

/// One e-mail subtree.
#[derive(Clone, Debug)]
enum Subtree {
    /// `alice@example.com`: this mailbox.
    Mailbox(Box<Address>),
    /// `example.com`: all mailboxes of this host.
    Host(Domain),
    /// `.example.com`: all mailboxes of all hosts in this domain, itself left out.
    Below(Domain),
    /// Nothing that can be read.
    Unreadable,
}

impl Subtree {
    fn read(octets: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(octets) else { return Self::Unreadable };
        let read = if text.contains('@') {
            Address::parse(text).ok().map(|address| Self::Mailbox(Box::new(address)))
        } else if let Some(domain) = text.strip_prefix('.') {
            Domain::parse(domain).ok().map(Self::Below)
        } else {
            Domain::parse(text).ok().map(Self::Host)
        };
        read.unwrap_or(Self::Unreadable)
    }

    fn permits(&self, name: &MailName) -> bool {
        let MailName(Some(address)) = name else { return false };
        self.holds(address, LocalPartCase::Exact).unwrap_or(false)
    }

    fn excludes(&self, name: &MailName) -> bool {
        let MailName(Some(address)) = name else { return true };
        self.holds(address, LocalPartCase::Ignored).unwrap_or(true)
    }

    /// `None`: nobody can tell.
    fn holds(&self, address: &Address, case: LocalPartCase) -> Option<bool> {
        let canonical = |address: &Address| -> CanonicalAddress { address.canonical(case) };
        let host = address.host().domain()?.ascii();
        match self {
            Self::Mailbox(mailbox) => Some(canonical(mailbox) == canonical(address)),
            Self::Host(domain) => Some(host == domain.ascii()),
            Self::Below(domain) => {
                Some(host.strip_suffix(domain.ascii()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.')))
            }
            Self::Unreadable => None,
        }
    }
}

/// The e-mail subtrees of one CA certificate.
#[derive(Clone, Debug, Default)]
pub(super) struct MailConstraints {
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

impl MailConstraints {
    pub(super) fn is_empty(&self) -> bool {
        self.permitted.is_empty() && self.excluded.is_empty()
    }

    /// Whether all these names may be. False too when there is too much to compare.
    pub(super) fn allow(&self, names: &[MailName]) -> bool {
        let subtrees = self.permitted.len().saturating_add(self.excluded.len());
        names.len().saturating_mul(subtrees) <= COMPARISONS_MAX && names.iter().all(|name| self.allows(name))
    }

    /// Which of these names may be, one by one. None of them when there is too much to compare.
    pub(super) fn allow_each(&self, names: &[MailName]) -> Vec<bool> {
        let subtrees = self.permitted.len().saturating_add(self.excluded.len());
        let comparable = names.len().saturating_mul(subtrees) <= COMPARISONS_MAX;
        names.iter().map(|name| comparable && self.allows(name)).collect()
    }

    fn allows(&self, name: &MailName) -> bool {
        let permitted = self.permitted.is_empty() || self.permitted.iter().any(|subtree| subtree.permits(name));
        permitted && !self.excluded.iter().any(|subtree| subtree.excludes(name))
    }
}

/// The name constraints of one certificate, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct NameConstraints {
    pub(super) mail: MailConstraints,
    /// All other subtrees, as the content octets of the extension's SEQUENCE; none when there are none.
    pub(super) others: Option<Vec<u8>>,
    /// The forms of names that the others are about.
    forms: Vec<u8>,
}

impl NameConstraints {
    /// From the extension's value; `None` when it is malformed.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let mut found = Self::default();
        let mut rest = der::only(value, der::SEQUENCE)?;
        let mut others = Vec::new();
        // permittedSubtrees and excludedSubtrees, each at most once and in this order.
        for tag in [0xa0, 0xa1] {
            let Some(subtrees) = der::take(&mut rest, tag) else { continue };
            let (mail, kept) = found.divide(subtrees)?;
            let list = if tag == 0xa0 { &mut found.mail.permitted } else { &mut found.mail.excluded };
            *list = mail;
            if !kept.is_empty() {
                others.extend(der::write(tag, &kept));
            }
        }
        found.others = (!others.is_empty()).then_some(others);
        rest.is_empty().then_some(found)
    }

    fn divide(&mut self, subtrees: &[u8]) -> Option<(Vec<Subtree>, Vec<u8>)> {
        let (mut mail, mut kept) = (Vec::new(), Vec::new());
        for subtree in der::all(subtrees)? {
            let base = subtree_base(&subtree)?;
            if base.tag == RFC822_NAME {
                mail.push(Subtree::read(base.content));
            } else {
                kept.extend_from_slice(subtree.raw);
                self.forms.push(base.tag & FORM);
            }
        }
        Some((mail, kept))
    }

    /// Whether one of the other subtrees is about a form of name that is among these tags. Every certificate has a subject, so one about
    /// directory names always is.
    pub(super) fn concern(&self, tags: &[u8]) -> bool {
        let concerned = |form: &u8| *form == DIRECTORY_NAME & FORM || tags.iter().any(|tag| tag & FORM == *form);
        self.forms.iter().any(concerned)
    }
}

/// RFC 5280 §4.2.1.10: minimum is 0, so not written, and maximum absent.
fn subtree_base<'a>(subtree: &Element<'a>) -> Option<Element<'a>> {
    match der::first(subtree.content)? {
        (base, []) if subtree.tag == der::SEQUENCE => Some(base),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtrees(list: &[&str]) -> Vec<u8> {
        list.iter().flat_map(|text| der::write(der::SEQUENCE, &der::write(RFC822_NAME, text.as_bytes()))).collect()
    }

    fn constraints(permitted: &[&str], excluded: &[&str]) -> NameConstraints {
        let list = |tag, list: &[&str]| if list.is_empty() { Vec::new() } else { der::write(tag, &subtrees(list)) };
        let value = der::write(der::SEQUENCE, &[list(0xa0, permitted), list(0xa1, excluded)].concat());
        NameConstraints::read(&value).unwrap()
    }

    #[test]
    fn each_form_of_subtree_holds_what_the_rfc_says() {
        let host = &["example.com"][..];
        let below = &[".example.com"][..];
        let mailbox = &["alice@example.com"][..];
        let none: &[&str] = &[];
        #[rustfmt::skip]
        let cases = [
            // Permitted, excluded, the name, whether it may be.
            (host, none, "alice@example.com", true),
            (host, none, "alice@EXAMPLE.com", true),
            (host, none, "alice@mail.example.com", false),
            (host, none, "alice@badexample.com", false),
            (host, none, "alice@example.com.evil.example", false),
            (host, none, "alice@example.net", false),
            (below, none, "alice@mail.example.com", true),
            (below, none, "alice@a.b.example.com", true),
            (below, none, "alice@example.com", false),
            (below, none, "alice@badexample.com", false),
            (mailbox, none, "alice@example.com", true),
            (mailbox, none, "alice@Example.COM", true),
            (mailbox, none, "Alice@example.com", false),
            (mailbox, none, "bob@example.com", false),
            (none, host, "alice@example.com", false),
            (none, host, "alice@mail.example.com", true),
            (none, below, "alice@mail.example.com", false),
            (none, mailbox, "ALICE@example.com", false),
            (none, mailbox, "\"alice\"@example.com", false),
            (none, mailbox, "bob@example.com", true),
            (host, mailbox, "bob@example.com", true),
            (host, mailbox, "alice@example.com", false),
            // International: the host is compared as A-labels, from whichever side it comes.
            (&["xn--bcher-kva.example"][..], none, "älice@bücher.example", true),
            (&["xn--bcher-kva.example"][..], none, "alice@xn--bcher-kva.example", true),
            (none, &["xn--bcher-kva.example"][..], "älice@bücher.example", false),
            // What can't be read is judged against the certificate.
            (host, none, "alice", false),
            (host, none, "alice@example.com\0.evil.example", false),
            (none, host, "alice\n@example.net", false),
            (host, none, "alice@[192.0.2.1]", false),
            (none, host, "alice@[192.0.2.1]", false),
            (&[""][..], none, "alice@example.com", false),
            (none, &[""][..], "alice@example.com", false),
            (&["@example.com"][..], none, "alice@example.com", false),
            (none, &["*.example.com"][..], "alice@example.net", false),
        ];
        for (permitted, excluded, name, allowed) in cases {
            let found = constraints(permitted, excluded).mail.allow(&[MailName::read(name.as_bytes())]);
            assert_eq!(found, allowed, "{permitted:?} {excluded:?} {name:?}");
        }
        assert!(constraints(host, none).mail.allow(&[]));
    }

    #[test]
    fn the_other_forms_are_kept_octet_for_octet() {
        let dns = der::write(der::SEQUENCE, &der::write(0x82, b"example.com"));
        let mail = subtrees(&["example.com"]);
        let value = |subtrees: &[u8]| der::write(der::SEQUENCE, &der::write(0xa0, subtrees));
        let mixed = NameConstraints::read(&value(&[mail.clone(), dns.clone()].concat())).unwrap();
        assert_eq!(mixed.others, Some(der::write(0xa0, &dns)));
        assert!(mixed.concern(&[0x82]) && !mixed.concern(&[RFC822_NAME]) && !mixed.mail.is_empty());
        let alone = NameConstraints::read(&value(&mail)).unwrap();
        assert!(alone.others.is_none() && !alone.concern(&[0x82]));
    }

    #[test]
    fn malformed_constraints_are_not_read() {
        let maximum =
            der::write(der::SEQUENCE, &[der::write(RFC822_NAME, b"example.com"), der::write(0x81, b"\x05")].concat());
        let tree = der::write(0xa0, &subtrees(&["example.com"]));
        for wrong in [
            Vec::new(),
            vec![0x30],
            der::write(0x31, &[]),
            der::write(der::SEQUENCE, &der::write(0xa0, &maximum)),
            der::write(der::SEQUENCE, &[tree.clone(), tree.clone()].concat()),
            der::write(der::SEQUENCE, &[der::write(0xa1, &subtrees(&["example.com"])), tree].concat()),
            der::write(der::SEQUENCE, &der::write(0xa0, b"\x30\x00")),
        ] {
            assert!(NameConstraints::read(&wrong).is_none(), "{wrong:x?}");
        }
    }

    #[test]
    fn there_is_an_end_to_comparing() {
        let list = vec!["example.com"; 500];
        let names = vec![MailName::read(b"alice@example.com"); 101];
        assert!(!constraints(&list, &[]).mail.allow(&names));
        assert!(constraints(&list, &[]).mail.allow(&names[..100]));
        assert!(!constraints(&list, &[]).mail.allow_each(&names).contains(&true));
    }
}
