"""The programs of the matrix (matrix.py), one row each: how each is told of server, certificate and message, and what it makes of a message.

Those of clients.py hand over what they are given. These compose a message themselves (`Composer`), or are mail servers that take it from somebody and
send it on (`Server`). What a program can't do has a reason here; that is what the documentation prints.
"""

import smtplib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import postfix
from clients import CLIENTS, HERE, lettre, submit
from exim import Exim
from mta import Smarthost
from opensmtpd import OpenSmtpd
from packages import unpacked
from wait import run

OCTETS, BODY = "as it was given", "text as it was given; it writes the header"


@dataclass(frozen=True)
class Program:
    """A row. `submit` takes the target, the way, a `Submission` and whether to ask for a DSN; it gives exit status and what was said."""

    name: str
    submit: Callable
    needs: tuple = ()
    sent: Callable = lambda octets: octets  # what arrives of the octets given; for BODY of the body
    makes: str = OCTETS
    no_dsn: str = ""
    no_utf8: str = ""
    note: str = ""
    hops: int = 2
    close: Callable = lambda: None
    told: Callable | None = None  # where it says why it was refused, when not to whom it submitted for
    shows: str = ""  # what `told` must show of how it sends


def _of_client(client, dsn=None, note="", no_utf8=""):
    """A row of clients.py. `dsn` puts the words that ask for a DSN into the command."""

    def submitted(target, way, mail, asks):
        words = list(client.command(target, way, mail))
        stdin = client.stdin(mail.file.read_bytes()) if client.stdin else None
        return run(dsn(words) if asks else words, stdin=stdin)

    return Program(client.name, submitted, client.needs, client.sent, no_dsn="" if dsn else "has no option", note=note,
                   no_utf8=no_utf8 or ("" if "smtputf8" in client.can else "does not ask for SMTPUTF8"))


def _script(name, file, interpreter, environment, no_utf8, note, sent=lambda octets: octets):
    def submitted(target, way, mail, asks):
        words = [interpreter(), HERE / file, way, target.ports[way], target.ca, mail.certificate or "-", mail.key or "-", "dsn" if asks else "-",
                 mail.sender, mail.file, *mail.recipients]
        return run(words, environment=environment())

    return Program(name, submitted, (interpreter(),), sent, no_utf8=no_utf8, note=note)


def _composer(name, needs, command, note, dsn=None):
    def submitted(target, way, mail, asks):
        head, body = mail.file.read_bytes().split(b"\r\n\r\n", 1)
        subject = next(line for line in head.decode().split("\r\n") if line.lower().startswith("message-id:")).split(":", 1)[1].strip()
        words, environment = command(target, way, mail, subject, asks)
        return run(words, stdin=body.replace(b"\r\n", b"\n"), environment=environment)

    return Program(name, submitted, needs, makes=BODY, no_dsn="" if dsn else "has no option", no_utf8="encodes its header", note=note)


def _mutt(name):
    def command(target, way, mail, subject, asks):
        both = mail.file.with_name("with-key.pem")
        both.touch(mode=0o600)
        both.write_text("".join(Path(file).read_text() for file in (mail.certificate, mail.key) if file))
        settings = mail.file.with_name("muttrc")
        settings.write_text("\n".join([
            f'set smtp_url = "{"smtp" if way == "starttls" else "smtps"}://{target.host}:{target.ports[way]}"', "set ssl_starttls = yes",
            "set ssl_force_tls = yes", f'set ssl_client_cert = "{both}"' if mail.certificate else "", f'set certificate_file = "{target.ca}"',
            f'set from = "{mail.sender}"', f'set envelope_from_address = "{mail.sender}"', "set use_envelope_from = yes", "set copy = no",
            *(['set dsn_notify = "success"', 'set dsn_return = "hdrs"'] if asks else [])]) + "\n")
        return [name, "-F", settings, "-s", subject, *mail.recipients], {"HOME": str(mail.file.parent)}

    return _composer(name, (name,), command, "certificate and key in one PEM file", dsn=True)


def _s_nail():
    def command(target, way, mail, subject, _asks):
        words = ["s-nail", "-:/", "-Sv15-compat", f"-Smta={'smtp' if way == 'starttls' else 'smtps'}://{target.host}:{target.ports[way]}",
                 "-Ssmtp-auth=none", "-Stls-verify=strict", f"-Stls-ca-file={target.ca}", "-Stls-ca-no-defaults", f"-Sfrom={mail.sender}",
                 "-Shostname=localhost", "-Ssendwait", "-Sttycharset=utf-8", f"-s{subject}"]
        words += ["-Ssmtp-use-starttls"] if way == "starttls" else []
        words += [f"-Stls-config-pairs=Certificate={mail.certificate},PrivateKey={mail.key}"] if mail.certificate else []
        return [*words, *mail.recipients], {"HOME": str(mail.file.parent)}

    return _composer("s-nail (mailx)", ("s-nail",), command, "`-S tls-config-pairs='Certificate=alice.pem,PrivateKey=alice.key'`")


class _Through:
    """A mail server that has a certificate and sends on what it takes from programs without one; an instance for each way."""

    def __init__(self, name, make, directory):
        self._name, self._make, self._directory, self._running = name, make, directory, {}

    def submit(self, target, way, mail, asks):
        who = (way, mail.certificate)
        if who not in self._running:
            there = Smarthost(target.ports[way], way == "implicit", target.ca, mail.certificate, mail.key)
            server = self._make(self._directory / f"{self._name}-{len(self._running)}", there)
            self._running[who] = server
            server.start()
        octets = mail.file.read_bytes()
        with smtplib.SMTP("127.0.0.1", self._running[who].port, "client.example.com") as smtp:
            options = {"mail_options": ["RET=HDRS"], "rcpt_options": ["NOTIFY=SUCCESS"]} if asks else {}
            if mail.smtputf8:
                options = {"mail_options": ["SMTPUTF8"]}
            smtp.sendmail(mail.sender, mail.recipients, octets, **options)
        return 0, ""

    def log(self):
        return "".join(server.log() for server in self._running.values())

    def close(self):
        for server in self._running.values():
            server.abort()


def _postfix(directory, there):
    return postfix.Postfix(directory, 1, more={
        "relayhost": f"[localhost]:{there.port}", "default_transport": "smtp", "smtp_host_lookup": "native", "smtp_tls_loglevel": "1",
        "smtp_tls_security_level": "secure", "smtp_tls_secure_cert_match": "hostname", "smtp_tls_CAfile": there.ca,
        "smtp_tls_cert_file": there.certificate, "smtp_tls_key_file": there.key, "smtp_tls_wrappermode": "yes" if there.implicit else "no"})


def _server(name, make, directory, note, **more):
    through = _Through(name, make, directory)
    return Program(name, through.submit, note=note, hops=3, close=through.close, told=through.log, **more)


def programs(sealpost, lettre_program, directory):
    """All rows, in the order of the documentation."""
    row = {client.name: client for client in CLIENTS}
    yield _of_client(submit(sealpost), note="`--cert`, `--key`")
    yield _of_client(row["swaks"], note="`--tls-cert`, `--tls-key`")
    yield _of_client(row["curl"], note="`--cert`, `--key`")
    yield _of_client(row["msmtp"], lambda words: [words[0], "--dsn-notify=success", "--dsn-return=hdrs", *words[1:]],
                     "`tls_cert_file`, `tls_key_file`")
    yield _mutt("mutt")
    yield _mutt("neomutt")
    yield _s_nail()
    yield _of_client(row["smtplib"], lambda words: [*words[:2], "--dsn", *words[2:]], "`context.load_cert_chain`")
    aiosmtplib = lambda: {"PYTHONPATH": str(unpacked("python3-aiosmtplib") / "usr/lib/python3/dist-packages")}
    yield _script("aiosmtplib", "submit_aiosmtplib.py", lambda: "python3", aiosmtplib, "asks for SMTPUTF8 only when an address is not ASCII",
                  "`tls_context`")
    nodemailer = lambda: {"NODE_PATH": str(unpacked("node-nodemailer") / "usr/share/nodejs")}
    yield _script("nodemailer", "submit_nodemailer.js", lambda: "node", nodemailer, "asks for SMTPUTF8 only when an address is not ASCII",
                  "`tls: { cert, key }`")
    yield _of_client(lettre(lettre_program), note="`TlsParameters::identify_with`", no_utf8="asks for SMTPUTF8 only when an address is not ASCII")
    yield _server("Postfix", _postfix, directory, "`smtp_tls_cert_file`, `smtp_tls_key_file`")
    yield _server("Exim", lambda place, there: Exim(place, 1, smarthost=there), directory, "transport: `tls_certificate`, `tls_privatekey`",
                  # K: by BDAT (Exim's specification, "Logging deliveries").
                  shows=r"=> reader@example\.net .* K C=")
    yield _server("OpenSMTPD", lambda place, there: OpenSmtpd(place, 1, smarthost=there), directory, "`pki`, named in the `relay` action",
                  no_utf8="has no SMTPUTF8")
