//! `sealpost upstream test`: connects to the upstreams of a configuration, shows what they say, and sends nothing.
//!
//! Beside a running daemon it is one connection more. Never: says MAIL; shows a password.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::ConfigArgument;
use super::exit::Exit;
use super::output::{self, Output};
use crate::config;
use crate::identity::CertificateFacts;
use crate::plain;
use crate::smtp::Reply;
use crate::sys::{Clock, SystemClock, SystemEntropy};
use crate::upstream::examination::{Examination, Visit, examine};
use crate::upstream::{LookUp, Phase, Security, SystemNetwork, Upstream, UpstreamFault};

/// `sealpost upstream`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost upstream test --config sealpost.toml\n  \
    sealpost upstream test --config sealpost.toml main\n  \
    sealpost upstream test --config sealpost.toml --json | jq 'select(.ready | not) | .name, .fault, .remedy'")]
pub struct UpstreamArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: UpstreamCommand,
}

/// What can be done with upstreams.
#[derive(Clone, Debug, Subcommand)]
pub enum UpstreamCommand {
    /// Connect to each upstream up to where mail would begin, show what was negotiated, and send nothing
    Test(TestArguments),
}

/// `sealpost upstream test`
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Examples:\n\n  sealpost upstream test --config sealpost.toml\n  sealpost upstream test --config sealpost.toml main --json\n\n\
    Shown are: the addresses of its name, those that were tried, the greeting, what EHLO offers in plaintext and inside TLS, TLS \
    version and cipher, the certificates with their names and dates, whether they are good enough and why not, and what became of AUTH.\n\n\
    It goes as far as a delivery goes before MAIL: to the next address where this one fails, but to no other once a password was refused. Nothing is sent. \
    It does not disturb a running daemon, and knows nothing of its state: `sealpost queue stats` tells how the daemon finds its upstreams."
)]
pub struct TestArguments {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// One JSON object for each upstream
    #[arg(long)]
    pub json: bool,
    /// Only these
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
}

/// Does what was asked.
///
/// # Errors
/// Nothing can be written, or the runtime can't be made.
pub fn run(arguments: &UpstreamArguments) -> anyhow::Result<ExitCode> {
    let UpstreamCommand::Test(arguments) = &arguments.command;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let settings = match config::load(&arguments.config.config, &super::environment(), &clock) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => return Ok(super::tell_mistakes(&mistakes)),
    };
    let is_wanted = |name: &String| arguments.names.is_empty() || arguments.names.contains(name);
    let wanted: Vec<_> = settings.upstreams.iter().filter(|upstream| is_wanted(&upstream.name)).collect();
    let mut is_ready = true;
    for name in arguments.names.iter().filter(|name| !wanted.iter().any(|one| one.name == **name)) {
        let known: Vec<&str> = settings.upstreams.iter().map(|one| one.name.as_str()).collect();
        eprintln!("sealpost: there is no upstream {name:?}; there are: {}", known.join(", "));
        is_ready = false;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let network = SystemNetwork::new(Arc::new(SystemEntropy));
    let mut out = Output::new();
    for upstream in wanted {
        let examination = runtime.block_on(examine(&network, upstream, &clock, &SystemEntropy));
        is_ready &= examination.is_ready();
        let routes: Vec<&str> = settings.routes.served_by(&upstream.name).collect();
        let report = Report::of(upstream, routes.join(", "), &examination, settings.session.message_size_max);
        // Whether it is ready is told by the exit code as well, to who reads nothing of this.
        match told(&report, arguments.json, &mut out) {
            Err(fault) if output::ended_early(&fault) => {}
            told => told?,
        }
    }
    Ok(if is_ready { ExitCode::SUCCESS } else { Exit::No.into() })
}

/// One upstream's report, at once: the next may take its time.
fn told(report: &Report, json: bool, out: &mut Output) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", plain::json(report)?)?;
    } else {
        report.write(out)?;
    }
    Ok(out.flush()?)
}

/// What is told of one upstream.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    routes: String,
    /// As it is configured.
    address: String,
    lookup: &'static str,
    /// Whether it would take mail.
    ready: bool,
    addresses: Vec<String>,
    tried: Vec<Tried>,
    fault: Option<String>,
    remedy: Option<&'static str>,
    /// What is not as it should be, though it would take mail.
    warning: Option<String>,
}

/// What is told of one address.
#[derive(Debug, Serialize)]
struct Tried {
    address: String,
    from: Option<String>,
    greeting: Option<String>,
    /// Before TLS, or all of it where there is none.
    ehlo: Option<Vec<String>>,
    ehlo_inside_tls: Option<Vec<String>>,
    tls: Option<Tls>,
    certificates: Vec<Certificate>,
    /// In a sentence.
    verification: String,
    auth: String,
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Tls {
    version: String,
    cipher: String,
}

#[derive(Debug, Serialize)]
struct Certificate {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
    fingerprint: String,
}

impl Report {
    fn of(upstream: &Upstream, routes: String, examination: &Examination, message_size: u64) -> Self {
        let looked_up = examination.addresses.as_ref();
        let last = examination.visits.last().and_then(|visit| visit.fault.as_ref()).or(looked_up.err());
        let host = if upstream.host.contains(':') { format!("[{}]", upstream.host) } else { upstream.host.clone() };
        let tried: Vec<Tried> = examination.visits.iter().map(|visit| Tried::of(upstream, visit)).collect();
        let takes = tried
            .last()
            .and_then(|tried| size_in(tried.ehlo_inside_tls.as_ref().or(tried.ehlo.as_ref())?))
            .filter(|size| *size < message_size);
        Self {
            name: upstream.name.clone(),
            routes,
            address: if upstream.lookup == LookUp::Service { host } else { format!("{host}:{}", upstream.port) },
            lookup: match upstream.lookup {
                LookUp::Address => "address",
                LookUp::Exchange => "mx",
                LookUp::Service => "srv",
            },
            ready: examination.is_ready(),
            addresses: looked_up.ok().into_iter().flatten().map(ToString::to_string).collect(),
            tried,
            fault: last.map(UpstreamFault::sentence),
            remedy: last.map(UpstreamFault::remedy),
            warning: takes.map(|size| {
                format!(
                    "it takes messages of up to {size} octets, and limits.message_size is {message_size}: what is larger is taken here and comes back to its \
                     sender; lower limits.message_size, or have the upstream take more"
                )
            }),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let by = if self.lookup == "address" { String::new() } else { format!(", by its {} records", self.lookup) };
        writeln!(out, "upstream {} of route {}: {}{by}", self.name, self.routes, self.address)?;
        row(out, "addresses", &self.addresses.join(", "))?;
        for tried in &self.tried {
            tried.write(out)?;
        }
        if let Some(warning) = &self.warning {
            row(out, "warning", warning)?;
        }
        match (&self.fault, self.remedy) {
            (Some(fault), Some(remedy)) => {
                row(out, "not ready", fault)?;
                row(out, "remedy", remedy)
            }
            _ => row(out, "ready", "it would take mail now; nothing was sent"),
        }
    }
}

impl Tried {
    fn of(upstream: &Upstream, visit: &Visit) -> Self {
        let said = |phase| visit.replies.iter().filter(move |(at, _)| *at == phase).map(|(_, reply)| reply);
        let hellos: Vec<Vec<String>> = said(Phase::Hello).map(keywords).collect();
        let is_implicit = matches!(upstream.security, Security::Implicit(_));
        let (before, inside) = if is_implicit { (None, hellos.first()) } else { (hellos.first(), hellos.get(1)) };
        let shown = visit.tls.as_ref().map_or(&visit.refused, |tls| &tls.certificates);
        Self {
            address: visit.address.to_string(),
            from: visit.from.map(|from| from.to_string()),
            greeting: said(Phase::Greeting).next().map(ToString::to_string),
            ehlo: before.cloned(),
            ehlo_inside_tls: inside.cloned(),
            tls: visit.tls.as_ref().map(|tls| Tls { version: tls.version.clone(), cipher: tls.cipher.clone() }),
            certificates: shown.iter().filter_map(|der| CertificateFacts::of(der).ok()).map(Certificate::of).collect(),
            verification: verification(visit),
            auth: match (said(Phase::Auth).next_back(), &upstream.credentials) {
                (Some(reply), _) => reply.to_string(),
                (None, Some(_)) => "was not come to".to_owned(),
                (None, None) => "no credentials are configured".to_owned(),
            },
            fault: visit.fault.as_ref().map(UpstreamFault::sentence),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let from = self.from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
        row(out, "tried", &format!("{}{from}", self.address))?;
        if let Some(greeting) = &self.greeting {
            row(out, "greeting", greeting)?;
        }
        if let Some(offered) = &self.ehlo {
            row(out, "EHLO", &offered.join(", "))?;
        }
        if let Some(tls) = &self.tls {
            row(out, "TLS", &format!("{}, {}", tls.version, tls.cipher))?;
        }
        for certificate in &self.certificates {
            let Certificate { subject, issuer, names, not_before, not_after, fingerprint } = certificate;
            let names = if names.is_empty() { String::new() } else { format!(", for {}", names.join(", ")) };
            row(out, "certificate", &format!("{subject}{names}"))?;
            row(out, "", &format!("issued by {issuer}; good from {not_before} to {not_after}"))?;
            row(out, "", &format!("fingerprint {fingerprint}"))?;
        }
        row(out, "verified", &self.verification)?;
        if let Some(offered) = &self.ehlo_inside_tls {
            row(out, "EHLO in TLS", &offered.join(", "))?;
        }
        row(out, "AUTH", &self.auth)?;
        self.fault.as_ref().map_or(Ok(()), |fault| row(out, "fault", fault))
    }
}

/// Whether the certificate was good enough, in a sentence.
fn verification(visit: &Visit) -> String {
    let fault = visit.fault.as_ref().filter(|fault| fault.phase == Phase::Tls);
    match (&visit.tls, fault, &visit.proof) {
        (_, Some(fault), _) => format!("no: {}", fault.sentence()),
        (None, None, _) => "no TLS was made".to_owned(),
        (Some(_), None, Some(proof)) => format!("yes, {proof}"),
        (Some(_), None, None) => "not looked at: only tls = \"verify\" does".to_owned(),
    }
}

/// What EHLO offers, without the name in the first line.
fn keywords(reply: &Reply) -> Vec<String> {
    reply.lines().iter().skip(1).cloned().collect()
}

/// The largest message that an upstream says it takes (RFC 1870 §4); none where it says nothing, or no limit (0).
fn size_in(offered: &[String]) -> Option<u64> {
    let sized = offered.iter().find_map(|line| {
        let (keyword, value) = line.split_once(' ')?;
        keyword.eq_ignore_ascii_case("SIZE").then(|| value.trim().parse().ok())
    });
    sized.flatten().filter(|size| *size > 0)
}

impl Certificate {
    fn of(facts: CertificateFacts) -> Self {
        let names = facts.names().filter(|(kind, _)| *kind != "subject").map(|(_, name)| name).collect();
        let summary = facts.summary;
        Self {
            subject: summary.subject,
            issuer: summary.issuer,
            names,
            not_before: summary.not_before.rfc3339(),
            not_after: summary.not_after.rfc3339(),
            fingerprint: summary.fingerprint.to_string(),
        }
    }
}

fn row(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    if name.is_empty() { writeln!(out, "{:>12}  {value}", "") } else { writeln!(out, "{name:>12}: {value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_takes_at_most_is_read_from_what_it_offers() {
        for (offered, size) in [
            (&["PIPELINING", "SIZE 10240000", "8BITMIME"][..], Some(10_240_000)),
            (&["size 7"], Some(7)),
            (&["SIZE 0"], None),
            (&["SIZE"], None),
            (&["SIZE much"], None),
            (&["SIZEABLE 5", "PIPELINING"], None),
            (&[], None),
        ] {
            let offered: Vec<String> = offered.iter().map(|&line| line.to_owned()).collect();
            assert_eq!(size_in(&offered), size, "{offered:?}");
        }
    }
}
