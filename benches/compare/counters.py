"""What the kernel counts of a server, or a tracer: syncs and allocations, of all processes of a cgroup, those that begin later too.

perf counts where an event happens and stops nobody. Where it can't, strace counts syncs, and the row says so: it slows them down, which changes
how many messages share one. A counter that saw nothing at all is a fault and not a nought: each count of syncs sees one of our own among them.
"""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import figures
from packages import Unavailable
from wait import Fault, must

_SYNCS = ("fsync", "fdatasync", "msync", "sync_file_range", "syncfs", "sync")
# What gives memory; one that grows what is there counts as one, too.
_GIVES = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc")
# perf's share of the time in which it counted an event, per cent: below it has taken turns with others, and what it says is an estimate.
_WHOLE = 99.0
# Fields of a line of `perf stat -x,`: how many, what, and that share.
_COUNT, _EVENT, _SHARE = 0, 2, 5


class NoPerf(Unavailable):
    """perf can't count this here, and why."""


class Events:
    """Counts events in a cgroup, from `begin` to `count`; what it can't count with, it says."""

    def __init__(self, cgroup, events, directory):
        self._events, self._file = tuple(events), Path(directory) / "counted"
        if not shutil.which("perf"):
            raise NoPerf("the program perf is not there (package linux-perf)")
        with contextlib.ExitStack() as undo:
            undo.callback(self._file.unlink, missing_ok=True)
            heard, self._control = _pipe(undo)
            self._told, telling = _pipe(undo)
            groups = ",".join([cgroup.directory.name] * len(self._events))
            # So that who clears up behind a run that was killed finds it.
            ours = figures.Cgroup(directory, "perf")
            undo.callback(ours.remove)
            self._perf = subprocess.Popen(
                ours.enter(["perf", "stat", "-x", ",", "-a", "-D", "-1", "--control", f"fd:{heard.fileno()},{telling.fileno()}", "-e", ",".join(self._events),
                            "-G", groups, "-o", self._file]),
                pass_fds=(heard.fileno(), telling.fileno()), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            undo.callback(self._end)
            heard.close()
            telling.close()
            if not self._ask("enable"):
                said = self._perf.stderr.read().decode(errors="replace").strip()
                raise NoPerf(f"perf does not count here: {said[-300:]}")
            self._undo = undo.pop_all()

    def _ask(self, what):
        """Whether perf says that it has done it; nothing comes when it has ended."""
        try:
            self._control.write(f"{what}\n".encode())
        except BrokenPipeError:
            return False
        return self._told.read(16).startswith(b"ack")

    def count(self):
        """How many there were; the count is over."""
        self._ask("disable")
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait()
        return counted(self._file.read_text(), self._events)

    def _end(self):
        self._perf.kill()
        self._perf.wait()
        self._perf.stderr.close()

    def close(self):
        """Takes everything back."""
        self._undo.close()


def _pipe(undo):
    """A pipe without buffers, reading end first; both ends are closed at last."""
    reading, writing = os.pipe()
    ends = open(reading, "rb", buffering=0), open(writing, "wb", buffering=0)
    for end in ends:
        undo.callback(end.close)
    return ends


def counted(text, events):
    """The sum of what perf wrote of these events; a fault where one is missing, is no number, or was not counted all the time."""
    lines = [line.split(",") for line in text.splitlines()]
    found = {}
    for words in lines:
        if len(words) > _EVENT and words[_EVENT] in events:
            found[words[_EVENT]] = words
    if set(found) != set(events) or not all(words[_COUNT].isdigit() for words in found.values()):
        raise Fault(f"perf counted {text.strip()[-500:]}")
    for event, words in found.items():
        share = words[_SHARE] if len(words) > _SHARE else ""
        if words[_COUNT] != "0" and float(share or 0) < _WHOLE:
            raise Fault(f"perf counted {event} only {share} % of the time")
    return sum(int(words[_COUNT]) for words in found.values())


class Syncs:
    """Counts syncs by the kernel's tracepoints, of one more than the server's: the proof that it counts."""

    def __init__(self, cgroup, directory):
        self._cgroup, self._proof = cgroup, Path(directory) / "proof"
        self._events = Events(cgroup, [f"syscalls:sys_enter_{name}" for name in _SYNCS], directory)
        self._proof.touch()

    def count(self):
        """How many the server made; the count is over."""
        must(self._cgroup.enter(proof(self._proof)))
        return without_proof(self._events.count())

    def close(self):
        """Takes everything back."""
        self._events.close()
        self._proof.unlink(missing_ok=True)


def proof(file):
    """The command that syncs once."""
    return ["sync", "-d", str(file)]


def without_proof(count):
    """The count without our own; a fault where that one was not seen."""
    if count < 1:
        raise Fault("no sync was counted, and one was made to be counted: whatever counts does not work here")
    return count - 1


def traced(summary, touched):
    """The command that counts syncs into a file, behind one of our own; seccomp lets all other calls pass at full speed."""
    return ["strace", "-f", "-c", "--seccomp-bpf", "-e", f"trace={','.join(_SYNCS)}", "-o", str(summary),
            "sh", "-c", f'sync -d {touched} && exec "$@"', "sh"]


def traced_syncs(text):
    """How many the summary of strace counts, without our own; one that is empty is a fault."""
    total = 0
    for line in text.splitlines():
        words = line.split()
        if words and words[-1] in _SYNCS:
            total += int(words[3])
    return without_proof(total)


class Allocations:
    """Counts what a cgroup's processes ask the C library for, from its beginning to its end."""

    def __init__(self, cgroup, directory):
        self._group = figures.probes_of(directory)
        library = _c_library()
        # perf takes one name in two groups for one probe.
        events = {name: f"{name}_{self._group}" for name in _GIVES}
        if not shutil.which("perf"):
            raise NoPerf("the program perf is not there (package linux-perf), which counts allocations")
        with contextlib.ExitStack() as undo:
            undo.callback(self._forget)
            try:
                for name, event in events.items():
                    must(["perf", "probe", "-x", library, f"{self._group}:{event}={name}"])
            except Fault as fault:
                raise Unavailable(f"allocations can't be counted, for the kernel takes no uprobes: {fault}") from fault
            self._events = Events(cgroup, [f"{self._group}:{event}" for event in events.values()], directory)
            undo.callback(self._events.close)
            self._undo = undo.pop_all()

    def count(self):
        """How many there were; the count is over. None at all: the probes sit in a library that nobody uses."""
        count = self._events.count()
        if count == 0:
            raise Fault("no allocation was counted: the server uses another C library than this program, or the probes do not work here")
        return count

    def close(self):
        """Takes everything back."""
        self._undo.close()

    def _forget(self):
        subprocess.run(["perf", "probe", "-q", "-d", f"{self._group}:*"], check=False, stderr=subprocess.DEVNULL)


def _c_library():
    """The one that this machine's programs are linked with; what is linked with another allocates unseen."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if (path := line.split()[-1]).endswith("/libc.so.6"):
            return path
    raise Unavailable("Python itself is not linked with the C library whose allocations are counted")
