//! Networks of addresses in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3), and whether an address lies in one.
//!
//! IPv4 written as IPv6 counts as IPv4. Never: looks up a name; takes a network whose bits behind the prefix are set, because people who
//! write one mean either the host or the network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bits of an IPv4 address.
const BITS_V4: u8 = 32;

/// Bits of an IPv6 address.
const BITS_V6: u8 = 128;

/// One network; an address alone is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkFault {
    /// The part before the slash.
    #[error("not an address or network")]
    Address,
    /// The part behind the slash.
    #[error("behind the slash stands no number from 0 to {most}")]
    Prefix {
        /// The bits of such an address.
        most: u8,
    },
    /// Bits behind the prefix are set.
    #[error("the network of this length is {0}")]
    HostBits(Network),
    /// IPv4 written as IPv6.
    #[error("IPv4 written as IPv6")]
    Mapped,
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or an address alone.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(text: &str) -> Result<Self, NetworkFault> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let first: IpAddr = address.parse().map_err(|_| NetworkFault::Address)?;
        if first.to_canonical() != first {
            return Err(NetworkFault::Mapped);
        }
        let most = if first.is_ipv4() { BITS_V4 } else { BITS_V6 };
        let fault = NetworkFault::Prefix { most };
        let prefix = match length {
            None => most,
            // No sign, no leading zero: one way to write a number.
            Some(digits) if digits.starts_with(['+', '0']) && digits != "0" => return Err(fault),
            Some(digits) => digits.parse().ok().filter(|prefix| *prefix <= most).ok_or(fault)?,
        };
        let network = Self { first: masked(first, prefix), prefix };
        if network.first == first { Ok(network) } else { Err(NetworkFault::HostBits(network)) }
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }

    /// Whether every address of its kind lies in it.
    pub const fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The address with the bits behind the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(u32::from(BITS_V4.saturating_sub(prefix))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(u32::from(BITS_V6.saturating_sub(prefix))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_and_no_others() {
        for (network, inside, outside) in [
            (
                "10.0.0.0/8",
                vec!["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
                vec!["9.255.255.255", "11.0.0.0", "::a"],
            ),
            ("192.0.2.1", vec!["192.0.2.1"], vec!["192.0.2.0", "192.0.2.2"]),
            ("192.0.2.128/25", vec!["192.0.2.128", "192.0.2.255"], vec!["192.0.2.127"]),
            ("0.0.0.0/0", vec!["0.0.0.0", "255.255.255.255"], vec!["::", "2001:db8::1"]),
            ("2001:db8::/33", vec!["2001:db8:7fff::1"], vec!["2001:db8:8000::1", "10.0.0.1"]),
            ("::/0", vec!["::", "2001:db8::1"], vec!["10.0.0.1", "::ffff:10.0.0.1"]),
            ("2001:db8::1", vec!["2001:db8::1"], vec!["2001:db8::2"]),
        ] {
            let read = Network::parse(network).unwrap();
            let holds = |address: &str| read.contains(address.parse().unwrap());
            inside.into_iter().for_each(|address| assert!(holds(address), "{address} in {network}"));
            outside.into_iter().for_each(|address| assert!(!holds(address), "{address} not in {network}"));
        }
    }

    #[test]
    fn what_is_no_network_says_why() {
        let (v4, v6) = (NetworkFault::Prefix { most: 32 }, NetworkFault::Prefix { most: 128 });
        for (text, expected) in [
            ("", NetworkFault::Address),
            ("balancer.example.com", NetworkFault::Address),
            ("10.0.0/8", NetworkFault::Address),
            ("010.0.0.0/8", NetworkFault::Address),
            (" 10.0.0.0/8", NetworkFault::Address),
            ("10.0.0.1:587", NetworkFault::Address),
            ("fe80::1%eth0", NetworkFault::Address),
            ("10.0.0.0/", v4),
            ("10.0.0.0/33", v4),
            ("10.0.0.0/+8", v4),
            ("10.0.0.0/08", v4),
            ("10.0.0.0/8/8", v4),
            ("10.0.0.0/255.0.0.0", v4),
            ("2001:db8::/129", v6),
            ("::ffff:10.0.0.0/104", NetworkFault::Mapped),
            ("10.0.0.1/8", NetworkFault::HostBits(Network::parse("10.0.0.0/8").unwrap())),
            ("2001:db8::1/32", NetworkFault::HostBits(Network::parse("2001:db8::/32").unwrap())),
        ] {
            assert_eq!(Network::parse(text), Err(expected), "{text:?}");
        }
    }
}
