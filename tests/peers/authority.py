"""Checks of `sealpost pki`: what it makes is read and verified by OpenSSL, GnuTLS and NSS; its directory survives kill -9 and many hands.

Random moments of kill -9 come from a seed, so a run repeats as far as the machine lets it.
"""

import json
import random
import subprocess
import time
from pathlib import Path

from bench import Check, Skip
from wait import Fault, missing, must, run

KINDS = ("p256", "ed25519", "rsa")
AGES = ("modern", "legacy")
PASSWORD = "open sesame"
# How often a command is killed.
KILLS = 25
HANDS = 8


class Pki:
    """One directory of `sealpost pki`."""

    def __init__(self, program, directory, *init):
        self.program, self.directory = Path(program).absolute(), Path(directory)
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.say("init", "--name", "Peers", *init)
        self.password = self.directory / "password"
        self.password.write_text(PASSWORD + "\n")

    def command(self, word, *more):
        return [self.program, "pki", word, "--dir", self.directory, *more]

    def say(self, word, *more):
        return must(self.command(word, *more))

    def file(self, name):
        return self.directory / name

    def issue(self, name, *more):
        """Certificate and key."""
        self.say("issue", "--file", name, *more)
        return self.file(f"{name}.pem"), self.file(f"{name}.key")

    def listed(self):
        return [json.loads(line) for line in self.say("list", "--json").splitlines()]

    def authority_lines(self):
        """What the relay's [[client_ca]] says of the CA."""
        return (f'certificates = "{self.file("ca.pem")}"\nintermediates = "{self.file("issuing.pem")}"\n'
                f'crls = ["{self.file("ca.crl")}", "{self.file("issuing.crl")}"]')


class Authorities:
    """The checks."""

    def __init__(self, program, directory):
        self.program, self.directory = program, directory

    def checks(self):
        pki = Pki(self.program, self.directory / "bundles")
        for kind in KINDS:
            for age in AGES:
                made = f"{kind}, {age}"
                yield Check(f"PKCS#12, {made}: made, and read by OpenSSL", lambda k=kind, a=age: self._openssl_reads(pki, k, a))
                yield Check(f"PKCS#12, {made}: read by GnuTLS", lambda k=kind, a=age: self._gnutls_reads(pki, k, a))
                # NSS of Debian 12 has no Ed25519 keys; `issue --help` says so.
                if kind != "ed25519":
                    yield Check(f"PKCS#12, {made}: imported by NSS", lambda k=kind, a=age: self._nss_imports(pki, k, a))
            yield Check(f"certificate, {kind}: verified by OpenSSL with CRLs, and by GnuTLS", lambda k=kind: self._verified(pki, k))
        yield Check("a revoked certificate is refused by OpenSSL and GnuTLS", lambda: self._revoked(pki))
        yield Check("a revoked issuing CA is refused by OpenSSL", self._revoked_issuing)
        yield Check("kill -9 at any moment leaves a directory that works", self._killed)
        yield Check("many commands at once leave one index that knows all", self._many_hands)

    def _openssl_reads(self, pki, kind, age):
        pki.issue(f"{kind}-{age}", "--email", "alice@example.com", "--key", kind, "--p12", age, "--p12-password-file", pki.password)
        bundle = pki.file(f"{kind}-{age}.p12")
        words = ["openssl", "pkcs12", "-in", bundle, "-passin", f"pass:{PASSWORD}", "-nodes"]
        said = must([*words, *(["-legacy"] if age == "legacy" else [])])
        if said.count("BEGIN CERTIFICATE") != 3 or said.count("BEGIN PRIVATE KEY") != 1:
            raise Fault(said)
        shown = must(["openssl", "pkcs12", "-in", bundle, "-passin", f"pass:{PASSWORD}", "-info", "-noout",
                      *(["-legacy"] if age == "legacy" else [])])
        wanted = ("MAC: sha1", "3-KeyTripleDES") if age == "legacy" else ("MAC: sha256", "AES-256-CBC")
        if not all(word.lower() in shown.lower() for word in wanted):
            raise Fault(f"not {wanted}:\n{shown}")

    @staticmethod
    def _gnutls_reads(pki, kind, age):
        needs("certtool")
        said = must(["certtool", "--p12-info", "--inder", "--infile", pki.file(f"{kind}-{age}.p12"), "--password", PASSWORD])
        if said.count("BEGIN CERTIFICATE") != 3 or "PRIVATE KEY" not in said:
            raise Fault(said)

    @staticmethod
    def _nss_imports(pki, kind, age):
        needs("pk12util", "certutil")
        database = pki.directory.parent / f"nss-{kind}-{age}"
        database.mkdir()
        must(["certutil", "-N", "-d", f"sql:{database}", "--empty-password"])
        must(["pk12util", "-i", pki.file(f"{kind}-{age}.p12"), "-d", f"sql:{database}", "-W", PASSWORD])
        keys = must(["certutil", "-K", "-d", f"sql:{database}"])
        if "alice@example.com" not in keys and "< 0>" not in keys:
            raise Fault(keys)

    @staticmethod
    def _verified(pki, kind):
        needs("certtool")
        must(openssl_verify(pki, pki.file(f"{kind}-modern.pem")))
        must(gnutls_verify(pki, pki.file(f"{kind}-modern.pem")))

    @staticmethod
    def _revoked(pki):
        needs("certtool")
        certificate, _ = pki.issue("gone", "--email", "gone@example.com", "--no-p12")
        must(openssl_verify(pki, certificate))
        pki.say("revoke", certificate, "--reason", "key-compromise")
        for command in (openssl_verify(pki, certificate), gnutls_verify(pki, certificate)):
            status, said = run(command)
            if status == 0 or "revoked" not in said:
                raise Fault(f"{command[0]}: {status}\n{said}")

    def _revoked_issuing(self):
        pki = Pki(self.program, self.directory / "compromised")
        certificate, _ = pki.issue("alice", "--email", "alice@example.com", "--no-p12")
        away = self.directory / "root.key"
        pki.file("ca.key").rename(away)
        status, said = run(pki.command("revoke", "issuing", "--reason", "ca-compromise"))
        if status == 0 or "--root-key" not in said:
            raise Fault(said)
        pki.say("revoke", "issuing", "--reason", "ca-compromise", "--root-key", away)
        status, said = run(openssl_verify(pki, certificate))
        if status == 0 or "revoked" not in said:
            raise Fault(said)

    def _killed(self):
        pki = Pki(self.program, self.directory / "killed")
        began = time.monotonic()
        pki.issue("measured", "--email", "measured@example.com", "--no-p12")
        whole, moments, killed = time.monotonic() - began, random.Random(9), 0
        # How long a command takes is known only as it goes on: the first, which reads the program from the disk, is the slowest.
        for number in range(4 * KILLS):
            if number >= KILLS and killed >= KILLS / 5:
                break
            began = time.monotonic()
            word = ("issue", "--email", f"p{number}@example.com", "--file", f"p{number}", "--no-p12") if number % 2 == 0 else (
                "renew", f"p{number - 1}", "--revoke-old", "--no-p12")
            process = subprocess.Popen(list(map(str, pki.command(*word))), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                process.wait(moments.uniform(whole / 4, whole))
                whole = min(whole, time.monotonic() - began)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
            known = {entry["name"] for entry in pki.listed()}
            name = f"p{number - number % 2}"
            if name in known:
                self._matches(pki, name)
            else:
                pki.issue(name, "--email", f"{name}@example.com", "--no-p12")
        left = [path.name for path in pki.directory.iterdir() if path.name.startswith("change") or path.suffix == ".new"]
        if left or killed < KILLS / 5:
            raise Fault(f"left: {left}, killed in time: {killed}")

    @staticmethod
    def _matches(pki, name):
        """The files of a name the index knows hold a key and the certificate for it."""
        key = must(["openssl", "pkey", "-in", pki.file(f"{name}.key"), "-pubout"])
        certified = must(["openssl", "x509", "-in", pki.file(f"{name}.pem"), "-noout", "-pubkey"])
        if key != certified:
            raise Fault(f"{name}: the key and the certificate do not belong together")

    def _many_hands(self):
        pki = Pki(self.program, self.directory / "hands")
        started = [subprocess.Popen(list(map(str, pki.command("issue", "--email", f"h{n}@example.com", "--file", f"h{n}"))),
                                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for n in range(HANDS)]
        for process in started:
            _, said = process.communicate(timeout=60)
            if process.returncode != 0:
                raise Fault(said.decode())
        names = {entry["name"] for entry in pki.listed()}
        if names != {"issuing", *(f"h{n}" for n in range(HANDS))}:
            raise Fault(f"the index knows {sorted(names)}")


def needs(*programs):
    if lacking := missing(programs):
        raise Skip(f"not on this machine: {', '.join(lacking)}")


def openssl_verify(pki, certificate):
    return ["openssl", "verify", "-CAfile", pki.file("ca.pem"), "-untrusted", pki.file("issuing.pem"), "-crl_check_all",
            "-CRLfile", pki.file("ca.crl"), "-CRLfile", pki.file("issuing.crl"), certificate]


def gnutls_verify(pki, certificate):
    crls = pki.directory.parent / f"{pki.directory.name}-crls.pem"
    crls.write_text(pki.file("ca.crl").read_text() + pki.file("issuing.crl").read_text())
    return ["certtool", "--verify", "--load-ca-certificate", pki.file("ca.pem"), "--load-crl", crls, "--infile", certificate]
