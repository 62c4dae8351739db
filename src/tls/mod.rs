//! TLS: listener settings, the one judge of chains, revocation, and what they are made from.
//!
//! - [`read`]: PEM or DER octets to certificates, keys and CRLs.
//! - [`trust`]: the configured CAs, their intermediates and CRLs, and the pins.
//! - [`revocation`]: CRLs, verified once when loaded (RFC 5280 §5).
//! - [`mod@verify`]: [`judge`], the only way to a [`VerifiedChain`] (RFC 5280 §6).
//! - [`ocsp`]: the question to an OCSP responder, and its answer verified (RFC 6960).
//! - [`points`]: where certificates say that their CRLs and OCSP responders are.
//! - [`rules`]: what a CA's certificates must be, by configuration.
//! - `recall`: signatures that were found good once, and what the certificates say that were.
//! - `constraints`, `ways`: e-mail name constraints, which webpki does not know (RFC 5280 §4.2.1.10).
//! - [`rejection`]: why a chain was refused.
//! - [`trace`]: how it was judged, step by step, for people.
//! - [`listener`]: the rustls configuration of a listener.
//! - [`vouched`]: certificates that a load balancer tells of, and which balancers may.
//!
//! `verify` is pure; the rest builds values from octets. Never: resumes a session (rustls restores the peer's identity on resumption
//! without asking the verifier), trusts the system's store, opens a file.

mod constraints;
mod der;
pub mod listener;
pub mod ocsp;
pub mod points;
pub mod read;
mod recall;
pub mod rejection;
pub mod revocation;
pub mod rules;
mod signature;
pub mod trace;
pub mod trust;
pub mod verify;
mod view;
pub mod vouched;
mod ways;

#[cfg(test)]
#[path = "../../tests/it/recipe.rs"]
pub(crate) mod recipe;

use std::sync::Arc;

pub use listener::{
    ListenerFault, ListenerTls, MinVersion, Negotiated, RefusalMode, ServerCertificate, balancer, balancer_fault_of,
    exporter, negotiated, peer_chain, rejection_of, telling,
};
pub(crate) use recall::Places;
pub use rejection::{Culprit, Flaw, Rejection};
pub use revocation::{CRL_OCTETS_MAX, CrlAge, CrlCause, CrlFacts, CrlFault, CrlSetback, RevocationMode};
pub use rules::{CaRules, KeyRules, PolicyOid, Purposes};
pub use trust::{Asks, CaFault, ClientCa, ClientCaSettings, CrlFile, OcspMode, Pins, TakenPins, Trust};
pub use verify::{VerifiedChain, judge, judge_asking, judge_vouched, verify};
pub use vouched::{Balancer, BalancerFault, BalancerPins, ToldTls, VouchedChain, Witness};
pub(crate) use ways::is_issued_by;

use crate::sys::WallTime;

/// The certificates a client showed, leaf first, whose leaf's key it has proved to hold (the handshake's CertificateVerify).
#[derive(Clone, Debug)]
pub struct PeerChain(pub Vec<rustls::pki_types::CertificateDer<'static>>);

/// What a chain was verified to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// A configured CA of this name.
    Ca(Arc<str>),
    /// The certificate or its key is pinned in the roster.
    Pin,
}

/// Why a certificate is not good. Each has its own reply (REPLIES.md) and whether a later attempt may succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// No chain to a configured anchor, or a broken one.
    #[error("{cause}")]
    Untrusted {
        /// For the reply: short, printable, without paths.
        cause: String,
    },
    /// Past its notAfter.
    #[error("expired on {}", .at.rfc3339())]
    Expired {
        /// Its notAfter.
        at: WallTime,
    },
    /// Before its notBefore.
    #[error("not valid before {}", .from.rfc3339())]
    NotYetValid {
        /// Its notBefore.
        from: WallTime,
    },
    /// Listed in a CRL of its issuer.
    #[error("revoked")]
    Revoked,
    /// Revocation is required, and no fresh CRL covers it.
    #[error("revocation status unknown")]
    RevocationUnknown,
}
