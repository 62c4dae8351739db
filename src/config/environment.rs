//! Keys from the environment: `SEALPOST__TLS__MIN_VERSION=1.3` stands for `tls.min_version`.
//!
//! Only keys outside `[[...]]` lists can be set so. Lists are written with commas. Never: reads the environment itself (it is given).

use toml::Value;

use super::mistake::{Findings, Gravity, Place};
use super::nearest::nearest;
use super::schema::{self, Key, Kind};
use super::text::read_scalar;

/// What a variable's name begins with.
const PREFIX: &str = "SEALPOST__";
/// What the names of our own variables begin with.
const LOOKALIKE: &str = "SEALPOST_";
/// Those that our tests are steered by.
const OF_TESTS: [&str; 3] = ["SEED", "SEEDS", "WRITE_FIXTURES"];

/// The keys that the environment sets, by path; what is wrong with them goes to `findings`.
pub(super) fn read(variables: &[(String, String)], findings: &mut Findings) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    for (variable, text) in variables {
        let Some(name) = variable.strip_prefix(PREFIX) else {
            warn_of_lookalike(variable, findings);
            continue;
        };
        let path = name.to_ascii_lowercase().replace("__", ".");
        findings.origins_mut().comes_from(&path, variable);
        match find(&path).and_then(|key| read_value(text, &key.kind)) {
            Ok(value) => values.push((path, value)),
            Err((wrong, remedy)) => {
                findings.origins_mut().spoil(&path);
                findings.mistake(&path, wrong, remedy);
            }
        }
    }
    values
}

/// One underscore too few, and nobody obeys it.
fn warn_of_lookalike(variable: &str, findings: &mut Findings) {
    let Some(name) = variable.strip_prefix(LOOKALIKE) else { return };
    if OF_TESTS.contains(&name) {
        return;
    }
    let place = Place::Environment { variable: variable.into() };
    let wrong = "sets nothing: names of keys begin with SEALPOST__".to_owned();
    let remedy = format!("write two underscores, {PREFIX}{name}, and two between a table and its key; or take it out");
    findings.tell(Gravity::Warning, place, String::new(), wrong, remedy);
}

type Wrong = (String, Option<String>);

fn find(path: &str) -> Result<&'static Key, Wrong> {
    let mut keys = schema::TOP;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let Some(key) = schema::find(keys, name) else {
            let remedy = nearest(name, schema::names(keys)).map(|meant| format!("did you mean \"{meant}\"?"));
            return Err(("there is no such key".to_owned(), remedy));
        };
        match (&key.kind, names.peek()) {
            (Kind::Tables(_), _) => {
                return Err((
                    format!("keys of [[{name}]] can't be set from the environment"),
                    Some("write it in the file".to_owned()),
                ));
            }
            (Kind::Later, _) => {
                return Err(("not supported yet by this version".to_owned(), Some("remove it".to_owned())));
            }
            (Kind::Table(inner), Some(_)) => keys = inner,
            (Kind::Table(_), None) => return Err(("this is a table, not a key".to_owned(), None)),
            (_, None) => return Ok(key),
            (_, Some(_)) => return Err(("this is a key, not a table".to_owned(), None)),
        }
    }
    Err(("there is no such key".to_owned(), None))
}

fn read_value(text: &str, kind: &Kind) -> Result<Value, Wrong> {
    let list = |each: &Kind| text.split(',').map(|one| read_scalar(one.trim(), each)).collect::<Result<_, _>>();
    match kind {
        Kind::Texts => list(&Kind::Text).map(Value::Array),
        Kind::Waits => list(&Kind::Wait).map(Value::Array),
        Kind::Text
        | Kind::Flag
        | Kind::Count
        | Kind::Priority
        | Kind::Wait
        | Kind::Size
        | Kind::Choice(..)
        | Kind::Table(_)
        | Kind::Tables(_)
        | Kind::Later
        | Kind::Secret(_) => read_scalar(text, kind),
    }
}
