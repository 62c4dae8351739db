//! The personas of the dialogs: certificates by recipe, and the trust and roster they meet.
//!
//! Nobody here makes an identity: a persona has a chain, which `tls::verify` judges and the roster looks up, as everywhere.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::CertificateDer;
use sealpost::credentials::password::{Cost, SALT_OCTETS};
use sealpost::credentials::{Credentials, PasswordHash, ScramSecret, TotpSecret, file};
use sealpost::identity::pattern::{DomainSet, ListPurpose, PatternList};
use sealpost::identity::roster::{CaGrant, EmailGrant, EntryState, MatchKeys, RosterEntry};
use sealpost::identity::{
    Digest256, Dispatch, Leeway, Limits, MailboxKey, OwnNames, Priorities, Resending, Roster, Rule, SecondFactor,
    Vouching,
};
use sealpost::mail::{LocalPartCase, Rates};
use sealpost::smtp::data::BareLf;
use sealpost::tls::{Asks, CaRules, ClientCa, ClientCaSettings, CrlFile, Pins, RevocationMode, Trust};

use crate::recipe::{CrlRecipe, DAY, Made, NOW, Recipe};

/// What `guarded` and `coded` know.
pub(crate) const PASSWORD: &str = "hunter2";
/// What `coded`'s app knows.
pub(crate) const TOTP: &[u8; 20] = b"12345678901234567890";

/// Everybody, with their CAs. Made once for all scripts: keys take time, and the clock is fixed.
pub(crate) struct Cast {
    pub(crate) staff: Made,
    pub(crate) workloads: Made,
    pub(crate) branch: Made,
    pub(crate) strangers: Made,
    personas: BTreeMap<&'static str, Made>,
}

/// What may differ from script to script and within one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Season {
    /// Personas that the CRL of staff lists, besides the one called `revoked`.
    pub(crate) revoked: Vec<String>,
    /// Personas whose `[[identity]]` is gone.
    pub(crate) forgotten: Vec<String>,
    /// Whether everybody's credential is another than at first (of the same password).
    pub(crate) rekeyed: bool,
    /// How bad the trust is; for mutants.
    pub(crate) laxity: Laxity,
}

/// What a broken relay might fail to look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Laxity {
    /// Nothing.
    #[default]
    None,
    /// No CRL.
    IgnoresRevocation,
    /// Any CA will do.
    TrustsStrangers,
    /// Every recipient.
    GrantsAllRecipients,
    /// Every sender that the CA may speak for.
    GrantsAllSenders,
    /// Any second factor.
    IgnoresSecondFactor,
    /// A disabled identity counts.
    IgnoresDisabled,
    /// No limits of the grant.
    IgnoresLimits,
    /// Every priority.
    GrantsAllPriorities,
}

impl Cast {
    /// The one cast of this run.
    pub(crate) fn get() -> &'static Self {
        static CAST: OnceLock<Cast> = OnceLock::new();
        CAST.get_or_init(Self::make)
    }

    fn make() -> Self {
        let staff = Recipe::ca("Example Staff CA").self_signed();
        let workloads = Recipe::ca("Example Workloads CA").self_signed();
        let branch = Recipe::ca("Example Branch CA").self_signed();
        let strangers = Recipe::ca("Somebody Else's CA").self_signed();
        let alice = || Recipe::client("Alice").email("alice@example.com");
        let coded = || Recipe::client("Coded").email("coded@example.com");
        let first = coded().signed_by(&staff);
        let key = KeyPair::try_from(first.key.serialize_der().as_slice()).unwrap();
        let workload = |name: &str| Recipe::client(name).uri(&format!("spiffe://example.com/{name}"));
        let personas = [
            ("alice", alice().signed_by(&staff)),
            ("bob", Recipe::client("Bob").email("bob@example.com").signed_by(&staff)),
            ("shortlived", alice().valid(NOW - DAY, NOW + 3600).signed_by(&staff)),
            ("expired", alice().valid(NOW - 30 * DAY, NOW - 10 * DAY).signed_by(&staff)),
            ("early", alice().valid(NOW + 5 * DAY, NOW + 30 * DAY).signed_by(&staff)),
            ("revoked", alice().signed_by(&staff)),
            ("foreign", Recipe::client("Eve").email("eve@elsewhere.example").signed_by(&staff)),
            ("careful", Recipe::client("Careful").email("careful@example.com").signed_by(&staff)),
            ("metered", Recipe::client("Metered").email("metered@example.com").signed_by(&staff)),
            ("quota", Recipe::client("Quota").email("quota@example.com").signed_by(&staff)),
            ("device", Recipe::client("Device").email("device@example.com").signed_by(&staff)),
            ("resender", Recipe::client("Resender").email("resender@example.com").signed_by(&staff)),
            ("novice", Recipe::client("Novice").email("novice@example.com").signed_by(&staff)),
            ("guarded", Recipe::client("Guarded").email("guarded@example.com").signed_by(&staff)),
            ("coded", first),
            ("coded2", coded().signed_by(&staff)),
            ("codedanew", coded().with_key(key, Some(&staff))),
            ("zoe", Recipe::client("Zoe").email("zoe@example.com").signed_by(&staff)),
            ("serveronly", alice().purposes(&[ExtendedKeyUsagePurpose::ServerAuth]).signed_by(&staff)),
            ("stranger", alice().signed_by(&strangers)),
            ("selfmade", alice().self_signed()),
            ("stale", alice().signed_by(&branch)),
            ("robot", workload("billing").signed_by(&workloads)),
            ("quiet", workload("quiet").signed_by(&workloads)),
            ("disabled", workload("retired").signed_by(&workloads)),
            ("unknown", workload("nobody").signed_by(&workloads)),
            ("twin", workload("twin").dns("twin.example.com").signed_by(&workloads)),
            ("pinned", Recipe::client("Printer").self_signed()),
            ("mobile", Recipe::client("Mobile").email("mobile@example.com").signed_by(&staff)),
            ("balancer", Recipe::client("Balancer").self_signed()),
        ];
        Self { staff, workloads, branch, strangers, personas: personas.into() }
    }

    /// The chain a persona shows; none for `nobody`.
    pub(crate) fn chain(&self, persona: &str) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
        match persona {
            "nobody" => Ok(None),
            _ => self.made(persona).map(|made| Some(vec![made.der.clone()])),
        }
    }

    /// A persona's certificate and key.
    pub(crate) fn made(&self, persona: &str) -> Result<&Made, String> {
        self.personas.get(persona).ok_or_else(|| format!("there is no persona {persona:?}"))
    }

    /// Who is trusted in this season.
    pub(crate) fn trust(&self, season: &Season) -> Trust {
        let mut listed = vec![self.personas["revoked"].serial()];
        listed.extend(season.revoked.iter().map(|persona| self.made(persona).unwrap().serial()));
        let fresh = self.staff.crl(&CrlRecipe::listing(&listed));
        let stale = self.branch.crl(&CrlRecipe::listing(&[]).valid(NOW - 30 * DAY, NOW - DAY));
        let mode = match season.laxity {
            Laxity::IgnoresRevocation => RevocationMode::Off,
            _ => RevocationMode::Require,
        };
        let mut cas = vec![
            ca("staff", &self.staff, vec![fresh], mode),
            ca("workloads", &self.workloads, vec![], RevocationMode::Off),
            ca("branch", &self.branch, vec![stale], mode),
        ];
        if season.laxity == Laxity::TrustsStrangers {
            cas.push(ca("strangers", &self.strangers, vec![], RevocationMode::Off));
        }
        Trust::new(cas, self.roster(season).pins())
    }

    /// The staff's CA alone, with what is asked of other servers about its certificates.
    pub(crate) fn staff_asking(&self, asks: Asks) -> Trust {
        let crls = vec![self.staff.crl(&CrlRecipe::listing(&[]))];
        let staff = Arc::into_inner(ca("staff", &self.staff, crls, RevocationMode::Require)).unwrap();
        Trust::new(vec![Arc::new(staff.asking(asks))], Pins::default())
    }

    /// Who is known in this season.
    pub(crate) fn roster(&self, season: &Season) -> Roster {
        let mut entries = self.entries();
        entries.retain(|(persona, _)| !season.forgotten.iter().any(|forgotten| forgotten == persona));
        let mut entries: Vec<RosterEntry> = entries.into_iter().map(|(_, entry)| entry).collect();
        for entry in &mut entries {
            loosen(entry, season.laxity);
        }
        let grants = vec![
            mailboxes("staff"),
            CaGrant { send_as_email: None, ..mailboxes("workloads") },
            mailboxes("branch"),
            mailboxes("strangers"),
        ];
        Roster::new(entries, grants).unwrap()
    }

    /// What they know besides; `guarded` and `coded` each the password "hunter2", hashed at no cost.
    pub(crate) fn credentials(&self, season: &Season) -> Credentials {
        // What a password is kept as is costly to make, and every session asks.
        static LINES: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
        let lines = LINES[usize::from(season.rekeyed)].get_or_init(|| {
            let cheap = Cost { memory_kib: 8, passes: 1, lanes: 1 };
            let salt = if season.rekeyed { 2 } else { 1 };
            let hash = PasswordHash::make_at(cheap, PASSWORD, [salt; SALT_OCTETS]).written();
            let scram = ScramSecret::make(PASSWORD, &[salt; 16], 4096).written();
            let totp = TotpSecret::new(*TOTP).written();
            format!("guarded {hash} {scram}\ncoded {hash} totp={}\n", *totp)
        });
        file::read(lines, |_| true).unwrap()
    }

    fn entries(&self) -> Vec<(&'static str, RosterEntry)> {
        let robot = RosterEntry {
            limits: Limits {
                recipients_per_message: Some(3),
                message_size: Some(2000),
                priorities: Priorities { max: 4, ..Priorities::default() },
                ..Limits::default()
            },
            send_to: list(&["*@customer.example"], ListPurpose::SendTo),
            ..workload("billing-robot", "billing", &["billing@example.com", "*@invoices.example.com"])
        };
        let quiet = RosterEntry {
            null_sender: false,
            limits: Limits { priorities: Priorities { max: -2, ..Priorities::default() }, ..Limits::default() },
            ..workload("quiet-robot", "quiet", &["quiet@example.com"])
        };
        let twin_by_name = RosterEntry {
            keys: MatchKeys {
                ca: Some("workloads".into()),
                dns: Some("twin.example.com".parse().unwrap()),
                ..MatchKeys::default()
            },
            ..entry("twin-by-name", &["twin@example.com"])
        };
        let careful = RosterEntry {
            second_factor: Some(SecondFactor::Password),
            ..mailbox("careful", "careful@example.com", &["careful@example.com"])
        };
        let guarded = RosterEntry {
            second_factor: Some(SecondFactor::Password),
            ..mailbox("guarded", "guarded@example.com", &["guarded@example.com", "*@guarded.example.com"])
        };
        let coded = RosterEntry {
            second_factor: Some(SecondFactor::Totp),
            ..mailbox("coded", "coded@example.com", &["coded@example.com"])
        };
        let printer = RosterEntry {
            keys: MatchKeys {
                fingerprint: Some(Digest256(self.personas["pinned"].fingerprint())),
                ..MatchKeys::default()
            },
            ..entry("printer", &["printer@example.com"])
        };
        let limited = |name: &str, rates: Rates| RosterEntry {
            limits: Limits { rates, ..Limits::default() },
            ..mailbox(name, &format!("{name}@example.com"), &[&format!("{name}@example.com"), "alice@example.com"])
        };
        let hourly = Rates { messages_per_hour: Some(2), recipients_per_hour: Some(4), ..Rates::default() };
        let daily = Rates { messages_per_day: Some(1), recipients_per_day: Some(2), ..Rates::default() };
        let novice = RosterEntry {
            dispatch: Dispatch::OnApproval,
            ..mailbox("novice", "novice@example.com", &["novice@example.com"])
        };
        let device = RosterEntry {
            leeway: Leeway { bare_lf: BareLf::Normalized, ..Leeway::default() },
            ..mailbox("device", "device@example.com", &["device@example.com"])
        };
        let resender = RosterEntry {
            leeway: Leeway { resending: Resending::AnyMail, ..Leeway::default() },
            ..mailbox("resender", "resender@example.com", &["resender@example.com"])
        };
        let mobile = RosterEntry {
            leeway: Leeway { vouching: Vouching::BalancerToo, ..Leeway::default() },
            ..mailbox("mobile", "mobile@example.com", &["mobile@example.com"])
        };
        vec![
            ("device", device),
            ("resender", resender),
            ("mobile", mobile),
            ("metered", limited("metered", hourly)),
            ("quota", limited("quota", daily)),
            ("novice", novice),
            ("robot", robot),
            ("quiet", quiet),
            (
                "disabled",
                RosterEntry {
                    state: EntryState::Disabled,
                    ..workload("retired-robot", "retired", &["retired@example.com"])
                },
            ),
            ("twin", workload("twin-by-uri", "twin", &["twin@example.com"])),
            ("twin", twin_by_name),
            ("careful", careful),
            ("guarded", guarded),
            ("coded", coded),
            // The last begins with a ligature, which is one with its letters only when it is prepared.
            (
                "zoe",
                mailbox("zoe", "zoe@example.com", &["zoe@example.com", "zoë@example.com", "\u{fb01}ona@example.com"]),
            ),
            ("pinned", printer),
        ]
    }
}

fn ca(name: &str, made: &Made, crls: Vec<Vec<u8>>, revocation: RevocationMode) -> Arc<ClientCa> {
    let crls = crls.into_iter().map(|octets| CrlFile { place: format!("{name}.crl"), octets }).collect();
    let certificates = vec![made.der.clone()];
    let settings = ClientCaSettings {
        name: name.into(),
        certificates,
        intermediates: vec![],
        crls,
        revocation,
        crl_grace: Duration::ZERO,
        rules: CaRules::default(),
    };
    let (ca, faults) = ClientCa::new(settings).unwrap();
    assert_eq!(faults, vec![], "the recipe's CRLs are good");
    Arc::new(ca)
}

fn list(patterns: &[&str], purpose: ListPurpose) -> PatternList {
    PatternList::read(patterns.iter().copied(), purpose).unwrap()
}

fn rule(name: &str) -> Rule {
    Rule { name: name.into(), place: Some("sealpost.toml:1".into()) }
}

pub(crate) fn mailboxes(name: &str) -> CaGrant {
    CaGrant {
        ca: name.into(),
        domains: Some(DomainSet::read(["example.com", ".example.com"]).unwrap()),
        local_part_case: LocalPartCase::Ignored,
        second_factor: SecondFactor::None,
        send_as_email: Some(EmailGrant {
            send_to: list(&["*"], ListPurpose::SendTo),
            limits: Limits::default(),
            dispatch: Dispatch::AtOnce,
            null_sender: true,
            leeway: Leeway::default(),
        }),
        own_names: OwnNames::Emails,
        trust_domain: None,
        rule: rule(&format!("client_ca \"{name}\"")),
    }
}

fn entry(name: &str, send_as: &[&str]) -> RosterEntry {
    RosterEntry {
        name: name.into(),
        keys: MatchKeys::default(),
        pin_ignores_expiry: false,
        state: EntryState::Enabled,
        send_as: list(send_as, ListPurpose::SendAs),
        send_to: list(&["*"], ListPurpose::SendTo),
        second_factor: Some(SecondFactor::None),
        limits: Limits::default(),
        dispatch: Dispatch::AtOnce,
        null_sender: true,
        leeway: Leeway::default(),
        rule: rule(&format!("identity \"{name}\"")),
    }
}

fn workload(name: &str, uri: &str, send_as: &[&str]) -> RosterEntry {
    let uri = Some(format!("spiffe://example.com/{uri}").parse().unwrap());
    RosterEntry {
        keys: MatchKeys { ca: Some("workloads".into()), uri, ..MatchKeys::default() },
        ..entry(name, send_as)
    }
}

pub(crate) fn mailbox(name: &str, email: &str, send_as: &[&str]) -> RosterEntry {
    let email = Some(MailboxKey::email(email).unwrap());
    RosterEntry { keys: MatchKeys { ca: Some("staff".into()), email, ..MatchKeys::default() }, ..entry(name, send_as) }
}

fn loosen(entry: &mut RosterEntry, laxity: Laxity) {
    match laxity {
        Laxity::GrantsAllRecipients => entry.send_to = list(&["*"], ListPurpose::SendTo),
        Laxity::GrantsAllSenders => entry.send_as = list(&["*"], ListPurpose::SendAs),
        Laxity::IgnoresDisabled => entry.state = EntryState::Enabled,
        Laxity::IgnoresLimits => entry.limits = Limits::default(),
        Laxity::GrantsAllPriorities => entry.limits.priorities = Priorities { min: -9, max: 9 },
        Laxity::IgnoresSecondFactor => entry.second_factor = Some(SecondFactor::None),
        Laxity::None | Laxity::IgnoresRevocation | Laxity::TrustsStrangers => {}
    }
}
