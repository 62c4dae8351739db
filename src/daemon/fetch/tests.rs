//! When CRLs are fetched, and which of those that come are kept.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::tls::recipe::{CrlRecipe, DAY, Made, NOW, Recipe};
use crate::tls::{CaRules, ClientCaSettings, RevocationMode};

fn ca(roots: &[&Made], intermediates: &[&Made]) -> ClientCa {
    named("staff", roots, intermediates)
}

fn named(name: &str, roots: &[&Made], intermediates: &[&Made]) -> ClientCa {
    let ders = |all: &[&Made]| all.iter().map(|made| made.der.clone()).collect();
    let settings = ClientCaSettings {
        name: name.into(),
        certificates: ders(roots),
        intermediates: ders(intermediates),
        crls: Vec::new(),
        revocation: RevocationMode::Require,
        crl_grace: Duration::ZERO,
        rules: CaRules::default(),
    };
    ClientCa::new(settings).unwrap().0
}

fn source(name: &str, folder: &Path, urls: &[String]) -> Arc<CrlSource> {
    Arc::new(CrlSource {
        ca: Arc::new(named(name, &[&Recipe::ca("Root").self_signed()], &[])),
        urls: urls.iter().map(|url| HttpUrl::parse(url).unwrap()).collect(),
        learns: false,
        folder: folder.to_owned(),
        refresh: Duration::from_secs(3600),
    })
}

#[tokio::test]
async fn nothing_new_is_a_failure_where_there_is_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let source = source("staff", folder.path(), &[format!("http://127.0.0.1:{port}/ca.crl")]);
    let (wall, mono) = (WallTime::from_seconds(NOW), MonoTime::from_start(Duration::from_secs(100)));
    let mut book = Book::default();
    book.follow(&[source], mono).await;
    let (key, source) = book.take_due(mono).unwrap();
    let (fetched, ()) = tokio::join!(fetch(key, Whence::Configuration, source, wall), server);
    assert!(matches!(fetched.result, Err(FetchFault::NothingHeld)));
    assert!(!book.settle(fetched, wall, mono, 0));
    assert_eq!(book.next_due(mono), Some(RETRY_FIRST));
}

#[tokio::test]
async fn nothing_new_is_a_failure_where_what_is_there_has_run_out() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            stream.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let root = Recipe::ca("Root").self_signed();
    let ca = Arc::new(ca(&[&root], &[]));
    let source = Arc::new(CrlSource { ca, ..CrlSource::clone(&source("staff", folder.path(), &[])) });
    let url = HttpUrl::parse(&format!("http://127.0.0.1:{port}/ca.crl")).unwrap();
    let octets = root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW));
    let ends = WallTime::from_seconds(NOW);
    let early = WallTime::from_seconds(NOW - 1);
    let none = Held::default();
    let keep = |now| keep(&source.ca, folder.path(), &url, &octets, Default::default(), &none, now);
    assert!(matches!(keep(ends), Err(FetchFault::Stale(_))), "at the moment of its end it has run out");
    keep(early).unwrap();
    let key: Key = ("staff".into(), url.clone());
    let asking = async {
        let fetch = |now| fetch(key.clone(), Whence::Configuration, Arc::clone(&source), now);
        [fetch(early).await, fetch(ends).await]
    };
    let ([before, after], ()) = tokio::join!(asking, server);
    assert!(matches!(before.result, Ok(News::Same)));
    assert!(matches!(after.result, Err(FetchFault::Stale(_))));
}

#[tokio::test]
async fn slow_servers_of_one_ca_do_not_keep_the_crls_of_another_from_being_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let slow: Vec<String> = (0..=PARALLEL_MAX).map(|number| format!("http://{number}.example.com/x.crl")).collect();
    let staff = ["http://pki.example.com/staff.crl".to_owned()];
    let mut now = MonoTime::from_start(Duration::from_secs(100));
    let mut book = Book::default();
    book.follow(&[source("guests", folder.path(), &slow), source("staff", folder.path(), &staff)], now).await;
    // Each takes nearly all the time it may have, and is due again at once.
    let mut fetched = Vec::new();
    for _ in 0..2 {
        let running: Vec<Key> = (0..PARALLEL_MAX).filter_map(|_| book.take_due(now)).map(|(key, _)| key).collect();
        now = now.after(FETCH_TIME);
        for key in running {
            fetched.push(Arc::clone(&key.0));
            book.settle(Fetched { key, held: None, result: Ok(News::Same) }, WallTime::from_seconds(NOW), now, 0);
        }
        now = now.after(PAUSE_LEAST);
    }
    assert!(fetched.iter().any(|ca| &**ca == "staff"), "{fetched:?}");
}

#[tokio::test]
async fn learned_points_take_no_room_from_configured_ones_and_useless_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let now = MonoTime::from_start(Duration::from_secs(100));
    let url = |number: usize| HttpUrl::parse(&format!("http://{number}.example.com/x.crl")).unwrap();
    let learning = |urls: &[String]| {
        let CrlSource { ca, urls, folder, refresh, .. } = CrlSource::clone(&source("staff", folder.path(), urls));
        Arc::new(CrlSource { ca, urls, learns: true, folder, refresh })
    };
    let mut book = Book::default();
    book.follow(&[learning(&[])], now).await;
    let learn = |book: &mut Book, number| book.learn(Named { ca: "staff".into(), url: url(number) }, now);
    (0..LEARNED_URLS_MAX + 1).for_each(|number| learn(&mut book, number));
    let has = |book: &Book, number| book.errands.contains_key(&("staff".into(), url(number)));
    assert!(book.errands.len() == LEARNED_URLS_MAX && !has(&book, LEARNED_URLS_MAX));
    // One has failed: it makes room. One has failed and gave a CRL before: it stays.
    for (number, good) in [(3, false), (4, true)] {
        let errand = book.errands.get_mut(&("staff".into(), url(number))).unwrap();
        (errand.failures, errand.good) = (1, good);
    }
    (20..22).for_each(|number| learn(&mut book, number));
    assert!(has(&book, 20) && !has(&book, 3) && has(&book, 4) && !has(&book, 21));
    // What is configured finds its place beside them.
    book.follow(&[learning(&["http://pki.example.com/staff.crl".to_owned()])], now).await;
    assert_eq!(book.errands.len(), LEARNED_URLS_MAX + 1);
}

#[tokio::test]
async fn a_certificates_url_counts_as_the_operators_where_the_configuration_names_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let now = MonoTime::from_start(Duration::from_secs(100));
    let told = "http://pki.example.com/staff.crl".to_owned();
    let source = CrlSource::clone(&source("staff", folder.path(), std::slice::from_ref(&told)));
    let mut book = Book::default();
    book.follow(&[Arc::new(CrlSource { learns: true, ..source })], now).await;
    for (url, whence) in [
        (&*told, Whence::Configuration),
        ("http://pki.example.com/other.crl", Whence::Configuration),
        ("http://pki.example.com:81/staff.crl", Whence::Certificate),
        ("http://other.example.com/staff.crl", Whence::Certificate),
    ] {
        let url = HttpUrl::parse(url).unwrap();
        book.learn(Named { ca: "staff".into(), url: url.clone() }, now);
        assert_eq!(book.whence(&("staff".into(), url.clone())), whence, "{url}");
    }
}

#[tokio::test]
async fn who_has_room_for_a_learned_point_and_what_a_reload_keeps_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let now = MonoTime::from_start(Duration::from_secs(100));
    let learning = || {
        let CrlSource { ca, urls, folder, refresh, .. } = CrlSource::clone(&source("staff", folder.path(), &[]));
        Arc::new(CrlSource { ca, urls, learns: true, folder, refresh })
    };
    let key = |number: usize| -> Key {
        ("staff".into(), HttpUrl::parse(&format!("http://{number}.example.com/x.crl")).unwrap())
    };
    let mut book = Book::default();
    book.follow(&[learning()], now).await;
    let learn = |book: &mut Book, number| book.learn(Named { ca: "staff".into(), url: key(number).1 }, now);
    (0..LEARNED_URLS_MAX).for_each(|number| learn(&mut book, number));
    for (number, failures, busy, good) in [(1, 9, true, false), (2, 3, false, false), (3, 2, false, false)] {
        let errand = book.errands.get_mut(&key(number)).unwrap();
        (errand.failures, errand.busy, errand.good) = (failures, busy, good);
    }
    // What is under way stays, and of the others the one goes that failed most often.
    learn(&mut book, 30);
    assert!(book.errands.contains_key(&key(1)) && !book.errands.contains_key(&key(2)));
    assert!(book.errands.contains_key(&key(3)) && book.errands.contains_key(&key(30)));
    // That it once gave a CRL is known through reloads.
    book.errands.get_mut(&key(3)).unwrap().good = true;
    book.follow(&[learning()], now).await;
    assert_eq!((book.errands[&key(3)].good, book.errands[&key(3)].failures), (true, 2));
    learn(&mut book, 31);
    assert!(!book.errands.contains_key(&key(31)) && book.errands.contains_key(&key(3)));
}

#[tokio::test]
async fn who_asks_while_a_fetch_is_under_way_has_it_fetched_once_more_and_failures_make_it_rare() {
    let folder = tempfile::tempdir().unwrap();
    let (wall, now) = (WallTime::from_seconds(NOW), MonoTime::from_start(Duration::from_secs(100)));
    let mut book = Book::default();
    book.follow(&[source("staff", folder.path(), &["http://pki.example.com/a.crl".to_owned()])], now).await;
    let fetch = |book: &mut Book, at: MonoTime, result, meanwhile: bool| {
        let (key, _) = book.take_due(at).unwrap();
        if meanwhile {
            book.hasten(at);
        }
        book.settle(Fetched { key, held: None, result }, wall, at, 0);
        book.next_due(at).unwrap()
    };
    assert_eq!(fetch(&mut book, now, Ok(News::Same), true), Duration::ZERO, "what came may be of before");
    assert_eq!(fetch(&mut book, now, Ok(News::Same), false), PAUSE_LEAST, "once more only");
    let mut at = now.after(PAUSE_LEAST);
    for wanted in [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800] {
        let wait = fetch(&mut book, at, Err(FetchFault::Unread), false);
        assert_eq!(wait, Duration::from_secs(wanted));
        at = at.after(wait);
    }
}

#[test]
fn a_crl_that_ends_at_once_is_not_fetched_each_second() {
    let folder = tempfile::tempdir().unwrap();
    let source = source("staff", folder.path(), &[]);
    let root = Recipe::ca("Root").self_signed();
    let ca = ca(&[&root], &[]);
    let now = MonoTime::from_start(Duration::ZERO);
    for (left, refresh, wanted) in [(1, 3600, 30), (600, 3600, 300), (90_000, 3600, 3600), (1, 5, 5)] {
        let held = ca.read_crl(&root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + left))).unwrap();
        let source = Arc::new(CrlSource { refresh: Duration::from_secs(refresh), ..CrlSource::clone(&source) });
        let errand =
            Errand { source, due: now, failures: 0, busy: false, learned: false, good: true, asked: Asked::No };
        let paused = pause(&errand, Some(&held), WallTime::from_seconds(NOW));
        assert_eq!(paused, Duration::from_secs(wanted), "{left} s left");
    }
}

#[test]
fn a_list_gives_way_to_a_newer_one_of_its_kind_and_is_shut_out_by_none_of_another() {
    let root = Recipe::ca("Root").self_signed();
    let issuing = Recipe::ca("Issuing").signed_by(&root);
    let ca = ca(&[&root], &[&issuing]);
    let folder = tempfile::tempdir().unwrap();
    let url = HttpUrl::parse("http://pki.example.com/issuing.crl").unwrap();
    let listed = [vec![7_u8]];
    let list = |by: &Made, number, revoked, from, to| {
        by.crl(&CrlRecipe { number, ..CrlRecipe::listing(revoked).valid(NOW + from * DAY, NOW + to * DAY) })
    };
    let old = list(&issuing, 1, &[], -3, 1);
    let new = list(&issuing, 2, &listed, -1, 7);
    let of_the_root = list(&root, 9, &[], -1, 90);
    let newest = list(&issuing, 3, &listed, 0, 8);
    let ahead = list(&issuing, 4, &[], 1, 9);
    // What is served, on which day, whether it is taken, and how many serials are at hand then of the issuing CA, and kinds in all.
    for (title, octets, day, taken, revoked, kinds) in [
        ("once, somebody on the way gives the root's", &of_the_root, 0, true, None, 1),
        ("which keeps the right one from nothing", &new, 0, true, Some(1), 2),
        ("an old one", &old, 0, false, Some(1), 2),
        ("the root's again", &of_the_root, 0, true, Some(1), 2),
        ("and by way of it no old one", &old, 0, false, Some(1), 2),
        ("one of a day to come, which would shut out all until then", &ahead, 0, false, Some(1), 2),
        ("the newest", &newest, 0, true, Some(1), 2),
    ] {
        let now = WallTime::from_seconds(NOW + day * DAY);
        let held = || Held::read(&ca, folder.path(), &url);
        let kept = keep(&ca, folder.path(), &url, octets, Default::default(), &held(), now);
        assert_eq!(kept.is_ok(), taken, "{title}");
        let issuing = ca.read_crl(&newest).unwrap();
        let of_issuing = held().kinds.iter().find(|(_, list)| list.stands_for(&issuing)).map(|(_, list)| list.revoked);
        assert_eq!((of_issuing, held().kinds.len()), (revoked, kinds), "{title}");
    }
    // Who gives only the root's from then on is told of before the other one ends, and not for ever.
    let held = Held::read(&ca, folder.path(), &url);
    let given = ca.read_crl(&of_the_root).unwrap();
    for (day, passed_over) in [(3, false), (4, true), (7, true), (8, false)] {
        let now = WallTime::from_seconds(NOW + day * DAY);
        assert_eq!(held.passed_over(&given, now).is_some(), passed_over, "day {day}");
    }
    let pressing = |day| held.pressing(WallTime::from_seconds(NOW + day * DAY)).map(|list| list.revoked);
    assert_eq!([0, 7, 8, 100].map(pressing), [Some(1), Some(1), Some(0), Some(0)]);
}

#[test]
fn kinds_are_bounded_and_what_has_run_out_makes_room() {
    let root = Recipe::ca("Root").self_signed();
    let ca = ca(&[&root], &[]);
    let list = |to| ca.read_crl(&root.crl(&CrlRecipe::listing(&[]).valid(NOW - DAY, NOW + to))).unwrap();
    let kinds: Vec<_> = (0..cache::KINDS_MAX).filter(|&slot| slot != 2).map(|slot| (slot, list(DAY))).collect();
    let mut held = Held { kinds, last: None };
    let now = WallTime::from_seconds(NOW);
    assert_eq!(held.room(now), Some(2));
    held.kinds.push((2, list(DAY)));
    assert_eq!(held.room(now), None);
    held.kinds[5].1 = list(0);
    assert_eq!(held.room(now), Some(held.kinds[5].0));
}

#[test]
fn no_list_of_another_key_brings_an_old_one_back_and_one_of_a_new_key_is_news() {
    let old_key = Recipe::ca("Root").self_signed();
    let new_key = Recipe::ca("Root").self_signed();
    let ca = ca(&[&old_key, &new_key], &[]);
    let folder = tempfile::tempdir().unwrap();
    let url = HttpUrl::parse("http://pki.example.com/root.crl").unwrap();
    let listed = [vec![7_u8]];
    let list = |by: &Made, number, revoked, from, to| {
        by.crl(&CrlRecipe { number, ..CrlRecipe::listing(revoked).valid(NOW + from * DAY, NOW + to * DAY) })
    };
    let before = list(&old_key, 8, &[], -3, 4);
    let first = list(&new_key, 9, &[], -2, 5);
    let newest = list(&new_key, 10, &listed, -1, 6);
    for (title, octets, wanted) in [
        ("of the old key", &before, Some(true)),
        ("of the new key, which the running relay must learn of", &first, Some(true)),
        ("a newer one", &newest, Some(true)),
        ("the same", &newest, Some(false)),
        ("the old key's again", &before, None),
        ("and by way of it the new key's first", &first, None),
    ] {
        let held = Held::read(&ca, folder.path(), &url);
        let now = WallTime::from_seconds(NOW);
        let kept = keep(&ca, folder.path(), &url, octets, Default::default(), &held, now);
        let news = kept.ok().map(|(_, news)| matches!(news, News::New));
        assert_eq!(news, wanted, "{title}");
    }
}
