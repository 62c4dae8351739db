"""Checks of Postfix as the upstream, in all the ways a site may run it: TLS, password, client certificate, refusing, deferring, gone for a while.

Each check builds a Postfix and a sealpost of its own, submits with smtplib, and looks at what arrives, at the queue, and at Postfix's log.
"""

import base64
import email
import hashlib
import json
import re
import shutil
import subprocess
from email import policy

import postfix
from arrivals import Arrivals
from bench import Check, Skip, first_difference, new_message_id, without_trace
from clients import CLIENTS, Submission
from messages import SHAPES
from relay import Relay, upstream
from wait import Fault, missing, must

SENDER = "alice@example.com"
READER = "reader@example.net"
NOBODY = "nobody@example.net"
_SMTPLIB = next(client for client in CLIENTS if client.name == "smtplib")
_EIGHT_BIT = (
    "From: alice@example.com\r\nTo: reader@example.net\r\nDate: Thu, 26 Nov 2026 12:00:00 +0000\r\nMessage-ID: {id}\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\u00fc\u00dfe\r\n").encode()
_THROUGH = '\n[[route]]\nname = "all"\nupstreams = ["postfix"]\ndelivery = "through"\n'
_PLAIN = ("{port} inet n - n - - smtpd",)
_IMPLICIT = ("{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes",)


class Upstreams:
    """The checks, and the place they work in."""

    def __init__(self, program, directory, certificates):
        self.program, self.directory, self.certificates = program, directory, certificates

    def checks(self):
        for name, run in [
            ("over STARTTLS, its certificate verified", self._starttls),
            ("over implicit TLS", self._implicit),
            ("with a password, PLAIN and LOGIN offered", lambda: self._password("PLAIN LOGIN")),
            ("with a password, LOGIN only", lambda: self._password("LOGIN")),
            ("with a password, SCRAM-SHA-256 offered", self._scram),
            ("a wrong password by SCRAM-SHA-256: mail waits, nothing bounces", self._wrong_scram),
            ("its key pinned, no CA", self._pinned),
            ("another key pinned: mail waits, nothing bounces", self._pinned_wrongly),
            ("by BDAT, and by DATA when told so", self._chunking),
            ("without 8BITMIME: parts are encoded", self._seven_bit),
            ("without 8BITMIME: reported where that is set", self._eight_bit_reported),
            ("with a client certificate", self._client_certificate),
            ("a certificate of an unknown CA: mail waits, nothing bounces", self._untrusted),
            ("a wrong password: mail waits, nothing bounces", self._wrong_password),
            ("550 to one of two recipients: one arrives, one is reported", self._refused_recipient),
            ("552 to the size: reported", self._refused_size),
            ("450 to a recipient: tried again until it is taken", self._deferred_recipient),
            ("while the client waits: taken, refused, and put off", self._through),
            ("while the client waits: the message refused at its end", self._through_refused_at_end),
            ("stopped and started again: what was accepted meanwhile arrives", self._stopped),
            ("sealpost restarted with mail in its queue: it arrives", self._restarted),
        ]:
            yield Check(f"Postfix as upstream, {name}", run)

    def _starttls(self):
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), self._verified("starttls")) as bench:
            bench.arrives()
            if "TLS connection established from" not in bench.postfix.log():
                raise Fault(bench.postfix.log())

    def _implicit(self):
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), self._verified("implicit"), _IMPLICIT) as bench:
            bench.arrives()

    def _password(self, mechanisms):
        with self._demanding_password(mechanisms, "right") as bench:
            bench.arrives()
            if "sasl_username=relay" not in bench.postfix.log():
                raise Fault(bench.postfix.log())

    def _scram(self):
        with self._demanding_password("PLAIN SCRAM-SHA-256", "right") as bench:
            bench.arrives()
            if "sasl_method=SCRAM-SHA-256" not in bench.postfix.log():
                raise Fault(bench.postfix.log())

    def _wrong_scram(self):
        with self._demanding_password("PLAIN SCRAM-SHA-256", "wrong") as bench:
            bench.waits_in_the_queue()

    def _pin(self, certificate):
        key = must(["openssl", "x509", "-in", certificate, "-pubkey", "-noout"])
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "der"], input=key.encode(), capture_output=True, check=True).stdout
        return "sha256/" + base64.b64encode(hashlib.sha256(der).digest()).decode()

    def _pinned(self):
        pin = self._pin(self.certificates.server[0])
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), {"mode": "starttls", "tls": "verify", "pin": pin}) as bench:
            bench.arrives()

    def _pinned_wrongly(self):
        pin = self._pin(self.certificates.clients["bob"][0])
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), {"mode": "starttls", "tls": "verify", "pin": pin}) as bench:
            bench.waits_in_the_queue()
            bench.relay.wait_for_log("not the one that is pinned")

    def _chunking(self):
        for settings, verb in (({}, "bdat"), ({"chunking": False}, "data")):
            with self._bench({}, settings) as bench:
                bench.arrives()
                # What was said on a connection stands in the log once it is closed.
                bench.relay.stop()
                bench.postfix.stop()
                log = bench.postfix.log()
                if f"{verb}=1" not in log:
                    raise Fault(f"Postfix did not see {verb}:\n{log}")

    def _without_8bitmime(self, eight_bit):
        return self._bench({"smtpd_discard_ehlo_keywords": "8bitmime, smtputf8"}, {"eight_bit": eight_bit})

    def _seven_bit(self):
        with self._without_8bitmime("encode") as bench:
            message_id = bench.submit(READER, octets=_EIGHT_BIT)
            arrived = bench.arrivals.wait_for(message_id).octets
            message = email.message_from_bytes(arrived, policy=policy.SMTP)
            if not arrived.isascii() or message["Content-Transfer-Encoding"] != "quoted-printable" or message.get_content().strip() != "gr\u00fc\u00dfe":
                raise Fault(f"not encoded: {arrived}")

    def _eight_bit_reported(self):
        with self._without_8bitmime("report") as bench:
            bench.submit(READER, octets=_EIGHT_BIT)
            bench.reported(READER, "5.6.3")

    def _client_certificate(self):
        settings = {**postfix.tls(*self.certificates.server, "encrypt"), **postfix.client_certificates(self.certificates.ca)}
        certificate, key = self.certificates.clients["bob"]
        with self._bench(settings, self._verified("starttls", certificate=certificate, private_key=key)) as bench:
            bench.arrives()

    def _untrusted(self):
        other = self.certificates.clients["stranger"][0].parent / "ca.pem"
        text = {"mode": "starttls", "tls": "verify", "ca": other}
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), text) as bench:
            bench.waits_in_the_queue()

    def _wrong_password(self):
        with self._demanding_password("PLAIN LOGIN", "wrong") as bench:
            bench.waits_in_the_queue()

    def _refused_recipient(self):
        with self._bench(self._answering("550 5.1.1 Nobody of that name"), {}) as bench:
            message_id = bench.submit(READER, NOBODY)
            if bench.arrivals.wait_for(message_id).recipients != (READER,):
                raise Fault("arrived for the wrong recipients")
            bench.reported(NOBODY, "5.1.1")

    def _refused_size(self):
        with self._bench({"message_size_limit": "10000", "virtual_mailbox_limit": "0"}, {}) as bench:
            bench.submit(READER, padding=b"x" * 70 + b"\r\n", times=1000)
            bench.reported(READER, "5.3.4")

    def _deferred_recipient(self):
        with self._bench(self._answering("450 4.2.1 Come again"), {}) as bench:
            message_id = bench.submit(NOBODY)
            bench.relay.wait_for_log("4\\.2\\.1")
            bench.postfix.set("smtpd_recipient_restrictions", "permit_mynetworks, reject")
            bench.postfix.reload()
            bench.arrivals.wait_for(message_id)

    def _through(self):
        settings = self._answering("550 5.1.1 Nobody of that name")
        with self._bench(settings, {}, more=_THROUGH) as bench:
            bench.arrives()
            bench.relay.wait_for_log("relayed")
            bench.is_refused(NOBODY, said="5.1.1 Upstream said")
            self._anew(bench, *next(iter(self._answering("450 4.2.1 Come again").items())))
            message_id = bench.submit(NOBODY)
            bench.relay.wait_for_log("deferred")
            self._anew(bench, "smtpd_recipient_restrictions", "permit_mynetworks, reject")
            bench.arrivals.wait_for(message_id)
            if len(bench.arrivals.all()) != 2:
                raise Fault(f"more arrived than was sent: {bench.arrivals.all()}")

    @staticmethod
    def _anew(bench, name, value):
        """Postfix with another setting, also on connections that are open."""
        bench.postfix.stop()
        bench.postfix.set(name, value)
        bench.postfix.start()

    def _through_refused_at_end(self):
        settings = {"smtpd_end_of_data_restrictions": "check_client_access static:{554 5.7.1 Not this}"}
        with self._bench(settings, {}, more=_THROUGH) as bench:
            bench.is_refused(READER, said="5.7.1 Upstream said")
            if bench.arrivals.all() or bench.relay.queue("list", "--json").strip():
                raise Fault("it is somewhere all the same")

    def _stopped(self):
        with self._bench({}, {}) as bench:
            bench.arrives()
            bench.postfix.stop()
            message_ids = [bench.submit(READER) for _ in range(5)]
            bench.postfix.start()
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)

    def _restarted(self):
        with self._bench({}, {}) as bench:
            bench.postfix.stop()
            message_ids = [bench.submit(READER) for _ in range(5)]
            bench.relay.stop()
            bench.postfix.start()
            bench.relay.start()
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)

    def _bench(self, settings, upstream_settings, services=_PLAIN, more=""):
        return _Bench(self, settings, upstream_settings, services, more=more)

    def _verified(self, mode, **more):
        return {"mode": mode, "tls": "verify", "ca": self.certificates.ca, **more}

    def _demanding_password(self, mechanisms, ours):
        if lacking := missing(["saslpasswd2"]):
            raise Skip(f"not on this machine: {lacking[0]} (package sasl2-bin)")
        file = self.directory / "password"
        file.touch(mode=0o600)
        file.write_text(ours + "\n")
        settings = self._verified("starttls", username="relay@upstream.test", password_file=file)
        return _Bench(self, postfix.tls(*self.certificates.server, "encrypt"), settings, _PLAIN, mechanisms)

    @staticmethod
    def _answering(reply):
        return {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {NOBODY} = {reply} }} }}, permit_mynetworks, reject"}


class _Bench:
    """A Postfix, a sealpost in front of it, and what arrives behind it."""

    def __init__(self, place, settings, upstream_settings, services, mechanisms=None, more=""):
        self._place, self._settings, self._upstream_settings, self._services = place, settings, upstream_settings, services
        self._mechanisms, self._more = mechanisms, more
        self._directory = place.directory / "one"

    def __enter__(self):
        shutil.rmtree(self._directory, ignore_errors=True)
        self.arrivals = Arrivals()
        self.postfix = postfix.Postfix(self._directory / "postfix", self.arrivals.port, services=self._services, more=self._settings)
        self.relay = Relay(self._place.program, self._directory / "relay", self._place.certificates,
                           upstream(self.postfix.port, **self._upstream_settings) + self._more)
        try:
            if self._mechanisms:
                self.postfix.demand_password("relay", "right", self._mechanisms)
            self.postfix.start()
            self.relay.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self.relay.abort()
        self.postfix.abort()
        self.arrivals.close()

    def submit(self, *recipients, padding=b"", times=0, octets=None):
        """Submits a short message as alice, or these octets with {id} filled in; its Message-ID."""
        message_id, status, said = self._try_to_submit(recipients, padding * times, octets)
        if status != 0:
            raise Fault(f"not accepted:\n{said}\n{self.relay.log()[-3000:]}")
        return message_id

    def is_refused(self, *recipients, said):
        """Submits a message that is refused to its client in these words."""
        _, status, heard = self._try_to_submit(recipients)
        if status == 0 or said not in heard:
            raise Fault(f"not refused with {said}:\n{heard}\n{self.relay.log()[-3000:]}")

    def _try_to_submit(self, recipients, padding=b"", octets=None):
        message_id = new_message_id("upstream")
        file = self._directory / "message.eml"
        made = octets.replace(b"{id}", message_id.encode()) if octets else self._octets(message_id, recipients)
        file.write_bytes(made + padding)
        certificate, key = self._place.certificates.clients["alice"]
        status, said = _SMTPLIB.submit(self.relay.target, "starttls", Submission(certificate, key, SENDER, recipients, file))
        return message_id, status, said

    def arrives(self):
        """Submits one message, which arrives unchanged."""
        message_id = self.submit(READER)
        try:
            _, message = without_trace(self.arrivals.wait_for(message_id).octets)
        except Fault as fault:
            raise Fault(f"{fault}\n{self.relay.log()[-3000:]}\n{self.postfix.log()[-3000:]}") from fault
        if message != self._octets(message_id, (READER,)):
            raise Fault(first_difference(message, self._octets(message_id, (READER,))))

    def waits_in_the_queue(self):
        """Submits one message, which is tried and kept: neither delivered nor reported."""
        self.submit(READER)
        self.relay.wait_for_log("deferred")
        listed = [json.loads(line) for line in self.relay.queue("list", "--json").splitlines()]
        if [one["state"] for one in listed] != ["queued"]:
            raise Fault(f"the queue holds not one waiting message: {listed}")
        if self.arrivals.all():
            raise Fault(f"something arrived: {self.arrivals.all()}")

    def reported(self, recipient, status):
        """A report on that recipient arrives at the sender (RFC 3464)."""
        arrival = self.arrivals.wait_until(lambda one: one.sender == "" and one.recipients == (SENDER,), "a report")
        report = email.message_from_bytes(arrival.octets, policy=policy.SMTP)
        if report.get_content_type() != "multipart/report" or report.get_param("report-type") != "delivery-status":
            raise Fault(f"not a report: {report['Content-Type']}")
        status_part = next(part for part in report.walk() if part.get_content_type() == "message/delivery-status")
        said = "\n".join(str(block) for block in status_part.get_payload())
        for wanted in (rf"(?im)^Final-Recipient: *rfc822; *{re.escape(recipient)}", "(?im)^Action: *failed", rf"(?im)^Status: *{re.escape(status)}"):
            if not re.search(wanted, said):
                raise Fault(f"the report does not say {wanted}:\n{said}")
        if said.lower().count("final-recipient") != 1:
            raise Fault(f"the report names more than one recipient:\n{said}")

    @staticmethod
    def _octets(message_id, recipients):
        return SHAPES[0].octets(message_id, SENDER, ", ".join(recipients))
