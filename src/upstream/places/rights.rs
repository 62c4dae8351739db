//! The rights that an upstream gives out, as values: to a connection, to be the probe, to be counted among those who wait.
//!
//! Each gives itself back when it is dropped, however its holder ends. Never: waits.

use std::sync::Arc;

use tokio::sync::watch;

use super::Places;
use crate::sys::MonoTime;
use crate::upstream::attempt::UpstreamFault;
use crate::upstream::health::{Condition, Finder, Health};
use crate::upstream::settings::Upstream;

/// The right to one connection, with the newest settings.
pub(in crate::upstream) struct Slot {
    pub(super) places: Arc<Places>,
    pub(super) whose: Whose,
    pub(in crate::upstream) upstream: Arc<Upstream>,
    /// Since when it is held.
    pub(in crate::upstream) begun: MonoTime,
    /// Changes when an attempt that has not reached a message is to be begun anew.
    pub(in crate::upstream) anew: watch::Receiver<()>,
}

/// Who waits for what comes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nobody: its mail is in the queue.
    OfTheQueue,
    /// A client.
    OfAClient,
}

/// The right to be the one attempt that finds out whether an upstream is up again. Dropped without a word, the next who asks gets it.
pub struct Probe {
    pub(super) places: Arc<Places>,
    pub(super) upstream: Arc<Upstream>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut roll = self.places.lock();
        if let Some(place) = roll.places.get_mut(&self.upstream.name) {
            place.give_back();
            if self.whose == Whose::OfAClient {
                place.through = place.through.saturating_sub(1);
            }
            if place.gone {
                roll.forget_gone();
            }
        }
    }
}

impl Probe {
    /// Whether it is for one of these.
    pub fn is_for<'a>(&self, mut upstreams: impl Iterator<Item = &'a Arc<Upstream>>) -> bool {
        upstreams.any(|upstream| upstream.name == self.upstream.name)
    }

    /// What the probe found.
    pub(in crate::upstream) fn report(
        self,
        fault: Option<&UpstreamFault>,
        of: Option<&str>,
        begun: MonoTime,
    ) -> Option<Condition> {
        // What is noted here leaves nothing to abandon when `self` is dropped.
        self.places.report(&self.upstream, fault, of, Finder::Probe, begun)
    }

    /// It got as far as MAIL; that is all that a probe is to find out.
    pub(in crate::upstream) fn end_ready(self) -> Option<Condition> {
        self.places.found(&self.upstream, Health::is_ready)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let abandoned = self.places.with(&self.upstream.name, |place, now| {
            let is_ours =
                Arc::ptr_eq(&place.upstream, &self.upstream) && place.health.condition(now) == Condition::HalfOpen;
            if is_ours {
                place.health.abandon(now);
            }
            is_ours
        });
        if abandoned == Some(true) {
            self.places.news.send_replace(());
        }
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("upstream", &self.upstream.name).finish_non_exhaustive()
    }
}

/// A message that waits for a connection, as long as it lives.
pub(super) struct Waiting<'a> {
    places: &'a Places,
    name: &'a str,
}

impl<'a> Waiting<'a> {
    /// None when the upstream is not configured.
    pub(super) fn new(places: &'a Places, upstream: &'a Arc<Upstream>) -> Option<Self> {
        let mut roll = places.lock();
        if !roll.told {
            roll.follow(upstream);
        }
        let place = roll.places.get_mut(&upstream.name).filter(|place| !place.gone)?;
        place.waiting = place.waiting.saturating_add(1);
        Some(Self { places, name: &upstream.name })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut roll = self.places.lock();
        if let Some(place) = roll.places.get_mut(self.name) {
            place.waiting = place.waiting.saturating_sub(1);
            if place.gone {
                roll.forget_gone();
            }
        }
    }
}
