//! What must hold of any octets whatever: the bodies of the fuzz targets (`fuzz/`), played over corpora made of `fixtures/` in every run of the tests.
//!
//! A body takes octets that anybody may have sent, and a seed by which the stream is cut into pieces. It compares the program with a plain reading of the
//! whole input, or reads back what was written. A [`Lie`] puts a program that is wrong on purpose in the right one's place: each body names those that it must
//! notice, and a test sees that it does. Never: panics itself, whatever the octets; what does not hold is [`Broken`].

mod address;
mod bdat;
pub mod command;
mod config;
mod files;
mod header;
mod names;
mod others;
mod proxy;
mod reply;
mod revocation;
mod roster;
pub mod seeds;
mod session;
mod seven_bit;
mod upstream;
mod wire;

use std::fmt::Debug;

use sealpost::sys::{Entropy, SeededEntropy};

/// The longest piece that a stream is cut into, octets.
const PIECE_MAX: u64 = 40;

/// What does not hold, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

pub type Told = Result<(), Broken>;

/// Octets, the seed of the cuts, and what is put in the program's place.
pub type Body = fn(&[u8], u64, Lie) -> Told;

/// What is fuzzed.
#[derive(Debug)]
pub struct Target {
    /// The name of the fuzz target and of its folder in `fixtures/fuzz`.
    pub name: &'static str,
    pub body: Body,
    /// What the body must notice.
    pub lies: &'static [Lie],
}

pub const TARGETS: [Target; 23] = [
    target("line", wire::lines, &[Lie::LineEndsAtLf, Lie::LineLosesCr, Lie::LineHasNoLimit]),
    target("data", wire::data, &[Lie::DataEndsAtLf, Lie::DataLosesItsPlace, Lie::DataKeepsDots]),
    target("chunks", wire::chunks, &[Lie::ChunksForgetCr, Lie::ChunksPassNul]),
    target("bdat", bdat::bdat, &[Lie::ChunksForgetCr, Lie::BdatTakesOneMore]),
    target("writer", wire::written, &[Lie::WriterStuffsNothing, Lie::WriterPassesBareLf]),
    target("offer", wire::offer, &[Lie::OfferForgetsLimits]),
    target("encoding", wire::encoded, &[Lie::XtextLeavesPlus]),
    target("command", command::command, &[Lie::CommandLowersAddresses, Lie::CommandTakesTheLast, Lie::CommandTakesAll]),
    target("reply", reply::reply, &[Lie::ReplyChangesCode, Lie::ReplyHasNoLimits, Lie::ReplyTakesTabs]),
    target("others", others::others, &[Lie::OtherCommand, Lie::OtherReply]),
    target("address", address::address, &[Lie::AddressTrims, Lie::AddressMindsQuotes]),
    target("header", header::header, &[Lie::HeaderTakesOneOfTwo, Lie::HeaderBelievesNames, Lie::HeaderKeepsBcc]),
    target("names", names::names, &[Lie::NamesEndAtNul, Lie::NamesTakeWildcards]),
    target("proxy", proxy::proxy, &proxy::LIES),
    target("url", files::url, &[Lie::UrlMindsNoScheme]),
    target("secrets", files::secrets, &[Lie::SecretsAreTold]),
    target("control", files::control, &[Lie::ControlForgetsFilters]),
    target("roster", roster::roster, &[Lie::RosterPassesUnknownColumns, Lie::RosterForgetsRemarks]),
    target("record", files::record, &[Lie::RecordForgetsRecipient]),
    target("seven_bit", seven_bit::seven_bit, &[Lie::SevenBitMakesBoundaries, Lie::SevenBitLeavesSome]),
    target("revocation", revocation::revocation, &[Lie::RevocationMindsNoSignature]),
    target("upstream", upstream::upstream, &upstream::LIES),
    target("session", session::session, &session::LIES),
];

/// Of its own: it takes longer, for it reads the files that are named.
pub const CONFIG: Target =
    target("config", config::config, &[Lie::ConfigPassesUnknownKeys, Lie::ConfigLosesCount, Lie::ConfigSaysOne]);

const fn target(name: &'static str, body: Body, lies: &'static [Lie]) -> Target {
    Target { name, body, lies }
}

/// For a fuzz target.
///
/// # Panics
/// Something does not hold.
pub fn hold(name: &str, octets: &[u8]) {
    let Some(target) = TARGETS.iter().chain([&CONFIG]).find(|target| target.name == name) else {
        panic!("{name}: there is no such target");
    };
    if let Err(Broken(what)) = (target.body)(octets, seed_of(octets), Lie::None) {
        panic!("{name}: {what}");
    }
}

/// A program that is wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lie {
    /// The real thing.
    #[default]
    None,
    /// A bare LF ends a line.
    LineEndsAtLf,
    /// A CR that comes last in a piece is lost.
    LineLosesCr,
    /// A line may be of any length.
    LineHasNoLimit,
    /// A bare LF ends a line of data.
    DataEndsAtLf,
    /// Each piece is taken for the beginning.
    DataLosesItsPlace,
    /// Dots that were stuffed in stay.
    DataKeepsDots,
    /// A CR at the end of a chunk is forgotten.
    ChunksForgetCr,
    /// NUL becomes a space.
    ChunksPassNul,
    /// One octet more than the count.
    BdatTakesOneMore,
    /// Lines that begin with a dot go out as they are.
    WriterStuffsNothing,
    /// A bare LF goes out as it is.
    WriterPassesBareLf,
    /// SIZE is not told again.
    OfferForgetsLimits,
    /// A plus stands for itself.
    XtextLeavesPlus,
    /// Addresses are changed to lower case.
    CommandLowersAddresses,
    /// Of two parameters alike the last counts.
    CommandTakesTheLast,
    /// What is not offered is taken.
    CommandTakesAll,
    /// Another command than was said.
    OtherCommand,
    /// Another reply than was said.
    OtherReply,
    /// The first line's code counts for all.
    ReplyChangesCode,
    /// A reply may be of any length.
    ReplyHasNoLimits,
    /// A tab separates as a space does.
    ReplyTakesTabs,
    /// White space around an address is passed over.
    AddressTrims,
    /// `"alice"` is not alice.
    AddressMindsQuotes,
    /// Of two From fields the last counts.
    HeaderTakesOneOfTwo,
    /// The address in a display name is whom it is from.
    HeaderBelievesNames,
    /// Bcc goes on.
    HeaderKeepsBcc,
    /// A name ends at its first NUL.
    NamesEndAtNul,
    /// `*.example.com` is a name.
    NamesTakeWildcards,
    /// An octet behind the header is taken.
    ProxyTakesOneMore,
    /// Each piece is taken for the beginning.
    ProxyLosesItsPlace,
    /// The balancer's verdict on a certificate makes no difference.
    ProxyMindsNoVerdict,
    /// Of two words about the client's TLS the last counts.
    ProxyTakesTheLast,
    /// https is http.
    UrlMindsNoScheme,
    /// A mistake shows its line.
    SecretsAreTold,
    /// A column that nobody knows is passed over.
    RosterPassesUnknownColumns,
    /// Lines are not counted behind remarks.
    RosterForgetsRemarks,
    /// What is asked loses what it is asked about.
    ControlForgetsFilters,
    /// The last recipient of a record stands nowhere.
    RecordForgetsRecipient,
    /// A line that begins with two hyphens stays so where lines are broken.
    SevenBitMakesBoundaries,
    /// What is encoded still holds octets over 127.
    SevenBitLeavesSome,
    /// A changed list or answer counts as it was.
    RevocationMindsNoSignature,
    /// A refusal at the end of the message is a 250.
    UpstreamHearsYes,
    /// TLS that is demanded is only wished for.
    UpstreamForgetsTls,
    /// A connection in the clear counts as TLS.
    UpstreamTellsPasswords,
    /// The last recipient has no outcome.
    UpstreamLosesRecipient,
    /// Whatever a server signs, it knows the password.
    UpstreamBelievesServers,
    /// 250 without custody.
    SessionKeepsNothing,
    /// The message is kept whatever its header says.
    SessionSkipsTheJudge,
    /// Recipients that were refused are in the envelope.
    SessionAddsRefused,
    /// RSET does nothing.
    SessionIgnoresRset,
    /// An end of data with a bare LF counts.
    SessionEndsAtLf,
    /// Goes on after a dispute.
    SessionStays,
    /// The identity of the handshake counts for good.
    SessionLooksOnce,
    /// The octets of a chunk that is refused are commands.
    SessionReadsRefusedChunks,
    /// Of each chunk one octet more than its count.
    SessionTakesOneMore,
    /// Of a message in chunks the last alone is kept.
    SessionForgetsChunks,
    /// A CR at the end of a chunk is forgotten.
    SessionForgetsCr,
    /// Unknown keys are passed over.
    ConfigPassesUnknownKeys,
    /// Lines are counted from 0.
    ConfigLosesCount,
    /// Only the first mistake is told.
    ConfigSaysOne,
}

pub(crate) fn same<T: PartialEq + Debug>(what: &str, got: &T, expected: &T) -> Told {
    if got == expected { Ok(()) } else { Err(Broken(format!("{what}: {got:?} instead of {expected:?}"))) }
}

pub(crate) fn require(what: &str, holds: bool) -> Told {
    if holds { Ok(()) } else { Err(Broken(what.to_owned())) }
}

/// Printable ASCII, fit for a reply.
pub(crate) fn is_sayable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| (b' '..=b'~').contains(&octet))
}

/// The octets in pieces of 1 to [`PIECE_MAX`], by the seed.
pub(crate) fn pieces(octets: &[u8], seed: u64) -> impl Iterator<Item = &[u8]> {
    let cuts = SeededEntropy::new(seed);
    let mut rest = octets;
    std::iter::from_fn(move || {
        let length = usize::try_from(cuts.next_u64() % PIECE_MAX).unwrap_or_default() + 1;
        let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Cuts that are the same whenever the octets are (FNV-1a).
pub fn seed_of(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |sum, octet| (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}
