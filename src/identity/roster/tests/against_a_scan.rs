//! Whatever the index finds, a scan of all entries by all keys finds, and nothing else.

use proptest::prelude::*;

use super::*;

fn keys() -> impl Strategy<Value = MatchKeys> {
    let one_of = |texts: &'static [&'static str]| proptest::sample::select(texts);
    let emails = one_of(&["", "a@x.example", "A@x.example", "b@x.example", "*@x.example", "*@y.example"]);
    let dns_names = one_of(&["", "h.a.x.example", "*.x.example", "*.a.x.example", "h.y.example"]);
    let uris = one_of(&["", "spiffe://d/a/b", "spiffe://d/a/*", "spiffe://d/*", "urn:a"]);
    let upns = one_of(&["", "a@c.example", "*@c.example"]);
    let cas = one_of(&["", "staff", "guests"]);
    (emails, dns_names, uris, upns, cas, 0_u8..4).prop_map(|(mail, host, id, user, ca, digest)| MatchKeys {
        ca: (!ca.is_empty()).then(|| ca.into()),
        email: (!mail.is_empty()).then(|| MailboxKey::email(mail).unwrap()),
        dns: (!host.is_empty()).then(|| host.parse().unwrap()),
        uri: (!id.is_empty()).then(|| id.parse().unwrap()),
        upn: (!user.is_empty()).then(|| MailboxKey::upn(user).unwrap()),
        fingerprint: (digest == 3).then_some(Digest256([3; 32])),
        spki: (digest == 2).then_some(Digest256([2; 32])),
        ..MatchKeys::default()
    })
}

fn facts() -> impl Strategy<Value = CertificateFacts> {
    let some = |texts: &'static [&'static str]| proptest::sample::subsequence(texts, 0..=texts.len());
    let emails = some(&["a@x.example", "B@x.example", "c@y.example", "A@z.example"]);
    let dns_names = some(&["h.a.x.example", "a.x.example", "x.example", "h.y.example"]);
    let uris = some(&["spiffe://d/a/b", "spiffe://d/a/c", "spiffe://d/x", "urn:a", "spiffe://d"]);
    let upns = some(&["a@c.example", "z@c.example"]);
    (emails, dns_names, uris, upns, 0_u8..4).prop_map(|(emails, dns_names, uris, upns, digest)| {
        let addresses = |texts: Vec<&str>| texts.iter().map(|text| Address::parse(text).unwrap()).collect();
        let texts = |texts: Vec<&str>| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut facts = CertificateFacts::of(&plain().der).unwrap();
        facts.emails = addresses(emails);
        facts.upns = addresses(upns);
        facts.dns = texts(dns_names);
        facts.uris = texts(uris);
        facts.summary.fingerprint = Digest256([digest; 32]);
        facts.summary.spki = Digest256([digest.saturating_sub(1); 32]);
        facts
    })
}

fn plain() -> &'static Made {
    static MADE: std::sync::OnceLock<Made> = std::sync::OnceLock::new();
    MADE.get_or_init(|| Recipe::client("Plain").self_signed())
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        entries in proptest::collection::vec(keys(), 0..40),
        facts in facts(),
        ca in 0_u16..3,
        exact in any::<bool>(),
    ) {
        let mut builder = RosterBuilder::new(vec![
            CaGrant {
                local_part_case: if exact { LocalPartCase::Exact } else { LocalPartCase::Ignored },
                ..without_email("staff")
            },
            without_email("guests"),
        ]);
        let mut seen = HashSet::new();
        for (number, keys) in entries.into_iter().enumerate() {
            // Twins are mistakes, and names without a CA: not the subject here.
            let no_ca = keys.ca.is_none() && keys.fingerprint.is_none() && keys.spki.is_none();
            let folded = format!("{keys:?}").to_ascii_lowercase();
            if keys.keys().is_empty() || no_ca || !seen.insert(folded) {
                continue;
            }
            builder.put(entry(&format!("n{number}"), keys));
        }
        let roster = builder.finish().unwrap();
        let (anchor, ca) = match ca {
            0 => (Anchor::Ca("staff".into()), Some(0)),
            1 => (Anchor::Ca("guests".into()), Some(1)),
            _ => (Anchor::Pin, None),
        };
        let named = |found: Vec<&Compiled>| found.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
        let found = named(roster.matching(&facts, &anchor, ca));
        let scanned = named(roster.entries.iter().filter(|one| roster.holds(one, &facts, &anchor, ca)).collect());
        prop_assert_eq!(found, scanned);
    }
}
