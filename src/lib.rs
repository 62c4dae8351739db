//! sealpost: the mail submission relay where the certificate is the login.
//!
//! The modules stand in the order in which a message meets them. `intake` carries it from accept to custody, `delivery` from the queue to an
//! outcome; the stations between are pure values and decisions. See docs/ARCHITECTURE.md.

// The words: pure values.
pub mod mail;
pub mod smtp;
pub mod sasl;

// The line, in order.
pub mod intake;
pub mod tls;
pub mod identity;
pub mod credentials;
pub mod session;
pub mod policy;
pub mod content;
pub mod queue;
pub mod delivery;
pub mod route;
pub mod upstream;
pub mod report;

// The house.
pub mod attempts;
pub mod audit;
pub mod cli;
pub mod config;
pub mod counts;
pub mod daemon;
pub mod doors;
pub mod house;
pub mod networks;
pub mod pki;
pub mod plain;
pub mod snapshot;
pub mod sys;
pub mod web;
