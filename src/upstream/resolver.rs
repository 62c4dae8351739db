//! Names to addresses: by the machine's resolver, or by DNS (hickory) where MX and SRV records are asked for or name servers are configured.
//!
//! Asked for each connection; what DNS has answered is kept for its time to live, an hour at most. What the answers say is ordered in `names`. What can
//! fail: everything, and it is told in words. Never: follows more than `HOSTS_MAX` hosts; says which name a certificate must carry.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::net::lookup_host;
use tokio::time::Instant;

use super::names::{Exchange, Service, exchanges, services};
use super::settings::{LookUp, Security, Upstream};
use crate::sys::Entropy;

/// How long an answer is kept at most, whatever its time to live.
const KEPT: Duration = Duration::from_secs(3600);
/// After so long the machine's configuration of DNS is read again.
pub(super) const READ_AGAIN: Duration = Duration::from_secs(600);
/// Answers that are kept at once.
const ANSWERS_MAX: u64 = 256;

/// Names to addresses.
#[derive(Debug)]
pub(super) struct Resolver {
    entropy: Arc<dyn Entropy>,
    made: Mutex<Option<Made>>,
}

/// A resolver of DNS, and what it was made by.
#[derive(Clone, Debug)]
struct Made {
    servers: Vec<SocketAddr>,
    resolver: TokioResolver,
    until: Instant,
}

impl Resolver {
    pub(super) fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, made: Mutex::default() }
    }

    /// The addresses of an upstream, in the order in which to try them.
    pub(super) async fn addresses(&self, upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = (upstream.host.as_str(), upstream.port);
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        match upstream.lookup {
            LookUp::Address if upstream.name_servers.is_empty() => Ok(lookup_host((host, port)).await?.collect()),
            LookUp::Address => addresses_of(&self.dns(upstream)?, host, port).await,
            LookUp::Exchange => self.by_exchange(upstream).await,
            LookUp::Service => self.by_service(upstream).await,
        }
    }

    async fn by_exchange(&self, upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
        let dns = self.dns(upstream)?;
        let answer = match dns.lookup(name(&upstream.host)?, RecordType::MX).await {
            Ok(answer) => answer,
            // RFC 5321 §5.1: without MX records the name itself is the exchange; a name that does not exist is none.
            Err(fault) if fault.is_no_records_found() && !fault.is_nx_domain() => {
                return addresses_of(&dns, &upstream.host, upstream.port).await;
            }
            Err(fault) => return Err(told("MX", &upstream.host, &fault)),
        };
        let records = answer.answers().iter().filter_map(|record| {
            let RData::MX(record) = &record.data else { return None };
            Some(Exchange { preference: record.preference, host: text(&record.exchange) })
        });
        let hosts = exchanges(records.collect(), &upstream.helo, &mut || self.entropy.next_u64());
        let hosts = hosts.map_err(io::Error::other)?;
        self.of_all(&dns, hosts.into_iter().map(|host| (host, upstream.port)).collect()).await
    }

    async fn by_service(&self, upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
        let dns = self.dns(upstream)?;
        // RFC 6186 §3.1, RFC 8314 §5.1.
        let service = match upstream.security {
            Security::Implicit(_) => "_submissions",
            Security::Plaintext | Security::Opportunistic(_) | Security::StartTls(_) => "_submission",
        };
        let asked = format!("{service}._tcp.{}", upstream.host);
        let answer = dns.lookup(name(&asked)?, RecordType::SRV).await.map_err(|fault| told("SRV", &asked, &fault))?;
        let records = answer.answers().iter().filter_map(|record| {
            let RData::SRV(record) = &record.data else { return None };
            let (priority, weight, port) = (record.priority, record.weight, record.port);
            Some(Service { priority, weight, port, host: text(&record.target) })
        });
        let hosts = services(records.collect(), &mut || self.entropy.next_u64()).map_err(io::Error::other)?;
        self.of_all(&dns, hosts).await
    }

    /// The addresses of several hosts; one that has none keeps the others from nothing.
    async fn of_all(&self, dns: &TokioResolver, hosts: Vec<(String, u16)>) -> io::Result<Vec<SocketAddr>> {
        let (mut found, mut first_fault) = (Vec::new(), None);
        for (host, port) in hosts {
            match addresses_of(dns, &host, port).await {
                Ok(addresses) => found.extend(addresses),
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
        }
        match first_fault {
            Some(fault) if found.is_empty() => Err(fault),
            Some(_) | None => Ok(found),
        }
    }

    /// The resolver of DNS for this upstream; made anew when its name servers are others, and now and then.
    fn dns(&self, upstream: &Upstream) -> io::Result<TokioResolver> {
        let now = super::vigil::present();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*made
            && made.servers == upstream.name_servers
            && now < made.until
        {
            return Ok(made.resolver.clone());
        }
        let resolver = resolver(&upstream.name_servers).map_err(io::Error::other)?;
        let servers = upstream.name_servers.clone();
        *made = Some(Made { servers, resolver: resolver.clone(), until: now + READ_AGAIN });
        Ok(resolver)
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = servers.iter().map(|server| {
            let port = |mut way: ConnectionConfig| {
                way.port = server.port();
                way
            };
            let ways = vec![port(ConnectionConfig::udp()), port(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, ways)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.cache_size = ANSWERS_MAX;
    options.positive_max_ttl = Some(KEPT);
    options.negative_max_ttl = Some(READ_AGAIN);
    builder.build()
}

async fn addresses_of(dns: &TokioResolver, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = dns.lookup_ip(name(host)?).await.map_err(|fault| told("address", host, &fault))?;
    Ok(found.iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// The name itself, and not one below the domains that the machine searches.
fn name(host: &str) -> io::Result<Name> {
    Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).map_err(io::Error::other)
}

/// A name as it is written; the root is empty.
fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn told(what: &str, host: &str, fault: &NetError) -> io::Error {
    io::Error::other(if fault.is_nx_domain() {
        format!("DNS: there is no name {host}")
    } else if fault.is_no_records_found() {
        format!("DNS: {host} has no {what} record")
    } else {
        format!("DNS: {what} of {host}: {fault}")
    })
}
