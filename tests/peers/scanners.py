"""sslscan and testssl.sh look at both listeners: nothing above informational, but for what is named here with its reason.

A name that is no longer found is a fault too, so that the list stays true.
"""

import json
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

from bench import Check, Skip
from relay import Relay, upstream
from wait import Fault, free_ports, missing, run

# How long a scan may take, seconds.
SCAN = 420
# testssl.sh: id of the finding, and why it may be.
ALLOWED = {
    "cipher_order": "only forward-secret AEAD ciphers are left to choose from, and the client knows which of them its hardware does well",
    "cert_expirationStatus": "the certificate of this test lives for three days",
    "cert_notAfter": "the certificate of this test lives for three days",
    "cert_revocation": "the test's own CA names no place for its CRL",
    "engine_problem": "of the machine that scans: its OpenSSL has no GOST",
}
_HARMLESS = ("OK", "INFO", "DEBUG")
_CIPHERS = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}


class Scanners:
    """The checks; a relay of their own."""

    def __init__(self, program, directory, certificates):
        self.directory, self.certificates = directory / "scanners", certificates
        self.directory.mkdir()
        (port,) = free_ports(1)
        # Scanners connect as no client does.
        limits = "\n\n[limits]\nconnections_per_minute = 100000\nconnections_per_address = 1000"
        self.relay = Relay(program, self.directory / "relay", certificates, upstream(port) + limits)
        self._pool, self._scans = ThreadPoolExecutor(), {}

    def start(self):
        """The long scans begin; they mostly wait, so the other checks go on meanwhile."""
        self.relay.start()
        if not missing(["testssl"]):
            self._scans = {way: self._pool.submit(self._scan, way) for way in self.relay.target.ports}

    def checks(self):
        for way in self.relay.target.ports:
            yield Check(f"sslscan, {way}: TLS 1.2 and 1.3 with forward secrecy, nothing else", lambda way=way: self._sslscan(way))
        for way in self.relay.target.ports:
            yield Check(f"testssl.sh, {way}: no finding above informational without a reason", lambda way=way: self._testssl(way))
        yield Check("the relay that was scanned still serves and ends with 0", self.relay.stop)

    def abort(self):
        self.relay.abort()
        self._pool.shutdown()

    def _sslscan(self, way):
        _needs("sslscan")
        file = self.directory / f"sslscan-{way}.xml"
        options = ["--starttls-smtp"] if way == "starttls" else []
        status, said = run(["sslscan", f"--xml={file}", *options, f"localhost:{self.relay.target.ports[way]}"])
        if status != 0 or not file.exists():
            raise Fault(said)
        found = ElementTree.parse(file).getroot()
        enabled = {(one.get("type"), one.get("version")) for one in found.iter("protocol") if one.get("enabled") == "1"}
        ciphers = {one.get("cipher") for one in found.iter("cipher")}
        if enabled != {("tls", "1.2"), ("tls", "1.3")} or ciphers != _CIPHERS:
            raise Fault(f"{enabled} {ciphers}")
        weak = [one.tag for one in found.iter("heartbleed") if one.get("vulnerable") != "0"]
        weak += [one.tag for one in found.iter("renegotiation") if one.get("supported") != "0" and one.get("secure") != "1"]
        weak += [one.tag for one in found.iter("compression") if one.get("supported") != "0"]
        if weak:
            raise Fault(f"{weak}\n{said}")

    def _testssl(self, way):
        _needs("testssl")
        found = self._scans[way].result()
        if len(found) < 40 or not any(one["id"] == "heartbleed" for one in found):
            raise Fault(f"not a whole scan: {found}")
        bad = {one["id"]: one for one in found if one["severity"] not in _HARMLESS}
        if unknown := set(bad) - set(ALLOWED):
            raise Fault("\n".join(str(bad[one]) for one in unknown))
        if gone := set(ALLOWED) - set(bad):
            raise Fault(f"no longer found, so take it from the list: {gone}")

    def _scan(self, way):
        file = self.directory / f"testssl-{way}.json"
        options = ["--starttls", "smtp"] if way == "starttls" else []
        # What it computes must not slow the checks that run meanwhile.
        status, said = run(["nice", "-n", "19", "testssl", "--warnings", "batch", "--color", "0", "--quiet", "--jsonfile", file, "--nodns", "none", "--ip", "127.0.0.1",
                            "--add-ca", self.certificates.ca, "--protocols", "--std", "--server-preference", "--server-defaults", "--pfs",
                            "--vulnerable", *options, f"localhost:{self.relay.target.ports[way]}"],
                           seconds=SCAN, environment={"TERM": "dumb"})
        if not file.exists():
            raise Fault(f"{status}: {said}")
        return json.loads(file.read_text())


def _needs(program):
    if missing([program]):
        raise Skip(f"not on this machine: {program}")
