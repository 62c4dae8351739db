"""The dialog scripts of fixtures/dialog (README there), read in Python and played to any server over sockets and TLS.

What a script expects is what sealpost answers (tests/it plays it to sealpost). Here only the class of a reply counts, its first digit, and whether
mail was taken: texts and statuses are each server's own. What follows a place where a server does something else is built on it. It is played on from
where both stand alike again: behind two refusals, behind a command that changes nothing, at RSET, at the next connection. What lies between is not
sent, and counted as not compared.
"""

import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / "fixtures" / "dialog"
# How long a reply may take, how long one that is known not to come is waited for, and how long nothing is to come, seconds.
REPLY, KNOWN_SILENT, SILENCE = 20, 1.5, 0.25
_ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\", '"': b'"'}
# What only sealpost, or a stage in its process, can do.
_NOT_PLAYED = {
    "clock": "the clock moves", "revoke": "a certificate is revoked meanwhile", "forget": "an identity is taken away meanwhile",
    "store": "the store fails", "rekey": "credentials change meanwhile", "drain": "the server shuts down", "wait": "a deadline passes",
    "scram": "a password that only sealpost has", "code": "a password that only sealpost has", "bound": "channel binding",
    "vouched": "a load balancer's word",
}
_SETTABLE = {"together"}
_CONNECTS = ("plain", "handshake", "tls", "implicit")
_EXPECTS = ("S:", "silent", "open", "closed", "kept")
# Commands after which a session is what it was, whatever they are answered.
_CHANGE_NOTHING = re.compile(rb"(NOOP|VRFY|EXPN|HELP|ETRN)\b[^\r\n]*\r\n", re.IGNORECASE)
_REFUSALS = ("4yz", "5yz")


@dataclass
class Difference:
    """Where a server parts from the script: the line, what sealpost does, what it does."""

    line: int
    ours: str
    theirs: str
    said: str  # its last words, for people
    skipped: int = 0  # what the script expects behind it before both stand alike again


class Script:
    """One file: its steps as (line number, word, rest)."""

    def __init__(self, file):
        self.name = str(file.relative_to(ROOT).with_suffix(""))
        self.steps = []
        for number, line in enumerate(file.read_text().split("\n"), 1):
            line = line.rstrip()
            if line and not line.startswith("#"):
                word, _, rest = line.partition(" ")
                self.steps.append((number, word, rest))

    def not_played(self):
        """Why no other server can be asked this; None when it can."""
        for _, word, rest in self.steps:
            if word in _NOT_PLAYED:
                return _NOT_PLAYED[word]
            if word == "set" and rest.split("=")[0].strip() not in _SETTABLE:
                return f"a setting of sealpost: {rest.split('=')[0].strip()}"
            if word == "plain" and rest.startswith("early "):
                return "a race with the greeting"
        # Of it, and of nobody else, LF is read as CRLF in messages.
        return "a setting of sealpost: bare_lf" if "device" in self.personas() else None

    def personas(self):
        return {rest.removeprefix("as ").strip() for _, word, rest in self.steps if word in ("handshake", "tls", "implicit")}


def scripts():
    return [Script(file) for file in sorted(ROOT.rglob("*.dialog"))]


class Play:
    """One script played to one server.

    `context(persona)` gives the TLS of a persona; `ports` a port for each way; `silent_at` the lines where the server is known to say nothing.
    """

    def __init__(self, ports, context, silent_at=()):
        self._ports, self._context, self._silent_at = ports, context, silent_at
        self._socket, self._buffer = None, b""
        self._taken, self._sent, self._said = 0, b"", ""

    def differences(self, script):
        """All that are found, in their order."""
        found, apart, before, last = [], False, "", 0
        try:
            for last, word, rest in script.steps:
                if apart and not self._meets_again(word, rest, before, found[-1]):
                    found[-1].skipped += word in _EXPECTS
                elif one := self._tried(last, word, rest):
                    found.append(one)
                    apart = not self._stand_alike(one, word)
                else:
                    apart = False
                before = rest if word.startswith("C") else before
            if not apart and (left := self._pending()) not in ("silence", "closed"):
                found.append(Difference(last, "end", left, self._said))
            return found
        finally:
            self._drop()

    def _tried(self, line, word, rest):
        """One step; the difference, or None."""
        try:
            theirs = self._step(word, rest, KNOWN_SILENT if line in self._silent_at else REPLY)
            return Difference(line, *theirs, self._said) if theirs else None
        except (ConnectionError, ssl.SSLError, TimeoutError, EOFError) as fault:
            return Difference(line, "goes on", "no TLS" if isinstance(fault, ssl.SSLError) else "closed", str(fault))

    def _stand_alike(self, one, word):
        """Whether both sessions are in the same state behind this difference."""
        if word == "kept":
            self._taken = int(one.ours.split()[0])
            return True
        if word != "S:" or one.theirs in ("closed", "silence"):
            return False
        if one.ours in _REFUSALS and one.theirs in _REFUSALS:
            return True
        return one.theirs != "3yz" and bool(_CHANGE_NOTHING.fullmatch(self._sent))

    def _meets_again(self, word, rest, before, one):
        """Whether both are in the same state at this step: a connection of its own, or RSET where the server listens to commands."""
        if word in _CONNECTS:
            # TLS on a connection that has gone another way before is not its own.
            return not (word == "handshake" and before.upper() == "STARTTLS")
        if word != "C:" or rest.upper() != "RSET" or one.theirs in ("closed", "silence", "no TLS", "3yz") or not self._socket:
            return False
        while (said := self._pending()) != "silence":
            if said == "closed":
                return False
        try:
            self._send(b"RSET\r\n")
            if self._reply(REPLY) != "2yz":
                return False
        except (ConnectionError, ssl.SSLError):
            return False
        # The step itself says it once more, and hears the same.
        return True

    def _step(self, word, rest, patience):
        if word in ("plain", "handshake", "tls", "implicit"):
            return self._connect(word, rest)
        if word == "C:" or word == "C!" or word == "C*":
            self._send(_octets(word, rest))
            return None
        if word == "S:":
            ours = f"{rest[0]}yz"
            theirs = self._reply(patience)
            return None if ours == theirs else (ours, theirs)
        if word in ("silent", "open", "closed"):
            ours = "closed" if word == "closed" else "silence"
            # Who closes may take a moment for it.
            theirs = self._reply(patience) if word == "closed" else self._pending()
            return None if ours == theirs else (ours, theirs)
        if word == "kept":
            ours = int(rest.split()[0])
            return None if ours == self._taken else (f"{ours} kept", f"{self._taken} kept")
        return None

    def _connect(self, how, rest):
        upgrading = how == "handshake" and self._socket and not isinstance(self._socket, ssl.SSLSocket) and self._sent.upper() == b"STARTTLS\r\n"
        if not upgrading:
            self._drop()
            self._socket = socket.create_connection(("127.0.0.1", self._ports["implicit" if how == "implicit" else "starttls"]), timeout=REPLY)
            self._buffer = b""
        if how == "plain":
            if rest.startswith("early "):
                self._send(_octets("C!", rest.removeprefix("early ")))
            return None
        persona = rest.removeprefix("as ").strip()
        if how in ("handshake", "tls") and not upgrading:
            for line in (None, b"EHLO client.example\r\n", b"STARTTLS\r\n"):
                if line:
                    self._send(line)
                if (said := self._reply(REPLY)) != "2yz":
                    return ("TLS", said)
        self._socket = self._context(persona).wrap_socket(self._socket, server_hostname="localhost")
        if how == "tls":
            self._send(b"EHLO client.example\r\n")
            if (said := self._reply(REPLY)) != "2yz":
                return ("2yz to EHLO", said)
        return None

    def _send(self, octets):
        self._sent = octets
        try:
            self._socket.sendall(octets)
        except (ConnectionError, ssl.SSLError):
            pass  # What it said before it closed is read next.

    def _reply(self, seconds):
        """The class of the next reply; `closed` or `silence` when there is none."""
        lines = []
        while not lines or lines[-1][3:4] == b"-":
            line = self._line(seconds)
            if line in ("closed", "silence"):
                return line
            lines.append(line)
        octets = b"\n".join(lines)
        self._said = octets.decode("utf-8", "replace")
        # To the end of data these three say that it is theirs now.
        if re.search(rb"queued as|OK id=|Message accepted", octets):
            self._taken += 1
        return f"{lines[-1][:1].decode('ascii', 'replace')}yz"

    def _pending(self):
        return self._reply(SILENCE) if self._socket else "closed"

    def _line(self, seconds):
        self._socket.settimeout(seconds)
        while b"\n" not in self._buffer:
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                return "silence"
            except (ConnectionError, ssl.SSLError):
                more = b""
            if not more:
                return "closed"
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def _drop(self):
        if self._socket:
            self._socket.close()
        self._socket = None


def _octets(word, rest):
    if word == "C:":
        return rest.encode() + b"\r\n"
    if word == "C*":
        count, text = rest.split(" ", 1)
        return _quoted(text) * int(count)
    return _quoted(rest)


def _quoted(text):
    inner = text.strip()[1:-1]
    octets, at = b"", 0
    for found in re.finditer(r"\\(x[0-9A-Fa-f]{2}|.)", inner):
        octets += inner[at:found.start()].encode()
        named = found.group(1)
        octets += bytes.fromhex(named[1:]) if named[0] == "x" else _ESCAPES[named]
        at = found.end()
    return octets + inner[at:].encode()
