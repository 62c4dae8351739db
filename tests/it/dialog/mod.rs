//! The dialogs of fixtures/dialog, played on the pure machines; and the mutants, to show that the dialogs can fail.

pub(crate) mod cast;
mod custody;
mod filling;
pub(crate) mod memory;
pub(crate) mod mutants;
pub(crate) mod play;
pub(crate) mod rules;
mod sasl;
pub(crate) mod script;
pub(crate) mod tls;

use std::path::Path;

use memory::{Arrival, MemoryStage};
use mutants::Mutant;
use play::play;
use script::{Need, Script};
use sealpost::tls::MinVersion;
use tls::{CANNOT, TlsStage};

pub(crate) fn scripts() -> Vec<Script> {
    Script::all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dialog"))
}

#[test]
fn every_dialog_goes_as_written() {
    let faults: Vec<String> = scripts()
        .iter()
        .filter_map(|script| play(script, &mut MemoryStage::new(Arrival::Whole, Mutant::Faithful)).err())
        .collect();
    assert!(faults.is_empty(), "{} dialogs go otherwise:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_dialog_goes_the_same_octet_by_octet() {
    let faults: Vec<String> = scripts()
        .iter()
        .filter(|script| !script.needs().contains(&Need::Timing))
        .filter_map(|script| play(script, &mut MemoryStage::new(Arrival::ByOctets, Mutant::Faithful)).err())
        .collect();
    assert!(faults.is_empty(), "{} dialogs go otherwise:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_dialog_goes_as_written_over_tls_1_3() {
    over_tls(MinVersion::Tls13);
}

#[test]
fn every_dialog_goes_as_written_over_tls_1_2() {
    over_tls(MinVersion::Tls12);
}

/// Plays what the stage can do; says what it can't, and does not count it.
fn over_tls(version: MinVersion) {
    let (mut played, mut faults) = (0, Vec::new());
    for script in scripts() {
        match play(&script, &mut TlsStage::new(version)) {
            Ok(()) => played += 1,
            Err(fault) if fault.contains(CANNOT) => println!("not played: {fault}"),
            Err(fault) => faults.push(fault),
        }
    }
    println!("{played} dialogs played over TLS");
    assert!(faults.is_empty(), "{} dialogs go otherwise over TLS:\n{}", faults.len(), faults.join("\n"));
    assert!(played >= 110, "only {played} dialogs could be played");
}

#[test]
fn every_mutant_is_caught_by_the_dialog_that_is_meant_for_it() {
    let scripts = scripts();
    for (mutant, meant) in Mutant::ALL {
        let script = scripts.iter().find(|script| script.name == meant).unwrap();
        play(script, &mut MemoryStage::new(Arrival::Whole, Mutant::Faithful)).unwrap();
        assert!(play(script, &mut MemoryStage::new(Arrival::Whole, mutant)).is_err(), "{meant} lets {mutant:?} pass");
    }
}

/// Which dialogs do not go as written, where the relay is this.
pub(crate) fn failing(scripts: &[Script], mutant: Mutant) -> Vec<String> {
    let fails = |script: &&Script| play(script, &mut MemoryStage::new(Arrival::Whole, mutant)).is_err();
    scripts.iter().filter(fails).map(|script| script.name.clone()).collect()
}

#[test]
fn every_mutant_but_the_useless_still_relays_an_honest_message() {
    let scripts = scripts();
    let honest = scripts.iter().find(|script| script.name == "message/accepted.dialog").unwrap();
    for (mutant, _) in Mutant::ALL {
        let faults = play(honest, &mut MemoryStage::new(Arrival::Whole, mutant));
        assert_eq!(faults.is_err(), mutant.is_useless(), "{mutant:?}: {faults:?}");
    }
}

#[test]
fn every_claim_cites_where_it_comes_from() {
    for script in scripts() {
        let cited = ["RFC ", "CVE-", "ATTACKS", "REPLIES"].iter().any(|source| script.claim.contains(source));
        assert!(cited && script.claim.contains(':'), "{}: {}", script.name, script.claim);
    }
}
