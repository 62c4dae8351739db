//! How a chain is judged, step by step, for people: the path as it was built, and of each certificate what was looked at.
//!
//! The verdict is [`judge`]'s, asked once more; this tells what it saw. Where there is no path, the certificates are put in the order of
//! their names, as far as they lead. Pure. Never: judges by itself.

use super::rejection::Rejection;
use super::revocation::RevocationMode;
use super::rules::{CHAIN_MOST, KeyKind, Purposes};
use super::trust::{ClientCa, Trust};
use super::verify::{Shown, VerifiedChain, judge};
use super::view::View;
use super::vouched::Witness;
use super::ways::Link;
use super::{Anchor, PeerChain};
use crate::sys::WallTime;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A certificate of the path, and what was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its place: 0 the leaf, then upward.
    pub depth: usize,
    /// What it is and what holds for it, a line each: the subject first.
    pub lines: Vec<String>,
}

/// What was judged, and how.
#[derive(Debug)]
pub struct Trace {
    /// The certificates in order, as far as they could be put together.
    pub steps: Vec<Step>,
    /// The verdict.
    pub outcome: Result<VerifiedChain, Rejection>,
}

/// Judges a chain and tells the steps.
pub fn trace(chain: &PeerChain, trust: &Trust, now: WallTime) -> Trace {
    let outcome = judge(chain, trust, now);
    let name = match &outcome {
        Ok(verified) => match verified.anchor() {
            Anchor::Ca(name) => Some(name),
            Anchor::Pin => None,
        },
        Err(rejection) => rejection.ca.as_ref(),
    };
    let ca = name.and_then(|name| trust.cas().iter().find(|ca| ca.name() == name)).map(|ca| &**ca);
    let links = match &outcome {
        Ok(verified) => verified.links().to_vec(),
        Err(_) => {
            let shown = Shown::read(&chain.0, Witness::Handshake, trust.readings());
            shown.map(|shown| by_names(&shown, ca)).unwrap_or_default()
        }
    };
    let issuers = links.iter().skip(1).map(Some).chain([None]);
    let steps = links.iter().zip(issuers).enumerate();
    let steps = steps.map(|(depth, (link, issuer))| step(depth, link, issuer, ca, now)).collect();
    Trace { steps, outcome }
}

/// The leaf, and the issuer by name of each, until there is none or an anchor is reached.
fn by_names(shown: &Shown, ca: Option<&ClientCa>) -> Vec<Link> {
    let anchors = || ca.into_iter().flat_map(ClientCa::certificates);
    let mut links = vec![shown.leaf.clone()];
    while let Some(last) = links.last().filter(|_| links.len() < CHAIN_MOST) {
        if last.view.is_self_issued() || anchors().any(|anchor| anchor.der == last.der) {
            break;
        }
        let intermediates = ca.into_iter().flat_map(ClientCa::intermediates);
        let mut above = anchors().chain(&shown.others).chain(intermediates);
        let Some(next) = above.find(|link| link.view.subject == last.view.issuer) else { break };
        links.push(next.clone());
    }
    links
}

fn step(depth: usize, link: &Link, issuer: Option<&Link>, ca: Option<&ClientCa>, now: WallTime) -> Step {
    let view = &*link.view;
    let configured = ca.is_some_and(|ca| ca.certificates().iter().any(|anchor| anchor.der == link.der));
    let listed = ca.is_some_and(|ca| ca.intermediates().iter().any(|intermediate| intermediate.der == link.der));
    let origin = match (configured, listed) {
        (true, _) => "configured in certificates",
        (false, true) => "configured in intermediates",
        (false, false) => "shown by the client",
    };
    let mut lines = vec![
        format!("subject {}, {origin}", view.subject_text),
        format!("issuer {}, serial {}", view.issuer_text, view.serial_text),
        format!("fingerprint {}", view.fingerprint),
        validity(view, now),
        format!("{}, {}", key(view.key_kind), purposes(view)),
    ];
    if view.constrains_mail() {
        lines.push("constrains the e-mail names below it".to_owned());
    }
    match (ca, issuer) {
        (Some(ca), Some(issuer)) => lines.extend(revocation(ca, view, &issuer.view, now)),
        (Some(_), None) if configured => lines.push("the anchor: nothing is asked above it".to_owned()),
        _ => {}
    }
    Step { depth, lines }
}

fn validity(view: &View, now: WallTime) -> String {
    let standing = if now < view.not_before {
        "not yet".to_owned()
    } else if !view.covers(now) {
        "expired".to_owned()
    } else {
        format!("{} days left", days(now, view.not_after))
    };
    format!("valid from {} to {}: {standing}", view.not_before.rfc3339(), view.not_after.rfc3339())
}

fn days(from: WallTime, to: WallTime) -> i64 {
    to.seconds().saturating_sub(from.seconds()).div_euclid(DAY)
}

fn key(kind: KeyKind) -> String {
    match kind {
        KeyKind::Rsa(bits) => format!("RSA key of {bits} bits"),
        KeyKind::P256 => "P-256 key".to_owned(),
        KeyKind::P384 => "P-384 key".to_owned(),
        KeyKind::P521 => "P-521 key".to_owned(),
        KeyKind::Ed25519 => "Ed25519 key".to_owned(),
        KeyKind::Other => "key of a kind that is not taken here".to_owned(),
    }
}

fn purposes(view: &View) -> String {
    let kind = if view.is_ca { "a CA" } else { "no CA" };
    let Some(Purposes { client_auth, email_protection, server_auth, any, unstated: _ }) = view.purposes else {
        return format!("{kind}, no purposes stated");
    };
    let words: Vec<&str> = [
        (client_auth, "clientAuth"),
        (email_protection, "emailProtection"),
        (server_auth, "serverAuth"),
        (any, "any purpose"),
    ]
    .into_iter()
    .filter_map(|(stated, word)| stated.then_some(word))
    .collect();
    let words = if words.is_empty() { "other purposes only".to_owned() } else { words.join(", ") };
    format!("{kind}, for {words}")
}

/// Which lists were asked, how fresh they are, and what they said.
fn revocation(ca: &ClientCa, certificate: &View, issuer: &View, now: WallTime) -> Vec<String> {
    if ca.revocation() == RevocationMode::Off {
        return vec!["revocation is off for this CA".to_owned()];
    }
    let lines: Vec<String> = ca
        .crls()
        .asked(certificate, issuer)
        .map(|(list, covers)| {
            let facts = list.facts();
            let said = match (certificate.serial.is_some_and(|serial| list.lists(serial)), covers, facts.scope) {
                (true, _, _) => "the certificate is listed: revoked".to_owned(),
                (false, true, _) => "not listed".to_owned(),
                (false, false, scope) => {
                    format!("does not cover this certificate: it is {}", scope.unwrap_or_default())
                }
            };
            let fresh = if now < facts.next_update {
                format!("fresh until {}", facts.next_update.rfc3339())
            } else if now < facts.next_update.after(ca.crl_grace()) {
                format!("stale since {}, within crl_grace", facts.next_update.rfc3339())
            } else {
                format!("stale since {}", facts.next_update.rfc3339())
            };
            format!("CRL {} of {}, {fresh}, {} listed: {said}", facts.place, facts.this_update.rfc3339(), facts.revoked)
        })
        .collect();
    if lines.is_empty() { vec!["no CRL of its issuer is here".to_owned()] } else { lines }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::recipe::{CrlRecipe, DAY, NOW, Recipe};
    use super::super::trust::{ClientCaSettings, CrlFile, Pins};
    use super::super::{CaRules, RevocationMode};
    use super::*;

    #[test]
    fn each_certificate_of_the_path_is_told_with_what_was_looked_at() {
        let root = Recipe::ca("Root").self_signed();
        let issuing = Recipe::ca("Issuing").signed_by(&root);
        let alice = Recipe::client("Alice").signed_by(&issuing);
        let old = Recipe::client("Old").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&issuing);
        let crls = [root.crl(&CrlRecipe::listing(&[])), issuing.crl(&CrlRecipe::listing(&[alice.serial()]))];
        let places = ["root.crl", "issuing.crl"];
        let crls = crls.into_iter().zip(places).map(|(octets, place)| CrlFile { place: place.into(), octets });
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![root.der.clone()],
            intermediates: vec![issuing.der.clone()],
            crls: crls.collect(),
            revocation: RevocationMode::Require,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let trust = Trust::new(vec![Arc::new(ClientCa::new(settings).unwrap().0)], Pins::default());
        let told = |made: &super::super::recipe::Made| {
            let traced = trace(&PeerChain(vec![made.der.clone()]), &trust, WallTime::from_seconds(NOW));
            assert!(traced.outcome.is_err());
            traced.steps.into_iter().map(|step| step.lines.join("\n")).collect::<Vec<_>>()
        };
        let of_alice = told(&alice);
        assert_eq!(of_alice.len(), 3);
        for (depth, words) in [
            (0, "subject CN=Alice, shown by the client"),
            (0, "90 days left"),
            (0, "P-256 key, no CA, for clientAuth"),
            (
                0,
                "CRL issuing.crl of 2027-01-14T08:00:00Z, fresh until 2027-01-22T08:00:00Z, 1 listed: the certificate is listed",
            ),
            (1, "subject CN=Issuing, configured in intermediates"),
            (1, "CRL root.crl of 2027-01-14T08:00:00Z, fresh until 2027-01-22T08:00:00Z, 0 listed: not listed"),
            (2, "the anchor"),
        ] {
            assert!(of_alice[depth].contains(words), "{words}: {}", of_alice[depth]);
        }
        assert!(told(&old)[0].contains("2027-01-14T08:00:00Z: expired"), "{:?}", told(&old));
        let stranger = Recipe::client("Stranger").self_signed();
        assert_eq!(told(&stranger).len(), 1);
    }
}
