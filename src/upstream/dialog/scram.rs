//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as the client (RFC 5802 §3 and §5, RFC 7677, RFC 9266): we prove that we know the password, and the
//! server must prove that it knows it too.
//!
//! | value       | waits for                       | gives                                                       |
//! |-------------|---------------------------------|-------------------------------------------------------------|
//! | [`Begun`]   | the server's first message      | a [`Derivation`], which takes its time                      |
//! | [`Derived`] | the server's final message      | whether it was signed with our password                     |
//!
//! Never: chooses a nonce; takes few iterations; lets a server be right that has proved nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::sasl::ExporterValue;
use crate::sasl::prep::prepared;
use crate::sasl::scram::{ITERATIONS_MIN, Keys, TLS_EXPORTER, is_extension, is_nonce, mac, same, written_name, xor};
use crate::upstream::settings::Secret;

/// Iterations that a server may ask us for: half a second of a core, no more (RFC 5802 §9 leaves the bound to the client).
const ITERATIONS_MAX: u32 = 1_000_000;
/// Octets of a salt at most.
const SALT_MAX: usize = 256;
/// Octets of a nonce, ours and the server's, at most.
const NONCE_MAX: usize = 1024;

/// What we say of channel binding (RFC 5802 §6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// `n`: this connection has none, or we are told not to use it.
    None,
    /// `y`: we could, and saw no offer of PLUS. A server that did offer it learns from this that somebody took the offer out.
    SawNone,
    /// `p=tls-exporter`: PLUS.
    Bound(ExporterValue),
}

/// Why the server can't be believed. No secret in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ServerFault {
    #[error("a message that SCRAM does not know")]
    Grammar,
    #[error("a nonce that does not begin with ours")]
    Nonce,
    #[error("fewer than {ITERATIONS_MIN} iterations, which would give the password away")]
    TooFew,
    #[error("more than {ITERATIONS_MAX} iterations")]
    TooMany,
    #[error("a signature that only somebody without our password makes")]
    Signature,
}

/// An exchange that has begun: what was said first.
#[derive(Clone, Debug)]
pub(super) struct Begun {
    gs2: String,
    bare: String,
    nonce: String,
    binding: Binding,
}

impl Begun {
    /// `nonce` is printable, without a comma, and new for each exchange.
    pub(super) fn new(user: &str, nonce: &str, binding: Binding) -> Self {
        // RFC 5802 §5.1: a name that SASLprep refuses is said as it is written; the server knows whether it has such a user.
        let user = prepared(user.as_bytes()).unwrap_or_else(|| Zeroizing::new(user.to_owned()));
        let gs2 = match &binding {
            Binding::None => "n,,".to_owned(),
            Binding::SawNone => "y,,".to_owned(),
            Binding::Bound(_) => format!("p={TLS_EXPORTER},,"),
        };
        Self { gs2, bare: format!("n={},r={nonce}", written_name(&user)), nonce: nonce.to_owned(), binding }
    }

    /// The client's first message.
    pub(super) fn first(&self) -> String {
        format!("{}{}", self.gs2, self.bare)
    }

    /// Reads `r=nonce,s=salt,i=iterations[,extensions]`.
    pub(super) fn server_first(self, message: &[u8], password: &Secret) -> Result<Derivation, ServerFault> {
        let text = std::str::from_utf8(message).map_err(|_| ServerFault::Grammar)?;
        let mut fields = text.split(',');
        let mut field = |key| fields.next().and_then(|field| field.strip_prefix(key)).ok_or(ServerFault::Grammar);
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        if !fields.all(is_extension) {
            return Err(ServerFault::Grammar);
        }
        // RFC 5802 §5.1: the server appends its part to ours; without one, an old exchange could be played again.
        let has_ours = nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce);
        if !has_ours || !is_nonce(nonce) || nonce.len() > NONCE_MAX {
            return Err(ServerFault::Nonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| ServerFault::Grammar)?;
        let iterations: u32 = iterations.parse().map_err(|_| ServerFault::Grammar)?;
        if salt.is_empty() || salt.len() > SALT_MAX {
            return Err(ServerFault::Grammar);
        }
        match iterations {
            ..ITERATIONS_MIN => Err(ServerFault::TooFew),
            ITERATIONS_MIN..=ITERATIONS_MAX => {
                let password = password.reveal();
                let prepared = prepared(password.as_bytes()).unwrap_or_else(|| Zeroizing::new(password.to_owned()));
                let (nonce, server_first) = (nonce.to_owned(), text.to_owned());
                Ok(Derivation { begun: self, nonce, server_first, password: prepared, salt, iterations })
            }
            _ => Err(ServerFault::TooMany),
        }
    }

    /// RFC 5802 §6: the GS2 header as it was said, and behind it, under PLUS, this connection's value.
    fn bound(&self) -> String {
        let value: &[u8] = match &self.binding {
            Binding::None | Binding::SawNone => &[],
            Binding::Bound(ExporterValue(value)) => value,
        };
        BASE64.encode([self.gs2.as_bytes(), value].concat())
    }
}

/// What must be computed of the password before the exchange goes on. It may take some tenths of a second: not on a thread that others wait for.
pub struct Derivation {
    begun: Begun,
    nonce: String,
    server_first: String,
    password: Zeroizing<String>,
    salt: Vec<u8>,
    iterations: u32,
}

impl std::fmt::Debug for Derivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derivation").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Derivation {
    /// Computes it.
    pub fn run(self) -> Derived {
        let keys = Keys::of(&self.password, &self.salt, self.iterations);
        let without_proof = format!("c={},r={}", self.begun.bound(), self.nonce);
        let signed = format!("{},{},{without_proof}", self.begun.bare, self.server_first);
        let proof = xor(&keys.client_key, &*mac(&*keys.stored_key, signed.as_bytes()));
        Derived {
            last: Zeroizing::new(format!("{without_proof},p={}", BASE64.encode(*proof))),
            expected: BASE64.encode(*mac(&*keys.server_key, signed.as_bytes())),
        }
    }
}

/// The client's final message, and what the server must answer.
pub struct Derived {
    last: Zeroizing<String>,
    expected: String,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Derived(..)")
    }
}

impl Derived {
    /// The client's final message.
    pub(super) fn client_final(&self) -> &str {
        &self.last
    }

    /// Holds `v=signature[,extensions]` against what it must be.
    pub(super) fn server_final(&self, message: &[u8]) -> Result<(), ServerFault> {
        let text = std::str::from_utf8(message).map_err(|_| ServerFault::Grammar)?;
        let mut fields = text.split(',');
        let shown = fields.next().and_then(|field| field.strip_prefix("v=")).ok_or(ServerFault::Grammar)?;
        if !fields.all(is_extension) {
            return Err(ServerFault::Grammar);
        }
        if same(shown.as_bytes(), self.expected.as_bytes()) { Ok(()) } else { Err(ServerFault::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn begun(binding: Binding) -> Begun {
        Begun::new("user", NONCE, binding)
    }

    fn pencil() -> Secret {
        Secret::new("pencil")
    }

    /// RFC 7677 §3.
    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let begun = begun(Binding::None);
        assert_eq!(begun.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let derived = begun.server_first(SERVER_FIRST.as_bytes(), &pencil()).unwrap().run();
        assert_eq!(
            derived.client_final(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(derived.server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        for (wrong, fault) in [
            ("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ServerFault::Signature),
            ("v=", ServerFault::Signature),
            ("e=invalid-proof", ServerFault::Grammar),
            ("", ServerFault::Grammar),
            ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,m=x", ServerFault::Grammar),
        ] {
            assert_eq!(derived.server_final(wrong.as_bytes()), Err(fault), "{wrong}");
        }
    }

    #[test]
    fn a_server_that_asks_for_what_it_may_not_is_not_answered() {
        for (message, fault) in [
            (SERVER_FIRST.replace("i=4096", "i=4095"), ServerFault::TooFew),
            (SERVER_FIRST.replace("i=4096", "i=1"), ServerFault::TooFew),
            (SERVER_FIRST.replace("i=4096", "i=1000001"), ServerFault::TooMany),
            (SERVER_FIRST.replace("i=4096", "i=99999999999"), ServerFault::Grammar),
            (SERVER_FIRST.replace("r=rO", "r=xO"), ServerFault::Nonce),
            (format!("r={NONCE},s=W22Z,i=4096"), ServerFault::Nonce),
            (SERVER_FIRST.replace("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s="), ServerFault::Grammar),
            (SERVER_FIRST.replace("s=W22ZaJ0SNY7soEsUEjb6gQ==", "s=%"), ServerFault::Grammar),
            (format!("m=x,{SERVER_FIRST}"), ServerFault::Grammar),
            (format!("{SERVER_FIRST},m=x"), ServerFault::Grammar),
            (String::new(), ServerFault::Grammar),
        ] {
            let answered = begun(Binding::None).server_first(message.as_bytes(), &pencil());
            assert_eq!(answered.map(|_| ()), Err(fault), "{message}");
        }
        assert!(begun(Binding::None).server_first(b"r=\xff", &pencil()).is_err());
        // An extension that need not be understood is none of our business.
        assert!(begun(Binding::None).server_first(format!("{SERVER_FIRST},x=y").as_bytes(), &pencil()).is_ok());
    }

    #[test]
    fn what_is_said_of_the_binding_is_bound_too() {
        for (binding, first, bound) in [
            (Binding::None, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=biws,"),
            (Binding::SawNone, "y,,n=user,r=rOprNGfwEbeRWgbNEkqO", "c=eSws,"),
            (
                Binding::Bound(ExporterValue([0; 32])),
                "p=tls-exporter,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "c=cD10bHMtZXhwb3J0ZXIsLAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA,",
            ),
        ] {
            let begun = begun(binding);
            assert_eq!(begun.first(), first);
            let derived = begun.server_first(SERVER_FIRST.as_bytes(), &pencil()).unwrap().run();
            assert!(derived.client_final().starts_with(bound), "{}", derived.client_final());
        }
    }

    #[test]
    fn names_are_spelt_so_that_they_end_no_field() {
        let first = Begun::new("a,b=c", NONCE, Binding::None).first();
        assert_eq!(first, "n,,n=a=2Cb=3Dc,r=rOprNGfwEbeRWgbNEkqO");
    }
}
