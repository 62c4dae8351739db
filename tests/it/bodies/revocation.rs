//! What others say of who is revoked: CRLs and OCSP answers, with octets of them changed. Nobody but who holds the key says anything.
//!
//! Keys are new in each process, so that no corpus could hold a list that is signed. The input says which list or answer it is, and what is changed in it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sealpost::sys::WallTime;
use sealpost::tls::ocsp::{Query, Reading};
use sealpost::tls::points::HttpUrl;
use sealpost::tls::{
    Asks, CaRules, ClientCa, ClientCaSettings, CrlAge, OcspMode, PeerChain, Pins, RevocationMode, Trust, judge_asking,
};

use super::{Broken, Lie, Told, require, same};
use crate::recipe::{CrlRecipe, DAY, NOW, OcspStatus, Recipe, ocsp_answer};

/// Octets of one change: where, two; how; what.
const CHANGE: usize = 4;
const NOW_WALL: WallTime = WallTime::from_seconds(NOW);

/// A CA, and what it says.
struct Authority {
    ca: ClientCa,
    query: Query,
    /// Two CRLs, two answers.
    words: [Vec<u8>; 4],
}

/// What came of a list or an answer.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Crl(CrlAge),
    Ocsp(Reading, Reading),
}

/// [`ClientCa::read_crl`], [`Query::read`] and [`Query::read_again`], see above.
pub(super) fn revocation(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    let Some((&first, changes)) = octets.split_first() else { return Ok(()) };
    let authority = authority();
    let place = usize::from(first) % authority.words.len();
    let word = &authority.words[place];
    let right = read(authority, place, word)?.map_err(|fault| Broken(format!("what is right is refused: {fault}")))?;
    let changed = changed(word, changes);
    let mut told = read(authority, place, &changed)?;
    if lie == Lie::RevocationMindsNoSignature && told.is_err() {
        told = read(authority, place, word)?;
    }
    match told {
        Ok(told) => {
            let signed = first_of(content(word));
            let stands = changed.windows(signed.len()).any(|window| window == signed);
            require("what nobody has signed is believed", stands)?;
            same("what is said by it", &told, &right)
        }
        Err(fault) => require(&format!("a fault that breaks a line: {fault:?}"), !fault.chars().any(char::is_control)),
    }
}

fn read(authority: &Authority, place: usize, octets: &[u8]) -> Result<Result<Read, String>, Broken> {
    if place < 2 {
        return Ok(authority.ca.read_crl(octets).map(Read::Crl).map_err(|fault| fault.to_string()));
    }
    let (now, again) = (authority.query.read(octets, None, NOW_WALL), authority.query.read_again(octets));
    match (now, again) {
        (Ok(now), Ok(again)) => Ok(Ok(Read::Ocsp(now, again))),
        (Err(fault), Err(_)) => Ok(Err(fault.to_string())),
        (now, again) => Err(Broken(format!("an answer is read once as {now:?}, once as {again:?}"))),
    }
}

/// What DER holds, and its first element whole.
fn content(der: &[u8]) -> &[u8] {
    der.get(header(der)..).unwrap_or_default()
}

fn first_of(content: &[u8]) -> &[u8] {
    let begin = header(content);
    let length = content.get(2..begin).unwrap_or_default().iter().fold(0, |sum, octet| sum * 256 + usize::from(*octet));
    let length = if begin == 2 { usize::from(content.get(1).copied().unwrap_or_default()) } else { length };
    content.get(..begin + length).unwrap_or(content)
}

/// Octets of tag and length.
fn header(der: &[u8]) -> usize {
    let length = der.get(1).copied().unwrap_or_default();
    if length < 128 { 2 } else { 2 + usize::from(length - 128) }
}

fn changed(word: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut octets = word.to_vec();
    for change in changes.chunks_exact(CHANGE) {
        let [high, low, how, what] = [0, 1, 2, 3].map(|place| change[place]);
        let at = (usize::from(high) * 256 + usize::from(low)) % octets.len().max(1);
        match how % 6 {
            0 if at < octets.len() => octets[at] = what,
            1 if at < octets.len() => octets[at] = octets[at].wrapping_add(what),
            2 => octets.insert(at, what),
            3 => drop(octets.drain(at..(at + usize::from(what)).min(octets.len()))),
            4 => octets.truncate(at),
            5 => octets.extend_from_slice(&word[..usize::from(what).min(word.len())]),
            _ => {}
        }
    }
    octets
}

fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| {
        let issuer = Recipe::ca("staff CA").self_signed();
        let alice = Recipe::client("Alice").email("alice@example.com").signed_by(&issuer);
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![issuer.der.clone()],
            intermediates: vec![],
            crls: vec![],
            revocation: RevocationMode::Off,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let url = HttpUrl::parse("http://ocsp.example.com/").unwrap();
        let asks = Asks { named_crls: false, ocsp: OcspMode::Require, ocsp_url: Some(url) };
        let made = || ClientCa::new(settings.clone()).unwrap().0.asking(asks.clone());
        let trust = Trust::new(vec![Arc::new(made())], Pins::default());
        let chain = PeerChain(vec![alice.der.clone()]);
        let query = judge_asking(&chain, &trust, &|_| None, NOW_WALL).unwrap_err().query.unwrap();
        let answer = |status| ocsp_answer(&issuer.der, &issuer.key, &alice.der, status, (NOW - DAY, NOW + DAY));
        let words = [
            issuer.crl(&CrlRecipe::listing(&[])),
            issuer.crl(&CrlRecipe::listing(&[vec![5], alice.serial()])),
            answer(OcspStatus::Good),
            answer(OcspStatus::Revoked),
        ];
        Authority { ca: made(), query: *query, words }
    })
}
