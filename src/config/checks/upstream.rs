//! Upstreams: where mail goes on to, and how it is protected on the way.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::reach::lookup;
use super::{Checking, Secrecy};
use crate::config::ListenerSettings;
use crate::config::written::{WrittenEightBit, WrittenMode, WrittenUpstream, WrittenUpstreamTls};
use crate::tls::read;
use crate::upstream::settings::NotAReplyPattern;
use crate::upstream::{
    Anchors, Chunking, Dane, EightBit, Manner, Mode, Pin, ReplyPattern, Security, SecurityMistake, Submitter,
    TlsDemand, TlsMaterial, Upstream,
};

/// Connections at once to one upstream at most: more is a slip.
const CONNECTIONS_MOST: u32 = 1000;

impl Checking<'_> {
    pub(super) fn upstreams(
        &mut self,
        written: &[WrittenUpstream],
        hostname: Option<&str>,
        listeners: &[ListenerSettings],
        name_servers: &[SocketAddr],
        dane: &Dane,
    ) -> Vec<Arc<Upstream>> {
        if written.is_empty() && !self.findings.origins().is_spoiled("upstream") {
            self.findings.mistake(
                "upstream",
                "is missing: mail could go nowhere",
                "write [[upstream]] with name and address",
            );
        }
        let mut names = HashSet::new();
        let mut upstreams = Vec::new();
        for (index, entry) in written.iter().enumerate() {
            let path = format!("upstream[{index}]");
            self.unique_name(&path, entry.name.as_ref(), &mut names);
            let mut made = self.upstream(&path, entry, hostname.unwrap_or_default());
            if let Some(upstream) = &mut made {
                upstream.dane = self.dane(&path, entry, &upstream.host, dane);
            }
            if let Some(upstream) = &made {
                self.check_that_it_is_not_us(&path, &upstream.host, upstream.port, listeners);
            }
            let servers = name_servers.to_vec();
            upstreams.extend(made.map(|upstream| Arc::new(Upstream { name_servers: servers, ..upstream })));
        }
        upstreams
    }

    /// A relay that sends to itself takes each message again and again, until its Received fields are too many.
    fn check_that_it_is_not_us(&mut self, path: &str, host: &str, port: u16, listeners: &[ListenerSettings]) {
        let address = if host == "localhost" { Some(IpAddr::V4(Ipv4Addr::LOCALHOST)) } else { host.parse().ok() };
        let is_there = |listener: &&ListenerSettings| {
            let own = listener.address.ip();
            listener.address.port() == port
                && address.is_some_and(|address: IpAddr| {
                    own == address || address.is_unspecified() || (own.is_unspecified() && address.is_loopback())
                })
        };
        if let Some(listener) = listeners.iter().find(is_there) {
            let wrong =
                format!("is the listener {} of this relay: mail would come round to it again", listener.address);
            self.findings.mistake(&format!("{path}.address"), wrong, "name the server that takes the mail on");
        }
    }

    /// A name that must be there, and there once only.
    pub(super) fn unique_name(
        &mut self,
        path: &str,
        name: Option<&String>,
        names: &mut HashSet<String>,
    ) -> Option<String> {
        let key = format!("{path}.name");
        let name = self.required(&key, name, "write name = \"...\": log and queue call it so")?;
        if !names.insert(name.clone()) {
            self.findings.mistake(&key, format!("{name:?}: there is another of this name"), "give each its own name");
        }
        Some(name)
    }

    fn upstream(&mut self, path: &str, written: &WrittenUpstream, hostname: &str) -> Option<Upstream> {
        let address = self.required(
            &format!("{path}.address"),
            written.address.as_ref(),
            "write address = \"smtp.example.net:587\"",
        );
        let lookup = lookup(written.lookup);
        let address = address.and_then(|text| self.upstream_address(&format!("{path}.address"), &text, lookup));
        let source = self.source_addresses(path, &written.source_address);
        let demand = written.tls.map_or(TlsDemand::Verify, demand);
        let credentials = self.credentials(path, written, demand);
        let host = address.as_ref().map_or("", |(host, _)| host.as_str());
        let security = self.security(path, written, demand, host);
        let ours = self.reply_patterns(path, &written.our_fault);
        if let Some(connections) = written.connections.filter(|number| !(1..=CONNECTIONS_MOST).contains(number)) {
            let wrong = format!("{connections}: not between 1 and {CONNECTIONS_MOST}");
            self.findings.mistake(&format!("{path}.connections"), wrong, ());
        }
        if written.messages_per_connection == Some(0) {
            self.findings.mistake(
                &format!("{path}.messages_per_connection"),
                "0: nothing could be sent",
                "write 1 or more",
            );
        }
        let (host, port) = address?;
        let mut upstream = Upstream::new(written.name.clone()?, host, port, hostname);
        upstream.security = security?;
        (upstream.lookup, upstream.source) = (lookup, source);
        upstream.credentials = credentials;
        upstream.ours.extend(ours);
        upstream.manner = manner(written);
        if let Some(connections) = written.connections.and_then(|number| usize::try_from(number).ok()) {
            upstream.connections = connections;
        }
        if let Some(messages) = written.messages_per_connection {
            upstream.messages_per_connection = messages;
        }
        if let Some(idle) = written.idle {
            upstream.idle_timeout = idle.0;
        }
        Some(upstream)
    }

    fn security(&mut self, path: &str, written: &WrittenUpstream, demand: TlsDemand, host: &str) -> Option<Security> {
        let mode = match written.mode {
            Some(WrittenMode::Implicit) => Mode::Implicit,
            Some(WrittenMode::Starttls) | None => Mode::StartTls,
        };
        self.warn_of_unused_tls(path, written, demand);
        let material = TlsMaterial {
            anchors: self.anchors(path, &written.ca, !written.pin.is_empty())?,
            pins: self.pins(path, &written.pin)?,
            server_name: written.server_name.clone(),
            identity: self.client_identity(path, written)?,
        };
        if host.is_empty() {
            return None;
        }
        match Security::new(mode, demand, host, material, Arc::clone(self.clock)) {
            Ok(security) => Some(security),
            Err(fault) => {
                self.findings.mistake(&format!("{path}.{}", key_of(&fault)), fault.to_string(), ());
                None
            }
        }
    }

    /// With anything but `verify`, nobody looks at the upstream's certificate.
    fn warn_of_unused_tls(&mut self, path: &str, written: &WrittenUpstream, demand: TlsDemand) {
        if demand == TlsDemand::Verify {
            return;
        }
        for (key, is_written) in [
            ("ca", !written.ca.is_empty()),
            ("pin", !written.pin.is_empty()),
            ("server_name", written.server_name.is_some()),
        ] {
            if is_written {
                self.findings.warning(
                    &format!("{path}.{key}"),
                    "never applies: the certificate is looked at only with tls = \"verify\"",
                    (),
                );
            }
        }
    }

    fn anchors(&mut self, path: &str, written: &[String], is_pinned: bool) -> Option<Anchors> {
        if written.is_empty() {
            return Some(if is_pinned { Anchors::Nobody } else { Anchors::System });
        }
        let mut given = Vec::new();
        for (index, file) in written.iter().enumerate() {
            let key = format!("{path}.ca[{index}]");
            let contents = self.read(&key, file, Secrecy::Public)?;
            given.extend(self.taken(&key, file, read::certificates(&contents.octets))?);
        }
        Some(Anchors::Given(given))
    }

    fn pins(&mut self, path: &str, written: &[String]) -> Option<Vec<Pin>> {
        let mut pins = Some(Vec::new());
        for (index, text) in written.iter().enumerate() {
            match text.parse::<Pin>() {
                Ok(pin) => pins.iter_mut().for_each(|pins| pins.push(pin)),
                Err(wanted) => {
                    let wrong = format!("{text:?}: not a pin");
                    self.findings.mistake(&format!("{path}.pin[{index}]"), wrong, wanted.to_string());
                    pins = None;
                }
            }
        }
        pins
    }

    fn client_identity(
        &mut self,
        path: &str,
        written: &WrittenUpstream,
    ) -> Option<Option<(Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>)>>
    {
        let (certificate_key, private_key_key) = (format!("{path}.certificate"), format!("{path}.private_key"));
        match (&written.certificate, &written.private_key) {
            (None, None) => Some(None),
            (Some(certificate), Some(key)) => {
                let chain = self.read(&certificate_key, certificate, Secrecy::Public);
                let chain = chain.and_then(|contents| {
                    self.taken(&certificate_key, certificate, read::certificates(&contents.octets))
                });
                let secret = self.read(&private_key_key, key, Secrecy::Secret);
                let secret =
                    secret.and_then(|contents| self.taken(&private_key_key, key, read::private_key(&contents.octets)));
                Some(Some((chain?, secret?)))
            }
            (Some(_), None) => {
                self.required::<String>(&private_key_key, None, "write the file of the certificate's private key");
                None
            }
            (None, Some(_)) => {
                self.required::<String>(&certificate_key, None, "write the file of the key's certificate");
                None
            }
        }
    }

    fn reply_patterns(&mut self, path: &str, written: &[String]) -> Vec<ReplyPattern> {
        let mut patterns = Vec::new();
        for (index, text) in written.iter().enumerate() {
            match text.parse() {
                Ok(pattern) => patterns.push(pattern),
                Err(NotAReplyPattern) => {
                    let wrong = format!("{text:?}: not a reply");
                    self.findings.mistake(&format!("{path}.our_fault[{index}]"), wrong, NotAReplyPattern.to_string());
                }
            }
        }
        patterns
    }
}

/// The key that a fault of the TLS settings is about.
fn key_of(fault: &SecurityMistake) -> &'static str {
    match fault {
        SecurityMistake::ImplicitWithoutTls | SecurityMistake::Tls(_) => "tls",
        SecurityMistake::ServerName(_) => "server_name",
        SecurityMistake::Anchor(_) | SecurityMistake::NoAnchors => "ca",
        SecurityMistake::Identity(_) => "private_key",
    }
}

fn manner(written: &WrittenUpstream) -> Manner {
    Manner {
        chunking: if written.chunking == Some(true) { Chunking::WhenOffered } else { Chunking::Never },
        eight_bit: match written.eight_bit {
            None | Some(WrittenEightBit::SendAnyway) => EightBit::SendAnyway,
            Some(WrittenEightBit::Encode) => EightBit::Encode,
            Some(WrittenEightBit::Report) => EightBit::Report,
        },
        submitter: if written.auth_in_mail == Some(true) { Submitter::Nobody } else { Submitter::Unsaid },
    }
}

fn demand(written: WrittenUpstreamTls) -> TlsDemand {
    match written {
        WrittenUpstreamTls::None => TlsDemand::None,
        WrittenUpstreamTls::Opportunistic => TlsDemand::Opportunistic,
        WrittenUpstreamTls::Require => TlsDemand::Require,
        WrittenUpstreamTls::Verify => TlsDemand::Verify,
    }
}
