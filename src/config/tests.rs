//! Broken configurations and what is told of each; the file that documents every key; layers; what a reload says.
//!
//! Certificates are made once per run, by recipe, for a fixed moment.

#![expect(clippy::disallowed_methods, reason = "tests furnish a folder of files")]

mod broken;
mod rosters;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::*;
use crate::pki::{Authority, Bearer, Issued, Reason, Revocation, Validity};
use crate::queue::Schedule;
use crate::sys::{ManualClock, SeededEntropy, WallTime};
use crate::tls::recipe::{Recipe, der};

/// 2026-11-24T01:48:00Z
const NOW: WallTime = WallTime::from_seconds(1_795_484_880);

/// A right configuration; the broken ones are made of it by changing a line.
pub(super) const RIGHT: &str = include_str!("../../fixtures/config/right.toml");

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(NOW))
}

fn days(from: i64, until: i64) -> Validity {
    let day = |count: i64| WallTime::from_seconds(NOW.seconds() + count * 86_400);
    Validity { from: day(from), until: day(until) }
}

/// The folder of files that the configurations name; made once.
pub(super) fn house() -> &'static Path {
    static HOUSE: OnceLock<tempfile::TempDir> = OnceLock::new();
    HOUSE.get_or_init(furnish).path()
}

fn furnish() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let random = SeededEntropy::new(1);
    let authority = Authority::create("staff CA", days(-100, 3000), &random).unwrap();
    let namesake = Authority::create("staff CA", days(-100, 3000), &random).unwrap();
    let other = Authority::create("other CA", days(-100, 3000), &random).unwrap();
    let ended = Authority::create("ended CA", days(-200, -100), &random).unwrap();
    let server = Bearer::Server { names: vec!["mail.example.com".to_owned()] };
    let issue = |validity| authority.issue("server", &server, validity, &random).unwrap();
    let (good, expired, future, ending) =
        (issue(days(-1, 90)), issue(days(-90, -1)), issue(days(1, 90)), issue(days(-80, 5)));
    let strange =
        authority.issue("x", &Bearer::Server { names: vec!["www.example.org".into()] }, days(-1, 90), &random).unwrap();
    let crl = |by: &Authority, validity, entries: &[crate::pki::Entry]| by.crl(1, validity, entries).unwrap();
    let mut revoked = good.entry.clone();
    revoked.revoked = Some(Revocation { at: NOW.rfc3339(), reason: Reason::KeyCompromise });
    let text = |name: &str, text: &str| write(dir.path(), name, text, 0o644);
    let secret = |name: &str, text: &str| write(dir.path(), name, text, 0o600);
    text("ca.pem", authority.certificate_pem());
    text("ca.crl", &crl(&authority, days(-1, 29), &[revoked]));
    text("stale.crl", &crl(&authority, days(-60, -30), &[]));
    text("ahead.crl", &crl(&authority, days(2, 29), &[]));
    text("namesake.crl", &crl(&namesake, days(-1, 29), &[]));
    text("other.pem", other.certificate_pem());
    text("other.crl", &crl(&other, days(-1, 29), &[]));
    text("ended.pem", ended.certificate_pem());
    text("ended.crl", &crl(&ended, days(-1, 29), &[]));
    text("empty.pem", "");
    text("prose.pem", "this is no certificate\n");
    text("server.pem", &good.certificate_pem);
    secret("server.key", &good.key_pem);
    put_pair(&secret, "expired", &expired);
    put_pair(&secret, "future", &future);
    put_pair(&secret, "ending", &ending);
    put_pair(&secret, "strange", &strange);
    text("gap.pem", &format!("{}{}", good.certificate_pem, namesake.certificate_pem()));
    text("whole.pem", &format!("{}{}", good.certificate_pem, authority.certificate_pem()));
    let issuers =
        der(0x30, &[der(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 2]), der(0x86, b"http://pki.example.com/ca.der")].concat());
    let access = der(0x30, &issuers);
    let public = Recipe::ca("public CA").around(NOW.seconds()).self_signed();
    let alone = Recipe::server("mail.example.com").valid(NOW.seconds() - 86_400, NOW.seconds() + 90 * 86_400);
    let alone = alone.extension(&[1, 3, 6, 1, 5, 5, 7, 1, 1], false, access).signed_by(&public);
    secret("alone.pem", &alone.pem());
    secret("alone.key", &alone.key_pem());
    let client = Bearer::Robot { dns: vec!["mail.example.com".to_owned()], uris: Vec::new() };
    put_pair(&secret, "client", &authority.issue("client", &client, days(-1, 90), &random).unwrap());
    text("open.key", &good.key_pem);
    secret("password", "hunter2\n");
    text("open-password", "hunter2\n");
    secret("empty-password", "\n");
    secret("no-credentials", "# nobody\n");
    let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    secret("credentials", &format!("robot {hash}\nstaff:alice@example.com {hash}\n"));
    let code = "totp=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    secret(
        "coded",
        &format!("robot {hash} {code}\nstaff:alice@example.com {hash}\nstaff:bob@example.com {hash} {code}\n"),
    );
    let old = Recipe::server("mail.example.com").around(NOW.seconds()).self_signed_of_version_1();
    text("old.pem", &old.pem());
    secret("old.key", &old.key_pem());
    secret("costly", &format!("# who\nrobot {}\nrobot hunter2\n", hash.replace("m=8,t=1", "m=1048576,t=2")));
    std::fs::create_dir_all(dir.path().join("crls")).unwrap();
    write(&dir.path().join("crls"), "one.crl", &crl(&authority, days(-2, 20), &[]), 0o644);
    std::fs::create_dir_all(dir.path().join("nothing")).unwrap();
    dir
}

fn put_pair(secret: &impl Fn(&str, &str), name: &str, issued: &Issued) {
    secret(&format!("{name}.pem"), &issued.certificate_pem);
    secret(&format!("{name}.key"), &issued.key_pem);
}

fn write(dir: &Path, name: &str, text: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn file() -> PathBuf {
    house().join("sealpost.toml")
}

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, Vec<Mistake>> {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    load_text(&file(), text, &environment, &clock())
}

/// What is told, a line each, without the folder's name.
pub(super) fn told(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    let found = match read(text, environment) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found,
    };
    let folder = format!("{}/", house().display());
    found.iter().map(|mistake| mistake.to_string().replace(&folder, "")).collect()
}

#[test]
fn the_right_configuration_is_right() {
    let loaded = read(RIGHT, &[]).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.census.to_string(), "1 listener, 1 client CA, 1 identity, 1 upstream");
    assert_eq!(loaded.settings.session.hostname, "mail.example.com");
    assert_eq!(loaded.settings.data_dir, house().join("data"));
    assert_eq!(loaded.settings.reports.from.as_str(), "MAILER-DAEMON@mail.example.com");
}

/// RFC 5321 §4.5.3.2.7 and §4.5.4.1, §4.5.3.1.7 and §4.5.3.1.8; RFC 4954 §9.
#[test]
fn what_is_not_written_is_what_the_rfcs_ask_for() {
    let settings = read(RIGHT, &[]).unwrap().settings;
    let days = |count: u64| Duration::from_secs(count * 86_400);
    assert!(settings.deadlines.command >= Duration::from_secs(300), "{:?}", settings.deadlines.command);
    assert!(settings.schedule.gives_up_at(NOW) >= NOW.after(days(4)), "{:?}", settings.schedule);
    assert!(settings.session.recipients_max >= 100, "{}", settings.session.recipients_max);
    assert!(settings.session.message_size_max >= 64 * 1024, "{}", settings.session.message_size_max);
    assert!(settings.session.auth_failures_max >= 3, "{}", settings.session.auth_failures_max);
}

/// RFC 5321 §4.5.4.1: the retry parameters can be configured.
#[test]
fn mail_is_tried_again_as_is_configured() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let schedule = |retry: &[Duration], days: u64| Schedule::new(retry, Some(minutes(240)), minutes(days * 24 * 60));
    let by_default = read(RIGHT, &[]).unwrap().settings.schedule;
    assert_eq!(Some(by_default), schedule(&[1, 5, 15, 60].map(minutes), 5));
    let text = format!("{RIGHT}\n[queue]\nretry = [\"30m\", \"2h\"]\ngive_up_after = \"6d\"\n");
    let configured = read(&text, &[]).unwrap().settings.schedule;
    assert_eq!(Some(configured), schedule(&[30, 120].map(minutes), 6));
}

/// RFC 6531 §3.7.1, RFC 8616 §4: what is said in EHLO, and in its reply, is ASCII.
#[test]
fn a_host_name_in_u_labels_is_kept_in_a_labels() {
    let loaded = read(&RIGHT.replace("mail.example.com", "Mail.B\u{fc}cher.example"), &[]).unwrap();
    assert_eq!(loaded.settings.session.hostname, "mail.xn--bcher-kva.example");
    assert_eq!(loaded.settings.upstreams[0].helo, "mail.xn--bcher-kva.example");
}

#[test]
fn what_is_asked_of_headers_is_as_written() {
    use crate::content::{EightBit, ForeignSender, HeaderRules, MissingSender, Results, Unqualified};
    use crate::identity::{EntryState, Leeway, Resending, Vouching};
    use crate::smtp::data::BareLf;
    let rules = |header: &str| read(&format!("{RIGHT}{header}"), &[]).unwrap().settings.session.header;
    assert_eq!(rules(""), HeaderRules::default());
    let all = "[header]\nstrict_8bit = true\nsender = \"rewrite\"\nadd_sender = true\nfqdn = \"complete\"\ndomain = \"Example.COM\"\n\
               authentication_results = true\n";
    assert_eq!(
        rules(all),
        HeaderRules {
            eight_bit: EightBit::Refused,
            foreign_sender: ForeignSender::Replaced,
            missing_sender: MissingSender::Added,
            unqualified: Unqualified::Completed(crate::mail::Domain::parse("example.com").unwrap()),
            results: Results::Written,
        }
    );
    assert_eq!(rules("[header]\nfqdn = \"refuse\"\n").unqualified, Unqualified::Refused);
    let given = RIGHT
        .replace("name = \"robot\"", "name = \"robot\"\nresend = true\nbare_lf = \"normalize\"\naccept_vouched = true");
    let robot = read(&given, &[]).unwrap().settings.roster.describe("robot").unwrap();
    assert_eq!(
        robot.terms.leeway,
        Leeway { bare_lf: BareLf::Normalized, resending: Resending::AnyMail, vouching: Vouching::BalancerToo }
    );
    assert_eq!(robot.terms.state, EntryState::Enabled);
    let robot = read(RIGHT, &[]).unwrap().settings.roster.describe("robot").unwrap();
    assert_eq!(robot.terms.leeway, Leeway::default());
}

#[test]
fn a_listener_of_load_balancers_that_vouch_has_their_pins_and_its_reload_counts_now() {
    use crate::identity::Digest256;
    use crate::tls::BalancerPins;
    let pinned = |digit: &str| {
        let pin = format!("sha256/{}", digit.repeat(64));
        let mode = format!("mode = \"proxied-tls\"\nproxy = \"10.0.0.1\"\nbalancer_pin = [\"{pin}\"]");
        let text = RIGHT.replace("mode = \"starttls\"", &mode);
        read(&text.replace("send_as_email = true", "send_as_email = true\naccept_vouched = true"), &[]).unwrap()
    };
    let (old, new) = (pinned("0"), pinned("1"));
    assert!(old.warnings.is_empty(), "{:?}", old.warnings);
    let listener = &old.settings.listeners[0];
    assert_eq!(listener.mode, ListenerMode::ProxiedTls);
    assert_eq!(listener.vouchers, BalancerPins::new(vec![Digest256([0; 32])]));
    assert!(listener.balancers.is_some() && old.settings.roster.takes_vouched());
    let said = differences(&old.settings, &new.settings);
    assert_eq!(said, ["listener 1: balancer_pin: changed"]);
    assert!(!read(RIGHT, &[]).unwrap().settings.roster.takes_vouched());
}

#[test]
fn the_environment_is_over_the_file() {
    let environment = [
        ("SEALPOST__HOSTNAME", "relay.example.com"),
        ("SEALPOST__LIMITS__CONNECTIONS", "17"),
        ("SEALPOST__DEADLINES__COMMAND", "10m"),
        ("SEALPOST__QUEUE__RETRY", "2m, 4m"),
        ("SEALPOST__RECEIVED__IDENTITY", "true"),
        ("SEALPOST_LOG", "ignored: one underscore"),
    ];
    let loaded = read(RIGHT, &environment).unwrap();
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told[1..],
        [
            "environment SEALPOST_LOG: warning: sets nothing: names of keys begin with SEALPOST__; write two underscores, SEALPOST__LOG, \
             and two between a table and its key; or take it out"
        ]
    );
    let settings = loaded.settings;
    assert_eq!(settings.hostname, "relay.example.com");
    assert_eq!(settings.connections.connections, 17);
    assert_eq!(settings.deadlines.command, std::time::Duration::from_secs(600));
    assert_eq!(settings.received.identity, Shown::Yes);
}

#[test]
fn the_environment_can_be_wrong_too() {
    let environment = [
        ("SEALPOST__TLS__MIN_VERSIN", "1.3"),
        ("SEALPOST__LIMITS__CONNECTIONS", "many"),
        ("SEALPOST__UPSTREAM__NAME", "x"),
        ("SEALPOST__TLS", "x"),
        ("SEALPOST__RECEIVED__IDENTITY", "yes"),
    ];
    assert_eq!(
        told(RIGHT, &environment),
        [
            "environment SEALPOST__LIMITS__CONNECTIONS: limits.connections: \"many\": not a whole number from 0 to 4294967295; write a whole number, \
             without quotes",
            "environment SEALPOST__RECEIVED__IDENTITY: received.identity: \"yes\": not true or false; write true or false, without quotes",
            "environment SEALPOST__TLS: tls: this is a table, not a key",
            "environment SEALPOST__TLS__MIN_VERSIN: tls.min_versin: there is no such key; did you mean \"min_version\"?",
            "environment SEALPOST__UPSTREAM__NAME: upstream.name: keys of [[upstream]] can't be set from the environment; write it in the file",
        ]
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let table = broken::TABLE;
    // Changes of different lines, none of which hides another.
    let chosen = [
        "data_dir = \"data\"",
        "mode = \"starttls\"",
        "domains = [\"example.com\"]",
        "send_to = [\"*@example.net\"]",
        "ca = \"ca.pem\"",
    ];
    let changes: Vec<_> = chosen
        .iter()
        .filter_map(|line| table.iter().find(|broken| broken.line == *line && !broken.told[0].contains("not TOML")))
        .collect();
    assert_eq!(changes.len(), chosen.len());
    let text = changes.iter().fold(RIGHT.to_owned(), |text, broken| text.replacen(broken.line, broken.instead, 1));
    let told = told(&text, &[]);
    for broken in changes {
        for sentence in broken.told {
            // The line may have moved: what is behind it counts.
            let behind = sentence.split_once(": ").unwrap().1;
            assert!(told.iter().any(|line| line.ends_with(behind)), "{behind}\nis not among\n{}", told.join("\n"));
        }
    }
}

#[test]
fn every_documented_key_is_known_and_every_key_is_documented() {
    let text = include_str!("../../conf/sealpost.toml");
    fn check(keys: &'static [schema::Key], text: &str) {
        for key in keys {
            let is_there = match key.kind {
                schema::Kind::Later | schema::Kind::Secret(_) => continue,
                schema::Kind::Table(inner) | schema::Kind::Tables(inner) => {
                    check(inner, text);
                    text.contains(&format!("{}]", key.name)) || text.contains(&format!("{} = {{", key.name))
                }
                schema::Kind::Text
                | schema::Kind::Texts
                | schema::Kind::Flag
                | schema::Kind::Count
                | schema::Kind::Priority
                | schema::Kind::Wait
                | schema::Kind::Waits
                | schema::Kind::Size
                | schema::Kind::Choice(..) => {
                    let is_key = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{} = ", key.name));
                    text.lines().any(is_key)
                        || text.contains(&format!("{} = \"", key.name))
                        || text.contains(&format!(" {} = ", key.name))
                }
            };
            assert!(is_there, "conf/sealpost.toml does not show {}", key.name);
        }
    }
    check(schema::TOP, text);
}

/// The folder that `conf/sealpost.toml` speaks of.
fn documented_house() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["tls", "ca", "secrets", "identities.d"] {
        std::fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    let copies = [
        ("server.pem", "tls/server.pem"),
        ("server.key", "tls/server.key"),
        ("server.pem", "tls/smtp.example.org.pem"),
        ("server.key", "tls/smtp.example.org.key"),
        ("server.pem", "tls/client.pem"),
        ("server.key", "tls/client.key"),
        ("ca.pem", "ca/staff-root.pem"),
        ("ca.pem", "ca/staff-issuing.pem"),
        ("ca.crl", "ca/staff.crl"),
        ("other.pem", "ca/workloads.pem"),
        ("other.crl", "ca/workloads.crl"),
        ("ca.pem", "ca/upstream.pem"),
        ("password", "secrets/upstream"),
        ("no-credentials", "secrets/credentials"),
    ];
    for (from, to) in copies {
        std::fs::copy(house().join(from), dir.path().join(to)).unwrap();
    }
    dir
}

#[test]
fn the_documented_configuration_loads() {
    let dir = documented_house();
    let path = dir.path().join("sealpost.toml");
    // A CA for the upstream is named, so that the test does not depend on the machine's.
    let text =
        include_str!("../../conf/sealpost.toml").replace("# ca = \"ca/upstream.pem\"", "ca = \"ca/upstream.pem\"");
    std::fs::write(&path, text).unwrap();
    let loaded = load(&path, &[], &clock()).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.census.to_string(), "2 listeners, 2 client CAs, 3 identities, 1 upstream");
}

#[test]
fn the_documented_configuration_loads_with_every_key_written_and_changes_nothing() {
    let dir = documented_house();
    let path = dir.path().join("sealpost.toml");
    let plain =
        include_str!("../../conf/sealpost.toml").replace("# ca = \"ca/upstream.pem\"", "ca = \"ca/upstream.pem\"");
    let is_key = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|rest| rest.split_once(" = ")).map(|(key, _)| key);
        key.is_some_and(|key| key.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_'))
    };
    let uncommented: String = plain
        .lines()
        .map(|line| if is_key(line) || line.starts_with("# [[") { line.trim_start_matches("# ") } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let read = |text: &str| load_text(&path, text, &[], &clock()).unwrap_or_else(|found| panic!("{found:#?}")).settings;
    // What is shown as a default is the default: only examples without one differ.
    let changed = differences(&read(&plain), &read(&uncommented));
    let examples = [
        "postmaster",
        "identity",
        "identities: now [\"identities.d\"]",
        "listener 1: refusal: now \"reply\"",
        "listener 1: client_cas: now [\"staff\"]",
        "listener 1: pins: now true",
        "listener 3: added",
        "listener 1: proxy: now [\"10.0.0.0/8\", \"192.0.2.1\"]",
        "tls.certificates",
        "client_ca",
        "credentials.file",
        "upstream",
        "route",
        "dns.servers",
        "header.domain",
        "reports",
        "queue.per_identity: now 10",
        "limits.connections_per_identity: now 1000",
    ];
    let unexpected: Vec<_> =
        changed.iter().filter(|line| !examples.iter().any(|example| line.starts_with(example))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(changed.len() > 5, "{changed:#?}");
}

/// RFC 9525 §6.6: `ca` applies where `tls` is not said, since only with "verify" the certificate is looked at.
#[test]
fn that_an_upstreams_certificate_is_looked_at_is_the_default() {
    let said = |tls: &str| told(&RIGHT.replace("name = \"main\"", &format!("name = \"main\"\n{tls}")), &[]);
    assert_eq!(said(""), [""; 0]);
    assert_eq!(said("tls = \"verify\""), [""; 0]);
    let lax = said("tls = \"require\"");
    assert!(lax.len() == 1 && lax[0].contains("never applies"), "{lax:?}");
}

#[test]
fn who_lacks_a_credential_is_told_and_the_others_are_not_troubled() {
    let with = |factor: &str, file: &str| {
        let text = RIGHT
            .replace("send_as_email = true", &format!("send_as_email = true\nsecond_factor = \"{factor}\""))
            .replace("name = \"robot\"", &format!("name = \"robot\"\nsecond_factor = \"{factor}\""));
        let text = format!("{text}\n[credentials]\nfile = \"{file}\"\n");
        let loaded = read(&text, &[]).unwrap_or_else(|found| panic!("{found:#?}"));
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for (factor, file, expected) in [
        ("password", "credentials", &[][..]),
        (
            "totp",
            "credentials",
            &[
                "no credential that begins with \"staff:\" shows that: nobody can send by it; put the line of `sealpost passwd --totp staff:ADDRESS`",
                "its credential does not show that: it can't send; put the line of `sealpost passwd --totp robot`",
            ],
        ),
        (
            "totp",
            "coded",
            &[
                "of the credentials that begin with \"staff:\", 1 do not show that, like \"staff:alice@example.com\": these can't send",
            ],
        ),
        // The code is set up, and never asked for.
        (
            "password",
            "coded",
            &[
                "the credential of \"staff:bob@example.com\" has a secret for codes, and no code is asked for; write second_factor = \"totp\"",
                "the credential of \"robot\" has a secret for codes, and no code is asked for; write second_factor = \"totp\"",
            ],
        ),
    ] {
        let told = with(factor, file);
        assert_eq!(told.len(), expected.len(), "{factor} {file}: {told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{factor} {file}: {told}");
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_mistake() {
    let found = load(Path::new("/nowhere/sealpost.toml"), &[], &clock()).unwrap_err();
    assert_eq!(found[0].to_string(), "/nowhere/sealpost.toml: can't be read: there is no such file");
}

#[test]
fn a_reload_tells_what_is_different() {
    let old = read(RIGHT, &[]).unwrap().settings;
    assert_eq!(differences(&old, &read(RIGHT, &[]).unwrap().settings), Vec::<String>::new());
    let text = RIGHT
        .replace("send_to = [\"*@example.net\"]", "send_to = [\"*\"]")
        .replace("data_dir = \"data\"", "data_dir = \"elsewhere\"\n[limits]\nconnections = 5\n")
        .replace("ca.crl", "stale.crl")
        + "[[identity]]\nname = \"bob\"\nmatch = { email = \"bob@example.com\" }\nsend_as = [\"*\"]\nsend_to = [\"*\"]\n";
    let new = read(&text, &[]).unwrap().settings;
    assert_eq!(
        differences(&old, &new),
        [
            "client_ca \"staff\": crls: [\"ca.crl\"] -> [\"stale.crl\"]",
            "client_ca \"staff\": crls: content of ca.crl: no longer read",
            "client_ca \"staff\": crls: content of stale.crl: read now",
            "data_dir: \"data\" -> \"elsewhere\" (from the next start on)",
            "identity \"bob\": added",
            "identity \"robot\": send_to: [\"*@example.net\"] -> [\"*\"]",
            "limits.connections: 2000 -> 5",
        ]
    );
}

#[test]
fn a_reload_tells_of_files_with_new_content() {
    let dir = documented_house();
    let path = dir.path().join("sealpost.toml");
    std::fs::write(
        &path,
        include_str!("../../conf/sealpost.toml").replace("# ca = \"ca/upstream.pem\"", "ca = \"ca/upstream.pem\""),
    )
    .unwrap();
    let old = load(&path, &[], &clock()).unwrap().settings;
    std::fs::copy(house().join("crls/one.crl"), dir.path().join("ca/staff.crl")).unwrap();
    let new = load(&path, &[], &clock()).unwrap().settings;
    assert_eq!(differences(&old, &new), ["client_ca \"staff\": crls: content of ca/staff.crl: changed"]);
}

#[test]
fn every_file_and_directory_that_is_read_is_watched() {
    let settings = read(&RIGHT.replace("crls = [\"ca.crl\"]", "crls = [\"ca.crl\", \"crls\"]"), &[]).unwrap().settings;
    for name in ["sealpost.toml", "server.pem", "server.key", "ca.pem", "ca.crl", "crls", "crls/one.crl"] {
        assert!(settings.watched.contains(&house().join(name)), "{name}: {:?}", settings.watched);
    }
}

#[test]
fn a_rule_knows_its_line() {
    let settings = read(RIGHT, &[]).unwrap().settings;
    assert!(settings.roster.names().eq(["robot"]));
    assert_eq!(settings.trust.cas().len(), 1);
}
