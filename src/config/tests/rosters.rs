//! Identities from files of their own: tables, lines, directories; their mistakes; what a reload says of them.

use std::path::Path;

use super::*;

/// A folder with the right configuration, which names these files of identities.
fn folder(identities: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["server.pem", "server.key", "ca.pem", "ca.crl"] {
        std::fs::copy(house().join(name), dir.path().join(name)).unwrap();
    }
    std::fs::create_dir_all(dir.path().join("identities.d")).unwrap();
    for (name, text) in files {
        write(dir.path(), name, text, 0o644);
    }
    let text = RIGHT.replace("data_dir", &format!("identities = {identities}\ndata_dir"));
    write(dir.path(), "sealpost.toml", &text, 0o644);
    dir
}

fn load_from(dir: &Path) -> Result<Loaded, Vec<Mistake>> {
    load(&dir.join("sealpost.toml"), &[], &clock())
}

/// What is told, without the folder's name.
fn told_of(dir: &Path) -> Vec<String> {
    let found = match load_from(dir) {
        Ok(loaded) => loaded.warnings,
        Err(found) => found,
    };
    found.iter().map(|mistake| mistake.to_string().replace(&format!("{}/", dir.display()), "")).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let loaded = load_from(dir).unwrap_or_else(|found| panic!("{found:#?}"));
    assert_eq!(loaded.warnings, []);
    let mut names: Vec<String> = loaded.settings.roster.names().map(str::to_owned).collect();
    names.sort();
    names
}

const ALICE: &str = "[[identity]]\nname = \"alice\"\nmatch = { ca = \"staff\", email = \"alice@example.com\" }\nsend_as = [\"@certificate\"]\nsend_to = [\"*\"]\n";
const LINES: &str = "name,ca,email,send_as,send_to\nbob,staff,bob@example.com,@certificate !ceo@example.com,*\n# a remark\ncarol,staff,carol@example.com,@certificate,*@example.net *@example.org\n";

#[test]
fn identities_come_from_tables_and_lines_of_other_files() {
    let files = [
        ("identities.d/a.toml", ALICE),
        ("identities.d/b.csv", LINES),
        ("identities.d/README", "not ours"),
        ("identities.d/a.toml~", "not ours"),
        ("identities.d/.hidden.toml", "not ours"),
    ];
    let dir = folder("[\"identities.d\"]", &files);
    assert_eq!(names(dir.path()), ["alice", "bob", "carol", "robot"]);
    let settings = load_from(dir.path()).unwrap().settings;
    assert_eq!(settings.census.identities, 4);
    for name in ["identities.d", "identities.d/a.toml", "identities.d/b.csv"] {
        assert!(settings.watched.contains(&dir.path().join(name)), "{name}: {:?}", settings.watched);
    }
    let one = folder("\"people.csv\"", &[("people.csv", &format!("\u{feff}{}", LINES.replace('\n', "\r\n")))]);
    assert_eq!(names(one.path()), ["bob", "carol", "robot"]);
    let none = folder("[\"identities.d\"]", &[]);
    assert_eq!(names(none.path()), ["robot"]);
}

/// A line in a roster once took away the second factor that its CA asks of everybody.
#[test]
fn who_says_nothing_of_a_second_factor_shows_what_his_ca_asks_for() {
    let lines = "name,ca,email,fingerprint,second_factor,send_as\n\
        bob,staff,bob@example.com,,,@certificate\n\
        carol,staff,carol@example.com,,none,@certificate\n\
        dave,staff,dave@example.com,,totp,@certificate\n\
        erin,,erin@example.com,,,@certificate\n\
        frank,,,0000000000000000000000000000000000000000000000000000000000000000,none,frank@example.com\n";
    let unwritten = ALICE.to_owned();
    let written = ALICE.replace("alice", "anna").replace("match =", "second_factor = \"none\"\nmatch =");
    let files = [("a.toml", unwritten.as_str()), ("b.toml", written.as_str()), ("c.csv", lines)];
    let dir = folder("[\"a.toml\", \"b.toml\", \"c.csv\"]", &files);
    let text = std::fs::read_to_string(dir.path().join("sealpost.toml")).unwrap();
    let text = text.replace("domains = [\"example.com\"]", "domains = [\"example.com\"]\nsecond_factor = \"password\"");
    write(dir.path(), "sealpost.toml", &format!("{text}\n[credentials]\nfile = \"credentials\"\n"), 0o644);
    write(dir.path(), "credentials", "", 0o600);
    let loaded = load_from(dir.path()).unwrap_or_else(|found| panic!("{found:#?}"));
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(told.iter().any(|one| one.contains("client_ca \"staff\" asks for it")), "{told:#?}");
    let settings = loaded.settings;
    let mut demanding: Vec<_> =
        settings.roster.demanding().map(|one| (one.name, one.factor, one.by.unwrap_or("-"))).collect();
    demanding.sort_unstable_by_key(|(name, ..)| *name);
    use crate::identity::SecondFactor::{Password, Totp};
    // The last of these names no CA, and there is only one.
    assert_eq!(
        demanding,
        [
            ("alice", Password, "staff"),
            ("bob", Password, "staff"),
            ("dave", Totp, "-"),
            ("erin", Password, "staff"),
            ("robot", Password, "staff"),
        ]
    );
}

#[test]
fn a_quote_that_is_never_closed_takes_no_whole_file_into_memory() {
    let line = "c,staff,c@example.com,*,*\n";
    let many = line.repeat(5 * 1024 * 1024 / line.len());
    let dir = folder(
        "\"x.csv\"",
        &[(
            "x.csv",
            &format!("name,ca,email,send_as,send_to\na,staff,a@example.com,*,*\nb,\"staff,b@example.com,*,*\n{many}"),
        )],
    );
    let told = told_of(dir.path());
    assert_eq!(
        told,
        [
            "x.csv:3: no line ends within 4 MiB from here on; close the quote that opens here or below, or take remarks out"
        ]
    );
}

#[test]
fn a_faulty_file_whose_identities_stay_as_they_were_is_not_told_as_taken_over() {
    let dir = folder("\"a.toml\"", &[("a.toml", ALICE)]);
    let old = load_from(dir.path()).unwrap().settings;
    write(dir.path(), "a.toml", "x = ", 0o644);
    let file = dir.path().join("sealpost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let before = Before { settings: &old, faulty: FaultyPart::StaysAsItWas };
    let loaded = reload_text(&file, &text, &[], &clock(), Some(before)).unwrap();
    assert_eq!(loaded.held_back, ["identities"]);
    assert!(loaded.settings.roster.names().any(|name| name == "alice"));
    assert_eq!(differences(&old, &loaded.settings), Vec::<String>::new());
}

/// What a reload makes of a folder whose files were changed so.
fn reloaded(changes: &[(&str, &str)]) -> (Settings, Loaded, tempfile::TempDir) {
    let dir = folder("\"a.toml\"", &[("a.toml", ALICE)]);
    let old = load_from(dir.path()).unwrap().settings;
    for (name, text) in changes {
        write(dir.path(), name, text, 0o644);
    }
    let file = dir.path().join("sealpost.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let before = Before { settings: &old, faulty: FaultyPart::StaysAsItWas };
    let loaded = reload_text(&file, &text, &[], &clock(), Some(before)).unwrap();
    (old, loaded, dir)
}

#[test]
fn a_new_root_makes_no_entry_of_an_old_roster_nor_an_old_root_one_of_a_new_roster() {
    let of_house = |name: &str| std::fs::read_to_string(house().join(name)).unwrap();
    let (root, crl) = (of_house("other.pem"), of_house("other.crl"));
    let bob = ALICE.replace("alice", "bob");
    let is_old = |old: &Settings, new: &Settings| Arc::ptr_eq(&old.trust.cas()[0], &new.trust.cas()[0]);
    let knows = |loaded: &Loaded, who: &str| loaded.settings.roster.names().any(|name| name == who);

    let (old, loaded, _dir) = reloaded(&[("ca.pem", &root), ("ca.crl", &crl), ("a.toml", "x = ")]);
    assert_eq!(loaded.held_back, ["identities", "client_ca \"staff\""]);
    assert!(is_old(&old, &loaded.settings) && knows(&loaded, "alice"));
    // The upstream has the same file, for itself.
    assert_eq!(differences(&old, &loaded.settings), ["upstream \"main\": ca: content of ca.pem: changed"]);

    let (old, loaded, _dir) = reloaded(&[("ca.pem", root.split_at(root.len() / 2).0), ("a.toml", &bob)]);
    let held: Vec<&str> = loaded.held_back.iter().map(String::as_str).filter(|part| *part != "upstream").collect();
    assert_eq!(held, ["client_ca \"staff\"", "identities"]);
    assert!(is_old(&old, &loaded.settings) && knows(&loaded, "alice") && !knows(&loaded, "bob"));

    // A CRL that is half written holds up no identities, and faulty identities hold up no CRL.
    let (_, loaded, _dir) = reloaded(&[("ca.crl", crl.split_at(crl.len() / 2).0), ("a.toml", &bob)]);
    assert_eq!(loaded.held_back, ["client_ca \"staff\""]);
    assert!(knows(&loaded, "bob"));
    let (old, loaded, _dir) = reloaded(&[("ca.crl", &of_house("crls/one.crl")), ("a.toml", "x = ")]);
    assert_eq!(loaded.held_back, ["identities"]);
    assert!(!is_old(&old, &loaded.settings));

    let (old, loaded, _dir) = reloaded(&[("ca.pem", &root), ("ca.crl", &crl), ("a.toml", &bob)]);
    assert_eq!(loaded.held_back, Vec::<String>::new());
    assert!(!is_old(&old, &loaded.settings) && knows(&loaded, "bob"));
    let texts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(!texts.iter().any(|text| text.contains("warning: ") && text.contains("a.toml")), "{texts:?}");
}

#[test]
fn what_stays_as_it_was_is_not_told_as_a_warning() {
    let (_, loaded, _dir) = reloaded(&[("a.toml", "x = ")]);
    let blocking = |one: &Mistake| one.gravity == Gravity::HeldBack && !one.to_string().contains("warning: ");
    assert!(loaded.warnings.iter().any(blocking), "{:?}", loaded.warnings);
}

#[test]
fn every_kind_of_key_has_its_column() {
    let digest = "ab".repeat(32);
    let lines = format!(
        "spki,fingerprint,serial,issuer,subject,uri,dns,upn,email,ca,name,disabled,null_sender,second_factor,message_size,recipients_per_message,send_to,send_as\n\
         {digest},,,,,,,,,,by-key,true,false,none,10MiB,5,*,a@example.com\n\
         ,{digest},,,,,,,,,by-certificate,,,,,,*,a@example.com\n\
         ,,0a1b,CN=staff CA,,,,,,staff,by-serial,,,,,,*,a@example.com\n\
         ,,,,\"CN=Smith\\, Al,O=\"\"Example\"\"\",,,,,staff,bad-subject,,,,,,*,a@example.com\n"
    );
    let dir = folder("\"x.csv\"", &[("x.csv", &lines)]);
    // A quoted cell reaches the reader whole: the quote within the name is what is wrong.
    assert_eq!(
        told_of(dir.path()),
        [
            "x.csv:5: identity \"bad-subject\": subject: \"CN=Smith\\\\, Al,O=\\\"Example\\\"\": '\"' within a value is written \\\""
        ]
    );
    let good = lines.replace("O=\"\"Example\"\"", "O=Example").replace("bad-subject", "by-subject");
    let dir = folder("\"x.csv\"", &[("x.csv", &good)]);
    assert_eq!(names(dir.path()), ["by-certificate", "by-key", "by-serial", "by-subject", "robot"]);
}

/// A file's content, and everything that is told.
fn check(name: &str, content: &str, expected: &[&str]) {
    let dir = folder(&format!("\"{name}\""), &[(name, content)]);
    assert_eq!(told_of(dir.path()), expected, "{content}");
}

#[test]
fn a_mistake_in_a_file_of_tables_is_told_at_its_line() {
    check("a.toml", "x = ", &["a.toml:1: not TOML: string values must be quoted, expected literal string"]);
    check(
        "a.toml",
        "[[client_ca]]\nname = \"x\"\n",
        &["a.toml:1: client_ca: there is no such key; known here: identity"],
    );
    check(
        "a.toml",
        &format!("\n{}", ALICE.replace("staff", "stuff").replace("[\"*\"]", "[\"*@\"]")),
        &[
            "a.toml:4: identity \"alice\": match.ca: \"stuff\": there is no client_ca of this name; did you mean \"staff\"?",
            "a.toml:6: identity \"alice\": send_to: \"*@\": the domain (right of the @) is empty; write \"alice@example.com\", \"*@example.com\" or \"*\"",
        ],
    );
    check(
        "a.toml",
        &ALICE.replace("alice\"\n", "robot\"\n"),
        &["a.toml:2: identity \"robot\": name: \"robot\": there is another of this name; give each its own name"],
    );
    check(
        "a.toml",
        &ALICE.replace("[\"@certificate\"]", "[\"x@elsewhere.example\"]"),
        &[
            "a.toml:4: warning: identity \"alice\": send_as: has x@elsewhere.example, which lies beyond the domains of its CA and is never granted",
        ],
    );
    check("a.toml", "", &[]);
}

#[test]
fn a_mistake_in_a_line_is_told_with_its_column() {
    let head = "name,ca,email,send_as,send_to\n";
    for (content, expected) in [
        ("", "x.csv:1: is empty; its first line names the columns: name,ca,email,send_as,send_to"),
        (
            "ca,email\n",
            "x.csv:1: there is no column name; begin the file with a line like name,ca,email,send_as,send_to",
        ),
        ("name,emial\n", "x.csv:1: column 2: \"emial\": there is no such column; did you mean \"email\"?"),
        (
            "alice,staff,alice@example.com,*,*\nbob,staff,bob@example.com,*,*\n",
            "x.csv:1: names no column: it has no header line; begin the file with a line like name,ca,email,send_as,send_to",
        ),
        (
            &format!("{head}a,staff,a@example.com,*,*,*\n"),
            "x.csv:2: identity \"a\": has 6 cells, the first line has 5; put a cell that holds a comma in double quotes",
        ),
        (
            &format!(
                "{head}# a remark\n\na,staff,a@example.com,*,*\nb,\"staff,b@example.com,*,*\nc,staff,c@example.com,*,*"
            ),
            "x.csv:5: cell 2 begins with a quote that is never closed; close it, and write two quotes (\"\") for one within a cell",
        ),
        (
            &format!("{head}a,\"staff,a@example.com,*,*\nb,\"staff\",b@example.com,*,*\n"),
            "x.csv:2: identity \"a\": a quote that opens on this line is closed only lines below; close it where its cell ends",
        ),
        (
            &format!("{head}a,staff,a@example.com,*,*\rb,staff,b@example.com,*,*\n"),
            "x.csv:2: holds a CR that no LF follows; save the file with LF or CRLF behind each line",
        ),
        // What an editor shows as a line of its own was once a part of the remark.
        (
            &format!("{head}\n# who has left:\rmallory,staff,mallory@example.com,*,*\n"),
            "x.csv:3: holds a CR that no LF follows; save the file with LF or CRLF behind each line",
        ),
        (
            &format!("{head}a,staff,a@example.com,*,*\r\r\n# a remark\r\nb,stuff,b@example.com,*,*\r\r\n"),
            "x.csv:4: identity \"b\": ca: \"stuff\": there is no client_ca of this name; did you mean \"staff\"?",
        ),
        ("name,name\n", "x.csv:1: column 2: \"name\" is there twice; leave one out"),
        (
            &format!("{head}a,staff,a@example.com,*\n"),
            "x.csv:2: identity \"a\": has 4 cells, the first line has 5; write a comma for each cell that is missing; an empty cell is a key that is not written",
        ),
        (&format!("{head},staff,a@example.com,*,*\n"), "x.csv:2: name: is empty; log and queue call it so"),
        (
            &format!("{head}staff:a,staff,a@example.com,*,*\n"),
            "x.csv:2: identity \"staff:a\": name: begins with the name of the client_ca \"staff\" and a colon, as its certificates are called in the log; write another name",
        ),
        (
            &format!("{head}a,stuff,a@example.com,*,*\n"),
            "x.csv:2: identity \"a\": ca: \"stuff\": there is no client_ca of this name; did you mean \"staff\"?",
        ),
        (
            &format!("{head}a,staff,a,*,*\n"),
            "x.csv:2: identity \"a\": email: \"a\": the address has no @ behind its local part; write an address like \"alice@example.com\", or \"*@example.com\" for all of a domain",
        ),
        (
            &format!("{head}a,staff,a@example.com,* x,*\n"),
            "x.csv:2: identity \"a\": send_as: \"x\": it has no @; for every address of a domain write *@x; patterns have spaces between them",
        ),
        (
            &format!("{head}a,staff,,*,*\n"),
            "x.csv:2: identity \"a\": match needs at least one of email, upn, dns, uri, subject, issuer_serial, fingerprint, spki; a CA alone would make all of its certificates this one identity",
        ),
        (
            &format!("{head}a,staff,a@example.com,*,*\n\nb,staff,A@example.com,*,*\n"),
            "x.csv:4: identity \"b\": matches the same certificates as identity \"a\" (x.csv:2); leave one out or give it another key",
        ),
        (
            &format!("{head}robot,staff,a@example.com,*,*\n"),
            "x.csv:2: identity \"robot\": the name \"robot\" is taken by identity \"robot\" (sealpost.toml:21); give each identity a name of its own",
        ),
        ("name,accept_vouched\na,yes\n", "x.csv:2: identity \"a\": accept_vouched: \"yes\": not true or false"),
        ("name,resend\na,yes\n", "x.csv:2: identity \"a\": resend: \"yes\": not true or false"),
        (
            "name,bare_lf\na,crlf\n",
            "x.csv:2: identity \"a\": bare_lf: \"crlf\": there is no such choice; write \"refuse\" or \"normalize\"",
        ),
        ("name,hold\na,yes\n", "x.csv:2: identity \"a\": hold: \"yes\": not true or false"),
        (
            "name,recipients_per_day\na,0\n",
            "x.csv:2: identity \"a\": recipients_per_day: 0: nothing could be sent; write 1 or more",
        ),
        (
            "name,priority_max\na,10\n",
            "x.csv:2: identity \"a\": priority_max: \"10\": not a priority; write a number from -9 to 9",
        ),
        ("name,priority_min\na,1\n", "x.csv:2: identity \"a\": priority_max: from 1 to 0 there is none"),
        ("name,messages_per_hour\na,x\n", "x.csv:2: identity \"a\": messages_per_hour: \"x\": not a whole number"),
        ("name,disabled\na,yes\n", "x.csv:2: identity \"a\": disabled: \"yes\": not true or false"),
        (
            "name,second_factor\na,passwort\n",
            "x.csv:2: identity \"a\": second_factor: \"passwort\": there is no such choice; write \"none\", \"password\" or \"totp\"",
        ),
        (
            "name,recipients_per_message\na,0\n",
            "x.csv:2: identity \"a\": recipients_per_message: 0: nothing could be sent; write 1 or more",
        ),
        (
            "name,recipients_per_message\na,x\n",
            "x.csv:2: identity \"a\": recipients_per_message: \"x\": not a whole number",
        ),
        ("name,issuer,serial\na,,0x1\n", "x.csv:2: identity \"a\": issuer: is empty beside serial"),
        ("name,issuer,serial\na,CN=x,\n", "x.csv:2: identity \"a\": serial: is empty beside issuer"),
    ] {
        let dir = folder("\"x.csv\"", &[("x.csv", content)]);
        let told: Vec<String> =
            told_of(dir.path()).iter().map(|line| line.replace(&format!("{}/", dir.path().display()), "")).collect();
        assert_eq!(told, [expected], "{content}");
    }
    // What stands before it is told besides.
    let both = format!("{head}a,stuff,a@example.com,*,*\nb,staff,b@example.com,*,*\rc\n");
    let told: Vec<String> = told_of(folder("\"x.csv\"", &[("x.csv", &both)]).path());
    assert!(told.len() == 2 && told[0].contains("\"stuff\"") && told[1].contains("x.csv:3: holds a CR"), "{told:?}");
    let dir = folder("\"x.csv\"", &[]);
    std::fs::write(dir.path().join("x.csv"), b"name,email\na,\xe4@example.com\n").unwrap();
    assert_eq!(told_of(dir.path()), ["x.csv:2: identity \"a\": email: is not UTF-8; save the file as UTF-8"]);
}

#[test]
fn the_mistakes_of_a_file_are_told_up_to_a_limit() {
    let lines: String = (0..1000).map(|number| format!("n{number},staff,wrong,*,*\n")).collect();
    let dir = folder("\"x.csv\"", &[("x.csv", &format!("name,ca,email,send_as,send_to\n{lines}"))]);
    let told = told_of(dir.path());
    assert_eq!(told.len(), 21, "{told:#?}");
    assert_eq!(told[0], "x.csv: has more mistakes than are told; the rest of it was not read");
    // What the roster finds, too.
    let lines: String = (0..1000).map(|number| format!("n{number},staff,same@example.com,*@example.com,*\n")).collect();
    let dir = folder("\"x.csv\"", &[("x.csv", &format!("name,ca,email,send_as,send_to\n{lines}"))]);
    let told = told_of(dir.path());
    assert_eq!(told.len(), 100, "{told:#?}");
    assert!(told.iter().any(|line| line.ends_with("(and 899 more are not shown)")), "{told:#?}");
}

#[test]
fn a_reload_tells_which_file_of_identities_is_different() {
    let files = [("identities.d/a.toml", ALICE), ("identities.d/b.csv", LINES)];
    let dir = folder("[\"identities.d\"]", &files);
    let old = load_from(dir.path()).unwrap().settings;
    assert_eq!(differences(&old, &load_from(dir.path()).unwrap().settings), Vec::<String>::new());
    write(dir.path(), "identities.d/b.csv", &LINES.replace("carol", "carla"), 0o644);
    write(dir.path(), "identities.d/c.toml", &ALICE.replace("alice", "dora"), 0o644);
    std::fs::remove_file(dir.path().join("identities.d/a.toml")).unwrap();
    let new = load_from(dir.path()).unwrap().settings;
    let folder = format!("{}/", dir.path().display());
    let told: Vec<String> = differences(&old, &new).iter().map(|line| line.replace(&folder, "")).collect();
    assert_eq!(
        told,
        [
            "identities: content of identities.d/a.toml: no longer read",
            "identities: content of identities.d/b.csv: changed",
            "identities: content of identities.d/c.toml: read now",
        ]
    );
    assert!(new.roster.names().any(|name| name == "carla") && !new.roster.names().any(|name| name == "alice"));
}

#[test]
fn a_file_that_everybody_may_write_is_a_mistake() {
    let dir = folder("\"x.csv\"", &[]);
    write(dir.path(), "x.csv", LINES, 0o666);
    assert_eq!(
        told_of(dir.path()),
        ["sealpost.toml:2: identities: x.csv: everybody may write it (mode 0666); chmod o-w x.csv"]
    );
}
