//! What AUTH needs anew for each connection: a nonce, and the token as its file holds it now.
//!
//! Whoever renews a token of OAuth 2 (they last an hour or so) writes it into a file; nothing here needs to be told. Never: keeps a token; waits
//! longer than the upstream's look-up may take; reads more than [`TOKEN_FILE_MAX`].

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rustix::fs::OFlags;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::attempt::FaultCause;
use super::dialog::Fresh;
use super::settings::{Secret, Upstream};
use crate::sys::Entropy;

/// Octets of a token's file at most: AUTH carries the token in base64 on one line (RFC 4954 §4: 12,288 octets).
const TOKEN_FILE_MAX: u64 = 8 * 1024;

/// Random octets of a nonce.
const NONCE: usize = 24;

/// What AUTH needs for one connection to `upstream`.
pub(super) async fn fresh(upstream: &Upstream, entropy: &dyn Entropy) -> Result<Fresh, FaultCause> {
    let mut random = [0; NONCE];
    entropy.fill(&mut random);
    let token = match upstream.credentials.as_ref().and_then(|credentials| credentials.token_file()) {
        None => None,
        Some(file) => match timeout(upstream.deadlines.lookup, token(file)).await {
            Ok(token) => Some(token.map_err(FaultCause::TokenUnreadable)?),
            Err(_) => return Err(FaultCause::TokenUnreadable("it took too long".to_owned())),
        },
    };
    Ok(Fresh { nonce: BASE64.encode(random), token })
}

async fn token(file: &Path) -> Result<Secret, String> {
    let told = |fault: std::io::Error| format!("{}: {fault}", file.display());
    // A pipe that nobody writes is empty, and not waited for.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let open = tokio::fs::OpenOptions::new().read(true).custom_flags(flags).open(file).await.map_err(told)?;
    let mut octets = Zeroizing::new(Vec::new());
    open.take(TOKEN_FILE_MAX + 1).read_to_end(&mut octets).await.map_err(told)?;
    token_in(&octets).map(Secret::new).map_err(|wrong| format!("{} {wrong}", file.display()))
}

/// The token in its file: the first line. RFC 6750 §2.1 names the characters of one.
pub fn token_in(octets: &[u8]) -> Result<&str, String> {
    if u64::try_from(octets.len()).is_ok_and(|length| length > TOKEN_FILE_MAX) {
        return Err(format!("has more than {TOKEN_FILE_MAX} octets; it should hold the token on its first line"));
    }
    let line = octets.split(|&octet| octet == b'\n').next().unwrap_or_default().trim_ascii();
    if line.is_empty() {
        return Err("is empty; it should hold the token on its first line".to_owned());
    }
    let is_one = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(octet);
    match std::str::from_utf8(line) {
        Ok(token) if line.iter().all(is_one) => Ok(token),
        _ => Err("holds no token on its first line: letters, digits and -._~+/= make one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_first_line_and_nothing_that_could_end_a_field() {
        for (octets, expected) in [
            (&b"ya29.a0Af-_~+/=\n"[..], Some("ya29.a0Af-_~+/=")),
            (b"token\r\nsecond line\n", Some("token")),
            (b"  token  ", Some("token")),
            (b"", None),
            (b"\ntoken", None),
            (b"to ken", None),
            (b"to\x01ken", None),
            (b"t\xc3\xb6ken", None),
            (b"{\"access_token\": \"x\"}", None),
        ] {
            assert_eq!(token_in(octets).ok(), expected, "{:?}", String::from_utf8_lossy(octets));
        }
        assert!(token_in(&[b'x'; 8193]).is_err());
    }
}
