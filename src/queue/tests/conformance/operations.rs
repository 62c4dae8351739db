//! What is done to a store, drawn at random.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use super::IDENTITIES;
use crate::mail::MailParameters;
use crate::queue::seen::{Certificate, Mark, Marked, Sighting, Stage};
use crate::smtp::{Code, Reply};

/// Sizes about which something changes: nothing, small, a row of the embedded store, several, the largest gathered, files.
const SIZES: [usize; 7] = [0, 1, 31_999, 32_001, 130_000, 262_144, 262_145];

/// Names of exports.
pub(super) const EXPORTS: u8 = 3;

/// Messages of an export.
pub(super) const PLACES: u64 = 6;

/// One thing that is asked of a store. Messages and tickets are meant by their place among those that there are.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Apply(Vec<Change>),
    Claim,
    ClaimOne(usize),
    Drain,
    Late { warn: Option<u32>, give_up: u32 },
    Renew(usize),
    PutOff(usize, u16),
    GiveBack(usize),
    Over(usize),
    LayDown(usize),
    Recall,
    Advance(u32),
    SetWall(i32),
    List { state: Option<State>, limit: usize },
    Look(usize),
    Compact,
    Reopen,
    Crash,
    Fail(u8, Fault),
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Deposit(Arrival),
    Conclude {
        which: usize,
        tried: Vec<(usize, u8)>,
        next: Then,
        warned: bool,
        report: Option<Arrival>,
    },
    /// These recipients have it, or an upstream may have it for them, while the attempt goes on.
    Note(usize, Vec<(usize, u8)>, Option<Arrival>),
    SetAside(usize),
    Retry(usize),
    Hold(usize),
    Release(usize),
    Wake(usize),
    Remove(usize),
    TakeOut(usize, Vec<usize>),
    BeginExport(u8),
    /// This message has arrived elsewhere by this export.
    Leave(usize, u8),
    Settle(u8),
    /// The message at this place of an export is brought; the first time it is this one, and the same ever after.
    Adopt(u8, u64, Arrival),
    Charge,
    See(Shown),
    Mark(Shown, Marked),
    Mend,
}

/// A message that comes.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    identity: usize,
    size: usize,
    priority: Option<i8>,
    wait: Option<u16>,
    held: bool,
    pub(super) limited: bool,
    pub(super) seen: Option<Shown>,
}

/// A certificate that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    identity: usize,
    number: u8,
    client: u8,
}

/// What follows an attempt; times are seconds from then.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Retry(u16),
    Finished,
    Dead,
    Held,
}

impl Then {
    pub(super) fn at(self, now: WallTime) -> Next {
        match self {
            Self::Retry(seconds) => Next::Retry(now.after(Duration::from_secs(u64::from(seconds)))),
            Self::Finished => Next::Finished,
            Self::Dead => Next::Dead("no report is allowed".to_owned()),
            Self::Held => Next::Held("its sender may not send any more".to_owned()),
        }
    }
}

impl Arrival {
    /// A small one of the first identity.
    pub(super) fn plain() -> Self {
        Self { identity: 0, size: 1, priority: None, wait: None, held: false, limited: false, seen: None }
    }

    /// As a report: it costs nobody anything, and its body is no file.
    pub(super) fn as_report(&self) -> Self {
        Self { limited: false, size: self.size.min(SIZES.len() - 2), ..self.clone() }
    }

    pub(super) fn length(&self) -> usize {
        SIZES[self.size]
    }

    pub(super) fn record(&self, id: QueueId, octets: &[u8], now: WallTime) -> Record {
        let sample = samples::deposit(now);
        let hold_until = self.wait.map(|seconds| now.after(Duration::from_secs(u64::from(seconds))));
        let parameters = MailParameters { priority: self.priority, hold_until, ..MailParameters::default() };
        let recipients = sample.envelope.recipients().to_vec();
        let envelope = Envelope::new(sample.envelope.reverse_path().clone(), parameters, recipients).unwrap();
        let custodian = Custodian { identity: IDENTITIES[self.identity].to_owned(), ..sample.custodian };
        let deposit = Deposit { envelope, custodian, ..sample };
        let mut record = Record::new(id, deposit, octets.len() as u64, xxhash_rust::xxh3::xxh3_64(octets));
        if self.held {
            record.hold(HeldBy::Grant, Some("its grant says so".to_owned()));
        }
        record
    }
}

impl Shown {
    fn identity(self) -> String {
        IDENTITIES[self.identity].to_owned()
    }

    pub(super) fn sighting(self, at: WallTime) -> Sighting {
        Sighting {
            identity: self.identity(),
            fingerprint: [self.number; 32],
            certificate: Certificate {
                ca: Some("staff".to_owned()),
                serial: format!("{:02x}", self.number),
                subject: "CN=Somebody".to_owned(),
                issuer: "CN=Staff".to_owned(),
                email: None,
                not_before: START,
                not_after: START.after(Duration::from_secs(1_000_000)),
            },
            client: format!("192.0.2.{}", self.client),
            at,
        }
    }

    pub(super) fn mark(self, what: Marked) -> Mark {
        Mark { identity: self.identity(), fingerprint: [self.number; 32], what }
    }
}

pub(super) fn tried(tried: &[(usize, u8)]) -> Vec<Tried> {
    let outcome = |what| match what {
        0 => Outcome::Delivered { reply: Reply::new(Code::new(250).unwrap(), None, "queued") },
        1 => Outcome::Failed { reason: "550".to_owned(), reply: None },
        5 => Outcome::Deferred { reason: "no answer yet".to_owned(), reply: None },
        _ => Outcome::Deferred { reason: "450".to_owned(), reply: None },
    };
    let one = |&(recipient, what): &(usize, u8)| Tried {
        recipient,
        upstream: "main".to_owned(),
        outcome: outcome(what),
        certainty: match what {
            3 | 5 => Certainty::Undetermined,
            4 => Certainty::Answered,
            _ => Certainty::Known,
        },
    };
    tried.iter().map(one).collect()
}

pub(super) fn cases() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..60)
}

fn operation() -> impl Strategy<Value = Operation> {
    let state = prop_oneof![Just(None), Just(Some(State::Queued)), Just(Some(State::Held)), Just(Some(State::Dead))];
    let fault = prop_oneof![Just(Fault::Error), Just(Fault::NoSpace)];
    prop_oneof![
        12 => vec(change(), 1..4).prop_map(Operation::Apply),
        8 => Just(Operation::Claim),
        2 => any_place().prop_map(Operation::ClaimOne),
        1 => Just(Operation::Drain),
        1 => (proptest::option::of(0..4000_u32), 0..8000_u32)
            .prop_map(|(warn, give_up)| Operation::Late { warn, give_up }),
        2 => any_place().prop_map(Operation::Renew),
        2 => (any_place(), 0..900_u16).prop_map(|(which, seconds)| Operation::PutOff(which, seconds)),
        2 => any_place().prop_map(Operation::GiveBack),
        1 => any_place().prop_map(Operation::Over),
        1 => any_place().prop_map(Operation::LayDown),
        1 => Just(Operation::Recall),
        4 => (0..1500_u32).prop_map(Operation::Advance),
        1 => (-2000..2000_i32).prop_map(Operation::SetWall),
        1 => (state, 1..5_usize).prop_map(|(state, limit)| Operation::List { state, limit }),
        1 => any_place().prop_map(Operation::Look),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Crash),
        1 => (1..14_u8, fault).prop_map(|(nth, fault)| Operation::Fail(nth, fault)),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let told = prop_oneof![Just(Marked::Forgotten), Just(Marked::Told(Stage::Week))];
    prop_oneof![
        8 => arrival().prop_map(Change::Deposit),
        8 => (any_place(), vec((0..2_usize, 0..5_u8), 0..3), then(), any::<bool>(), proptest::option::of(arrival()))
            .prop_map(|(which, tried, next, warned, report)| Change::Conclude { which, tried, next, warned, report }),
        3 => (any_place(), vec((0..2_usize, prop_oneof![Just(0), Just(5)]), 0..3), proptest::option::of(arrival()))
            .prop_map(|(which, tried, report)| Change::Note(which, tried, report)),
        1 => any_place().prop_map(Change::SetAside),
        2 => any_place().prop_map(Change::Retry),
        2 => any_place().prop_map(Change::Hold),
        2 => any_place().prop_map(Change::Release),
        1 => any_place().prop_map(Change::Wake),
        1 => any_place().prop_map(Change::Remove),
        1 => (any_place(), vec(0..3_usize, 0..3)).prop_map(|(which, places)| Change::TakeOut(which, places)),
        1 => (0..EXPORTS).prop_map(Change::BeginExport),
        1 => (any_place(), 0..EXPORTS).prop_map(|(which, export)| Change::Leave(which, export)),
        1 => (0..EXPORTS).prop_map(Change::Settle),
        4 => (0..EXPORTS, 0..PLACES, arrival()).prop_map(|(export, place, arrival)| Change::Adopt(export, place, arrival)),
        1 => Just(Change::Charge),
        1 => shown().prop_map(Change::See),
        1 => (shown(), told).prop_map(|(seen, what)| Change::Mark(seen, what)),
        1 => Just(Change::Mend),
    ]
}

fn any_place() -> impl Strategy<Value = usize> {
    0..64_usize
}

fn shown() -> impl Strategy<Value = Shown> {
    (0..IDENTITIES.len(), 1..4_u8, 1..3_u8).prop_map(|(identity, number, client)| Shown { identity, number, client })
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![3 => (0..2000_u16).prop_map(Then::Retry), 1 => Just(Then::Finished), 1 => Just(Then::Dead), 1 => Just(Then::Held)]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let size = prop_oneof![8 => 0..2_usize, 1 => 2..SIZES.len()];
    let priority = prop_oneof![4 => Just(None), 1 => (-9..=9_i8).prop_map(Some)];
    let wait = prop_oneof![4 => Just(None), 1 => (0..2000_u16).prop_map(Some)];
    (0..IDENTITIES.len(), size, priority, wait, 0..8_u8, 0..3_u8, proptest::option::of(shown())).prop_map(
        |(identity, size, priority, wait, held, limited, seen)| Arrival {
            identity,
            size,
            priority,
            wait,
            held: held == 0,
            limited: limited == 0,
            seen,
        },
    )
}
