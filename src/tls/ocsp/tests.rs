//! Answers made by recipe: each way in which one may be wrong, and what the judge makes of the right ones.

use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, SigningKey as _};

use super::*;
use crate::tls::recipe::{CrlRecipe, DAY, Made, NOW, Recipe, der as element};
use crate::tls::{
    Asks, CaRules, CertificateFault, ClientCaSettings, CrlFile, OcspMode, PeerChain, Pins, RevocationMode, Trust,
    judge, judge_asking,
};

const OURS: [u8; NONCE_OCTETS] = [7; NONCE_OCTETS];

fn now() -> WallTime {
    WallTime::from_seconds(NOW)
}

/// Root, client, and the responders that one may think of.
struct Cast {
    root: Made,
    alice: Made,
    bob: Made,
    responder: Made,
    unchecked: Made,
    no_purpose: Made,
    ended: Made,
    foreign: Made,
}

impl Cast {
    fn new() -> Self {
        let root = Recipe::ca("Root").self_signed();
        let other = Recipe::ca("Root").self_signed();
        let responder = |name| Recipe::client(name).purposes(&[ExtendedKeyUsagePurpose::OcspSigning]);
        Self {
            alice: Recipe::client("Alice").email("alice@example.com").signed_by(&root),
            bob: Recipe::client("Bob").signed_by(&root),
            responder: responder("Responder").signed_by(&root),
            unchecked: responder("Unchecked")
                .extension(&[1, 3, 6, 1, 5, 5, 7, 48, 1, 5], false, vec![5, 0])
                .signed_by(&root),
            no_purpose: Recipe::client("No purpose").signed_by(&root),
            ended: responder("Ended").valid(NOW - 2 * DAY, NOW - DAY).signed_by(&root),
            foreign: responder("Foreign").signed_by(&other),
            root,
        }
    }

    /// The CA, with a CRL that lists these.
    fn ca(&self, ocsp: OcspMode, revoked: &[&Made]) -> Arc<ClientCa> {
        let serials: Vec<Vec<u8>> = revoked.iter().map(|made| made.serial()).collect();
        let crl = CrlFile { place: "crl".to_owned(), octets: self.root.crl(&CrlRecipe::listing(&serials)) };
        let settings = ClientCaSettings {
            name: "staff".into(),
            certificates: vec![self.root.der.clone()],
            intermediates: Vec::new(),
            crls: vec![crl],
            revocation: RevocationMode::Off,
            crl_grace: Duration::ZERO,
            rules: CaRules::default(),
        };
        let (ca, faults) = ClientCa::new(settings).unwrap();
        assert!(faults.is_empty());
        Arc::new(ca.asking(Asks { ocsp, ..Asks::default() }))
    }

    fn query(&self, revoked: &[&Made]) -> Query {
        let link = |made: &Made| Link { der: made.der.clone(), view: Arc::new(View::of(&made.der).unwrap()) };
        Query::new(&self.ca(OcspMode::Require, revoked), &link(&self.alice), &link(&self.root))
    }
}

/// An answer to be: what a test changes of it.
struct Draft<'a> {
    about: &'a Made,
    issuer: &'a Made,
    sha256: bool,
    status: &'static [u8],
    from: i64,
    to: Option<i64>,
    nonce: Option<Vec<u8>>,
    critical: bool,
    signer: &'a Made,
    /// Whether it names its responder by its key.
    by_key: bool,
    certificates: Vec<&'a Made>,
    outcome: u8,
}

impl<'a> Draft<'a> {
    fn of(cast: &'a Cast) -> Self {
        Self {
            about: &cast.alice,
            issuer: &cast.root,
            sha256: false,
            status: &[0x80, 0],
            from: NOW - 60,
            to: Some(NOW + 600),
            nonce: Some(OURS.to_vec()),
            critical: false,
            signer: &cast.root,
            by_key: false,
            certificates: Vec::new(),
            outcome: 0,
        }
    }

    fn octets(&self) -> Vec<u8> {
        let time = |seconds| {
            let text = WallTime::from_seconds(seconds).rfc3339().replace(['-', ':', 'T'], "");
            element(0x18, text.as_bytes())
        };
        let issuer = View::of(&self.issuer.der).unwrap();
        let algorithm = if self.sha256 { SHA256 } else { SHA1 };
        let hash = if self.sha256 { sha256 } else { sha1 };
        let id = [
            element(0x30, &[element(0x06, algorithm), vec![5, 0]].concat()),
            element(0x04, hash(&issuer.subject).as_ref()),
            element(0x04, hash(key_bits(&issuer.spki).unwrap()).as_ref()),
            element(0x02, serial(&self.about.der).unwrap()),
        ];
        let mut single = [element(0x30, &id.concat()), self.status.to_vec(), time(self.from)].concat();
        if let Some(to) = self.to {
            single.extend(element(0xa0, &time(to)));
        }
        let signer = View::of(&self.signer.der).unwrap();
        let responder = if self.by_key {
            element(0xa2, &element(0x04, sha1(key_bits(&signer.spki).unwrap()).as_ref()))
        } else {
            element(0xa1, &signer.subject)
        };
        let mut data = [responder, time(NOW), element(0x30, &element(0x30, &single))].concat();
        let mut extensions = Vec::new();
        if let Some(nonce) = &self.nonce {
            let value = element(0x04, &element(0x04, nonce));
            extensions.extend(element(0x30, &[element(0x06, NONCE), value].concat()));
        }
        if self.critical {
            let unknown = [element(0x06, &[42, 3]), element(0x01, &[0xff]), element(0x04, &[5, 0])].concat();
            extensions.extend(element(0x30, &unknown));
        }
        if !extensions.is_empty() {
            data.extend(element(0xa1, &element(0x30, &extensions)));
        }
        let data = element(0x30, &data);
        // ecdsa-with-SHA256
        let algorithm = element(0x30, &element(0x06, &[42, 134, 72, 206, 61, 4, 3, 2]));
        let signature = element(0x03, &[vec![0], self.signer.key.sign(&data).unwrap()].concat());
        let mut basic = [data, algorithm, signature].concat();
        if !self.certificates.is_empty() {
            let ders: Vec<u8> = self.certificates.iter().flat_map(|made| made.der.to_vec()).collect();
            basic.extend(element(0xa0, &element(0x30, &ders)));
        }
        let bytes = [element(0x06, BASIC), element(0x04, &element(0x30, &basic))].concat();
        element(0x30, &[element(0x0a, &[self.outcome]), element(0xa0, &element(0x30, &bytes))].concat())
    }
}

const GOOD: Result<CertificateStatus, OcspFault> = Ok(CertificateStatus::Good);

/// RFC 5019 §2.1.1, RFC 9654 §2.1: one certificate, named by SHA-1, and nothing but a nonce of 32 octets; put together here octet by octet.
#[test]
fn a_request_is_about_one_certificate_by_sha1_and_its_nonce_has_32_octets() {
    let cast = Cast::new();
    let issuer = View::of(&cast.root.der).unwrap();
    let id = [
        element(0x30, &[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a, 0x05, 0x00]),
        element(0x04, sha1(&issuer.subject).as_ref()),
        element(0x04, sha1(key_bits(&issuer.spki).unwrap()).as_ref()),
        element(0x02, serial(&cast.alice.der).unwrap()),
    ];
    let list = element(0x30, &element(0x30, &element(0x30, &id.concat())));
    let nonce = [7_u8; 32];
    let kind = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
    let extension = element(0x30, &[kind.as_slice(), &element(0x04, &element(0x04, &nonce))].concat());
    let extensions = element(0xa2, &element(0x30, &extension));
    let request = |behind: &[u8]| element(0x30, &element(0x30, &[list.as_slice(), behind].concat()));
    assert_eq!(cast.query(&[]).request(None), Some(request(&[])));
    assert_eq!(cast.query(&[]).request(Some(&nonce)), Some(request(&extensions)));
}

#[test]
fn an_answer_counts_only_when_everything_holds() {
    type Change = for<'a> fn(&'a Cast, &mut Draft<'a>);
    let cast = Cast::new();
    let table: Vec<(&str, Change, Result<CertificateStatus, OcspFault>)> = vec![
        ("good", |_, _| {}, GOOD),
        ("revoked", |_, draft| draft.status = b"\xa1\x11\x18\x0f20250601000000Z", Ok(CertificateStatus::Revoked)),
        ("unknown", |_, draft| draft.status = &[0x82, 0], Ok(CertificateStatus::Unknown)),
        ("a status that there is not", |_, draft| draft.status = &[0x83, 0], Err(OcspFault::Malformed)),
        ("named by SHA-256", |_, draft| draft.sha256 = true, GOOD),
        ("the responder named by its key", |_, draft| draft.by_key = true, GOOD),
        ("about another certificate", |cast, draft| draft.about = &cast.bob, Err(OcspFault::OtherCertificate)),
        ("of another issuer", |cast, draft| draft.issuer = &cast.bob, Err(OcspFault::OtherCertificate)),
        ("over", |_, draft| draft.to = Some(NOW), Err(OcspFault::NotFresh)),
        ("of the future", |_, draft| draft.from = NOW + 600, Err(OcspFault::NotFresh)),
        ("of a clock a little ahead", |_, draft| draft.from = NOW + 200, GOOD),
        ("without an end, with our nonce", |_, draft| (draft.to, draft.from) = (None, NOW - DAY), GOOD),
        (
            "without an end and nonce, old",
            |_, draft| (draft.to, draft.from, draft.nonce) = (None, NOW - DAY, None),
            Err(OcspFault::NotFresh),
        ),
        ("without an end and nonce, new", |_, draft| (draft.to, draft.nonce) = (None, None), GOOD),
        ("made before we asked", |_, draft| draft.nonce = None, GOOD),
        ("for another's question", |_, draft| draft.nonce = Some(vec![8; NONCE_OCTETS]), Err(OcspFault::Nonce)),
        ("with something critical", |_, draft| draft.critical = true, Err(OcspFault::UnknownCritical)),
        (
            "by an authorized responder",
            |cast, draft| (draft.signer, draft.certificates) = (&cast.responder, vec![&cast.bob, &cast.responder]),
            GOOD,
        ),
        ("by one whose certificate is not there", |cast, draft| draft.signer = &cast.responder, Err(OcspFault::Signer)),
        (
            "by a certificate that is not for it",
            |cast, draft| (draft.signer, draft.certificates) = (&cast.no_purpose, vec![&cast.no_purpose]),
            Err(OcspFault::Signer),
        ),
        (
            "by a responder that has ended",
            |cast, draft| (draft.signer, draft.certificates) = (&cast.ended, vec![&cast.ended]),
            Err(OcspFault::Signer),
        ),
        (
            "by a responder of another CA of that name",
            |cast, draft| (draft.signer, draft.certificates) = (&cast.foreign, vec![&cast.foreign]),
            Err(OcspFault::Signer),
        ),
        ("try later", |_, draft| draft.outcome = 3, Err(OcspFault::NoAnswer("to try later"))),
    ];
    for (name, change, wanted) in table {
        let mut draft = Draft::of(&cast);
        change(&cast, &mut draft);
        let read = cast.query(&[]).read(&draft.octets(), Some(&OURS), now());
        assert_eq!(read.map(|read| read.status), wanted, "{name}");
    }
}

#[test]
fn no_octet_of_an_answer_can_be_changed_or_left_out() {
    let cast = Cast::new();
    let query = cast.query(&[]);
    let whole = Draft::of(&cast).octets();
    for end in 0..whole.len() {
        assert!(query.read(&whole[..end], Some(&OURS), now()).is_err(), "cut at {end}");
    }
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        assert!(query.read(&changed, Some(&OURS), now()).is_err(), "changed at {place}");
    }
    assert!(query.read(&[whole, vec![0]].concat(), Some(&OURS), now()).is_err());
}

#[test]
fn a_responder_that_is_revoked_answers_no_more_unless_its_ca_says_not_to_check() {
    let cast = Cast::new();
    for (signer, wanted) in [(&cast.responder, Err(OcspFault::SignerRevoked)), (&cast.unchecked, GOOD)] {
        let draft = Draft { signer, certificates: vec![signer], ..Draft::of(&cast) };
        let query = cast.query(&[&cast.responder, &cast.unchecked]);
        assert_eq!(query.read(&draft.octets(), Some(&OURS), now()).map(|read| read.status), wanted);
    }
}

#[test]
fn an_answer_is_relied_on_no_longer_than_it_says_and_an_hour() {
    let cast = Cast::new();
    for (to, until) in [(Some(NOW + 600), NOW + 600), (Some(NOW + 9 * DAY), NOW + 3600), (None, NOW + 300)] {
        let draft = Draft { to, ..Draft::of(&cast) };
        let read = cast.query(&[]).read(&draft.octets(), Some(&OURS), now()).unwrap().until;
        assert_eq!(read, WallTime::from_seconds(until));
    }
}

#[test]
fn the_judge_wants_an_answer_and_takes_it_for_what_it_is() {
    use CertificateStatus::{Good, Revoked, Unknown};
    let cast = Cast::new();
    let chain = PeerChain(vec![cast.alice.der.clone()]);
    let later = now().after(Duration::from_secs(60));
    let unknown = Some(CertificateFault::RevocationUnknown);
    // What is known; what is said under require, under if-available; whether an answer is wanted.
    let table = [
        (None, unknown.clone(), unknown.clone(), true),
        (Some(Known::Answer(Good, later)), None, None, false),
        (Some(Known::Answer(Good, now())), unknown.clone(), unknown.clone(), true),
        (Some(Known::Answer(Revoked, later)), Some(CertificateFault::Revoked), Some(CertificateFault::Revoked), false),
        (Some(Known::Answer(Unknown, later)), unknown.clone(), None, false),
        (Some(Known::Unavailable(later)), unknown.clone(), None, false),
    ];
    for (known, required, available, wanted) in table {
        for (mode, fault) in [(OcspMode::Require, required), (OcspMode::IfAvailable, available), (OcspMode::Off, None)]
        {
            let trust = Trust::new(vec![cast.ca(mode, &[])], Pins::default());
            let judged = judge_asking(&chain, &trust, &|_| known, now());
            let asks = judged.as_ref().err().is_some_and(|rejection| rejection.query.is_some());
            assert_eq!(asks, wanted && mode != OcspMode::Off, "{known:?}, {mode:?}");
            if let (Ok(verified), true) = (&judged, mode != OcspMode::Off) {
                assert_eq!(verified.good_until(), later, "{known:?}, {mode:?}: it rests on the answer");
            }
            assert_eq!(judged.err().map(|rejection| rejection.fault), fault, "{known:?}, {mode:?}");
        }
    }
    // RFC 5019 §3.2: of what a CA of that name and another key has signed nobody is asked.
    let forged = Recipe::client("Alice").signed_by(&Recipe::ca("Root").self_signed());
    let trust = Trust::new(vec![cast.ca(OcspMode::Require, &[])], Pins::default());
    let asked = std::cell::Cell::new(0);
    let known = |_: &Query| -> Option<Known> {
        asked.set(asked.get() + 1);
        None
    };
    let refused = judge_asking(&PeerChain(vec![forged.der]), &trust, &known, now()).unwrap_err();
    assert_eq!((refused.query, asked.get()), (None, 0), "{:?}", refused.fault);
    let trust = |mode| Trust::new(vec![cast.ca(mode, &[])], Pins::default());
    assert!(judge(&chain, &trust(OcspMode::IfAvailable), now()).is_ok(), "where nobody can be asked");
    let refused = judge(&chain, &trust(OcspMode::Require), now()).unwrap_err();
    assert_eq!((refused.fault, refused.query), (CertificateFault::RevocationUnknown, None));
}

#[test]
fn the_log_names_the_answer_that_is_missing() {
    let cast = Cast::new();
    let later = now().after(Duration::from_secs(60));
    let trust = Trust::new(vec![cast.ca(OcspMode::Require, &[])], Pins::default());
    for (known, lacks) in [
        (Known::Unavailable(later), "no OCSP responder has answered"),
        (Known::Answer(CertificateStatus::Unknown, later), "its OCSP responder does not know it"),
    ] {
        let judged = judge_asking(&PeerChain(vec![cast.alice.der.clone()]), &trust, &|_| Some(known), now());
        let told = judged.unwrap_err().to_string();
        let wanted =
            format!("revocation status unknown: {lacks} (ocsp = \"require\"; issuer CN=Root); client_ca \"staff\"");
        assert!(told.starts_with(&wanted), "{told}");
    }
}

#[test]
fn a_certificate_with_another_signature_is_no_other_certificate() {
    let cast = Cast::new();
    let ca = cast.ca(OcspMode::IfAvailable, &[]);
    let other = cast.alice.with_the_other_signature();
    assert_ne!(other, cast.alice.der);
    let trust = Trust::new(vec![Arc::clone(&ca)], Pins::default());
    let asked = |der: &CertificateDer<'static>| {
        let judged = judge_asking(&PeerChain(vec![der.clone()]), &trust, &|_| None, now());
        judged.unwrap_err().query.expect("a good path, and a question")
    };
    let (one, two, bob) = (asked(&cast.alice.der), asked(&other), asked(&cast.bob.der));
    assert_eq!(one.key(), two.key(), "what was said of the one is said of the other");
    assert_ne!(one.key(), bob.key());
}
