//! The queue of the stage in memory: the real one, on a simulated disk, driven inline.

use std::sync::Arc;
use std::time::Duration;

use sealpost::identity::Dispatch;
use sealpost::mail::{Cost, Custody, Envelope, QueueId};
use sealpost::queue::{
    Custodian, Deposit, Driving, Filter, Incoming, Listed, Page, Queue, QueueSettings, Record, Spending, Spent,
    TraceFacts,
};
use sealpost::session::{NoRoom, NotGranted, Session};
use sealpost::sys::disk::{Fault, SimulatedDisk};
use sealpost::sys::{ManualClock, SeededEntropy, WallTime};

use super::play::KeptMessage;
use super::script::Store;
use crate::recipe::NOW;

/// More operations than any script makes.
const FOR_EVER: u64 = 1 << 40;

/// See the module.
pub(crate) struct MemoryQueue {
    /// How it is, as the script says.
    pub(crate) state: Store,
    runtime: tokio::runtime::Runtime,
    queue: Queue,
    clock: Arc<ManualClock>,
    disk: SimulatedDisk,
    incoming: Option<(Incoming, Envelope)>,
    spending: Option<Spending>,
}

impl MemoryQueue {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let disk = SimulatedDisk::new(1);
        let clock = Arc::new(ManualClock::at(WallTime::from_seconds(NOW)));
        let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new("/queue") };
        let (queue, _) = {
            let (_inside, clock) = (runtime.enter(), Arc::clone(&clock));
            Queue::open(settings, Arc::new(disk.clone()), clock, Arc::new(SeededEntropy::new(1))).unwrap()
        };
        Self { state: Store::Fine, runtime, queue, clock, disk, incoming: None, spending: None }
    }

    /// Whatever was being received is nobody's any more.
    pub(crate) fn forget(&mut self) {
        self.incoming = None;
        self.give_back();
    }

    /// What was granted to a transaction that is over.
    pub(crate) fn give_back(&mut self) {
        self.spending = None;
    }

    pub(crate) fn spend(&mut self, session: &Session, cost: Cost) -> Result<(), NotGranted> {
        let identity = session.identity();
        let spent = self.runtime.block_on(self.queue.spend(identity.name(), identity.grant().limits.rates, cost));
        match spent {
            Ok(Spent::Granted(more)) => {
                match &mut self.spending {
                    Some(spending) => spending.join(more),
                    None => self.spending = Some(more),
                }
                Ok(())
            }
            Ok(Spent::Until { rate, at }) => Err(NotGranted::Until { rate, at }),
            Err(_) => Err(NotGranted::Unknown),
        }
    }

    pub(crate) fn admit(&mut self, identity: &str, envelope: Envelope) -> Result<(), NoRoom> {
        if self.state == Store::Full {
            return Err(NoRoom::Full("the script says so".to_owned()));
        }
        if self.state == Store::Crowded {
            return Err(NoRoom::Share("the script says so".to_owned()));
        }
        // Each message a second later, so that they are due in the order in which they came.
        self.clock.advance(Duration::from_secs(1));
        let incoming = self.runtime.block_on(self.queue.admit(identity, envelope.parameters().size));
        self.incoming = Some((incoming.map_err(|fault| NoRoom::Full(fault.to_string()))?, envelope));
        Ok(())
    }

    pub(crate) fn write(&mut self, octets: &[u8]) -> Result<(), NoRoom> {
        let Some((incoming, _)) = &mut self.incoming else { return Err(NoRoom::Broken) };
        match self.state {
            Store::Failing => Err(NoRoom::Broken),
            Store::Fine | Store::Full | Store::Crowded | Store::Broken => {
                self.runtime.block_on(incoming.write(octets)).map_err(|_| NoRoom::Broken)
            }
        }
    }

    pub(crate) fn commit(&mut self, session: &Session, now: WallTime) -> Result<Custody, NoRoom> {
        let (mut incoming, envelope) = self.incoming.take().ok_or(NoRoom::Broken)?;
        if self.state == Store::Broken {
            self.disk.fail(1, FOR_EVER, Fault::Error);
        }
        if let Some(spending) = self.spending.take() {
            incoming.charge(spending);
        }
        if session.identity().grant().dispatch == Dispatch::OnApproval {
            incoming.hold("hold = true".to_owned());
        }
        let committed = self.runtime.block_on(incoming.commit(deposit(session, envelope, now)));
        self.disk.mend();
        committed.map_err(|_| NoRoom::Broken)
    }

    /// All messages so far.
    pub(crate) fn kept(&mut self) -> Vec<KeptMessage> {
        // A store that has failed is opened again by the next change.
        self.runtime.block_on(self.queue.hold(QueueId::from_u128(0))).ok();
        let page = Page { after: None, limit: 100 };
        let listing = self.runtime.block_on(self.queue.list(Filter::default(), page)).unwrap();
        let records = listing.entries.into_iter().map(|listed| match listed {
            Listed::Message(record) => record,
            Listed::Unreadable(id, reason) => panic!("{id}: {reason}"),
        });
        let kept = records.map(|record| KeptMessage {
            from: record.envelope.reverse_path().as_str().to_owned(),
            to: record.envelope.recipients().iter().map(|to| to.forward_path.as_str().to_owned()).collect(),
            octets: self.runtime.block_on(whole(&self.queue, &record)),
        });
        kept.collect()
    }
}

async fn whole(queue: &Queue, record: &Record) -> Vec<u8> {
    let mut body = queue.body(record.id).await.unwrap();
    let mut octets = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        octets.extend_from_slice(&piece);
    }
    octets
}

fn deposit(session: &Session, envelope: Envelope, now: WallTime) -> Deposit {
    let identity = session.identity();
    let certificate = identity.certificate();
    let trace = session.trace();
    Deposit {
        envelope,
        custodian: Custodian {
            identity: identity.name().to_owned(),
            ca: identity.ca().map(str::to_owned),
            fingerprint: certificate.fingerprint.to_string(),
            chain: certificate.chain.clone(),
            key: Some(certificate.spki.0),
            links: Vec::new(),
            vouched: None,
            ends: None,
        },
        trace: TraceFacts {
            client: "192.0.2.1:40000".to_owned(),
            helo: trace.helo.to_owned(),
            protocol: trace.protocol.to_string(),
            tls: "TLSv1.3".to_owned(),
            arrived: now,
            message_id: session.transaction().and_then(|transaction| transaction.message_id()).map(str::to_owned),
        },
    }
}
