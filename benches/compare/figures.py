"""What can be read without asking the server: processor time, memory, octets that reach the disk.

Processor time is a cgroup's: of all processes that ever ran in it, whoever reaped them. Memory is PSS, so that what processes share counts
once. Octets are those of a block device that holds nothing else.
"""

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

from packages import Unavailable
from wait import Fault, must

# How long it may take until nobody works any more, seconds; how often is looked; and who used less than this share of a core since is at rest.
REST, _LOOK, _QUIET = 30, 0.25, 0.04


class Cgroup:
    """A group of processes of cgroup v2, which counts processor time for every group; it bears the name of its run's folder."""

    def __init__(self, folder, name):
        self.directory = _root() / f"{Path(folder).name}-{name}-{time.monotonic_ns()}"
        try:
            self.directory.mkdir()
        except OSError as fault:
            raise Unavailable(f"no cgroup can be made under {_root()}: {fault.strerror}; run as root") from fault

    @classmethod
    def left_by(cls, folder):
        """Those of the run of a folder, as they are."""
        found = []
        for directory in _root().glob(f"{Path(folder).name}-*"):
            cgroup = cls.__new__(cls)
            cgroup.directory = directory
            found.append(cgroup)
        return found

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

    def settle(self, seconds=REST, still=1):
        """Waits until it does next to nothing, in so many looks one behind the other: what a message costs afterwards counts too. Whether it came
        to that in time."""
        return not settle({"": self}, seconds, still)

    def kill(self):
        """Ends all."""
        (self.directory / "cgroup.kill").write_text("1")
        while self.processes():
            time.sleep(0.01)

    def remove(self):
        """Ends whoever is still in it, and takes it back."""
        self.kill()
        self.directory.rmdir()


def settle(cgroups, seconds=REST, still=1):
    """Waits until all of these are at rest at the same time, in so many looks one behind the other; the names of those that never were."""
    end, seen, busy_ones = time.monotonic() + seconds, 0, list(cgroups)
    before, at = {name: cgroup.seconds() for name, cgroup in cgroups.items()}, time.monotonic()
    while seen < still and time.monotonic() < end:
        time.sleep(_LOOK)
        now, now_at = {name: cgroup.seconds() for name, cgroup in cgroups.items()}, time.monotonic()
        busy_ones = [name for name in cgroups if now[name] - before[name] >= _QUIET * (now_at - at)]
        seen = 0 if busy_ones else seen + 1
        before, at = now, now_at
    return [] if seen >= still else busy_ones or list(cgroups)


def _root():
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise Unavailable("no cgroup v2 is mounted, which counts processor time")


def probes_of(folder):
    """The name of perf's probes of the run of a folder; it takes no hyphen."""
    return Path(folder).name.replace("-", "_")


def wanted(process):
    """Processor time that the first thread of a process had so far, and that it waited for, seconds: one that always wants some is a bottleneck."""
    ran, waited, _ = map(int, Path(f"/proc/{process}/schedstat").read_text().split())
    return (ran + waited) / 1e9


def busy():
    """Processor time of the whole machine so far, seconds: whoever else works here makes rates worth less."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Disk:
    """A file system of its own on a loop device: what is written to it is this server's mail, and what its file system adds."""

    def __init__(self, directory, mebibytes=3072):
        image = Path(directory) / "disk.image"
        self.place = Path(directory) / "disk"
        self.place.mkdir(parents=True)
        with contextlib.ExitStack() as undo:
            undo.callback(image.unlink, missing_ok=True)
            with open(image, "wb") as file:
                file.truncate(mebibytes << 20)
            try:
                must(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image])
                # Before the mount: one that is interrupted may have come to be.
                undo.callback(subprocess.run, ["umount", "-l", str(self.place)], check=False, stderr=subprocess.DEVNULL)
                must(["mount", "-o", "loop", image, self.place])
            except Fault as fault:
                raise Unavailable(f"no loop device: {fault}") from fault
            self.place.chmod(0o755)
            source = next(line.split()[0] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == str(self.place))
            self._figures = Path("/sys/block") / Path(source).name / "stat"
            self._undo = undo.pop_all()

    def written(self):
        """Octets written to the device so far; what the kernel holds back is written first."""
        must(["sync", "-f", self.place])
        return int(self._figures.read_text().split()[6]) * 512

    def remove(self):
        """Unmounts it and removes the image."""
        self._undo.close()
