"""The peers' programs, from Debian's packages, in private directories: nothing is installed, no service starts, packages that exclude one another
stand side by side. What a package would have set up on the system (a user of its own) is made here, and named when it is.
"""

import os
import platform
import stat
import subprocess
from pathlib import Path

from wait import Fault, must

# What ldd says of a library that is not there.
_ABSENT = "not found"


class Unavailable(Exception):
    """This peer can't be had on this machine, and why."""


def own(directory):
    """Makes the directory, or takes it when it is root's own: what lies in it is run as root."""
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        about = directory.lstat()
    except OSError as fault:
        raise Fault(f"{directory}, for the peers' programs: {fault.strerror}") from fault
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise Fault(f"{directory} must be a directory of root's own into which nobody else writes: programs are taken from it and run as root")


def unpack(names, directory, suite=None):
    """The packages' files under `directory`; of `suite` where the system's own version can't do the job."""
    directory = Path(directory)
    done = directory / ".unpacked"
    if done.exists():
        return directory
    debs = directory / "packages"
    (debs / "partial").mkdir(parents=True, exist_ok=True)
    options = []
    if suite:
        options = _lists_of(suite, debs)
    else:
        _run(["apt-get", "update"])
    for name in names:
        _run(["apt-get", *options, "download", name], cwd=debs)
    for package in sorted(debs.glob("*.deb")):
        _run(["dpkg-deb", "-x", package, directory])
    done.touch()
    return directory


def _lists_of(suite, debs):
    """Options by which apt knows this suite alone, without a change to the system's own lists."""
    sources = debs / "sources.list"
    sources.write_text(f"deb http://deb.debian.org/debian {suite} main\n")
    (debs / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = []
    for setting in [f"Dir::Etc::SourceList={sources}", "Dir::Etc::SourceParts=/dev/null", f"Dir::State::Lists={debs / 'lists'}",
                    "Dir::Cache::pkgcache=", "Dir::Cache::srcpkgcache="]:
        options += ["-o", setting]
    _run(["apt-get", *options, "update"])
    return options


def codename():
    """The name of this Debian's release; a machine without one has no peers."""
    try:
        return platform.freedesktop_os_release()["VERSION_CODENAME"]
    except (OSError, KeyError, AttributeError) as none:
        raise Unavailable("this is no Debian whose packages could be taken") from none


def loadable(program):
    """Raises when libraries of the program are missing: they come with packages that are not unpacked here."""
    said = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    missing = [line.split()[0] for line in said.splitlines() if _ABSENT in line]
    if missing:
        raise Unavailable(f"{Path(program).name} needs libraries that are not installed: {', '.join(missing)}")


def user(name):
    """A system user without a home, as the package's own script makes it; it stays."""
    if subprocess.run(["id", name], capture_output=True, check=False).returncode == 0:
        return
    print(f"making the system user {name}, which the package wants", flush=True)
    must(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name])


def version(package_directory, name):
    """What dpkg calls the version of an unpacked package."""
    package = next(Path(package_directory, "packages").glob(f"{name}_*.deb"))
    return must(["dpkg-deb", "-f", package, "Version"]).strip()


def _run(command, cwd=None):
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(map(str, command))}: {done.stdout.decode(errors='replace').strip()[-300:]}")


