//! What is asked of other servers over HTTP: CRLs and OCSP answers.
//!
//! Never: decides whether a certificate is good; what comes back is verified by `tls` before anything rests on it.

pub mod http;
pub mod responders;

pub use responders::Responders;
