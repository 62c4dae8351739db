use super::*;

fn canonical(text: &str) -> CanonicalAddress {
    Address::parse(text).unwrap().canonical(LocalPartCase::Ignored)
}

fn list(texts: &[&str]) -> AddressPatterns {
    AddressPatterns::parse(texts.iter().copied(), LocalPartCase::Ignored).unwrap()
}

#[test]
fn an_empty_list_grants_nothing() {
    assert_eq!(list(&[]).matches(&canonical("alice@example.com")), None);
    assert_eq!(AddressPatterns::default().matches(&canonical("alice@example.com")), None);
}

#[test]
fn each_form_names_what_it_says_and_no_more() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("alice@example.com",
            &["alice@example.com", "ALICE@EXAMPLE.COM", "\"alice\"@example.com"],
            &["alice+x@example.com", "bob@example.com", "alice@sub.example.com", "alice@example.com.evil.example"]),
        ("*@example.com",
            &["alice@example.com", "a.b@Example.Com", "\"a b\"@example.com"],
            &["alice@sub.example.com", "alice@notexample.com", "alice@example.org"]),
        ("*@*.example.com",
            &["a@x.example.com", "a@y.x.example.com"],
            &["a@example.com", "a@xexample.com", "a@example.com.evil.example"]),
        ("billing+*@example.com",
            &["billing+2026@example.com", "Billing+a+b@example.com"],
            &["billing@example.com", "billings+x@example.com", "xbilling+y@example.com", "billing+x@sub.example.com"]),
        ("*", &["a@b.example", "\"x y\"@[192.0.2.1]"], &[]),
        ("*@[192.0.2.1]", &["a@[192.0.2.1]"], &["a@[192.0.2.2]"]),
        ("ä@exämple.com", &["ä@xn--exmple-cua.com"], &["a@example.com"]),
    ];
    for (pattern, named, unnamed) in cases {
        let list = list(&[pattern]);
        for address in *named {
            assert!(list.matches(&canonical(address)).is_some(), "{pattern} should name {address}");
        }
        for address in *unnamed {
            assert!(list.matches(&canonical(address)).is_none(), "{pattern} should not name {address}");
        }
    }
}

#[test]
fn an_exclusion_wins_wherever_it_stands() {
    for order in [["!ceo@example.com", "*@example.com"], ["*@example.com", "!ceo@example.com"]] {
        let list = list(&order);
        assert!(list.matches(&canonical("alice@example.com")).is_some());
        assert!(matches!(list.explain(&canonical("CEO@example.com")), Granting::Excluded(_)));
    }
    let list = list(&["ceo@example.com", "!*@example.com"]);
    assert_eq!(list.matches(&canonical("ceo@example.com")), None);
}

#[test]
fn an_exclusion_wins_over_the_certificates_own_names() {
    let names = HashSet::from([canonical("alice@example.com")]);
    let bound = list(&["@certificate", "!alice@example.com"]).bound(names, None);
    assert_eq!(bound.matches(&canonical("alice@example.com")), None);
}

#[test]
fn the_certificates_names_are_granted_only_where_the_list_says_so() {
    let names = HashSet::from([canonical("alice@example.com")]);
    let with = list(&["@certificate", "info@example.com"]).bound(names.clone(), None);
    assert_eq!(with.matches(&canonical("Alice@example.com")), Some(&AddressPattern::Certificate));
    assert!(with.names(&canonical("alice@example.com")));
    assert!(with.matches(&canonical("info@example.com")).is_some());
    let without = list(&["info@example.com"]).bound(names, None);
    assert_eq!(without.matches(&canonical("alice@example.com")), None);
}

#[test]
fn the_domains_of_a_ca_cap_even_a_star() {
    let domains = Arc::new(DomainSet::read(["example.com", ".example.com"]).unwrap());
    let list = list(&["*"]).bound(HashSet::new(), Some(domains));
    assert!(list.matches(&canonical("a@example.com")).is_some());
    assert!(list.matches(&canonical("a@b.example.com")).is_some());
    assert!(matches!(list.explain(&canonical("a@example.org")), Granting::BeyondDomains(_)));
    assert_eq!(list.matches(&canonical("a@[192.0.2.1]")), None);
}

#[test]
fn the_case_of_local_parts_counts_when_asked() {
    let list = AddressPatterns::parse(["Alice@example.com", "Bob+*@example.com"], LocalPartCase::Exact).unwrap();
    let exact = |text: &str| Address::parse(text).unwrap().canonical(LocalPartCase::Exact);
    assert!(list.matches(&exact("Alice@EXAMPLE.com")).is_some());
    assert!(list.matches(&exact("alice@example.com")).is_none());
    assert!(list.matches(&exact("Bob+x@example.com")).is_some());
    assert!(list.matches(&exact("bob+x@example.com")).is_none());
}

#[test]
fn an_exclusion_excludes_in_any_case_of_letters_and_a_grant_does_not_grow() {
    let texts = [
        "*@example.com",
        "!bob@example.com",
        "!zoë@example.com",
        "!\u{390}@example.com",
        "!straße@example.com",
        "!ΣΊΣΥΦΟΣ+*@example.com",
    ];
    for case in [LocalPartCase::Ignored, LocalPartCase::Exact] {
        let list = AddressPatterns::parse(texts, case).unwrap();
        for excluded in [
            "bob@example.com",
            "BoB@Example.com",
            "\"BOB\"@example.com",
            "ZOË@example.com",
            "zoe\u{308}@example.com",
            "\u{3aa}\u{301}@example.com",
            "STRASSE@example.com",
            "σίσυφος+x@example.com",
        ] {
            let address = excluded.parse::<Address>().unwrap().canonical(case);
            assert!(matches!(list.explain(&address), Granting::Excluded(_)), "{excluded} {case:?}");
        }
        // What `check` says of a grant of which nothing is left.
        let pattern = AddressPattern::Address("BOB@example.com".parse().unwrap());
        assert!(list.excluding(&pattern).is_some(), "{case:?}");
        let granted = AddressPatterns::parse(["zoë@example.com"], case).unwrap();
        assert!(granted.matches(&"ZOË@example.com".parse::<Address>().unwrap().canonical(case)).is_none());
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_a_remedy() {
    for (wrong, said) in [
        ("", "leave it out"),
        ("example.com", "*@example.com"),
        ("@example.com", "*@example.com"),
        ("@cert", "@certificate"),
        ("bill*@example.com", "whole local part"),
        ("*bill@example.com", "whole local part"),
        ("+*@example.com", "whole local part"),
        ("a*b+*@example.com", "whole local part"),
        ("alice@*.example.com", "*@*.example.com"),
        ("*@ex*.com", "*@*.example.com"),
        ("*@*", "*@*.example.com"),
        ("*@*.*.com", "*@*.example.com"),
        ("**@example.com", "whole local part"),
        ("!*", "after !"),
        ("!@certificate", "after !"),
        ("!!a@example.com", "after !"),
        ("*@example.com.", "dot"),
        ("a b@example.com", "quoted"),
    ] {
        let fault = wrong.parse::<PatternEntry>().unwrap_err().to_string();
        assert!(fault.contains(said), "{wrong:?}: {fault}");
    }
    let faults = PatternList::read(["*", "@certificate", "x"], ListPurpose::SendTo).unwrap_err();
    assert_eq!(faults, [(1, PatternFault::CertificateHere), (2, PatternFault::NoAt("x".to_owned()))]);
}

#[test]
fn patterns_are_written_back_as_they_were_read() {
    for text in
        ["*", "@certificate", "a@example.com", "*@example.com", "*@*.example.com", "a+*@example.com", "!b@c.example"]
    {
        assert_eq!(text.parse::<PatternEntry>().unwrap().to_string(), text);
    }
}

#[test]
fn only_what_is_written_out_is_named() {
    let list = list(&["*", "alice@example.com", "*@example.org", "!bob@example.com"]);
    let names = |text: &str| list.names(&canonical(text));
    assert!(names("alice@example.com") && !names("carol@example.com") && !names("x@example.org"));
    assert!(!names("bob@example.com"));
    assert_eq!(list.excluded().map(ToString::to_string).collect::<Vec<_>>(), ["bob@example.com"]);
}

#[test]
fn a_domain_set_reads_domains_only() {
    for wrong in ["", "a@example.com", "*.example.com", "exa mple.com", "."] {
        assert!(DomainSet::read([wrong]).is_err(), "{wrong:?}");
    }
    let all = DomainSet::read(["*"]).unwrap();
    assert!(all.holds("example.org") && all.holds("[192.0.2.1]"));
    assert!(!DomainSet::default().holds("example.com"));
}

#[test]
fn a_pattern_touches_the_domains_when_one_of_its_addresses_may_lie_in_them() {
    let set = DomainSet::read(["example.com", ".mail.example.com"]).unwrap();
    for (pattern, touches) in [
        ("a@example.com", true),
        ("a@other.example", false),
        ("*@example.com", true),
        ("*@mail.example.com", false),
        ("*@a.mail.example.com", true),
        ("*@*.example.com", true),
        ("*@*.mail.example.com", true),
        ("*@*.a.mail.example.com", true),
        ("*@*.com", true),
        ("*@*.org", false),
        ("a+*@other.example", false),
        ("*", true),
    ] {
        assert_eq!(set.touches(&pattern.parse().unwrap()), touches, "{pattern}");
    }
}

#[test]
fn ten_thousand_patterns_are_looked_up_by_hash() {
    let texts: Vec<String> = (0..10_000).map(|number| format!("user{number}@example.com")).collect();
    let list = AddressPatterns::parse(texts.iter().map(String::as_str), LocalPartCase::Ignored).unwrap();
    assert!(list.matches(&canonical("user9999@example.com")).is_some());
    assert!(list.matches(&canonical("user10000@example.com")).is_none());
}

/// A million entries may share one list: a long one is put into its hashes once for each way to compare, and everybody is given the same.
#[test]
fn a_long_list_is_compiled_once_and_a_short_one_keeps_nothing() {
    let of = |count: usize| {
        let texts: Vec<String> = (0..count).map(|number| format!("a{number}@example.com")).collect();
        PatternList::read(texts.iter().map(String::as_str), ListPurpose::SendAs).unwrap()
    };
    let is_kept = |list: &PatternList| list.shared.compiled.each_ref().map(|place| place.get().is_some());
    for (count, kept) in [(COMPILED_FROM - 1, false), (COMPILED_FROM, true), (COMPILED_FROM + 1, true)] {
        let list = of(count);
        list.warm(LocalPartCase::Exact);
        assert_eq!(is_kept(&list), [false, kept], "{count}");
        let [one, other] = [list.compile(LocalPartCase::Ignored), list.compile(LocalPartCase::Ignored)];
        assert_eq!(is_kept(&list), [kept, kept], "{count}");
        assert_eq!(Arc::ptr_eq(&one.granted, &other.granted), kept, "{count}");
    }
    let list = of(2);
    assert!(list.same_as(&list.clone()) && !list.same_as(&of(2)));
}
