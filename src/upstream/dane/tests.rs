//! Records, chains, and what is made of them.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

/// In 2026; certificates are valid 2025 to 2027, unless said otherwise.
const NOW: UnixTime = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_790_000_000));

struct Ca {
    params: CertificateParams,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

fn dated(params: &mut CertificateParams, years: (i32, i32)) {
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(years.0, 1, 1), rcgen::date_time_ymd(years.1, 1, 1));
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        dated(&mut params, (2025, 2027));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, certificate }
    }

    fn leaf(&self, name: &str, years: (i32, i32)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        dated(&mut params, years);
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap().der().clone()
    }
}

fn tlsa(usage: u8, selector: u8, matching: u8, of: &CertificateDer<'_>) -> Tlsa {
    let record = Tlsa { usage, selector, matching, data: Vec::new() };
    let selected = record.selected(of).unwrap_or_default();
    let data = match matching {
        1 => Sha256::digest(selected).to_vec(),
        2 => Sha512::digest(selected).to_vec(),
        _ => selected.to_vec(),
    };
    Tlsa { data, ..record }
}

#[test]
fn the_table_of_usages_selectors_and_matching_types() {
    let (ca, other) = (Ca::new("ca"), Ca::new("other"));
    let leaf = ca.leaf("mx.example.net", (2025, 2027));
    let expired = ca.leaf("mx.example.net", (2020, 2021));
    let misnamed = ca.leaf("mx.example.org", (2025, 2027));
    let names = [ServerName::try_from("mx.example.net").unwrap()];
    let chain = [leaf.clone(), ca.certificate.clone()];
    let check = |what: &str, records: &[Tlsa], chain: &[CertificateDer<'_>], expected| {
        assert_eq!(judge(records, chain, &names, NOW), expected, "{what}");
    };
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            let what = format!("{selector} {matching}");
            let named = |usage, of: &CertificateDer<'_>| [tlsa(usage, selector, matching, of)];
            check(&what, &named(3, &leaf), &chain, Ok(Right::Itself));
            check(&what, &named(3, &leaf), std::slice::from_ref(&leaf), Ok(Right::Itself));
            check(&what, &named(3, &ca.certificate), &chain, Err(DaneFault::NoMatch));
            check(&what, &named(3, &expired), std::slice::from_ref(&expired), Ok(Right::Itself));
            check(&what, &named(3, &misnamed), std::slice::from_ref(&misnamed), Ok(Right::Itself));
            check(&what, &named(2, &ca.certificate), &chain, Ok(Right::ByItsCa));
            check(
                &what,
                &named(2, &other.certificate),
                &[leaf.clone(), other.certificate.clone()],
                Err(DaneFault::NoPath),
            );
            let expired = [expired.clone(), ca.certificate.clone()];
            check(&what, &named(2, &ca.certificate), &expired, Err(DaneFault::NoPath));
            let misnamed = [misnamed.clone(), ca.certificate.clone()];
            check(&what, &named(2, &ca.certificate), &misnamed, Err(DaneFault::WrongName));
            // The leaf is no CA of itself.
            check(
                &what,
                &named(2, &leaf),
                std::slice::from_ref(&leaf),
                if (selector, matching) == (0, 0) { Err(DaneFault::NoPath) } else { Err(DaneFault::NoMatch) },
            );
            for usage in [0, 1, 4, 255] {
                check(&what, &named(usage, &leaf), &chain, Err(DaneFault::Unusable));
            }
        }
    }
    // RFC 7672 §3.2.2: either of two names will do.
    let either = [ServerName::try_from("mail.elsewhere").unwrap(), names[0].clone()];
    let record = [tlsa(2, 0, 1, &ca.certificate)];
    assert_eq!(judge(&record, &chain, &either, NOW), Ok(Right::ByItsCa));
    assert_eq!(judge(&record, &chain, &either[..1], NOW), Err(DaneFault::WrongName));
    // RFC 7671 §5.2.2: a CA that is not shown must be named whole.
    check("not shown", &[tlsa(2, 0, 0, &ca.certificate)], std::slice::from_ref(&leaf), Ok(Right::ByItsCa));
    check("not shown", &[tlsa(2, 0, 1, &ca.certificate)], std::slice::from_ref(&leaf), Err(DaneFault::NoMatch));
    check("no certificate", &[tlsa(3, 1, 1, &leaf)], &[], Err(DaneFault::NoCertificate));
    check("no record", &[], &chain, Err(DaneFault::Unusable));
}

/// RFC 7672 §3.2.3.
#[test]
fn a_wildcard_is_the_whole_first_label_and_no_more() {
    let ca = Ca::new("ca");
    for (certified, host, expected) in [
        ("*.example.net", "mx.example.net", Ok(Right::ByItsCa)),
        ("*.example.net", "a.mx.example.net", Err(DaneFault::WrongName)),
        ("*.example.net", "example.net", Err(DaneFault::WrongName)),
        ("m*.example.net", "mx.example.net", Err(DaneFault::WrongName)),
        ("mx.*.net", "mx.example.net", Err(DaneFault::WrongName)),
    ] {
        let leaf = ca.leaf(certified, (2025, 2027));
        let names = [ServerName::try_from(host).unwrap()];
        let records = [tlsa(2, 0, 1, &ca.certificate)];
        assert_eq!(judge(&records, &[leaf, ca.certificate.clone()], &names, NOW), expected, "{certified} {host}");
    }
}

#[test]
fn what_is_not_known_is_left_out_and_the_rest_counts() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf("mx.example.net", (2025, 2027));
    let right = tlsa(3, 1, 1, &leaf);
    let odd = |change: fn(&mut Tlsa)| {
        let mut record = right.clone();
        change(&mut record);
        record
    };
    let unknown = [
        odd(|record| record.usage = 1),
        odd(|record| record.selector = 2),
        odd(|record| record.matching = 3),
        odd(|record| record.data.truncate(31)),
        odd(|record| (record.matching, record.data) = (0, Vec::new())),
    ];
    let judged = |records: &[Tlsa]| judge(records, std::slice::from_ref(&leaf), &[], NOW);
    assert_eq!(judged(&unknown), Err(DaneFault::Unusable));
    let with_right: Vec<Tlsa> = unknown.iter().cloned().chain([right.clone()]).collect();
    assert_eq!(judged(&with_right), Ok(Right::Itself));
    // RFC 7671 §9: next to SHA-512 the SHA-256 of the same kind does not count.
    let other = ca.leaf("mx.example.net", (2025, 2027));
    assert_eq!(judged(&[right.clone(), tlsa(3, 1, 2, &other)]), Err(DaneFault::NoMatch));
    assert_eq!(judged(&[right.clone(), tlsa(3, 0, 2, &other)]), Ok(Right::Itself));
    assert_eq!(judged(&[right, tlsa(3, 1, 2, &leaf)]), Ok(Right::Itself));
}
