"""Debian's packages, unpacked where nobody but these tests sees them: not installed, no service started, nothing of the system replaced.

Mail servers conflict with each other as packages, and a package of Python belongs to Debian's Python, which need not be this machine's. What was
unpacked once stays in target/peers, as does what Debian does not have and comes from PyPI. A package that can't be had is a `Skip` with its reason.
"""

import fcntl
import shutil
import sys
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bench import Skip
from wait import missing, must, run

_KEPT = Path(__file__).resolve().parents[2] / "target" / "peers"


_SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian {suite} main\n"


@cache
def unpacked(*names, suite=None):
    """A directory with these packages in it, of this machine's release or of that `suite`. Not their dependencies: name what is needed of them."""
    place = _KEPT / "+".join([*names[:2], *([suite] if suite else [])])
    if not place.exists():
        if lacking := missing(["apt-get", "dpkg-deb"]):
            raise Skip(f"not on this machine: {', '.join(lacking)}")
        _KEPT.mkdir(parents=True, exist_ok=True)
        with _alone():
            if not place.exists():
                _unpack_whole(place, names, suite)
    return place


@cache
def of_pypi(*packages):
    """A directory with these packages of PyPI in it, each `name==version`; for Python's own path. Not their dependencies."""
    place = _KEPT / "+".join(packages)
    if not place.exists():
        _KEPT.mkdir(parents=True, exist_ok=True)
        with _alone():
            if not place.exists():
                _install_whole(place, packages)
    return place


def _install_whole(place, packages):
    beginning = Path(tempfile.mkdtemp(dir=_KEPT))
    try:
        status, said = run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", beginning, *packages], seconds=180)
        if status != 0:
            raise Skip(f"can't be had of PyPI: {' '.join(packages)}: {(said.strip().splitlines() or ['?'])[-1]}")
        beginning.rename(place)
    except BaseException:
        shutil.rmtree(beginning, ignore_errors=True)
        raise


@contextmanager
def _alone():
    """Only one process of these tests asks for packages at a time."""
    with open(_KEPT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_whole(place, names, suite):
    # Under its name only once it is whole.
    beginning = Path(tempfile.mkdtemp(dir=_KEPT))
    try:
        _unpack(beginning, names, suite)
        beginning.rename(place)
    except BaseException:
        shutil.rmtree(beginning, ignore_errors=True)
        raise


def _unpack(directory, names, suite):
    directory.chmod(0o755)
    for name in ("lib", "lib64"):
        (directory / "usr" / name).mkdir(parents=True)
        (directory / name).symlink_to(f"usr/{name}")
    with tempfile.TemporaryDirectory() as downloads:
        for file in _downloaded(Path(downloads), names, suite):
            must(["dpkg-deb", "-x", file, directory])


def _downloaded(directory, names, suite):
    # The sandbox of apt may not write in a directory of root's.
    options = ["-o", "APT::Sandbox::User=root", *(_of(suite, directory) if suite else [])]
    command = ["sh", "-c", 'cd "$0" && apt-get "$@"', directory, *options, "download", *names]
    if suite or run(command)[0] != 0:
        run(["apt-get", *options, "update"], seconds=180)
        status, said = run(command, seconds=180)
        if status != 0:
            raise Skip(f"can't be downloaded: {' '.join(names)}: {said.strip().splitlines()[-1]}")
    return sorted(directory.glob("*.deb"))


def _of(suite, directory):
    """Options of apt that make it read that suite's list, in a place of its own, and nothing else."""
    for name in ("lists/partial", "cache/archives/partial"):
        (directory / name).mkdir(parents=True)
    (directory / "sources").write_text(_SOURCE.format(suite=suite))
    for name, value in {"Dir::Etc::sourcelist": directory / "sources", "Dir::Etc::sourceparts": "-", "Dir::State::lists": directory / "lists",
                        "Dir::Cache": directory / "cache", "Acquire::Languages": "none",
                        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false"}.items():
        yield from ["-o", f"{name}={value}"]
