"""One measurement: one server, one load, and what the counters say of it."""

import json
import select
import statistics
import subprocess
import time
from dataclasses import dataclass, replace

import figures
from wait import Fault

# How long a relay may take to hand on what it has accepted, seconds.
DRAIN = 300
# The relay, the load and the sink together over this share of the cores: the machine is measured, and not the relay.
BOUND = 0.9
# How often memory is looked at while it may grow, seconds.
SAMPLE = 0.25


@dataclass(frozen=True)
class Case:
    """A load."""

    key: str
    title: str
    octets: int
    per_connection: int
    messages: int = 0
    # Without messages: sessions that are opened and closed.
    sessions: int = 0
    connections: int = 20


def fitting(case, server):
    """The load that this server gets: the same, or less of it where that would take minutes."""
    return replace(case, messages=case.messages // server.takes_one_of, sessions=case.sessions // server.takes_one_of)


def send(bench, server, case, run):
    """Puts the load on the server; what the load says as a dictionary."""
    command = [bench.load, "send", "--server", f"127.0.0.1:{server.port}", "--certificates", bench.certificates, "--run", run,
               "--connections", case.connections, "--messages", case.messages, "--sessions", case.sessions,
               "--per-connection", case.per_connection, "--octets", case.octets]
    done = subprocess.run(bench.load_cgroup.enter(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise Fault(f"the load ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
    return json.loads(done.stdout)


class Sink:
    """The next MTA, and what has come to it."""

    def __init__(self, bench, port, delay=0):
        self.cgroup = bench.cgroup("sink")
        self._process = subprocess.Popen(
            self.cgroup.enter([bench.sink, f"127.0.0.1:{port}", "--delay", delay]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        if "listening" not in self._process.stdout.readline():
            raise Fault("the sink does not listen")

    def wait(self, run, count, seconds=DRAIN):
        """What has come of a run, when all has or the time is over."""
        self._process.stdin.write(f"wait {run} {count} {seconds}\n")
        return json.loads(self._process.stdout.readline())

    def stop(self):
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self.cgroup.remove()


def measure(bench, sink, server, case, run):
    """The figures of one load on one server."""
    case = fitting(case, server)
    groups = (server.cgroup, bench.load_cgroup, sink.cgroup)
    server.cgroup.settle()
    before = [group.seconds() for group in groups]
    busy, began = figures.busy(), time.monotonic()
    said = send(bench, server, case, run)
    accepted = said["accepted"]
    came = sink.wait(run, accepted) if accepted else None
    took = time.monotonic() - began
    ours = [group.seconds() - earlier for group, earlier in zip(groups, before)]
    others = figures.busy() - busy - sum(ours)
    server.cgroup.settle()
    cpu = server.cgroup.seconds() - before[0]
    told = {
        "cpu_seconds": cpu,
        "share": sum(ours) / (took * bench.cores),
        "others_share": max(0.0, others / (took * bench.cores)),
        "said": said["said"],
        "not_accepted": len(said["not_accepted"]),
    }
    if case.messages == 0:
        sessions = said["sessions"]
        return {**told, "sessions_per_second": said["sessions_per_second"], "cpu_ms_per_session": cpu / max(1, sessions) * 1000}
    if not accepted:
        raise Fault(f"{server.name} accepted nothing: {said['said']}; {server.said()[-300:]}")
    refused = set(said["not_accepted"])
    lost = [number for number in came["missing"] if number not in refused]
    relayed = came["unique"] / (came["last"] - said["began"]) if came["last"] else 0.0
    return {
        **told, "accepted": accepted, "accepted_per_second": said["accepted_per_second"], "relayed_per_second": relayed,
        "cpu_per_thousand": cpu / accepted * 1000, "p50_ms": said["waits_ms"]["p50"], "p99_ms": said["waits_ms"]["p99"],
        "histogram_ms": said["histogram_ms"], "lost": len(lost), "duplicates": came["duplicates"],
    }


def idle(bench, server, sessions):
    """Memory that sessions cost that say nothing, octets: of the server at rest, and with them."""
    server.cgroup.settle()
    rest = server.cgroup.memory()
    with subprocess.Popen(
            bench.load_cgroup.enter([bench.load, "idle", "--server", f"127.0.0.1:{server.port}", "--certificates", bench.certificates,
                                     "--sessions", sessions]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        line = holder.stdout.readline()
        if not line:
            raise Fault(f"{server.name} did not open {sessions} sessions: {holder.stderr.read()[-300:]}")
        server.cgroup.settle()
        held = server.cgroup.memory()
        holder.stdin.close()
        holder.wait()
    return {"rest": rest, "held": held, "per_session": (held - rest) / sessions}


@dataclass(frozen=True)
class Upload:
    """Clients that stand in the middle of a large message each."""

    sessions: int
    # Octets that each has sent of a message without end.
    sent: int


def uploading(bench, server, upload):
    """The most memory that was seen while large messages came in, octets."""
    server.cgroup.settle()
    most = 0
    with subprocess.Popen(
            bench.load_cgroup.enter([bench.load, "upload", "--server", f"127.0.0.1:{server.port}", "--certificates", bench.certificates,
                                     "--sessions", upload.sessions, "--sent", upload.sent]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        while not select.select([holder.stdout], [], [], SAMPLE)[0]:
            most = max(most, server.cgroup.memory())
        if not holder.stdout.readline():
            raise Fault(f"{server.name} did not take {upload.sessions} messages at once: {holder.stderr.read()[-300:]}")
        most = max(most, server.cgroup.memory())
        holder.stdin.close()
        holder.wait()
    return {"most": most}


def written(bench, sink, server, disk, case, run):
    """Octets that reach the disk for one octet of mail."""
    case = fitting(case, server)
    before = disk.written()
    said = send(bench, server, case, run)
    sink.wait(run, said["accepted"])
    server.cgroup.settle()
    return {"written_per_octet": (disk.written() - before) / max(1, said["accepted"] * case.octets), "accepted": said["accepted"]}


def far(bench, sink, server, case, run, delay):
    """Round trips that a message costs on the one connection to an upstream far away."""
    first = Case("first", "", case.octets, case.per_connection, messages=2, connections=1)
    send(bench, server, first, f"{run}a")
    sink.wait(f"{run}a", 2)
    said = send(bench, server, case, run)
    came = sink.wait(run, said["accepted"])
    seconds = came["last"] - said["began"]
    return {"round_trips": seconds / came["unique"] / (delay / 1000), "relayed_per_second": came["unique"] / seconds}


def middle(values):
    """The median of what is there."""
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None
