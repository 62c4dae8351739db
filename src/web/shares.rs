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
