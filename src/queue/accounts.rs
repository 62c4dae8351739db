//! What is being spent now, in memory: from MAIL until the message is kept, refused or given up by its client.
//!
//! What was spent stands in the store, written in the same transaction as the message that cost it. Here stand only the identities that have
//! something under way, so a million others take no memory. A [`Spending`] that is dropped without having been settled is given back.
//!
//! # The ledger's time
//!
//! It begins, at a start, with the wall clock or with the last time that the store noted, whichever is later, and goes on with the monotonic
//! clock. A wall clock that is set while the process runs therefore changes nothing. One that was set back before a start makes what was spent
//! count for as long again as its window at the most, and one that was set forward lets at most one window's limit through anew: nobody is
//! locked out for ever, and no gate stands open.
//!
//! Never: writes the store; holds its lock over a wait.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::QueueError;
use super::ledger::{History, Reached};
use super::store::Spent;
use crate::mail::{Cost, Rates};
use crate::sys::{MonoTime, Now, WallTime};

/// The accounts of those who are sending. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    open: HashMap<Arc<str>, Account>,
    /// The last time that the store noted.
    noted: Option<WallTime>,
    time: Option<Time>,
}

/// Where the ledger's time began.
#[derive(Clone, Copy, Debug)]
struct Time {
    began: WallTime,
    at: MonoTime,
}

/// An identity with something under way.
#[derive(Debug)]
struct Account {
    /// As the store has it.
    history: History,
    under_way: Cost,
    spendings: usize,
}

impl Accounts {
    /// What the store says of the ledger's time, when it was opened.
    pub(super) fn begin_after(&self, noted: Option<WallTime>) {
        let mut inner = self.inner();
        inner.noted = inner.noted.max(noted);
    }

    /// The ledger's present.
    pub(super) fn time(&self, now: Now) -> WallTime {
        self.inner().time(now)
    }

    /// Grants `cost` when no limit of `rates` is broken by it. `load` reads what the store has of the identity, which happens when it has
    /// nothing under way.
    pub(super) fn spend(
        &self,
        identity: &str,
        rates: &Rates,
        cost: Cost,
        now: Now,
        load: impl FnOnce() -> Result<History, QueueError>,
    ) -> Result<Spent, QueueError> {
        let mut inner = self.inner();
        let at = inner.time(now);
        // Read under the lock: a commit that lands meanwhile is settled after it.
        let (name, account) = match inner.open.remove_entry(identity) {
            Some(open) => open,
            None => (identity.into(), Account { history: load()?, under_way: Cost::default(), spendings: 0 }),
        };
        let mut account = account;
        let reached = account.history.reached(rates, account.under_way, cost, at);
        if reached.is_none() {
            account.under_way = account.under_way.plus(cost);
            account.spendings = account.spendings.saturating_add(1);
        }
        if account.spendings > 0 {
            inner.open.insert(Arc::clone(&name), account);
        }
        Ok(match reached {
            None => Spent::Granted(Spending { accounts: self.clone(), identity: name, cost }),
            // Told by the wall clock as it is now, and not a second too early.
            Some(Reached { rate, until }) => Spent::Until { rate, at: now.wall.after(until.since(at)) },
        })
    }

    /// How many identities have something under way.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inner().open.len()
    }

    fn end(&self, identity: &str, cost: Cost, settled: Option<WallTime>) {
        let mut inner = self.inner();
        let Some(account) = inner.open.get_mut(identity) else { return };
        account.under_way = account.under_way.minus(cost);
        account.spendings = account.spendings.saturating_sub(1);
        if let Some(at) = settled {
            account.history.add(cost, at);
        }
        if account.spendings == 0 {
            inner.open.remove(identity);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn time(&mut self, now: Now) -> WallTime {
        let noted = self.noted;
        let time = self
            .time
            .get_or_insert_with(|| Time { began: noted.map_or(now.wall, |noted| noted.max(now.wall)), at: now.mono });
        time.began.after(now.mono.since(time.at))
    }
}

/// What has been granted and is under way: dropped, it is given back.
#[must_use = "dropped, it is given back"]
pub struct Spending {
    accounts: Accounts,
    identity: Arc<str>,
    cost: Cost,
}

impl Spending {
    /// Whose.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How much.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Takes another one in, of the same identity; both stand or fall together.
    pub fn join(&mut self, mut other: Self) {
        if other.identity == self.identity {
            let more = std::mem::take(&mut other.cost);
            self.cost = self.cost.plus(more);
        }
    }

    /// The store has written it, at this time of the ledger.
    pub(super) fn settle(mut self, at: WallTime) {
        let cost = std::mem::take(&mut self.cost);
        self.accounts.end(&self.identity, cost, Some(at));
        // What is left costs nothing, and its end is counted already.
        self.identity = "".into();
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        if !self.identity.is_empty() {
            self.accounts.end(&self.identity, self.cost, None);
        }
    }
}

impl fmt::Debug for Spending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spending").field("identity", &self.identity).field("cost", &self.cost).finish_non_exhaustive()
    }
}
