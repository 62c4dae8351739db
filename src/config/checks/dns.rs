//! DANE: for which upstreams, and whether the name servers' word for DNSSEC counts.

use std::net::{IpAddr, SocketAddr};

use super::Checking;
use super::reach::lookup;
use crate::config::written::{WrittenDns, WrittenUpstream, WrittenUpstreamTls};
use crate::upstream::{Dane, LookUp};

impl Checking<'_> {
    /// Who is asked for TLSA records: these servers, or the machine's when there are none.
    pub(super) fn dane_by(&mut self, written: &WrittenDns, servers: &[SocketAddr]) -> Dane {
        if written.trusted && written.servers.is_empty() {
            let remedy = "write servers = [\"127.0.0.1\"], a resolver that checks DNSSEC";
            self.findings.mistake("dns.trusted", "true, and no servers are named whose word is to count", remedy);
        }
        let is_far = |server: &SocketAddr| !server.ip().is_loopback();
        if written.trusted && servers.iter().any(is_far) {
            let wrong =
                "the word of a server that is not on this machine counts: whoever stands between can say anything";
            self.findings.warning("dns.trusted", wrong, "run a resolver here, or write trusted = false");
        }
        let servers = servers.to_vec();
        if written.trusted { Dane::by_word_of(servers) } else { Dane::proved_here(servers) }
    }

    /// DANE for one upstream, where it is asked for and can be.
    pub(super) fn dane(&mut self, path: &str, written: &WrittenUpstream, host: &str, dane: &Dane) -> Option<Dane> {
        if !written.dane {
            return None;
        }
        let key = format!("{path}.dane");
        if host.parse::<IpAddr>().is_ok() {
            let wrong = "records for its certificate stand at a name, and address has none";
            self.findings.mistake(&key, wrong, "write the server's name in address");
        }
        if written.tls == Some(WrittenUpstreamTls::None) {
            let remedy = "write tls = \"opportunistic\", which holds where there are no records";
            self.findings.mistake(&key, "with tls = \"none\" there is no certificate to look at", remedy);
        }
        if lookup(written.lookup) != LookUp::Address {
            let wrong = "with lookup = \"mx\" or \"srv\" the servers are others than address, and it is not asked for records of theirs";
            self.findings.mistake(&key, wrong, "write the server's own name and port in address, without lookup");
        }
        if !written.pin.is_empty() {
            self.findings.mistake(&key, "beside pin: only one of them can say whose key it is", "take one of them out");
        }
        Some(dane.clone())
    }
}
