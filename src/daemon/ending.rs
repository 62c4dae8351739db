//! Tells of clients' certificates before they end: the operator by the log, their holders by mail where that is wanted (`notices.expiry`).
//!
//! What is to be told is decided by [`due`], and noted beside the certificate: once each, through restarts. A notice and the note that it
//! was sent are one transaction. When the store fails the log tells all the same, and may tell again.
//!
//! Never: sends a notice to a certificate without an address; holds more than a page of certificates.

use std::sync::Arc;
use std::time::Duration;

use crate::audit;
use crate::house::House;
use crate::mail::{Address, QueueId};
use crate::queue::seen::{Mark, Marked, SEEN_MAX, Seen, Stage, due};
use crate::queue::{Custodian, Deposit, QueueError, REPORTS, TraceFacts};
use crate::report::notice::{self, Ending, Notice};
use crate::snapshot::{ExpiryNotices, Snapshot};
use crate::sys::WallTime;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(3600);

/// Certificates that are looked at at once.
const PAGE: usize = 500;

/// Looks every hour until the drain begins.
pub(super) async fn run(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    loop {
        if let Err(fault) = look(&house).await {
            tracing::warn!(%fault, "the certificates that were seen can't be looked at; it is tried again in an hour");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = drain.wait() => return,
        }
    }
}

/// One look at all certificates that were seen.
///
/// # Errors
/// The store fails.
pub async fn look(house: &House) -> Result<(), QueueError> {
    let (snapshot, now) = (house.snapshot(), house.now().wall);
    if house.queue.seen_count().await? >= SEEN_MAX {
        tracing::warn!(
            limit = SEEN_MAX,
            "as many certificates are remembered as may be: new ones are not, and their ends are not told"
        );
    }
    let mut after = None;
    loop {
        let page = house.queue.seen(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.identity.clone());
        let mut marks = Vec::new();
        for certificates in page.chunk_by(|one, other| one.identity == other.identity) {
            let due::Due { told, forgotten } = due::due(certificates, now);
            marks.extend(forgotten.into_iter().filter_map(|place| mark(certificates.get(place)?, Marked::Forgotten)));
            for (place, stage) in told {
                if let Some(one) = certificates.get(place) {
                    marks.extend(tell(one, stage, &snapshot, house).await);
                }
            }
        }
        house.queue.mark(marks).await?;
    }
}

fn mark(one: &Seen, what: Marked) -> Option<Mark> {
    Some(Mark { identity: one.identity.clone(), fingerprint: one.fingerprint, what })
}

/// Tells of one; gives what is still to be noted.
async fn tell(one: &Seen, stage: Stage, snapshot: &Snapshot, house: &House) -> Option<Mark> {
    let now = house.now().wall;
    let days_left = due::days_left(one.row.certificate.not_after, now);
    let note = mark(one, Marked::Told(stage))?;
    let notice = match snapshot.expiry_notices {
        ExpiryNotices::Yes => write(one, days_left, snapshot, house),
        ExpiryNotices::No => None,
    };
    let Some(notice) = notice else {
        audit::certificate_ends(one, days_left, None);
        return Some(note);
    };
    match send(notice, note.clone(), snapshot, house).await {
        Ok(id) => {
            audit::certificate_ends(one, days_left, Some(id));
            None
        }
        Err(fault) => {
            tracing::warn!(identity = one.identity, %fault, "a notice could not be queued; the log alone tells of this stage");
            audit::certificate_ends(one, days_left, None);
            Some(note)
        }
    }
}

/// The notice, when the certificate has an address.
fn write(one: &Seen, days_left: i64, snapshot: &Snapshot, house: &House) -> Option<Notice> {
    let certificate = &one.row.certificate;
    let to = Address::parse(certificate.email.as_deref()?).ok()?;
    let ending = Ending {
        identity: &one.identity,
        to: &to,
        serial: &certificate.serial,
        subject: &certificate.subject,
        issuer: &certificate.issuer,
        at: certificate.not_after,
        days_left,
    };
    let random = u128::from(house.entropy.next_u64()) << 64 | u128::from(house.entropy.next_u64());
    notice::compose(&snapshot.reporter, &ending, house.now().wall, random)
}

/// Puts a notice into the queue; that it was sent is noted in the same transaction.
async fn send(notice: Notice, note: Mark, snapshot: &Snapshot, house: &House) -> Result<QueueId, QueueError> {
    let Notice { envelope, octets, message_id } = notice;
    let length = u64::try_from(octets.len()).ok();
    let mut incoming = house.queue.admit(REPORTS, length).await?;
    let id = incoming.id();
    incoming.write(&octets).await?;
    incoming.mark(note);
    incoming.commit(deposit(envelope, message_id, snapshot, house.now().wall)).await?;
    Ok(id)
}

fn deposit(envelope: crate::mail::Envelope, message_id: String, snapshot: &Snapshot, arrived: WallTime) -> Deposit {
    Deposit {
        envelope,
        custodian: Custodian::ours(),
        trace: TraceFacts {
            client: "notice of expiry".to_owned(),
            helo: snapshot.reporter.hostname.clone(),
            protocol: "local".to_owned(),
            tls: String::new(),
            arrived,
            message_id: Some(message_id),
        },
    }
}
