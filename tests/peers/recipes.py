"""Programs set up as `sealpost pki issue --print-config` and README say, with certificates of `sealpost pki`: each delivers to a real Postfix.

The settings are taken as they are printed: what is wrong in them fails here. Each row says what its program makes of the message, if it makes one.
"""

import shlex
import subprocess
from contextlib import contextmanager
from pathlib import Path

import postfix
from authority import KINDS, Pki, needs
from bench import Check, Skip, first_difference, new_message_id, readme_block, without_trace
from clients import CLIENTS, Submission
from messages import SHAPES
from relay import Relay, upstream
from wait import Fault, free_ports, must, run

ALICE = "alice@example.com"
ROBOT = "robot@example.com"
READER = "reader@example.net"
_SHAPES = [shape for shape in SHAPES if shape.name in ("plain", "attachment", "utf-8", "leading dots", "folded header")]
_CURL = next(client for client in CLIENTS if client.name == "curl")
_IDENTITIES = """
[[identity]]
name = "billing"
match = {{ ca = "staff", uri = "spiffe://example.com/billing" }}
send_as = ["{robot}"]
send_to = ["*"]

[[identity]]
name = "backup"
match = {{ ca = "staff", dns = "backup.example.com" }}
send_as = ["{robot}"]
send_to = ["*"]
"""


class Recipes:
    """The checks, and what they stand on: an authority, a relay with its certificates, the way to `arrivals`."""

    def __init__(self, program, directory, upstream_port, arrivals):
        self.directory = Path(directory)
        self.arrivals = arrivals
        self.pki = Pki(program, self.directory / "pki")
        self.pki.say("server", "--file", "server", "localhost", "127.0.0.1")
        self.pki.ca, self.pki.server = self.pki.file("ca.pem"), (self.pki.file("server.pem"), self.pki.file("server.key"))
        self.relay = Relay(program, self.directory / "relay", self.pki, upstream(upstream_port) + _IDENTITIES.format(robot=ROBOT))
        self.server = f"localhost:{self.relay.target.ports['starttls']}"
        self._mta = None

    def close(self):
        self.relay.abort()
        if self._mta:
            self._mta.abort()

    def checks(self):
        for kind in KINDS:
            yield Check(f"sealpost pki, {kind}: logs in", lambda k=kind: self._logs_in(f"kind-{k}", ALICE, "--email", ALICE, "--key", k))
        for kind, name, value in [("p256", "--uri", "spiffe://example.com/billing"), ("rsa", "--dns", "backup.example.com")]:
            yield Check(f"sealpost pki, a robot by {name[2:]}: logs in",
                        lambda k=kind, n=name, v=value: self._logs_in(f"robot-{n[2:]}", ROBOT, n, v, "--key", k))
        yield Check("sealpost pki, from a request of OpenSSL: logs in", self._request)
        yield Check("sealpost pki, renewed with the old revoked: the new one logs in, the old one does not", self._renewed)
        for program in ("msmtp", "curl", "python"):
            for shape in _SHAPES:
                yield Check(f"recipe {program}: {shape.name}", lambda p=program, s=shape: self._recipe(p, s))
        for program in ("mutt", "neomutt"):
            yield Check(f"recipe {program}", lambda p=program: self._mutt(p))
        yield Check("recipe git send-email", self._git)
        for shape in _SHAPES:
            yield Check(f"recipe Postfix as a client: {shape.name}", lambda s=shape: self._postfix(s))
        for shape in _SHAPES:
            yield Check(f"recipe stunnel for a device: {shape.name}", lambda s=shape: self._stunnel(s))
        yield Check("recipe stunnel for git send-email, which alone is told that a certificate is required", self._git_alone)

    # Logins with what the authority makes.

    def _logs_in(self, name, sender, *more):
        self._sends(*self.pki.issue(name, *more), sender)

    def _request(self):
        key, request = self.directory / "own.key", self.directory / "own.csr"
        must(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=anything",
              "-addext", "subjectAltName=email:boss@example.com", "-addext", "nsComment=unknown to rcgen"])
        certificate, none = self.pki.issue("own", "--email", ALICE, "--csr", request)
        if none.exists():
            raise Fault("a key was made although there was a request")
        self._sends(certificate, key, ALICE)
        status, said = self._submits(certificate, key, "boss@example.com", b"From: boss@example.com\r\n\r\nx\r\n")
        if status == 0 or "5.7.1" not in said:
            raise Fault(f"a name of the request counts:\n{said}")

    def _renewed(self):
        self.pki.issue("renewed", "--email", "renewed@example.com", "--no-p12")
        before = [entry["serial"] for entry in self.pki.listed() if entry["name"] == "renewed"][-1]
        self._sends(self.pki.file("renewed.pem"), self.pki.file("renewed.key"), "renewed@example.com")
        self.pki.say("renew", "renewed", "--revoke-old", "--no-p12")
        self.relay.reload()
        self._sends(self.pki.file("renewed.pem"), self.pki.file("renewed.key"), "renewed@example.com")
        old = [self.pki.file(f"renewed-{before}.{end}") for end in ("pem", "key")]
        status, said = self._submits(*old, "renewed@example.com", b"From: renewed@example.com\r\n\r\nx\r\n")
        if status == 0 or "revoked" not in said:
            raise Fault(f"the old certificate:\n{said}")

    def _sends(self, certificate, key, sender):
        message_id = new_message_id(f"login {certificate.name}")
        octets = SHAPES[0].octets(message_id, sender, READER)
        status, said = self._submits(certificate, key, sender, octets)
        if status != 0:
            raise Fault(said[-3000:])
        self._arrived(message_id, octets, sender)

    def _submits(self, certificate, key, sender, octets):
        file = self.directory / "message.eml"
        file.write_bytes(octets)
        needs("curl")
        return _CURL.submit(self.relay.target, "starttls", Submission(certificate, key, sender, (READER,), file))

    # Settings as they are printed.

    def _settings(self, program, name=None):
        name = name or f"recipe-{program}"
        if not self.pki.file(f"{name}.pem").exists():
            said = self.pki.say("issue", "--file", name, "--email", ALICE, "--print-config", program, "--server", self.server)
            self.pki.file(f"{name}.settings").write_text(said.split("\n\n", 1)[1])
        return self.pki.file(f"{name}.settings").read_text()

    def _recipe(self, program, shape):
        settings = self._settings(program)
        message_id, octets, file = self._message(program, shape)
        if program == "msmtp":
            needs("msmtp")
            self._msmtprc(settings)
            must(["msmtp", f"--file={self.directory / 'msmtprc'}", READER], stdin=octets.replace(b"\r\n", b"\n"))
        elif program == "curl":
            needs("curl")
            # --crlf is for lines that end in LF; curl would make CR CR LF of CRLF.
            file.write_bytes(octets.replace(b"\r\n", b"\n"))
            line = settings.split("\n", 1)[1].replace("\\\n", " ").replace("RECIPIENT", READER).replace("MESSAGE", str(file))
            must([*shlex.split(line), "--silent", "--show-error"])
        else:
            script = self.directory / "recipe.py"
            script.write_text(settings.replace("RECIPIENT", READER).replace("MESSAGE", str(file)))
            must(["python3", script])
        self._arrived(message_id, octets, ALICE)

    def _mutt(self, program):
        needs(program)
        settings = self._settings("mutt")
        # The command that the settings' comment tells to run first.
        prepare = next(line for line in settings.splitlines() if "umask" in line).lstrip("# ")
        if not self.pki.file("recipe-mutt-with-key.pem").exists():
            must(["sh", "-c", prepare])
        configuration = self.directory / "muttrc"
        configuration.write_text(f"{settings}\nset copy = no\n")
        text = b"mutt writes this.\n.dot\nlast line\n"
        must([program, "-F", configuration, "-s", f"from {program}", READER], stdin=text, environment={"HOME": str(self.directory)})
        arrival = self.arrivals.wait_until(lambda one: f"Subject: from {program}\r\n".encode() in one.octets, program)
        if arrival.sender != ALICE or not arrival.octets.endswith(b"\r\n\r\n" + text.replace(b"\n", b"\r\n")):
            raise Fault(f"{arrival.sender}\n{arrival.octets!r}")

    def _git(self):
        needs("git", "msmtp")
        settings = self._settings("git")
        self._msmtprc(settings)
        home = self.directory / "home"
        home.mkdir()
        (self.directory / "msmtprc").rename(home / ".msmtprc")
        environment = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1"}
        status, said = run(["git", "send-email", "--help-all"], environment=environment)
        if "not a git command" in said:
            raise Skip("git-email is not on this machine")
        for line in settings.splitlines():
            if line.startswith("#   git config"):
                must(shlex.split(line.lstrip("# ")), environment=environment)
        must(["git", "config", "--global", "user.email", ALICE], environment=environment)
        must(["git", "config", "--global", "user.name", "Alice"], environment=environment)
        tree = self.directory / "tree"
        must(["git", "init", "--quiet", tree], environment=environment)
        (tree / "file").write_text("Grüße\n.dot\n")
        must(["git", "-C", tree, "add", "file"], environment=environment)
        must(["git", "-C", tree, "commit", "--quiet", "-m", "a patch"], environment=environment)
        said = must(["git", "-C", tree, "format-patch", "--root", "-o", self.directory / "patches"], environment=environment)
        patch = Path(said.strip())
        must(["git", "-C", tree, "send-email", "--quiet", "--confirm=never", "--to", READER, "--suppress-cc=all", patch],
             environment=environment)
        arrival = self.arrivals.wait_until(lambda one: b"Subject: [PATCH] a patch" in one.octets, "the patch")
        body = patch.read_bytes().split(b"\n\n", 1)[1].replace(b"\n", b"\r\n")
        if arrival.sender != ALICE or not arrival.octets.endswith(body):
            raise Fault(f"{arrival.sender}\n{arrival.octets!r}")

    def _postfix(self, shape):
        if not self._mta:
            settings = dict(line.split(" = ", 1) for line in self._settings("postfix").splitlines() if line and line[0] != "#")
            # The test's own Postfix hands what arrives to LMTP; this one has to send it on.
            self._mta = postfix.Postfix(self.directory / "client-postfix", 1, more={
                **settings, "default_transport": "smtp", "smtp_host_lookup": "native", "smtp_tls_loglevel": "1"})
            self._mta.start()
        message_id, octets, file = self._message("postfix", shape)
        self._through(self._mta.port, file)
        self._arrived(message_id, octets, ALICE, hops=3)

    def _stunnel(self, shape):
        with self._tunnel() as port:
            message_id, octets, file = self._message("stunnel", shape)
            self._through(port, file)
            self._arrived(message_id, octets, ALICE)

    def _git_alone(self):
        """It has no option for a certificate: it is told so, and with stunnel between it sends."""
        needs("git")
        home = self.directory / "git-alone"
        home.mkdir()
        environment = {"HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1", "EMAIL": ALICE}
        patch = home / "patch"
        patch.write_text("From: alice@example.com\nSubject: [PATCH] by git alone\n\nText\n.dot\n")

        def send(*server):
            return run(["git", "send-email", "--confirm=never", f"--from={ALICE}", f"--to={READER}", "--suppress-cc=all", "--smtp-server=localhost",
                        "--smtp-domain=device.example.com", "--smtp-debug=1", *server, patch], environment=environment)

        status, said = send(f"--smtp-server-port={self.relay.target.ports['starttls']}", "--smtp-encryption=tls",
                            f"--smtp-ssl-cert-path={self.pki.ca}")
        if "not a git command" in said:
            raise Skip("git-email is not on this machine")
        if status == 0 or "Client certificate required" not in said:
            raise Fault(f"not told that a certificate is required: {status}\n{said}")
        with self._tunnel() as port:
            status, said = send(f"--smtp-server-port={port}", "--smtp-encryption=none")
            if status != 0:
                raise Fault(said)
        arrival = self.arrivals.wait_until(lambda one: b"Subject: [PATCH] by git alone" in one.octets, "the patch")
        if arrival.sender != ALICE or not arrival.octets.endswith(b"\r\n\r\nText\r\n.dot\r\n"):
            raise Fault(f"{arrival.sender}\n{arrival.octets!r}")

    @contextmanager
    def _tunnel(self):
        """README's stunnel for devices; its port for them."""
        needs("stunnel")
        certificate, key = self.pki.file("printer.pem"), self.pki.file("printer.key")
        if not certificate.exists():
            self.pki.issue("printer", "--email", ALICE, "--no-p12")
        (port,) = free_ports(1)
        configuration = self.directory / "stunnel.conf"
        configuration.write_text(_stunnel_recipe({
            "192.0.2.10:2525": f"127.0.0.1:{port}", "mail.example.com:465": f"localhost:{self.relay.target.ports['implicit']}",
            "/etc/stunnel/printer.pem": certificate, "/etc/stunnel/printer.key": key,
            "/etc/ssl/certs/ca-certificates.crt": self.pki.ca, "mail.example.com": "localhost"}))
        process = subprocess.Popen(["stunnel", configuration], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            for line in process.stderr:
                if b"Configuration successful" in line:
                    break
            yield port
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    @staticmethod
    def _through(port, file):
        """A program without TLS and certificate: curl in the clear."""
        needs("curl")
        must(["curl", "--silent", "--show-error", "--url", f"smtp://127.0.0.1:{port}/device.example.com", "--mail-from", ALICE,
              "--mail-rcpt", READER, "--upload-file", file])

    def _msmtprc(self, settings):
        file = self.directory / "msmtprc"
        file.write_text(settings)
        file.chmod(0o600)

    def _message(self, word, shape):
        message_id = new_message_id(f"recipe {word} {shape.name}")
        octets = shape.octets(message_id, ALICE, READER)
        file = self.directory / "message.eml"
        file.write_bytes(octets)
        return message_id, octets, file

    def _arrived(self, message_id, octets, sender, hops=2):
        arrival = self.arrivals.wait_for(message_id)
        if arrival.recipients != (READER,) or arrival.sender != sender:
            raise Fault(f"the envelope changed: {arrival.sender} -> {arrival.recipients}")
        trace, message = without_trace(arrival.octets)
        if message != octets:
            raise Fault(first_difference(message, octets))
        if len(trace) != hops:
            raise Fault(f"trace fields: {trace}")


def _stunnel_recipe(places):
    """README's own recipe, with the places of this machine; it stays in the foreground."""
    return f"foreground = yes\npid =\n{readme_block('[submission]', places)}"
