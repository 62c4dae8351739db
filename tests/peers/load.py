"""A short load on sealpost, for correctness alone: many clients at once, everything answered 250 arrives, once, with the body it had. Nothing is timed.

Clients and upstream are the programs of benches/compare, which measures; whether that judges rightly is looked at, too.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from bench import Check
from relay import Relay, upstream
from wait import PATIENCE, Fault, free_ports, must

# Name, mode of the listener, and what the load is told.
_LOADS = [
    ("pipelined, 4 KB, thirty sessions of ten", "starttls", {"messages": 300, "octets": 4096, "per-connection": 10}),
    ("a command at a time, three recipients", "starttls", {"messages": 60, "octets": 4096, "recipients": 3, "pace": "one-by-one"}),
    ("75 KB, TLS from the start", "implicit", {"messages": 60, "octets": 76800}),
    ("600 KB, in files of their own", "implicit", {"messages": 20, "octets": 600_000}),
]
_CONNECTIONS = 20


class Load:
    """The checks, and the programs and the directory they work with."""

    def __init__(self, sealpost, programs, directory):
        self._sealpost, self._load, self._sink, self._directory = sealpost, programs / "load", programs / "sink", directory

    def checks(self):
        yield Check("twenty clients at once: what is answered 250 arrives, once", self._all_arrives)
        yield Check("the measurement beside other servers: arithmetic and verdicts", self._judged_rightly)

    def _judged_rightly(self):
        must([sys.executable, Path(__file__).resolve().parents[2] / "benches/compare/check.py"])

    def _all_arrives(self):
        made = self._directory / "certificates"
        must([self._load, "certificates", made, _CONNECTIONS])
        authority = f'certificates = "{made}/ca.pem"\ncrls = ["{made}/ca.crl"]'
        certificates = SimpleNamespace(ca=made / "ca.pem", server=(made / "localhost.pem", made / "localhost.key"),
                                       authority_lines=lambda: authority)
        (port,) = free_ports(1)
        with subprocess.Popen([self._sink, f"127.0.0.1:{port}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as sink:
            sink.stdout.readline()
            relay = Relay(self._sealpost, self._directory / "relay", certificates, upstream(port))
            try:
                relay.start()
                for number, (name, mode, told) in enumerate(_LOADS):
                    self._one(relay, made, sink, f"load{number}", name, mode, told)
                relay.stop()
            finally:
                relay.abort()
                sink.kill()

    def _one(self, relay, made, sink, run, name, mode, told):
        options = [word for key, value in told.items() for word in (f"--{key}", value)]
        said = json.loads(must([self._load, "send", "--server", f"127.0.0.1:{relay.target.ports[mode]}", "--mode", mode, "--certificates", made,
                                "--connections", _CONNECTIONS, "--run", run, *options], seconds=2 * PATIENCE))
        if said["accepted"] != told["messages"] or said["broken"]:
            raise Fault(f"{name}: not all was accepted, or {said['broken']} sessions broke: {said['said']}")
        sink.stdin.write(f"wait {run} {told['messages']} {PATIENCE}\n")
        came = json.loads(sink.stdout.readline())
        if (came["unique"], came["duplicates"], came["changed"], came["others"]) != (told["messages"], 0, 0, 0):
            raise Fault(f"{name}: {came}")
