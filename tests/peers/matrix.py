"""The matrix of docs/clients.md: each program with a certificate, each way, and what came of it; the file is what was seen, or the check fails.

`python3 tests/peers --write-clients` writes it anew.
"""

import email
import re
from pathlib import Path

import postfix
from arrivals import Arrivals
from bench import Check, Skip, first_difference, new_message_id, without_trace
from clients import WAYS, Submission
from messages import SHAPES
from programs import BODY, programs
from relay import Relay, upstream
from wait import Fault, asked_until, missing

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BEGIN, END = "<!-- tests/peers/matrix.py writes from here -->\n", "<!-- to here -->\n"
ALICE, READER = "alice@example.com", "reader@example.net"
_SHAPES = [shape for shape in SHAPES if shape.name in ("plain", "attachment", "utf-8", "leading dots", "folded header")]
_COMPOSED = [shape for shape in SHAPES if shape.name in ("plain", "format=flowed", "leading dots")]
_UTF8 = next(shape for shape in SHAPES if shape.name == "smtputf8")
_HEAD = ["program", "STARTTLS", "TLS from the start", "the message", "DSN", "header in UTF-8", "is told why it is refused", "the certificate"]


def _text(octets):
    """The text of a message that some program composed, whatever encoding it chose; with CRLF."""
    return email.message_from_bytes(octets).get_payload(decode=True).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Matrix:
    """The checks, which fill the rows, and the last one, which compares them with the document."""

    def __init__(self, sealpost, lettre, directory, certificates):
        self.directory, self.certificates = directory / "matrix", certificates
        self.directory.mkdir()
        self.arrivals = Arrivals()
        self.postfix = postfix.Postfix(self.directory / "postfix", self.arrivals.port)
        self.relay = Relay(sealpost, self.directory / "relay", certificates, upstream(self.postfix.port))
        self.programs = list(programs(sealpost, lettre, self.directory))
        self.rows, self._skipped = {}, []

    def start(self):
        self.postfix.start()
        self.relay.start()

    def close(self):
        for program in self.programs:
            program.close()
        self.relay.abort()
        self.postfix.abort()
        self.arrivals.close()

    def checks(self):
        for program in self.programs:
            self.rows[program.name] = {"message": program.makes, "certificate": program.note}
            for way in WAYS:
                yield Check(f"{program.name}, {way}, with its certificate", lambda p=program, w=way: self._kept(p, w, self._sends, p, w))
            if program.no_dsn:
                self.rows[program.name]["dsn"] = f"no: {program.no_dsn}"
            else:
                yield Check(f"{program.name} asks for a DSN, and it comes", lambda p=program: self._kept(p, "dsn", self._asks, p))
            if program.no_utf8:
                self.rows[program.name]["utf8"] = f"no: {program.no_utf8}"
            else:
                yield Check(f"{program.name}: a header in UTF-8", lambda p=program: self._kept(p, "utf8", self._one, p, "starttls", _UTF8))
            yield Check(f"{program.name} is told why", lambda p=program: self._kept(p, "told", self._refused, p))

    def document(self):
        """Fails when the document is not what was seen."""
        if self._skipped:
            raise Skip(f"not all could be tried: {', '.join(self._skipped)}")
        if DOCUMENT.read_text() != self.written():
            raise Fault("docs/clients.md is not what was seen; python3 tests/peers --write-clients writes it. Seen:\n" + self._table())

    def written(self):
        """The document with what was seen."""
        before, rest = DOCUMENT.read_text().split(BEGIN, 1)
        return before + BEGIN + self._table() + END + rest.split(END, 1)[1]

    def _table(self):
        lines = [_HEAD, ["---"] * len(_HEAD)]
        for name, row in self.rows.items():
            lines.append([name, *(row.get(key, "did not work") for key in ("starttls", "implicit", "message", "dsn", "utf8", "told", "certificate"))])
        return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)

    def _kept(self, program, column, run, *arguments):
        """Runs, and keeps what came of it for the row."""
        if lacking := missing(program.needs):
            self._skipped.append(program.name)
            raise Skip(f"not on this machine: {', '.join(map(str, lacking))}")
        try:
            run(*arguments)
        except Skip:
            self._skipped.append(program.name)
            raise
        self.rows[program.name][column] = "yes"

    def _sends(self, program, way):
        shapes = _COMPOSED if program.makes == BODY else _SHAPES
        for shape in shapes if way == "starttls" else shapes[:1]:
            self._one(program, way, shape)
        if program.shows and not re.search(program.shows, program.told()):
            raise Fault(f"its log does not show {program.shows}:\n{program.told()}")

    def _one(self, program, way, shape):
        message_id, octets = self._submit(program, way, shape)
        arrival = self.arrivals.wait_until(lambda one: self._is(one, program, message_id) and one.sender == ALICE, f"{program.name}: {shape.name}")
        if arrival.recipients != (READER,):
            raise Fault(f"the envelope changed: {arrival}")
        trace, message = without_trace(arrival.octets)
        if program.makes == BODY:
            message, octets = _text(message), octets.split(b"\r\n\r\n", 1)[1]
        if message != program.sent(octets):
            raise Fault(first_difference(message, program.sent(octets)))
        # Behind sealpost there is the Postfix of the test. RFC 6531 §4.3: Received says UTF8SMTP where SMTPUTF8 was asked for.
        if len(trace) != program.hops or (b"with UTF8SMTP" in trace[1]) != (shape is _UTF8):
            raise Fault(f"trace fields: {trace}")

    def _asks(self, program):
        message_id, _ = self._submit(program, "starttls", SHAPES[0], asks=True)
        self.arrivals.wait_until(lambda one: (one.sender, one.recipients) == ("", (ALICE,)) and message_id.encode() in one.octets,
                                 "a report of success")

    def _refused(self, program):
        message_id = new_message_id(f"matrix {program.name}")
        file = self.directory / "message.eml"
        file.write_bytes(SHAPES[0].octets(message_id, "bob@example.com", READER))
        mail = Submission(*self.certificates.clients["alice"], "bob@example.com", (READER,), file)
        status, said = program.submit(self.relay.target, "starttls", mail, False)
        if program.told:
            asked_until(lambda: "5.7.1" in program.told(), f"the log of {program.name} says 5.7.1")
            said = program.told()
        elif status == 0:
            raise Fault(f"it believes that it was accepted:\n{said}")
        if "5.7.1" not in said:
            raise Fault(f"it was not told why:\n{said[-3000:]}")

    @staticmethod
    def _is(arrival, program, message_id):
        if program.makes == BODY:
            return f"Subject: {message_id}\r\n".encode() in arrival.octets
        return arrival.message_id == message_id

    def _submit(self, program, way, shape, asks=False):
        message_id = new_message_id(f"matrix {program.name} {shape.name}")
        octets = shape.octets(message_id, ALICE, READER)
        file = self.directory / "message.eml"
        file.write_bytes(octets)
        mail = Submission(*self.certificates.clients["alice"], ALICE, (READER,), file, "smtputf8" in shape.needs)
        status, said = program.submit(self.relay.target, way, mail, asks)
        if status != 0:
            raise Fault(f"it gave up with {status}:\n{said[-3000:]}")
        return message_id, octets
