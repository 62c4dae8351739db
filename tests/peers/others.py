"""Checks of Exim, OpenSMTPD and aiosmtpd as upstreams: what Postfix shows (upstreams.py), from those who read the RFCs on their own.

One table of servers, one list of checks; what a server does not offer is said in its row, and then it is checked what becomes of the mail.
"""

import re
from dataclasses import dataclass, field
from typing import Callable

from aiosmtpd_server import Aiosmtpd
from bench import Check, new_message_id
from exim import Exim
from messages import SHAPES
from mta import PASSWORD, USER, Demands
from onward import NOBODY, READER, SENDER, Bench, ask, session
from opensmtpd import OpenSmtpd
from reports import read_report
from wait import Fault

# How many messages are handed over at once to see them share connections.
MANY = 12


@dataclass(frozen=True)
class Server:
    """One row. The patterns are looked for in its log after a message over TLS."""

    name: str
    make: Callable  # (directory, arrivals, demands)
    external: bool = False
    requiretls: bool = False
    dsn: bool = False
    smtputf8: bool = False
    shown: tuple = ()  # what its log must show of how the message came
    refuses: dict = field(default_factory=dict)  # shape -> the status of the report on it
    forgets_envid: bool = False


SERVERS = [
    # L: pipelined (the dot: not before the greeting); K: by BDAT (Exim's specification, "Logging message reception").
    Server("Exim", lambda directory, arrivals, demands: Exim(directory, arrivals.port, demands), external=True, dsn=True, smtputf8=True,
           shown=(r"<= alice@example\.com .* P=\w*esmtps L\. ", r"<= alice@example\.com .* K ")),
    Server("OpenSMTPD", lambda directory, arrivals, demands: OpenSmtpd(directory, arrivals.port, demands), dsn=True, forgets_envid=True,
           shown=(r"smtp tls ciphers=TLSv1\.3", r"smtp message .* proto=ESMTP")),
    # It holds RFC 5321 §4.5.3.1.6 against lines over 1,000 octets.
    Server("aiosmtpd", Aiosmtpd, smtputf8=True, requiretls=True, shown=("took TLS=True",), refuses={"long lines": "5.0.0"}),
]


class Others:
    """The checks, and the place they work in."""

    def __init__(self, program, directory, certificates):
        self.program, self.directory, self.certificates = program, directory, certificates

    def checks(self):
        for server in SERVERS:
            for name, run in [
                ("over STARTTLS, its certificate verified: all shapes", self._starttls),
                ("over implicit TLS", self._implicit),
                ("with a password by PLAIN", lambda one: self._password(one, "PLAIN")),
                ("with a password by LOGIN", lambda one: self._password(one, "LOGIN")),
                ("a wrong password: mail waits, nothing bounces", self._wrong_password),
                ("with a client certificate", self._client_certificate),
                ("without the client certificate it demands: mail waits, nothing bounces", self._no_certificate),
                *([("with a client certificate and AUTH EXTERNAL", self._external)] if server.external else []),
                ("a certificate of an unknown CA: mail waits, nothing bounces", self._untrusted),
                ("550 to one of two recipients: one arrives, one is reported", self._refused),
                ("450 to a recipient: kept, and delivered once it is taken", self._deferred),
                ("stopped and started again: what was accepted meanwhile arrives", self._stopped),
                ("many messages at once: each arrives once", self._many),
                ("success asked for: one report", self._success),
                ("a header in UTF-8", self._smtputf8),
                *([("REQUIRETLS: offered once it is seen to offer it, and passed on", self._requiretls)] if server.requiretls else []),
            ]:
                yield Check(f"{server.name} as upstream, {name}", lambda server=server, run=run: run(server))

    def _starttls(self, server):
        with self._bench(server, self._tls(), self._verified("starttls", chunking=True)) as bench:
            for shape in SHAPES:
                if shape.name in server.refuses:
                    bench.submit(READER, octets=shape.octets("<refused@peers.example.com>", SENDER, READER))
                    bench.reported(READER, server.refuses[shape.name])
                elif not shape.needs:
                    bench.arrives(shape)
            for pattern in server.shown:
                if not re.search(pattern, bench.mta.log()):
                    raise Fault(f"its log does not show {pattern}:\n{bench.mta.log()}")

    def _implicit(self, server):
        with self._bench(server, self._tls(implicit=True), self._verified("implicit")) as bench:
            bench.arrives()

    def _password(self, server, mechanism):
        with self._with_password(server, PASSWORD, (mechanism,)) as bench:
            bench.arrives()
            if not re.search(rf"A=\w+:{USER}|authentication user={USER} result=ok|auth {mechanism} right", bench.mta.log()):
                raise Fault(bench.mta.log())

    def _wrong_password(self, server):
        with self._with_password(server, "wrong", ("PLAIN", "LOGIN")) as bench:
            bench.waits_in_the_queue()

    def _with_password(self, server, password, mechanisms):
        file = self.directory / "others-password"
        file.touch(mode=0o600)
        file.write_text(password + "\n")
        return self._bench(server, self._tls(mechanisms=mechanisms), self._verified("starttls", username=USER, password_file=file))

    def _client_certificate(self, server):
        with self._bench(server, self._tls(client_ca=self.certificates.ca), self._as_bob()) as bench:
            bench.arrives()

    def _no_certificate(self, server):
        with self._bench(server, self._tls(client_ca=self.certificates.ca), self._verified("starttls")) as bench:
            bench.waits_in_the_queue()

    def _external(self, server):
        demands = self._tls(client_ca=self.certificates.ca, mechanisms=("EXTERNAL",))
        with self._bench(server, demands, self._as_bob(auth="external", username="bob@example.com")) as bench:
            bench.arrives()
            if "A=external:bob@example.com" not in bench.mta.log():
                raise Fault(bench.mta.log())

    def _as_bob(self, **more):
        certificate, key = self.certificates.clients["bob"]
        return self._verified("starttls", certificate=certificate, private_key=key, **more)

    def _untrusted(self, server):
        other = self.certificates.clients["stranger"][0].parent / "ca.pem"
        with self._bench(server, self._tls(), self._verified("starttls", ca=other)) as bench:
            bench.waits_in_the_queue()

    def _refused(self, server):
        with self._bench(server, Demands(answers={NOBODY: "550 5.1.1 Nobody of that name"}), {}) as bench:
            message_id = bench.submit(READER, NOBODY)
            if bench.arrivals.wait_for(message_id).recipients != (READER,):
                raise Fault("arrived for the wrong recipients")
            bench.reported(NOBODY, "5.1.1")

    def _deferred(self, server):
        with self._bench(server, Demands(answers={NOBODY: "450 4.2.1 Come again"}), {}) as bench:
            message_id = bench.submit(NOBODY)
            bench.relay.wait_for_log("4\\.2\\.1")
            bench.mta.stop()
            bench.mta.demands.answers.clear()
            bench.mta.start()
            if bench.arrivals.wait_for(message_id).recipients != (NOBODY,):
                raise Fault("arrived for the wrong recipient")

    def _stopped(self, server):
        with self._bench(server, Demands(), {}) as bench:
            bench.arrives()
            bench.mta.stop()
            message_ids = [bench.submit(READER) for _ in range(3)]
            bench.relay.wait_for_log("deferred")
            bench.mta.start()
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)

    def _many(self, server):
        with self._bench(server, self._tls(), self._verified("starttls")) as bench:
            message_ids = [new_message_id("many") for _ in range(MANY)]
            with session(bench.relay.target, self.certificates) as smtp:
                for message_id in message_ids:
                    smtp.sendmail(SENDER, [READER], SHAPES[0].octets(message_id, SENDER, READER))
            for message_id in message_ids:
                bench.arrivals.wait_for(message_id)
            bench.relay.stop()
            arrived = sorted(one.message_id for one in bench.arrivals.all())
            if arrived != sorted(message_ids):
                raise Fault(f"not each once: {arrived}")

    def _success(self, server):
        """RFC 3461 §5.2.2: who has DSN reports by himself; for who has not, sealpost says that it was relayed."""
        with self._bench(server, Demands(), {}) as bench:
            ask(bench.relay.target, self.certificates, READER, ["RET=HDRS", "ENVID=QQ+2B1"], ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{READER}"])
            arrival = bench.arrivals.wait_until(lambda one: one.sender == "" and one.recipients == (SENDER,), "a report")
            reporter = b"upstream.test" if server.dsn else b"localhost"
            if not re.search(rb"(?im)^reporting-mta: *dns; *" + reporter, arrival.octets):
                raise Fault(f"not from whom it should come: {arrival.octets}")
            if server.dsn and not server.forgets_envid and b"QQ+1" not in arrival.octets and b"QQ+2B1" not in arrival.octets:
                raise Fault(f"the ENVID was lost: {arrival.octets}")
            if not server.dsn and read_report(arrival.octets).recipients[0]["action"] != "relayed":
                raise Fault(f"not relayed: {arrival.octets}")
            bench.relay.stop()
            if len([one for one in bench.arrivals.all() if one.recipients == (SENDER,)]) != 1:
                raise Fault("more than one report")

    def _smtputf8(self, server):
        (shape,) = (shape for shape in SHAPES if "smtputf8" in shape.needs)
        with self._bench(server, Demands(), {}) as bench:
            if server.smtputf8:
                bench.arrives(shape)
            else:
                bench.submit(READER, octets=shape.octets("<utf8@peers.example.com>", SENDER, READER), smtputf8=True)
                bench.reported(READER, "5.6.9")

    def _requiretls(self, server):
        """RFC 8689 §2 and §4.2.1. smtplib can be given any parameter; the programs of docs/clients.md have no option for it."""
        with self._bench(server, self._tls(requiretls=True), self._verified("starttls")) as bench:
            bench.arrives()
            message_id = new_message_id("requiretls")
            with session(bench.relay.target, self.certificates) as smtp:
                if not smtp.has_extn("requiretls"):
                    raise Fault(f"not offered: {smtp.esmtp_features}")
                smtp.sendmail(SENDER, [READER], SHAPES[0].octets(message_id, SENDER, READER), mail_options=["REQUIRETLS"])
            bench.arrivals.wait_for(message_id)
            told = [line for line in bench.mta.log().splitlines() if "REQUIRETLS" in line]
            if len(told) != 1 or "TLS=True" not in told[0]:
                raise Fault(f"it was told:\n{bench.mta.log()}")

    def _bench(self, server, demands, upstream_settings):
        return Bench(self, lambda directory, arrivals: server.make(directory, arrivals, demands), upstream_settings)

    def _tls(self, **more):
        return Demands(server=self.certificates.server, **more)

    def _verified(self, mode, **more):
        return {"mode": mode, "tls": "verify", "ca": self.certificates.ca, **more}
