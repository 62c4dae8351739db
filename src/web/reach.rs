//! How near to us an address is: where a URL may lead.
//!
//! | who says the URL                     | may lead to                                                                        |
//! |--------------------------------------|------------------------------------------------------------------------------------|
//! | the configuration                    | everywhere: the operator knows                                                     |
//! | a certificate                        | the Internet and private networks, where many a company has its CA; not this      |
//! |                                      | machine, not this link (routers), not the metadata of clouds, wherever that is     |
//! | a redirection                        | the Internet, or what is as near as the place that said it, the last one           |
//!
//! A certificate's URL counts as the configuration's where that names the same host and port for the same CA. Pure. Unknown is not public: networks that are set aside for something else (RFC 6890) count as private ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From this machine only; the unspecified address is taken for it too, since the system does.
    Loopback,
    /// From this link: routers, and the metadata of clouds.
    Link,
    /// From inside: RFC 1918, RFC 4193, RFC 6598, and what is no unicast address of the Internet.
    Private,
    /// From everywhere.
    Public,
}

impl Reach {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let octets @ [first, second, ..] = address.octets();
        if address.is_loopback() || first == 0 {
            Self::Loopback
        } else if address.is_link_local() || matches!(octets, [192, 0, 0, 192] | [100, 100, 100, 200]) {
            // The two: metadata of Oracle's and Alibaba's clouds.
            Self::Link
        } else if address.is_private() || (first == 100 && second & 0xc0 == 64) || first >= 224 || set_aside(octets) {
            Self::Private
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let [first, second, third, fourth, fifth, sixth, high, low] = address.segments();
        let embedded = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        if address.is_loopback() || address.is_unspecified() {
            Self::Loopback
        } else if first & 0xffc0 == 0xfe80 || (first, second) == (0xfd00, 0x0ec2) {
            // The second: metadata of Amazon's cloud.
            Self::Link
        } else if (first, second, third, fourth, fifth, sixth) == (0x64, 0xff9b, 0, 0, 0, 0) {
            // NAT64 (RFC 6052): what the IPv4 address behind it is.
            Self::of_v4(embedded)
        } else if first == 0x2002 {
            // 6to4 (RFC 3056): likewise.
            Self::of_v4(Ipv4Addr::from((u32::from(second) << 16) | u32::from(third)))
        } else if first & 0xe000 == 0x2000 && !set_aside_v6(first, second) {
            Self::Public
        } else {
            Self::Private
        }
    }

    /// Whether a redirection from here may lead there: to the Internet, or to what is as near as where the URL itself led.
    pub(super) fn may_lead_to(self, there: Self) -> bool {
        there == Self::Public || there == self
    }
}

/// Who says where to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    /// The operator.
    Configuration,
    /// A certificate; its CA is trusted, but seldom with what this machine alone can reach.
    Certificate,
    /// Who was asked last, and is reached so.
    Redirection(Reach),
}

impl Whence {
    pub(super) fn may_lead_to(self, there: Reach) -> bool {
        match self {
            Self::Configuration => true,
            Self::Certificate => matches!(there, Reach::Private | Reach::Public),
            Self::Redirection(from) => from.may_lead_to(there),
        }
    }
}

/// RFC 6890 §2.2.2: protocol assignments, documentation, relays to 6to4, benchmarks.
fn set_aside(octets: [u8; 4]) -> bool {
    matches!(octets, [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _])
}

/// RFC 6890 §2.2.3: protocol assignments (Teredo among them) and documentation.
fn set_aside_v6(first: u16, second: u16) -> bool {
    matches!((first, second), (0x2001, 0..0x0200 | 0x0db8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_a_url_decides_where_it_may_lead() {
        let places = [Reach::Loopback, Reach::Link, Reach::Private, Reach::Public];
        for (whence, expected) in [
            (Whence::Configuration, [true, true, true, true]),
            (Whence::Certificate, [false, false, true, true]),
            (Whence::Redirection(Reach::Loopback), [true, false, false, true]),
            (Whence::Redirection(Reach::Link), [false, true, false, true]),
            (Whence::Redirection(Reach::Private), [false, false, true, true]),
            (Whence::Redirection(Reach::Public), [false, false, false, true]),
        ] {
            assert_eq!(places.map(|there| whence.may_lead_to(there)), expected, "{whence:?}");
        }
    }

    #[test]
    fn each_address_is_as_near_as_its_network() {
        for (text, reach) in [
            ("127.0.0.1", Reach::Loopback),
            ("0.0.0.0", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("64:ff9b::7f00:1", Reach::Loopback),
            ("169.254.169.254", Reach::Link),
            ("fe80::1", Reach::Link),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("224.0.0.1", Reach::Private),
            ("255.255.255.255", Reach::Private),
            ("192.0.0.192", Reach::Link),
            ("192.0.0.193", Reach::Private),
            ("100.100.100.200", Reach::Link),
            ("100.100.100.201", Reach::Private),
            ("fd00:ec2::254", Reach::Link),
            ("198.18.0.1", Reach::Private),
            ("198.19.255.255", Reach::Private),
            ("192.88.99.1", Reach::Private),
            ("2002:7f00:1::", Reach::Loopback),
            ("2002:a00:1::1", Reach::Private),
            ("2001:0:4136:e378::1", Reach::Private),
            ("2001:db8::1", Reach::Private),
            ("192.0.1.1", Reach::Public),
            ("198.20.0.1", Reach::Public),
            ("2002:c629:4::1", Reach::Public),
            ("2001:4860::1", Reach::Public),
            ("fd00::1", Reach::Private),
            ("ff02::1", Reach::Private),
            ("192.0.0.170", Reach::Private),
            ("192.0.2.1", Reach::Private),
            ("192.88.99.1", Reach::Private),
            ("198.19.0.1", Reach::Private),
            ("198.51.100.1", Reach::Private),
            ("203.0.113.1", Reach::Private),
            ("2001::1", Reach::Private),
            ("2001:db8::1", Reach::Private),
            ("::", Reach::Loopback),
            ("64:ff9b::a00:1", Reach::Private),
            ("198.41.0.4", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("192.0.1.1", Reach::Public),
            ("198.20.0.1", Reach::Public),
            ("2001:200::1", Reach::Public),
            ("2001:503:ba3e::2:30", Reach::Public),
            ("64:ff9b::c629:4", Reach::Public),
        ] {
            assert_eq!(Reach::of(text.parse().unwrap()), reach, "{text}");
        }
        for from in [Reach::Loopback, Reach::Link, Reach::Private, Reach::Public] {
            assert!(from.may_lead_to(Reach::Public) && from.may_lead_to(from), "{from:?}");
        }
        assert!(!Reach::Private.may_lead_to(Reach::Loopback) && !Reach::Public.may_lead_to(Reach::Private));
    }
}
