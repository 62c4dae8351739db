//! The strict raw reader of a header section (RFC 5322 §2.2, §3.6).
