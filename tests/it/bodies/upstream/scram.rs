//! AUTH with an upstream, as it stands on the wire: who may be believed to know the password.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealpost::sasl::scram::{Keys, mac};

use crate::bodies::{Told, require};

pub(in crate::bodies) const USER: &str = "relay";
pub(in crate::bodies) const PASSWORD: &str = "s3cret";
/// Our part of the nonce.
pub(in crate::bodies) const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// The last AUTH, as far as it came.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    mechanism: Option<String>,
    /// What we said behind the mechanism's name, and on lines of their own.
    ours: Vec<String>,
    /// What stood behind 334.
    theirs: Vec<String>,
    under_way: bool,
    right: Vec<u8>,
}

impl Exchange {
    /// A line that we say.
    pub(super) fn say(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("AUTH ") {
            let (mechanism, response) = rest.split_once(' ').map_or((rest, None), |(name, rest)| (name, Some(rest)));
            let ours = response.map(str::to_owned).into_iter().collect();
            *self = Self { mechanism: Some(mechanism.to_owned()), ours, under_way: true, ..Self::default() };
        } else if self.under_way {
            self.ours.push(line.to_owned());
        }
    }

    /// The last line of a reply.
    pub(super) fn hear(&mut self, code: u16, text: &str) {
        if self.under_way && code == 334 {
            self.theirs.push(text.to_owned());
        } else {
            self.under_way = false;
        }
    }

    /// Whether the next line of ours belongs to it.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Whether the server is to sign next.
    pub(super) fn waits_for_signature(&self) -> bool {
        self.is_scram() && self.under_way && (self.ours.len(), self.theirs.len()) == (2, 1)
    }

    /// What it would say if it knew the password.
    pub(super) fn right(&mut self) -> &[u8] {
        let signature = self.signature().unwrap_or_default();
        self.right = format!("334 {}\r\n", STANDARD.encode(format!("v={signature}"))).into_bytes();
        &self.right
    }

    fn is_scram(&self) -> bool {
        self.mechanism.as_deref().is_some_and(|mechanism| mechanism.starts_with("SCRAM-"))
    }

    /// RFC 5802 §3: who knows the password has signed both sides' words with it.
    pub(super) fn is_proved(&self) -> Told {
        if !self.is_scram() {
            return Ok(());
        }
        let shown = self.theirs.get(1).and_then(|text| decoded(text));
        let shown = shown.and_then(|text| text.split(',').next()?.strip_prefix("v=").map(str::to_owned));
        require("a server is believed that has not proved the password", shown.is_some() && shown == self.signature())
    }

    fn signature(&self) -> Option<String> {
        let (first, last) = (decoded(self.ours.first()?)?, decoded(self.ours.get(1)?)?);
        let (bare, server_first) = (first.splitn(3, ',').nth(2)?, decoded(self.theirs.first()?)?);
        Some(signature(bare, &server_first, last.rsplit_once(",p=")?.0)?.1)
    }
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()
}

/// The client's proof and the server's signature, in base64.
fn signature(bare: &str, server_first: &str, without_proof: &str) -> Option<(String, String)> {
    let mut fields = server_first.split(',').skip(1);
    let salt = STANDARD.decode(fields.next()?.strip_prefix("s=")?).ok()?;
    let keys = Keys::of(PASSWORD, &salt, fields.next()?.strip_prefix("i=")?.parse().ok()?);
    let signed = format!("{bare},{server_first},{without_proof}");
    let [proof, signature] = [mac(&*keys.stored_key, signed.as_bytes()), mac(&*keys.server_key, signed.as_bytes())];
    let proof: Vec<u8> = proof.iter().zip(keys.client_key.iter()).map(|(one, other)| one ^ other).collect();
    Some((STANDARD.encode(proof), STANDARD.encode(*signature)))
}

/// For seeds: what a server that knows the password says to SCRAM-SHA-256, where PLUS is not offered.
pub(in crate::bodies) fn answers() -> [String; 2] {
    let server_first = format!("r={NONCE}%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let without_proof = format!("c=eSws,{}", server_first.split(',').next().unwrap());
    let (_, signature) = signature(&format!("n={USER},r={NONCE}"), &server_first, &without_proof).unwrap();
    [server_first, format!("v={signature}")].map(|text| format!("334 {}\r\n", STANDARD.encode(text)))
}
