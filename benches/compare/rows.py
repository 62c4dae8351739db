"""The rows that are measured once for each server, each on servers that have just been started."""

import contextlib
import shutil
import statistics
from dataclasses import replace

import counters
import figures
import measure
import plan as plans
import servers
from plan import CASES, DELAY, STRANGERS
from packages import Unavailable
from wait import Fault, free_ports, must

# Starts of which the median is told.
_STARTS = 5
# Sessions, or messages, that a server has had before its allocations are counted.
_WARM = 200
# Turns of few and many of something.
_TURNS = 3
# How long a start with a million messages goes on looking at them once it listens, at the most, seconds.
_AFTER_START = 120
# The other sessions that one machine's memory holds of a server that takes 1.7 MiB for each.
_TOO_LARGE = {servers.Postfix.name}


class Fresh:
    """A server that has just been started, alone with a sink; both go at the end."""

    def __init__(self, bench, name, *, delay=0, directory=None, around=(), kind=None, **more):
        (port,) = free_ports(1)
        with contextlib.ExitStack() as undo:
            self.sink = measure.Sink(bench, port, delay)
            undo.callback(self.sink.stop)
            self.server = (kind or servers.ALL[name])(bench, (directory or bench.directory) / f"{name}-fresh", port, **more)
            undo.callback(self.server.remove)
            self.took = self.server.start(around)
            self._undo = undo.pop_all()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._undo.close()


def start(bench, _plan, name):
    """A start with an empty queue."""
    took = []
    for _ in range(_STARTS):
        with Fresh(bench, name) as it:
            took.append(it.took * 1000)
    return {"ms": statistics.median(took), "all_ms": took}


def idle(bench, plan, name):
    """Memory with sessions that say nothing."""
    with Fresh(bench, name) as it:
        return measure.idle(bench, it.server, plan.idle)


def idle10000(bench, plan, name):
    """Memory with many of them."""
    if name in _TOO_LARGE:
        raise Unavailable("ten thousand sessions would take it 17 GB of memory")
    with Fresh(bench, name) as it:
        return measure.idle(bench, it.server, plan.idle_many)


def upload(bench, plan, name):
    """Memory while many send a large message each at the same time."""
    with Fresh(bench, name) as it:
        return measure.uploading(bench, it.sink, it.server, measure.fitting(plan.upload, bench.directory), bench.new_run())


def written(bench, plan, name):
    """Octets that reach the disk, on a disk of its own."""
    told = {}
    for case in plan.counted():
        with contextlib.ExitStack() as undo:
            place = bench.directory / f"disk-{name}"
            undo.callback(shutil.rmtree, place, ignore_errors=True)
            disk = figures.Disk(place)
            undo.callback(disk.remove)
            it = undo.enter_context(Fresh(bench, name, directory=disk.place))
            told[case.key] = measure.written(bench, it.sink, it.server, disk, case, bench.new_run())
    return told


def syncs(bench, plan, name):
    """Syncs of a message, as perf sees them; where it does not, under strace, which is said."""
    told = {}
    for case in plan.counted():
        try:
            told[case.key] = _counted_by_perf(bench, name, case)
        except counters.NoPerf as reason:
            told[case.key] = {**_counted_by_strace(bench, name, case), "instead": f"syncs under strace, start and end of the server among them; it slows them down, which changes how many messages share one: {reason}"}
    return told


def _counted_by_perf(bench, name, case):
    with Fresh(bench, name) as it:
        it.server.settle("before its syncs were counted")
        with contextlib.closing(counters.Syncs(it.server.cgroup, bench.directory)) as counter:
            run = bench.new_run()
            said = measure.send(bench, it.server, case, run)
            judged = it.sink.judge(it.server, run, said)
            return _syncs(counter.count(), said, judged)


def _counted_by_strace(bench, name, case):
    summary, touched = (bench.directory / f"{word}-{name}" for word in ("syncs", "touched"))
    touched.touch()
    with Fresh(bench, name, around=counters.traced(summary, touched)) as it:
        run = bench.new_run()
        said = measure.send(bench, it.server, case, run)
        judged = it.sink.judge(it.server, run, said)
        if not it.server.stop():
            raise Fault("it had to be killed, and strace with it: its count is not whole")
        return _syncs(counters.traced_syncs(summary.read_text()), said, judged)


def _syncs(count, said, judged):
    return {"syncs_per_message": count / max(1, said["accepted"]), "accepted_per_second": said["accepted_per_second"], "said": said["said"],
            **measure.verdict(said, judged)}


def allocations(bench, plan, name):
    """Calls that give memory, of a session alone and of a message, when the server has had some of them before."""
    told = {}
    for case in plan.allocating():
        with Fresh(bench, name) as it:
            run = bench.new_run()
            said = measure.send(bench, it.server, replace(case, messages=_WARM), run)
            warmed = measure.verdict(said, it.sink.judge(it.server, run, said))
            with contextlib.closing(counters.Allocations(it.server.cgroup, bench.directory)) as counter:
                run = bench.new_run()
                said = measure.send(bench, it.server, case, run)
                judged = it.sink.judge(it.server, run, said)
                count = counter.count()
            told[case.key] = {"each": count / max(1, said["accepted"] if case.per_connection else said["sessions"]), "said": said["said"],
                              **measure.together([warmed, measure.verdict(said, judged)])}
    return told


def far(bench, plan, name):
    """One connection to an upstream far away."""
    with Fresh(bench, name, delay=DELAY, upstream_connections=1) as it:
        return measure.far(bench, it.sink, it.server, plan.far(), bench.new_run(), DELAY)


# Sessions of clients of whom the relay remembers all, and of clients of whom it remembers nothing; messages of the latter, one a connection.
_VISITS = {"warm": CASES["handshake"], "cold": CASES["cold"], "message": replace(CASES["single"], clients=STRANGERS)}


def identities(bench, plan, name):
    """CPU of a session and of a message with the clients' lines alone in the roster, and with a million."""
    _ours_alone(name)
    rosters = {}
    for word, lines in (("few", STRANGERS), ("many", plan.million)):
        rosters[word] = bench.directory / f"roster-{word}.csv"
        with open(rosters[word], "w", encoding="ascii") as file:
            file.write("name,ca,email,send_as,send_to\n")
            file.writelines(f"client{n:07},staff,client-{n}@example.com,@certificate,*\n" for n in range(lines))
        rosters[word].chmod(0o644)
    return _against(bench, plan, name, "roster", rosters, _VISITS)


def revoked(bench, plan, name):
    """The same with ten serials in the CRL, and with a million."""
    _ours_alone(name)
    crls = {}
    # The CRL must be of the CA that issued the clients' certificates: both are made anew for each.
    for word, serials in (("few", 10), ("many", plan.million)):
        crls[word] = bench.make_certificates(f"certificates-{word}", serials)
    return _against(bench, plan, name, "certificates", crls, _VISITS)


def queued(bench, plan, name):
    """CPU of a message, and what is written for it, while ten others wait for their hour in the queue, and while a million do."""
    _ours_alone(name)
    queues = {}
    try:
        for word, messages in (("few", 10), ("many", plan.million)):
            queues[word] = bench.directory / f"queue-{word}"
            must([bench.queue, queues[word], "--waiting", messages], seconds=1800)
        return _against(bench, plan, name, "data", queues, {"message": CASES["many"]})
    finally:
        for queue in queues.values():
            shutil.rmtree(queue, ignore_errors=True)


def _ours_alone(name):
    if name != servers.Sealpost.name:
        raise Unavailable("the row is of sealpost alone")


def _against(bench, plan, name, attribute, values, loads):
    """CPU of each of these loads, and octets written for a message, by turns with few and many of something."""
    short = replace(plan, seconds=min(plan.seconds, 10), warmup=min(plan.warmup, 3))
    costs = {load: {word: [] for word in values} for load in (*loads, "written")}
    verdicts = []
    for turn in range(_TURNS if plan.million >= 1_000_000 else 1):
        for word in sorted(values, reverse=turn % 2 == 1):
            with bench.using(attribute, values[word]), Fresh(bench, name, kind=servers.Sealpost) as it:
                it.server.settle("after its start", _AFTER_START, still=12)
                for load, case in loads.items():
                    before = it.server.cgroup.written()
                    told = measure.measure(bench, it.sink, it.server, case, bench.new_run(), short)
                    costs[load][word].append(told["cpu_per_thousand"] if case.per_connection else told["cpu_ms_per_session"])
                    if case.per_connection:
                        costs["written"][word].append((it.server.cgroup.written() - before) / told["accepted"])
                    verdicts.append(told)
    return {**{load: measure.Against(cost["few"], cost["many"]).figures() for load, cost in costs.items()},
            "million": plan.million, **measure.together(verdicts)}


ALL = {row: globals()[row] for row in plans.ONCE}
