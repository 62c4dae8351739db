//! How far the attempt of one route at a message is: noted by the courier as it goes on, looked at by whoever asks meanwhile.
//!
//! The delivery owns it for as long as its attempt lasts, and lets others look. Noted is only where it is waited for: in line for a connection, or with an
//! upstream, whose `Signs` know the place in the dialogue anyway. So no command and no reply costs anything here, and an attempt two short locks.
//!
//! Never: decides anything, for the courier does not read it; is kept on the disk; holds a lock over a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::settings::Upstream;
use super::vigil::{Sight, Signs, present};

/// How far it is; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Course(Arc<Mutex<Place>>);

#[derive(Debug, Default)]
enum Place {
    #[default]
    NotBegun,
    InLine(Arc<Upstream>, Instant),
    With(Arc<Upstream>, Signs),
    Over(Instant),
}

/// Where it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// No upstream was looked at yet.
    NotBegun,
    /// It waits for a connection to this upstream, for so long: all that it may have are in use.
    InLine(Arc<Upstream>, Duration),
    /// It is with this upstream.
    With(Arc<Upstream>, Sight),
    /// It has ended, so long ago; another route, or the store, is waited for.
    Over(Duration),
}

impl Course {
    /// From now on a connection to this upstream is waited for.
    pub(super) fn waits_for(&self, upstream: &Arc<Upstream>) {
        *self.lock() = Place::InLine(Arc::clone(upstream), present());
    }

    /// From now on it is with this upstream, and what is heard of that are these signs.
    pub(super) fn is_at(&self, upstream: &Arc<Upstream>, signs: &Signs) {
        *self.lock() = Place::With(Arc::clone(upstream), signs.clone());
    }

    /// The route has brought its part.
    pub fn ends(&self) {
        *self.lock() = Place::Over(present());
    }

    /// Where it is now.
    pub fn look(&self) -> Whereabouts {
        let lasts = |since: &Instant| present().saturating_duration_since(*since);
        match &*self.lock() {
            Place::NotBegun => Whereabouts::NotBegun,
            Place::InLine(upstream, since) => Whereabouts::InLine(Arc::clone(upstream), lasts(since)),
            Place::With(upstream, signs) => Whereabouts::With(Arc::clone(upstream), signs.look()),
            Place::Over(since) => Whereabouts::Over(lasts(since)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
