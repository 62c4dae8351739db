//! `sealpost explain`: what would be decided about a certificate and a mail, by which rule, and where that rule is written.
//!
//! Calls the same functions as a session does: `tls::verify`, the roster, `policy`, `content`; and shows the replies that a client would hear.
//! It can't show that somebody holds the certificate's key, which only a handshake proves. At a listener where load balancers vouch, it tells what
//! their word would be worth. Never: has an opinion of its own.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::exit::{self, Exit};
use super::{ExplainArguments, output};
use crate::config::text::pasteable;
use crate::config::{self, ListenerSettings, Settings, files};
use crate::content::{HeaderCollector, HeaderFacts, RECEIVED_MAX, Utf8Header, take_in};
use crate::credentials::{ExporterValue, Mechanism};
use crate::identity::{CertificateFacts, Digest256, Dispatch, Identity, Priorities, Resending, SecondFactor, Vouching};
use crate::mail::{Address, ForwardPath, ReversePath};
use crate::policy::{self, SenderField, Verdict};
use crate::route::{Delivery, Errand};
use crate::session::{Unidentified, replies};
use crate::smtp::data::{BareLf, DotReader, DotState, OctetFault};
use crate::smtp::{DotWriter, Reply};
use crate::sys::{Clock, SystemClock, WallTime};
use crate::tls::ocsp::{CertificateStatus, Known, Query};
use crate::tls::trace::{Step, Trace, trace};
use crate::tls::{
    Anchor, CertificateFault, OcspMode, PeerChain, Rejection, Trust, VerifiedChain, Witness, judge_asking, read,
};

/// Tells everything that would be decided.
///
/// # Errors
/// A file can't be read, or an address is none.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let settings = match config::load(&arguments.config.config, &super::environment(), &clock) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => return Ok(super::tell_mistakes(&mistakes)),
    };
    let listener = listener_at(&settings, arguments.listener)?;
    // Without one, everybody whom the configuration trusts anywhere.
    let trust = listener.map_or_else(|| Arc::clone(&settings.trust), |listener| settings.listener_trust(listener));
    let told_by = listener.and_then(|listener| listener.vouchers.first());
    let now = clock.now().wall;
    let mut explanation = Explanation {
        now,
        settings,
        trust,
        told_by,
        refusals: 0,
        revocation: Revocation::Known,
        factor: Factor::NotAsked,
    };
    let chain = PeerChain(read_chain(&arguments.cert)?);
    if let Some(identity) = explanation.certificate(&chain) {
        explanation.grant(&identity);
        if let Some(from) = &arguments.from {
            explanation.sender(&identity, &sender_of(from)?);
        }
        let from = arguments.from.as_deref().map(sender_of).transpose()?;
        for to in &arguments.to {
            explanation.recipient(&identity, from.as_ref(), &recipient_of(to)?);
        }
        explanation.number_of_recipients(&identity, arguments.to.len());
        if let Some(message) = &arguments.message {
            explanation.message(&identity, from.as_ref(), message)?;
        }
    }
    Ok(match (explanation.refusals, explanation.revocation) {
        (0, Revocation::Known) => ExitCode::SUCCESS,
        (0, Revocation::UpToResponder) => Exit::UpToResponder.into(),
        (_, _) => Exit::No.into(),
    })
}

fn listener_at(settings: &Settings, listener: Option<SocketAddr>) -> anyhow::Result<Option<&ListenerSettings>> {
    let Some(address) = listener else { return Ok(None) };
    let found = settings.listeners.iter().find(|listener| listener.address == address);
    let unknown =
        || exit::fault(Exit::Usage, format!("--listener {address}: the configuration has no [[listener]] there"));
    found.map(Some).ok_or_else(unknown)
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<rustls::pki_types::CertificateDer<'static>>> {
    let with = |exit, why: &dyn Display| exit::fault(exit, format!("{}: {why}", path.display()));
    let file = files::read(path).map_err(|wrong| with(Exit::NoInput, &wrong))?;
    read::certificates(&file.octets).map_err(|wrong| with(Exit::Data, &wrong))
}

fn no_address(option: &str, text: &str, wrong: &dyn Display) -> anyhow::Error {
    exit::fault(Exit::Usage, format!("{option} {text}: {wrong}"))
}

fn sender_of(text: &str) -> anyhow::Result<ReversePath> {
    match text {
        "" | "<>" => Ok(ReversePath::Null),
        text => Ok(ReversePath::Address(Address::parse(text).map_err(|wrong| no_address("--from", text, &wrong))?)),
    }
}

fn recipient_of(text: &str) -> anyhow::Result<ForwardPath> {
    if text.eq_ignore_ascii_case("postmaster") {
        return Ok(ForwardPath::Postmaster);
    }
    Ok(ForwardPath::Address(Address::parse(text).map_err(|wrong| no_address("--to", text, &wrong))?))
}

struct Explanation {
    now: WallTime,
    settings: Settings,
    trust: Arc<Trust>,
    /// The load balancer that would tell of the certificate, at a listener where one does.
    told_by: Option<Digest256>,
    refusals: usize,
    revocation: Revocation,
    factor: Factor,
}

/// Whether revocation could be looked at here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Revocation {
    Known,
    /// An OCSP responder has the last word, and is not asked.
    UpToResponder,
}

/// Where a second factor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Factor {
    NotAsked,
    /// It is asked for, and can be shown.
    Asked,
    /// It is asked for, and nothing shows it: MAIL is refused.
    Lacking,
}

impl Explanation {
    /// From the chain to the identity, if there is one.
    fn certificate(&mut self, chain: &PeerChain) -> Option<Identity> {
        if let Some(facts) = chain.0.first().and_then(|leaf| CertificateFacts::of(leaf).ok()) {
            let summary = &facts.summary;
            row("certificate", format!("subject {}", summary.subject));
            row("", format!("issuer {}, serial {}", summary.issuer, summary.serial));
            row("", format!("fingerprint {}", summary.fingerprint));
            row("", format!("key (spki) {}", summary.spki));
            row("", format!("ends on {}", summary.not_after.rfc3339()));
            names(&facts);
        }
        let Trace { steps, outcome } = trace(chain, &self.trust, self.now);
        for Step { depth, lines } in steps {
            let name = format!("chain {depth}");
            for (place, line) in lines.iter().enumerate() {
                row(if place == 0 { &name } else { "" }, line);
            }
        }
        match outcome {
            Ok(verified) => {
                let verified = self.as_shown(verified);
                self.chain(&verified);
                self.identity(&verified)
            }
            Err(rejection) => {
                if let Some(verified) = self.good_but_for_ocsp(chain, &rejection) {
                    self.revocation = Revocation::UpToResponder;
                    let verified = self.as_shown(verified);
                    self.chain(&verified);
                    row(
                        "ocsp",
                        "unknown: with ocsp = \"require\" the running relay asks the responder, explain does not",
                    );
                    row("", "what follows holds if the responder says \"good\"; otherwise every command is refused");
                    return self.identity(&verified);
                }
                row("chain", &rejection);
                self.unidentified(&Unidentified::Certificate(rejection.fault));
                None
            }
        }
    }

    /// The chain as it would be judged if the responder, which is not asked here, said that it is good.
    fn good_but_for_ocsp(&self, chain: &PeerChain, rejection: &Rejection) -> Option<VerifiedChain> {
        let ca = self.trust.cas().iter().find(|ca| Some(ca.name()) == rejection.ca.as_ref())?;
        if rejection.fault != CertificateFault::RevocationUnknown || ca.asks().ocsp != OcspMode::Require {
            return None;
        }
        let good = |_: &Query| Some(Known::Answer(CertificateStatus::Good, WallTime::MAX));
        judge_asking(chain, &self.trust, &good, self.now).ok()
    }

    /// As it would come in at this listener.
    fn as_shown(&self, verified: VerifiedChain) -> VerifiedChain {
        match self.told_by {
            None => verified,
            Some(balancer) => verified.as_if_told_by(balancer),
        }
    }

    fn chain(&self, verified: &VerifiedChain) {
        match verified.anchor() {
            Anchor::Ca(name) => row(
                "chain",
                format!(
                    "verified to client_ca {name:?}, {} below its anchor",
                    output::counted(verified.certificates().len(), "certificate")
                ),
            ),
            Anchor::Pin => row("chain", "accepted because the certificate or its key is pinned in the roster"),
        }
        row("good until", verified.good_until().rfc3339());
        if let Witness::Balancer(_) = verified.witness() {
            row("key", "that the client holds it is a load balancer's word at this listener (balancer_pin)");
        }
    }

    fn identity(&mut self, verified: &VerifiedChain) -> Option<Identity> {
        let Ok(examination) = self.settings.roster.examine(verified) else {
            row("identity", "the certificate can't be read");
            self.refusals += 1;
            return None;
        };
        for note in &examination.notes {
            row("", note);
        }
        match examination.identity {
            Ok(identity) => {
                row("identity", identity.name());
                Some(identity)
            }
            Err(cause) => {
                row("identity", "none");
                self.unidentified(&Unidentified::Roster(cause));
                None
            }
        }
    }

    fn unidentified(&mut self, cause: &Unidentified) {
        self.refuse("every command", &replies::unidentified(cause, self.now));
    }

    fn grant(&mut self, identity: &Identity) {
        let grant = identity.grant();
        row("grant", &grant.rule);
        let or_nothing = |list: Vec<String>| if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
        row("may send as", or_nothing(grant.send_as.granted().collect()));
        let excluded: Vec<String> = grant.send_as.excluded().map(|pattern| format!("!{pattern}")).collect();
        if !excluded.is_empty() {
            row("", excluded.join(", "));
        }
        row("may send to", or_nothing(grant.send_to.granted().collect()));
        self.second_factor(identity);
        let server = &self.settings.session;
        let size = grant.limits.message_size.map_or(server.message_size_max, |own| own.min(server.message_size_max));
        row("size", format!("at most {size} octets in a message"));
        if let Some(recipients) = grant.limits.recipients_per_message {
            row("recipients", format!("at most {recipients} in a message"));
        }
        for rate in grant.limits.rates.each() {
            row("rate", format!("at most {rate}"));
        }
        let Priorities { min, max } = grant.limits.priorities;
        row("priority", format!("from {min} to {max}"));
        if grant.leeway.resending == Resending::AnyMail {
            row("resends", "mail of others, under a Resent-From of its own");
        }
        if grant.leeway.vouching == Vouching::BalancerToo {
            row("vouched", "its certificate counts, too, when a pinned load balancer tells of it (accept_vouched)");
        }
        if grant.leeway.bare_lf == BareLf::Normalized {
            row("bare LF", "is read as CRLF in its messages");
        }
        if grant.dispatch == Dispatch::OnApproval {
            row("held", "until an operator has approved it".to_owned());
        }
    }

    /// What is demanded besides the certificate, and what EHLO would offer for it.
    fn second_factor(&mut self, identity: &Identity) {
        let factor = identity.grant().second_factor;
        match factor {
            SecondFactor::None => {}
            SecondFactor::Password => row("besides", "a password is asked for"),
            SecondFactor::Totp => row("besides", "a password with a code of one time behind it is asked for"),
        }
        // As on a connection with TLS 1.3, where SCRAM can be bound to it.
        // A load balancer's TLS is not the client's, and binds nothing.
        let bound = self.told_by.is_none().then_some(ExporterValue([0; 32]));
        let means = self.settings.credentials.means(identity.name(), factor, bound);
        let names: Vec<&str> = means.mechanisms().iter().map(|mechanism| mechanism.name()).collect();
        row("AUTH", if names.is_empty() { "none".to_owned() } else { names.join(" ") });
        if means.offers(Mechanism::ScramSha256Plus) {
            row("", format!("{} over TLS 1.3 only", Mechanism::ScramSha256Plus.name()));
        }
        if factor != SecondFactor::None {
            self.factor = Factor::Asked;
        }
        if factor != SecondFactor::None && means.mechanisms().is_empty() {
            self.factor = Factor::Lacking;
            self.refusals += 1;
            let option = if factor == SecondFactor::Totp { "--totp " } else { "" };
            row(
                "",
                format!(
                    "no credential shows that: it can't send; see `sealpost passwd {option}{}`",
                    pasteable(identity.name())
                ),
            );
        }
    }

    fn sender(&mut self, identity: &Identity, path: &ReversePath) {
        let (what, verdict) = (format!("MAIL FROM:<{}>", path.as_str()), policy::sender(identity, path));
        match (&verdict, self.factor) {
            (Verdict::Allowed(rule), Factor::Lacking) => {
                self.refuse(&what, &replies::authentication_required());
                row("", format!("the sender is granted by {rule}; the second factor is missing"));
            }
            (Verdict::Allowed(rule), Factor::Asked) => {
                row(&what, format!("allowed by {rule}, once AUTH has succeeded"))
            }
            (Verdict::Allowed(_), Factor::NotAsked) | (Verdict::Refused(_), _) => {
                self.verdict(identity, &what, &verdict);
            }
        }
    }

    fn recipient(&mut self, identity: &Identity, from: Option<&ReversePath>, path: &ForwardPath) {
        let (what, verdict) = (format!("RCPT TO:<{}>", path.as_str()), policy::recipient(identity, path));
        self.verdict(identity, &what, &verdict);
        if let Verdict::Allowed(_) = verdict {
            self.way(identity, from, path, &what);
        }
    }

    /// Which route takes the recipient, and to which upstreams.
    fn way(&mut self, identity: &Identity, from: Option<&ReversePath>, path: &ForwardPath, what: &str) {
        let postmaster = self.settings.session.postmaster.as_ref().filter(|_| *path == ForwardPath::Postmaster);
        let destination = postmaster.map_or_else(|| path.clone(), |address| ForwardPath::Address(address.clone()));
        let sender = from.unwrap_or(&ReversePath::Null);
        let routes = Arc::clone(&self.settings.routes);
        if from.is_none() && routes.iter().any(|route| route.wants.senders.is_some()) {
            row("", "some routes ask for the sender: which one takes this recipient, --from would tell");
            return;
        }
        let errand = Errand { identity: identity.name(), ca: identity.ca(), sender, recipient: &destination };
        match routes.find(&errand) {
            Some(route) => {
                let names: Vec<&str> = route.upstreams().map(|upstream| upstream.name.as_str()).collect();
                row("", format!("route {:?} takes it, to {}; by {}", &*route.name, names.join(", "), route.rule));
                if route.delivery != Delivery::Queued {
                    row("", "its upstreams are asked while the client waits (delivery = \"through\")");
                }
            }
            None => self.verdict(identity, what, &policy::way(identity, &routes, sender, &destination)),
        }
    }

    /// Each alone may be allowed, and all together too many.
    fn number_of_recipients(&mut self, identity: &Identity, count: usize) {
        let what = output::counted(count, "recipient");
        if count > self.settings.session.recipients_max {
            self.refuse(&what, &replies::too_many_recipients());
        } else if let refused @ Verdict::Refused(_) = policy::limits::recipients(identity, count) {
            self.verdict(identity, &what, &refused);
        }
    }

    /// The header section is judged as it would be after `MAIL` with SMTPUTF8 where it holds UTF-8.
    fn message(&mut self, identity: &Identity, from: Option<&ReversePath>, path: &Path) -> anyhow::Result<()> {
        let unread = |wrong| exit::fault(Exit::NoInput, format!("{}: {wrong}", path.display()));
        let octets = files::read(path).map_err(unread)?.octets;
        let wire = crlf(&octets);
        if let Some(fault) = octet_fault(&wire) {
            self.refuse("the message", &replies::disputed(&fault));
        }
        let facts = self.facts(&wire);
        if facts.received > RECEIVED_MAX {
            self.refuse("the message", &replies::loops(RECEIVED_MAX));
        }
        let rules = &self.settings.session.header;
        let from = from.unwrap_or(&ReversePath::Null);
        let verdict = policy::author(identity, &facts, rules, from);
        let sender = policy::sender_field(identity, &facts, rules, from);
        self.verdict(identity, "the message", &verdict);
        if let (Verdict::Allowed(_), SenderField::Becomes(address)) = (&verdict, sender) {
            row("", format!("its Sender becomes {address}"));
        }
        let length = u64::try_from(wire.len()).unwrap_or(u64::MAX);
        let most = self.settings.session.message_size_max;
        if length > most {
            self.refuse("the message", &replies::too_large(most));
        } else if let Verdict::Refused(refusal) = policy::limits::size(identity, length) {
            self.verdict(identity, "the message", &Verdict::Refused(refusal));
        }
        Ok(())
    }

    fn facts(&self, octets: &[u8]) -> HeaderFacts {
        let mut collector = HeaderCollector::new(&self.settings.header);
        if let Err(fault) = collector.push(octets) {
            return HeaderFacts { fault: Some(fault), ..HeaderFacts::default() };
        }
        let section = collector.section();
        let utf8 = if section.is_ascii() { Utf8Header::NotDeclared } else { Utf8Header::Declared };
        take_in(section.to_vec(), &self.settings.header, utf8, &self.settings.session.header).1
    }

    fn verdict(&mut self, identity: &Identity, what: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Allowed(rule) if self.factor == Factor::Lacking => {
                row(what, format!("granted by {rule}; it never comes to that, because MAIL is refused"));
            }
            Verdict::Allowed(rule) => row(what, format!("allowed by {rule}")),
            Verdict::Refused(refusal) => {
                self.refuse(what, &replies::refused(refusal, identity.name()));
                row("", format!("because {}", refusal.cause));
                row("", format!("by {}", refusal.rule));
            }
        }
    }

    fn refuse(&mut self, what: &str, reply: &Reply) {
        self.refusals += 1;
        row(what, format!("refused: {reply}"));
    }
}

fn names(facts: &CertificateFacts) {
    for (kind, name) in facts.names() {
        row("name", format!("{kind} {name}"));
    }
    for name in &facts.unusable {
        row("unusable", format!("{}: {}", name.name, name.reason));
    }
}

/// As the relay would read it: only CRLF ends a line, and there is no NUL.
fn octet_fault(wire: &[u8]) -> Option<OctetFault> {
    let (mut stuffed, mut writer) = (Vec::new(), DotWriter::default());
    writer.write(wire, &mut stuffed);
    writer.finish(&mut stuffed);
    if wire.contains(&0) {
        return Some(OctetFault::Nul);
    }
    match DotReader::default().discard(&stuffed).state {
        DotState::Fault(fault) => Some(fault),
        DotState::More | DotState::End => None,
    }
}

/// A file on disk has the line ends of this system; on the wire they are CRLF.
fn crlf(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len());
    let mut last = 0;
    for &octet in octets {
        if octet == b'\n' && last != b'\r' {
            wire.push(b'\r');
        }
        wire.push(octet);
        last = octet;
    }
    wire
}

fn row(name: &str, value: impl Display) {
    if name.is_empty() {
        println!("{:>12}  {value}", "");
    } else {
        println!("{name:>12}: {value}");
    }
}
