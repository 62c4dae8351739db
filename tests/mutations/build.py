"""A copy of the working tree with every mutant in it, built once.

What does not compile is taken out, as the compiler's messages tell: the mutant in whose arm an error stands; where one stands outside of the arms, the
mutants of that function. The working tree is only read.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import switch
from listing import TOP

# Also what the compiler denies by itself when it sees where a mutant must panic.
ALLOWED = "#![allow(warnings, arithmetic_overflow, unconditional_panic)]\n"
AT = TOP / "target" / "mutations"
TREE = AT / "tree"
# Errors come in phases: names, types, borrows. More rounds than these, and something is wrong here.
ROUNDS_MOST = 25


def copy():
    """Brings the copy up to date; a file that is the same keeps its time, so that cargo need not look at it again."""
    said = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP, check=True, stdout=subprocess.PIPE
    ).stdout
    names = {name for name in said.decode().split("\0") if name and (TOP / name).is_file()}
    for path in [path for path in TREE.rglob("*") if path.is_file()]:
        if str(path.relative_to(TREE)) not in names and path != TREE / "src" / "mutation.rs":
            path.unlink()
    for name in names:
        if not (name.startswith("src/") and name.endswith(".rs")) and name != "Cargo.toml":
            target = TREE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists() or target.read_bytes() != (TOP / name).read_bytes():
                shutil.copy(TOP / name, target)
    manifest = (TOP / "Cargo.toml").read_text()
    # The lints of the project say nothing of use about arms that are never both taken.
    manifest = re.sub(r"\n\[lints\.[^\[]*", "\n", manifest).replace('debug = "line-tables-only"', "debug = false")
    write(TREE / "Cargo.toml", manifest + "\n[workspace]\n")
    return sorted(name for name in names if name.startswith("src/") and name.endswith(".rs"))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


class Build:
    """The mutants that are in the copy, and those that had to be taken out."""

    def __init__(self, mutants):
        self.sources = copy()
        self.inside = [mutant for mutant in mutants if switch.can_be_chosen(mutant)]
        self.outside = [mutant for mutant in mutants if not switch.can_be_chosen(mutant)]
        self.unviable = []
        self.constant = set()
        functions = sorted({(mutant.file, mutant.function) for mutant in mutants if mutant.function})
        self.numbers = {function: number for number, function in enumerate(functions)}
        self.lines = {}

    def put(self):
        """Writes the sources of the copy."""
        by_file = {}
        for mutant in self.inside:
            by_file.setdefault(mutant.file, []).append(mutant)
        for name in self.sources:
            text = (TOP / name).read_text()
            if name in by_file:
                constant = {span for file, span in self.constant if file == name}
                text = switch.switched(text, by_file[name], self.numbers, constant)
                self.lines[name] = switch.arms(text)
            if name == "src/lib.rs":
                text += "#[allow(missing_docs)]\npub mod mutation;\n"
            if name in ("src/lib.rs", "src/main.rs"):
                text = ALLOWED + text
            write(TREE / name, text)
        functions = f"\nconst FUNCTIONS: usize = {max(len(self.numbers), 1)};\n"
        write(TREE / "src" / "mutation.rs", switch.MODULE + functions)

    def executables(self):
        """Builds until it compiles; the test programs by name."""
        for _ in range(ROUNDS_MOST):
            self.put()
            errors, _ = cargo(["check", "--lib"])
            if not errors:
                errors, programs = cargo(["test", "--no-run", "--lib", "--test", "it"])
            if not errors:
                return programs
            self.drop(errors)
        raise SystemExit("the copy does not compile, whatever is taken out")

    def drop(self, errors):
        """Takes out what these errors come from."""
        numbers, functions = set(), set()
        for error in errors:
            places = [span for message in (error, *error["children"]) for span in message["spans"]]
            places.sort(key=lambda span: not span["is_primary"])
            arms = [arm for span in places if (arm := self.arm(span))]
            if arms:
                numbers.add(arms[0])
                continue
            if error["code"] and error["code"]["code"] == "E0015":
                name = re.search(r"`(?:[^`]*::)?(\w+)`", error["message"])[1]
                found = {key for key in self.numbers if key not in self.constant and self.is_constant(key, name)}
                if found:
                    self.constant |= found
                    continue
            found = self.around(places)
            if not found:
                raise SystemExit("an error of the copy that no mutant explains:\n" + error["rendered"])
            functions |= found
        before = len(self.inside)
        for mutant in self.inside:
            key = (mutant.file, mutant.function)
            if key in self.constant or (key in functions and mutant.number not in numbers):
                self.outside.append(mutant)
            elif mutant.number in numbers:
                self.unviable.append(mutant)
        gone = {mutant.number for mutant in self.outside + self.unviable}
        self.inside = [mutant for mutant in self.inside if mutant.number not in gone]
        print(f"    {before - len(self.inside)} taken out, for {len(errors)} errors", flush=True)
        if before == len(self.inside):
            raise SystemExit("nothing to take out for:\n" + errors[0]["rendered"])

    def arm(self, span):
        lines = self.lines.get(span["file_name"], [])
        return lines[span["line_start"] - 1] if span["line_start"] <= len(lines) else None

    def around(self, places):
        """The functions of the rewritten files in which these stand: those of arms within one of them, or of the nearest arm before each."""
        # An opaque type that captures what a box can't name is an error of the whole function; its other place, the signature, stands behind another's arms.
        within = [number for span in places for number in self.numbers_of(span, slice(span["line_start"] - 1, span["line_end"]))[:1]]
        before = [number for span in places for number in self.numbers_of(span, slice(span["line_start"]))[-1:]]
        return {(one.file, one.function) for number in within or before for one in self.inside if one.number == number}

    def numbers_of(self, span, lines):
        return [number for number in self.lines.get(span["file_name"], [])[lines] if number]

    def is_constant(self, key, name):
        file, (start, _) = key
        head = (TOP / file).read_text().split("\n")[start[0] - 1 :]
        found = re.search(r"\b(const )?(?:async )?fn (\w+)", "\n".join(head))
        return bool(found and found[1] and found[2] == name)


def cargo(arguments):
    """The compiler's errors, and the test programs that came of it."""
    command = ["cargo", *arguments, "--locked", "--message-format=json"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(AT / "target")}
    run = subprocess.run(command, cwd=TREE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors, programs = [], {}
    for line in run.stdout.split("\n"):
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if said["reason"] == "compiler-message" and said["message"]["level"].startswith("error") and said["message"]["spans"]:
            errors.append(said["message"])
        if said["reason"] == "compiler-artifact" and said["profile"]["test"] and said.get("executable"):
            programs[said["target"]["name"]] = Path(said["executable"])
    if run.returncode and not errors:
        raise SystemExit(run.stderr)
    return errors, programs
