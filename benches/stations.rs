//! What one step of a message costs at each station: line, command, data, header, certificate, roster, policy, store.
//!
//! ```text
//! cargo bench --bench stations [NAME]      times them
//! cargo test --bench stations              runs each once: what they stand on still holds
//! ```
//!
//! Certificates, trust and roster are those of the dialogs (`tests/it/dialog/cast.rs`). The store is on a real disk, and syncs. Each prepares
//! outside the timing, and a result is never thrown away unseen.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a measuring program: it reads the clock and files, and stops at the first surprise"
)]

#[path = "../tests/it/dialog/cast.rs"]
mod cast;
#[path = "../tests/it/recipe.rs"]
mod recipe;

use std::sync::Arc;

use cast::{Cast, Season};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use recipe::NOW;
use sealpost::identity::Identity;
use sealpost::mail::{Address, Envelope, ForwardPath, MailParameters, Recipient, RecipientParameters, ReversePath};
use sealpost::sys::WallTime;
use sealpost::tls::{PeerChain, VerifiedChain};

/// Octets that intake takes from a socket at once.
const PIECE: usize = 8 * 1024;
/// Octets of a large message.
const LARGE: usize = 75 * 1024;

fn main() {
    divan::main();
}

const NOW_WALL: WallTime = WallTime::from_seconds(NOW);

/// The lines of a message's transaction, as a client pipelines them.
const TRANSACTION: &[u8] =
    b"MAIL FROM:<alice@example.com> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<reader@example.net>\r\nDATA\r\n";

/// A header section as mail programs write it.
const HEADER: &[u8] = b"Received: from laptop.example.com (192.0.2.1) by out.example.com with ESMTPSA id 1;\r\n Tue, 24 Nov 2026 09:00:00 +0000\r\n\
    From: \"Alice Example\" <alice@example.com>\r\nTo: Reader <reader@example.net>,\r\n Another Reader <another@example.net>\r\n\
    Cc: third@example.net\r\nSubject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?= and a subject that goes on into\r\n a second line\r\n\
    Date: Tue, 24 Nov 2026 09:00:00 +0000\r\nMessage-ID: <0123456789@example.com>\r\nReferences: <1@example.com>\r\n <2@example.com>\r\n\
    In-Reply-To: <2@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"=_boundary\"\r\nUser-Agent: Mozilla\r\n\
    DKIM-Signature: v=1; a=rsa-sha256; d=example.com; s=s1; h=From:To:Subject:Date:Message-ID;\r\n bh=AAAA; b=BBBB\r\n\r\n";

fn body(octets: usize) -> Vec<u8> {
    let line = b"01234567890123456789012345678901234567890123456789012345678901234567890123\r\n";
    let mut body: Vec<u8> = line.iter().copied().cycle().take(octets).collect();
    body.extend_from_slice(b"\r\n.a line that begins with a dot\r\n");
    body
}

mod line {
    use super::*;
    use sealpost::smtp::LineReader;

    #[divan::bench]
    fn three_pipelined(bencher: Bencher) {
        bencher.counter(BytesCount::of_slice(TRANSACTION)).with_inputs(LineReader::new).bench_refs(|reader| {
            reader.push(TRANSACTION);
            let mut lines = 0;
            while let Some(line) = reader.next_line(512) {
                lines += black_box(line).unwrap().len().min(1);
            }
            assert_eq!(lines, 3);
        });
    }
}

mod command {
    use super::*;
    use sealpost::smtp::{Command, Extension, Offered};

    #[divan::bench(args = ["MAIL FROM:<alice@example.com> SIZE=4096 BODY=8BITMIME", "RCPT TO:<reader@example.net>", "DATA"])]
    fn parse(bencher: Bencher, line: &str) {
        let offered = Offered::default().with(Extension::EightBitMime).with_size(1 << 20);
        bencher.bench(|| Command::parse(black_box(line.as_bytes()), &offered, NOW_WALL).unwrap());
    }
}

mod data {
    use super::*;
    use sealpost::smtp::{DotReader, DotState, DotWriter};

    fn wire() -> Vec<u8> {
        let mut wire = Vec::new();
        let mut writer = DotWriter::default();
        writer.write(&body(LARGE), &mut wire);
        writer.finish(&mut wire);
        wire
    }

    #[divan::bench]
    fn read_75_kb(bencher: Bencher) {
        let (wire, expected) = (wire(), body(LARGE).len());
        bencher.counter(BytesCount::of_slice(&wire)).with_inputs(|| Vec::with_capacity(wire.len())).bench_refs(
            |message| {
                let mut reader = DotReader::default();
                let mut state = DotState::More;
                for piece in wire.chunks(PIECE) {
                    state = reader.read(piece, message).state;
                }
                assert_eq!((state, message.len()), (DotState::End, expected));
            },
        );
    }

    #[divan::bench]
    fn write_75_kb(bencher: Bencher) {
        let (body, expected) = (body(LARGE), wire().len());
        bencher.counter(BytesCount::of_slice(&body)).with_inputs(|| Vec::with_capacity(2 * LARGE)).bench_refs(|wire| {
            let mut writer = DotWriter::default();
            body.chunks(PIECE).for_each(|piece| writer.write(piece, wire));
            writer.finish(wire);
            assert_eq!(wire.len(), expected);
        });
    }
}

mod header {
    use super::*;
    use sealpost::content::{HeaderLimits, Utf8Header, read_header};
    use sealpost::mail::header::HeaderSection;

    #[divan::bench]
    fn strict_reader(bencher: Bencher) {
        bencher
            .counter(BytesCount::of_slice(HEADER))
            .bench(|| HeaderSection::read(black_box(HEADER), &HeaderLimits::default()).unwrap().fields().len());
    }

    #[divan::bench]
    fn both_readers(bencher: Bencher) {
        bencher.counter(BytesCount::of_slice(HEADER)).bench(|| {
            let facts = read_header(black_box(HEADER), &HeaderLimits::default(), Utf8Header::NotDeclared);
            assert_eq!(facts.fault, None);
            facts
        });
    }
}

fn chain() -> PeerChain {
    PeerChain(Cast::get().chain("alice").unwrap().unwrap())
}

fn verified() -> VerifiedChain {
    sealpost::tls::verify(&chain(), &Cast::get().trust(&Season::default()), NOW_WALL).unwrap()
}

fn alice() -> Identity {
    Cast::get().roster(&Season::default()).identify(&verified()).unwrap()
}

mod certificate {
    use super::*;
    use sealpost::identity::CertificateFacts;

    #[divan::bench]
    fn verify(bencher: Bencher) {
        let (chain, trust) = (chain(), Cast::get().trust(&Season::default()));
        bencher.bench(|| sealpost::tls::verify(black_box(&chain), &trust, NOW_WALL).unwrap());
    }

    #[divan::bench]
    fn facts(bencher: Bencher) {
        let verified = verified();
        bencher.bench(|| CertificateFacts::of_chain(black_box(&verified)).unwrap());
    }
}

mod roster {
    use super::*;
    use sealpost::identity::Roster;

    #[divan::bench(args = [10, 100_000])]
    fn identify(bencher: Bencher, entries: usize) {
        let others = (1..entries)
            .map(|number| cast::mailbox(&format!("n{number}"), &format!("n{number}@example.com"), &["@certificate"]));
        let alice = cast::mailbox("alice", "alice@example.com", &["@certificate"]);
        let roster = Roster::new(others.chain([alice]).collect(), vec![cast::mailboxes("staff")]).unwrap();
        let verified = verified();
        bencher.bench(|| {
            let identity = roster.identify(black_box(&verified)).unwrap();
            assert_eq!(identity.name(), "alice");
            identity
        });
    }
}

mod policy {
    use super::*;
    use sealpost::content::{HeaderLimits, HeaderRules, Utf8Header, read_header};
    use sealpost::policy::{self, Verdict};

    fn allowed(verdict: Verdict) -> Verdict {
        assert!(matches!(verdict, Verdict::Allowed(_)), "{verdict:?}");
        verdict
    }

    #[divan::bench]
    fn sender(bencher: Bencher) {
        let (identity, path) = (alice(), ReversePath::Address("alice@example.com".parse().unwrap()));
        bencher.bench(|| allowed(policy::sender(&identity, black_box(&path))));
    }

    #[divan::bench]
    fn recipient(bencher: Bencher) {
        let (identity, path) = (alice(), ForwardPath::Address("reader@example.net".parse().unwrap()));
        bencher.bench(|| allowed(policy::recipient(&identity, black_box(&path))));
    }

    #[divan::bench]
    fn author(bencher: Bencher) {
        let facts = read_header(HEADER, &HeaderLimits::default(), Utf8Header::NotDeclared);
        let (identity, rules) = (alice(), HeaderRules::default());
        let path = ReversePath::Address("alice@example.com".parse().unwrap());
        bencher.bench(|| allowed(policy::author(&identity, black_box(&facts), &rules, &path)));
    }
}

mod store {
    use super::*;
    use sealpost::queue::{Custodian, Deposit, Queue, QueueSettings, TraceFacts};
    use sealpost::sys::disk::SystemDisk;
    use sealpost::sys::{SystemClock, SystemEntropy};

    fn deposit() -> Deposit {
        let recipient = Recipient {
            forward_path: ForwardPath::Address(Address::parse("reader@example.net").unwrap()),
            parameters: RecipientParameters::default(),
        };
        let sender = ReversePath::Address(Address::parse("alice@example.com").unwrap());
        Deposit {
            envelope: Envelope::new(sender, MailParameters::default(), vec![recipient]).unwrap(),
            custodian: Custodian {
                identity: "staff:alice@example.com".to_owned(),
                ca: Some("staff".to_owned()),
                fingerprint: "ab".repeat(32),
                chain: vec![("CN=Example Staff CA".to_owned(), "01af".to_owned())],
                key: Some([7; 32]),
                links: Vec::new(),
                vouched: None,
                ends: None,
            },
            trace: TraceFacts {
                client: "192.0.2.1:40000".to_owned(),
                helo: "laptop.example.com".to_owned(),
                protocol: "ESMTPS".to_owned(),
                tls: "TLS1.3 TLS_AES_256_GCM_SHA384".to_owned(),
                arrived: NOW_WALL,
                message_id: Some("<0123456789@example.com>".to_owned()),
            },
        }
    }

    async fn keep(queue: &Queue, body: &[u8]) {
        let mut incoming = queue.admit("staff:alice@example.com", None).await.unwrap();
        for piece in body.chunks(PIECE) {
            incoming.write(piece).await.unwrap();
        }
        incoming.commit(deposit()).await.unwrap();
    }

    /// From the room to the proof, the sync among it: so many clients at once, each with a message of 4 KB.
    #[divan::bench(args = [1, 20], max_time = 2)]
    fn commit_4_kb(bencher: Bencher, clients: usize) {
        let folder = tempfile::tempdir_in("target").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let settings = QueueSettings { share_per_identity: 100, ..QueueSettings::new(folder.path()) };
        let clock = Arc::new(SystemClock::start());
        let (queue, _) = Queue::open(settings, Arc::new(SystemDisk), clock, Arc::new(SystemEntropy)).unwrap();
        let body = body(4096);
        bencher.counter(ItemsCount::new(clients)).bench(|| {
            runtime.block_on(async {
                futures_util::future::join_all((0..clients).map(|_| keep(&queue, &body))).await;
            });
        });
        runtime.block_on(queue.close());
    }
}
