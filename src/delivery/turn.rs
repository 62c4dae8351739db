//! Whose turn it is: the next message to be tried, and whether any may be.
//!
//! | upstreams                           | whose turn it is                                                                     |
//! |-------------------------------------|--------------------------------------------------------------------------------------|
//! | one is up, as far as is known       | the message that is due longest                                                      |
//! | all left alone, one may be probed   | the same, as the probe once there is one; nobody else until it has found out         |
//! | all left alone                      | a message whose sender must be told of the delay or the end, every [`LATE_EVERY`] |
//!
//! Never: claims a message that nothing can be done for; loses a claim when dropped.

use std::time::Duration;

use tokio::sync::watch;

use crate::house::House;
use crate::queue::{Claim, DuePlace};
use crate::sys::MonoTime;
use crate::upstream::{Outlook, Probe};

/// How often late messages are looked for while nothing is tried. `warn_after` and `give_up_after` count in hours and days.
const LATE_EVERY: Duration = Duration::from_secs(5 * 60);

/// What there is news of, and how far the round over late messages is.
#[derive(Debug)]
pub(super) struct Turns {
    news: watch::Receiver<()>,
    place: Option<DuePlace>,
    next_round: MonoTime,
}

impl Turns {
    pub(super) fn new(house: &House) -> Self {
        Self { news: house.courier.news(), place: None, next_round: MonoTime::from_start(Duration::ZERO) }
    }

    /// Waits for the next message that something can be done for; with the right to probe, when it is the probe. Cancel-safe.
    pub(super) async fn next(&mut self, house: &House) -> (Claim, Option<Probe>) {
        loop {
            // From here on no news is missed, and only then is the outlook asked for.
            if self.news.has_changed().unwrap_or(false) {
                self.news.mark_unchanged();
                house.queue.recall();
            }
            let mut news = self.news.clone();
            match house.courier.outlook(house.snapshot().routes.upstreams()) {
                Outlook::Clear => tokio::select! {
                    claim = house.queue.claim() => return (claim, None),
                    _ = news.changed() => {}
                },
                // Nobody probes as long as there is no message for it.
                Outlook::Due => tokio::select! {
                    claim = house.queue.claim() => {
                        return (claim, house.courier.probe(house.snapshot().routes.upstreams()));
                    }
                    _ = news.changed() => {}
                },
                Outlook::LeftAlone(wait) => tokio::select! {
                    claim = self.late(house) => return (claim, None),
                    _ = news.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                },
            }
        }
    }

    /// Waits for a message whose sender must be told.
    async fn late(&mut self, house: &House) -> Claim {
        loop {
            tokio::time::sleep(self.next_round.since(house.now().mono)).await;
            let late = house.snapshot().schedule.late(house.now().wall);
            match house.queue.claim_late(late, &mut self.place).await {
                Ok(Some(claim)) => return claim,
                Ok(None) => {}
                Err(fault) => tracing::error!(%fault, "late messages can't be looked for; it is tried again"),
            }
            self.next_round = house.now().mono.after(LATE_EVERY);
        }
    }
}
