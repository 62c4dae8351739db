//! The client's side of AUTH in dialogs: SCRAM written against RFC 5802 once more, and codes of one time.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealpost::credentials::TotpSecret;
use sealpost::credentials::totp::Step;
use sealpost::sys::WallTime;

use super::cast::TOTP;
use super::play::{Heard, Stage};

/// Goes through the exchange; the reply that ends it is left to be heard. The server's signature is checked.
pub(crate) fn scram(stage: &mut dyn Stage, mechanism: &str, user: &str, password: &str) -> Result<(), String> {
    let (flag, bound) = match mechanism {
        "SCRAM-SHA-256-PLUS" => ("p=tls-exporter,,", stage.exporter()?.to_vec()),
        _ => ("n,,", Vec::new()),
    };
    let bare = format!("n={user},r=clientnonce");
    say(stage, &format!("AUTH {mechanism} {}", STANDARD.encode(format!("{flag}{bare}"))))?;
    let server_first = challenge(stage)?;
    let field = |key: &str| server_first.split(',').find_map(|field| field.strip_prefix(key)).map(str::to_owned);
    let (nonce, salt, rounds) = (field("r="), field("s="), field("i="));
    let (nonce, salt) = (nonce.ok_or("no nonce")?, STANDARD.decode(salt.ok_or("no salt")?).map_err(|_| "no salt")?);
    if !nonce.starts_with("clientnonce") || nonce.len() < "clientnonce".len() + 16 {
        return Err(format!("a bad nonce: {nonce}"));
    }
    let mut salted = [0; 32];
    let rounds = rounds.and_then(|rounds| rounds.parse().ok()).ok_or("no iterations")?;
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let without_proof = format!("c={},r={nonce}", STANDARD.encode([flag.as_bytes(), &bound].concat()));
    let signed = format!("{bare},{server_first},{without_proof}");
    let client_key = mac(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let signature = mac(stored_key.as_ref(), signed.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
    say(stage, &STANDARD.encode(format!("{without_proof},p={}", STANDARD.encode(proof))))?;
    let heard = stage.hear().ok_or("nothing was said")?;
    if heard.code != 334 {
        stage.unhear(heard);
        return Ok(());
    }
    let expected = format!("v={}", STANDARD.encode(mac(&mac(&salted, b"Server Key"), signed.as_bytes())));
    if decoded(&heard)? != expected {
        return Err("the server does not know the password".to_owned());
    }
    say(stage, "")
}

/// AUTH PLAIN with a code of the moment so many seconds from now behind the password.
pub(crate) fn code(stage: &mut dyn Stage, user: &str, password: &str, off: i64) -> Result<(), String> {
    let step = Step::at(WallTime::from_seconds(stage.wall() + off));
    let message = format!("\0{user}\0{password}{}", *TotpSecret::new(*TOTP).code(step));
    say(stage, &format!("AUTH PLAIN {}", STANDARD.encode(message)))
}

fn say(stage: &mut dyn Stage, line: &str) -> Result<(), String> {
    stage.send(format!("{line}\r\n").as_bytes())
}

fn challenge(stage: &mut dyn Stage) -> Result<String, String> {
    match stage.hear() {
        Some(heard) if heard.code == 334 => decoded(&heard),
        other => Err(format!("no challenge: {other:?}")),
    }
}

fn decoded(heard: &Heard) -> Result<String, String> {
    let octets = STANDARD.decode(heard.lines.first().ok_or("no line")?).map_err(|_| "no base64")?;
    String::from_utf8(octets).map_err(|_| "no text".to_owned())
}

fn mac(key: &[u8], octets: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), octets).as_ref().to_vec()
}
