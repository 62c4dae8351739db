"""Rewrites a source file so that each of its mutants can be chosen while the program runs.

The body of a function with mutants becomes a match on the number of the chosen one: an arm for each mutant, which holds the body as the mutant
has it, and the body itself for every other number. So any change within a function can be chosen, whatever kind it is; what stands outside
of functions cannot. `const` is taken from a function that has mutants, since a choice is made while the program runs; where it must be
constant the compiler says so, and the function keeps it and loses its mutants.
"""

import re

BEGIN = "// mutant {} begins"
END = "// mutant {} ends"
MARK = re.compile(r"// mutant (\d+) (begins|ends)")
# Comments, literals, and what is looked for. A quote that begins a lifetime is no literal.
TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^u]|\\u\{[^}]*\}|\\x..|[^'\\])'|[{}]""", re.DOTALL
)

# In the copy it is `crate::mutation`.
MODULE = """//! Which mutant is chosen, and which functions are reached.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static CHOSEN: LazyLock<u32> =
    LazyLock::new(|| std::env::var("MUTATION_CHOSEN").ok().and_then(|number| number.parse().ok()).unwrap_or(0));
static TRACE: LazyLock<Option<std::ffi::OsString>> = LazyLock::new(|| std::env::var_os("MUTATION_TRACE"));
static REACHED: [AtomicBool; FUNCTIONS] = [const { AtomicBool::new(false) }; FUNCTIONS];

/// The number of the chosen mutant, asked by this function.
pub fn at(function: usize) -> u32 {
    if let Some(path) = TRACE.as_ref()
        && !REACHED[function].swap(true, Ordering::Relaxed)
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = file.write_all(format!("{function}\\n").as_bytes());
    }
    *CHOSEN
}
"""


class File:
    """A source file of the working tree, and where in it each line begins."""

    def __init__(self, text):
        self.text = text
        self.begins = [0]
        for line in text.split("\n"):
            self.begins.append(self.begins[-1] + len(line) + 1)

    def at(self, place):
        line, column = place
        return self.begins[line - 1] + column - 1


def body(text, start, end):
    """Where the braces of a function's body stand: the last pair that nothing encloses."""
    depth, opened, found = 0, None, None
    for token in TOKENS.finditer(text, start, end):
        if token[0] == "{":
            if depth == 0:
                opened = token.start()
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                found = (opened, token.start())
    return found


def switched(text, mutants, numbers, constant=()):
    """The file with these mutants to choose from. `numbers` gives each function its number; `constant` are functions that stay as they are."""
    file = File(text)
    functions = {}
    for mutant in mutants:
        functions.setdefault(mutant.function, []).append(mutant)
    spans = {span: (file.at(span[0]), file.at(span[1])) for span in functions}
    # Inner functions first: what encloses them takes them as they have become.
    changed = []
    for span in sorted(functions, key=lambda span: spans[span][1] - spans[span][0]):
        start, end = spans[span]
        opening, closing = body(text, start, end)
        if span in constant:
            continue
        arms = "".join(arm(file, mutant, opening, closing) for mutant in functions[span])
        inner = [one for one in changed if opening < one[0] < closing]
        changed = [one for one in changed if one not in inner]
        now = spliced(text, opening + 1, closing, inner)
        number = numbers[(mutants[0].file, span)]
        now = alike(now, functions[span][0].returns)
        changed.append((opening + 1, closing, f" match crate::mutation::at({number}) {{\n{arms}_ => {{{now}}}\n}} "))
        signature = re.compile(r"\bconst (?=(?:async )?fn\b)").search(text, start, opening)
        if signature:
            changed.append((signature.start(), signature.end(), ""))
    return spliced(text, 0, len(text), changed)


def spliced(text, start, end, changes):
    """This part of the text, with what is changed in it."""
    parts, at = [], start
    for begin, stop, now in sorted(changes):
        parts += [text[at:begin], now]
        at = stop
    return "".join(parts) + text[at:end]


def arm(file, mutant, opening, closing):
    """The body as this mutant has it."""
    start, end = file.at(mutant.start), file.at(mutant.end)
    # A replacement that stands beside a letter or an operator must stay a word of its own.
    inside = f"{file.text[opening + 1 : start]} {mutant.replacement} {file.text[end:closing]}"
    inside = alike(inside, mutant.returns)
    return f"{BEGIN.format(mutant.number)}\n{mutant.number} => {{\n{inside}\n}}\n{END.format(mutant.number)}\n"


def can_be_chosen(mutant):
    """Whether it stands in a function; not in one that returns an opaque type of opaque types, which has no name to be boxed by."""
    return bool(mutant.function) and mutant.returns.count("impl ") < 2


def alike(inside, returns):
    """Two bodies have two types where a function returns `impl Trait`: boxed, they have one."""
    opaque = re.fullmatch(r"-> impl ([^+]*?)(?:\s*\+\s*'\w+)*", returns)
    if not opaque:
        return inside
    return f" let boxed: Box<dyn {opaque[1]} + '_> = Box::new({{{inside}\n}}); boxed"


def arms(text):
    """Of each line of a rewritten file, the mutant in whose arm it stands."""
    within, lines = None, []
    for line in text.split("\n"):
        mark = MARK.fullmatch(line.strip())
        if mark:
            within = int(mark[1]) if mark[2] == "begins" else None
        lines.append(within)
    return lines
