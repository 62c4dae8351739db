"""The clients, one row each: how a person would call it with a client certificate, over STARTTLS and over implicit TLS.

A new client is a new row (issue 5's matrix grows here). What a client itself does to a message is written in its row, so that the
check stays one comparison: `sent` gives the octets that this client puts on the wire for a message.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from wait import run

HERE = Path(__file__).parent
WAYS = ("starttls", "implicit")


@dataclass(frozen=True)
class Target:
    """A relay to submit to: a port for each way, and the CA that its certificate comes from."""

    ports: dict
    ca: Path
    host: str = "localhost"


@dataclass(frozen=True)
class Submission:
    """Who sends what: certificate and key (None: shows none), envelope, and the message in a file with CRLF."""

    certificate: Path | None
    key: Path | None
    sender: str
    recipients: tuple
    file: Path
    smtputf8: bool = False


def _as_given(octets):
    return octets


def _one_line_end_more(octets):
    return octets + b"\r\n"


def _swaks_sends(octets):
    """swaks ends its data with a line end of its own, but takes a last line of one dot for the end of the data and drops it."""
    return octets[:-3] if octets.endswith(b"\r\n.\r\n") else _one_line_end_more(octets)


@dataclass(frozen=True)
class Client:
    """One row. `sent` is what arrives when nobody between changes anything."""

    name: str
    needs: tuple
    command: Callable
    sent: Callable = _as_given
    can: frozenset = frozenset()
    stdin: Callable | None = None
    ways: tuple = WAYS
    unable: dict = field(default_factory=dict)  # shape name -> why this client can't send it
    needs_certificate: bool = False  # cannot be told to show none
    hides_untrusted: bool = False  # shows no certificate rather than one that the server does not ask for

    def why_not(self, shape):
        """Why this client can't send that shape; None when it can."""
        lacking = shape.needs - self.can
        if lacking:
            return f"has no {', '.join(sorted(lacking))}"
        return self.unable.get(shape.name)

    def submit(self, target, way, submission):
        """Submits; exit status and what the client said."""
        stdin = self.stdin(submission.file.read_bytes()) if self.stdin else None
        return run(self.command(target, way, submission), stdin=stdin, seconds=180)


def _swaks(target, way, mail):
    yield from ["swaks", "--server", target.host, "--port", target.ports[way], "--helo", "client.example.com"]
    yield "--tls" if way == "starttls" else "--tls-on-connect"
    yield from ["--tls-verify", "--tls-ca-path", target.ca]
    if mail.certificate:
        yield from ["--tls-cert", mail.certificate, "--tls-key", mail.key]
    yield from ["--from", mail.sender, "--to", ",".join(mail.recipients), "--data", f"@{mail.file}", "--suppress-data"]


def _curl(target, way, mail):
    yield from ["curl", "--silent", "--show-error", "--verbose", "--cacert", target.ca, "--ssl-reqd"]
    yield from ["--url", f"{'smtp' if way == 'starttls' else 'smtps'}://{target.host}:{target.ports[way]}/client.example.com"]
    if mail.certificate:
        yield from ["--cert", mail.certificate, "--key", mail.key]
    yield from ["--mail-from", mail.sender]
    for recipient in mail.recipients:
        yield from ["--mail-rcpt", recipient]
    yield from ["--upload-file", mail.file]


def _msmtp(target, way, mail):
    yield from ["msmtp", f"--host={target.host}", f"--port={target.ports[way]}", "--tls=on", "--auth=off", "--debug"]
    yield f"--tls-starttls={'on' if way == 'starttls' else 'off'}"
    yield f"--tls-trust-file={target.ca}"
    if mail.certificate:
        yield from [f"--tls-cert-file={mail.certificate}", f"--tls-key-file={mail.key}"]
    yield from [f"--from={mail.sender}", "--", *mail.recipients]


def _smtplib(target, way, mail):
    yield from ["python3", HERE / "submit_smtplib.py", "--way", way, "--server", f"{target.host}:{target.ports[way]}", "--ca", target.ca]
    if mail.certificate:
        yield from ["--cert", mail.certificate, "--key", mail.key]
    if mail.smtputf8:
        yield "--smtputf8"
    yield from ["--from", mail.sender, mail.file, *mail.recipients]


def lettre(program):
    """The row of lettre, driven by tests/peers/submit_lettre.rs, which `program` is built from."""

    def command(target, way, mail):
        yield from [program, way, target.host, target.ports[way], target.ca]
        yield from [mail.certificate or "-", mail.key or "-", mail.sender, mail.file, *mail.recipients]

    # lettre ends every message with one CRLF more than it has.
    return Client("lettre", (program,), command, sent=_one_line_end_more, unable={
        "smtputf8": "asks for SMTPUTF8 only when an address is not ASCII",
    })


def submit(program):
    """The row of sealpost's own client."""

    def command(target, way, mail):
        yield from [program, "submit", "--server", f"{target.host}:{target.ports[way]}", "--ca", target.ca]
        yield from ["--cert", mail.certificate, "--key", mail.key, "-f", mail.sender]
        if way == "implicit":
            yield "--implicit"
        yield from mail.recipients

    return Client("sealpost submit", (program,), command, stdin=_as_given, needs_certificate=True, can=frozenset({"smtputf8"}))


CLIENTS = [
    Client("swaks", ("swaks",), _swaks, sent=_swaks_sends),
    Client("curl", ("curl",), _curl),
    # A sendmail-like program: takes local line ends on its standard input. GnuTLS shows no certificate at all when its issuer is not
    # among those that the server asks for.
    Client("msmtp", ("msmtp",), _msmtp, stdin=lambda octets: octets.replace(b"\r\n", b"\n"), hides_untrusted=True),
    Client("smtplib", ("python3",), _smtplib, can=frozenset({"smtputf8"})),
]
