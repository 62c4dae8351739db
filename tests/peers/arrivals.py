"""Where mail ends: an LMTP server (RFC 2033) that keeps what Postfix hands it, octet for octet, and wakes those who wait for it.

Postfix adds nothing but its Received field on this way (a mailbox would add Return-Path, Delivered-To and rewrite line ends).
"""

import re
import socketserver
import threading
from dataclasses import dataclass

from wait import PATIENCE, Fault

_OFFERED = ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "SIZE 0"]


@dataclass(frozen=True)
class Arrival:
    """One message as it arrived: the envelope, and the octets after the dots were unstuffed."""

    sender: str
    recipients: tuple
    octets: bytes

    @property
    def message_id(self):
        found = re.search(rb"(?im)^message-id:\s*(<[^>]*>)", self.octets.split(b"\r\n\r\n", 1)[0])
        return found.group(1).decode("ascii", "replace") if found else None


class Arrivals:
    """The server and all that arrived so far."""

    def __init__(self):
        self._all = []
        self._news = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), _Dialogue)
        self._server.arrivals = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def keep(self, arrival):
        with self._news:
            self._all.append(arrival)
            self._news.notify_all()

    def all(self):
        with self._news:
            return list(self._all)

    def wait_for(self, message_id, seconds=PATIENCE):
        """The first arrival with this Message-ID."""
        return self.wait_until(lambda one: one.message_id == message_id, f"Message-ID {message_id}", seconds)

    def wait_until(self, wanted, what, seconds=PATIENCE):
        """The first arrival that is wanted."""

        def found():
            return next((one for one in self._all if wanted(one)), None)

        with self._news:
            if not self._news.wait_for(found, timeout=seconds):
                raise Fault(f"did not arrive within {seconds} s: {what}")
            return found()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class _Dialogue(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self._converse()
        except ConnectionError:
            pass  # Postfix is stopped in the middle by some of the tests.

    def _converse(self):
        self._say("220 arrivals LMTP")
        sender, recipients = None, []
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"LHLO":
                self._say(*[f"250-{word}" for word in ["arrivals", *_OFFERED[:-1]]], f"250 {_OFFERED[-1]}")
            elif verb == b"MAIL":
                sender, recipients = _path(line), []
                self._say("250 2.1.0 ok")
            elif verb == b"RCPT":
                recipients.append(_path(line))
                self._say("250 2.1.5 ok")
            elif verb == b"DATA":
                self._say("354 go on")
                octets = self._data()
                if octets is None:
                    return
                self.server.arrivals.keep(Arrival(sender, tuple(recipients), octets))
                # RFC 2033 §4.2: one reply for each recipient.
                self._say(*["250 2.0.0 kept" for _ in recipients])
            elif verb == b"QUIT":
                self._say("221 2.0.0 bye")
                return
            else:
                self._say("250 2.0.0 ok")

    def _data(self):
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return None
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def _say(self, *lines):
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


def _path(line):
    return line.decode("utf-8", "replace").split("<", 1)[1].split(">", 1)[0]
