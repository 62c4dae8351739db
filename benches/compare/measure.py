"""One measurement: one server, one load, and what the counters say of it."""

import contextlib
import json
import select
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass, replace

import figures
from plan import CLIENTS, Case
from wait import Fault

# How long a relay may take to hand on what it has accepted, seconds.
DRAIN = 300
# The relay, the load and the sink together over this share of the cores: the machine is measured, and not the relay. Load or sink alone wants its one
# thread to run over this share of the time: they are measured.
BOUND = 0.9
# What must be nothing: of what was sent, and of what was refused or broke on the way in.
WRONG = ("lost", "duplicates", "changed", "strange")
REFUSED = ("not_accepted", "broken")
# How often memory is looked at while it may grow, seconds.
SAMPLE = 0.25
# Disk that a row of large messages leaves to others, octets.
SPARE = 6 << 30
# What a queue needs for an octet of mail on its disk: Exim and Postfix keep a message once, with some of their own.
SPACE = 1.1


class Load:
    """The load at work: what it says on the way, and at its end."""

    def __init__(self, bench, server, word, run, **options):
        self.answered = bench.directory / f"answered-{run}"
        self.run = run
        given = {"server": f"127.0.0.1:{server.port}", "certificates": bench.certificates, **options}
        if run is not None:
            given |= {"run": run, "answered": self.answered}
        words = [str(word) for key, value in given.items() for word in (f"--{key.replace('_', '-')}", value)]
        self._errors = open(bench.directory / "load-errors", "w+b")
        self.process = subprocess.Popen(bench.load_cgroup.enter([bench.load, word, *words]), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self._errors, text=True)

    def line(self):
        """The next thing it says."""
        line = self.process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise Fault(f"the load ended with {self.process.wait()}: {self._errors.read().decode(errors='replace')[-500:]}")
        return json.loads(line)

    def end(self):
        """Nothing more comes of it."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self._errors.close()


def send(bench, server, case, run, timing=None, told=lambda event, load: None):
    """Puts the load on the server: what it says at its end as a dictionary. `told` hears of the beginning and the end of what is measured."""
    load = Load(bench, server, "send", run, connections=case.connections, messages=case.messages, per_connection=case.per_connection,
                octets=case.octets, clients=case.clients, **(timing or {}))
    try:
        while "event" in (said := load.line()):
            told(said["event"], load)
    finally:
        load.end()
    return whole(said, case, server.said()[-300:])


def whole(said, case, log=""):
    """What the load said, when it did all that it was told; a fault when it gave up, or answers are missing from its count."""
    if said["ended_early"]:
        raise Fault(f"the load gave up: {said['said']}; {log}")
    if case.per_connection and case.messages and said["accepted"] + said["not_accepted"] != case.messages:
        raise Fault(f"of {case.messages} messages {said['accepted']} were accepted and {said['not_accepted']} were not: {said['said']}; {log}")
    if not case.per_connection and said["sessions"] + said["broken"] < case.messages:
        raise Fault(f"of {case.messages} sessions {said['sessions']} were opened and {said['broken']} broke: {said['said']}; {log}")
    return said


class Sink:
    """The next MTA, and what has come to it."""

    def __init__(self, bench, port, delay=0):
        self._bench, self._others = bench, 0
        with contextlib.ExitStack() as undo:
            self.cgroup = bench.cgroup("sink")
            undo.callback(self.cgroup.remove)
            self.process = subprocess.Popen(
                self.cgroup.enter([bench.sink, f"127.0.0.1:{port}", "--delay", delay]),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            undo.callback(self._end)
            if "listening" not in self.process.stdout.readline():
                raise Fault("the sink does not listen")
            self._undo = undo.pop_all()

    def _ask(self, question):
        self.process.stdin.write(question + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise Fault(f"the sink ended with {self.process.wait()}")
        return json.loads(line)

    def wait(self, run, count, seconds=DRAIN):
        """What has come of a run, when so many have or the time is over."""
        return self._ask(f"wait {run} {count} {seconds}")

    def judge(self, server, run, said):
        """What has come beside what was answered, when all has and the server is at rest: what comes twice late is seen, too. What came since the
        last time and no load had sent is `strange`: a report, for one."""
        end = time.monotonic() + DRAIN
        question = f"judge {run} {self._bench.directory / f'answered-{run}'} {said['from']} {said['until']}"
        self.wait(run, said["accepted"])
        while self._ask(question)["lost"] and time.monotonic() < end:
            time.sleep(1)
        server.settle(f"after {run}")
        judged = self._ask(question)
        self._others, judged["strange"] = judged["others"], judged["others"] - self._others
        return judged

    def _end(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def stop(self):
        """Ends it."""
        self._undo.close()


class Counters:
    """Processor time of the server, the load, the sink, and of the whole machine, at one moment; and what load and sink wanted of it."""

    def __init__(self, groups, processes):
        self.at = time.monotonic()
        self.ours = [group.seconds() for group in groups]
        self.busy = figures.busy()
        self.wanted = [figures.wanted(process.pid) for process in processes]


def measure(bench, sink, server, case, run, plan):
    """The figures of one load on one server."""
    groups = (server.cgroup, bench.load_cgroup, sink.cgroup)
    server.settle(f"before {run}")
    before, marks = server.cgroup.seconds(), {}

    def mark(event, load):
        marks[event] = Counters(groups, (load.process, sink.process))

    said = send(bench, server, case, run, {"seconds": plan.seconds, "warmup": plan.warmup}, mark)
    if not said["accepted" if case.per_connection else "sessions"]:
        raise Fault(f"{server.name} accepted nothing: {said['said']}; {server.said()[-300:]}")
    judged = sink.judge(server, run, said)
    cpu = server.cgroup.seconds() - before
    told = {"cpu_seconds": cpu, "seconds": said["seconds"], **shares(marks["measuring"], marks["measured"], bench.cores),
            "said": said["said"], "anew": said["anew"], "sessions": said["sessions"], **verdict(said, judged)}
    if case.per_connection == 0:
        return {**told, "sessions_per_second": said["sessions_per_second"], "cpu_ms_per_session": cpu / said["sessions"] * 1000}
    return {
        **told, **_relayed(said, judged), "accepted": said["accepted"], "accepted_per_second": said["accepted_per_second"],
        "cpu_per_thousand": cpu / said["accepted"] * 1000, "p50_ms": said["waits_ms"]["p50"], "p99_ms": said["waits_ms"]["p99"],
        "histogram_ms": said["histogram_ms"],
    }


def shares(before, after, cores):
    """Of the cores: what server, load and sink used between the two moments, and what others did. Of one core: what load and sink each wanted."""
    seconds = after.at - before.at
    ours = sum(after.ours) - sum(before.ours)
    load, sink = ((late - early) / seconds for early, late in zip(before.wanted, after.wanted))
    return {"share": ours / (seconds * cores), "others_share": max(0.0, (after.busy - before.busy - ours) / (seconds * cores)),
            "load_wanted": load, "sink_wanted": sink}


def _relayed(said, judged):
    """What reached the sink in the measured time; what waited at its end; and the rate until the last of that had come."""
    accepted = said["accepted_before"] + said["accepted_within"]
    return {
        "relayed_per_second": judged["within"] / said["seconds"],
        "waiting": max(0, accepted - judged["before"] - judged["within"]),
        "relayed_to_the_last_per_second": judged["since"] / max(judged["last"] - said["from"], said["seconds"]) if judged["last"] else 0.0,
    }


def verdict(said, judged):
    """What must be nothing."""
    return {**{word: judged[word] for word in WRONG}, **{word: said[word] for word in REFUSED}}


def together(verdicts):
    """The sum of several."""
    return {word: sum(verdict[word] for verdict in verdicts) for word in (*WRONG, *REFUSED)}


def idle(bench, server, sessions):
    """Memory that sessions cost that say nothing, octets: of the server at rest, and with them. `broken` are those that could not say goodbye then."""
    server.settle("before the sessions")
    rest = server.cgroup.memory()
    load = Load(bench, server, "idle", None, sessions=sessions, clients=CLIENTS)
    try:
        load.line()
        server.settle("with the sessions")
        held = server.cgroup.memory()
        load.process.stdin.close()
        whole_ones = load.line()["whole"]
    finally:
        load.end()
    return {"sessions": sessions, "rest": rest, "held": held, "per_session": (held - rest) / sessions, "broken": sessions - whole_ones}


def fitting(upload, directory):
    """As large messages as the disk holds all at once, and something left for others."""
    room = shutil.disk_usage(directory).free - SPARE
    octets = min(upload.octets, int(room / upload.sessions / SPACE))
    if octets < 1_000_000:
        raise Fault(f"the disk has no room for {upload.sessions} messages of a megabyte")
    return replace(upload, octets=octets)


def uploading(bench, sink, server, upload, run):
    """The most memory that was seen while large messages came in: all stand in their middle at the same time, and go on to their end."""
    server.settle("before the messages")
    rest = server.cgroup.memory()
    most = Most(server.cgroup)
    load = Load(bench, server, "upload", run, sessions=upload.sessions, octets=upload.octets, patience=600, clients=CLIENTS)
    try:
        most.watch(load.process.stdout)
        middle = load.line()["sessions"]
        server.settle("in their middle")
        held = most.look()
        load.process.stdin.close()
        most.watch(load.process.stdout)
        said = load.line()
    finally:
        load.end()
    judged = sink.judge(server, run, said)
    most.look()
    return {"octets": upload.octets, "sessions": upload.sessions, "in_the_middle": middle, "accepted": said["accepted"], "said": said["said"],
            "rest": rest, "held": held, "most": most.octets, "accepted_octets_per_second": said["accepted"] * upload.octets / said["seconds"],
            **verdict(said, judged)}


class Most:
    """The most memory that was seen."""

    def __init__(self, cgroup):
        self._cgroup, self.octets = cgroup, 0

    def look(self):
        """Memory now."""
        now = self._cgroup.memory()
        self.octets = max(self.octets, now)
        return now

    def watch(self, stream):
        """Looks until something is said there."""
        while not select.select([stream], [], [], SAMPLE)[0]:
            self.look()


def written(bench, sink, server, disk, case, run):
    """Octets that reach the disk for one octet of mail."""
    before = disk.written()
    said = send(bench, server, case, run)
    judged = sink.judge(server, run, said)
    return {"written_per_octet": (disk.written() - before) / max(1, said["accepted"] * case.octets), "accepted": said["accepted"], "said": said["said"],
            **verdict(said, judged)}


def far(bench, sink, server, case, run, delay):
    """Round trips that a message costs on the one connection to an upstream far away."""
    first = Case("first", "", case.octets, case.per_connection, messages=2, connections=1)
    opening = send(bench, server, first, f"{run}a")
    opened = verdict(opening, sink.judge(server, f"{run}a", opening))
    said = send(bench, server, case, run)
    judged = sink.judge(server, run, said)
    if not judged["unique"]:
        raise Fault(f"nothing came: {said['said']}")
    seconds = judged["last"] - said["from"]
    return {"round_trips": seconds / judged["unique"] / (delay / 1000), "relayed_per_second": judged["unique"] / seconds, "said": said["said"],
            **together([opened, verdict(said, judged)])}


@dataclass(frozen=True)
class Against:
    """A cost with few and with many of something."""

    few: list
    many: list

    def figures(self):
        """Medians, and how many times more the many cost."""
        few, many = middle(self.few), middle(self.many)
        return {"few": few, "many": many, "ratio": many / few, "all": {"few": self.few, "many": self.many}}


def middle(values):
    """The median of what is there."""
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None
