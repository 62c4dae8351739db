"""A run's folder, and what a run leaves that was killed before it could take anything back (SIGKILL, no memory left): processes, mounts, loop
devices, perf's probes, cgroups and the folder. The next run with the same --directory clears it, and says what.

The folder says whose it is: a process, the moment that one began, and of which boot. Cgroups and probes bear the folder's name. Never is a process
ended that is in no cgroup of a folder whose run has gone, and never is anything touched of a folder that is not ours, or does not say whose it is.
What can't be cleared is said and stays; no run ends of it.
"""

import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import figures
from packages import Unavailable
from wait import Fault, must

PREFIX = "sealpost-compare-"
# The file that says whose a folder is.
_OWNER = "owner.json"
# How long the kernel may take to let a mount, a loop device or a cgroup go, seconds.
_PATIENCE = 10
_PROBES = Path("/sys/kernel/tracing/uprobe_events")


def begin(parent):
    """A folder of this run's own, which says so."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    folder.chmod(0o755)
    (folder / _OWNER).write_text(json.dumps({"process": os.getpid(), "began": _began(os.getpid()), "boot": _boot()}))
    return folder


def clear(parent):
    """Clears what runs have left that are gone; a line for each that says what."""
    for folder in sorted(Path(parent).glob(PREFIX + "*")):
        owner = _owner(folder)
        if owner is not None and gone(owner, _boot(), _began(owner["process"])):
            yield _clear(folder, owner)


def gone(owner, boot, began):
    """Whether the run that wrote this has ended: the process of that number began at another moment, or there is none (None), or the machine has
    been started anew."""
    return owner["boot"] != boot or owner["began"] != began


def _owner(folder):
    """Whose a folder is; None where it does not say so, or is another user's."""
    try:
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
            return None
        return read_owner((folder / _OWNER).read_text())
    except OSError:
        return None


def read_owner(text):
    """What a folder says of its run; None where that is nothing of ours."""
    try:
        owner = json.loads(text)
        return owner if isinstance(owner["process"], int) and isinstance(owner["began"], int) and isinstance(owner["boot"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _boot():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _began(process):
    try:
        return began(Path(f"/proc/{process}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


def began(text):
    """When a process began, in ticks since the boot; None of one that has ended and waits to be reaped. The program's name may hold anything."""
    state, *numbers = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])


def _clear(folder, owner):
    """Clears one run's; what of it was there. What uses a thing goes before it."""
    cleared, failed = [], []
    for what, work in (("process(es)", _processes), ("mount(s)", _mounts), ("loop device(s)", _loops), ("set(s) of probes", _probes)):
        try:
            if count := work(folder):
                cleared.append(f"{count} {what}")
        except (Fault, OSError) as fault:
            failed.append(f"{what}: {fault}")
    # Never through a mount that stayed.
    if not _under(folder):
        shutil.rmtree(folder, ignore_errors=True)
        (failed if folder.exists() else cleared).append("the folder")
    return told(folder, owner["process"], cleared, failed)


def told(folder, process, cleared, failed):
    """What was cleared, and what was not, as one line."""
    text = f"{folder} was left by a run that was killed (process {process}); cleared: {', '.join(cleared) or 'nothing'}"
    return text + (f"; still there: {'; '.join(failed)}" if failed else "")


def _processes(folder):
    """Ends those in its cgroups, and takes these back."""
    try:
        left = figures.Cgroup.left_by(folder)
    except Unavailable:
        return 0
    count = 0
    for cgroup in left:
        try:
            count += len(cgroup.processes())
            (cgroup.directory / "cgroup.kill").write_text("1")
            _until(lambda group=cgroup: not group.processes() and _taken(group.directory), f"{cgroup.directory} is in use")
        except FileNotFoundError:
            pass  # Another run clears the same.
    return count


def _taken(directory):
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _until(holds, what):
    end = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise Fault(what)
        time.sleep(0.05)


def _under(folder):
    return mounts(Path("/proc/self/mounts").read_text(), folder)


def mounts(text, folder):
    """The places under a folder where something is mounted, the last one first; `text` is the kernel's list, which writes what would part its words as octal numbers."""
    places = [line.split()[1].encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "surrogateescape") for line in text.splitlines()]
    return [Path(place) for place in reversed(places) if folder in Path(place).parents]


def _mounts(folder):
    found = _under(folder)
    for place in found:
        if subprocess.run(["umount", place], check=False, stderr=subprocess.DEVNULL).returncode != 0:
            # Somebody stands in it; it goes when he does.
            subprocess.run(["umount", "-l", place], check=False, stderr=subprocess.DEVNULL)
    if left := _under(folder):
        raise Fault(", ".join(map(str, left)))
    return len(found)


def _loops(folder):
    """A loop device goes with its mount, mostly: how many had to be told, or were about to go."""
    found = 0
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        if _holds(file, folder):
            device = f"/dev/{file.parts[-3]}"
            # One that is another's by now, and mounted, only goes with its mount, as it would anyway.
            subprocess.run(["losetup", "-d", device], check=False, stderr=subprocess.DEVNULL)
            _until(lambda held=file: not _holds(held, folder), f"{device} is in use")
            found += 1
    return found


def _holds(file, folder):
    """Whether a loop device has its image under the folder, as the kernel tells."""
    try:
        return file.read_text().startswith(f"{folder}/")
    except OSError:
        return False  # It has gone meanwhile.


def _probes(folder):
    """perf's, of the row `allocations`: they slow whoever allocates."""
    group = figures.probes_of(folder)
    try:
        there = f":{group}/" in _PROBES.read_text()
    except OSError:
        return 0
    if there:
        must(["perf", "probe", "-q", "-d", f"{group}:*"])
    return int(there)
