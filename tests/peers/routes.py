"""Checks of routes: two real Postfix as upstreams, a route each. One goes down and comes back, and is no delay of the other.

The two Postfix hand on to two places where mail arrives, so that it is seen which way each message went.
"""

import json
import shutil
import subprocess

import postfix
from arrivals import Arrivals
from bench import Check, new_message_id
from clients import CLIENTS, Submission
from messages import SHAPES
from relay import Relay
from wait import Fault

SENDER = "alice@example.com"
NET = "reader@example.net"
ORG = "reader@example.org"
NOWHERE = "reader@elsewhere.example"
_SMTPLIB = next(client for client in CLIENTS if client.name == "smtplib")

_UPSTREAMS = """\
[[upstream]]
name = "net"
address = "localhost:{net}"
mode = "starttls"
tls = "verify"
ca = "{ca}"

[[upstream]]
name = "org"
address = "127.0.0.1:{org}"
tls = "none"
source_address = "127.0.0.9"

[[route]]
name = "to-org"
recipient_domains = ["example.org"]
upstreams = ["org"]

[[route]]
name = "to-net"
recipient_domains = ["example.net", "example.com"]
upstreams = ["net"]
"""


class Routes:
    """The checks, and the place they work in."""

    def __init__(self, program, directory, certificates):
        self.program, self.directory, self.certificates = program, directory, certificates

    def checks(self):
        for name, run in [
            ("each message goes its way, one for both goes both ways, one for neither is refused", self._ways),
            ("one is down: the other's mail goes on, and what waited arrives when it is back", self._down_and_back),
            ("`sealpost upstream test` shows both and sends nothing, beside the daemon", self._tested),
        ]:
            yield Check(f"two Postfix as upstreams, a route each: {name}", run)

    def _ways(self):
        with _Bench(self) as bench:
            to_net, to_org, to_both = bench.submit(NET), bench.submit(ORG), bench.submit(NET, ORG)
            for arrivals, own, recipient in ((bench.net_arrivals, to_net, NET), (bench.org_arrivals, to_org, ORG)):
                arrivals.wait_for(own)
                both = arrivals.wait_for(to_both)
                if both.recipients != (recipient,) or len(arrivals.all()) != 2:
                    raise Fault(f"{recipient}: {both.recipients}, {len(arrivals.all())} in all")
            if "client_address=127.0.0.9" not in bench.org.log() and "[127.0.0.9]" not in bench.org.log():
                raise Fault(f"org did not see source_address:\n{bench.org.log()}")
            said = bench.refused(NOWHERE)
            if "5.4.4" not in said:
                raise Fault(f"not refused for want of a route:\n{said}")

    def _down_and_back(self):
        with _Bench(self) as bench:
            bench.net.stop()
            # Five faults in a row, and it is left alone.
            waiting = [bench.submit(NET) for _ in range(20)]
            bench.relay.wait_for_log("left alone for so long")
            for message_id in [bench.submit(ORG) for _ in range(10)]:
                bench.org_arrivals.wait_for(message_id)
            both = bench.submit(NET, ORG)
            bench.org_arrivals.wait_for(both)
            stats = json.loads(bench.relay.queue("stats", "--json"))
            health = {one["name"]: (one["health"], one["routes"]) for one in stats["upstreams"]}
            if health["org"] != ("closed", ["to-org"]) or health["net"][0] == "closed" or stats["queued"] != 21:
                raise Fault(f"{health}, {stats['queued']} queued")
            if bench.net_arrivals.all():
                raise Fault("a Postfix that is stopped has taken something")
            bench.net.start()
            # A person wants it now.
            bench.relay.queue("retry", "--all")
            for message_id in [*waiting, both]:
                bench.net_arrivals.wait_for(message_id)
            if len(bench.net_arrivals.all()) != 21 or len(bench.org_arrivals.all()) != 11:
                raise Fault("something arrived twice")

    def _tested(self):
        with _Bench(self) as bench:
            text, code = bench.test()
            for wanted in ("upstream net of route to-net", "TLSv1.3", "verified: yes, for localhost", "issued by",
                           "upstream org of route to-org", "tried: 127.0.0.1:", "from 127.0.0.9", "it would take mail now"):
                if wanted not in text:
                    raise Fault(f"{wanted!r} is not in\n{text}")
            if code != 0:
                raise Fault(f"exit code {code}:\n{text}")
            bench.net.stop()
            text, code = bench.test("--json", "net")
            told = json.loads(text)
            if code != 1 or told["ready"] or "can't be reached" not in told["fault"]:
                raise Fault(f"exit code {code}:\n{text}")
            if bench.net_arrivals.all() or bench.org_arrivals.all():
                raise Fault("something was sent")


class _Bench:
    """Two Postfix, a sealpost in front of them, and two places behind them."""

    def __init__(self, place):
        self._place = place
        self._directory = place.directory / "routes"

    def __enter__(self):
        shutil.rmtree(self._directory, ignore_errors=True)
        certificates = self._place.certificates
        self.net_arrivals, self.org_arrivals = Arrivals(), Arrivals()
        self.net = postfix.Postfix(self._directory / "net", self.net_arrivals.port, more=postfix.tls(*certificates.server, "encrypt"))
        self.org = postfix.Postfix(self._directory / "org", self.org_arrivals.port)
        text = _UPSTREAMS.format(net=self.net.port, org=self.org.port, ca=certificates.ca)
        self.relay = Relay(self._place.program, self._directory / "relay", certificates, text)
        try:
            self.net.start()
            self.org.start()
            self.relay.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self.relay.abort()
        self.net.abort()
        self.org.abort()
        self.net_arrivals.close()
        self.org_arrivals.close()

    def _submit(self, recipients):
        message_id = new_message_id("routes")
        file = self._directory / "message.eml"
        file.write_bytes(SHAPES[0].octets(message_id, SENDER, ", ".join(recipients)))
        certificate, key = self._place.certificates.clients["alice"]
        status, said = _SMTPLIB.submit(self.relay.target, "starttls", Submission(certificate, key, SENDER, recipients, file))
        return message_id, status, said

    def submit(self, *recipients):
        """Submits a short message as alice; its Message-ID."""
        message_id, status, said = self._submit(recipients)
        if status != 0:
            raise Fault(f"not accepted:\n{said}\n{self.relay.log()[-3000:]}")
        return message_id

    def refused(self, *recipients):
        """What is said to a message that is not accepted."""
        _, status, said = self._submit(recipients)
        if status == 0:
            raise Fault("accepted")
        return said

    def test(self, *words):
        """`sealpost upstream test`: its text and its exit code."""
        done = subprocess.run([self.relay.program, "upstream", "test", "--config", self.relay.configuration, *words],
                              capture_output=True, text=True, check=False)
        return done.stdout + done.stderr, done.returncode
