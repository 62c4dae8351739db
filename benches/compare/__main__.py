"""sealpost beside Postfix, Exim and OpenSMTPD: `python3 benches/compare --help` says what and how (plan.py)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(TREE / "tests/peers")]

import figures  # noqa: E402
import measure  # noqa: E402
import plan as plans  # noqa: E402
import rows  # noqa: E402
import servers  # noqa: E402
import table  # noqa: E402
from packages import Unavailable  # noqa: E402
from wait import Fault, free_ports, must  # noqa: E402


class Bench:
    """What all measurements stand on."""

    def __init__(self, given, directory):
        self.directory = directory
        self.cores = os.cpu_count()
        self.programs = given.programs
        self.programs.mkdir(parents=True, exist_ok=True)
        self.sealpost, self.load, self.sink, self.queue = build(given.sealpost)
        self.load_cgroup = self.cgroup("load")
        self.certificates = directory / "certificates"
        # Of sealpost alone, each in the row about it.
        self.roster = self.data = None
        must([self.load, "certificates", self.certificates, plans.CLIENTS])
        self.open_certificates(self.certificates)
        self._numbers = 0

    def cgroup(self, name):
        return figures.Cgroup(name)

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
    # What was started must end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        sys.exit("run it as root: servers change to users of their own, and cgroups are made")
    directory = Path(tempfile.mkdtemp(prefix="sealpost-compare-", dir=given.directory))
    directory.chmod(0o755)
    try:
        bench = Bench(given, directory)
        results = blank(bench, plan)
        print(f"about {plan.estimate() / 60:.0f} minutes", file=sys.stderr, flush=True)
        try:
            run(bench, plan, results)
        except (KeyboardInterrupt, SystemExit):
            results["ended_early"] = True
        finally:
            bench.load_cgroup.kill()
            bench.load_cgroup.remove()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    results["load_average_after"] = os.getloadavg()
    text = table.write(results)
    print(text)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "table.md").write_text(text + "\n")
    sys.exit(1 if table.sealpost_failed(results) or results["ended_early"] else 0)


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
        sys.exit(f"not built: {', '.join(missing)}")
    return programs


def blank(bench, plan):
    """Results of which only the circumstances are known."""
    def git(*words):
        return subprocess.run(["git", "-C", TREE, *words], capture_output=True, text=True, check=False).stdout.strip()

    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else ""),
        "program": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(bench.sealpost.stat().st_mtime)),
        "machine": servers.machine(), "load_average_before": os.getloadavg(), "plan": {**asdict(plan), "delay_ms": plans.DELAY},
        "cases": {case.key: {"title": case.title} for case in plan.cases()},
        "servers": {name: {"version": None, "unavailable": None, "rounds": [], "faults": []} for name in plan.servers},
        "ended_early": False,
    }


def run(bench, plan, results):
    """All measurements; what comes of them goes into `results`."""
    once = [row for row in plans.ONCE if row in plan.rows]
    progress = Progress((plan.rounds * len(plan.cases()) + len(once)) * len(plan.servers))
    in_rounds(bench, plan, results, progress)
    for row in once:
        for name, told in results["servers"].items():
            if told["unavailable"] is None:
                progress.step(f"{name}: {row}")
                attempt(told, row, progress, name, lambda: rows.ALL[row](bench, plan, name))
    progress.end()


def in_rounds(bench, plan, results, progress):
    """All loads on all servers, each round beginning with another server."""
    (sink_port,) = free_ports(1)
    sink = measure.Sink(bench, sink_port)
    started = {}
    try:
        for name, told in results["servers"].items():
            try:
                server = servers.ALL[name](bench, bench.directory / name, sink_port)
                started[name] = server
                told["version"] = server.version()
                server.start()
            except (Unavailable, Fault) as reason:
                told["unavailable"] = str(reason)
                progress.tell(f"{name} takes no part: {reason}")
        able = [name for name in started if results["servers"][name]["unavailable"] is None]
        for number in range(plan.rounds if plan.cases() else 0):
            for name in able:
                results["servers"][name]["rounds"].append({})
            for case in plan.cases():
                for place in range(len(able)):
                    name = able[(place + number) % len(able)]
                    progress.step(f"round {number + 1} of {plan.rounds}: {name}, {case.title}")
                    told = results["servers"][name]
                    attempt(told["rounds"][number], case.key, progress, name,
                            lambda: measure.measure(bench, sink, started[name], case, bench.new_run(), plan), told["faults"])
    finally:
        for server in started.values():
            server.remove()
        sink.stop()


def attempt(told, key, progress, name, work, faults=None):
    """Keeps what came of it, or why nothing did."""
    try:
        told[key] = work()
    except Unavailable as reason:
        told[key] = None
        told.setdefault("not_asked", []).append(f"{key}: {reason}")
    except Fault as fault:
        told[key] = None
        (told["faults"] if faults is None else faults).append(f"{key}: {fault}")
        progress.tell(f"{name}, {key}: {fault}")


if __name__ == "__main__":
    main()
