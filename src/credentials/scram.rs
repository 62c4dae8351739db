//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, RFC 7677), bound by tls-exporter (RFC 9266): a pure machine of two steps.
//!
//! ```text
//! ClientFirst::read          the client's first message: flag, user, nonce
//! ClientFirst::answer        + what it stands on (the secret, or nobody's) and our nonce -> the server's first message
//! Exchange::finish           + the client's final message -> the server's final message, or nothing
//! ```
//!
//! Downgrades are refused (RFC 5802 §6): flag `y` (the client thinks that we have no PLUS) where EHLO offered it; flag `n` under PLUS; another
//! binding than tls-exporter; other binding data than this connection's. The secret itself never goes over the wire, and what the file holds
//! is not enough to log in with. Never: tells which check failed; stands on a secret that is somebody else's.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::Proof;
use crate::sasl::ExporterValue;
use crate::sasl::prep::prepared;
pub use crate::sasl::scram::ITERATIONS_MIN;
use crate::sasl::scram::{KEY, Key, Keys, TLS_EXPORTER, hash, is_extension, is_nonce, mac, read_name, same, xor};

/// Iterations of a new secret. RFC 7677 §4 asks for 4,096 at least; each login costs the client so many, and so does each guess at a stolen file:
/// 100,000 take a telephone a tenth of a second or two.
pub const ITERATIONS: u32 = 100_000;
/// Iterations that are read: at most what a client can be asked for in seconds.
pub const ITERATIONS_MAX: u32 = 5_000_000;
/// Octets of a new salt.
pub const SALT_OCTETS: usize = 16;
/// Octets of salts that are read.
const SALT_RANGE: std::ops::RangeInclusive<usize> = 8..=64;
/// Octets of a client's nonce at most.
const NONCE_MAX: usize = 256;

/// What the file holds of a password (RFC 5802 §3): enough to check a login, not to make one.
pub struct ScramSecret {
    iterations: u32,
    salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramSecret").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl ScramSecret {
    /// Reads `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (RFC 5803 §1). What is wrong comes back as the end of a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let fault = || "is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey".to_owned();
        let fields: Vec<&str> = text.split(['$', ':']).collect();
        let [kind, iterations, salt, stored_key, server_key] = fields.as_slice() else { return Err(fault()) };
        if *kind != "SCRAM-SHA-256" {
            return Err(fault());
        }
        let iterations = iterations.parse().map_err(|_| fault())?;
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(format!("has {iterations} iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are taken"));
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| SALT_RANGE.contains(&salt.len())).ok_or_else(|| {
            format!("has a salt that is not {} to {} octets in base64", SALT_RANGE.start(), SALT_RANGE.end())
        })?;
        let key = |text: &str| {
            let octets = Zeroizing::new(STANDARD.decode(text).unwrap_or_default());
            <[u8; KEY]>::try_from(octets.as_slice()).map(Zeroizing::new).map_err(|_| fault())
        };
        Ok(Self { iterations, salt, stored_key: key(stored_key)?, server_key: key(server_key)? })
    }

    /// The secret of a prepared password (RFC 5802 §3).
    pub fn make(password: &str, salt: &[u8], iterations: u32) -> Self {
        let Keys { stored_key, server_key, .. } = Keys::of(password, salt, iterations);
        Self { iterations, salt: salt.to_vec(), stored_key, server_key }
    }

    /// As [`ScramSecret::read`] reads it.
    pub fn written(&self) -> String {
        let [salt, stored, server] =
            [self.salt.as_slice(), &*self.stored_key, &*self.server_key].map(|octets| STANDARD.encode(octets));
        format!("SCRAM-SHA-256${}:{salt}${stored}:{server}", self.iterations)
    }

    /// How often the client has to hash.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }
}

/// What an exchange stands on.
#[derive(Clone, Debug)]
pub struct Ground {
    pub(super) secret: Arc<ScramSecret>,
    /// What success shows; none on nobody's secret, where there is no success.
    pub(super) proof: Option<Proof>,
}

impl Ground {
    /// Nobody's: the salt is always the same for the same user, as a real one is, and tells nothing without this process's secret
    /// (RFC 5802 §9 warns of telling users apart by it).
    pub(super) fn of_nobody(user: &str, fake: &[u8; 32], iterations: u32, salt_octets: usize) -> Self {
        let octets = [&b"salt\0"[..], user.as_bytes()].concat();
        let salt: Vec<u8> = mac(fake, &octets).iter().copied().cycle().take(salt_octets).collect();
        let key = |what: &[u8]| mac(fake, &[what, user.as_bytes()].concat());
        let secret = ScramSecret { iterations, salt, stored_key: key(b"stored\0"), server_key: key(b"server\0") };
        Self { secret: Arc::new(secret), proof: None }
    }
}

/// What the client says of channel binding (RFC 5802 §7: gs2-cbind-flag).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flag {
    /// `n`: it has none.
    None,
    /// `y`: it has, and thinks that we have not.
    ThinksWeHaveNone,
    /// `p=tls-exporter`.
    Exporter,
}

/// Which of the two mechanisms, and what the client could see of them.
#[derive(Clone, Debug)]
pub enum Binding {
    /// SCRAM-SHA-256, and EHLO did not offer PLUS.
    NotOffered,
    /// SCRAM-SHA-256, although EHLO offered PLUS.
    Declined,
    /// SCRAM-SHA-256-PLUS on the connection with this value.
    Bound(ExporterValue),
}

/// Why an exchange failed. For the log: what each side said, no secret; the client hears one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramFault {
    /// The message is not of RFC 5802's grammar.
    #[error("a message that SCRAM does not know")]
    Grammar,
    /// The client was made to believe that there is no channel binding.
    #[error("the client thinks that PLUS was not offered: somebody between may have changed EHLO")]
    Downgrade,
    /// PLUS without binding, the other without PLUS, or another kind of binding.
    #[error("the flag of channel binding does not fit the mechanism")]
    Flag,
    /// The data is not this connection's.
    #[error("the channel binding is not this connection's: somebody between may be relaying it")]
    Binding,
    /// Not the nonce that we sent.
    #[error("another nonce")]
    Nonce,
    /// The proof is wrong, or the user is nobody here.
    #[error("another password, or another user")]
    Proof,
}

/// The client's first message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    gs2_header: String,
    bare: String,
    /// Whom it wants to act as; empty is itself.
    pub authzid: String,
    /// Who it says it is, prepared.
    pub user: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads `flag,[a=authzid],n=user,r=nonce[,extensions]`, and refuses what smells of a downgrade.
    pub fn read(message: &[u8], binding: &Binding) -> Result<Self, ScramFault> {
        let text = std::str::from_utf8(message).map_err(|_| ScramFault::Grammar)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ScramFault::Grammar);
        };
        agree(read_flag(flag)?, binding)?;
        let decoded = match authzid.strip_prefix("a=") {
            Some(name) => read_name(name).ok_or(ScramFault::Grammar)?,
            None if authzid.is_empty() => String::new(),
            None => return Err(ScramFault::Grammar),
        };
        // RFC 5802 §5.1: m= is mandatory to understand, and nobody knows one.
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|field| field.strip_prefix("n=")).ok_or(ScramFault::Grammar)?;
        let nonce = attributes.next().and_then(|field| field.strip_prefix("r=")).ok_or(ScramFault::Grammar)?;
        if !is_nonce(nonce) || nonce.len() > NONCE_MAX || !attributes.all(is_extension) {
            return Err(ScramFault::Grammar);
        }
        let user = prepared(read_name(user).ok_or(ScramFault::Grammar)?.as_bytes()).ok_or(ScramFault::Grammar)?;
        Ok(Self {
            gs2_header: format!("{flag},{authzid},"),
            bare: bare.to_owned(),
            authzid: decoded,
            user: user.as_str().to_owned(),
            nonce: nonce.to_owned(),
        })
    }

    /// The server's first message; `ours` is our part of the nonce, printable and without a comma.
    pub fn answer(self, ground: Ground, binding: Binding, ours: &str) -> Exchange {
        let nonce = format!("{}{ours}", self.nonce);
        let ScramSecret { salt, iterations, .. } = &*ground.secret;
        let server_first = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        Exchange { gs2_header: self.gs2_header, bare: self.bare, nonce, server_first, binding, ground }
    }
}

/// An exchange that waits for the client's final message.
#[derive(Clone, Debug)]
pub struct Exchange {
    gs2_header: String,
    bare: String,
    nonce: String,
    server_first: String,
    binding: Binding,
    ground: Ground,
}

impl Exchange {
    /// The server's first message.
    pub fn server_first(&self) -> &str {
        &self.server_first
    }

    /// Reads `c=binding,r=nonce[,extensions],p=proof`; gives what was shown and the server's final message.
    pub fn finish(&self, message: &[u8]) -> Result<(Proof, String), ScramFault> {
        let text = std::str::from_utf8(message).map_err(|_| ScramFault::Grammar)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramFault::Grammar)?;
        let mut attributes = without_proof.split(',');
        let bound = attributes.next().and_then(|field| field.strip_prefix("c=")).ok_or(ScramFault::Grammar)?;
        let nonce = attributes.next().and_then(|field| field.strip_prefix("r=")).ok_or(ScramFault::Grammar)?;
        if !attributes.all(is_extension) {
            return Err(ScramFault::Grammar);
        }
        let bound = STANDARD.decode(bound).map_err(|_| ScramFault::Grammar)?;
        let shown = Zeroizing::new(STANDARD.decode(proof).map_err(|_| ScramFault::Grammar)?);
        if !same(&bound, &self.expected_binding()) {
            return Err(ScramFault::Binding);
        }
        if !same(nonce.as_bytes(), self.nonce.as_bytes()) {
            return Err(ScramFault::Nonce);
        }
        let signed = format!("{},{},{without_proof}", self.bare, self.server_first);
        let right = self.is_proof(&shown, signed.as_bytes());
        match (self.ground.proof, right) {
            (Some(proof), true) => {
                let signature = mac(&*self.ground.secret.server_key, signed.as_bytes());
                Ok((proof, format!("v={}", STANDARD.encode(signature.as_slice()))))
            }
            (Some(_) | None, _) => Err(ScramFault::Proof),
        }
    }

    /// RFC 5802 §6: the GS2 header as it was said, and behind it, under PLUS, this connection's value.
    fn expected_binding(&self) -> Vec<u8> {
        let value: &[u8] = match &self.binding {
            Binding::NotOffered | Binding::Declined => &[],
            Binding::Bound(ExporterValue(value)) => value,
        };
        [self.gs2_header.as_bytes(), value].concat()
    }

    /// RFC 5802 §3: ClientKey is ClientProof XOR ClientSignature, and its hash is StoredKey.
    fn is_proof(&self, shown: &[u8], signed: &[u8]) -> bool {
        let signature = mac(&*self.ground.secret.stored_key, signed);
        let client_key = xor(&signature, shown);
        let right = same(&*hash(&*client_key), &*self.ground.secret.stored_key);
        right & (shown.len() == KEY)
    }
}

fn read_flag(flag: &str) -> Result<Flag, ScramFault> {
    match flag {
        "n" => Ok(Flag::None),
        "y" => Ok(Flag::ThinksWeHaveNone),
        _ => match flag.strip_prefix("p=") {
            Some(TLS_EXPORTER) => Ok(Flag::Exporter),
            Some(_) => Err(ScramFault::Flag),
            None => Err(ScramFault::Grammar),
        },
    }
}

/// RFC 5802 §6: what the client says of channel binding must fit the mechanism and what EHLO offered.
fn agree(flag: Flag, binding: &Binding) -> Result<(), ScramFault> {
    match (flag, binding) {
        (Flag::Exporter, Binding::Bound(_))
        | (Flag::None, Binding::NotOffered | Binding::Declined)
        | (Flag::ThinksWeHaveNone, Binding::NotOffered) => Ok(()),
        (Flag::ThinksWeHaveNone, Binding::Declined) => Err(ScramFault::Downgrade),
        (Flag::None | Flag::ThinksWeHaveNone, Binding::Bound(_))
        | (Flag::Exporter, Binding::NotOffered | Binding::Declined) => Err(ScramFault::Flag),
    }
}

#[cfg(test)]
mod tests;
