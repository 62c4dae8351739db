"""Every mutant of cargo-mutants, in one build, put before the tests that reach it.

    python3 tests/mutations                       all modules of .cargo/mutants.toml
    python3 tests/mutations --file 'src/smtp/**'  arguments of `cargo mutants --list`
    python3 tests/mutations --again               only what was not noticed last time, and what is new
    python3 tests/mutations --told                what the last run found, held against reasons.txt

cargo-mutants builds once for each mutant, which for thousands of them takes days. Here a copy of the tree holds them all, each chosen by a variable of the
environment when a test runs (switch.py, build.py), and only tests that reach the mutant's function are run (judge.py). What survives needs a reason
(reasons.txt). The last lines are counts; the exit status is 0 when each survivor has a reason and each reason a survivor.
"""

import json
import sys
import time
from collections import Counter

import reasons
from build import AT, Build
from judge import Coverage, judged
from listing import listed

RESULTS = AT / "results.json"
# How often a line tells how far it is.
TELL_EACH_S = 60


def main(arguments):
    mutants = listed([argument for argument in arguments if argument not in ("--again", "--told")])
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "--told" in arguments:
        return report(mutants, {mutant.key: before.get(mutant.key, "not yet run") for mutant in mutants})
    again = "--again" in arguments
    # What did not compile does not compile: no test changes that.
    known = {mutant.key: before[mutant.key] for mutant in mutants if is_known(before.get(mutant.key, ""), again)}
    began = time.monotonic()
    told = lambda what: print(f"{time.monotonic() - began:6.0f} s  {what}", flush=True)
    save = lambda: RESULTS.write_text(json.dumps({**before, **verdicts}, indent=1))
    told(f"{len(mutants)} mutants, {len(known)} of them known from before")
    build = Build([mutant for mutant in mutants if mutant.key not in known])
    programs = build.executables()
    told(f"built with {len(build.inside)}; {len(build.unviable)} do not compile, {len(build.outside)} cannot be chosen while the program runs")
    verdicts = dict(known)
    verdicts |= {mutant.key: "unviable" for mutant in build.unviable}
    verdicts |= {mutant.key: "not chosen" for mutant in build.outside}
    save()
    coverage = Coverage(programs)
    told(f"{coverage.count} tests; left out, since they fail in the copy or are slow: {', '.join(test.name for test in coverage.left_out) or 'none'}")
    last = time.monotonic()
    for mutant, verdict in judged(build.inside, coverage, build.numbers, programs):
        verdicts[mutant.key] = verdict
        if time.monotonic() - last > TELL_EACH_S:
            last = time.monotonic()
            told(f"{sum(1 for one in build.inside if one.key in verdicts)} of {len(build.inside)} judged")
            save()
    save()
    told("done")
    return report(mutants, verdicts)


def is_known(verdict, again):
    return verdict == "unviable" or (again and is_settled(verdict))


def is_settled(verdict):
    return verdict.startswith("noticed") or verdict == "unviable"


def report(mutants, verdicts):
    """Survivors without a reason, reasons without a survivor, counts; the exit status."""
    why = reasons.read()
    surviving = {mutant.key: mutant for mutant in mutants if not is_settled(verdicts[mutant.key])}
    kinds = {key: reasons.of_kind(mutant, verdicts[key], why) for key, mutant in surviving.items()}
    bare = [mutant for key, mutant in surviving.items() if key not in why and not kinds[key]]
    files = {mutant.file for mutant in mutants}
    exist = {mutant.key for mutant in mutants}
    idle = [key for key in why if key not in surviving and key.split("\n")[0] in files]
    file = None
    for mutant in bare:
        if mutant.file != file:
            file = mutant.file
            print(f"\n{file}")
        print(f"\n{reasons.written(mutant)}\n  {verdicts[mutant.key]}, line {mutant.line}")
    for key in idle:
        print(f"\nreasons.txt has a reason for what {'is noticed' if key in exist else 'does not exist'}:\n{key}")
    counts = Counter(verdict.split(" by ")[0] for verdict in verdicts.values())
    print("\n" + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    print(f"{len(mutants)} mutants, {len(surviving)} not noticed, {len(bare)} of these without a reason; {len(idle)} reasons without a survivor")
    return 1 if bare or idle else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
