//! Credentials: what an identity knows besides holding its certificate's key, and whether it has shown that it knows it.
//!
//! The certificate says whose credential is asked for before a user name is read. So a user who is named is only held against the identity, never
//! looked up: unknown, another's and one's own take the same way, do the same work and get the same answer. What a credential is and how
//! it is written is in [`mod@file`]; [`password`], [`scram`] and [`totp`] each hold one kind against what was shown.
//!
//! Nonces, fake salts, the exporter's value and the time are arguments. Never: reads a clock or a file, logs, prints a secret (`Debug` hides
//! them), keeps one longer than it is used. Nothing here can fail but with a value.

pub mod file;
pub mod password;
pub mod scram;
pub mod totp;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;

pub use password::PasswordHash;
pub use scram::{Ground, ScramSecret};
pub use totp::TotpSecret;

use crate::identity::SecondFactor;
pub use crate::sasl::{ExporterValue, prep};
use crate::sys::WallTime;

/// A mechanism of AUTH (RFC 4954 §4, the registry of SASL mechanisms).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// SCRAM-SHA-256, bound to the TLS connection (RFC 7677, RFC 9266).
    ScramSha256Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN: never specified, spoken by many.
    Login,
    /// EXTERNAL (RFC 4422 appendix A): the certificate once more.
    External,
}

impl Mechanism {
    /// All, the strongest first, as EHLO lists them.
    pub const ALL: [Self; 5] = [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login, Self::External];

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of this name, in any case.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }
}

/// What tells a credential from its successor, and nothing else about it: a session remembers by it what it authenticated with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark([u8; 32]);

impl Mark {
    /// The mark of a credential that is written so.
    fn of(words: &[&str]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for word in words {
            context.update(word.as_bytes());
            context.update(b"\n");
        }
        let mut mark = [0; 32];
        mark.iter_mut().zip(context.finish().as_ref()).for_each(|(octet, digest)| *octet = *digest);
        Self(mark)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[mark]")
    }
}

/// What one identity may show.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    pub(crate) password: Option<(Arc<PasswordHash>, Mark)>,
    pub(crate) scram: Option<(Arc<ScramSecret>, Mark)>,
    pub(crate) totp: Option<(Arc<TotpSecret>, Mark)>,
}

/// Everybody's, by the name of the identity.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    by_identity: HashMap<Arc<str>, Credential>,
    /// Lines of names that nobody has.
    untold: Vec<usize>,
}

impl Credentials {
    /// What `identity` may show; nothing is nobody's credential.
    pub fn of(&self, identity: &str) -> Option<&Credential> {
        self.by_identity.get(identity)
    }

    /// Lines of names that nobody has, and that are not told: they may be credentials.
    pub fn untold(&self) -> &[usize] {
        &self.untold
    }

    /// Whose there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_identity.keys().map(|name| &**name)
    }

    /// What `identity`, of whom `factor` is demanded, can authenticate with on a connection with this exporter value.
    pub fn means(&self, identity: &str, factor: SecondFactor, exporter: Option<ExporterValue>) -> Means {
        let credential = self.of(identity);
        let mut means = Means { exporter, ..Means::default() };
        if factor != SecondFactor::None {
            // It would be an AUTH that succeeds and does not suffice, and after it there is no other (RFC 4954 §4).
            means.mechanisms.clear();
        }
        let Some(credential) = credential else { return means };
        match factor {
            SecondFactor::None => {}
            SecondFactor::Password => {
                if let Some((_, mark)) = &credential.scram {
                    means.scram(*mark);
                }
                if let Some((_, mark)) = &credential.password {
                    means.plaintext(Proof { factor, mark: *mark, code: None });
                }
            }
            SecondFactor::Totp => {
                if let (Some((_, mark)), Some((_, code))) = (&credential.password, &credential.totp) {
                    means.plaintext(Proof { factor, mark: *mark, code: Some(*code) });
                }
            }
        }
        means
    }
}

/// What was shown: which factor, by which credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    factor: SecondFactor,
    mark: Mark,
    code: Option<Mark>,
}

/// How an identity can authenticate on this connection. Without a second factor: as the certificate says, and no other way.
#[derive(Clone, Debug)]
pub struct Means {
    mechanisms: Vec<Mechanism>,
    proofs: Vec<Proof>,
    exporter: Option<ExporterValue>,
}

impl Default for Means {
    fn default() -> Self {
        Self { mechanisms: vec![Mechanism::External], proofs: Vec::new(), exporter: None }
    }
}

impl Means {
    fn scram(&mut self, mark: Mark) {
        if self.exporter.is_some() {
            self.mechanisms.push(Mechanism::ScramSha256Plus);
        }
        self.mechanisms.push(Mechanism::ScramSha256);
        self.proofs.push(Proof { factor: SecondFactor::Password, mark, code: None });
        self.mechanisms.sort_unstable();
    }

    fn plaintext(&mut self, proof: Proof) {
        self.mechanisms.extend([Mechanism::Plain, Mechanism::Login]);
        self.proofs.push(proof);
        self.mechanisms.sort_unstable();
    }

    /// What EHLO lists.
    pub fn mechanisms(&self) -> &[Mechanism] {
        &self.mechanisms
    }

    /// Whether EHLO lists it.
    pub fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms.contains(&mechanism)
    }

    /// What binds SCRAM to the connection.
    pub fn exporter(&self) -> Option<&ExporterValue> {
        self.exporter.as_ref()
    }

    /// Whether what was shown still counts: the credential is there, unchanged, and shows what is demanded now.
    pub fn still_hold(&self, proof: &Proof) -> bool {
        self.proofs.contains(proof)
    }
}

/// Whether the user who was named is the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// It is.
    Itself,
    /// Somebody else, or nobody.
    Another,
}

/// What is wrong with what was shown: for the log of who runs the relay. On the wire all of it is one text after the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The user is not the identity; whose else it may be is not known here.
    #[error("is not a user of this identity")]
    User,
    /// The user is another identity.
    #[error("is somebody else's user")]
    SomebodyElses,
    /// The user is nobody.
    #[error(
        "is an unknown user: neither this identity's name, nor an address granted to it, nor the name of any credential"
    )]
    Unknown,
    /// The identity has no credential of this kind.
    #[error("this identity has no credential for that")]
    NoCredential,
    /// Another password.
    #[error("wrong password")]
    Password,
    /// The password is right, the code is not, or there is none.
    #[error("the password is right; the code behind it is wrong, of another time, or missing")]
    Code,
    /// The code was right, and another certificate has used it.
    #[error("password and code are right; another certificate has used this code already")]
    UsedCode,
    /// SCRAM's own.
    #[error(transparent)]
    Scram(scram::ScramFault),
}

impl Wrong {
    /// The same, once it is known whether a credential bears the user's name.
    pub fn of_whom(self, has_credential: bool) -> Self {
        match self {
            Self::User if has_credential => Self::SomebodyElses,
            Self::User => Self::Unknown,
            other @ (Self::SomebodyElses
            | Self::Unknown
            | Self::NoCredential
            | Self::Password
            | Self::Code
            | Self::UsedCode
            | Self::Scram(_)) => other,
        }
    }
}

/// What came of holding a password against a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// Right.
    Right(Proof),
    /// Right, if this code has not been used by somebody else in its step.
    RightWith(Proof, totp::Step),
    /// Wrong. Why is for the log only.
    Wrong(Wrong),
}

/// Holds a password, or a password with a code behind it, against the credential. The same work whatever is wrong: one hash of the cost that
/// this credential asks for (of the usual cost, when there is none), one round of codes where codes are asked for.
pub fn judge(
    credential: Option<&Credential>,
    factor: SecondFactor,
    named: Named,
    shown: &[u8],
    now: WallTime,
) -> Judged {
    let (password, code) = match factor {
        SecondFactor::Totp => totp::split(shown),
        SecondFactor::None | SecondFactor::Password => (shown, None),
    };
    let hash = credential.and_then(|credential| credential.password.as_ref());
    let right = match hash {
        Some((hash, _)) => hash.verify(password),
        None => PasswordHash::verify_nobody(password),
    };
    let secret = credential.and_then(|credential| credential.totp.as_ref());
    let step = match (factor, secret) {
        (SecondFactor::Totp, Some((secret, _))) => secret.step_of(code.unwrap_or_default(), now),
        (SecondFactor::Totp | SecondFactor::None | SecondFactor::Password, _) => None,
    };
    // All the work is done; what follows only says what came of it.
    let mark = match (named, hash, right) {
        (Named::Another, _, _) => return Judged::Wrong(Wrong::User),
        (Named::Itself, None, _) => return Judged::Wrong(Wrong::NoCredential),
        (Named::Itself, Some(_), false) => return Judged::Wrong(Wrong::Password),
        (Named::Itself, Some((_, mark)), true) => mark,
    };
    match (factor, step, secret) {
        (SecondFactor::Password, _, _) => Judged::Right(Proof { factor, mark: *mark, code: None }),
        (SecondFactor::Totp, Some(step), Some((_, code))) => {
            Judged::RightWith(Proof { factor, mark: *mark, code: Some(*code) }, step)
        }
        (SecondFactor::Totp, _, Some(_)) => Judged::Wrong(Wrong::Code),
        (SecondFactor::Totp, _, None) | (SecondFactor::None, _, _) => Judged::Wrong(Wrong::NoCredential),
    }
}

/// What a SCRAM exchange stands on: the identity's own secret, or, when somebody else was named or there is none, one that nobody knows and
/// that looks the same. `fake` is this process's secret.
pub fn ground(credential: Option<&Credential>, named: Named, user: &str, fake: &[u8; 32]) -> Ground {
    let scram = credential.and_then(|credential| credential.scram.as_ref());
    match (scram, named) {
        (Some((secret, mark)), Named::Itself) => {
            let proof = Proof { factor: SecondFactor::Password, mark: *mark, code: None };
            Ground { secret: Arc::clone(secret), proof: Some(proof) }
        }
        (Some((secret, _)), Named::Another) => Ground::of_nobody(user, fake, secret.iterations(), secret.salt().len()),
        (None, _) => Ground::of_nobody(user, fake, scram::ITERATIONS, scram::SALT_OCTETS),
    }
}

#[cfg(test)]
mod tests;
