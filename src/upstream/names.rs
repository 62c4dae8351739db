//! What MX and SRV records say of an upstream's name: which hosts, in which order. Pure: the lot that is drawn among equals is an argument.
//!
//! | answer                                   | then                                                                       |
//! |------------------------------------------|----------------------------------------------------------------------------|
//! | MX records                               | the lowest preference first, equals by lot (RFC 5321 §5.1)                 |
//! | MX records that name this relay          | only those preferred to it: the others would lead mail round (RFC 5321 §5.1) |
//! | one MX record of "."                     | the domain takes no mail (RFC 7505 §3)                                     |
//! | SRV records                              | the lowest priority first, equals by lot and weight (RFC 2782)             |
//! | one SRV record of "."                    | the service is decidedly not there (RFC 2782, RFC 6186 §3.4)               |
//!
//! Whose certificate is right does not hang on these names: who can forge an answer could name himself. See `tls`. Never: asks anybody.

use super::preference::{Ranked, arrange};

/// Hosts of one name that are followed at most.
pub const HOSTS_MAX: usize = 8;

/// An MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The lower, the earlier.
    pub preference: u16,
    /// The host; empty for the root.
    pub host: String,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The lower, the earlier.
    pub priority: u16,
    /// The share among those of the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; empty for the root.
    pub host: String,
}

/// Why records lead nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadsNowhere {
    /// RFC 7505.
    #[error("its MX record says that it takes no mail (null MX)")]
    NullExchange,
    /// Only hosts after ourselves.
    #[error("its MX records lead back to this relay")]
    Ourselves,
    /// RFC 2782: a target of ".".
    #[error("its SRV record says that it offers no such service")]
    NoService,
}

/// The hosts of MX records, in the order in which to ask them. `own_name` is what we are called ourselves.
pub fn exchanges(
    records: Vec<Exchange>,
    own_name: &str,
    draw: &mut dyn FnMut() -> u64,
) -> Result<Vec<String>, LeadsNowhere> {
    if !records.is_empty() && records.iter().all(|record| record.host.is_empty()) {
        return Err(LeadsNowhere::NullExchange);
    }
    let own = records.iter().filter(|record| record.host.eq_ignore_ascii_case(own_name));
    let before = own.map(|record| record.preference).min();
    let ranked = records
        .into_iter()
        // RFC 7505 §3: a null MX beside others means nothing.
        .filter(|record| !record.host.is_empty() && before.is_none_or(|own| record.preference < own))
        .map(|record| Ranked { order: record.preference.into(), weight: 1, what: record.host })
        .collect();
    let mut hosts = arrange(ranked, draw);
    hosts.truncate(HOSTS_MAX);
    if hosts.is_empty() { Err(LeadsNowhere::Ourselves) } else { Ok(hosts) }
}

/// The hosts of SRV records with their ports, in the order in which to ask them.
pub fn services(records: Vec<Service>, draw: &mut dyn FnMut() -> u64) -> Result<Vec<(String, u16)>, LeadsNowhere> {
    let ranked = records.into_iter().filter(|record| !record.host.is_empty() && record.port != 0).map(|record| {
        Ranked { order: record.priority.into(), weight: record.weight.into(), what: (record.host, record.port) }
    });
    let mut hosts = arrange(ranked.collect(), draw);
    hosts.truncate(HOSTS_MAX);
    if hosts.is_empty() { Err(LeadsNowhere::NoService) } else { Ok(hosts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mx(all: &[(u16, &str)]) -> Result<Vec<String>, LeadsNowhere> {
        let records = all.iter().map(|&(preference, host)| Exchange { preference, host: host.to_owned() }).collect();
        let mut lot = 0;
        let mut draw = || {
            lot += 1;
            lot
        };
        exchanges(records, "relay.example.com", &mut draw)
    }

    #[test]
    fn exchanges_come_by_preference_and_equals_by_lot() {
        assert_eq!(mx(&[(20, "b"), (10, "a")]).unwrap(), ["a", "b"]);
        assert_eq!(mx(&[(10, "a"), (10, "b")]).unwrap(), ["b", "a"], "the lot is 1");
        let many: Vec<(u16, String)> = (0..50).map(|number| (number, format!("h{number}"))).collect();
        let many: Vec<(u16, &str)> = many.iter().map(|(number, host)| (*number, host.as_str())).collect();
        assert_eq!(mx(&many).unwrap().len(), HOSTS_MAX);
    }

    #[test]
    fn who_takes_no_mail_is_not_asked_and_a_relay_does_not_ask_itself() {
        for (records, expected) in [
            (&[(0, "")][..], Err(LeadsNowhere::NullExchange)),
            (&[(0, ""), (10, "a")], Ok(vec!["a".to_owned()])),
            (&[(10, "a"), (20, "Relay.Example.com"), (30, "b")], Ok(vec!["a".to_owned()])),
            (&[(10, "relay.example.com"), (10, "a")], Err(LeadsNowhere::Ourselves)),
        ] {
            assert_eq!(mx(records), expected, "{records:?}");
        }
    }

    #[test]
    fn services_come_by_priority_with_their_ports() {
        let record = |priority, port, host: &str| Service { priority, weight: 0, port, host: host.to_owned() };
        let found = |records: Vec<Service>| services(records, &mut || 0);
        assert_eq!(
            found(vec![record(2, 465, "b"), record(1, 587, "a"), record(0, 0, "no port")]).unwrap(),
            [("a".to_owned(), 587), ("b".to_owned(), 465)]
        );
        assert_eq!(found(vec![record(0, 0, "")]), Err(LeadsNowhere::NoService));
        assert_eq!(found(Vec::new()), Err(LeadsNowhere::NoService));
    }
}
