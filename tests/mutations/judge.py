"""Which tests reach which function, and what the tests say of each mutant.

Each test is first run alone, without a mutant: it must pass, in few seconds, and it says which functions with mutants it reaches. A mutant is then
put before the tests that reach its function, and before no other: those of its own module, then the other unit tests, then those of tests/it, the
quickest first. A test that fails, dies, or needs many times its time has noticed.
"""

import json
import os
import resource
import signal
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from build import AT, TREE

WORKERS = os.cpu_count() or 1
# A test that needs more of the processor alone is put before no mutant.
ALONE_MOST_S = 12.0
# What a run with a mutant may take of it, in times of what the same tests take without, and at the least; the clock's time is for those that wait.
TIMES_MOST, PROCESSOR_LEAST_S, CLOCK_LEAST_S = 4, 3, 40
MEMORY_MOST = 8 << 30
# Unit tests of other modules in one process.
TOGETHER_MOST = 40
# Tests of tests/it, by how their names begin, that are not wanted here. With processes, sockets or wishes of their own: they fail for other reasons too,
# or look at the source alone.
LEFT_OUT = (
    "balanced daemon examined explained faults fetched identities kill limits live moving mutants names ocsp rfc simulation soak source steer "
    "strace structure vouched chains::interop "
    # And what plays once more what another one has played.
    "dialog::every_dialog_goes_as_written_over_tls_1_2 dialog::every_dialog_goes_the_same dialog::every_mutant fuzz::the_corpora_are_written store::crash"
).split()
# Where mail goes on to: of what decides at its arrival they see no more than the dialogs do.
ONWARD = ("delivery", "store", "through", "upstream")
SEEN_ONWARD = ("src/mail", "src/smtp", "src/queue")
# Seconds of the processor that tests of tests/it take together in one process.
SHARED_MOST_S = 1.5


@dataclass(frozen=True)
class Test:
    """A test by its program and name, and the processor's seconds that it takes alone."""

    program: Path
    name: str
    seconds: float = 0.0

    def __str__(self):
        return f"{self.program.name} {self.name}"


def tests(programs):
    """All tests, but those that are left out."""
    for target, program in programs.items():
        said = subprocess.run([program, "--list", "--format=terse"], check=True, stdout=subprocess.PIPE, text=True, cwd=TREE).stdout
        for line in said.split("\n"):
            name = line.removesuffix(": test")
            if name == line or (target == "it" and name.startswith(tuple(LEFT_OUT))):
                continue
            yield Test(program, name)


def run(program, names, seconds, chosen=0, trace=None):
    """Whether these tests pass, one after the other in one process, and the processor's seconds that it took."""
    processor = int(max(PROCESSOR_LEAST_S, TIMES_MOST * seconds)) + 1
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SEALPOST", "MUTATION"))}
    environment |= {
        "MUTATION_CHOSEN": str(chosen),
        "CARGO_MANIFEST_DIR": str(TREE),
        "RUST_BACKTRACE": "0",
        # A function has the variables of all its arms.
        "RUST_MIN_STACK": str(64 << 20),
        "TMPDIR": str(AT / "tmp"),
    }
    if trace:
        environment["MUTATION_TRACE"] = trace

    def limits():
        resource.setrlimit(resource.RLIMIT_CPU, (processor, processor))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MOST, MEMORY_MOST))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [program, "--exact", "--test-threads=1", "--quiet", *names]
    process = subprocess.Popen(
        command,
        cwd=TREE,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=limits,
    )
    timer = threading.Timer(CLOCK_LEAST_S + 10 * processor, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode == 0, usage.ru_utime + usage.ru_stime


class Coverage:
    """Which tests pass without a mutant, and which functions each reaches; kept for as long as the programs are the same."""

    def __init__(self, programs):
        (AT / "tmp").mkdir(parents=True, exist_ok=True)
        kept = AT / "coverage.json"
        stamp = " ".join(f"{program}:{program.stat().st_mtime_ns}" for program in programs.values())
        before = json.loads(kept.read_text()) if kept.exists() else {}
        known = before.get("tests", {}) if before.get("stamp") == stamp else {}
        self.reached = {}
        self.left_out = []
        everything = list(tests(programs))
        with ThreadPoolExecutor(WORKERS) as pool:
            for test, (seconds, functions) in zip(everything, pool.map(lambda test: self.alone(test, known), everything)):
                known[str(test)] = (seconds, functions)
                timed = Test(test.program, test.name, seconds)
                if functions is None:
                    self.left_out.append(timed)
                for function in functions or ():
                    self.reached.setdefault(function, []).append(timed)
        kept.write_text(json.dumps({"stamp": stamp, "tests": known}))
        self.count = len(everything) - len(self.left_out)

    @staticmethod
    def alone(test, known):
        """The time that it takes, and what it reaches; nothing if it fails or takes too long."""
        if str(test) in known:
            return known[str(test)]
        with tempfile.NamedTemporaryFile(dir=AT / "tmp") as trace:
            passed, seconds = run(test.program, [test.name], ALONE_MOST_S / TIMES_MOST, trace=trace.name)
            functions = sorted(map(int, Path(trace.name).read_text().split()))
        return seconds, functions if passed else None


def module(file):
    """The path of a module, as its tests have it."""
    return file.removeprefix("src/").removesuffix(".rs").removesuffix("/mod").replace("/", "::")


def rounds(mutant, reaching, programs):
    """The tests in the order in which a mutant meets them: (program, names, seconds) of each process."""
    own = module(mutant.file) + "::"
    quick = sorted(reaching, key=lambda test: test.seconds)
    unit = [test for test in quick if test.program != programs.get("it")]
    first = [test for test in unit if test.name.startswith(own)]
    others = [test for test in unit if not test.name.startswith(own)]
    groups = [first] if first else []
    groups += [others[at : at + TOGETHER_MOST] for at in range(0, len(others), TOGETHER_MOST)]
    onward = () if mutant.file.startswith(SEEN_ONWARD) else ONWARD
    whole = [test for test in quick if test.program == programs.get("it") and not test.name.startswith(onward)]
    for test in sorted(whole, key=lambda test: test.name.startswith(ONWARD)):
        if not groups or groups[-1][0].program != test.program or sum(one.seconds for one in groups[-1]) + test.seconds > SHARED_MOST_S:
            groups.append([])
        groups[-1].append(test)
    for group in groups:
        yield group[0].program, [test.name for test in group], sum(test.seconds for test in group)


def verdict(mutant, reaching, programs):
    """'unreached', 'survived', or who has noticed."""
    if not reaching:
        return "unreached"
    for program, names, seconds in rounds(mutant, reaching, programs):
        passed, _ = run(program, names, seconds, chosen=mutant.number)
        if not passed:
            return "noticed by " + (names[0] if len(names) == 1 else f"{len(names)} tests from {names[0]} on")
    return "survived"


def judged(mutants, coverage, numbers, programs):
    """(mutant, verdict) of each, as they come."""
    with ThreadPoolExecutor(WORKERS) as pool:
        of = lambda mutant: coverage.reached.get(numbers[(mutant.file, mutant.function)], [])
        verdicts = pool.map(lambda mutant: (mutant, verdict(mutant, of(mutant), programs)), mutants)
        yield from verdicts
