//! The names of a certificate: each is given whole or not at all, and none is lost.
//!
//! The octets are a certificate in DER, or a list of names (kind, length, content) for which one is made.

use std::sync::OnceLock;

use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use sealpost::identity::CertificateFacts;

use super::{Lie, Told, require, same};
use crate::recipe::{Recipe, der};

/// Octets of a name in the text for people.
const SHOWN_MAX: usize = 4 * 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Email,
    Dns,
    Uri,
    Utf8Mailbox,
    Upn,
}

const KINDS: [Kind; 5] = [Kind::Email, Kind::Dns, Kind::Uri, Kind::Utf8Mailbox, Kind::Upn];
/// id-on-SmtpUTF8Mailbox (RFC 9598 §3) and the user principal name of Active Directory.
const UTF8_MAILBOX: &[u8] = &[43, 6, 1, 5, 5, 7, 8, 9];
const UPN: &[u8] = &[43, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3];

impl Kind {
    /// GeneralName (RFC 5280 §4.2.1.6).
    fn in_der(self, content: &[u8]) -> Vec<u8> {
        let other = |oid| der(0xa0, &[der(0x06, oid), der(0xa0, &der(0x0c, content))].concat());
        match self {
            Self::Email => der(0x81, content),
            Self::Dns => der(0x82, content),
            Self::Uri => der(0x86, content),
            Self::Utf8Mailbox => other(UTF8_MAILBOX),
            Self::Upn => other(UPN),
        }
    }
}

/// [`CertificateFacts`], see above.
pub(super) fn names(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    if octets.first() == Some(&0x30) {
        let Ok(facts) = CertificateFacts::of(&CertificateDer::from(octets)) else { return Ok(()) };
        return plain(&facts);
    }
    let given = list(octets);
    let shown = match lie {
        Lie::NamesEndAtNul => given.iter().map(|(kind, name)| (*kind, up_to_nul(name))).collect(),
        _ => given.clone(),
    };
    let Ok(mut facts) = CertificateFacts::of(&certificate(&shown)) else {
        // Nothing that is in a certificate is passed over: where it can't be read, nothing of it counts.
        return Ok(());
    };
    if lie == Lie::NamesTakeWildcards {
        let wild = given.iter().find(|(kind, name)| *kind == Kind::Dns && name.starts_with(b"*."));
        facts.dns.extend(wild.map(|(_, name)| String::from_utf8_lossy(name).into_owned()));
    }
    plain(&facts)?;
    let is_given = |text: &str, kinds: &[Kind]| {
        given.iter().any(|(kind, name)| kinds.contains(kind) && name.eq_ignore_ascii_case(text.as_bytes()))
    };
    for email in &facts.emails {
        require("an e-mail name that nobody gave", is_given(email.as_str(), &[Kind::Email, Kind::Utf8Mailbox]))?;
    }
    require("a UPN that nobody gave", facts.upns.iter().all(|name| is_given(name.as_str(), &[Kind::Upn])))?;
    require("a host that nobody gave", facts.dns.iter().all(|name| is_given(name, &[Kind::Dns])))?;
    require("a URI that nobody gave", facts.uris.iter().all(|name| is_given(name, &[Kind::Uri])))?;
    let all = facts.emails.len() + facts.upns.len() + facts.dns.len() + facts.uris.len() + facts.unusable.len();
    same("names that are told of", &all, &given.len())
}

/// What must be so of the facts of any certificate.
fn plain(facts: &CertificateFacts) -> Told {
    let is_plain = |text: &str| !text.is_empty() && !text.chars().any(|c| c.is_control() || c == ' ');
    for email in facts.emails.iter().chain(&facts.upns) {
        require("an address with controls or spaces", is_plain(email.as_str()))?;
        require("an address of a host without a name", email.host().domain().is_some())?;
    }
    require("an e-mail name without a whole domain", facts.emails.iter().all(|one| one.host().is_fully_qualified()))?;
    let host = |name: &String| is_plain(name) && name.is_ascii() && !name.contains('*') && *name == name.to_lowercase();
    require("a host that is none", facts.dns.iter().all(host))?;
    require("a URI that is none", facts.uris.iter().all(|uri| is_plain(uri) && uri.is_ascii() && uri.contains(':')))?;
    let spiffe = |uri: &String| uri.to_lowercase().starts_with("spiffe:");
    require("two URIs of a workload", facts.uris.len() < 2 || !facts.uris.iter().any(spiffe))?;
    let told = facts.unusable.iter().map(|one| &one.name).chain([&facts.summary.subject, &facts.summary.issuer]);
    for text in told {
        require("a name that breaks a log line", text.len() <= SHOWN_MAX && !text.chars().any(char::is_control))?;
    }
    Ok(())
}

fn list(octets: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let (mut all, mut rest) = (Vec::new(), octets);
    while let [kind, length, behind @ ..] = rest {
        let (name, behind) = behind.split_at_checked(usize::from(*length)).unwrap_or((behind, &[]));
        all.push((KINDS[usize::from(*kind) % KINDS.len()], name.to_vec()));
        rest = behind;
    }
    all
}

/// The list of such names, for seeds.
pub(super) fn listed(names: &[(u8, &[u8])]) -> Vec<u8> {
    let one = |(kind, name): &(u8, &[u8])| [&[*kind, u8::try_from(name.len()).unwrap()][..], name].concat();
    names.iter().flat_map(one).collect()
}

fn up_to_nul(name: &[u8]) -> Vec<u8> {
    name.split(|&octet| octet == 0).next().unwrap_or_default().to_vec()
}

fn certificate(names: &[(Kind, Vec<u8>)]) -> CertificateDer<'static> {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    let key = KEY.get_or_init(|| KeyPair::generate().unwrap().serialize_der());
    let all: Vec<u8> = names.iter().flat_map(|(kind, name)| kind.in_der(name)).collect();
    let recipe = Recipe::client("Somebody").serial(&[1]);
    let recipe = if names.is_empty() { recipe } else { recipe.extension(&[2, 5, 29, 17], false, der(0x30, &all)) };
    recipe.with_key(KeyPair::try_from(key.as_slice()).unwrap(), None).der
}
