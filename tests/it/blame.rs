//! The table of docs/upstreams.md, "Whose fault a reply is", held against the function that decides.

use std::fs;

use sealpost::smtp::{Code, Reply, Status};
use sealpost::upstream::blame::{Judgement, judge};
use sealpost::upstream::{Phase, ReplyPattern};

use super::source::top;

const PHASES: [Phase; 9] = [
    Phase::Greeting,
    Phase::Hello,
    Phase::StartTls,
    Phase::Auth,
    Phase::Reset,
    Phase::Mail,
    Phase::Recipient,
    Phase::Data,
    Phase::EndOfData,
];

fn word(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Proceed => "goes on",
        Judgement::Later => "waits",
        Judgement::Never => "fails",
        Judgement::TooMany => "too many",
        Judgement::Busy => "busy",
        Judgement::Broken => "ours",
        Judgement::Over => "leaves",
        Judgement::Unexpected => "unintelligible",
    }
}

fn reply(text: &str) -> Reply {
    let mut words = text.split(' ');
    let code = Code::new(words.next().unwrap().parse().unwrap()).unwrap();
    let status: Option<Status> = words.next().map(|word| word.parse().unwrap());
    Reply::new(code, status, "text")
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_documented_table_of_replies_is_the_one_that_decides() {
    let text = fs::read_to_string(top().join("docs/upstreams.md")).unwrap();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| at |"));
    let replies: Vec<&str> = cells(lines.next().unwrap()).split_off(1);
    let rows: Vec<Vec<&str>> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
    assert_eq!((rows.len(), replies.len()), (PHASES.len(), 13));
    for (phase, row) in PHASES.iter().zip(&rows) {
        assert_eq!(row[0], phase.words());
        for (text, documented) in replies.iter().zip(&row[1..]) {
            let judged = word(judge(*phase, &reply(text), &ReplyPattern::known()));
            assert_eq!(*documented, judged, "{text} at {}", phase.words());
        }
    }
}

#[test]
fn every_word_of_the_table_is_explained() {
    let text = fs::read_to_string(top().join("docs/upstreams.md")).unwrap();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("| word |")).skip(2);
    let explained: Vec<&str> =
        lines.by_ref().take_while(|line| line.starts_with('|')).flat_map(|line| cells(line)[0].split(", ")).collect();
    let all = [
        Judgement::Proceed,
        Judgement::Later,
        Judgement::Never,
        Judgement::TooMany,
        Judgement::Busy,
        Judgement::Broken,
        Judgement::Over,
        Judgement::Unexpected,
    ];
    for judgement in all {
        assert!(explained.contains(&word(judgement)), "{judgement:?} in {explained:?}");
    }
}
