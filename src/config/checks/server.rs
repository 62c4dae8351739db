//! The server's own: name, listeners, certificates, limits, deadlines, log.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::queue::MEMORY_LEAST;
use super::{Checking, ENDING_SOON_DAYS, Secrecy};
use crate::config::nearest::nearest;
use crate::config::settings::{
    ConnectionLimits, Deadlines, ListenerMode, ListenerSettings, LogFormat, LogLevel, LogSettings, ReceivedSettings,
    ReloadSettings, ReportSettings, Shown, Watching,
};
use crate::config::units::{size_text, wait_text};
use crate::config::written::{
    Written, WrittenDeadlines, WrittenListener, WrittenListenerMode, WrittenLog, WrittenLogFormat, WrittenLogLevel,
    WrittenReceived, WrittenRefusal, WrittenReload, WrittenReports, WrittenTls, WrittenUpstream, WrittenVersion,
    WrittenWatch,
};
use crate::mail::header::{FIELDS_MAX, HeaderLimits, LINE_MAX};
use crate::mail::{Address, Domain, ReversePath};
use crate::networks::{Network, NetworkFault};
use crate::session::{Onward, Promises, SessionSettings};
use crate::sys::WallTime;
use crate::tls::{ListenerTls, MinVersion, RefusalMode, ServerCertificate, TakenPins, read};

/// RFC 5321 §4.5.3.1.7: a server must be able to take 64 K octets.
const MESSAGE_SIZE_LEAST: u64 = 64 * 1024;
/// RFC 5321 §4.5.3.1.8: a server must take 100 recipients.
const RECIPIENTS_LEAST: u32 = 100;
/// RFC 5321 §4.5.3.2.7: a server should wait five minutes for the next command.
const COMMAND_WAIT_LEAST: Duration = Duration::from_secs(300);
/// The shortest pause between two looks at the files.
const POLL_LEAST: Duration = Duration::from_secs(1);
/// The smallest header section that mail of real shape gets through with.
const HEADER_SIZE_LEAST: u64 = 4 * 1024;
/// The largest header section: it is held in memory whole, and takes `queue.memory` for that.
const HEADER_SIZE_MOST: u64 = 16 * 1024 * 1024;

/// What most other parts need.
pub(super) struct Basics {
    pub(super) hostname: String,
    pub(super) data_dir: PathBuf,
}

/// How much the server takes.
pub(super) struct Limits {
    pub(super) session: SessionSettings,
    pub(super) header: HeaderLimits,
    pub(super) connections: ConnectionLimits,
}

impl Checking<'_> {
    pub(super) fn basics(&mut self, written: &Written) -> Option<Basics> {
        let hostname = self.required(
            "hostname",
            written.hostname.as_ref(),
            "write the server's name, like hostname = \"mail.example.com\"",
        );
        let hostname = hostname.and_then(|name| self.hostname(&name));
        let data_dir = self.required(
            "data_dir",
            written.data_dir.as_ref(),
            "write the directory for the queue, like data_dir = \"/var/lib/sealpost\"",
        );
        let data_dir = data_dir.map(|written| self.resolve(&written));
        if let Some(path) = data_dir.as_ref().filter(|path| path.is_file()) {
            let wrong = format!("{}: is a file, not a directory", path.display());
            self.findings.mistake("data_dir", wrong, "name a directory, which is made when it is not there");
        }
        Some(Basics { hostname: hostname?, data_dir: data_dir? })
    }

    fn hostname(&mut self, name: &str) -> Option<String> {
        let Ok(domain) = Domain::parse(name) else {
            self.findings.mistake(
                "hostname",
                format!("{name:?}: not a domain name"),
                "write a name like \"mail.example.com\"",
            );
            return None;
        };
        if !domain.ascii().contains('.') && domain.ascii() != "localhost" {
            let remedy = "write the whole name, like \"mail.example.com\" (RFC 5321 section 2.3.5)";
            self.findings.warning(
                "hostname",
                format!("{name:?}: not fully qualified; upstreams may refuse it in EHLO"),
                remedy,
            );
        }
        Some(domain.ascii().to_owned())
    }

    pub(super) fn listeners(&mut self, written: &Written) -> Vec<ListenerSettings> {
        if written.listener.is_empty() && !self.findings.origins().is_spoiled("listener") {
            self.findings.mistake(
                "listener",
                "is missing: nobody could connect",
                "write [[listener]] with address = \"0.0.0.0:587\" and mode = \"starttls\"",
            );
        }
        let mut seen = HashSet::new();
        let mut listeners = Vec::new();
        for (index, entry) in written.listener.iter().enumerate() {
            let path = format!("listener[{index}]");
            let key = format!("{path}.address");
            let Some(text) = self.required(&key, entry.address.as_ref(), "write address = \"0.0.0.0:587\"") else {
                continue;
            };
            let Some(address) = self.listen_address(&key, &text) else { continue };
            if address.port() != 0 && !seen.insert(address) {
                self.findings.mistake(
                    &key,
                    format!("{text:?}: another listener has this address"),
                    "remove one of the two",
                );
            }
            let mode = match entry.mode.unwrap_or(WrittenListenerMode::Starttls) {
                WrittenListenerMode::Starttls => ListenerMode::StartTls,
                WrittenListenerMode::Implicit => ListenerMode::Implicit,
                WrittenListenerMode::ProxiedTls => ListenerMode::ProxiedTls,
            };
            self.warn_of_swapped_mode(&path, address, mode);
            let (client_cas, pins) = self.listener_trust(&path, entry, written);
            listeners.push(ListenerSettings {
                address,
                mode,
                refusal: refusal(entry.refusal.unwrap_or(written.tls.refusal)),
                client_cas,
                pins,
                balancers: self.balancers(&path, entry),
                vouchers: self.vouchers(&path, entry, mode),
            });
        }
        self.warn_of_unheard_cas(written);
        listeners
    }

    /// A CA that counts at no listener.
    fn warn_of_unheard_cas(&mut self, written: &Written) {
        for (index, ca) in written.client_ca.iter().enumerate() {
            let taken = |listener: &WrittenListener| {
                listener.client_cas.as_ref().is_none_or(|names| names.iter().any(|name| Some(name) == ca.name.as_ref()))
            };
            if ca.name.is_some() && !written.listener.is_empty() && !written.listener.iter().any(taken) {
                let remedy = "name it in the client_cas of a listener, or take it out";
                self.findings.warning(&format!("client_ca[{index}]"), "never applies: no listener takes it", remedy);
            }
        }
    }

    /// Whom a listener trusts: all, unless it names CAs; then pinned certificates count only when that is written.
    fn listener_trust(
        &mut self,
        path: &str,
        entry: &WrittenListener,
        written: &Written,
    ) -> (Option<Vec<Arc<str>>>, TakenPins) {
        let pins = entry.pins.unwrap_or(entry.client_cas.is_none());
        let taken = if pins { TakenPins::All } else { TakenPins::None };
        let key = format!("{path}.client_cas");
        let known: Vec<&str> = written.client_ca.iter().filter_map(|ca| ca.name.as_deref()).collect();
        let named = entry.client_cas.as_deref().unwrap_or_default();
        for (index, name) in named.iter().enumerate().filter(|(_, name)| !known.contains(&name.as_str())) {
            let remedy = match nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "name a [[client_ca]] by its name".to_owned(),
            };
            self.findings.mistake(
                &format!("{key}[{index}]"),
                format!("{name:?}: there is no client_ca of this name"),
                remedy,
            );
        }
        let nobody = entry.client_cas.as_ref().is_some_and(Vec::is_empty) && !pins;
        if nobody && !self.findings.origins().is_spoiled(&key) {
            let remedy = "name a client_ca, or write pins = true for pinned certificates alone";
            self.findings.mistake(&key, "is empty: nobody could come in here", remedy);
        }
        (entry.client_cas.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect()), taken)
    }

    /// The networks of load balancers, where there are some.
    fn balancers(&mut self, path: &str, entry: &WrittenListener) -> Option<Vec<Network>> {
        let written = entry.proxy.as_ref()?;
        let key = format!("{path}.proxy");
        if written.is_empty() && !self.findings.origins().is_spoiled(&key) {
            let remedy = "name the networks of the load balancers, or take the key out";
            self.findings.mistake(&key, "is empty: nobody could connect", remedy);
        }
        let mut networks = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let key = format!("{key}[{index}]");
            match Network::parse(text) {
                Ok(network) => {
                    if network.is_everything() {
                        let wrong = format!("{text:?}: whoever connects may claim any address");
                        self.findings.warning(&key, wrong, "name the load balancers alone");
                    }
                    networks.push(network);
                }
                Err(fault) => self.findings.mistake(&key, format!("{text:?}: {fault}"), remedy_for(fault)),
            }
        }
        Some(networks)
    }

    fn listen_address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            let remedy = "write an IP address and a port, like \"0.0.0.0:587\", \"[::]:587\", \"127.0.0.1:1587\"";
            self.findings.mistake(key, format!("{text:?}: not an address to listen on"), remedy);
        }
        address
    }

    /// RFC 8314 §7.3, §3.3: 465 is implicit TLS, 587 STARTTLS; a client that expects the one hangs on the other.
    fn warn_of_swapped_mode(&mut self, path: &str, address: SocketAddr, mode: ListenerMode) {
        let expected = match address.port() {
            // Its clients are load balancers.
            _ if mode == ListenerMode::ProxiedTls => mode,
            465 => ListenerMode::Implicit,
            587 => ListenerMode::StartTls,
            _ => mode,
        };
        if expected != mode {
            let word = if expected == ListenerMode::Implicit { "implicit" } else { "starttls" };
            let wrong = format!("clients expect mode = \"{word}\" on port {}", address.port());
            self.findings.warning(&format!("{path}.mode"), wrong, ());
        }
    }

    pub(super) fn tls(&mut self, written: &WrittenTls, hostname: Option<&str>) -> Option<ListenerTls> {
        let mut pairs = Vec::new();
        if written.certificate.is_some() || written.private_key.is_some() || written.certificates.is_empty() {
            pairs.push(("tls".to_owned(), written.certificate.clone(), written.private_key.clone()));
        }
        for (index, entry) in written.certificates.iter().enumerate() {
            pairs.push((format!("tls.certificates[{index}]"), entry.certificate.clone(), entry.private_key.clone()));
        }
        let expected = pairs.len();
        let mut certificates = Vec::new();
        for (path, certificate, key) in pairs {
            certificates.extend(self.server_certificate(&path, certificate.as_ref(), key.as_ref()));
        }
        self.warn_of_foreign_names(&certificates, hostname);
        let min_version = match written.min_version {
            WrittenVersion::V12 => MinVersion::Tls12,
            WrittenVersion::V13 => MinVersion::Tls13,
        };
        let refusal = refusal(written.refusal);
        (certificates.len() == expected).then_some(ListenerTls { certificates, min_version, refusal })
    }

    fn server_certificate(
        &mut self,
        path: &str,
        certificate: Option<&String>,
        key: Option<&String>,
    ) -> Option<ServerCertificate> {
        let (certificate_key, private_key_key) = (format!("{path}.certificate"), format!("{path}.private_key"));
        let certificate = self.required(
            &certificate_key,
            certificate,
            "write the file of the server's certificate chain, PEM, leaf first",
        );
        let key = self.required(&private_key_key, key, "write the file of the certificate's private key, PEM");
        let chain = certificate.as_ref().and_then(|file| {
            let contents = self.read(&certificate_key, file, Secrecy::Public)?;
            self.taken(&certificate_key, file, read::certificates(&contents.octets))
        });
        let key = key.and_then(|file| {
            let contents = self.read(&private_key_key, &file, Secrecy::Secret)?;
            self.taken(&private_key_key, &file, read::private_key(&contents.octets))
        });
        if let Some(leaf) = chain.as_ref().and_then(|chain| chain.first()) {
            self.check_dates_of_own(&certificate_key, leaf);
        }
        self.warn_of_gaps(&certificate_key, chain.as_deref().unwrap_or_default());
        let place = self.resolve(&certificate?).display().to_string();
        let made = ServerCertificate { place, chain: chain?, key: key? };
        self.try_listener(&certificate_key, &private_key_key, &made).then_some(made)
    }

    /// A certificate and a key that belong together and that TLS can use: a listener is made of them, and dropped.
    fn try_listener(&mut self, certificate_key: &str, key: &str, certificate: &ServerCertificate) -> bool {
        let alone = ListenerTls {
            certificates: vec![certificate.clone()],
            min_version: MinVersion::Tls12,
            refusal: RefusalMode::Reply,
        };
        let made = alone.server_config(&Arc::default(), self.clock);
        if let Err(fault) = &made {
            let key = if fault.is_of_certificate() { certificate_key } else { key };
            self.findings.mistake(key, fault.to_string(), ());
        }
        made.is_ok()
    }

    /// What a reader of files gave, or a mistake with the file's name.
    pub(super) fn taken<T, F: std::fmt::Display>(&mut self, key: &str, file: &str, read: Result<T, F>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                let path = self.resolve(file);
                self.findings.mistake(key, format!("{}: {fault}", path.display()), ());
                None
            }
        }
    }

    fn check_dates_of_own(&mut self, key: &str, leaf: &[u8]) {
        let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else {
            self.findings.mistake(key, "the first certificate is malformed", "export it again");
            return;
        };
        // RFC 5280 §4.2.1.12: without the extension it is for anything; with it, clients want serverAuth.
        if let Ok(Some(uses)) = leaf.extended_key_usage()
            && !(uses.value.server_auth || uses.value.any)
        {
            self.findings.mistake(
                key,
                "the certificate is not for servers (its extended key usage lacks serverAuth), so no client accepts it",
                "`sealpost pki server` makes one that is; of another CA, ask for one for TLS servers",
            );
        }
        let from = WallTime::from_seconds(leaf.validity().not_before.timestamp());
        let until = WallTime::from_seconds(leaf.validity().not_after.timestamp());
        let days_left = (until.seconds() - self.now.seconds()).div_euclid(86_400);
        if self.now > until {
            self.findings.mistake(key, format!("the certificate has expired on {}", until.rfc3339()), "renew it");
        } else if self.now < from {
            self.findings.mistake(
                key,
                format!("the certificate is not valid before {}", from.rfc3339()),
                "wait, or set the clock",
            );
        } else if days_left < ENDING_SOON_DAYS {
            self.findings.warning(key, format!("the certificate ends on {}", until.rfc3339()), "renew it soon");
        }
    }

    /// Clients compare the name they connect to with the certificate's names (RFC 6125 §6); ours should be among them.
    fn warn_of_foreign_names(&mut self, certificates: &[ServerCertificate], hostname: Option<&str>) {
        let Some(hostname) = hostname.filter(|_| !certificates.is_empty()) else { return };
        let named = certificates
            .iter()
            .filter_map(|one| one.chain.first())
            .any(|leaf| x509_parser::parse_x509_certificate(leaf).is_ok_and(|(_, leaf)| is_for(&leaf, hostname)));
        if !named {
            let wrong =
                format!("no certificate is for {hostname:?}: clients that connect to this name will not trust it");
            self.findings.warning("tls.certificate", wrong, "get one with this name, or set hostname to a name it has");
        }
    }

    pub(super) fn limits(&mut self, written: &Written, basics: Option<&Basics>) -> Option<Limits> {
        let limits = &written.limits;
        self.at_least("limits.connections", limits.connections, 1, "nobody could connect");
        self.at_least("limits.connections_per_address", limits.connections_per_address, 1, "nobody could connect");
        if let Some(number) = limits.connections_per_identity {
            self.at_least("limits.connections_per_identity", number, 1, "nobody could send");
        }
        // Unless set, as many are left to others as one alone can take.
        let per_identity = limits.connections_per_identity.unwrap_or(limits.connections.div_ceil(2));
        self.at_least("limits.connections_per_minute", limits.connections_per_minute, 1, "nobody could connect");
        self.at_least("limits.auth_failures", limits.auth_failures, 1, "the first AUTH would end the session");
        self.at_least("limits.idle_commands", limits.idle_commands, 1, "the first NOOP would end the session");
        let why = "RFC 5321 section 4.5.3.1.8 has servers take 100";
        self.at_least("limits.recipients_per_transaction", limits.recipients_per_transaction, RECIPIENTS_LEAST, why);
        if limits.message_size.0 < MESSAGE_SIZE_LEAST {
            let wrong = format!(
                "{}: too small; RFC 5321 section 4.5.3.1.7 has servers take 64 KiB",
                size_text(limits.message_size.0)
            );
            self.findings.mistake("limits.message_size", wrong, ());
        }
        if !(HEADER_SIZE_LEAST..=HEADER_SIZE_MOST).contains(&limits.header_size.0) {
            let wrong = format!("{}: not between 4 KiB and 16 MiB", size_text(limits.header_size.0));
            self.findings.mistake("limits.header_size", wrong, ());
        }
        if limits.header_size.0 > written.queue.memory.0 && written.queue.memory.0 >= MEMORY_LEAST {
            let wrong = format!(
                "{}: more than queue.memory, {}, in which a header section is held while it is read",
                size_text(limits.header_size.0),
                size_text(written.queue.memory.0)
            );
            self.findings.mistake("limits.header_size", wrong, "make it smaller, or queue.memory larger");
        }
        let postmaster = written.postmaster.as_ref().and_then(|text| self.address("postmaster", text));
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Some(Limits {
            session: SessionSettings {
                hostname: basics?.hostname.clone(),
                message_size_max: limits.message_size.0,
                recipients_max: number(limits.recipients_per_transaction),
                postmaster,
                refusal: refusal(written.tls.refusal),
                auth_failures_max: limits.auth_failures,
                idle_commands_max: limits.idle_commands,
                header: self.header_rules(&written.header),
                // As long as it is tried, it may wait before.
                promises: Promises { onward: Onward::Unproved, hold_max: written.queue.give_up_after.0 },
            },
            header: HeaderLimits {
                section: usize::try_from(limits.header_size.0).unwrap_or(usize::MAX),
                line: LINE_MAX,
                fields: FIELDS_MAX,
            },
            connections: ConnectionLimits {
                connections: number(limits.connections),
                connections_per_address: number(limits.connections_per_address),
                connections_per_identity: number(per_identity),
                connections_per_minute: limits.connections_per_minute,
            },
        })
    }

    pub(super) fn at_least(&mut self, key: &str, number: u32, least: u32, otherwise: &str) {
        if number < least {
            self.findings.mistake(key, format!("{number}: {otherwise}"), format!("write {least} or more"));
        }
    }

    pub(super) fn address(&mut self, key: &str, text: &str) -> Option<Address> {
        match Address::parse(text) {
            Ok(address) => Some(address),
            Err(fault) => {
                self.findings.mistake(
                    key,
                    format!("{text:?}: {fault}"),
                    "write an address like \"postmaster@example.com\"",
                );
                None
            }
        }
    }

    pub(super) fn deadlines(&mut self, written: &WrittenDeadlines) -> Deadlines {
        let waits = [
            ("handshake", written.handshake),
            ("command", written.command),
            ("write", written.write),
            ("transaction", written.transaction),
            ("rate_window", written.rate_window),
            ("session_max", written.session_max),
        ];
        for (name, wait) in waits {
            if wait.0 < Duration::from_secs(1) {
                self.findings.mistake(&format!("deadlines.{name}"), "under one second: nobody could be so fast", ());
            }
        }
        if written.command.0 < COMMAND_WAIT_LEAST {
            self.findings.warning(
                "deadlines.command",
                "under the five minutes that RFC 5321 section 4.5.3.2.7 asks for",
                (),
            );
        }
        Deadlines {
            handshake: written.handshake.0,
            command: written.command.0,
            write: written.write.0,
            transaction: written.transaction.0,
            rate_min: written.rate_min.0,
            rate_window: written.rate_window.0,
            session_max: written.session_max.0,
        }
    }

    pub(super) fn reload(&mut self, written: WrittenReload) -> ReloadSettings {
        if written.poll.0 < POLL_LEAST {
            let wrong = format!("{}: the disk would be looked at without a pause", wait_text(written.poll.0));
            self.findings.mistake("reload.poll", wrong, "write \"1s\" or more");
        }
        let watch = match written.watch {
            WrittenWatch::Files => Watching::Files,
            WrittenWatch::All => Watching::All,
            WrittenWatch::Off => Watching::Off,
        };
        ReloadSettings { watch, poll: written.poll.0 }
    }

    pub(super) fn reports(&mut self, written: &Written, basics: Option<&Basics>) -> Option<ReportSettings> {
        let WrittenReports { from, envelope_sender, upstream, postmaster } = &written.reports;
        let postmaster = postmaster.as_ref().map(|text| self.address("reports.postmaster", text));
        let envelope_sender = match envelope_sender.as_deref() {
            None | Some("" | "<>") => Some(ReversePath::Null),
            Some(text) => self.address("reports.envelope_sender", text).map(ReversePath::Address),
        };
        if let Some(name) = upstream {
            self.check_that_it_is_an_upstream("reports.upstream", name, &written.upstream);
        }
        let from = match from {
            Some(text) => self.address("reports.from", text),
            None => Address::parse(&format!("MAILER-DAEMON@{}", basics?.hostname)).ok(),
        };
        Some(ReportSettings {
            from: from?,
            envelope_sender: envelope_sender?,
            upstream: upstream.clone(),
            // A mistake in it has been told.
            postmaster: postmaster.flatten(),
        })
    }

    fn check_that_it_is_an_upstream(&mut self, key: &str, name: &str, upstreams: &[WrittenUpstream]) {
        let names: Vec<&str> = upstreams.iter().filter_map(|one| one.name.as_deref()).collect();
        if !names.contains(&name) {
            let remedy = match nearest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => "write the name of one of them".to_owned(),
            };
            self.findings.mistake(key, format!("{name:?}: no [[upstream]] is called so"), remedy);
        }
    }
}

fn remedy_for(fault: NetworkFault) -> String {
    match fault {
        NetworkFault::HostBits(network) => format!("write \"{network}\", or the address of one host without a slash"),
        NetworkFault::Mapped => "write it as IPv4, like \"10.0.0.0/8\"".to_owned(),
        NetworkFault::Address | NetworkFault::Prefix { .. } => {
            "write networks or addresses, like \"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::/32\"".to_owned()
        }
    }
}

fn refusal(written: WrittenRefusal) -> RefusalMode {
    match written {
        WrittenRefusal::Reply => RefusalMode::Reply,
        WrittenRefusal::Defer => RefusalMode::Defer,
        WrittenRefusal::Alert => RefusalMode::Alert,
    }
}

/// Whether a certificate has this name among its DNS names; a `*` stands for the whole first label (RFC 6125 §6.4.3).
fn is_for(certificate: &X509Certificate<'_>, hostname: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    names.value.general_names.iter().any(|name| {
        let GeneralName::DNSName(name) = name else { return false };
        match (name.strip_prefix("*."), hostname.split_once('.')) {
            (Some(domain), Some((_, rest))) => rest.eq_ignore_ascii_case(domain),
            _ => name.eq_ignore_ascii_case(hostname),
        }
    })
}

pub(super) fn received(written: WrittenReceived) -> ReceivedSettings {
    let shown = |flag| if flag { Shown::Yes } else { Shown::No };
    ReceivedSettings { identity: shown(written.identity), client_address: shown(written.client_address) }
}

pub(super) fn log(written: WrittenLog) -> LogSettings {
    let format = match written.format {
        WrittenLogFormat::Auto => LogFormat::Auto,
        WrittenLogFormat::Text => LogFormat::Text,
        WrittenLogFormat::Json => LogFormat::Json,
        WrittenLogFormat::Journald => LogFormat::Journald,
    };
    let level = match written.level {
        WrittenLogLevel::Error => LogLevel::Error,
        WrittenLogLevel::Warn => LogLevel::Warn,
        WrittenLogLevel::Info => LogLevel::Info,
        WrittenLogLevel::Debug => LogLevel::Debug,
        WrittenLogLevel::Trace => LogLevel::Trace,
    };
    LogSettings { format, level }
}
