"""Checks of Postfix as the upstream, in all the ways a site may run it: TLS, password, client certificate, refusing, deferring, gone for a while.

Each check builds a Postfix and a sealpost of its own, submits with smtplib, and looks at what arrives, at the queue, and at Postfix's log.
"""

import base64
import email
import hashlib
import subprocess
from email import policy

import postfix
from bench import Check, Skip
from onward import NOBODY, READER, Bench
from wait import Fault, missing, must

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
            ("by DATA, and by BDAT when told so", self._chunking),
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
            if "TLS connection established from" not in bench.mta.log():
                raise Fault(bench.mta.log())

    def _implicit(self):
        with self._bench(postfix.tls(*self.certificates.server, "encrypt"), self._verified("implicit"), _IMPLICIT) as bench:
            bench.arrives()

    def _password(self, mechanisms):
        with self._demanding_password(mechanisms, "right") as bench:
            bench.arrives()
            if "sasl_username=relay" not in bench.mta.log():
                raise Fault(bench.mta.log())

    def _scram(self):
        with self._demanding_password("PLAIN SCRAM-SHA-256", "right") as bench:
            bench.arrives()
            if "sasl_method=SCRAM-SHA-256" not in bench.mta.log():
                raise Fault(bench.mta.log())

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
        for settings, verb in (({"chunking": True}, "bdat"), ({}, "data")):
            with self._bench({}, settings) as bench:
                bench.arrives()
                # What was said on a connection stands in the log once it is closed.
                bench.relay.stop()
                bench.mta.stop()
                log = bench.mta.log()
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
            # Stopped: on connections that are open a reload changes nothing.
            bench.mta.stop()
            bench.mta.set("smtpd_recipient_restrictions", "permit_mynetworks, reject")
            bench.mta.start()
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
        bench.mta.stop()
        bench.mta.set(name, value)
        bench.mta.start()

    def _through_refused_at_end(self):
        settings = {"smtpd_end_of_data_restrictions": "check_client_access static:{554 5.7.1 Not this}"}
        with self._bench(settings, {}, more=_THROUGH) as bench:
            bench.is_refused(READER, said="5.7.1 Upstream said")
            if bench.arrivals.all() or bench.relay.queue("list", "--json").strip():
                raise Fault("it is somewhere all the same")

    def _stopped(self):
        with self._bench({}, {}) as bench:
            bench.arrives()
            bench.mta.stop()
            # Fewer than the five faults after which it is left alone for half a minute.
            message_ids = [bench.submit(READER) for _ in range(3)]
            bench.mta.start()
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)

    def _restarted(self):
        with self._bench({}, {}) as bench:
            bench.mta.stop()
            message_ids = [bench.submit(READER) for _ in range(5)]
            bench.relay.stop()
            bench.mta.start()
            bench.relay.start()
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)

    def _bench(self, settings, upstream_settings, services=_PLAIN, more=""):
        return Bench(self, self._postfix(settings, services), upstream_settings, more)

    @staticmethod
    def _postfix(settings, services=_PLAIN):
        return lambda directory, arrivals: postfix.Postfix(directory, arrivals.port, services=services, more=settings)

    def _verified(self, mode, **more):
        return {"mode": mode, "tls": "verify", "ca": self.certificates.ca, **more}

    def _demanding_password(self, mechanisms, ours):
        if lacking := missing(["saslpasswd2"]):
            raise Skip(f"not on this machine: {lacking[0]} (package sasl2-bin)")
        file = self.directory / "password"
        file.touch(mode=0o600)
        file.write_text(ours + "\n")
        settings = self._verified("starttls", username="relay@upstream.test", password_file=file)
        make = self._postfix(postfix.tls(*self.certificates.server, "encrypt"))

        def demanding(directory, arrivals):
            mta = make(directory, arrivals)
            mta.demand_password("relay", "right", mechanisms)
            return mta

        return Bench(self, demanding, settings)

    @staticmethod
    def _answering(reply):
        return {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {NOBODY} = {reply} }} }}, permit_mynetworks, reject"}
