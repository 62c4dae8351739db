//! The table. What stands behind a case is the identity, `nobody` where the chain is good and no one is known by it, or what the client hears.

use rcgen::{ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, KeyPair, KeyUsagePurpose as Usage};

use super::{Case, World, check};
use crate::recipe::{CrlRecipe, DAY, ForeignKey, Made, NOW, Recipe, der};

const NOT_PERMITTED: &str = "its names are not permitted by the name constraints of its CA";
const UNLISTED: &str = "its CA has e-mail name constraints; this server must list that CA under intermediates";
const UNKNOWN: &str = "issuer is not among the CAs of this server";
const GAP: &str = "issuer is not among the CAs of this server, or an intermediate certificate was not sent";
const NOT_FOR_CLIENTS: &str = "not for client authentication (extended key usage)";
const EXPIRED: &str = "expired on 2027-01-14T08:00:00Z";

fn pem(made: &Made) -> Vec<u8> {
    made.pem().into_bytes()
}

fn alice() -> Recipe {
    Recipe::client("Alice").email("alice@example.com")
}

/// With a subjectAltName of exactly these names.
fn names(names: &[Vec<u8>]) -> Recipe {
    Recipe::client("Alice").extension(&[2, 5, 29, 17], false, der(0x30, &names.concat()))
}

fn rfc822(octets: &[u8]) -> Vec<u8> {
    der(0x81, octets)
}

/// otherName SmtpUTF8Mailbox (RFC 9598 §3).
fn smtp_utf8(text: &str) -> Vec<u8> {
    let oid = der(0x06, &[43, 6, 1, 5, 5, 7, 8, 9]);
    der(0xa0, &[oid, der(0xa0, &der(0x0c, text.as_bytes()))].concat())
}

fn upn(text: &str) -> Vec<u8> {
    let oid = der(0x06, &[43, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3]);
    der(0xa0, &[oid, der(0xa0, &der(0x0c, text.as_bytes()))].concat())
}

/// A twin with the same key: another name, other dates, whatever the recipe says.
fn twin(of: &Made, recipe: Recipe, ca: Option<&Made>) -> Made {
    recipe.with_key(KeyPair::from_pem(&of.key_pem()).unwrap(), ca)
}

#[test]
fn names_dates_purposes_keys_and_signatures() {
    let root = Recipe::ca("Staff Root").self_signed();
    let issuing = Recipe::ca("Staff Issuing").signed_by(&root);
    let unlisted = Recipe::ca("Staff Branch").signed_by(&root);
    let guests = Recipe::ca("Guests Root").self_signed();
    let strangers = Recipe::ca("Strangers Root").self_signed();
    let imitation = Recipe::ca("Staff Root").self_signed();
    let rsa = Recipe::ca("RSA Root").key(&rcgen::PKCS_RSA_SHA256).self_signed();
    let world = World::read(
        r#"
[[client_ca]]
name = "staff"
certificates = ["root.pem", "rsa.pem"]
intermediates = "issuing.pem"
revocation = "off"
domains = ["example.com", ".example.com"]
send_as_email = true
send_to = ["*"]
[[client_ca]]
name = "guests"
certificates = "guests.pem"
revocation = "off"
domains = ["guests.example"]
send_as_email = true
send_to = ["*"]
[[identity]]
name = "boss"
match = { ca = "staff", email = "boss@example.com" }
send_as = ["@certificate"]
send_to = ["*"]
[[identity]]
name = "billing"
match = { ca = "staff", uri = "spiffe://example.com/billing" }
send_as = ["billing@example.com"]
send_to = ["*"]
[[identity]]
name = "backup"
match = { ca = "staff", dns = "backup.example.com" }
send_as = ["backup@example.com"]
send_to = ["*"]
[[identity]]
name = "gone"
match = { ca = "staff", dns = "gone.example.com" }
send_as = ["gone@example.com"]
send_to = ["*"]
disabled = true
"#,
        &[
            ("root.pem", pem(&root)),
            ("rsa.pem", pem(&rsa)),
            ("issuing.pem", pem(&issuing)),
            ("guests.pem", pem(&guests)),
        ],
    )
    .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let by_root = |recipe: Recipe| recipe.signed_by(&root);
    let mut cases = Vec::new();
    let mut case = |name: &str, shown: &[&Made], expected: &str| cases.push(Case::new(name, shown, expected));

    // Whom a name stands for.
    case("its own e-mail name", &[&by_root(alice())], "staff:alice@example.com");
    case("upper case", &[&by_root(Recipe::client("A").email("ALICE@Example.COM"))], "staff:alice@example.com");
    case("a subdomain", &[&by_root(Recipe::client("A").email("a@mail.example.com"))], "staff:a@mail.example.com");
    case("two names", &[&by_root(alice().email("al@example.com"))], "staff:alice@example.com");
    case("a rule's name", &[&by_root(Recipe::client("Boss").email("boss@example.com"))], "boss");
    case("a URI", &[&by_root(Recipe::client("B").uri("spiffe://example.com/billing"))], "billing");
    case("a DNS name", &[&by_root(Recipe::client("B").dns("backup.example.com"))], "backup");
    case("a disabled identity", &[&by_root(Recipe::client("G").dns("gone.example.com"))], "nobody");
    case("no name at all", &[&by_root(Recipe::client("Alice"))], "nobody");
    case("a subject that looks like a name", &[&by_root(Recipe::client("alice@example.com"))], "nobody");
    case("a DNS name that looks like an address", &[&by_root(Recipe::client("A").dns("alice@example.com"))], "nobody");
    case(
        "two SPIFFE URIs",
        &[&by_root(Recipe::client("B").uri("spiffe://example.com/billing").uri("spiffe://example.com/x"))],
        "nobody",
    );
    case("a wildcard DNS name", &[&by_root(Recipe::client("B").dns("*.example.com"))], "nobody");
    case(
        "another CA that mints a rule's name",
        &[&Recipe::client("Boss").email("boss@example.com").signed_by(&guests)],
        "nobody",
    );
    case("another CA that mints a domain", &[&alice().signed_by(&guests)], "nobody");
    case(
        "another CA within its domains",
        &[&Recipe::client("G").email("g@guests.example").signed_by(&guests)],
        "guests:g@guests.example",
    );
    let hundred =
        (0..100).fold(Recipe::client("Alice"), |recipe, number| recipe.email(&format!("a{number}@example.com")));
    case("a hundred names", &[&by_root(hundred)], "staff:a0@example.com");

    // Tricks with names: none of them is a name.
    for (what, name) in [
        ("NUL", &b"alice@example.com\0.evil.example"[..]),
        ("NUL in the local part", b"ali\0ce@example.com"),
        ("CR LF", b"alice@example.com\r\nRCPT TO:<x@example.com>"),
        ("a control octet", b"alice\x07@example.com"),
        ("a space", b"al ice@example.com"),
        ("spaces around", b" alice@example.com "),
        ("octets beyond ASCII", "älice@example.com".as_bytes()),
        ("a domain beyond ASCII", "alice@exämple.com".as_bytes()),
        ("a phrase", b"Alice <alice@example.com>"),
        ("angle brackets", b"<alice@example.com>"),
        ("two addresses", b"alice@example.com,bob@example.com"),
        ("no host", b"alice"),
        ("an address literal", b"alice@[192.0.2.1]"),
        ("a comment", b"alice(boss)@example.com"),
        ("nothing", b""),
    ] {
        case(what, &[&by_root(names(&[rfc822(name)]))], "nobody");
    }
    case(
        "a trick beside a good name",
        &[&by_root(names(&[rfc822(b"ceo@example.com\0"), rfc822(b"alice@example.com")]))],
        "staff:alice@example.com",
    );

    // Dates, purposes, usages.
    case("expired", &[&by_root(alice().valid(NOW - 9 * DAY, NOW - DAY))], EXPIRED);
    case(
        "not yet valid",
        &[&by_root(alice().valid(NOW + DAY, NOW + 9 * DAY))],
        "not valid before 2027-01-16T08:00:00Z",
    );
    for (what, purposes) in [
        ("no purpose", &[][..]),
        ("serverAuth alone", &[Purpose::ServerAuth]),
        ("emailProtection alone", &[Purpose::EmailProtection]),
        ("any purpose", &[Purpose::Any]),
        ("smart card logon alone", &[Purpose::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 2])]),
    ] {
        case(what, &[&by_root(alice().purposes(purposes))], NOT_FOR_CLIENTS);
    }
    case(
        "several purposes",
        &[&by_root(alice().purposes(&[Purpose::EmailProtection, Purpose::ClientAuth]))],
        "staff:alice@example.com",
    );
    case(
        "a key for encryption only",
        &[&by_root(alice().usages(&[Usage::KeyEncipherment]))],
        "its key is not for signatures (key usage)",
    );
    case("no key usage", &[&by_root(alice().usages(&[]))], "staff:alice@example.com");
    case("a long serial", &[&by_root(alice().serial(&[0x7f; 21]))], "the serial number is longer than 20 octets");

    // Issuers.
    let by_issuing = alice().signed_by(&issuing);
    let by_unlisted = alice().signed_by(&unlisted);
    case("the leaf alone, its CA listed under intermediates", &[&by_issuing], "staff:alice@example.com");
    case("its CA sent", &[&by_unlisted, &unlisted], "staff:alice@example.com");
    case("its CA neither sent nor listed", &[&by_unlisted], GAP);
    case("strays beside the path", &[&by_unlisted, &strangers, &unlisted, &root], "staff:alice@example.com");
    case("self-signed", &[&alice().self_signed()], UNKNOWN);
    case("a stranger", &[&alice().signed_by(&strangers)], GAP);
    case("a stranger with its CA", &[&alice().signed_by(&strangers), &strangers], UNKNOWN);
    case("a CA of the same name", &[&alice().signed_by(&imitation)], "not signed by the CA of that name");
    case(
        "a CA certificate as the client's",
        &[&Recipe::ca("Alice").email("alice@example.com").purposes(&[Purpose::ClientAuth]).signed_by(&root)],
        "a CA certificate cannot be a client certificate",
    );
    let leaf = by_root(alice());
    case(
        "a leaf that issues",
        &[&alice().signed_by(&leaf), &leaf],
        "an issuer in its chain is not allowed to issue certificates",
    );
    let no_sign = Recipe::ca("No Sign").usages(&[Usage::CrlSign]).signed_by(&root);
    case(
        "a CA without keyCertSign",
        &[&alice().signed_by(&no_sign), &no_sign],
        "an issuer in its chain is not allowed to issue certificates",
    );
    let mail_only = Recipe::ca("Mail").purposes(&[Purpose::EmailProtection]).signed_by(&root);
    case(
        "a CA for another purpose",
        &[&alice().signed_by(&mail_only), &mail_only],
        "a CA in its chain is not for client authentication (extended key usage)",
    );
    let old = Recipe::ca("Old").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&root);
    case("an expired CA", &[&alice().signed_by(&old), &old], EXPIRED);
    let short = Recipe::ca("Short").path_length(0).signed_by(&root);
    let below_short = Recipe::ca("Below").signed_by(&short);
    case(
        "a path too long for its CA",
        &[&alice().signed_by(&below_short), &below_short, &short],
        "the chain is longer than one of its CAs allows (path length)",
    );
    case("a path as long as its CA allows", &[&alice().signed_by(&short), &short], "staff:alice@example.com");
    let mut ladder: Vec<Made> = vec![Recipe::ca("CA 1").signed_by(&root)];
    for number in 2..=9 {
        let next = Recipe::ca(&format!("CA {number}")).signed_by(ladder.last().unwrap());
        ladder.push(next);
    }
    for (depth, expected) in [(6, "staff:alice@example.com"), (9, "the chain has too many certificates")] {
        let leaf = alice().signed_by(&ladder[depth - 1]);
        let shown: Vec<&Made> = std::iter::once(&leaf).chain(ladder[..depth].iter().rev()).collect();
        case(&format!("a chain of {}", depth + 1), &shown, expected);
    }

    // Keys and signatures.
    for (what, algorithm) in [
        ("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        ("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        ("P-521", &rcgen::PKCS_ECDSA_P521_SHA512),
        ("Ed25519", &rcgen::PKCS_ED25519),
        ("RSA-2048", &rcgen::PKCS_RSA_SHA256),
    ] {
        case(what, &[&by_root(alice().key(algorithm))], "staff:alice@example.com");
        case(&format!("{what} under RSA"), &[&alice().key(algorithm).signed_by(&rsa)], "staff:alice@example.com");
    }
    // rustls itself does not read it: the handshake fails.
    let critical = by_root(alice().extension(&[1, 3, 9999, 1], true, vec![5, 0]));
    let said = "it has a critical extension that is unknown here";
    cases.push(Case { key: None, ..Case::new("a critical extension", &[&critical], said) });
    // Nobody has the key of this one.
    let short = alice().for_public_key(&ForeignKey::rsa(128), &root);
    cases.push(Case {
        name: "RSA-1024".into(),
        listener: 0,
        shown: vec![short],
        key: None,
        expected: "RSA key under 2048 bits".into(),
    });
    // sha256WithRSAEncryption to sha1WithRSAEncryption, in both places.
    let made = alice().signed_by(&rsa);
    let mut sha1 = made.der.to_vec();
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    let places: Vec<usize> = (0..sha1.len()).filter(|&at| sha1[at..].starts_with(&oid)).collect();
    places.iter().for_each(|&at| sha1[at + 8] = 0x05);
    let sha1 = Case { shown: vec![sha1.into()], ..Case::new("SHA-1", &[&made], "signature of a weak kind") };
    cases.push(sha1);
    assert!(check(&world, cases) >= 74);
}

#[test]
fn each_ca_by_its_own_rules_each_listener_by_its_own_cas() {
    let made = |name: &str| Recipe::ca(name).self_signed();
    let (mail, server, loose, short, strict, policed) =
        (made("Mail"), made("Server"), made("Loose"), made("Short"), made("Strict"), made("Policed"));
    let rsa = Recipe::ca("RSA").key(&rcgen::PKCS_RSA_SHA256).self_signed();
    let printer = Recipe::ca("Printer").self_signed();
    let scanner = Recipe::client("Scanner").self_signed();
    let old = Recipe::client("Old").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let lasting = Recipe::client("Lasting").valid(NOW - 9 * DAY, NOW - DAY).self_signed();
    let early = Recipe::client("Early").valid(NOW + DAY, NOW + 9 * DAY).self_signed();
    let lasting_below = Recipe::client("Below").valid(NOW - 9 * DAY, NOW - DAY).signed_by(&loose);
    let ca = |name: &str, rules: &str| {
        format!(
            "[[client_ca]]\nname = \"{name}\"\ncertificates = \"{name}.pem\"\nrevocation = \"off\"\n\
             domains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n{rules}\n"
        )
    };
    let pin = |name: &str, key: &str, more: &str| {
        format!(
            "[[identity]]\nname = \"{name}\"\nmatch = {{ {key} }}\nsend_as = [\"{name}@example.com\"]\n\
             send_to = [\"*\"]\n{more}\n"
        )
    };
    let hex = |digest: [u8; 32]| digest.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let print = |made: &Made| format!("fingerprint = \"{}\"", hex(made.fingerprint()));
    let key = |made: &Made| format!("spki = \"{}\"", hex(made.spki()));
    let beyond = "pin_ignores_expiry = true";
    let text = [
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nclient_cas = [\"mail\"]\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nclient_cas = [\"mail\"]\npins = true\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\nclient_cas = []\npins = true\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\npins = false\n"
            .to_owned(),
        ca("mail", "purposes = [\"emailProtection\"]"),
        ca("web", "purposes = [\"clientAuth\", \"serverAuth\"]"),
        ca("loose", "purposes = [\"clientAuth\", \"unstated\", \"any\"]"),
        ca("short", "chain_max = 2"),
        ca("strict", "rsa_bits_min = 3072"),
        ca("policed", "policies = [\"1.3.6.1.4.1.99999.1\"]"),
        ca("rsa", "rsa_bits_min = 2048"),
        pin("printer", &print(&printer), ""),
        pin("scanner", &key(&scanner), ""),
        pin("old", &print(&old), ""),
        pin("lasting", &print(&lasting), beyond),
        pin("below", &key(&lasting_below), beyond),
        pin("early", &print(&early), beyond),
    ]
    .concat();
    let cas = [("mail", &mail), ("web", &server), ("loose", &loose), ("short", &short), ("strict", &strict)];
    let named = cas.into_iter().chain([("policed", &policed), ("rsa", &rsa)]);
    let files: Vec<(String, Vec<u8>)> = named.map(|(name, made)| (format!("{name}.pem"), pem(made))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(name, octets)| (name.as_str(), octets.clone())).collect();
    let world = World::read(&text, &files).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));

    let with = |purposes: &[Purpose]| alice().purposes(purposes);
    let oid = |last: u8| vec![0x2b, 0x06, 0x01, 0x04, 0x01, 0x86, 0x8d, 0x1f, last];
    let policy =
        |recipe: Recipe, oid: &[u8]| recipe.extension(&[2, 5, 29, 32], false, der(0x30, &der(0x30, &der(0x06, oid))));
    let any_policy = [0x55, 0x1d, 0x20, 0];
    let cut = Case::new;
    let mut cases = vec![
        cut("mail", &[&with(&[Purpose::EmailProtection]).signed_by(&mail)], "mail:alice@example.com"),
        cut("mail: clientAuth is not asked for", &[&alice().signed_by(&mail)], NOT_FOR_CLIENTS),
        cut("server", &[&with(&[Purpose::ServerAuth]).signed_by(&server)], "web:alice@example.com"),
        cut("server: mail is not asked for", &[&with(&[Purpose::EmailProtection]).signed_by(&server)], NOT_FOR_CLIENTS),
        cut("loose: nothing stated", &[&with(&[]).signed_by(&loose)], "loose:alice@example.com"),
        cut("loose: any", &[&with(&[Purpose::Any]).signed_by(&loose)], "loose:alice@example.com"),
        cut("loose: others only", &[&with(&[Purpose::ServerAuth]).signed_by(&loose)], NOT_FOR_CLIENTS),
        cut("short: two", &[&alice().signed_by(&short)], "short:alice@example.com"),
        cut("strict: RSA-2048", &[&alice().key(&rcgen::PKCS_RSA_SHA256).signed_by(&strict)], "RSA key under 3072 bits"),
        cut("strict: P-256", &[&alice().signed_by(&strict)], "strict:alice@example.com"),
        cut("rsa", &[&alice().key(&rcgen::PKCS_RSA_SHA256).signed_by(&rsa)], "rsa:alice@example.com"),
        cut("policed", &[&policy(alice(), &oid(1)).signed_by(&policed)], "policed:alice@example.com"),
    ];
    let no_policy = "it was issued under none of the certificate policies that this server asks for";
    cases.push(cut("policed: another", &[&policy(alice(), &oid(2)).signed_by(&policed)], no_policy));
    cases.push(cut("policed: any", &[&policy(alice(), &any_policy).signed_by(&policed)], no_policy));
    cases.push(cut("policed: none", &[&alice().signed_by(&policed)], no_policy));
    for (what, ca, expected) in [
        ("a CA of the policy", policy(Recipe::ca("I"), &oid(1)), "policed:alice@example.com"),
        ("a CA of any policy", policy(Recipe::ca("I"), &any_policy), "policed:alice@example.com"),
        ("a CA of another policy", policy(Recipe::ca("I"), &oid(2)), no_policy),
        ("a CA of no policy", Recipe::ca("I"), no_policy),
    ] {
        let issuing = ca.signed_by(&policed);
        cases.push(cut(what, &[&policy(alice(), &oid(1)).signed_by(&issuing), &issuing], expected));
    }
    // A purpose must hold all the way: mail's leaf below a CA for clients only.
    let clients = Recipe::ca("Clients").purposes(&[Purpose::ClientAuth]).signed_by(&server);
    let below = with(&[Purpose::ServerAuth]).signed_by(&clients);
    let not_all_the_way = "a CA in its chain is not for client authentication (extended key usage)";
    cases.push(cut("a purpose that its CA has not", &[&below, &clients], not_all_the_way));
    let between = Recipe::ca("Between").signed_by(&short);
    cases.push(cut(
        "short: three",
        &[&alice().signed_by(&between), &between],
        "the chain has more than 2 certificates",
    ));

    // Pins.
    cases.push(cut("a pinned CA:TRUE", &[&printer], "printer"));
    cases.push(cut("a pinned key", &[&scanner], "scanner"));
    cases.push(cut("a pinned key, another certificate", &[&twin(&scanner, Recipe::client("New"), None)], "scanner"));
    cases.push(cut(
        "a pinned certificate's key is not pinned",
        &[&twin(&printer, Recipe::client("New"), None)],
        UNKNOWN,
    ));
    cases.push(cut("pinned and expired", &[&old], EXPIRED));
    cases.push(cut("pinned beyond expiry", &[&lasting], "lasting"));
    cases.push(cut("pinned beyond expiry, of our CA", &[&lasting_below], "below"));
    cases.push(cut("pinned beyond expiry, not yet valid", &[&early], "not valid before 2027-01-16T08:00:00Z"));

    // Listeners: 1 mail alone, 2 mail and pins, 3 pins alone, 4 all CAs without pins.
    let (by_mail, by_short) = (with(&[Purpose::EmailProtection]).signed_by(&mail), alice().signed_by(&short));
    for (listener, of_mail, of_short, of_scanner) in [
        (1, "mail:alice@example.com", GAP, UNKNOWN),
        (2, "mail:alice@example.com", GAP, "scanner"),
        (3, GAP, GAP, "scanner"),
        (4, "mail:alice@example.com", "short:alice@example.com", UNKNOWN),
    ] {
        cases.push(cut("its CA", &[&by_mail], of_mail).at(listener));
        cases.push(cut("another CA", &[&by_short], of_short).at(listener));
        cases.push(cut("a pin", &[&scanner], of_scanner).at(listener));
    }
    assert!(check(&world, cases) >= 40);
    let hints = |listener: usize| world.settings.listener_trust(&world.settings.listeners[listener]).hints().len();
    assert_eq!([0, 1, 2, 3, 4].map(hints), [0, 1, 0, 0, 7]);
}

fn subtrees(emails: &[&str]) -> Vec<GeneralSubtree> {
    emails.iter().map(|email| GeneralSubtree::Rfc822Name((*email).to_owned())).collect()
}

fn dns(name: &str) -> Vec<GeneralSubtree> {
    vec![GeneralSubtree::DnsName(name.to_owned())]
}

#[test]
fn email_name_constraints_of_listed_cas_hold() {
    let permitting = |name: &str, emails: &[&str]| Recipe::ca(name).constraints(subtrees(emails), Vec::new());
    // A constrained root, and a constrained intermediate below an unconstrained root.
    let constrained = permitting("Constrained Root", &["example.com", ".example.com"]).self_signed();
    let below_constrained = Recipe::ca("Below").signed_by(&constrained);
    let root = Recipe::ca("Root").self_signed();
    let issuing = permitting("Issuing", &["example.com"]).signed_by(&root);
    let excluding = Recipe::ca("Excluding").constraints(Vec::new(), subtrees(&["ceo@example.com"])).signed_by(&root);
    let mixed = Recipe::ca("Mixed")
        .constraints([subtrees(&["example.com"]), dns("example.com")].concat(), Vec::new())
        .signed_by(&root);
    // Two constrained ones above one another: the upper one's hold too, of e-mail and of DNS.
    let upper = Recipe::ca("Upper")
        .constraints([subtrees(&[".example.com"]), dns("example.com")].concat(), Vec::new())
        .signed_by(&root);
    let lower = permitting("Lower", &["mail.example.com", "example.com"]).signed_by(&upper);
    let narrow = permitting("Narrow", &["example.com"]).path_length(0).signed_by(&root);
    let below_narrow = Recipe::ca("Below Narrow").signed_by(&narrow);
    let outdated = permitting("Outdated", &["example.com"]).valid(NOW - 9 * DAY, NOW - DAY).signed_by(&root);
    let revoked = permitting("Revoked", &["example.com"]).signed_by(&root);
    let no_sign = permitting("No Sign", &["example.com"]).usages(&[Usage::CrlSign]).signed_by(&root);
    let for_mail = permitting("For Mail", &["example.com"]).purposes(&[Purpose::EmailProtection]).signed_by(&root);
    let critical =
        permitting("Critical", &["example.com"]).extension(&[1, 3, 9999, 1], true, vec![5, 0]).signed_by(&root);
    let lost = permitting("Lost", &["example.com"]).signed_by(&Recipe::ca("Elsewhere").self_signed());
    let forged = permitting("Forged", &["example.com"]).signed_by(&Recipe::ca("Root").self_signed());
    let unlisted = permitting("Unlisted", &["example.com"]).signed_by(&root);
    // A root that has nobody but clients below it, and a CA below it all the same.
    let flat = Recipe::ca("Flat Root").path_length(0).self_signed();
    let below_flat = Recipe::ca("Below Flat").signed_by(&flat);
    // A constrained CA with a DNS name of its own, which the one above it does not permit and nobody would compare.
    let of_hosts = Recipe::ca("Of Hosts").constraints(dns("example.com"), Vec::new()).signed_by(&root);
    let named = permitting("Named", &["example.com"]).dns("ca.example.net").signed_by(&of_hosts);
    // The same name and key as Issuing, without constraints, signed by itself: no way around.
    let around = twin(&issuing, Recipe::ca("Issuing"), None);
    // The same, with other constraints, and listed: each way counts as it stands.
    let other_half = twin(&issuing, permitting("Issuing", &["example.net"]), Some(&root));
    let listed = [
        &issuing,
        &excluding,
        &mixed,
        &upper,
        &lower,
        &narrow,
        &outdated,
        &revoked,
        &no_sign,
        &for_mail,
        &critical,
        &lost,
        &forged,
        &other_half,
        &of_hosts,
        &named,
    ];
    let intermediates: Vec<u8> = listed.iter().flat_map(|made| pem(made)).collect();
    let issuers = [&root, &issuing, &excluding, &mixed, &upper, &lower, &narrow, &outdated, &revoked];
    let more = [&no_sign, &for_mail, &critical, &lost, &forged];
    let crls: Vec<u8> = issuers
        .into_iter()
        .chain(more)
        .flat_map(|made| {
            let serials = if std::ptr::eq(made, &root) { vec![revoked.serial()] } else { Vec::new() };
            let list = CrlRecipe::listing(&serials);
            // One may not sign lists, or there would be nothing to see.
            crate::recipe::pem("X509 CRL", &made.crl(&list)).into_bytes()
        })
        .collect();
    let world = World::read(
        r#"
[[client_ca]]
name = "root"
certificates = "root.pem"
intermediates = "intermediates.pem"
crls = "root.crl"
revocation = "if-available"
domains = ["*"]
send_as_email = true
send_to = ["*"]
[[client_ca]]
name = "constrained"
certificates = "constrained.pem"
revocation = "off"
domains = ["*"]
send_as_email = true
send_to = ["*"]
[[client_ca]]
name = "flat"
certificates = "flat.pem"
revocation = "off"
domains = ["*"]
send_as_email = true
send_to = ["*"]
"#,
        &[
            ("root.pem", pem(&root)),
            ("flat.pem", pem(&flat)),
            ("intermediates.pem", intermediates),
            ("root.crl", crls),
            ("constrained.pem", pem(&constrained)),
        ],
    )
    .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let email = |address: &str| Recipe::client("Alice").email(address);
    let expired = EXPIRED;
    let cases = vec![
        Case::new("permitted by a root", &[&alice().signed_by(&constrained)], "constrained:alice@example.com"),
        Case::new("not by a root", &[&email("a@example.net").signed_by(&constrained)], NOT_PERMITTED),
        Case::new(
            "permitted, below a root",
            &[&email("a@mail.example.com").signed_by(&below_constrained), &below_constrained],
            "constrained:a@mail.example.com",
        ),
        Case::new(
            "not, below a root",
            &[&email("a@example.net").signed_by(&below_constrained), &below_constrained],
            NOT_PERMITTED,
        ),
        Case::new("permitted by an intermediate", &[&alice().signed_by(&issuing)], "root:alice@example.com"),
        Case::new("permitted, and sent", &[&alice().signed_by(&issuing), &issuing], "root:alice@example.com"),
        Case::new("not by an intermediate", &[&email("a@example.org").signed_by(&issuing)], NOT_PERMITTED),
        Case::new("by its twin", &[&email("a@example.net").signed_by(&issuing)], "root:a@example.net"),
        Case::new(
            "by neither twin alone",
            &[&alice().email("a@example.net").signed_by(&issuing), &issuing, &other_half],
            NOT_PERMITTED,
        ),
        Case::new("around it", &[&email("a@example.org").signed_by(&issuing), &around], NOT_PERMITTED),
        Case::new("one name of two", &[&alice().email("a@example.org").signed_by(&issuing)], NOT_PERMITTED),
        Case::new("no e-mail name", &[&Recipe::client("A").dns("a.example.org").signed_by(&issuing)], "nobody"),
        Case::new("NUL", &[&names(&[rfc822(b"alice@example.com\0")]).signed_by(&issuing)], NOT_PERMITTED),
        Case::new(
            "UTF-8, not permitted",
            &[&names(&[smtp_utf8("älice@example.org")]).signed_by(&issuing)],
            NOT_PERMITTED,
        ),
        Case::new(
            "UTF-8 beside",
            &[&names(&[rfc822(b"alice@example.com"), smtp_utf8("ä@evil.example")]).signed_by(&issuing)],
            NOT_PERMITTED,
        ),
        Case::new("not excluded", &[&alice().signed_by(&excluding)], "root:alice@example.com"),
        Case::new("excluded", &[&email("ceo@example.com").signed_by(&excluding)], NOT_PERMITTED),
        Case::new("excluded in another case", &[&email("CEO@Example.com").signed_by(&excluding)], NOT_PERMITTED),
        Case::new("a good DNS name too", &[&alice().dns("a.example.com").signed_by(&mixed)], "root:alice@example.com"),
        Case::new("a bad DNS name", &[&alice().dns("a.example.net").signed_by(&mixed)], NOT_PERMITTED),
        Case::new("as both above permit", &[&email("a@mail.example.com").signed_by(&lower)], "root:a@mail.example.com"),
        Case::new("as the lower alone permits", &[&alice().signed_by(&lower)], NOT_PERMITTED),
        Case::new("as the upper alone permits", &[&email("a@b.example.com").signed_by(&lower)], NOT_PERMITTED),
        Case::new(
            "a DNS name that the upper does not permit",
            &[&email("a@mail.example.com").dns("a.example.net").signed_by(&lower)],
            NOT_PERMITTED,
        ),
        Case::new("within its path length", &[&alice().signed_by(&narrow)], "root:alice@example.com"),
        Case::new(
            "beyond its path length",
            &[&alice().signed_by(&below_narrow), &below_narrow],
            "the chain is longer than one of its CAs allows (path length)",
        ),
        Case::new("within a root's path length", &[&alice().signed_by(&flat)], "flat:alice@example.com"),
        Case::new(
            "beyond a root's path length",
            &[&alice().signed_by(&below_flat), &below_flat],
            "the chain is longer than one of its CAs allows (path length)",
        ),
        Case::new("below a CA whose own name nobody compares", &[&alice().signed_by(&named)], UNLISTED),
        Case::new("an expired one", &[&alice().signed_by(&outdated)], expired),
        Case::new("a revoked one", &[&alice().signed_by(&revoked)], "revoked"),
        Case::new(
            "one that may not issue",
            &[&alice().signed_by(&no_sign)],
            "an issuer in its chain is not allowed to issue certificates",
        ),
        Case::new(
            "one for another purpose",
            &[&alice().signed_by(&for_mail)],
            "a CA in its chain is not for client authentication (extended key usage)",
        ),
        Case::new(
            "one with a critical extension",
            &[&alice().signed_by(&critical)],
            "it has a critical extension that is unknown here",
        ),
        Case::new("one that leads nowhere", &[&alice().signed_by(&lost)], GAP),
        Case::new(
            "one of another root of the name",
            &[&alice().signed_by(&forged)],
            "not signed by the CA of that name",
        ),
        Case::new("one that only the client sends", &[&alice().signed_by(&unlisted), &unlisted], UNLISTED),
        Case::new(
            "only sent, and no e-mail name",
            &[&Recipe::client("A").dns("a.example.org").signed_by(&unlisted), &unlisted],
            "nobody",
        ),
        Case::new(
            "only sent, UTF-8",
            &[&names(&[smtp_utf8("ä@evil.example")]).signed_by(&unlisted), &unlisted],
            NOT_PERMITTED,
        ),
    ];
    assert!(check(&world, cases) >= 35);
}

#[test]
fn user_principal_names_grant_and_match_within_the_email_constraints_of_their_cas() {
    let root = Recipe::ca("Root").self_signed();
    let permitting = Recipe::ca("Permitting").constraints(subtrees(&["example.org"]), Vec::new()).signed_by(&root);
    let excluding = Recipe::ca("Excluding").constraints(Vec::new(), subtrees(&["boss@corp.example"])).signed_by(&root);
    let narrower = Recipe::ca("Narrower").constraints(subtrees(&["example.net"]), Vec::new()).signed_by(&permitting);
    let world = World::read(
        r#"
[[client_ca]]
name = "directory"
certificates = "root.pem"
intermediates = "intermediates.pem"
revocation = "off"
domains = ["*"]
send_as_email = true
send_as_upn = true
send_to = ["*"]
[[identity]]
name = "boss"
match = { ca = "directory", upn = "boss@corp.example" }
send_as = ["boss@example.com"]
send_to = ["*"]
"#,
        &[
            ("root.pem", pem(&root)),
            ("intermediates.pem", [pem(&permitting), pem(&excluding), pem(&narrower)].concat()),
        ],
    )
    .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let case = |name: &str, sans: &[Vec<u8>], ca: &Made, expected: &str| {
        Case::new(name, &[&names(sans).signed_by(ca)], expected)
    };
    let cases = vec![
        case("no constraints", &[upn("bob@example.com")], &root, "directory:bob@example.com"),
        case("permitted", &[upn("bob@example.org")], &permitting, "directory:bob@example.org"),
        case("not permitted", &[upn("bob@example.com")], &permitting, "nobody"),
        case(
            "not permitted, beside a good e-mail name",
            &[rfc822(b"bob@example.org"), upn("bob@CORP")],
            &permitting,
            "directory:bob@example.org",
        ),
        case("permitted by the further CA only", &[upn("bob@example.org")], &narrower, "nobody"),
        case("permitted by the nearer CA only", &[upn("bob@example.net")], &narrower, "nobody"),
        case("matched", &[upn("boss@corp.example")], &root, "boss"),
        case("not permitted, so not matched", &[upn("boss@corp.example")], &permitting, "nobody"),
        case("excluded, so not matched", &[upn("BOSS@corp.example")], &excluding, "nobody"),
        case("not excluded", &[upn("bob@corp.example")], &excluding, "directory:bob@corp.example"),
    ];
    assert!(check(&world, cases) >= 10);
}

#[test]
fn revocation_by_every_kind_of_list() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let withdrawn = Recipe::ca("Withdrawn").signed_by(&root);
    let listless = Recipe::ca("Listless").signed_by(&root);
    let stale = Recipe::ca("Stale").self_signed();
    let graced = Recipe::ca("Graced").self_signed();
    let loose = Recipe::ca("If Available").self_signed();
    let revoked = alice().signed_by(&root);
    let revoked_below = alice().signed_by(&issuing);
    let revoked_stale = alice().signed_by(&stale);
    let revoked_graced = alice().signed_by(&graced);
    let revoked_loose = alice().signed_by(&loose);
    let list = |ca: &Made, revoked: &[&Made]| {
        let serials: Vec<Vec<u8>> = revoked.iter().map(|made| made.serial()).collect();
        ca.crl(&CrlRecipe::listing(&serials))
    };
    let old =
        |ca: &Made, revoked: &Made| ca.crl(&CrlRecipe::listing(&[revoked.serial()]).valid(NOW - 9 * DAY, NOW - DAY));
    let ca = |name: &str, more: &str| {
        format!(
            "[[client_ca]]\nname = \"{name}\"\ncertificates = \"{name}.pem\"\ncrls = \"{name}.crl\"\n\
             domains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n{more}\n"
        )
    };
    let text = [
        ca("root", "intermediates = \"intermediates.pem\""),
        ca("stale", ""),
        ca("graced", "crl_grace = \"2d\""),
        ca("loose", "revocation = \"if-available\""),
    ]
    .concat();
    let text = text.replace("crls = \"root.crl\"", "crls = [\"root.crl\", \"issuing.crl\", \"withdrawn.crl\"]");
    let world = World::read(
        &text,
        &[
            ("root.pem", pem(&root)),
            ("stale.pem", pem(&stale)),
            ("graced.pem", pem(&graced)),
            ("loose.pem", pem(&loose)),
            ("intermediates.pem", [pem(&issuing), pem(&withdrawn), pem(&listless)].concat()),
            ("root.crl", list(&root, &[&revoked, &withdrawn])),
            ("issuing.crl", list(&issuing, &[&revoked_below])),
            ("withdrawn.crl", list(&withdrawn, &[])),
            ("stale.crl", old(&stale, &revoked_stale)),
            ("graced.crl", old(&graced, &revoked_graced)),
            ("loose.crl", old(&loose, &revoked_loose)),
        ],
    )
    .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let unknown = "revocation status unknown";
    let cases = vec![
        Case::new("not listed", &[&alice().signed_by(&root)], "root:alice@example.com"),
        Case::new("listed by the root", &[&revoked], "revoked"),
        Case::new("not listed by an intermediate", &[&alice().signed_by(&issuing)], "root:alice@example.com"),
        Case::new("listed by an intermediate", &[&revoked_below], "revoked"),
        Case::new("an intermediate listed by the root", &[&alice().signed_by(&withdrawn)], "revoked"),
        Case::new("an intermediate without a list", &[&alice().signed_by(&listless)], unknown),
        Case::new("a stale list", &[&alice().signed_by(&stale)], unknown),
        Case::new("listed by a stale list", &[&revoked_stale], "revoked"),
        Case::new("a stale list within its grace", &[&alice().signed_by(&graced)], "graced:alice@example.com"),
        Case::new("listed by a stale list within its grace", &[&revoked_graced], "revoked"),
        Case::new("a stale list, if available", &[&alice().signed_by(&loose)], "loose:alice@example.com"),
        Case::new("listed by a stale list, if available", &[&revoked_loose], "revoked"),
    ];
    assert!(check(&world, cases) >= 12);
    // A forged list never gets that far.
    let forged = list(&Recipe::ca("Root").self_signed(), &[]);
    let text = ca("root", "");
    let mistakes = World::read(&text, &[("root.pem", pem(&root)), ("root.crl", forged)]).err().unwrap();
    assert!(mistakes.iter().any(|mistake| mistake.contains("its signature does not verify")), "{mistakes:?}");
}
