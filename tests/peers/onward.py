"""smtplib -> sealpost -> a mail server -> what arrives: the bench that the checks of upstreams stand on."""

import email
import json
import re
import shutil
import smtplib
import ssl
from contextlib import contextmanager
from email import policy

from arrivals import Arrivals
from bench import first_difference, new_message_id, without_trace
from clients import CLIENTS, Submission
from messages import SHAPES
from relay import Relay, upstream
from wait import Fault

SENDER = "alice@example.com"
READER = "reader@example.net"
NOBODY = "nobody@example.net"
_SMTPLIB = next(client for client in CLIENTS if client.name == "smtplib")


@contextmanager
def session(target, certificates):
    """smtplib, connected as alice."""
    certificate, key = certificates.clients["alice"]
    context = ssl.create_default_context(cafile=target.ca)
    context.load_cert_chain(certificate, key)
    with smtplib.SMTP(target.host, target.ports["starttls"]) as smtp:
        smtp.starttls(context=context)
        smtp.ehlo()
        yield smtp


def ask(target, certificates, recipient, mail_options, rcpt_options):
    """Submits a short message as alice, and asks for what these parameters ask for."""
    octets = SHAPES[0].octets(new_message_id("asks"), SENDER, recipient)
    with session(target, certificates) as smtp:
        if not smtp.has_extn("dsn"):
            raise Fault("DSN is not offered")
        smtp.sendmail(SENDER, [recipient], octets, mail_options=mail_options, rcpt_options=rcpt_options)


class Bench:
    """A mail server, a sealpost in front of it, and what arrives behind it. `make` gives the server for a directory and the arrivals, `more` is
    what else the configuration says."""

    def __init__(self, place, make, upstream_settings, more=""):
        self._place, self._make, self._upstream_settings, self._more = place, make, upstream_settings, more
        self._directory = place.directory / "one"

    def __enter__(self):
        shutil.rmtree(self._directory, ignore_errors=True)
        self.arrivals = Arrivals()
        try:
            self.mta = self._make(self._directory / "mta", self.arrivals)
        except BaseException:
            self.arrivals.close()
            raise
        self.relay = Relay(self._place.program, self._directory / "relay", self._place.certificates,
                           upstream(self.mta.port, **self._upstream_settings) + self._more)
        try:
            self.mta.start()
            self.relay.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_):
        self.relay.abort()
        self.mta.abort()
        self.arrivals.close()

    def submit(self, *recipients, padding=b"", times=0, octets=None, smtputf8=False):
        """Submits a short message as alice, or these octets with {id} filled in; its Message-ID."""
        message_id, status, said = self._try_to_submit(recipients, padding * times, octets, smtputf8)
        if status != 0:
            raise Fault(f"not accepted:\n{said}\n{self.relay.log()[-3000:]}")
        return message_id

    def is_refused(self, *recipients, said):
        """Submits a message that is refused to its client in these words."""
        _, status, heard = self._try_to_submit(recipients)
        if status == 0 or said not in heard:
            raise Fault(f"not refused with {said}:\n{heard}\n{self.relay.log()[-3000:]}")

    def _try_to_submit(self, recipients, padding=b"", octets=None, smtputf8=False):
        message_id = new_message_id("upstream")
        file = self._directory / "message.eml"
        made = octets.replace(b"{id}", message_id.encode()) if octets else self._octets(message_id, recipients)
        file.write_bytes(made + padding)
        certificate, key = self._place.certificates.clients["alice"]
        status, said = _SMTPLIB.submit(self.relay.target, "starttls", Submission(certificate, key, SENDER, recipients, file, smtputf8))
        return message_id, status, said

    def arrives(self, shape=SHAPES[0]):
        """Submits one message, which arrives unchanged."""
        message_id = new_message_id(f"upstream {shape.name}")
        octets = shape.octets(message_id, SENDER, READER)
        self.submit(READER, octets=octets, smtputf8="smtputf8" in shape.needs)
        try:
            _, message = without_trace(self.arrivals.wait_for(message_id).octets)
        except Fault as fault:
            raise Fault(f"{fault}\n{self.relay.log()[-3000:]}\n{self.mta.log()[-3000:]}") from fault
        if message != octets:
            raise Fault(first_difference(message, octets))

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
