"""The mutants that cargo-mutants knows, each with a name that outlives a shift of lines."""

import json
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# What decides who may send comes first, so that a run that is stopped has seen it.
ORDER = ["src/policy", "src/identity", "src/smtp", "src/mail", "src/session", "src/content", "src/queue"]


@dataclass
class Mutant:
    """One change of one place. `key` is what a reason is written for: file, change and the line as it stands, no line number."""

    file: str
    change: str
    line: int
    text: str
    start: tuple
    end: tuple
    replacement: str
    genre: str
    function: tuple
    returns: str
    head: str
    key: str = ""
    number: int = 0

    def __str__(self):
        return f"{self.file}:{self.line}: {self.change}\n    {self.text}"


def listed(arguments):
    """What `cargo mutants --list` says of the working tree, in its order."""
    command = ["cargo", "mutants", "--list", "--json", "--no-shuffle", *arguments]
    said = subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = {}
    mutants = []
    seen = Counter()
    for one in json.loads(said):
        file = one["file"]
        if file not in lines:
            lines[file] = (TOP / file).read_text().split("\n")
        mutant = read(one, lines[file])
        key = (mutant.file, mutant.change, mutant.text)
        seen[key] += 1
        mutant.key = "\n".join(key) + (f"\n#{seen[key]}" if seen[key] > 1 else "")
        mutant.number = len(mutants) + 1
        mutants.append(mutant)
    place = lambda mutant: next((at for at, start in enumerate(ORDER) if mutant.file.startswith(start)), len(ORDER))
    return sorted(mutants, key=lambda mutant: (place(mutant), mutant.file, mutant.line))


def head(lines):
    """The first line of a function, without what stands in front of it."""
    return next((line.strip() for line in lines if re.search(r"\bfn \w", line.split("//")[0])), "")


def read(one, lines):
    """One mutant of the list."""
    place = lambda end: (end["line"], end["column"])
    span, function = one["span"], one["function"]
    # The name begins with the file and, in newer versions, line and column.
    change = one["name"].split(": ", 1)[1]
    line = span["start"]["line"]
    return Mutant(
        file=one["file"],
        change=" ".join(change.split()),
        line=line,
        text=lines[line - 1].strip(),
        start=place(span["start"]),
        end=place(span["end"]),
        replacement=one["replacement"],
        genre=one["genre"],
        function=(place(function["span"]["start"]), place(function["span"]["end"])) if function else None,
        returns=function["return_type"] if function else "",
        # cargo-mutants has the attributes and comments of a function in its span.
        head=head(lines[function["span"]["start"]["line"] - 1 :]) if function else "",
    )
