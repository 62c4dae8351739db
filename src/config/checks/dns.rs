//! `[dns]`: who is asked, and whether its word for DNSSEC counts.

use std::net::{IpAddr, SocketAddr};

use super::Checking;
use crate::config::written::{WrittenDns, WrittenUpstream, WrittenUpstreamTls};
use crate::upstream::Dane;

/// The port of DNS (RFC 1035 §4.2).
const PORT: u16 = 53;

impl Checking<'_> {
    /// Who is asked for TLSA records.
    pub(super) fn dns(&mut self, written: &WrittenDns) -> Dane {
        let mut servers = Vec::new();
        for (index, text) in written.servers.iter().enumerate() {
            match server(text) {
                Some(server) => servers.push(server),
                None => {
                    let wrong = format!("{text:?}: not the address of a name server");
                    let remedy =
                        "write an address, with a port unless that is 53, like \"192.0.2.1\", \"127.0.0.1:5353\"";
                    self.findings.mistake(&format!("dns.servers[{index}]"), wrong, remedy);
                }
            }
        }
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
        if !written.pin.is_empty() {
            self.findings.mistake(&key, "beside pin: only one of them can say whose key it is", "take one of them out");
        }
        Some(dane.clone())
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT)))
}
