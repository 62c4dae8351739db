"""Checks of the clients: each message of real shape, by each client, each way, arrives octet for octet; and what is refused.

One table (clients.CLIENTS x clients.WAYS x messages.SHAPES) and one check.
"""

from bench import Check, Skip, first_difference, new_message_id, without_trace
from clients import Submission
from messages import SHAPES
from wait import Fault, missing

RECIPIENT = "reader@example.net"

# What must be refused: name, whose certificate, envelope sender, header From, and what the client must be told.
REFUSALS = [
    ("no certificate", None, "alice@example.com", "alice@example.com", "Client certificate required"),
    ("an untrusted certificate", "stranger", "alice@example.com", "alice@example.com", "Client certificate not trusted"),
    ("a revoked certificate", "carol", "carol@example.com", "carol@example.com", "Client certificate revoked"),
    ("a forged sender", "alice", "bob@example.com", "bob@example.com", "5.7.1"),
    ("a forged From", "alice", "alice@example.com", "bob@example.com", "5.7.1"),
]


class Submissions:
    """The checks of all clients against one relay, whose upstream leads to `arrivals`.

    `hops` says how many Received fields are to stand in front of what arrives; `protocol` what the relay's own must say.
    """

    def __init__(self, clients, certificates, target, arrivals, directory, hops, protocol):
        self.clients, self.certificates, self.target, self.arrivals = clients, certificates, target, arrivals
        self.hops, self.protocol = hops, protocol
        self._file = directory / "message.eml"
        self._refused = set()

    def deliveries(self):
        for client in self.clients:
            for way in client.ways:
                for shape in filter(lambda shape: not client.why_not(shape), SHAPES):
                    yield Check(f"{client.name}, {way}: {shape.name}",
                                lambda client=client, way=way, shape=shape: self._delivers(client, way, shape))

    def not_sendable(self):
        """What a client itself cannot send: no check, but to be seen."""
        return [f"{client.name} cannot send {shape.name}: {why}"
                for client in self.clients for shape in SHAPES if (why := client.why_not(shape))]

    def refusals(self):
        for client in self.clients:
            for way in client.ways:
                for row in (row for row in REFUSALS if row[1] or not client.needs_certificate):
                    yield Check(f"{client.name}, {way}: {row[0]} is refused and told so",
                                lambda client=client, way=way, row=row: self._refuses(client, way, *row))

    def nothing_refused_arrived(self):
        """To be checked when the relay has been drained: what it held is then with Postfix or still in its queue."""
        arrived = self._refused & {one.message_id for one in self.arrivals.all()}
        if arrived:
            raise Fault(f"refused, but arrived: {sorted(arrived)}")

    def _delivers(self, client, way, shape):
        self._runs(client)
        message_id = new_message_id(f"{client.name} {way} {shape.name}")
        octets = shape.octets(message_id, "alice@example.com", RECIPIENT)
        status, said = self._submit(client, way, "alice", "alice@example.com", octets, "smtputf8" in shape.needs)
        if status != 0:
            raise Fault(f"the client gave up with {status}:\n{said[-3000:]}")
        arrival = self.arrivals.wait_for(message_id)
        if arrival.recipients != (RECIPIENT,) or arrival.sender != "alice@example.com":
            raise Fault(f"the envelope changed: {arrival.sender} -> {arrival.recipients}")
        trace, message = without_trace(arrival.octets)
        if message != client.sent(octets):
            raise Fault(first_difference(message, client.sent(octets)))
        if len(trace) != self.hops or self.protocol not in trace[-1]:
            raise Fault(f"trace fields: {trace}")

    def _refuses(self, client, way, _name, who, sender, author, told):
        self._runs(client)
        if client.hides_untrusted and who == "stranger":
            told = "Client certificate required"
        message_id = new_message_id(f"refused {client.name} {way}")
        self._refused.add(message_id)
        octets = SHAPES[0].octets(message_id, author, RECIPIENT)
        status, said = self._submit(client, way, who, sender, octets)
        if status == 0:
            raise Fault(f"the client believes it was accepted:\n{said[-3000:]}")
        if told not in said:
            raise Fault(f"the client was not told {told!r}:\n{said[-3000:]}")

    def _submit(self, client, way, who, sender, octets, smtputf8=False):
        self._file.write_bytes(octets)
        certificate, key = self.certificates.clients[who] if who else (None, None)
        return client.submit(self.target, way, Submission(certificate, key, sender, (RECIPIENT,), self._file, smtputf8))

    @staticmethod
    def _runs(client):
        if lacking := missing(client.needs):
            raise Skip(f"not on this machine: {', '.join(map(str, lacking))}")
