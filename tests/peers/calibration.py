"""The dialog scripts against Postfix that demands client certificates: each difference is explained in docs/calibration.md, or the check fails.

So does it for an explanation of what no longer differs. `python3 tests/peers --write-calibration` writes the table anew; new rows have no cause yet.
"""

import re
import ssl
from pathlib import Path

import postfix
from arrivals import Arrivals
from bench import Check
from dialogs import Play, scripts
from wait import Fault, must

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"
BEGIN, END = "<!-- tests/peers/calibration.py checks from here -->\n", "<!-- to here -->\n"
_HEAD = "| script | line | sealpost | Postfix | cause |\n| --- | --- | --- | --- | --- |\n"
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


class Calibration:
    """The checks, and Postfix."""

    def __init__(self, directory, certificates):
        self.directory = directory / "calibration"
        self.directory.mkdir()
        self.arrivals = Arrivals()
        self.personas = Personas(certificates, self.directory)
        self.mta = postfix.Postfix(self.directory / "postfix", self.arrivals.port, services=(
            "{port} inet n - n - - smtpd", "{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"), more={
                **postfix.tls(*certificates.server, "encrypt"), "smtpd_tls_CAfile": certificates.ca, "smtpd_tls_ask_ccert": "yes",
                # As a careful submission server has it.
                "smtpd_delay_reject": "no", "smtpd_helo_required": "yes", "strict_rfc821_envelopes": "yes", "smtpd_error_sleep_time": "0",
                "strict_smtputf8": "yes",
                "smtpd_sender_restrictions": "reject_non_fqdn_sender, permit_tls_all_clientcerts, reject",
                "smtpd_recipient_restrictions": "reject_non_fqdn_recipient, permit_tls_all_clientcerts, reject", "smtpd_relay_restrictions": "permit_tls_all_clientcerts, reject",
                "smtpd_forbid_bare_newline": "reject", "smtpd_forbid_bare_newline_exclusions": "", "smtpd_forbid_unauth_pipelining": "yes",
                "smtpd_client_connection_count_limit": "0"})
        self.seen, self.played, self.left = {}, 0, {}

    def checks(self):
        yield Check("Postfix to calibrate by starts", self.mta.start)
        yield Check("the dialog scripts are played to Postfix", self._played)
        yield Check("docs/calibration.md explains each difference, and nothing besides", self._explained)

    def close(self):
        self.mta.abort()
        self.arrivals.close()

    def _played(self):
        ports = dict(zip(("starttls", "implicit"), self.mta.ports))
        known = {name: int(row[0]) for name, row in _told(DOCUMENT.read_text()).items() if row[2] == "silence"}
        for script in scripts():
            if why := script.not_played():
                self.left[why] = self.left.get(why, 0) + 1
                continue
            self.played += 1
            if found := Play(ports, self.personas.context, known.get(script.name)).difference(script):
                self.seen[script.name] = found
        print(f"     played {self.played}, alike {self.played - len(self.seen)}; not played: "
              + ", ".join(f"{count} ({why})" for why, count in sorted(self.left.items())))
        # A play that falls at once, whatever is said, would be alike to nothing.
        if self.played - len(self.seen) < 20:
            raise Fault(f"hardly anything is alike: {self.seen}")

    def _explained(self):
        text = DOCUMENT.read_text()
        causes = set(re.findall(r"(?m)^\| `([a-z-]+)` \| (?:sealpost's reading|Postfix's reading|sealpost's bug|not Postfix's matter)", text))
        told = _told(text)
        faults = []
        for name, one in self.seen.items():
            row = told.get(name)
            if row is None or row[:3] != (str(one.line), one.ours, one.theirs):
                faults.append(f"{name}, line {one.line}: sealpost {one.ours}, Postfix {one.theirs}; the document has {row}")
            elif row[3] not in causes:
                faults.append(f"{name}: the cause {row[3]} is not explained")
        faults += [f"{name}: explained, but it no longer differs" for name in told if name not in self.seen]
        faults += [f"the cause {cause} explains nothing" for cause in causes - {row[3] for row in told.values()}]
        if faults:
            raise Fault("\n".join(faults))

    def write(self):
        """Writes the document with what was seen; causes that are known are kept."""
        text = DOCUMENT.read_text()
        told = _told(text)
        before, rest = text.split(BEGIN, 1)
        rows = "".join(f"| {name} | {one.line} | {one.ours} | {one.theirs} | {told[name][3] if name in told else '?'} |\n"
                       for name, one in self.seen.items())
        DOCUMENT.write_text(before + BEGIN + _HEAD + rows + END + rest.split(END, 1)[1])


def _told(text):
    """The rows of the table: script -> (line, ours, theirs, cause)."""
    table = text.split(BEGIN, 1)[1].split(END, 1)[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}
