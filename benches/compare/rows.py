"""The rows that are measured once for each server, each on servers that have just been started."""

import contextlib
import shutil
import statistics
from dataclasses import replace

import figures
import measure
import plan as plans
import servers
from plan import CASES, CLIENTS, DELAY
from packages import Unavailable
from wait import free_ports, must

# Starts of which the median is told.
_STARTS = 5
# Sessions, or messages, that a server has had before its allocations are counted.
_WARM = 200
# Turns of few and many of something.
_TURNS = 3
# How long a start with a million messages goes on looking at them once it listens, at the most, seconds.
_AFTER_START = 120
# The other sessions that one machine's memory holds of a server that takes 1.7 MiB for each.
_TOO_LARGE = {servers.Postfix.name, servers.PostfixUncached.name}

_ALONE = "the row is of sealpost alone"


class Fresh:
    """A server that has just been started, alone with a sink; both go at the end."""

    def __init__(self, bench, name, *, delay=0, directory=None, around=(), kind=None, **more):
        (port,) = free_ports(1)
        self.sink = measure.Sink(bench, port, delay)
        try:
            self.server = (kind or servers.ALL[name])(bench, (directory or bench.directory) / f"{name}-fresh", port, **more)
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
        place = bench.directory / f"disk-{name}"
        disk = figures.Disk(place)
        try:
            with Fresh(bench, name, directory=disk.place) as it:
                told[case.key] = measure.written(bench, it.sink, it.server, disk, case, bench.new_run())
        finally:
            disk.remove()
            shutil.rmtree(place, ignore_errors=True)
    return told


def syncs(bench, plan, name):
    """Syncs of a message, under strace."""
    told = {}
    for case in plan.counted():
        file = bench.directory / f"syncs-{name}"
        with Fresh(bench, name, around=figures.traced(file)) as it:
            run = bench.new_run()
            said = measure.send(bench, it.server, case, run)
            judged = it.sink.judge(it.server, run, said)
            it.server.stop()
            told[case.key] = {"syncs_per_message": figures.syncs(file) / max(1, said["accepted"]),
                              "accepted_per_second": said["accepted_per_second"], **measure.verdict(judged)}
    return told


def allocations(bench, plan, name):
    """Calls that give memory, of a session alone and of a message, when the server has had some of them before."""
    told = {}
    for case in plan.allocating():
        with Fresh(bench, name) as it:
            measure.send(bench, it.server, replace(case, messages=_WARM), bench.new_run())
            it.server.cgroup.settle()
            with contextlib.closing(figures.Allocations(it.server.cgroup)) as counter:
                run = bench.new_run()
                said = measure.send(bench, it.server, case, run)
                judged = it.sink.judge(it.server, run, said)
                count = counter.count()
            told[case.key] = {"each": count / max(1, said["accepted"] if case.per_connection else said["sessions"]), **measure.verdict(judged)}
    return told


def far(bench, plan, name):
    """One connection to an upstream far away."""
    with Fresh(bench, name, delay=DELAY, upstream_connections=1) as it:
        return measure.far(bench, it.sink, it.server, plan.far(), bench.new_run(), DELAY)


def identities(bench, plan, name):
    """CPU of a message with the clients' lines alone in the roster, and with a million more."""
    rosters = {}
    for word, lines in (("few", CLIENTS), ("many", plan.million)):
        rosters[word] = bench.directory / f"roster-{word}.csv"
        with open(rosters[word], "w", encoding="ascii") as file:
            file.write("name,ca,email,send_as,send_to\n")
            file.writelines(f"client{n:07},staff,client-{n}@example.com,@certificate,*\n" for n in range(lines))
        rosters[word].chmod(0o644)
    return _against(bench, plan, name, "roster", rosters)


def revoked(bench, plan, name):
    """CPU of a message with ten serials in the CRL, and with a million."""
    crls = {}
    # The CRL must be of the CA that issued the clients' certificates: both are made anew for each.
    for word, serials in (("few", 10), ("many", plan.million)):
        crls[word] = bench.directory / f"certificates-{word}"
        must([bench.load, "certificates", crls[word], CLIENTS, "--revoked", serials], seconds=600)
        bench.open_certificates(crls[word])
    return _against(bench, plan, name, "certificates", crls)


def queued(bench, plan, name):
    """CPU of a message, and what is written for it, while ten others wait for their hour in the queue, and while a million do."""
    if name != servers.Sealpost.name:
        raise Unavailable(_ALONE)
    queues = {}
    try:
        for word, messages in (("few", 10), ("many", plan.million)):
            queues[word] = bench.directory / f"queue-{word}"
            must([bench.queue, queues[word], "--waiting", messages], seconds=1800)
        return _against(bench, plan, name, "data", queues, CASES["many"])
    finally:
        for queue in queues.values():
            shutil.rmtree(queue, ignore_errors=True)


def _against(bench, plan, name, attribute, values, case=CASES["single"]):
    """CPU of a message and octets written for it, by turns with few and many of something.

    Unless told otherwise each connection carries one message, so that whoever is looked up is looked up for each.
    """
    if name != servers.Sealpost.name:
        raise Unavailable(_ALONE)
    cpu, octets = ({word: [] for word in values} for _ in range(2))
    wrong = {"lost": 0, "duplicates": 0, "changed": 0, "not_accepted": 0}
    for turn in range(_TURNS if plan.million >= 1_000_000 else 1):
        for word in sorted(values, reverse=turn % 2 == 1):
            run = bench.new_run()
            with bench.using(attribute, values[word]):
                with Fresh(bench, name, kind=servers.Sealpost) as it:
                    short = replace(plan, seconds=min(plan.seconds, 10), warmup=min(plan.warmup, 3))
                    it.server.cgroup.settle(_AFTER_START, still=12)
                    before = it.server.cgroup.written()
                    told = measure.measure(bench, it.sink, it.server, case, run, short)
                    octets[word].append((it.server.cgroup.written() - before) / told["accepted"])
            cpu[word].append(told["cpu_per_thousand"])
            for key in wrong:
                wrong[key] += told[key]
    return {**measure.Against(cpu["few"], cpu["many"]).figures(), "written": measure.Against(octets["few"], octets["many"]).figures(),
            "million": plan.million, **wrong}


ALL = {row: globals()[row] for row in plans.ONCE}
