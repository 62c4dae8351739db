//! What is asked of other servers over HTTP: CRLs and OCSP answers.
//!
//! Never: decides whether a certificate is good; what comes back is verified by `tls` before anything rests on it.

mod answers;
pub mod http;
mod kept;
pub(crate) mod reach;
pub mod responders;
mod shares;

pub use responders::Responders;
