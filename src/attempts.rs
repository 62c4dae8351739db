//! Failed authentications, counted per key of an identity and per client address; and codes that have been used.
//!
//! Who can try at all holds the key of a certificate of the identity, for the handshake has proved it: so the count belongs to that one key, and
//! nobody without it can use it up. A certificate would not do: around a pinned key its holder makes as many as he likes. A stolen key
//! that is guessed with leaves the owner's others alone. The count of an address is shared by all behind it, so it stops only keys that have
//! failed of late themselves: a clean one is always looked at.
//!
//! A failure is forgotten after a while, so nobody is shut out for ever. An attempt is counted when it begins and given back when it was right:
//! a hundred at once are a hundred. Tables are bounded; nothing here is kept over a restart. Never: waits, reads a clock, keeps a password.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::credentials::totp::Step;
use crate::doors::counted_as;
use crate::identity::Digest256;
use crate::sys::{MonoTime, WallTime};

/// Failures of one certificate before 421.
pub const CERTIFICATE_FAILURES_MAX: u32 = 10;
/// How long until one failure of a certificate is forgotten.
pub const CERTIFICATE_FORGIVEN: Duration = Duration::from_secs(300);
/// Failures from one IPv4 address or IPv6 /64 before 421.
pub const ADDRESS_FAILURES_MAX: u32 = 50;
/// How long until one failure of an address is forgotten.
pub const ADDRESS_FORGIVEN: Duration = Duration::from_secs(60);
/// The answer to the first failure comes so late, to each further one twice as late, up to [`DELAY_MAX`].
pub const DELAY_FIRST: Duration = Duration::from_millis(500);
/// See [`DELAY_FIRST`].
pub const DELAY_MAX: Duration = Duration::from_secs(8);
/// Entries of each table at most; beyond, the one that is forgiven soonest goes.
const ENTRIES_MAX: usize = 20_000;
/// Used codes that are remembered at most: as many logins with codes in 90 seconds; beyond, no code is taken for a while.
const CODES_MAX: usize = 20_000;

/// Whose attempt it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    identity: Arc<str>,
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    key: Digest256,
}

/// When all failures are forgotten, by whose they are.
type Failures<K> = HashMap<K, MonoTime>;

#[derive(Debug, Default)]
struct Tables {
    certificates: Failures<Holder>,
    addresses: Failures<IpAddr>,
    codes: HashMap<(Arc<str>, Step), Digest256>,
}

/// The counts. Shared by all connections.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    tables: Arc<Mutex<Tables>>,
}

/// Too many failures: not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// An attempt that has begun and counts as failed until it is told otherwise.
#[derive(Debug)]
pub struct Ticket {
    tables: Arc<Mutex<Tables>>,
    holder: Holder,
    address: IpAddr,
}

impl Attempts {
    /// Begins an attempt by the holder of this key (SHA-256 of its SubjectPublicKeyInfo), which stands for `identity`, from `address`.
    pub fn begin(&self, identity: &str, key: Digest256, address: IpAddr, now: MonoTime) -> Result<Ticket, TooMany> {
        let holder = Holder { identity: identity.into(), key };
        let address = counted_as(address);
        let mut tables = locked(&self.tables);
        let own = level(&tables.certificates, &holder, CERTIFICATE_FORGIVEN, now);
        let here = level(&tables.addresses, &address, ADDRESS_FORGIVEN, now);
        if own >= CERTIFICATE_FAILURES_MAX || (own > 0 && here >= ADDRESS_FAILURES_MAX) {
            return Err(TooMany);
        }
        add(&mut tables.certificates, holder.clone(), CERTIFICATE_FORGIVEN, now);
        add(&mut tables.addresses, address, ADDRESS_FORGIVEN, now);
        drop(tables);
        Ok(Ticket { tables: Arc::clone(&self.tables), holder, address })
    }
}

impl Ticket {
    /// It was right: the certificate's failures are forgotten; of the address's, which others share, this one.
    pub fn right(self, now: MonoTime) {
        let mut tables = locked(&self.tables);
        tables.certificates.remove(&self.holder);
        take_back(&mut tables.addresses, &self.address, ADDRESS_FORGIVEN, now);
    }

    /// It was not looked at.
    pub fn not_looked_at(self, now: MonoTime) {
        let mut tables = locked(&self.tables);
        take_back(&mut tables.certificates, &self.holder, CERTIFICATE_FORGIVEN, now);
        take_back(&mut tables.addresses, &self.address, ADDRESS_FORGIVEN, now);
    }

    /// It was wrong: how long the answer waits.
    pub fn wrong(self, now: MonoTime) -> Duration {
        let tables = locked(&self.tables);
        let own = level(&tables.certificates, &self.holder, CERTIFICATE_FORGIVEN, now);
        let doublings = own.saturating_sub(1).min(10);
        DELAY_FIRST.saturating_mul(1 << doublings).min(DELAY_MAX)
    }

    /// Takes a code of one time: by the first key that shows it, and by no other of the identity, as long as its step counts (RFC 6238 §5.2).
    /// After a restart codes of the last 90 seconds could be shown once more by another key of the same identity, whose holder would have to
    /// know the password too.
    pub fn takes_code(&self, step: Step, now: WallTime) -> bool {
        let mut tables = locked(&self.tables);
        if tables.codes.len() >= CODES_MAX {
            tables.codes.retain(|(_, used), _| used.counts_at(now));
        }
        let full = tables.codes.len() >= CODES_MAX;
        match tables.codes.get(&(Arc::clone(&self.holder.identity), step)) {
            Some(first) => *first == self.holder.key,
            None if full => false,
            None => {
                tables.codes.insert((Arc::clone(&self.holder.identity), step), self.holder.key);
                true
            }
        }
    }
}

fn locked(tables: &Mutex<Tables>) -> MutexGuard<'_, Tables> {
    tables.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many failures are not forgotten yet.
fn level<K: Eq + Hash>(failures: &Failures<K>, key: &K, forgiven: Duration, now: MonoTime) -> u32 {
    let left = failures.get(key).map_or(Duration::ZERO, |all_forgiven| all_forgiven.since(now));
    u32::try_from(left.as_millis().div_ceil(forgiven.as_millis().max(1))).unwrap_or(u32::MAX)
}

fn add<K: Eq + Hash + Clone>(failures: &mut Failures<K>, key: K, forgiven: Duration, now: MonoTime) {
    if failures.len() >= ENTRIES_MAX && !failures.contains_key(&key) {
        failures.retain(|_, all_forgiven| *all_forgiven > now);
        if failures.len() >= ENTRIES_MAX
            && let Some(soonest) =
                failures.iter().min_by_key(|(_, all_forgiven)| **all_forgiven).map(|(key, _)| key.clone())
        {
            failures.remove(&soonest);
        }
    }
    let all_forgiven = failures.entry(key).or_insert(now);
    *all_forgiven = (*all_forgiven).max(now).after(forgiven);
}

fn take_back<K: Eq + Hash>(failures: &mut Failures<K>, key: &K, forgiven: Duration, now: MonoTime) {
    let Some(all_forgiven) = failures.get_mut(key) else { return };
    let left = all_forgiven.since(now).saturating_sub(forgiven);
    *all_forgiven = now.after(left);
    if left.is_zero() {
        failures.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Digest256 = Digest256([1; 32]);
    const OTHER: Digest256 = Digest256([2; 32]);

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_start(Duration::from_secs(seconds))
    }

    fn home() -> IpAddr {
        "192.0.2.1".parse().unwrap()
    }

    fn fail(attempts: &Attempts, whose: Digest256, address: IpAddr, now: MonoTime) -> Result<Duration, TooMany> {
        attempts.begin("alice", whose, address, now).map(|ticket| ticket.wrong(now))
    }

    #[test]
    fn answers_come_later_and_later_and_then_none() {
        let attempts = Attempts::default();
        let delays: Vec<u128> = (0..10).map(|_| fail(&attempts, OWN, home(), at(0)).unwrap().as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000, 8000, 8000]);
        assert_eq!(fail(&attempts, OWN, home(), at(0)), Err(TooMany));
        // One is forgotten after a while: nobody is shut out for ever.
        assert_eq!(fail(&attempts, OWN, home(), at(299)), Err(TooMany));
        assert!(fail(&attempts, OWN, home(), at(300)).is_ok());
        assert_eq!(fail(&attempts, OWN, home(), at(301)), Err(TooMany));
    }

    #[test]
    fn another_certificate_of_the_identity_is_not_shut_out() {
        let attempts = Attempts::default();
        while fail(&attempts, OWN, home(), at(0)).is_ok() {}
        assert!(attempts.begin("alice", OTHER, home(), at(0)).is_ok());
        assert!(attempts.begin("bob", OWN, home(), at(0)).is_ok());
    }

    #[test]
    fn a_full_address_stops_only_who_has_failed() {
        let attempts = Attempts::default();
        for number in 0..50 {
            assert!(fail(&attempts, Digest256([number + 10; 32]), home(), at(0)).is_ok());
        }
        assert_eq!(fail(&attempts, Digest256([10; 32]), home(), at(0)), Err(TooMany), "failed before");
        let clean = attempts.begin("alice", OWN, home(), at(0)).unwrap();
        clean.right(at(0));
        assert!(fail(&attempts, OWN, home(), at(0)).is_ok(), "one guess");
        assert_eq!(fail(&attempts, OWN, home(), at(0)), Err(TooMany), "and no second");
        assert!(fail(&attempts, OWN, "192.0.2.2".parse().unwrap(), at(0)).is_ok(), "from elsewhere");
    }

    #[test]
    fn the_right_answer_forgets_the_failures() {
        let attempts = Attempts::default();
        for _ in 0..9 {
            fail(&attempts, OWN, home(), at(0)).unwrap();
        }
        attempts.begin("alice", OWN, home(), at(0)).unwrap().right(at(0));
        assert_eq!(fail(&attempts, OWN, home(), at(0)), Ok(DELAY_FIRST));
    }

    #[test]
    fn attempts_at_once_are_counted_before_they_end() {
        let attempts = Attempts::default();
        let begun: Vec<Ticket> = (0..10).map(|_| attempts.begin("alice", OWN, home(), at(0)).unwrap()).collect();
        assert!(attempts.begin("alice", OWN, home(), at(0)).is_err());
        for ticket in begun {
            ticket.not_looked_at(at(0));
        }
        assert_eq!(fail(&attempts, OWN, home(), at(0)), Ok(DELAY_FIRST));
    }

    #[test]
    fn a_code_is_one_certificates_only() {
        let attempts = Attempts::default();
        let now = WallTime::from_seconds(1_800_000_000);
        let step = Step::at(now);
        let own = attempts.begin("alice", OWN, home(), at(0)).unwrap();
        let other = attempts.begin("alice", OTHER, home(), at(0)).unwrap();
        assert!(own.takes_code(step, now));
        assert!(own.takes_code(step, now), "the same certificate again within the step");
        assert!(!other.takes_code(step, now), "another certificate");
        assert!(attempts.begin("bob", OTHER, home(), at(0)).unwrap().takes_code(step, now), "another identity");
        assert!(other.takes_code(Step::at(now.after(Duration::from_secs(30))), now), "the next code");
    }

    #[test]
    fn tables_do_not_grow_without_bound() {
        let attempts = Attempts::default();
        let now = WallTime::from_seconds(1_800_000_000);
        for number in 0..ENTRIES_MAX + 100 {
            let name = format!("identity-{number}");
            let ticket =
                attempts.begin(&name, OWN, IpAddr::from(u32::try_from(number).unwrap().to_be_bytes()), at(0)).unwrap();
            ticket.takes_code(Step::at(now), now);
        }
        let tables = locked(&attempts.tables);
        assert!(
            tables.certificates.len() <= ENTRIES_MAX
                && tables.addresses.len() <= ENTRIES_MAX
                && tables.codes.len() <= CODES_MAX
        );
    }
}
