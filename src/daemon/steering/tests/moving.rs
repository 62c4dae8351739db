//! Moves that went wrong, each as it was found.

use std::io::{self, Write};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::daemon::steering::moving::{Brought, Importing, Parcel};
use crate::queue::{Conclusion, Next};
use crate::sys::disk::Fault;

/// An export, as a file has it.
struct File {
    export: String,
    parcels: Vec<(Parcel, Vec<u8>)>,
}

async fn export(from: &Bench) -> File {
    let mut file = File { export: String::new(), parcels: Vec::new() };
    for answer in from.ask(Command::Export { filters: Filters::default() }).await {
        match answer {
            Answer::Begun(begun) => file.export = begun.export,
            Answer::Parcel(parcel) => file.parcels.push((parcel, Vec::new())),
            Answer::Piece(piece) => file.parcels.last_mut().unwrap().1.extend(BASE64.decode(piece).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    file
}

/// Imports the messages at these places; the receipt, and how many are new.
async fn import(to: &Bench, file: &File, places: &[u64]) -> (Vec<String>, usize) {
    let begun = Importing::begin(&file.export, Back::Refused, "root".to_owned(), &to.queue).await;
    let (mut importing, adopted) = begun.unwrap();
    let mut answers = Vec::new();
    for (place, (parcel, body)) in (0..).zip(&file.parcels).filter(|(place, _)| places.contains(place)) {
        let id = parcel.entry.id.clone();
        if adopted.has(place) {
            answers.extend(importing.take(to.desk(), Brought::Before { place, id }).await.unwrap());
            continue;
        }
        let message = Brought::Message { place, record: parcel.record.clone() };
        answers.extend(importing.take(to.desk(), message).await.unwrap());
        answers.extend(importing.take(to.desk(), Brought::Piece(BASE64.encode(body))).await.unwrap());
    }
    answers.extend(importing.take(to.desk(), Brought::End).await.unwrap());
    let is_new = |answer: &&Answer| matches!(answer, Answer::Done(_));
    let new = answers.iter().filter(is_new).count();
    let named = answers.into_iter().filter_map(|answer| match answer {
        Answer::Done(id) | Answer::Present(id) => Some(id),
        _ => None,
    });
    (named.collect(), new)
}

/// How many a receipt removes, and how many stay.
async fn show(at: &Bench, file: &File, receipt: &[String]) -> (usize, usize) {
    let command = Command::Forget { export: file.export.clone(), ids: receipt.to_vec() };
    let answers = at.ask(command).await;
    let count = |is: fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
    (count(|answer| matches!(answer, Answer::Done(_))), count(|answer| matches!(answer, Answer::Present(_))))
}

/// Two queues, of which the first has three messages.
async fn two() -> (Bench, Bench) {
    let (old, new) = (Bench::new(0), Bench::new(1));
    for _ in 0..3 {
        old.keep(b"hello").await;
    }
    (old, new)
}

async fn deliver_all(bench: &Bench) -> usize {
    let mut delivered = 0;
    for id in bench.ids().await {
        bench.queue.retry(id).await.unwrap();
    }
    while let Ok(claim) = tokio::time::timeout(Duration::ZERO, bench.queue.claim()).await {
        let conclusion = Conclusion { outcomes: Vec::new(), next: Next::Finished, report: None, warned: false };
        claim.conclude(conclusion).await.unwrap();
        delivered += 1;
    }
    delivered
}

const ALL: [u64; 3] = [0, 1, 2];

/// Introduced with receipts: a move was called off, and the receipt of the way there was shown after that of the way back. Both queues were empty then.
#[test]
fn of_two_receipts_that_cross_the_older_one_removes_nothing() {
    block_on(async {
        let (old, new) = two().await;
        let there = export(&old).await;
        let (receipt_there, _) = import(&new, &there, &ALL).await;
        let back = export(&new).await;
        let (receipt_back, brought) = import(&old, &back, &ALL).await;
        assert_eq!((receipt_back.len(), brought), (3, 0), "they were there still");
        assert_eq!(show(&new, &back, &receipt_back).await, (3, 0));
        assert_eq!(show(&old, &there, &receipt_there).await, (0, 3));
        assert_eq!(old.ids().await.len(), 3);
        // And it moves after all: by an export that begins now.
        let again = export(&old).await;
        let (receipt, brought) = import(&new, &again, &ALL).await;
        assert_eq!((brought, show(&old, &again, &receipt).await), (3, (3, 0)));
        assert_eq!((old.ids().await.len(), new.ids().await.len()), (0, 3));
    });
}

/// The same by way of a third queue, whose receipt the first one never saw.
#[test]
fn a_receipt_is_overtaken_also_by_a_way_back_over_a_third_queue() {
    block_on(async {
        let (old, new) = two().await;
        let third = Bench::new(2);
        let there = export(&old).await;
        let (receipt_there, _) = import(&new, &there, &ALL).await;
        let on = export(&new).await;
        let (receipt_on, _) = import(&third, &on, &ALL).await;
        assert_eq!(show(&new, &on, &receipt_on).await, (3, 0));
        let back = export(&third).await;
        let (receipt_back, _) = import(&old, &back, &ALL).await;
        assert_eq!(show(&third, &back, &receipt_back).await, (3, 0));
        assert_eq!(show(&old, &there, &receipt_there).await, (0, 3));
        // Nor does it remove anything at a queue that did not write that export.
        let away = export(&old).await;
        import(&third, &away, &ALL).await;
        assert_eq!(show(&third, &there, &receipt_there).await, (0, 3));
    });
}

/// Introduced with receipts: what one import had left out was removed by no later one, for "this receipt has served before"; and then it arrived twice.
#[test]
fn what_one_import_left_out_is_removed_by_the_receipt_of_the_next() {
    block_on(async {
        let (old, new) = two().await;
        let file = export(&old).await;
        let (first, _) = import(&new, &file, &[0, 2]).await;
        assert_eq!(show(&old, &file, &first).await, (2, 0));
        let (second, brought) = import(&new, &file, &ALL).await;
        assert_eq!((second.len(), brought), (3, 1));
        assert_eq!(show(&old, &file, &second).await, (1, 0));
        assert_eq!(show(&old, &file, &second).await, (0, 0), "shown again, it finds nothing");
        assert_eq!((old.ids().await.len(), new.ids().await.len()), (0, 3));
    });
}

/// Introduced with imports: only the export was remembered by which a message had come, and another one of the same queue brought it in again.
#[test]
fn what_was_delivered_is_not_brought_again_by_another_export() {
    block_on(async {
        let (old, mut new) = two().await;
        let (first, second) = (export(&old).await, export(&old).await);
        import(&new, &first, &ALL).await;
        assert_eq!(deliver_all(&new).await, 3);
        new.crash();
        let (receipt, brought) = import(&new, &second, &ALL).await;
        assert_eq!((receipt.len(), brought), (3, 0));
        assert_eq!(show(&old, &second, &receipt).await, (3, 0));
    });
}

#[test]
fn a_queue_takes_its_own_export_in_only_when_that_is_said() {
    block_on(async {
        let (old, _) = two().await;
        let file = export(&old).await;
        deliver_all(&old).await;
        let own = Importing::begin(&file.export, Back::Refused, "root".to_owned(), &old.queue).await;
        assert!(own.unwrap_err().contains("was made here"));
        assert!(Importing::begin(&file.export, Back::Taken, "root".to_owned(), &old.queue).await.is_ok());
    });
}

/// A full disk is a reason to move.
#[test]
fn where_nothing_can_be_noted_of_an_export_messages_are_exported_all_the_same() {
    block_on(async {
        for nth in 1..4 {
            let (old, new) = two().await;
            old.disk.fail(nth, 0, Fault::NoSpace);
            let file = export(&old).await;
            old.disk.mend();
            let (receipt, brought) = import(&new, &file, &ALL).await;
            assert_eq!((brought, show(&old, &file, &receipt).await), (3, (3, 0)), "operation {nth}");
        }
    });
}

/// What was logged by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Once the import stopped at the first that failed, and what was kept behind it stood in no audit.
#[test]
fn each_message_that_an_import_keeps_is_audited_also_behind_one_without_room() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    // With two, no callsite believes that nobody listens.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish());
    let _guard = tracing::subscriber::set_default(subscriber);
    block_on(async {
        let (from, to) = (Bench::new(0), Bench::new(1));
        for octets in [10, 200_000, 20] {
            from.keep(&vec![b'x'; octets]).await;
            from.clock.advance(Duration::from_secs(1));
        }
        // These leave room within the file, for small ones.
        for _ in 0..3 {
            to.keep(&[b'x'; 100_000]).await;
        }
        let file = export(&from).await;
        let begun = Importing::begin(&file.export, Back::Refused, "root".to_owned(), &to.queue).await;
        let (mut importing, _) = begun.unwrap();
        for (place, (parcel, body)) in (0..).zip(&file.parcels) {
            let message = Brought::Message { place, record: parcel.record.clone() };
            importing.take(to.desk(), message).await.unwrap();
            importing.take(to.desk(), Brought::Piece(BASE64.encode(body))).await.unwrap();
        }
        to.disk.set_space(to.disk.used() + 150_000);
        let stopped = importing.take(to.desk(), Brought::End).await;
        assert!(matches!(stopped, Err(QueueError::Full(_))), "{stopped:?}");
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        for ((parcel, _), is_kept) in file.parcels.iter().zip([true, false, true]) {
            let id = &parcel.entry.id;
            assert_eq!(to.queue.show(id.parse().unwrap()).await.is_ok(), is_kept);
            assert_eq!(text.lines().any(|line| line.contains("import") && line.contains(id.as_str())), is_kept);
        }
    });
}
