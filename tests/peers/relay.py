"""sealpost itself, as a process: its configuration, start (told ready by sd_notify), log lines as events, stop."""

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

from clients import Target
from wait import PATIENCE, Fault, free_ports, must

_CONFIGURATION = """\
hostname = "localhost"
data_dir = "data"

[[listener]]
address = "127.0.0.1:{starttls}"
mode = "starttls"

[[listener]]
address = "127.0.0.1:{implicit}"
mode = "implicit"

[tls]
certificate = "{certificate}"
private_key = "{key}"

[[client_ca]]
name = "staff"
{authority}
revocation = "require"
domains = ["example.com"]
send_as_email = true
send_to = ["*"]

[queue]
retry = ["1s"]

{upstream}
"""


def upstream(port, **settings):
    """An [[upstream]] on this machine."""
    lines = ['[[upstream]]', 'name = "postfix"', f'address = "localhost:{port}"']
    written = lambda value: str(value).lower() if isinstance(value, bool) else f'"{value}"'
    lines += [f"{name} = {written(value)}" for name, value in {"tls": "none", **settings}.items()]
    return "\n".join(lines)


class Relay:
    """One sealpost."""

    def __init__(self, program, directory, certificates, upstream_text):
        self.program = Path(program)
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        (self.directory / "data").mkdir(mode=0o700)
        starttls, implicit = free_ports(2)
        self.target = Target({"starttls": starttls, "implicit": implicit}, certificates.ca)
        self.configuration = self.directory / "sealpost.toml"
        certificate, key = certificates.server
        self.configuration.write_text(_CONFIGURATION.format(
            starttls=starttls, implicit=implicit, certificate=certificate, key=key, authority=certificates.authority_lines(),
            upstream=upstream_text))
        self._process = None
        self._starts = 0
        self._lines = []
        self._news = threading.Condition()

    def start(self):
        """Returns when it says that it is ready."""
        # A socket for each start: the end of one daemon is never told to those who wait for the next.
        self._starts += 1
        path = self.directory / f"notify-{self._starts}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.bind(str(path))
            told.settimeout(PATIENCE)
            self._process = subprocess.Popen(
                [self.program, "serve", "--config", self.configuration],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                env={**os.environ, "NOTIFY_SOCKET": str(path)},
            )
            threading.Thread(target=self._read_log, args=(self._process.stderr, path), daemon=True).start()
            while b"READY=1" not in (said := told.recv(4096)):
                if said == b"ENDED":
                    raise Fault(f"sealpost ended before it was ready:\n{self.log()}")

    @property
    def process_id(self):
        return self._process.pid

    def reload(self):
        """SIGHUP; returns when it says that it reads what is new."""
        seen = self.log().count("reloaded")
        self._process.send_signal(signal.SIGHUP)
        with self._news:
            if not self._news.wait_for(lambda: "".join(self._lines).count("reloaded") > seen, timeout=PATIENCE):
                raise Fault(f"sealpost never said that it has reloaded:\n{''.join(self._lines[-40:])}")

    def stop(self):
        """A drain: SIGTERM, and the exit status must be 0."""
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired as late:
            self._process.kill()
            raise Fault("sealpost did not end after SIGTERM") from late
        if status != 0:
            raise Fault(f"sealpost ended with {status}:\n{self.log()}")

    def abort(self):
        """At once, and no matter whether it runs."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def queue(self, *words):
        """What `sealpost queue` says."""
        return must([self.program, "queue", words[0], "--config", self.configuration, *words[1:]])

    def log(self):
        with self._news:
            return "".join(self._lines)

    def wait_for_log(self, pattern, seconds=PATIENCE):
        """The first log line that matches."""
        wanted = re.compile(pattern)

        def found():
            return next((line for line in self._lines if wanted.search(line)), None)

        with self._news:
            if not self._news.wait_for(found, timeout=seconds):
                raise Fault(f"sealpost's log never said {pattern!r} within {seconds} s:\n{''.join(self._lines[-40:])}")
            return found()

    def _read_log(self, stream, notify_path):
        with open(self.directory / "log", "ab") as file:
            for line in stream:
                file.write(line)
                file.flush()
                with self._news:
                    self._lines.append(line.decode("utf-8", "replace"))
                    self._news.notify_all()
        # The process has ended: whoever still waits for "ready" must not wait on.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as tell:
            try:
                tell.sendto(b"ENDED", str(notify_path))
            except OSError:
                pass  # Nobody waits.
