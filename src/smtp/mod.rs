//! The wire: octets to values and back. One line codec for both directions; no state of a dialogue, no sockets.
//!
//! RFC 5321 §2.3.8: only CRLF ends a line. Never: guesses what a malformed line meant.

pub mod command;
pub mod data;
pub mod extension;
pub mod framing;
pub mod line;
pub mod reply;

pub use command::{AuthAnswer, AuthOctets, Command, CommandFault, HeloName, InitialResponse, NotBase64, PathFault};
pub use data::{Chunk, DotProgress, DotReader, DotState, DotWriter, OctetFault, OctetReader};
pub use extension::{Extension, Offered};
pub use framing::{Framing, MessageReader};
pub use line::{Head, LineFault, LineReader};
pub use reply::{Code, Reply, ReplyFault, ReplyReader, Status};
