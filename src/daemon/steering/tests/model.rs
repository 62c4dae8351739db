//! Three queues, whatever operators do with them: exports of all, imports that are cut off, repeated, damaged, of the wrong file; receipts that come late,
//! twice, never, crossed, at the wrong queue; relays that deliver at any time, and crashes.
//!
//! The claims: a message that was kept is in a queue, or was delivered. It is delivered twice only where two queues could, which operators are warned of:
//! another one has it when it is delivered, or is brought it afterwards; or `--take-back` was said. In the end a new export and its receipt empty any queue.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;
use crate::daemon::steering::moving::{Brought, Importing};
use crate::queue::{Conclusion, Next};

const QUEUES: usize = 3;

/// Messages, files and receipts are meant by their age: 0 is the newest.
#[derive(Clone, Debug)]
enum Step {
    Keep(usize),
    Export(usize),
    Import(usize, usize, Manner),
    /// At this queue, or at the one that it is for.
    Show(usize, usize, Part),
    Deliver(usize),
    Crash(usize),
}

#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    /// The octets of these places are damaged.
    Damaged(u8),
    /// The command is killed before this place.
    CutOff(usize),
    /// All of it, and its receipt is lost.
    Unheard,
    TakenBack,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// The command is killed in the middle.
    Half,
}

fn step() -> impl Strategy<Value = Step> {
    let queue = || 0..QUEUES;
    let newest = || prop_oneof![4 => Just(0_usize), 2 => Just(1), 1 => 0..6_usize];
    let manner = prop_oneof![
        5 => Just(Manner::Whole),
        2 => any::<u8>().prop_map(Manner::Damaged),
        1 => (0..4_usize).prop_map(Manner::CutOff),
        1 => Just(Manner::Unheard),
        1 => Just(Manner::TakenBack),
    ];
    let at = prop_oneof![5 => Just(None), 1 => queue().prop_map(Some)];
    let part = prop_oneof![4 => Just(Part::Whole), 1 => Just(Part::Half)];
    prop_oneof![
        3 => queue().prop_map(Step::Keep),
        4 => queue().prop_map(Step::Export),
        6 => (newest(), queue(), manner).prop_map(|(file, at, manner)| Step::Import(file, at, manner)),
        6 => (newest(), at, part).prop_map(|(receipt, at, part)| Step::Show(receipt, at.unwrap_or(QUEUES), part)),
        2 => queue().prop_map(Step::Deliver),
        1 => queue().prop_map(Step::Crash),
    ]
}

struct File {
    from: usize,
    export: String,
    parcels: Vec<Carried>,
}

struct Carried {
    id: String,
    record: String,
    body: Vec<u8>,
}

struct Receipt {
    from: usize,
    export: String,
    ids: Vec<String>,
}

struct World {
    queues: Vec<Bench>,
    files: Vec<File>,
    receipts: Vec<Receipt>,
    kept: BTreeSet<QueueId>,
    /// By which queues.
    delivered: BTreeMap<QueueId, Vec<usize>>,
    /// An operator was warned.
    warned: BTreeSet<QueueId>,
}

fn number(id: &str) -> QueueId {
    id.parse().unwrap()
}

fn aged<T>(all: &[T], age: usize) -> Option<usize> {
    all.len().checked_sub(1 + age)
}

impl World {
    fn new() -> Self {
        Self {
            queues: (0..QUEUES as u64).map(Bench::new).collect(),
            files: Vec::new(),
            receipts: Vec::new(),
            kept: BTreeSet::new(),
            delivered: BTreeMap::new(),
            warned: BTreeSet::new(),
        }
    }

    async fn perform(&mut self, step: &Step) {
        for bench in &self.queues {
            bench.clock.advance(Duration::from_secs(1));
        }
        match *step {
            Step::Keep(at) => drop(self.kept.insert(self.queues[at].keep(b"hello").await)),
            Step::Export(from) => self.export(from).await,
            Step::Import(age, at, manner) => {
                if let Some(file) = aged(&self.files, age) {
                    self.import(file, at, manner).await;
                }
            }
            Step::Show(age, at, part) => {
                if let Some(receipt) = aged(&self.receipts, age) {
                    let at = if at == QUEUES { self.receipts[receipt].from } else { at };
                    self.show(receipt, at, part).await;
                }
            }
            Step::Deliver(at) => self.deliver(at).await,
            Step::Crash(at) => self.queues[at].crash(),
        }
    }

    async fn export(&mut self, from: usize) {
        let answers = self.queues[from].ask(Command::Export { filters: Filters::default() }).await;
        let (mut export, mut parcels) = (String::new(), Vec::new());
        for answer in answers {
            match answer {
                Answer::Begun(begun) => export = begun.export,
                Answer::Parcel(parcel) => {
                    parcels.push(Carried { id: parcel.entry.id, record: parcel.record, body: Vec::new() });
                }
                Answer::Piece(piece) => parcels.last_mut().unwrap().body.extend(BASE64.decode(piece).unwrap()),
                other => panic!("{other:?}"),
            }
        }
        self.files.push(File { from, export, parcels });
    }

    async fn import(&mut self, file: usize, at: usize, manner: Manner) {
        let File { from, export, parcels } = &self.files[file];
        let (from, export) = (*from, export.clone());
        let back = if matches!(manner, Manner::TakenBack) { Back::Taken } else { Back::Refused };
        let begun = Importing::begin(&export, back, "root".to_owned(), &self.queues[at].queue).await;
        assert!(begun.is_ok() || at == from, "{begun:?}");
        let Ok((mut importing, adopted)) = begun else { return };
        let mut answers = Vec::new();
        let mut end = Some(Brought::End);
        for (place, carried) in (0..).zip(parcels) {
            if matches!(manner, Manner::CutOff(before) if before as u64 == place) {
                end = None;
                break;
            }
            let mut body = carried.body.clone();
            let is_damaged = matches!(manner, Manner::Damaged(places) if places >> (place % 8) & 1 == 1);
            if is_damaged {
                body[0] ^= 1;
            }
            let desk = self.queues[at].desk();
            if adopted.has(place) {
                if !is_damaged {
                    let before = Brought::Before { place, id: carried.id.clone() };
                    answers.extend(importing.take(desk, before).await.unwrap());
                }
                continue;
            }
            let message = Brought::Message { place, record: carried.record.clone() };
            answers.extend(importing.take(desk, message).await.unwrap());
            answers.extend(importing.take(desk, Brought::Piece(BASE64.encode(body))).await.unwrap());
        }
        let is_over = end.is_some();
        if let Some(end) = end {
            answers.extend(importing.take(self.queues[at].desk(), end).await.unwrap());
        }
        let ids = self.imported(at, manner, answers);
        if is_over && !matches!(manner, Manner::Unheard) {
            self.receipts.push(Receipt { from, export, ids });
        }
    }

    /// What an import answered; what of it stands in the receipt.
    fn imported(&mut self, at: usize, manner: Manner, answers: Vec<Answer>) -> Vec<String> {
        let mut ids = Vec::new();
        for answer in answers {
            match answer {
                Answer::Done(id) => {
                    let by = self.delivered.get(&number(&id)).map(Vec::as_slice).unwrap_or_default();
                    if matches!(manner, Manner::TakenBack) || (!by.is_empty() && !by.contains(&at)) {
                        self.warned.insert(number(&id));
                    }
                    // It may be what was delivered where it had come by SMTP, while another queue had it as well.
                    let may_be = !by.contains(&at) || self.warned.contains(&number(&id));
                    assert!(may_be, "queue {at} takes in what it has delivered: {id}");
                    ids.push(id);
                }
                Answer::Present(id) => ids.push(id),
                Answer::Unable(..) | Answer::End => {}
                other => panic!("{other:?}"),
            }
        }
        ids
    }

    async fn show(&self, receipt: usize, at: usize, part: Part) -> Vec<Answer> {
        let Receipt { export, ids, .. } = &self.receipts[receipt];
        let count = if part == Part::Half { ids.len() / 2 } else { ids.len() };
        let ids = ids[..count].to_vec();
        self.queues[at].ask(Command::Forget { export: export.clone(), ids }).await
    }

    async fn deliver(&mut self, at: usize) {
        for id in self.queues[at].ids().await {
            // A clock that is behind has it due later.
            self.queues[at].queue.retry(id).await.unwrap();
        }
        while let Ok(claim) = tokio::time::timeout(Duration::ZERO, self.queues[at].queue.claim()).await {
            let id = claim.id();
            let conclusion = Conclusion { outcomes: Vec::new(), next: Next::Finished, report: None, warned: false };
            claim.conclude(conclusion).await.unwrap();
            self.delivered.entry(id).or_default().push(at);
            if self.queues_with(id).await > 0 {
                self.warned.insert(id);
            }
        }
    }

    async fn queues_with(&self, id: QueueId) -> usize {
        let mut count = 0;
        for bench in &self.queues {
            count += usize::from(bench.queue.show(id).await.is_ok());
        }
        count
    }

    async fn verify(&self) {
        for id in &self.kept {
            let delivered = self.delivered.get(id).map_or(0, Vec::len);
            assert!(delivered > 0 || self.queues_with(*id).await > 0, "{id} is lost");
            assert!(delivered < 2 || self.warned.contains(id), "{id} came {delivered} times, and nobody was warned");
        }
    }

    /// All goes to the first queue, by new exports.
    async fn gather(&mut self) {
        for from in 1..QUEUES {
            self.export(from).await;
            if self.files.last().unwrap().parcels.is_empty() {
                continue;
            }
            self.import(self.files.len() - 1, 0, Manner::Whole).await;
            let told = self.show(self.receipts.len() - 1, from, Part::Whole).await;
            assert_eq!(self.queues[from].ids().await, [], "{told:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whatever_operators_do_nothing_is_lost_and_twice_comes_only_what_they_were_warned_of(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.perform(step).await;
                world.verify().await;
            }
            world.gather().await;
            world.verify().await;
        });
    }
}
