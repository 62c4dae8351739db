//! A proof of custody where a test needs one: made by the queue, after its sync, as always.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use sealpost::mail::{Custody, Envelope, ForwardPath, MailParameters, Recipient, RecipientParameters, ReversePath};
use sealpost::queue::{Custodian, Deposit, Driving, Queue, QueueSettings, TraceFacts};
use sealpost::sys::disk::SimulatedDisk;
use sealpost::sys::{ManualClock, SeededEntropy, WallTime};

use crate::recipe::NOW;

const NOW_WALL: WallTime = WallTime::from_seconds(NOW);

/// A proof of custody, from the queue as always.
pub(crate) fn custody() -> Custody {
    static CUSTODY: OnceLock<Custody> = OnceLock::new();
    let make = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let settings = QueueSettings { driving: Driving::Inline, ..QueueSettings::new(Path::new("/queue")) };
            let disk = Arc::new(SimulatedDisk::new(1));
            let clock = Arc::new(ManualClock::at(NOW_WALL));
            let (queue, _) = Queue::open(settings, disk, clock, Arc::new(SeededEntropy::new(1))).unwrap();
            let mut incoming = queue.admit("alice", None).await.unwrap();
            incoming.write(b"Subject: x\r\n\r\nx\r\n").await.unwrap();
            incoming.commit(deposit()).await.unwrap()
        })
    };
    CUSTODY.get_or_init(make).clone()
}

fn deposit() -> Deposit {
    let recipient = Recipient { forward_path: ForwardPath::Postmaster, parameters: RecipientParameters::default() };
    Deposit {
        envelope: Envelope::new(ReversePath::Null, MailParameters::default(), vec![recipient]).unwrap(),
        custodian: Custodian {
            identity: "alice".to_owned(),
            ca: None,
            fingerprint: String::new(),
            chain: Vec::new(),
            key: None,
            links: Vec::new(),
            vouched: None,
            ends: None,
        },
        trace: TraceFacts {
            client: String::new(),
            helo: String::new(),
            protocol: "ESMTPS".to_owned(),
            tls: String::new(),
            arrived: NOW_WALL,
            message_id: None,
        },
    }
}
