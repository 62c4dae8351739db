//! What is being tried just now, and how far each attempt is: for operators, who ask while it goes on.
//!
//! An attempt is here from its beginning until what came of it is recorded. In memory alone: without a daemon nothing is tried, and nothing is known. As many
//! are here as deliveries are under way, which `lanes` and `turn` bound.
//!
//! Never: decides anything; holds a lock over a wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::mail::QueueId;
use crate::sys::Now;
use crate::upstream::Course;

/// All attempts that are under way, by their messages' names.
#[derive(Debug, Default)]
pub struct Active(Mutex<BTreeMap<QueueId, Arc<Trial>>>);

/// One attempt at one message.
#[derive(Debug)]
pub struct Trial {
    /// The message's name.
    pub id: QueueId,
    /// When it began.
    pub began: Now,
    legs: OnceLock<Vec<Leg>>,
}

/// What is done of it on one route.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The route's name.
    pub route: Arc<str>,
    /// How far it is there.
    pub course: Course,
}

/// An attempt, which is under way as long as this lives.
#[derive(Debug)]
pub(super) struct Trying<'a> {
    active: &'a Active,
    trial: Arc<Trial>,
}

impl Active {
    /// An attempt begins.
    pub(super) fn begin(&self, id: QueueId, began: Now) -> Trying<'_> {
        let trial = Arc::new(Trial { id, began, legs: OnceLock::new() });
        self.lock().insert(id, Arc::clone(&trial));
        Trying { active: self, trial }
    }

    /// The attempt at this message, if one is under way.
    pub fn of(&self, id: QueueId) -> Option<Arc<Trial>> {
        self.lock().get(&id).cloned()
    }

    /// The messages that are being tried, in the order of their names.
    pub fn ids(&self) -> Vec<QueueId> {
        self.lock().keys().copied().collect()
    }

    /// The attempt that is under way for the longest time.
    pub fn longest(&self) -> Option<Arc<Trial>> {
        self.lock().values().min_by_key(|trial| trial.began.mono).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<QueueId, Arc<Trial>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial {
    /// The routes that it goes by; none before that is known, or where none takes any of its recipients.
    pub fn legs(&self) -> &[Leg] {
        self.legs.get().map_or(&[], Vec::as_slice)
    }
}

impl Trying<'_> {
    /// It goes by these routes; gives how far it is on each, to be noted there.
    pub(super) fn goes_by<'r>(&self, routes: impl Iterator<Item = &'r Arc<str>>) -> Vec<Course> {
        let begun = |route: &Arc<str>| Leg { route: Arc::clone(route), course: Course::default() };
        let legs = self.trial.legs.get_or_init(|| routes.map(begun).collect());
        legs.iter().map(|leg| leg.course.clone()).collect()
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let mut roll = self.active.lock();
        // Whoever lost his claim must not end what another has begun since.
        if roll.get(&self.trial.id).is_some_and(|trial| Arc::ptr_eq(trial, &self.trial)) {
            roll.remove(&self.trial.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{MonoTime, WallTime};
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        let mono = MonoTime::from_start(Duration::from_secs(seconds));
        Now { wall: WallTime::from_seconds(1_800_000_000), mono }
    }

    #[test]
    fn an_attempt_is_here_as_long_as_it_lasts_and_the_longest_is_found() {
        let active = Active::default();
        let id = QueueId::from_u128;
        let later = active.begin(id(1), at(20));
        let first = active.begin(id(2), at(10));
        assert_eq!((active.ids(), active.longest().unwrap().id), (vec![id(1), id(2)], id(2)));
        let routes: [Arc<str>; 2] = ["a".into(), "b".into()];
        assert_eq!(first.goes_by(routes.iter()).len(), 2);
        let names: Vec<String> = active.of(id(2)).unwrap().legs().iter().map(|leg| leg.route.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        drop(first);
        assert_eq!((active.of(id(2)).is_none(), active.longest().unwrap().id), (true, id(1)));
        drop(later);
        assert!(active.ids().is_empty() && active.longest().is_none());
    }

    #[test]
    fn whoever_lost_his_claim_ends_only_his_own() {
        let active = Active::default();
        let lost = active.begin(QueueId::from_u128(1), at(10));
        let anew = active.begin(QueueId::from_u128(1), at(20));
        drop(lost);
        assert_eq!(active.of(QueueId::from_u128(1)).unwrap().began.mono, at(20).mono);
        drop(anew);
        assert!(active.ids().is_empty());
    }
}
