"""The dialog scripts against Postfix, Exim and OpenSMTPD that demand client certificates: each difference is explained in docs/calibration.md.

One that is not fails the check. So does an explanation of what no longer differs. `python3 tests/peers --write-calibration` writes the tables
anew; new rows have no cause yet.
"""

import re
import ssl
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import postfix
from arrivals import Arrivals
from bench import Check, Skip
from clients import WAYS
from dialogs import Play, scripts
from exim import Exim
from mta import Demands
from opensmtpd import OpenSmtpd
from wait import Fault, must

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"
# How many scripts are played at once, and how many must be alike for a play to mean anything.
AT_ONCE, ALIKE = 4, 20
# How many are played, as the document says.
_COUNTED = r"\((\d+) of them;"
# Personas whose certificate is not simply one of the staff CA; the others differ in their address alone.
_STRANGERS = ("stranger", "stale")


class Personas:
    """Certificates of the personas (fixtures/dialog/README.md), made when they are first needed."""

    def __init__(self, certificates, directory):
        self._staff, self._strangers = certificates.staff, certificates.stranger
        self._directory, self._contexts = directory, {}

    def context(self, name):
        if name not in self._contexts:
            self._contexts[name] = self._made(name)
        return self._contexts[name]

    def _made(self, name):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if name != "nobody":
            context.load_cert_chain(*self._pair(name))
        return context

    def _pair(self, name):
        if name == "selfmade":
            certificate, key = self._directory / "selfmade.pem", self._directory / "selfmade.key"
            must(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", certificate,
                  "-subj", "/CN=selfmade", "-days", "3", "-addext", "subjectAltName=email:alice@example.com"])
            return certificate, key
        authority = self._strangers if name in _STRANGERS else self._staff
        dates = {"expired": ("20200101000000Z", "20200102000000Z"), "early": ("20400101000000Z", "20400102000000Z")}.get(name)
        pair = authority.issue(f"persona-{name}", "server" if name == "serveronly" else "client", f"{name}@example.com", dates=dates)
        if name == "revoked":
            authority.revoke(pair[0])
        return pair


def _postfix(directory, certificates, arrivals):
    """As a careful submission server has it."""
    made = postfix.Postfix(directory / "postfix", arrivals.port, services=(
        "{port} inet n - n - - smtpd", "{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"), more={
            **postfix.tls(*certificates.server, "encrypt"), "smtpd_tls_CAfile": certificates.ca, "smtpd_tls_ask_ccert": "yes",
            "smtpd_delay_reject": "no", "smtpd_helo_required": "yes", "strict_rfc821_envelopes": "yes", "smtpd_error_sleep_time": "0",
            "strict_smtputf8": "yes", "smtpd_sender_restrictions": "reject_non_fqdn_sender, permit_tls_all_clientcerts, reject",
            "smtpd_recipient_restrictions": "reject_non_fqdn_recipient, permit_tls_all_clientcerts, reject",
            "smtpd_relay_restrictions": "permit_tls_all_clientcerts, reject", "smtpd_forbid_bare_newline": "reject",
            "smtpd_forbid_bare_newline_exclusions": "", "smtpd_forbid_unauth_pipelining": "yes", "smtpd_client_connection_count_limit": "0"})
    return [made], dict(zip(WAYS, made.ports))


def _two(make):
    """Of a server that has one port: one for each way."""

    def both(directory, certificates, arrivals):
        demands = {way: Demands(certificates.server, way == "implicit", certificates.ca) for way in WAYS}
        made = {way: make(directory / f"{make.name}-{way}", arrivals.port, one) for way, one in demands.items()}
        return list(made.values()), {way: one.port for way, one in made.items()}

    return both


SERVERS = {"Postfix": _postfix, "Exim": _two(Exim), "OpenSMTPD": _two(OpenSmtpd)}


class Calibration:
    """The checks of one server."""

    def __init__(self, name, directory, certificates):
        self.name = name
        self.directory = directory / f"calibration-{name}"
        self.directory.mkdir()
        self.arrivals = Arrivals()
        self.personas = Personas(certificates, self.directory)
        self._certificates, self._servers, self._ports = certificates, [], {}
        self.seen, self.played = {}, 0

    def checks(self):
        yield Check(f"{self.name} to calibrate by starts", self._start)
        yield Check(f"the dialog scripts are played to {self.name}", self._played)
        yield Check(f"docs/calibration.md explains each difference of {self.name}, and nothing besides", self._explained)

    def close(self):
        for server in self._servers:
            server.abort()
        self.arrivals.close()

    def _start(self):
        self._servers, self._ports = SERVERS[self.name](self.directory, self._certificates, self.arrivals)
        for server in self._servers:
            server.start()

    def _played(self):
        left = Counter(why for script in scripts() if (why := script.not_played()))
        played = [script for script in scripts() if not script.not_played()]
        for persona in sorted({name for script in played for name in script.personas()}):
            self.personas.context(persona)
        known = {place for place, row in _told(DOCUMENT.read_text(), self.name).items() if row[1] == "silence"}

        def play(script):
            silent_at = {line for name, line in known if name == script.name}
            return script.name, Play(self._ports, self.personas.context, silent_at).differences(script)

        # They mostly wait.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self.seen = {name: found for name, found in pool.map(play, played) if found}
        self.played = len(played)
        skipped = sum(one.skipped for found in self.seen.values() for one in found)
        print(f"     played {self.played}, alike {self.played - len(self.seen)}; not played: "
              + ", ".join(f"{count} ({why})" for why, count in sorted(left.items()))
              + f"; behind differences {skipped} replies not compared")
        # A play that falls at once, whatever is said, would be alike to nothing.
        if self.played - len(self.seen) < ALIKE:
            raise Fault(f"hardly anything is alike: {self.seen}")

    def _explained(self):
        if not self.played:
            raise Skip("nothing was played")
        text = DOCUMENT.read_text()
        causes = set(re.findall(r"(?m)^\| `([a-z0-9-]+)` \| (?:sealpost's reading|their reading|sealpost's bug|not their matter) \|", text))
        told = _told(text, self.name)
        faults = []
        seen = {(name, one.line): one for name, found in self.seen.items() for one in found}
        for (name, line), one in seen.items():
            row = told.get((name, line))
            if row is None or row[:3] != (one.ours, one.theirs, str(one.skipped)):
                faults.append(f"{name}, line {line}: sealpost {one.ours}, {self.name} {one.theirs}, {one.skipped} not compared ({one.said}); the document has {row}")
            elif row[3] not in causes:
                faults.append(f"{name}, line {line}: the cause {row[3]} is not explained")
        faults += [f"{name}, line {line}: explained, but it no longer differs" for name, line in told if (name, line) not in seen]
        used = {row[3] for server in SERVERS for row in _told(text, server).values()}
        faults += [f"the cause {cause} explains nothing" for cause in causes - used]
        counted = re.search(_COUNTED, text)
        if not counted or int(counted[1]) != self.played:
            faults.append(f"{self.played} scripts were played; the document has {counted and counted[1]}")
        if faults:
            raise Fault("\n".join(faults))

    def write(self):
        """Writes the document with what was seen; causes that are known are kept."""
        text = DOCUMENT.read_text()
        told = _told(text, self.name)
        begin, end = _marks(self.name)
        before, rest = text.split(begin, 1)
        rows = "".join(f"| {name} | {one.line} | {one.ours} | {one.theirs} | {one.skipped} | {self._cause(told, name, one)} |\n"
                       for name, found in self.seen.items() for one in found)
        head = f"| script | line | sealpost | {self.name} | not compared | cause |\n| --- | --- | --- | --- | --- | --- |\n"
        whole = before + begin + head + rows + end + rest.split(end, 1)[1]
        DOCUMENT.write_text(re.sub(_COUNTED, f"({self.played} of them;", whole))

    @staticmethod
    def _cause(told, name, one):
        """What is known of the place, or `?` and what the server said: a person finds out why."""
        row = told.get((name, one.line))
        return row[-1] if row and row[:2] == (one.ours, one.theirs) else f"? {one.said[:60]}".replace("\n", " ").replace("|", "/")


def _marks(server):
    return f"<!-- tests/peers/calibration.py checks {server} from here -->\n", f"<!-- {server} to here -->\n"


def _told(text, server):
    """The rows of the server's table: (script, line) -> (ours, theirs, not compared, cause)."""
    begin, end = _marks(server)
    table = text.split(begin, 1)[1].split(end, 1)[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    return {(row[0], int(row[1])): row[2:] for row in rows}
