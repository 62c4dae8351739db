//! How upstreams are reached: address and port, look-up, name servers, the address of ours that they see.

use std::net::{IpAddr, SocketAddr};

use super::Checking;
use crate::config::written::{WrittenDns, WrittenLookup};
use crate::mail::Domain;
use crate::upstream::{LookUp, SourceAddresses};

/// The port of DNS.
const DNS_PORT: u16 = 53;
/// The port of a mail exchange (RFC 5321 §4.5.4.2), unless another is written.
const EXCHANGE_PORT: u16 = 25;
/// Name servers at most: more is a slip.
const NAME_SERVERS_MOST: usize = 8;

impl Checking<'_> {
    /// The host and port of an upstream; which of them are to be written hangs on what is looked up.
    pub(super) fn upstream_address(&mut self, key: &str, text: &str, lookup: LookUp) -> Option<(String, u16)> {
        let domain = || Domain::parse(text).ok().map(|domain| domain.ascii().to_owned());
        let with_port = split_address(text);
        let is_literal = with_port.as_ref().is_some_and(|(host, _)| host.parse::<IpAddr>().is_ok());
        let (found, remedy) = match lookup {
            LookUp::Address => (
                with_port,
                "write a host and a port, like \"smtp.example.net:587\", \"192.0.2.1:25\", \"[2001:db8::1]:25\"",
            ),
            LookUp::Exchange => (
                with_port.filter(|_| !is_literal).or_else(|| Some((domain()?, EXCHANGE_PORT))),
                "with lookup = \"mx\" write a domain, like \"example.net\"; a port behind it if it is not 25",
            ),
            LookUp::Service => (
                domain().map(|host| (host, 0)),
                "with lookup = \"srv\" write a domain alone, like \"example.net\": the record says the port",
            ),
        };
        if found.is_none() {
            self.findings.mistake(key, format!("{text:?}: not the address of a server"), remedy);
        }
        found
    }

    /// From where an upstream is connected to.
    pub(super) fn source_addresses(&mut self, path: &str, written: &[String]) -> SourceAddresses {
        let mut source = SourceAddresses::default();
        for (index, text) in written.iter().enumerate() {
            let key = format!("{path}.source_address[{index}]");
            let is_taken = match text.parse::<IpAddr>() {
                Ok(address) if address.is_unspecified() || address.is_multicast() => {
                    self.findings.mistake(&key, format!("{text:?}: not the address of a machine"), ());
                    false
                }
                Ok(IpAddr::V4(address)) => source.v4.replace(address).is_some(),
                Ok(IpAddr::V6(address)) => source.v6.replace(address).is_some(),
                Err(_) => {
                    let remedy = "write an IPv4 or IPv6 address of this machine, or one of each, without ports";
                    self.findings.mistake(&key, format!("{text:?}: not an IP address"), remedy);
                    false
                }
            };
            if is_taken {
                self.findings.mistake(&key, format!("{text:?}: there is another of its family"), "leave one out");
            }
        }
        source
    }

    /// The name servers to ask; none are the machine's.
    pub(super) fn name_servers(&mut self, written: &WrittenDns) -> Vec<SocketAddr> {
        let mut servers = Vec::new();
        for (index, text) in written.servers.iter().enumerate() {
            let plain = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
            match text.parse::<SocketAddr>().ok().or_else(plain).filter(|server| server.port() != 0) {
                Some(server) => servers.push(server),
                None => {
                    let remedy = "write IP addresses, like \"192.0.2.53\" or \"[2001:db8::53]:5353\"";
                    let wrong = format!("{text:?}: not the address of a name server");
                    self.findings.mistake(&format!("dns.servers[{index}]"), wrong, remedy);
                }
            }
        }
        if servers.len() > NAME_SERVERS_MOST {
            let wrong = format!("{} name servers: more than {NAME_SERVERS_MOST}", servers.len());
            self.findings.mistake("dns.servers", wrong, "name those that are nearest");
        }
        servers
    }
}

pub(super) fn lookup(written: Option<WrittenLookup>) -> LookUp {
    match written {
        None | Some(WrittenLookup::Address) => LookUp::Address,
        Some(WrittenLookup::Mx) => LookUp::Exchange,
        Some(WrittenLookup::Srv) => LookUp::Service,
    }
}

/// `host:port`; an IPv6 address stands in brackets.
fn split_address(text: &str) -> Option<(String, u16)> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then(|| (address.ip().to_string(), address.port()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    let host = Domain::parse(host).ok()?;
    Some((host.ascii().to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9525 §6.3: a certificate's names are held against A-labels.
    #[test]
    fn a_host_is_kept_as_certificates_and_dns_have_it() {
        for (address, expected) in [
            ("Smtp.Example.NET:587", Some(("smtp.example.net", 587))),
            ("b\u{fc}cher.example:25", Some(("xn--bcher-kva.example", 25))),
            ("[2001:db8::1]:25", Some(("2001:db8::1", 25))),
            ("192.0.2.1:0", None),
            ("smtp.example.net", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(split_address(address), expected, "{address}");
        }
    }
}
