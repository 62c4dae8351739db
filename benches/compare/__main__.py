"""sealpost beside Postfix, Exim and OpenSMTPD: the same load on each, in turn, and a table with ratios. Root on Debian needed.

    python3 benches/compare [--quick] [--rounds N] [--servers sealpost,Postfix] [--out DIR]

Builds the optimized relay, unpacks the peers' packages into private directories (nothing is installed, no service starts), and runs all
servers interleaved in rounds: who else works on the machine hurts all alike. docs/performance.md tells the method and its limits.
The tables go to standard output, the progress to standard error; --out keeps results.json and table.md.
"""

import argparse
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
import servers  # noqa: E402
import table  # noqa: E402
from measure import Case, Upload  # noqa: E402
from packages import Unavailable  # noqa: E402
from wait import Fault, free_ports, must  # noqa: E402

# The upstream far away, milliseconds.
DELAY = 50
# Clients' certificates.
CLIENTS = 20

FULL = {
    "rounds": 3,
    "cases": [
        Case("handshake", "sessions opened and closed", 0, 1, sessions=1000),
        Case("single", "1 message a connection, 4 KB", 4096, 1, messages=1000),
        Case("many", "100 a connection, 4 KB", 4096, 100, messages=2000),
        Case("large", "100 a connection, 75 KB", 76800, 100, messages=1000),
    ],
    "written": [Case("many", "4 KB", 4096, 100, messages=2000), Case("large", "75 KB", 76800, 100, messages=1000)],
    "syncs": [Case("many", "4 KB", 4096, 100, messages=2000), Case("large", "75 KB", 76800, 100, messages=1000)],
    "far": Case("far", "4 KB", 4096, 100, messages=60, connections=4),
    "idle": 2000,
    "upload": Upload(1000, 2 << 20),
}
QUICK = {
    "rounds": 1,
    "cases": [
        Case("handshake", "sessions opened and closed", 0, 1, sessions=200),
        Case("single", "1 message a connection, 4 KB", 4096, 1, messages=200),
        Case("many", "100 a connection, 4 KB", 4096, 100, messages=1000),
        Case("large", "100 a connection, 75 KB", 76800, 100, messages=300),
    ],
    "written": [Case("many", "4 KB", 4096, 100, messages=400)],
    "syncs": [Case("many", "4 KB", 4096, 100, messages=400)],
    "far": Case("far", "4 KB", 4096, 100, messages=20, connections=4),
    "idle": 200,
    "upload": Upload(50, 2 << 20),
}


class Bench:
    """What all measurements stand on."""

    def __init__(self, given, directory):
        self.directory = directory
        self.cores = os.cpu_count()
        self.programs = given.programs
        self.programs.mkdir(parents=True, exist_ok=True)
        self.sealpost, self.load, self.sink = build(given.sealpost)
        self.load_cgroup = self.cgroup("load")
        self.certificates = directory / "certificates"
        must([self.load, "certificates", self.certificates, CLIENTS])
        open_to_servers(directory)
        self._numbers = 0

    def cgroup(self, name):
        return figures.Cgroup(name)

    def new_run(self):
        """A word that no other run of this measurement has."""
        self._numbers += 1
        return f"run{self._numbers}"


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
    given = arguments()
    # What was started must end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.geteuid() != 0:
        sys.exit("run it as root: servers change to users of their own, and cgroups are made")
    plan = dict(QUICK if given.quick else FULL)
    plan["rounds"] = given.rounds or plan["rounds"]
    plan["idle"] = given.idle if given.idle is not None else plan["idle"]
    directory = Path(tempfile.mkdtemp(prefix="sealpost-compare-", dir=given.directory))
    directory.chmod(0o755)
    bench = Bench(given, directory)
    results = blank(bench, plan, given.servers)
    try:
        run(bench, plan, results)
    except (KeyboardInterrupt, SystemExit):
        results["ended_early"] = True
    finally:
        bench.load_cgroup.kill()
        bench.load_cgroup.remove()
        shutil.rmtree(directory, ignore_errors=True)
    text = table.write(results)
    print(text)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (given.out / "table.md").write_text(text + "\n")
    sys.exit(1 if table.sealpost_failed(results) or results["ended_early"] else 0)


def arguments():
    parser = argparse.ArgumentParser(prog="python3 benches/compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short trial: one round, few messages")
    parser.add_argument("--rounds", type=int, help="rounds of the loads (3; quick: 1)")
    parser.add_argument("--idle", type=int, help="idle sessions (2000; quick: 200); 0 leaves them out. Postfix takes 1.7 MiB each")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=list(servers.ALL), help="some of " + ",".join(servers.ALL))
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where queues are kept while it runs: the disk that is measured")
    parser.add_argument("--programs", type=Path, default=Path("/var/tmp/sealpost-compare-programs"), help="where the peers' packages are unpacked, and stay")
    parser.add_argument("--sealpost", type=Path, help="a directory with an optimized build, instead of building one")
    parser.add_argument("--out", type=Path, help="where results.json and table.md go")
    given = parser.parse_args()
    unknown = set(given.servers) - set(servers.ALL)
    if unknown:
        parser.error(f"no server is called {', '.join(sorted(unknown))}; there are {', '.join(servers.ALL)}")
    return given


def build(made):
    """sealpost, load and sink: built here unless somebody has."""
    if made is None:
        print("building the optimized relay", file=sys.stderr, flush=True)
        status = subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "sealpost", "--example", "load", "--example", "sink"],
                                cwd=TREE, check=False).returncode
        if status != 0:
            sys.exit("the build failed")
        made = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target")) / "release"
    programs = made / "sealpost", made / "examples/load", made / "examples/sink"
    missing = [str(program) for program in programs if not program.is_file()]
    if missing:
        sys.exit(f"not built: {', '.join(missing)}")
    return programs


def open_to_servers(directory):
    """The servers' own users read the certificates."""
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    # OpenSMTPD and Exim take their own copies of the key; sealpost and Postfix read it as root and want it closed.
    (directory / "certificates/localhost.key").chmod(0o600)


def blank(bench, plan, names):
    """Results of which only the circumstances are known."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": subprocess.run(["git", "-C", TREE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip(),
        "machine": servers.machine(), "plan": {"rounds": plan["rounds"], "idle": plan["idle"], "upload": asdict(plan["upload"]), "delay_ms": DELAY, "clients": CLIENTS},
        "cases": {case.key: {"title": case.title, "messages": case.messages or case.sessions} for case in plan["cases"]},
        "servers": {name: {"version": None, "unavailable": None, "rounds": [], "faults": []} for name in names},
        "ended_early": False,
    }


def run(bench, plan, results):
    """All measurements; what comes of them goes into `results`."""
    names = list(results["servers"])
    extra = 5 if plan["idle"] else 4
    progress = Progress(plan["rounds"] * len(plan["cases"]) * len(names) + extra * len(names))
    in_rounds(bench, plan, results, progress)
    for one_by_one in (starts_and_memory, large_messages_at_once, octets_written, syncs_counted, upstream_far_away):
        for name, told in results["servers"].items():
            if told["unavailable"] is None and (one_by_one is not starts_and_memory or plan["idle"]):
                progress.step(f"{name}: {one_by_one.__name__.replace('_', ' ')}")
                attempt(told, one_by_one.__name__, progress, name, lambda: one_by_one(bench, plan, name))
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
        for number in range(plan["rounds"]):
            for name in able:
                results["servers"][name]["rounds"].append({})
            for case in plan["cases"]:
                for place in range(len(able)):
                    name = able[(place + number) % len(able)]
                    progress.step(f"round {number + 1} of {plan['rounds']}: {name}, {case.title}")
                    told = results["servers"][name]
                    attempt(told["rounds"][number], case.key, progress, name,
                            lambda: measure.measure(bench, sink, started[name], case, bench.new_run()), told["faults"])
    finally:
        for server in started.values():
            server.remove()
        sink.stop()


def attempt(told, key, progress, name, work, faults=None):
    """Keeps what came of it, or why nothing did."""
    try:
        told[key] = work()
    except (Unavailable, Fault) as fault:
        told[key] = None
        (told["faults"] if faults is None else faults).append(f"{key}: {fault}")
        progress.tell(f"{name}, {key}: {fault}")


class fresh:
    """A server that has just been started, alone with a sink; both go at the end."""

    def __init__(self, bench, name, *, delay=0, directory=None, around=(), **more):
        (port,) = free_ports(1)
        self.sink = measure.Sink(bench, port, delay)
        try:
            self.server = servers.ALL[name](bench, (directory or bench.directory) / f"{name}-fresh", port, **more)
            try:
                self.took = self.server.start(around)
            except BaseException:
                self.server.remove()
                raise
        except BaseException:
            self.sink.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.remove()
        self.sink.stop()


def starts_and_memory(bench, plan, name):
    """A start with an empty queue, and memory with sessions that say nothing."""
    with fresh(bench, name) as it:
        return {"start_ms": it.took * 1000, **measure.idle(bench, it.server, plan["idle"])}


def large_messages_at_once(bench, plan, name):
    """Memory while many send a large message each at the same time."""
    with fresh(bench, name) as it:
        return measure.uploading(bench, it.server, plan["upload"])


def octets_written(bench, plan, name):
    """Octets that reach the disk, on a disk of its own."""
    told = {}
    for case in plan["written"]:
        place = bench.directory / f"disk-{name}"
        disk = figures.Disk(place)
        try:
            with fresh(bench, name, directory=disk.place) as it:
                told[case.key] = measure.written(bench, it.sink, it.server, disk, case, bench.new_run())
        finally:
            disk.remove()
            shutil.rmtree(place, ignore_errors=True)
    return told


def syncs_counted(bench, plan, name):
    """Syncs of a message, under strace."""
    told = {}
    for case in plan["syncs"]:
        file = bench.directory / f"syncs-{name}"
        with fresh(bench, name, around=figures.traced(file)) as it:
            run_name = bench.new_run()
            said = measure.send(bench, it.server, measure.fitting(case, it.server), run_name)
            it.sink.wait(run_name, said["accepted"])
            it.server.cgroup.settle()
            it.server.stop()
            told[case.key] = {"syncs_per_message": figures.syncs(file) / max(1, said["accepted"]),
                              "accepted_per_second": said["accepted_per_second"]}
    return told


def upstream_far_away(bench, plan, name):
    """One connection to an upstream far away."""
    with fresh(bench, name, delay=DELAY, upstream_connections=1) as it:
        return measure.far(bench, it.sink, it.server, plan["far"], bench.new_run(), DELAY)


if __name__ == "__main__":
    main()
