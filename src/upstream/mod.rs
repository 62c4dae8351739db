//! The upstream: the next MTA, the dialogue with it, and whose fault it is when it does not take a message.
//!
//! | module        | what it is                                                                    | pure |
//! |---------------|-------------------------------------------------------------------------------|------|
//! | `settings`    | what is configured of an upstream, checked                                     | yes  |
//! | `blame`       | the table: what a reply says of the message, and what of us                    | yes  |
//! | `attempt`     | what came of an attempt; faults, in values and sentences                       | yes  |
//! | `transaction` | one message: commands out, a stand per recipient                               | yes  |
//! | `dialog`      | the client's side of SMTP as a machine                                         | yes  |
//! | `health`      | closed, open, half-open                                                        | yes  |
//! | `places`      | settings, limit, idle connections, health of each, through reloads             |      |
//! | `preference`  | who is asked first: order, and lots by weight                                  | yes  |
//! | `refusals`    | when refusing everybody alike speaks of us, and not of the messages            | yes  |
//! | `vigil`       | says that an upstream does not answer, long before a deadline does             |      |
//! | `course`      | how far an attempt is, for whoever asks while it goes on                       |      |
//! | `body`        | where a message's octets come from                                             | seam |
//! | `outgoing`    | a message on its way out: looked at, encoded, framed                           |      |
//! | `seven_bit`   | a message without octets over 127, for who does not take them                  | yes  |
//! | `part_headers` | whether the header of a part holds any                                        | yes  |
//! | `mime`        | what such a header says, which lines part one part from the next               | yes  |
//! | `names`       | what MX and SRV records say: which hosts, in which order                       | yes  |
//! | `resolver`    | names to addresses, by the machine's resolver or by DNS                        |      |
//! | `network`     | upstreams to addresses, addresses to streams                                   | seam |
//! | `pin`         | the very certificate or key that it must show                                  | yes  |
//! | `dane`        | whether a certificate is the one that TLSA records name                        | yes  |
//! | `tlsa`        | those records, with DNSSEC's word for them                                     |      |
//! | `tls`         | what the upstream's certificate must prove                                     |      |
//! | `verifier`    | the same inside the handshake, where no CA vouches                             |      |
//! | `login`       | what AUTH needs anew for each connection: a nonce, the token of now            |      |
//! | `connection`  | does what the dialogue says, over one stream                                   |      |
//! | `examination` | what an upstream shows to who connects and sends nothing                       |      |
//! | `through`     | transactions that are open while their clients wait (cut-through)             |      |
//! | `courier`     | connects, keeps and limits connections, goes on to the next upstream           |      |
//!
//! Three promises are kept here. Mail is never returned because an upstream, or our settings for it, are broken: only what is said about
//! *this message* fails it. Where TLS is demanded there is no way to plaintext. A message whose final dot was sent without an answer goes to
//! nobody else at once.

pub mod attempt;
pub mod blame;
pub mod body;
pub mod courier;
pub mod course;
pub mod dane;
pub mod dialog;
pub mod examination;
pub mod health;
pub mod names;
pub mod network;
pub mod pin;
pub mod places;
pub mod preference;
pub mod settings;
pub mod seven_bit;
pub mod through;
pub mod tls;
pub mod tlsa;
pub mod vigil;

mod alarms;
mod connection;
mod login;
mod mime;
pub mod drought;
mod outgoing;
mod part_headers;
mod refusals;
mod resolver;
mod transaction;
mod verifier;

pub use attempt::{Attempt, Blame, FaultCause, Retry, TlsCause, Undertaking, UpstreamFault};
pub use blame::Phase;
pub use body::{BodyFault, InMemory, MessageBody};
pub use courier::{Courier, Handover, LeftAlone};
pub use course::{Course, Whereabouts};
pub use login::token_in;
pub use network::{Network, SystemNetwork};
pub use pin::{NotAPin, Pin};
pub use places::{Outlook, Probe, Standing};
pub use settings::{
    Chunking, Credentials, Deadlines, EightBit, Evidence, LookUp, Manner, Mechanism, ReplyPattern, Secret, Security,
    SourceAddresses, Submitter, Upstream,
};
pub use through::{Begun, Passage, Sending, Word};
pub use tls::{Anchors, ClientTls, Mode, SecurityMistake, TlsDemand, TlsMaterial};
pub use tlsa::{Dane, Named};
pub use transaction::Order;
pub use vigil::Sight;
