"""The second factor with clients that others wrote: Python's smtplib, swaks, gsasl (SCRAM and SCRAM bound to TLS), scramp.

A relay of its own, with second_factor for everybody of the CA; credentials are made by `sealpost passwd`. At the end its whole log, and
everything else it wrote, is searched for what must not be there: passwords, hashes, keys, codes, octets of bodies.
"""

import base64
import hashlib
import hmac
import os
import pty
import re
import shlex
import smtplib
import ssl
import struct
import sys
import termios
import time
from pathlib import Path

from arrivals import Arrivals
from bench import Check, Skip, new_message_id, readme_block
from packages import of_pypi
from relay import Relay, upstream
from wait import PATIENCE, Fault, missing, must, run

RECIPIENT = "reader@example.net"
PASSWORD = "tr0mbone-quartet-wumpus"
BODY = "the-word-of-the-body-is-xylophone-9431"
WRONG = "not-the-password-of-anybody"
ALICE = "staff:alice@example.com"


class SecondFactor:
    """The checks; alice has both kinds of passwords, bob a password with codes, dave none."""

    def __init__(self, program, directory, certificates):
        self.program, self.certificates = program, certificates
        self.directory = Path(directory) / "second-factor"
        self.arrivals = Arrivals()
        self.relay = Relay(program, self.directory, certificates, upstream(self.arrivals.port))
        self._secrets = [PASSWORD, BODY, WRONG]
        self._codes_shown = set()
        self._make()

    def _make(self):
        """Configuration and credentials."""
        file = self.directory / "credentials"
        both = [self._passwd(ALICE), self._passwd("--scram", "--iterations", "10000", ALICE)]
        coded = self._passwd("--totp", "coder")
        self.totp = coded.rsplit("totp=", 1)[1].strip()
        self._secrets.append(self.totp)
        for line in [*both, coded]:
            self._secrets += [word for word in line.split()[1].replace(":", "$").split("$") if len(word) > 20]
        file.write_text("\n".join([*both, coded]) + "\n")
        file.chmod(0o600)
        text = self.relay.configuration.read_text()
        text = text.replace("send_as_email = true", 'send_as_email = true\nsecond_factor = "password"')
        text += f"""
[credentials]
file = "{file}"

[[identity]]
name = "coder"
match = {{ ca = "staff", email = "bob@example.com" }}
send_as = ["@certificate"]
send_to = ["*"]
second_factor = "totp"

[limits]
auth_failures = 20

[log]
level = "trace"
"""
        self.relay.configuration.write_text(text)

    def _passwd(self, *words):
        status, said = run([self.program, "passwd", *words], stdin=(PASSWORD + "\n").encode())
        if status != 0 or PASSWORD in said:
            raise Fault(f"sealpost passwd {words}: {status}: {said}")
        return next(line for line in said.splitlines() if "$" in line)

    def checks(self):
        yield Check("second factor: the relay starts, and check finds nothing wrong", self._starts)
        for way in ("starttls", "implicit"):
            for name, attempt in [("PLAIN", self._plain), ("PLAIN without initial response", self._plain_late),
                                  ("LOGIN", self._login), ("SCRAM-SHA-256 by scramp", self._scramp)]:
                yield Check(f"second factor, {way}: smtplib, {name}: a message goes in",
                            lambda way=way, attempt=attempt: self._delivers(way, attempt))
            for mechanism in ("PLAIN", "LOGIN"):
                yield Check(f"second factor, {way}: swaks, {mechanism}: a message goes in",
                            lambda way=way, mechanism=mechanism: self._swaks(way, mechanism))
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"):
            yield Check(f"second factor, starttls: gsasl, {mechanism}: it is let in", lambda mechanism=mechanism: self._gsasl(mechanism))
            yield Check(f"second factor, starttls: gsasl, {mechanism}: a wrong password is not",
                        lambda mechanism=mechanism: self._gsasl_refused(mechanism))
        yield Check("second factor: msmtp as README says: a message goes in", self._msmtp)
        yield Check("second factor: curl as README says, which asks for the password: a message goes in", self._curl)
        yield Check("second factor: PLUS is offered over TLS 1.3 and not over TLS 1.2", self._offers)
        yield Check("second factor: MAIL without it is 530, and EXTERNAL is not there", self._missing)
        yield Check("second factor: a password with a code goes in, without one it does not", self._codes)
        yield Check("second factor: a changed credential must be shown anew on an open connection", self._changed)
        yield Check("second factor: on a terminal, passwd asks twice and says nothing back", self._terminal)
        yield Check("second factor: on a terminal, Ctrl-C at passwd leaves it as it was", self._interrupted)
        yield Check("second factor: the relay drains and ends with 0", self.relay.stop)
        yield Check("second factor: no log has a password, a key, a code or an octet of a body", self._no_secrets)

    def abort(self):
        self.relay.abort()
        self.arrivals.close()

    # --- Checks.

    def _starts(self):
        said = must([self.program, "check", "--config", self.relay.configuration])
        if "credential" in said or "second_factor" in said:
            raise Fault(said)
        said = must([self.program, "explain", "--config", self.relay.configuration, "--cert", self.certificates.clients["alice"][0]])
        if "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" not in said:
            raise Fault(said)
        self.relay.start()

    def _delivers(self, way, attempt):
        with self._connect(way) as smtp:
            attempt(smtp, ALICE, PASSWORD)
            message_id = self._send(smtp, "alice@example.com")
        trace = self.arrivals.wait_for(message_id).octets
        if b"with ESMTPSA id" not in b" ".join(trace[:500].split()):
            raise Fault(f"the trace field does not say ESMTPSA: {trace[:500]!r}")

    def _swaks(self, way, mechanism):
        if missing(["swaks"]):
            raise Skip("swaks is not on this machine")
        certificate, key = self.certificates.clients["alice"]
        message_id = new_message_id(f"swaks {way} {mechanism}")
        said = must(["swaks", "--server", "localhost", "--port", self.relay.target.ports[way],
                     "--tls" if way == "starttls" else "--tls-on-connect", "--tls-cert", certificate, "--tls-key", key,
                     "--auth", mechanism, "--auth-user", "alice@example.com", "--auth-password", PASSWORD,
                     "--from", "alice@example.com", "--to", RECIPIENT, "--header", f"Message-Id: {message_id}", "--body", BODY])
        self.arrivals.wait_for(message_id)
        if "235 2.7.0" not in said:
            raise Fault(said)

    def _msmtp(self):
        """README's recipe, with the words of its paragraph on passwords in the place of `auth off`."""
        if missing(["msmtp"]):
            raise Skip("msmtp is not on this machine")
        certificate, key = self.certificates.clients["alice"]
        file = self.directory / "msmtprc"
        recipe = readme_block("account default", {
            "host mail.example.com": "host localhost", "port 587": f"port {self.relay.target.ports['starttls']}",
            "/etc/ssl/certs/ca-certificates.crt": self.certificates.ca, "~/.certs/alice.pem": certificate, "~/.certs/alice.key": key,
            "auth off": f'auth plain\nuser alice@example.com\npasswordeval "echo {PASSWORD}"'})
        file.write_text(recipe)
        file.chmod(0o600)
        message_id = new_message_id("msmtp with a password")
        must(["msmtp", f"--file={file}", RECIPIENT],
             stdin=f"From: alice@example.com\nMessage-ID: {message_id}\n\n{BODY}\n".encode())
        self._came_with_a_password(message_id)

    def _curl(self):
        """README's line with `--user alice@example.com`; the password is typed on a terminal."""
        if missing(["curl"]):
            raise Skip("curl is not on this machine")
        certificate, key = self.certificates.clients["alice"]
        message_id = new_message_id("curl with a password")
        message = self.directory / "message.eml"
        message.write_text(f"From: alice@example.com\nMessage-ID: {message_id}\n\n{BODY}\n")
        line = readme_block("curl --ssl-reqd", {
            "mail.example.com:587": f"localhost:{self.relay.target.ports['starttls']}", "ca.pem": self.certificates.ca,
            "alice.pem": certificate, "alice.key": key, "bob@example.net": RECIPIENT, "message.eml": message})
        words = [*shlex.split(line.replace("\\\n", " ")), "--silent", "--show-error", "--user", "alice@example.com"]
        child, terminal = pty.fork()
        if child == 0:
            os.execvp(words[0], words)
        said = _until(terminal, "password for user")
        os.write(terminal, f"{PASSWORD}\n".encode())
        said += _until(terminal, None)
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 0:
            raise Fault(f"{status}: {said}")
        self._came_with_a_password(message_id)

    def _came_with_a_password(self, message_id):
        trace = self.arrivals.wait_for(message_id).octets
        if b"with ESMTPSA id" not in b" ".join(trace[:500].split()):
            raise Fault(f"the trace field does not say ESMTPSA: {trace[:500]!r}")

    def _gsasl(self, mechanism):
        if missing(["gsasl"]):
            raise Skip("gsasl is not on this machine")
        # Its exit status tells rather how it liked its standard input after that.
        _, said = self._run_gsasl(mechanism, PASSWORD)
        if "235 2.7.0" not in said or "Client authentication finished (server trusted)" not in said:
            raise Fault(said)
        self.relay.wait_for_log(f'authenticated.*"mechanism":"{mechanism}"')

    def _gsasl_refused(self, mechanism):
        if missing(["gsasl"]):
            raise Skip("gsasl is not on this machine")
        status, said = self._run_gsasl(mechanism, WRONG)
        if status == 0 or "535 5.7.8" not in said:
            raise Fault(f"{status}: {said}")

    def _run_gsasl(self, mechanism, password):
        certificate, key = self.certificates.clients["alice"]
        return run(["gsasl", "--smtp", "--starttls", "--verbose", f"--connect=localhost:{self.relay.target.ports['starttls']}",
                    f"--mechanism={mechanism}", "--authentication-id=alice@example.com",
                    f"--password={password}", f"--x509-ca-file={self.certificates.ca}", f"--x509-cert-file={certificate}",
                    f"--x509-key-file={key}", *([] if mechanism.endswith("-PLUS") else ["--no-cb"])], stdin=b"QUIT\r\n")

    def _offers(self):
        for version, expected in [(ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, False)]:
            with self._connect("starttls", version=version) as smtp:
                smtp.ehlo()
                offered = smtp.esmtp_features["auth"].split()
                if ("SCRAM-SHA-256-PLUS" in offered) != expected or "SCRAM-SHA-256" not in offered:
                    raise Fault(f"{version}: {offered}")

    def _missing(self):
        with self._connect("starttls") as smtp:
            smtp.ehlo()
            _expect(smtp.mail("alice@example.com"), 530)
            _expect(smtp.docmd("AUTH", "EXTERNAL ="), 504)
            _expect(smtp.mail("alice@example.com"), 530)

    def _codes(self):
        with self._connect("implicit", who="bob") as smtp:
            smtp.ehlo()
            if set(smtp.esmtp_features["auth"].split()) != {"PLAIN", "LOGIN"}:
                raise Fault(smtp.esmtp_features["auth"])
            for password in (PASSWORD, PASSWORD + "000000", WRONG + self._code()):
                _expect(_plain_command(smtp, "coder", password), 535)
            _expect(_plain_command(smtp, "coder", PASSWORD + self._code()), 235)
            message_id = self._send(smtp, "bob@example.com")
        self.arrivals.wait_for(message_id)

    def _changed(self):
        file = self.directory / "credentials"
        before = file.read_text()
        with self._connect("starttls") as smtp:
            self._plain(smtp, ALICE, PASSWORD)
            _expect(smtp.mail("alice@example.com"), 250)
            _expect(smtp.rset(), 250)
            again = self._passwd(ALICE)
            self._secrets += [word for word in again.split()[1].split("$") if len(word) > 20]
            lines = [again if line.startswith(f"{ALICE} $argon2") else line for line in before.splitlines()]
            file.write_text("\n".join(lines) + "\n")
            must(["kill", "-HUP", self.relay.process_id])
            self.relay.wait_for_log(r"reloaded")
            _expect(smtp.mail("alice@example.com"), 530)
            self._plain(smtp, ALICE, PASSWORD)
            _expect(smtp.mail("alice@example.com"), 250)

    def _terminal(self):
        for again, expected in [(PASSWORD, 0), (WRONG, 1)]:
            child, terminal = pty.fork()
            if child == 0:
                os.execv(self.program, [str(self.program), "passwd", ALICE])
            said = _until(terminal, "Password of")
            os.write(terminal, f"{PASSWORD}\n".encode())
            said += _until(terminal, "The same again")
            os.write(terminal, f"{again}\n".encode())
            said += _until(terminal, None)
            os.close(terminal)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != expected or ("$argon2id$" in said) != (expected == 0) or PASSWORD in said or WRONG in said:
                raise Fault(f"{status}: {said}")

    def _interrupted(self):
        for prompts in (["Password of"], ["Password of", "The same again"]):
            child, terminal = pty.fork()
            if child == 0:
                os.execv(self.program, [str(self.program), "passwd", ALICE])
            for prompt in prompts:
                said = _until(terminal, prompt)
                os.write(terminal, f"{PASSWORD}\n".encode() if prompt != prompts[-1] else b"half a pass\x03")
            said += _until(terminal, None)
            echoes = termios.tcgetattr(terminal)[3] & termios.ECHO
            os.close(terminal)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != 1 or not echoes or "nothing was printed" not in said or "$argon2id$" in said:
                raise Fault(f"{status}, echo {bool(echoes)}: {said}")

    def _no_secrets(self):
        log = self.relay.log()
        if not all(word in log for word in ("authenticated", "refused", "accepted", "DEBUG")):
            raise Fault("the log is not the one that was meant")
        wanted = [form for secret in self._secrets for form in (secret, *_in_base64(secret))]
        found = [secret for secret in wanted if secret in log]
        # A code is six digits; fractions of a second end in Z.
        found += [code for code in self._codes_shown if re.search(rf"(?<![\d.]){code}(?![\dZ])", log)]
        if found:
            raise Fault(f"in the log: {found}")

    # --- What a client does.

    def _connect(self, way, who="alice", version=None):
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(*self.certificates.clients[who])
        if version:
            context.minimum_version = context.maximum_version = version
        port = self.relay.target.ports[way]
        if way == "implicit":
            return smtplib.SMTP_SSL("localhost", port, "client.example.com", context=context, timeout=60)
        smtp = smtplib.SMTP("localhost", port, "client.example.com", timeout=60)
        smtp.starttls(context=context)
        return smtp

    def _send(self, smtp, sender):
        message_id = new_message_id(f"second factor {sender}")
        smtp.sendmail(sender, [RECIPIENT], f"From: {sender}\r\nMessage-ID: {message_id}\r\n\r\n{BODY}\r\n")
        return message_id

    @staticmethod
    def _plain(smtp, user, password):
        smtp.user, smtp.password = user, password
        smtp.ehlo()
        smtp.auth("PLAIN", smtp.auth_plain, initial_response_ok=True)

    @staticmethod
    def _plain_late(smtp, user, password):
        smtp.user, smtp.password = user, password
        smtp.ehlo()
        smtp.auth("PLAIN", smtp.auth_plain, initial_response_ok=False)

    @staticmethod
    def _login(smtp, user, password):
        smtp.user, smtp.password = user, password
        smtp.ehlo()
        smtp.auth("LOGIN", smtp.auth_login, initial_response_ok=False)

    @staticmethod
    def _scramp(smtp, user, password):
        sys.path.append(str(of_pypi("scramp==1.4.5", "asn1crypto==1.5.1")))
        from scramp import ScramClient
        client = ScramClient(["SCRAM-SHA-256"], user, password)
        smtp.ehlo()
        first = base64.b64encode(client.get_client_first().encode()).decode()
        client.set_server_first(_challenge(smtp.docmd("AUTH", f"SCRAM-SHA-256 {first}")))
        final = base64.b64encode(client.get_client_final().encode()).decode()
        client.set_server_final(_challenge(smtp.docmd(final)))
        _expect(smtp.docmd(""), 235)

    def _code(self, steps=0):
        key = base64.b32decode(self.totp + "=" * (-len(self.totp) % 8))
        tag = hmac.new(key, struct.pack(">q", int(time.time()) // 30 + steps), hashlib.sha1).digest()
        place = tag[-1] & 15
        code = f"{(struct.unpack('>I', tag[place:place + 4])[0] & 0x7fffffff) % 1000000:06}"
        self._codes_shown.add(code)
        return code


def _until(terminal, words):
    """What is said on a terminal until these words and silence of the terminal's echo, or until its end."""
    said = ""
    while True:
        try:
            piece = os.read(terminal, 4096).decode()
        except OSError:  # The other side is closed.
            return said
        said += piece
        if words and words in said:
            _wait_for_silence(terminal)
            return said
        if not piece:
            return said


def _wait_for_silence(terminal):
    """Until the terminal echoes no more: what is typed before that would be seen."""
    end = time.monotonic() + PATIENCE
    while termios.tcgetattr(terminal)[3] & termios.ECHO:
        if time.monotonic() > end:
            raise Fault("the terminal still echoes")
        time.sleep(0.01)


def _in_base64(secret):
    """What of a secret is always the same in base64, wherever in a longer text it begins."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        yield whole[4 if shift else 0:-4]


def _plain_command(smtp, user, password):
    return smtp.docmd("AUTH", "PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())


def _challenge(reply):
    code, text = reply
    if code != 334:
        raise Fault(f"no challenge: {code} {text!r}")
    return base64.b64decode(text).decode()


def _expect(reply, code):
    if reply[0] != code:
        raise Fault(f"expected {code}, heard {reply}")
