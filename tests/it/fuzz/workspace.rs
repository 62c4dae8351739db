//! `fuzz/` is a workspace of its own, which CI does not build: libFuzzer and a second compiler would cost minutes. What could rot in it is held here, as text:
//! each body has its target and each target its body, and whatever the bodies stand on is named there, in the version that the tests have.
//! The bodies themselves are compiled, linted and played in `bodies`.

use std::collections::BTreeSet;
use std::path::Path;

use toml::Table;

use crate::bodies::{CONFIG, TARGETS};
use crate::source::top;

/// Where the library of the fuzz targets has its modules from: its root, and what that names.
const LIBRARY: [&str; 5] = ["fuzzed.rs", "proof.rs", "recipe.rs", "dialog/cast.rs", "dialog/script.rs"];

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

fn table(path: &str) -> Table {
    read(path).parse().unwrap()
}

fn bodies() -> BTreeSet<String> {
    TARGETS.iter().chain([&CONFIG]).map(|target| target.name.to_owned()).collect()
}

#[test]
fn each_body_has_a_fuzz_target_and_each_fuzz_target_a_body() {
    let manifest = table("fuzz/Cargo.toml");
    let bins = manifest["bin"].as_array().unwrap();
    let text = |bin: &toml::Value, key: &str| bin[key].as_str().unwrap().to_owned();
    let named: BTreeSet<String> = bins.iter().map(|bin| text(bin, "name")).collect();
    assert_eq!(named, bodies(), "bins of fuzz/Cargo.toml, and bodies");
    for bin in bins {
        let (name, path) = (text(bin, "name"), text(bin, "path"));
        let target = read(&format!("fuzz/{path}"));
        assert!(target.starts_with("#![no_main]\n") && target.contains("libfuzzer_sys::fuzz_target!"), "{path}");
        let calls = format!("fuzzed::bodies::hold(\"{name}\", octets)");
        assert!(target.contains(&calls), "{path} does not call {calls}");
    }
    let files = std::fs::read_dir(top().join("fuzz/fuzz_targets")).unwrap();
    let files: BTreeSet<String> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, named, "files of fuzz/fuzz_targets, and bins");
}

/// The sources of the library `fuzzed`, without its comments.
fn sources() -> String {
    let mut all = String::new();
    let mut add = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        all.extend(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]));
    };
    let mut folders = vec![top().join("tests/it/bodies")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { add(&path) }
        }
    }
    LIBRARY.iter().for_each(|file| add(&top().join("tests/it").join(file)));
    all
}

#[test]
fn what_the_bodies_stand_on_is_named_in_their_workspace() {
    let sources = sources();
    let (fuzz, program) = (table("fuzz/Cargo.toml"), table("Cargo.toml"));
    let version = |value: &toml::Value| value.get("version").unwrap_or(value).as_str().unwrap_or_default().to_owned();
    let mut used = BTreeSet::new();
    for kind in ["dependencies", "dev-dependencies"] {
        for (name, asked) in program[kind].as_table().unwrap() {
            let as_path = format!("{}::", name.replace('-', "_"));
            let is_path =
                |at: usize| !sources[..at].ends_with(|before: char| before.is_alphanumeric() || "_:".contains(before));
            let is_module = sources.contains(&format!("mod {};", name.replace('-', "_")));
            if is_module || !sources.match_indices(&as_path).any(|(at, _)| is_path(at)) {
                continue;
            }
            used.insert(name.clone());
            let named = fuzz["dependencies"].get(name).unwrap_or_else(|| panic!("fuzz/Cargo.toml lacks {name}"));
            assert_eq!(version(named), version(asked), "the version of {name}");
        }
    }
    assert!(used.len() > 8, "only {used:?} is used?");
    // Modules of the tests that the library's root has to have, too.
    let root = read("tests/it/fuzzed.rs");
    for path in sources.split("crate::").skip(1) {
        let module = path.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default();
        assert!(root.contains(&format!("mod {module}")), "tests/it/fuzzed.rs lacks the module {module}");
    }
}

#[test]
fn who_reads_what_strangers_give_is_told_with_its_bodies() {
    let text = read("docs/verification.md");
    let (_, table) = text.split_once("<!-- tests/it/fuzz/workspace.rs reads from here -->").unwrap();
    let (table, _) = table.split_once("<!-- to here -->").unwrap();
    let mut told = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let [.., place, by] = row.trim_matches('|').split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        assert!(top().join(place.trim_matches('`')).is_file(), "there is no {place}");
        if !by.starts_with("none: ") {
            let names = by.trim().split(", ").map(|name| name.trim_matches('`').to_owned());
            told.extend(names.inspect(|name| assert!(bodies().contains(name), "{name} is no body: {row}")));
        }
    }
    let untold: Vec<String> = bodies().into_iter().filter(|name| !told.contains(name)).collect();
    assert!(untold.is_empty(), "in no row: {untold:?}");
}
