"""Why a mutant that no test notices may live: `reasons.txt`.

Paragraphs, under a line `src/..` that names the file. Each names one or more mutants, then says why:

    = replace < with <= in Line::feed
    | if self.length < LINE_MOST {
    The octet that ends the line ..

`=` is the change as cargo-mutants tells it, `|` the line where it stands; `(2)` after the change means the second such on lines that read alike. A
reason whose mutant exists no more, or is noticed by now, is a fault like a survivor without one.

Above the first file stands a reason for all of a kind (KINDS), `= every constant`: it holds for those that were not chosen, and for none that was.
"""

import re
from pathlib import Path

PATH = Path(__file__).with_name("reasons.txt")
WHICH = re.compile(r" \((\d+)\)$")
KINDS = {
    "every constant": lambda mutant: re.match(r"(pub(\([^)]*\))? )?const \w+:", mutant.text),
    "every const fn": lambda mutant: re.match(r"(pub(\([^)]*\))? )?const fn ", mutant.head),
}


def read():
    """The reason of each mutant, by its key, and of each kind, by its name."""
    found, file, keys, why = {}, None, [], []

    def close():
        if keys and not why:
            raise SystemExit(f"{PATH.name}: no reason is given for {keys[0]}")
        for key in keys:
            found[key] = " ".join(why)
        keys.clear(), why.clear()

    change = None
    for line in PATH.read_text().split("\n") if PATH.exists() else ():
        if line.startswith("#"):
            continue
        if line.startswith("src/"):
            close()
            file = line.strip()
        elif line.startswith("= "):
            if why:
                close()
            change = line[2:].strip()
            if file is None and change not in KINDS:
                raise SystemExit(f"{PATH.name}: there is no kind {change!r}")
            if file is None:
                keys.append(change)
        elif line.startswith("| "):
            which = WHICH.search(change)
            plain = WHICH.sub("", change)
            keys.append("\n".join((file, plain, line[2:].strip())) + (f"\n#{which[1]}" if which else ""))
        elif line.strip():
            why.append(line.strip())
        else:
            close()
    close()
    return found


def of_kind(mutant, verdict, why):
    """The kind whose reason speaks for this mutant, if it is of one."""
    kinds = (kind for kind, is_one in KINDS.items() if kind in why and is_one(mutant))
    return next(kinds, None) if verdict == "not chosen" else None


def written(mutant):
    """The two lines that name a mutant, as they are written here."""
    *_, last = mutant.key.split("\n")
    which = f" ({last[1:]})" if last.startswith("#") and last[1:].isdigit() else ""
    return f"= {mutant.change}{which}\n| {mutant.text}"
