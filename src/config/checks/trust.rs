//! Client CAs: their certificates, CRLs and grants.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::fetched::{Fetching, is_fetched};
use super::{Checking, ENDING_SOON_DAYS, Secrecy};
use crate::config::files;
use crate::config::mistake::Remedy;
use crate::config::nearest::nearest;
use crate::config::schema::quoted;
use crate::config::written::{
    WrittenBareLf, WrittenCa, WrittenCase, WrittenLimits, WrittenRevocation, WrittenSecondFactor,
};
use crate::identity::names::is_trust_domain;
use crate::identity::pattern::{DomainSet, ListPurpose, PatternList};
use crate::identity::roster::{CaGrant, EmailGrant, OwnNames};
use crate::identity::{Dispatch, Leeway, Limits, Priorities, Resending, SecondFactor, Vouching};
use crate::mail::{LocalPartCase, Rates};
use crate::smtp::data::BareLf;
use crate::sys::WallTime;
use crate::tls::rules::{CHAIN_MOST, RSA_BITS_LEAST, RSA_BITS_MOST};
use crate::tls::{CaRules, ClientCa, ClientCaSettings, CrlFile, KeyRules, PolicyOid, Purposes, RevocationMode, read};

/// How far a CRL may be dated ahead without a word.
const CLOCKS_APART: Duration = Duration::from_secs(3600);

/// A client's certificate and a root.
const CHAIN_LEAST: usize = 2;

/// What is known of the CAs: the good ones, and the names of all.
#[derive(Default)]
pub(super) struct Cas {
    pub(super) good: Vec<Arc<ClientCa>>,
    pub(super) grants: Vec<CaGrant>,
    /// Of every `[[client_ca]]`, even one with a mistake elsewhere.
    pub(super) names: HashSet<String>,
}

impl Checking<'_> {
    pub(super) fn client_cas(&mut self, written: &[WrittenCa], data_dir: Option<&str>) -> Cas {
        let mut cas = Cas::default();
        for (index, entry) in written.iter().enumerate() {
            let path = format!("client_ca[{index}]");
            let name = self.unique_name(&path, entry.name.as_ref(), &mut cas.names);
            let grant = self.ca_grant(&path, entry, name.as_deref());
            let name = name.unwrap_or_default();
            let fetching = self.fetching(&path, entry, &name, data_dir);
            let ca = self.or_as_before(
                &path,
                |checking| checking.client_ca(&path, entry, &name, fetching.as_ref()),
                |old| old.made.get(&name).cloned(),
            );
            cas.grants.extend(grant);
            if let Some((recipe, ca)) = ca {
                cas.good.push(Arc::clone(&ca));
                self.crl_sources.extend(fetching.map(|fetching| Arc::new(fetching.source(Arc::clone(&ca)))));
                self.made.insert(name, (recipe, ca));
            }
        }
        cas
    }

    fn client_ca(
        &mut self,
        path: &str,
        written: &WrittenCa,
        name: &str,
        fetching: Option<&Fetching>,
    ) -> Option<(String, Arc<ClientCa>)> {
        if written.certificates.is_empty() && !self.findings.origins().is_spoiled(&format!("{path}.certificates")) {
            let remedy = "write certificates = \"ca.pem\", the file of the CA's root";
            self.findings.mistake(&format!("{path}.certificates"), "is missing", remedy);
        }
        let revocation = self.revocation(path, written);
        let asks = self.asks(path, written);
        let certificates = self.certificates(&format!("{path}.certificates"), &written.certificates);
        let intermediates = self.certificates(&format!("{path}.intermediates"), &written.intermediates);
        let mut crls = self.crl_files(path, &written.crls);
        let fetched_from = crls.files.len();
        if let Some(fetching) = fetching {
            crls.files.extend(self.fetched_crls(path, fetching));
        }
        let rules = self.ca_rules(path, written);
        let (certificates, intermediates) = (certificates?, intermediates?);
        if certificates.is_empty() {
            return None;
        }
        let fetched: HashSet<String> = crls.files.iter().skip(fetched_from).map(|file| file.place.clone()).collect();
        let recipe = self.recipe(path, written);
        if let Some(ca) = self.before.and_then(|before| before.ca_of(name, &recipe)) {
            self.warn_of_ends(path, &ca);
            self.warn_of_missing_crls(path, written, &ca);
            return Some((recipe, ca));
        }
        let settings = ClientCaSettings {
            name: name.into(),
            certificates,
            intermediates,
            crls: crls.files.clone(),
            revocation,
            crl_grace: written.crl_grace.map(|grace| grace.0).unwrap_or_default(),
            rules,
        };
        match ClientCa::new(settings) {
            Err(fault) => {
                self.findings.mistake(&format!("{path}.certificates"), fault.to_string(), ());
                None
            }
            Ok((ca, faults)) => {
                if faults.is_empty() {
                    self.warn_of_missing_crls(path, written, &ca);
                }
                for fault in faults {
                    if fetched.contains(&fault.place) {
                        // It is fetched again; nobody can mend it here.
                        self.findings.warning(&format!("{path}.crl_urls"), fault.to_string(), ());
                        continue;
                    }
                    self.findings.mistake(&crls.key_of(&fault.place), fault.to_string(), ());
                }
                self.warn_of_ends(path, &ca);
                for subject in ca.lost_constraints() {
                    let wrong = format!(
                        "the certificate of {subject} has e-mail name constraints and leads to no certificate of this CA: what it issued for e-mail is refused"
                    );
                    let remedy = "add the CA certificates between them to intermediates";
                    self.findings.warning(&format!("{path}.intermediates"), wrong, remedy);
                }
                Some((recipe, Arc::new(ca.asking(asks))))
            }
        }
    }

    /// Everything that a CA is made of: its keys, and the digests of its files.
    fn recipe(&self, path: &str, written: &WrittenCa) -> String {
        let within = format!("{path}.");
        let files = self.digests.iter().filter(|(key, _)| key.starts_with(&within));
        let digests: Vec<String> = files.map(|(key, digest)| format!("{key} {digest}")).collect();
        format!("{written:?} {}", digests.join(" "))
    }

    fn certificates(&mut self, key: &str, written: &[String]) -> Option<Vec<CertificateDer<'static>>> {
        let mut found = Some(Vec::new());
        for (index, file) in written.iter().enumerate() {
            let key = format!("{key}[{index}]");
            let contents = self.read(&key, file, Secrecy::Public);
            let read = contents.and_then(|contents| self.taken(&key, file, read::certificates(&contents.octets)));
            match (read, &mut found) {
                (Some(read), Some(found)) => found.extend(read),
                (None, _) => found = None,
                (Some(_), None) => {}
            }
        }
        found
    }

    /// Without CRLs nobody can be shut out before their certificate ends: that must be somebody's decision.
    fn revocation(&mut self, path: &str, written: &WrittenCa) -> RevocationMode {
        let key = format!("{path}.revocation");
        let without_crls = written.crls.is_empty()
            && !is_fetched(written)
            && !self.findings.origins().is_spoiled(&format!("{path}.crls"));
        match written.revocation {
            None if without_crls => {
                let remedy = "name the CRL files in crls, or write revocation = \"off\" if certificates of this CA shall be good until they end";
                self.required::<String>(&key, None, remedy);
                RevocationMode::Require
            }
            Some(WrittenRevocation::Require) if without_crls => {
                let wrong = "\"require\", and there are no crls: every certificate of this CA would be refused";
                self.findings.mistake(&key, wrong, "name the CRL files in crls");
                RevocationMode::Require
            }
            Some(WrittenRevocation::IfAvailable) if without_crls => {
                self.findings.warning(
                    &key,
                    "\"if-available\", and there are no crls: it never applies",
                    "name the CRL files in crls",
                );
                RevocationMode::IfAvailable
            }
            Some(WrittenRevocation::Off) if !written.crls.is_empty() || is_fetched(written) => {
                self.findings.warning(&format!("{path}.crls"), "never asked: revocation is \"off\"", ());
                RevocationMode::Off
            }
            None | Some(WrittenRevocation::Require) => RevocationMode::Require,
            Some(WrittenRevocation::IfAvailable) => RevocationMode::IfAvailable,
            Some(WrittenRevocation::Off) => RevocationMode::Off,
        }
    }

    fn crl_files(&mut self, path: &str, written: &[String]) -> CrlFiles {
        let mut crls = CrlFiles { path: path.to_owned(), files: Vec::new(), places: Vec::new() };
        for (index, named) in written.iter().enumerate() {
            let key = format!("{path}.crls[{index}]");
            let directory = self.resolve(named);
            self.watched.insert(directory.clone());
            match files::files_of(&directory) {
                Err(wrong) => self.findings.mistake(&key, format!("{}: {wrong}", directory.display()), ()),
                Ok(found) if found.is_empty() => {
                    self.findings.mistake(
                        &key,
                        format!("{}: holds no file", directory.display()),
                        "put the CA's CRL there",
                    );
                }
                Ok(found) => {
                    for file in found {
                        let place = file.display().to_string();
                        // An absolute path stays what it is when it is resolved.
                        let Some(contents) = self.read_found(&key, named, &file) else { continue };
                        crls.places.push((place.clone(), key.clone()));
                        crls.files.push(CrlFile { place, octets: contents.octets.to_vec() });
                    }
                }
            }
        }
        crls
    }

    pub(super) fn read_found(&mut self, key: &str, named: &str, file: &std::path::Path) -> Option<files::Contents> {
        if self.resolve(named) == file {
            return self.read(key, named, Secrecy::Public);
        }
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        self.read(key, &absolute.display().to_string(), Secrecy::Public)
    }

    /// What the CA's certificates must be; what is not written is as RFC 5280 and this version have it.
    fn ca_rules(&mut self, path: &str, written: &WrittenCa) -> CaRules {
        let standard = CaRules::default();
        CaRules {
            purposes: self.purposes(&format!("{path}.purposes"), written.purposes.as_deref()),
            chain_max: self.within(
                &format!("{path}.chain_max"),
                written.chain_max,
                (CHAIN_LEAST, CHAIN_MOST),
                "certificates, the client's own and the CA's root counted",
                standard.chain_max,
            ),
            policies: self.policies(&format!("{path}.policies"), written.policies.as_deref()),
            keys: KeyRules {
                rsa_bits_min: self.within(
                    &format!("{path}.rsa_bits_min"),
                    written.rsa_bits_min,
                    (RSA_BITS_LEAST, RSA_BITS_MOST),
                    "bits",
                    standard.keys.rsa_bits_min,
                ),
            },
        }
    }

    /// A number between two others.
    fn within(
        &mut self,
        key: &str,
        written: Option<u32>,
        (least, most): (usize, usize),
        unit: &str,
        standard: usize,
    ) -> usize {
        let Some(written) = written else { return standard };
        let number = usize::try_from(written).unwrap_or(usize::MAX);
        if (least..=most).contains(&number) {
            return number;
        }
        self.findings.mistake(key, format!("{written}: not between {least} and {most}"), format!("in {unit}"));
        standard
    }

    fn purposes(&mut self, key: &str, written: Option<&[String]>) -> Purposes {
        let Some(words) = written else { return Purposes::default() };
        if words.is_empty() && !self.findings.origins().is_spoiled(key) {
            let remedy = "write purposes = [\"clientAuth\"], or leave it out";
            self.findings.mistake(key, "is empty: every certificate of this CA would be refused", remedy);
        }
        let mut purposes = Purposes::NONE;
        for (index, word) in words.iter().enumerate() {
            match purposes.with(word) {
                Ok(more) => purposes = more,
                Err(fault) => {
                    let remedy = match nearest(word, Purposes::WORDS) {
                        Some(meant) => format!("did you mean \"{meant}\"?"),
                        None => format!("write some of {}", quoted(&Purposes::WORDS)),
                    };
                    self.findings.mistake(&format!("{key}[{index}]"), format!("{word:?}: {fault}"), remedy);
                }
            }
        }
        purposes
    }

    fn policies(&mut self, key: &str, written: Option<&[String]>) -> Vec<PolicyOid> {
        let mut policies = Vec::new();
        for (index, text) in written.unwrap_or_default().iter().enumerate() {
            match text.parse() {
                Ok(policy) => policies.push(policy),
                Err(fault) => self.findings.mistake(
                    &format!("{key}[{index}]"),
                    format!("{text:?}: {fault}"),
                    "write a policy's number as it stands in the certificates (openssl x509 -text)",
                ),
            }
        }
        policies
    }

    fn warn_of_ends(&mut self, path: &str, ca: &ClientCa) {
        let days_left = |until: WallTime, now: WallTime| (until.seconds() - now.seconds()).div_euclid(86_400);
        if let Some((subject, until)) = ca.ends().min_by_key(|(_, until)| *until) {
            let which = format!("the CA certificate of {subject}");
            let key = format!("{path}.certificates");
            if until < self.now {
                self.findings.warning(
                    &key,
                    format!("{which} has ended on {}: what it issued is refused", until.rfc3339()),
                    "add the renewed one, or take it out",
                );
            } else if days_left(until, self.now) < ENDING_SOON_DAYS {
                let remedy = "have the CA renew it, and add the new one beside it";
                self.findings.warning(&key, format!("{which} ends on {}", until.rfc3339()), remedy);
            }
        }
        if let Some(until) = ca.crls_fresh_until().filter(|until| *until < self.now) {
            let wrong = match ca.revocation() {
                RevocationMode::Require => "its certificates are refused until there is a new one",
                RevocationMode::IfAvailable => "it counts only against the certificates it lists",
                RevocationMode::Off => "it is not asked",
            };
            let wrong = format!("a CRL is out of date since {}: {wrong}", until.rfc3339());
            self.findings.warning(&format!("{path}.crls"), wrong, "get a new one from the CA (sealpost pki crl)");
        }
        for list in ca.crl_facts().iter().filter(|list| list.this_update > self.now.after(CLOCKS_APART)) {
            let (issuer, from) = (&list.issuer, list.this_update.rfc3339());
            let wrong =
                format!("the CRL of {issuer} is dated ahead ({from}): until then none that comes counts beside it");
            let remedy =
                "check the clocks of the CA and of this machine; a list that is made for later is put in place then";
            self.findings.warning(&format!("{path}.crls"), wrong, remedy);
        }
    }

    /// Each certificate of a chain must be covered, so a CA without a list lets nobody in, the root of an issuing CA too. Of lists that are
    /// fetched, the log tells.
    fn warn_of_missing_crls(&mut self, path: &str, written: &WrittenCa, ca: &ClientCa) {
        let key = format!("{path}.crls");
        if ca.revocation() != RevocationMode::Require
            || written.crls.is_empty()
            || is_fetched(written)
            || self.findings.origins().is_spoiled(&key)
        {
            return;
        }
        for subject in ca.without_crl() {
            let wrong = format!("there is no CRL of {subject}: every certificate that it issued is refused");
            self.findings.warning(&key, wrong, "add its CRL; a root has one too, for the issuing CAs below it");
        }
    }

    fn ca_grant(&mut self, path: &str, written: &WrittenCa, name: Option<&str>) -> Option<CaGrant> {
        let domains = self.domains(&format!("{path}.domains"), written.domains.as_deref());
        let send_to = self.granted(&format!("{path}.send_to"), written.send_to.as_deref(), ListPurpose::SendTo);
        self.warn_of_idle_keys(path, written);
        let own_names = match (written.send_as_email, written.send_as_upn) {
            (_, false) => OwnNames::Emails,
            (false, true) => OwnNames::Upns,
            (true, true) => OwnNames::Both,
        };
        let trust_domain = self.trust_domain(&format!("{path}.trust_domain"), written.trust_domain.as_deref());
        let send_as_email = (written.send_as_email || written.send_as_upn).then(|| EmailGrant {
            send_to,
            limits: self.identity_limits(&format!("{path}.limits"), written.limits),
            dispatch: dispatch(written.hold),
            null_sender: written.null_sender.unwrap_or(true),
            leeway: leeway(written.resend, written.bare_lf == WrittenBareLf::Normalize, written.accept_vouched),
        });
        Some(CaGrant {
            ca: name?.into(),
            domains,
            local_part_case: match written.local_part_case {
                WrittenCase::Ignored => LocalPartCase::Ignored,
                WrittenCase::Exact => LocalPartCase::Exact,
            },
            second_factor: second_factor(written.second_factor),
            send_as_email,
            own_names,
            trust_domain,
            rule: self.rule(path),
        })
    }

    /// SPIFFE ID §2.1: what stands between `spiffe://` and the path.
    fn trust_domain(&mut self, key: &str, written: Option<&str>) -> Option<Box<str>> {
        let text = written?;
        if !is_trust_domain(text) {
            let meant = text.strip_prefix("spiffe://").unwrap_or(text).split('/').next().unwrap_or_default();
            let meant = meant.to_ascii_lowercase();
            let remedy = if is_trust_domain(&meant) { meant } else { "example.com".to_owned() };
            self.findings.mistake(key, format!("{text:?}: not a SPIFFE trust domain"), format!("write \"{remedy}\""));
        }
        Some(text.into())
    }

    fn domains(&mut self, key: &str, written: Option<&[String]>) -> Option<DomainSet> {
        let list = written?;
        match DomainSet::read(list.iter().map(String::as_str)) {
            Ok(domains) => Some(domains),
            Err(faults) => {
                self.list_faults(key, list, &faults, ());
                // Stands for the list in what follows, so that the mistake is told once.
                DomainSet::read(["*"]).ok()
            }
        }
    }

    /// What is written for identities that this CA does not make.
    fn warn_of_idle_keys(&mut self, path: &str, written: &WrittenCa) {
        let spoiled = |key: &str| self.findings.origins().is_spoiled(&format!("{path}.{key}"));
        if written.send_as_email || written.send_as_upn || spoiled("send_as_email") || spoiled("send_as_upn") {
            return;
        }
        for (key, is_written) in [
            ("send_to", written.send_to.is_some()),
            ("null_sender", written.null_sender.is_some()),
            ("limits", written.limits.is_written()),
            ("hold", written.hold),
            ("resend", written.resend),
            ("bare_lf", written.bare_lf != WrittenBareLf::Refuse),
            ("accept_vouched", written.accept_vouched),
        ] {
            if is_written {
                self.findings.warning(
                    &format!("{path}.{key}"),
                    "never applies without send_as_email = true or send_as_upn = true",
                    (),
                );
            }
        }
    }

    /// A list of patterns; what is wrong with one is told at its own place.
    pub(super) fn patterns(
        &mut self,
        key: &str,
        written: Option<&[String]>,
        purpose: ListPurpose,
    ) -> Option<PatternList> {
        let list = written?;
        match PatternList::read(list.iter().map(String::as_str), purpose) {
            Ok(patterns) => Some(patterns),
            Err(faults) => {
                self.list_faults(key, list, &faults, "write \"alice@example.com\", \"*@example.com\" or \"*\"");
                None
            }
        }
    }

    /// Tells each fault at its own line; `otherwise` is the remedy where the fault itself names none.
    fn list_faults<F: std::fmt::Display>(
        &mut self,
        key: &str,
        list: &[String],
        faults: &[(usize, F)],
        otherwise: impl Into<Remedy>,
    ) {
        let otherwise = otherwise.into();
        for (place, fault) in faults {
            let written = list.get(*place).map(String::as_str).unwrap_or_default();
            let fault = fault.to_string();
            let remedy = if fault.contains("write") { Remedy::from(()) } else { otherwise.clone() };
            self.findings.mistake(&format!("{key}[{place}]"), format!("{}: {fault}", quoted(&[written])), remedy);
        }
    }

    pub(super) fn identity_limits(&mut self, path: &str, written: WrittenLimits) -> Limits {
        for (key, number) in written.counts() {
            if number == Some(0) {
                self.findings.mistake(&format!("{path}.{key}"), "0: nothing could be sent", "write 1 or more");
            }
        }
        for (hour, day, of) in [
            (written.messages_per_hour, written.messages_per_day, "messages"),
            (written.recipients_per_hour, written.recipients_per_day, "recipients"),
        ] {
            if hour.zip(day).is_some_and(|(hour, day)| hour > day) {
                let wrong = format!("never applies: {of}_per_day is smaller");
                self.findings.warning(&format!("{path}.{of}_per_hour"), wrong, ());
            }
        }
        let priorities = priorities(written.priority_min, written.priority_max);
        if let Err(wrong) = &priorities {
            let key = if written.priority_min.is_some() { "priority_min" } else { "priority_max" };
            self.findings.mistake(&format!("{path}.{key}"), wrong.clone(), ());
        }
        Limits {
            priorities: priorities.unwrap_or_default(),
            recipients_per_message: written.recipients_per_message,
            message_size: written.message_size.map(|size| size.0),
            rates: Rates {
                messages_per_hour: written.messages_per_hour,
                messages_per_day: written.messages_per_day,
                recipients_per_hour: written.recipients_per_hour,
                recipients_per_day: written.recipients_per_day,
            },
        }
    }
}

/// From what is written; what is not is as it is for everybody.
pub(super) fn priorities(min: Option<i8>, max: Option<i8>) -> Result<Priorities, String> {
    let all = Priorities::default();
    let priorities = Priorities { min: min.unwrap_or(all.min), max: max.unwrap_or(all.max) };
    if priorities.min > priorities.max {
        return Err(format!("from {} to {} there is none", priorities.min, priorities.max));
    }
    Ok(priorities)
}

/// CRL files, and by which key each was named.
struct CrlFiles {
    path: String,
    files: Vec<CrlFile>,
    places: Vec<(String, String)>,
}

impl CrlFiles {
    fn key_of(&self, place: &str) -> String {
        let found = self.places.iter().find(|(known, _)| known == place);
        found.map_or_else(|| format!("{}.crls", self.path), |(_, key)| key.clone())
    }
}

pub(super) fn dispatch(hold: bool) -> Dispatch {
    if hold { Dispatch::OnApproval } else { Dispatch::AtOnce }
}

pub(super) fn leeway(resend: bool, normalize: bool, accept_vouched: bool) -> Leeway {
    Leeway {
        bare_lf: if normalize { BareLf::Normalized } else { BareLf::Refused },
        resending: if resend { Resending::AnyMail } else { Resending::OwnMail },
        vouching: if accept_vouched { Vouching::BalancerToo } else { Vouching::Handshake },
    }
}

pub(super) fn second_factor(written: WrittenSecondFactor) -> SecondFactor {
    match written {
        WrittenSecondFactor::None => SecondFactor::None,
        WrittenSecondFactor::Password => SecondFactor::Password,
        WrittenSecondFactor::Totp => SecondFactor::Totp,
    }
}
