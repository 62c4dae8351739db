//! Programs that are wrong on purpose, each with the tests that notice: to show that the tests can fail (STYLE 22).
//!
//! None of them is in the program. A mutant of the dialogue is a small change to what goes into the pure machines or comes out (`dialog::mutants`); one of
//! the codec, the readers and the session stands in the place of what a body judges (`bodies::Lie`); one of policy and of the schedule, in the place of what a
//! table is put before. Those of the store are in src/queue/tests/conformance. `tests/long mutants` plays everything with each and prints who noticed.

use std::time::Duration;

use sealpost::mail::DeliverBy;
use sealpost::queue::schedule::Moment;
use sealpost::queue::{Plan, Schedule, Warned, Warning};
use sealpost::sys::WallTime;

use crate::bodies::{CONFIG, TARGETS};
use crate::dialog::mutants::Mutant;
use crate::{dialog, fuzz, policy};

/// One that is wrong, and who noticed.
struct Noticed {
    what: String,
    by: Vec<String>,
}

fn print(all: &[Noticed]) {
    for Noticed { what, by } in all {
        let first: Vec<&str> = by.iter().take(3).map(String::as_str).collect();
        println!("{what}: noticed by {}: {}", by.len(), first.join(", "));
    }
}

fn all_are_noticed(all: &[Noticed]) {
    print(all);
    let unnoticed: Vec<&str> = all.iter().filter(|one| one.by.is_empty()).map(|one| one.what.as_str()).collect();
    assert!(unnoticed.is_empty(), "not noticed: {unnoticed:?}");
}

#[test]
fn each_wrong_policy_is_noticed() {
    let noticed = |lie| Noticed { what: format!("policy: {lie:?}"), by: policy::faults(lie) };
    all_are_noticed(&policy::Lie::ALL.map(noticed));
}

#[test]
fn each_wrong_schedule_is_noticed() {
    assert_eq!(misplanned(Wrong::Nothing), Vec::<String>::new());
    let noticed = |wrong| Noticed { what: format!("schedule: {wrong:?}"), by: misplanned(wrong) };
    all_are_noticed(&Wrong::ALL.map(noticed));
}

/// The names of those that are to be played with everything there is: `SEALPOST_MUTANT=IgnoresFrom,KeepsDots`, or `all`. One is played in any case.
fn chosen(name: &str) -> bool {
    let chosen = std::env::var("SEALPOST_MUTANT").unwrap_or_else(|_| "Says250BeforeCommit,DataKeepsDots".to_owned());
    chosen == "all" || chosen.split(',').any(|one| one == name)
}

#[test]
fn each_chosen_mutant_of_the_dialogue_is_noticed_by_some_dialog() {
    let scripts = dialog::scripts();
    let chosen: Vec<(Mutant, &str)> =
        Mutant::ALL.into_iter().filter(|(mutant, _)| chosen(&format!("{mutant:?}"))).collect();
    let noticed = |(mutant, meant): (Mutant, &str)| {
        let by = dialog::failing(&scripts, mutant);
        assert!(by.iter().any(|name| name == meant), "{mutant:?} is not noticed by {meant}");
        Noticed { what: format!("dialogue: {mutant:?}"), by }
    };
    all_are_noticed(&chosen.into_iter().map(noticed).collect::<Vec<_>>());
}

#[test]
fn each_chosen_lie_is_noticed_by_some_input() {
    let mut all = Vec::new();
    for target in TARGETS.iter().chain([&CONFIG]) {
        for lie in target.lies.iter().filter(|lie| chosen(&format!("{lie:?}"))) {
            let corpus = crate::bodies::seeds::of(target.name);
            let by = fuzz::faults(target, &corpus, *lie);
            let by = by.iter().map(|fault| fault.chars().take(60).collect()).collect();
            all.push(Noticed { what: format!("{}: {lie:?}", target.name), by });
        }
    }
    all_are_noticed(&all);
}

/// There are enough of each kind, and twenty in all by far.
#[test]
fn there_are_mutants_of_session_codec_policy_and_queue() {
    let of_bodies: usize = TARGETS.iter().chain([&CONFIG]).map(|target| target.lies.len()).sum();
    assert!(Mutant::ALL.len() >= 45 && of_bodies >= 34 && policy::Lie::ALL.len() >= 9 && Wrong::ALL.len() >= 6);
}

/// Their names are in this binary, and in no binary of the program.
#[test]
fn none_is_in_the_program() {
    let names = ["Says250BeforeCommit", "SessionKeepsNothing", "UncappedPriority", "WarnsTwice", "SEALPOST_MUTANT"];
    let here = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let program = std::fs::read(env!("CARGO_BIN_EXE_sealpost")).unwrap();
    let is_in = |octets: &[u8], name: &str| memchr::memmem::find(octets, name.as_bytes()).is_some();
    for name in names {
        assert!(is_in(&here, name), "{name} is not found where it is");
        assert!(!is_in(&program, name), "{name} is in the program");
    }
}

// --- The schedule.

/// A schedule that is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The real one.
    Nothing,
    /// It tries for ever.
    NeverGivesUp,
    /// Its last attempt is not made at the end.
    EndsEarly,
    /// The first wait is the wait.
    NeverWaitsLonger,
    /// It tells the sender at each attempt.
    WarnsTwice,
    /// Jitter shortens the wait.
    Hurries,
    /// A time to deliver in does not count.
    IgnoresTheDeadline,
}

impl Wrong {
    const ALL: [Self; 6] = [
        Self::NeverGivesUp,
        Self::EndsEarly,
        Self::NeverWaitsLonger,
        Self::WarnsTwice,
        Self::Hurries,
        Self::IgnoresTheDeadline,
    ];

    fn next(self, by: Option<DeliverBy>, attempts: u32, warned: Warned, now: WallTime, jitter: u64) -> Plan {
        let waits = [MINUTE, 5 * MINUTE, HOUR];
        let give_up = match self {
            Self::NeverGivesUp => 9999 * HOUR,
            _ => 120 * HOUR,
        };
        let schedule = Schedule::new(&waits, Some(4 * HOUR), give_up).unwrap();
        let by = by.filter(|_| self != Self::IgnoresTheDeadline);
        let attempts = if self == Self::NeverWaitsLonger { 1 } else { attempts };
        let warned = if self == Self::WarnsTwice { Warned::NotYet } else { warned };
        let waited = now.since(ARRIVED);
        let at = Moment { now, waited, ran: waited };
        match (self, schedule.within(ARRIVED, by).next(at, attempts, warned, jitter)) {
            (Self::EndsEarly, Plan::Retry { at, .. }) if at == ARRIVED.after(120 * HOUR) => Plan::GiveUp,
            (Self::Hurries, Plan::Retry { at, warning }) => {
                Plan::Retry { at: at.before(Duration::from_millis(jitter)), warning }
            }
            (_, plan) => plan,
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const ARRIVED: WallTime = WallTime::from_seconds(1_000_000);

/// What a schedule plans otherwise than it must.
fn misplanned(wrong: Wrong) -> Vec<String> {
    let retry = |at, warning| Plan::Retry { at: ARRIVED.after(at), warning };
    let r = DeliverBy { deadline: ARRIVED.after(2 * HOUR), or_return: true, trace: false };
    let (yet, told) = (Warned::NotYet, Warned::Already);
    let (silent, due) = (Warning::NotDue, Warning::Due);
    let cases = [
        ("the second wait is longer", None, 2, yet, Duration::ZERO, 0, retry(5 * MINUTE, silent)),
        ("the last wait repeats", None, 9, yet, HOUR, 0, retry(2 * HOUR, silent)),
        ("jitter lengthens", None, 2, yet, Duration::ZERO, 1000, retry(5 * MINUTE + Duration::from_secs(1), silent)),
        ("the sender is told of a delay", None, 9, yet, 4 * HOUR, 0, retry(5 * HOUR, due)),
        ("but once", None, 9, told, 4 * HOUR, 0, retry(5 * HOUR, silent)),
        ("the last attempt is at the end", None, 99, told, 120 * HOUR - MINUTE, 0, retry(120 * HOUR, silent)),
        ("then it is over", None, 99, told, 120 * HOUR, 0, Plan::GiveUp),
        ("a time to deliver in ends it", Some(r), 9, yet, 2 * HOUR, 0, Plan::GiveUp),
    ];
    let wrongly = |(what, by, attempts, warned, age, jitter, expected): (_, _, _, _, Duration, _, _)| {
        let plan = wrong.next(by, attempts, warned, ARRIVED.after(age), jitter);
        (plan != expected).then(|| format!("{what}: {plan:?}"))
    };
    cases.into_iter().filter_map(wrongly).collect()
}
