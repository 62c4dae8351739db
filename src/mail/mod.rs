//! The words: addresses, paths, envelopes, header fields, trace, custody. Pure values (RFC 5321 §4.1.2, RFC 5322).
//!
//! Never: opens, reads or writes anything; judges who may send what.

pub mod address;
pub mod custody;
pub mod envelope;
pub mod header;
pub mod rate;
pub mod recipients;
pub mod trace;

pub use address::{Address, AddressFault, CanonicalAddress, Domain, Host, LocalPartCase};
pub use custody::{Custody, Keeper, QueueId};
pub use envelope::{
    Body, DeliverBy, Envelope, ForwardPath, MailParameters, Notify, OriginalRecipient, Recipient, RecipientParameters,
    Ret, ReversePath,
};
pub use header::{HeaderFault, HeaderLimits, HeaderSection, RawField};
pub use rate::{Cost, Measure, Rate, Rates, Window};
pub use recipients::Recipients;
pub use trace::{Protocol, ShownClient, Trace, Utf8Header, registered_cipher};
