"""Reports: what the golden ones are to Python's own reader of mail, and who reports with a real Postfix as upstream, with its DSN and without.

What is asked of reports is said by smtplib, on the wire; what comes is read by `email`, which shares no code with sealpost's composer.
"""

import email
import shutil
import time
from email import policy
from pathlib import Path

import postfix
from arrivals import Arrivals
from bench import Check
from onward import NOBODY, READER, SENDER, ask
from relay import Relay, upstream
from wait import Fault

_GOLDEN = Path(__file__).parents[2] / "fixtures" / "report"
_PER_MESSAGE = ["original-envelope-id", "reporting-mta", "arrival-date"]
_PER_RECIPIENT = ["original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date",
                  "will-retry-until"]


class Reports:
    """The checks, and the place they work in."""

    def __init__(self, program, directory, certificates):
        self.program, self.directory, self.certificates = program, directory, certificates

    def checks(self):
        for file in sorted(_GOLDEN.glob("*.eml")):
            yield Check(f"the golden report {file.stem}, as Python reads it", lambda file=file: read_report(file.read_bytes()))
        for name, run in [
            ("with DSN: it reports success by itself, and sealpost nothing", self._postfix_reports),
            ("without DSN: sealpost reports that it was relayed", self._we_report),
            ("550 with NOTIFY=NEVER: nothing is reported, and it is kept as dead", self._never),
            ("a report from somebody, by an upstream of its own", self._own_way),
        ]:
            yield Check(f"reports, Postfix as upstream {name}", run)
        yield Check("asked for by a client, HOLDFOR: it waits, its sender is let in again, and it arrives", self._hold_for)
        yield Check("asked for by a client, BY with R: an upstream without DELIVERBY never gets it", self._deliver_by)

    def _postfix_reports(self):
        with _Bench(self, {}) as bench:
            bench.submit(READER, ["RET=HDRS", "ENVID=QQ+2B1"], ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Reader+2B@example.net"])
            report = bench.report()
            bench.holds(report, "reporting-mta", "dns; upstream.test")
            bench.holds(report, "original-envelope-id", "QQ+1")
            bench.holds(report, "original-recipient", "rfc822;Reader+@example.net")
            if report.recipients[0]["action"] not in ("delivered", "relayed"):
                raise Fault(f"{report.recipients}")
            bench.stays_alone()

    def _we_report(self):
        with _Bench(self, {"smtpd_discard_ehlo_keywords": "dsn"}) as bench:
            bench.submit(READER, ["RET=FULL", "ENVID=QQ+2B1"], ["NOTIFY=SUCCESS", "ORCPT=rfc822;Reader+2B@example.net"])
            report = bench.report()
            bench.holds(report, "reporting-mta", "dns; localhost")
            bench.holds(report, "original-envelope-id", "QQ+1")
            bench.holds(report, "original-recipient", "rfc822; Reader+@example.net")
            bench.holds(report, "final-recipient", f"rfc822; {READER}")
            bench.holds(report, "action", "relayed")
            if not report.recipients[0]["status"].startswith("2."):
                raise Fault(f"{report.recipients}")
            if report.returned != "text/rfc822-headers":
                raise Fault(f"of no failure the whole message is not given back: {report.returned}")
            bench.stays_alone()

    def _never(self):
        refusing = {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {NOBODY} = 550 5.1.1 No }} }}, permit_mynetworks, reject"}
        with _Bench(self, refusing) as bench:
            bench.submit(NOBODY, [], ["NOTIFY=NEVER"])
            bench.relay.wait_for_log("\"?event\"?[:=]\\s*\"?dead")
            if bench.arrivals.all():
                raise Fault(f"something arrived: {bench.arrivals.all()}")

    def _own_way(self):
        refusing = {"smtpd_recipient_restrictions": f"check_recipient_access inline:{{ {{ {NOBODY} = 550 5.1.1 No }} }}, permit_mynetworks, reject"}
        with _Bench(self, refusing, services=("{port} inet n - n - - smtpd", "{port} inet n - n - - smtpd -o myhostname=reports.test"),
                    reports='envelope_sender = "bounces@example.com"\nupstream = "own"\npostmaster = "postmaster@example.com"') as bench:
            bench.submit(NOBODY, [], [])
            report = bench.arrivals.wait_until(lambda one: one.recipients == (SENDER,), "a report")
            copy = bench.arrivals.wait_until(lambda one: one.recipients == ("postmaster@example.com",), "the postmaster's copy")
            for one in (report, copy):
                if one.sender != "bounces@example.com" or b"by reports.test" not in one.octets:
                    raise Fault(f"not from whom, or not the way it should: {one}")
                read_report(one.octets)

    def _hold_for(self):
        with _Bench(self, {}) as bench:
            began = time.monotonic()
            bench.submit(READER, ["HOLDFOR=3", "MT-PRIORITY=5"], [])
            waiting = bench.relay.queue("list", "--json")
            arrival = bench.arrivals.wait_until(lambda one: one.recipients == (READER,), "the message")
            if time.monotonic() - began < 3 or "queued" not in waiting:
                raise Fault(f"it did not wait: {waiting}")
            if b" PRIORITY 0" not in arrival.octets.split(b"\r\n\r\n", 1)[0].replace(b"\r\n\t", b" "):
                raise Fault("Received does not tell the priority that alice may have at most")

    def _deliver_by(self):
        with _Bench(self, {}) as bench:
            bench.submit(READER, ["BY=3600;R"], [])
            report = bench.report()
            bench.holds(report, "action", "failed")
            bench.holds(report, "status", "5.4.7")
            if "Deliver-By-Date" not in report.message:
                raise Fault(f"{report.message}")
            if any(one.recipients == (READER,) for one in bench.arrivals.all()):
                raise Fault("it was sent all the same")


class Report:
    """A report taken apart: fields of the message, of each recipient, and the type of what is given back."""

    def __init__(self, message, recipients, returned):
        self.message, self.recipients, self.returned = message, recipients, returned


def read_report(octets):
    """Reads a report as RFC 6522 and RFC 3464 have it; anything amiss is a fault."""
    report = email.message_from_bytes(octets, policy=policy.default)
    if report.get_content_type() != "multipart/report" or report.get_param("report-type") != "delivery-status":
        raise Fault(f"not a report: {report['Content-Type']}")
    if report["Auto-Submitted"] != "auto-replied":
        raise Fault("programs may answer it")
    parts = list(report.iter_parts())
    kinds = [part.get_content_type() for part in parts]
    if kinds[:2] != ["text/plain", "message/delivery-status"] or len(kinds) != 3:
        raise Fault(f"the parts are {kinds}")
    if kinds[2] not in ("text/rfc822-headers", "message/rfc822", "message/global-headers"):
        raise Fault(f"what is given back is {kinds[2]}")
    # Python takes anything called message/* for a whole message, so its words on an encoded header section mean nothing.
    sound = [part for part in report.walk() if part.get_content_type() != "message/global-headers"]
    if kinds[2] == "message/global-headers":
        sound = [report, *parts[:2]]
    defects = [defect for part in sound for defect in part.defects]
    if defects:
        raise Fault(f"defects: {defects}")
    if not parts[0].get_content().strip():
        raise Fault("nothing is said to people")
    blocks = [block for block in parts[1].get_payload() if block.keys()]
    message, recipients = blocks[0], blocks[1:]
    if not recipients:
        raise Fault("no recipient is told of")
    is_ours = "x-sealpost-queue-id" in message
    _in_order(message, _PER_MESSAGE if is_ours else [], ["reporting-mta"])
    for recipient in recipients:
        _in_order(recipient, _PER_RECIPIENT if is_ours else [], ["final-recipient", "action", "status"])
        if ("will-retry-until" in recipient) != (recipient["action"] == "delayed"):
            raise Fault("Will-Retry-Until is for delays alone (RFC 3464 §2.3.9)")
    return Report(message, recipients, kinds[2])


def _in_order(block, order, needed):
    names = [name.lower() for name in block.keys()]
    known = [name for name in names if name in order]
    if known != sorted(known, key=order.index) or len(set(names)) != len(names):
        raise Fault(f"not in the order of the grammar: {names}")
    for name in needed:
        if name not in names:
            raise Fault(f"{name} is missing: {names}")


class _Bench:
    """A Postfix, a sealpost in front of it, and what arrives behind it."""

    def __init__(self, place, settings, services=("{port} inet n - n - - smtpd",), reports=""):
        self._place, self._settings, self._services, self._reports = place, settings, services, reports
        self._directory = place.directory / "reports"

    def __enter__(self):
        shutil.rmtree(self._directory, ignore_errors=True)
        self.arrivals = Arrivals()
        self.postfix = postfix.Postfix(self._directory / "postfix", self.arrivals.port, services=self._services, more=self._settings)
        text = upstream(self.postfix.port)
        if len(self.postfix.ports) > 1:
            text += "\n\n" + upstream(self.postfix.ports[1]).replace('"postfix"', '"own"')
        if self._reports:
            text += f"\n\n[reports]\n{self._reports}"
        self.relay = Relay(self._place.program, self._directory / "relay", self._place.certificates, text)
        try:
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

    def submit(self, recipient, mail_options, rcpt_options):
        """Submits a short message as alice, and asks for what these parameters ask for."""
        ask(self.relay.target, self._place.certificates, recipient, mail_options, rcpt_options)

    def report(self):
        """The one report, which comes from nobody to alice."""
        arrival = self.arrivals.wait_until(lambda one: one.sender == "" and one.recipients == (SENDER,), "a report")
        return read_report(arrival.octets)

    def holds(self, report, name, expected):
        said = report.recipients[0][name] or report.message[name]
        if said is None or " ".join(said.split()).replace("; ", ";") != expected.replace("; ", ";"):
            raise Fault(f"{name}: {said!r} instead of {expected!r}")

    def stays_alone(self):
        """No other report comes: when sealpost has nothing left and has drained, all that it had to say is said."""
        self.relay.stop()
        reports = [one for one in self.arrivals.all() if one.recipients == (SENDER,)]
        if len(reports) != 1:
            raise Fault(f"{len(reports)} reports")
