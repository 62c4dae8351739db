"""What can be counted without asking the server: processor time, memory, octets that reach the disk, syncs, allocations.

Processor time is a cgroup's: of all processes that ever ran in it, whoever reaped them. Memory is PSS, so that what processes share counts
once. Octets are those of a block device that holds nothing else. Syncs are what strace saw. Allocations are calls of the C library's functions
that give memory, counted by the kernel where they begin (uprobes), of all processes of a cgroup.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from packages import Unavailable
from wait import Fault, must

_SYNCS = "fsync,fdatasync,msync,sync_file_range,syncfs,sync"
# What gives memory; one that grows what is there counts as one, too.
_GIVES = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc")


class Cgroup:
    """A group of processes of cgroup v2, which counts processor time for every group."""

    def __init__(self, name):
        self.directory = _root() / f"sealpost-compare-{os.getpid()}-{name}-{time.monotonic_ns()}"
        try:
            self.directory.mkdir()
        except OSError as fault:
            raise Unavailable(f"no cgroup can be made under {_root()}: {fault.strerror}; run as root") from fault

    def enter(self, command):
        """The command, to run inside."""
        return ["sh", "-c", f'echo $$ > {self.directory}/cgroup.procs && exec "$@"', "sh", *map(str, command)]

    def seconds(self):
        """Processor time so far."""
        text = (self.directory / "cpu.stat").read_text()
        return int(re.search(r"usage_usec (\d+)", text).group(1)) / 1e6

    def processes(self):
        """Those that live."""
        return [int(line) for line in (self.directory / "cgroup.procs").read_text().split()]

    def memory(self):
        """PSS of all, octets."""
        total = 0
        for process in self.processes():
            try:
                text = Path(f"/proc/{process}/smaps_rollup").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # It has ended meanwhile.
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE).group(1)) * 1024
        return total

    def written(self):
        """Octets that those which live have written to files so far, in whole pages, journals of file systems left out."""
        total = 0
        for process in self.processes():
            total += int(re.search(r"^write_bytes: (\d+)", Path(f"/proc/{process}/io").read_text(), re.MULTILINE).group(1))
        return total

    def settle(self, seconds=10, still=1):
        """Waits until it does next to nothing, in so many looks one behind the other: what a message costs afterwards counts too."""
        end = time.monotonic() + seconds
        before, seen = self.seconds(), 0
        while time.monotonic() < end and seen < still:
            time.sleep(0.25)
            now = self.seconds()
            seen = seen + 1 if now - before < 0.01 else 0
            before = now

    def kill(self):
        """Ends all."""
        (self.directory / "cgroup.kill").write_text("1")
        while self.processes():
            time.sleep(0.01)

    def remove(self):
        """Only when nobody is in it."""
        self.directory.rmdir()


def _root():
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise Unavailable("no cgroup v2 is mounted, which counts processor time")


def busy():
    """Processor time of the whole machine so far, seconds: whoever else works here makes rates worth less."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Disk:
    """A file system of its own on a loop device: what is written to it is this server's mail, and what its file system adds."""

    def __init__(self, directory, mebibytes=3072):
        self.image = Path(directory) / "disk.image"
        self.place = Path(directory) / "disk"
        self.place.mkdir(parents=True)
        with open(self.image, "wb") as file:
            file.truncate(mebibytes << 20)
        try:
            must(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image])
            must(["mount", "-o", "loop", self.image, self.place])
        except Exception as fault:
            raise Unavailable(f"no loop device: {fault}") from fault
        self.place.chmod(0o755)
        source = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(self.place))
        self._figures = Path("/sys/block") / Path(source).name / "stat"

    def written(self):
        """Octets written to the device so far; what the kernel holds back is written first."""
        must(["sync", "-f", self.place])
        return int(self._figures.read_text().split()[6]) * 512

    def remove(self):
        """Unmounts it and removes the image."""
        subprocess.run(["umount", "-l", str(self.place)], check=False)
        self.image.unlink()


def traced(file):
    """The command that counts syncs into `file`; seccomp lets all other calls pass at full speed."""
    return ["strace", "-f", "-c", "--seccomp-bpf", "-e", f"trace={_SYNCS}", "-o", str(file)]


def syncs(file):
    """How many the summary of strace counts."""
    total = 0
    for line in Path(file).read_text().splitlines():
        words = line.split()
        if words and words[-1] in _SYNCS.split(","):
            total += int(words[3])
    return total


class Allocations:
    """Counts what a cgroup's processes ask the C library for, from its beginning to its end; what it cannot count with, it says."""

    def __init__(self, cgroup):
        self._group = f"sealpost_compare_{os.getpid()}"
        # perf takes one name in two groups for one probe.
        self._events = {name: f"{name}_{os.getpid()}" for name in _GIVES}
        self._file = Path(f"/tmp/{self._group}")
        if not shutil.which("perf"):
            raise Unavailable("the program perf is not there (package linux-perf), which counts allocations")
        library = _c_library()
        try:
            for name, event in self._events.items():
                must(["perf", "probe", "-x", library, f"{self._group}:{event}={name}"])
        except Fault as fault:
            self._forget()
            raise Unavailable(f"allocations can't be counted, for the kernel takes no uprobes: {fault}") from fault
        events = ",".join(f"{self._group}:{event}" for event in self._events.values())
        groups = ",".join([cgroup.directory.name] * len(_GIVES))
        control, self._control = os.pipe()
        self._told, telling = os.pipe()
        self._perf = subprocess.Popen(
            ["perf", "stat", "-x", ",", "-a", "-D", "-1", "--control", f"fd:{control},{telling}", "-e", events, "-G", groups, "-o", str(self._file)],
            pass_fds=(control, telling), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(control)
        os.close(telling)
        if not self._ask("enable"):
            said = self._perf.stderr.read().decode(errors="replace").strip()
            self.close()
            raise Unavailable(f"perf does not count allocations here: {said[-300:]}")

    def _ask(self, what):
        """Whether perf says that it has done it; nothing comes when it has ended."""
        try:
            os.write(self._control, f"{what}\n".encode())
        except BrokenPipeError:
            return False
        return os.read(self._told, 16).startswith(b"ack")

    def count(self):
        """How many there were; the count is over."""
        self._ask("disable")
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait()
        lines = [line.split(",") for line in self._file.read_text().splitlines() if self._group in line]
        if len(lines) != len(_GIVES) or not all(line[0].isdigit() for line in lines):
            raise Fault(f"perf counted {lines}")
        return sum(int(line[0]) for line in lines)

    def close(self):
        """Takes everything back."""
        self._perf.kill()
        self._perf.wait()
        self._perf.stderr.close()
        os.close(self._control)
        os.close(self._told)
        self._file.unlink(missing_ok=True)
        self._forget()

    def _forget(self):
        subprocess.run(["perf", "probe", "-q", "-d", f"{self._group}:*"], check=False, stderr=subprocess.DEVNULL)


def _c_library():
    """The one that this machine's programs are linked with; what is linked with another allocates unseen."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if (path := line.split()[-1]).endswith("/libc.so.6"):
            return path
    raise Unavailable("Python itself is not linked with the C library whose allocations are counted")
