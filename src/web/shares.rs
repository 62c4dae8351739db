//! Places for each CA, so that one whose servers hang takes none from another.
//!
//! Never: grows by names that are not asked for any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// So many places for each CA, by its name.
#[derive(Debug)]
pub(super) struct Shares {
    each: usize,
    places: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
}

impl Shares {
    pub(super) fn new(each: usize) -> Self {
        Self { each, places: Mutex::default() }
    }

    /// The places of this CA.
    pub(super) fn of(&self, ca: &Arc<str>) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.contains_key(ca) {
            // Where all places are free and nobody waits, the next who comes makes them anew.
            places.retain(|_, places| Arc::strong_count(places) > 1);
        }
        Arc::clone(places.entry(Arc::clone(ca)).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_somebody_holds_stay_and_those_that_nobody_holds_are_made_anew() {
        let shares = Shares::new(1);
        let (staff, guests): (Arc<str>, Arc<str>) = ("staff".into(), "guests".into());
        let places = shares.of(&staff);
        let held = places.try_acquire().unwrap();
        assert!(shares.of(&staff).try_acquire().is_err() && shares.of(&guests).try_acquire().is_ok());
        drop(shares.of(&"another".into()));
        let known = |ca: &Arc<str>| shares.places.lock().unwrap().contains_key(ca);
        assert!(known(&staff) && !known(&guests));
        drop(held);
        assert!(shares.of(&staff).try_acquire().is_ok());
    }
}
