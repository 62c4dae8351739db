"""sealpost beside Postfix, Exim and OpenSMTPD: `python3 benches/compare --help` says what and how (plan.py)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TREE / "tests/peers")]

import figures  # noqa: E402
import leftovers  # noqa: E402
import measure  # noqa: E402
import packages  # noqa: E402
import plan as plans  # noqa: E402
import rows  # noqa: E402
import servers  # noqa: E402
import table  # noqa: E402
from packages import Unavailable  # noqa: E402
from wait import Fault, free_ports, must  # noqa: E402


class Bench:
    """What all measurements stand on."""

    def __init__(self, given, plan, directory):
        self.directory = directory
        self._clients = plan.clients()
        self.cores = len(os.sched_getaffinity(0))
        self.programs = given.programs
        packages.own(self.programs)
        self.sealpost, self.load, self.sink, self.queue = build(given.sealpost)
        self.built = built(given.sealpost, TREE)
        # What else must be known of the figures.
        self.notes = []
        self._numbers = 0
        # Of sealpost alone, each in the row about it.
        self.roster = self.data = None
        self.certificates = self.make_certificates("certificates", 1)
        self.load_cgroup = self.cgroup("load")

    def note(self, text):
        """Keeps what the table says below; and shows it at once."""
        self.notes.append(text)
        print(text, file=sys.stderr, flush=True)

    def make_certificates(self, name, revoked):
        """A CA, certificates of all clients and a CRL of so many serials, in a directory of this name."""
        directory = self.directory / name
        must([self.load, "certificates", directory, self._clients, "--revoked", revoked], seconds=600)
        self.open_certificates(directory)
        return directory

    def cgroup(self, name):
        return figures.Cgroup(self.directory, name)

    def new_run(self):
        """A word that no other run of this measurement has."""
        self._numbers += 1
        return f"run{self._numbers}"

    def open_certificates(self, directory):
        """The servers' own users read the certificates; OpenSMTPD and Exim take their own copies of the key, the others read it as root and want it closed."""
        for path in [directory, *directory.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        (directory / "localhost.key").chmod(0o600)

    @contextlib.contextmanager
    def using(self, attribute, value):
        """Another roster, or other certificates, for a while."""
        usual = getattr(self, attribute)
        setattr(self, attribute, value)
        try:
            yield
        finally:
            setattr(self, attribute, usual)


class Progress:
    """One line that is written over, on a terminal; elsewhere a line for each step."""

    def __init__(self, steps):
        self._steps, self._done, self._began = steps, 0, time.monotonic()

    def step(self, what):
        self._done += 1
        line = f"[{self._done}/{self._steps}] {time.monotonic() - self._began:4.0f} s  {what}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line[:shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def tell(self, what):
        print(f"{chr(13) + chr(27) + '[K' if sys.stderr.isatty() else ''}{what}", file=sys.stderr, flush=True)

    def end(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def main():
    given, plan = plans.arguments()
    end_like_ctrl_c()
    if os.geteuid() != 0:
        sys.exit("run it as root: servers change to users of their own, and cgroups are made")
    results = directory = None
    try:
        try_out(given.out)
        for cleared in leftovers.clear(given.directory):
            print(cleared, file=sys.stderr, flush=True)
        directory = begin(given.directory)
        try:
            bench = Bench(given, plan, directory)
        except (Fault, Unavailable) as reason:
            refuse(str(reason))
        try:
            results = blank(bench, plan)
            print(f"about {plan.estimate() / 60:.0f} minutes", file=sys.stderr, flush=True)
            run(bench, plan, results, lambda: keep(results, given.out))
        finally:
            bench.load_cgroup.remove()
    except KeyboardInterrupt:
        if results is None:
            sys.exit("ended before anything was measured")
        results["ended_early"] = True
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        if results is not None:
            results["load_average_after"] = os.getloadavg()
            keep(results, given.out)
    print(table.write(results))
    sys.exit(1 if table.sealpost_failed(results) or results["ended_early"] else 0)


def refuse(text):
    """Ends before anything has begun, as a wrong command line does."""
    print(text, file=sys.stderr, flush=True)
    sys.exit(2)


def try_out(out):
    """Makes the directory of the results, and writes there: hours later is too late to hear that it can't be."""
    if out is None:
        return
    tried = out / f"tried-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        tried.write_text("x")
        tried.unlink()
    except OSError as fault:
        refuse(f"--out {out} can't be written: {fault.strerror}")


def begin(parent):
    try:
        return leftovers.begin(parent)
    except OSError as fault:
        refuse(f"--directory {parent} can't be written: {fault.strerror}")


def end_like_ctrl_c():
    """Whatever asks for the end, asks once: a second time would leave behind what is being taken back. Who started us deaf to SIGHUP (nohup) meant it."""
    asking = [number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) != signal.SIG_IGN]

    def end(number, _frame):
        for one in asking:
            signal.signal(one, lambda *_: None)
        print(f"ending at {signal.Signals(number).name}", file=sys.stderr, flush=True)
        raise KeyboardInterrupt

    for number in asking:
        signal.signal(number, end)


def keep(results, out):
    """Writes what there is; the file with all of it first, for a mistake of the table must not cost it. What can't be written ends no run."""
    if out is None:
        return
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (("results.json", lambda: json.dumps(results, indent=1)), ("table.md", lambda: table.write(results))):
            written = out / f"{name}.new"
            written.write_text(text() + "\n")
            written.replace(out / name)
    except Exception:
        print(f"{out} could not be written: {traceback.format_exc()}", file=sys.stderr, flush=True)


def build(made):
    """sealpost, load, sink and what fills a queue: built here unless somebody has."""
    if made is None:
        print("building the optimized relay", file=sys.stderr, flush=True)
        status = subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "sealpost", "--example", "load", "--example", "sink",
                                 "--example", "queue"], cwd=TREE, check=False).returncode
        if status != 0:
            sys.exit("the build failed")
        made = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")) / "release"
    programs = made / "sealpost", made / "examples/load", made / "examples/sink", made / "examples/queue"
    missing = [str(program) for program in programs if not program.is_file()]
    if missing:
        refuse(f"not built: {', '.join(missing)}")
    return programs


def built(made, tree):
    """Whether the program is of this run (`now`), was found in this tree's target (`here`), or may be of any tree."""
    if made is None:
        return "now"
    return "here" if made.resolve().is_relative_to((tree / "target").resolve()) else "elsewhere"


def blank(bench, plan):
    """Results of which only the circumstances are known."""
    def git(*words):
        return subprocess.run(["git", "-C", TREE, *words], capture_output=True, text=True, check=False).stdout.strip()

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        "program": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(bench.sealpost.stat().st_mtime)),
        "built": bench.built, "machine": servers.machine(), "load_average_before": os.getloadavg(), "plan": {**asdict(plan), "delay_ms": plans.DELAY},
        "cases": {case.key: {"title": case.title} for case in plan.cases()}, "notes": bench.notes,
        "servers": {name: {"version": None, "unavailable": None, "rounds": [], "faults": [], "not_asked": []} for name in plan.servers},
        "ended_early": False,
    }


def run(bench, plan, results, keep_it):
    """All measurements; what comes of them goes into `results`."""
    once = [row for row in plans.ONCE if row in plan.rows]
    steps = sum(plan.rounds * servers.ALL[name].takes(case.key) for case in plan.cases() for name in plan.servers)
    progress = Progress(steps + sum(servers.ALL[name].takes(row) for row in once for name in plan.servers))
    in_rounds(bench, plan, results, progress, keep_it)
    for row in once:
        for name, told in results["servers"].items():
            if told["unavailable"] is None and servers.ALL[name].takes(row):
                progress.step(f"{name}: {row}")
                attempt(told, told, row, progress, name, lambda: rows.ALL[row](bench, plan, name))
                keep_it()
    progress.end()


class Running:
    """The servers of the rounds and their sink: all are up at the same time."""

    def __init__(self, bench, plan, results, progress):
        self._bench, self._told, self._progress = bench, results["servers"], progress
        self._servers, self._cases = {}, plan.cases()
        (self._port,) = free_ports(1)
        with contextlib.ExitStack() as undo:
            self.sink = measure.Sink(bench, self._port)
            undo.callback(self.sink.stop)
            undo.callback(self._remove)
            for name in plan.servers:
                self.begin(name)
            self._undo = undo.pop_all()

    def begin(self, name):
        """Starts it, in the place of one of the same name; who can't be started takes no part any more."""
        if name in self._servers:
            self._servers.pop(name).remove()
        try:
            server = servers.ALL[name](self._bench, self._bench.directory / name, self._port)
            self._servers[name] = server
            self._told[name]["version"] = server.version()
            if any(server.takes(case.key) for case in self._cases):
                server.start()
        except Exception as reason:
            self._told[name]["unavailable"] = told_of(reason)
            self._progress.tell(f"{name} takes no part: {told_of(reason)}")

    def able(self, case):
        """Those that take part in a load, in their order."""
        return [name for name in self._servers if self._told[name]["unavailable"] is None and servers.ALL[name].takes(case.key)]

    def measure(self, name, case, plan):
        """The figures of one load on one server, while the others are at rest; who was not is said. Who has not handed on all it was given, or
        failed, begins anew with an empty queue, for what it still has to do would be measured with the next."""
        groups = {one: server.cgroup for one, server in self._servers.items() if self._told[one]["unavailable"] is None}
        for one in figures.settle(groups, still=2):
            self._bench.note(f"{one} was not at rest within {figures.REST} s, before {name}: {case.key}")
        try:
            told = measure.measure(self._bench, self.sink, self._servers[name], case, self._bench.new_run(), plan)
        except Exception:
            self._anew(name)
            raise
        if told["lost"]:
            self._anew(name)
        return told

    def _anew(self, name):
        self._bench.note(f"{name} was begun anew, with an empty queue")
        self.begin(name)

    def _remove(self):
        with contextlib.ExitStack() as undo:
            for server in self._servers.values():
                undo.callback(server.remove)

    def close(self):
        """Ends all."""
        self._undo.close()


def in_rounds(bench, plan, results, progress, keep_it):
    """All loads on all servers, each round beginning with another server."""
    with contextlib.closing(Running(bench, plan, results, progress)) as running:
        for number in range(plan.rounds if plan.cases() else 0):
            for told in results["servers"].values():
                told["rounds"].append({})
            for case in plan.cases():
                able = running.able(case)
                for place in range(len(able)):
                    name = able[(place + number) % len(able)]
                    progress.step(f"round {number + 1} of {plan.rounds}: {name}, {case.title}")
                    told = results["servers"][name]
                    attempt(told, told["rounds"][number], case.key, progress, name, lambda: running.measure(name, case, plan))
                    keep_it()


def attempt(server, told, key, progress, name, work):
    """Keeps what came of it, or why nothing did: whatever fails in one row, the others go on."""
    try:
        told[key] = work()
    except Unavailable as reason:
        told[key] = None
        server["not_asked"].append(f"{key}: {reason}")
    except Exception as fault:
        told[key] = None
        server["faults"].append(f"{key}: {told_of(fault)}")
        progress.tell(f"{name}, {key}: {told_of(fault) if isinstance(fault, Fault) else traceback.format_exc()}")


def told_of(fault):
    """What a fault says of itself; of one that nobody expected its kind, too."""
    return str(fault) if isinstance(fault, (Fault, Unavailable)) else "".join(traceback.format_exception_only(fault)).strip()


if __name__ == "__main__":
    main()
