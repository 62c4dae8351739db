"""A directory that a mail server takes for the whole machine (chroot): its package, its libraries, its own users, its own /etc.

So its paths and users may be built in, and nothing is installed, and no file of the system is read or written. Needs root.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

from bench import Skip
from wait import PATIENCE, Fault, must, reachable

_FILES = {
    "hosts": "127.0.0.1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\nservices: files\n",
    "services": "smtp 25/tcp\nsubmissions 465/tcp\nsubmission 587/tcp\nlmtp 24/tcp\n",
    "resolv.conf": "nameserver 127.0.0.1\n",
}
_DEVICES = {"null": 3, "urandom": 9, "random": 8}


class Jail:
    """One such directory, and the one server that runs in it. `package` is what `packages.unpacked` gave."""

    def __init__(self, directory, package, users):
        self.root = Path(directory)
        self._accounts = {"root": 0, **{user: 900 + n for n, user in enumerate(users)}}
        shutil.copytree(package, self.root, symlinks=True)
        for name in ("dev", "tmp", "etc", "run"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o755)
        (self.root / "tmp").chmod(0o1777)
        for name, number in _DEVICES.items():
            try:
                os.mknod(self.root / "dev" / name, stat.S_IFCHR, os.makedev(1, number))
            except PermissionError as fault:
                raise Skip("no devices can be made here (mknod), so there is no jail for this server") from fault
            (self.root / "dev" / name).chmod(0o666)
        for name, text in _FILES.items():
            self.write(f"etc/{name}", text)
        self.write("etc/passwd", "".join(f"{user}:x:{number}:{number}::/var/empty:/bin/false\n" for user, number in self._accounts.items()))
        self.write("etc/group", "".join(f"{user}:x:{number}:\n" for user, number in self._accounts.items()))
        self._process = None

    def write(self, name, text, mode=0o644, user="root"):
        """A file; what was there is replaced."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(text)
        os.chown(file, self._accounts[user], self._accounts[user])
        file.chmod(mode)

    def room(self, name, mode, user="root", group=None):
        """A directory of that user's."""
        place = self.root / name
        place.mkdir(parents=True, exist_ok=True)
        os.chown(place, self._accounts[user], self._accounts[group or user])
        place.chmod(mode)

    def libraries_of(self, program):
        """Copies what the program is linked with."""
        for file in re.findall(r"(/\S+) \(0x", must(["ldd", self.root / program])):
            there = self.root / file.lstrip("/")
            there.parent.mkdir(parents=True, exist_ok=True)
            if not there.exists():
                shutil.copy(Path(file).resolve(), there)

    def start(self, command, port):
        """Runs the server; returns when the port is open."""
        with open(self.root / "said", "ab") as said:
            self._process = subprocess.Popen(["chroot", self.root, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                                             start_new_session=True)
        reachable(port, self._process, self.said)

    def stop(self):
        """SIGTERM, and wait."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired as late:
            raise Fault(f"it did not end:\n{self.said()}") from late
        finally:
            self.abort()

    def abort(self):
        """At once, with all that it started, and no matter whether it runs."""
        if not self._process:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def said(self):
        file = self.root / "said"
        return file.read_text(errors="replace") if file.exists() else ""
