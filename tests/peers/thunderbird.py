#!/usr/bin/env python3
"""Thunderbird without a screen, with a client certificate: sends through `sealpost quickstart`, over STARTTLS and over TLS from the first octet; and with a
password besides, where one is demanded.

    python3 tests/peers/thunderbird.py [--sealpost target/debug/sealpost] [--keep]

By hand (`tests/long thunderbird`): its packages (thunderbird, libnss3-tools) are too large for CI. The profile is made as a person would make it: `alice.p12`
imported, the CA trusted, the server's settings as README says, but for the question which certificate to show, which Thunderbird is told to answer itself.
What drives it is Marionette, the protocol of Mozilla's own tests: a length, a colon, JSON; no library is needed.
"""

import argparse
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

# Seconds for a start, and for each word of Thunderbird.
PATIENCE = 180
# How quickstart's ports lie (README): moved up by OFFSET.
OFFSET = 7000
PORTS = {"starttls": 1587 + OFFSET, "implicit": 1465 + OFFSET}
# nsMsgSocketType, nsMsgAuthMethod.
SOCKET_TYPE = {"starttls": 2, "implicit": 3}
AUTHENTICATION = {"none": 1, "TLS certificate": 7, "normal password": 3}
# Where a password is demanded besides: what Thunderbird is set to, and whether alice's mail goes.
WITH_PASSWORD = {"normal password": True, "TLS certificate": False}
PASSWORD = "oboe-in-a-thunderstorm"

PREFERENCES = {
    "mail.accountmanager.accounts": "account1",
    "mail.accountmanager.localfoldersserver": "server1",
    "mail.account.account1.server": "server1",
    "mail.account.account1.identities": "id1",
    "mail.server.server1.type": "none",
    "mail.server.server1.hostname": "Local Folders",
    "mail.server.server1.userName": "nobody",
    "mail.identity.id1.fullName": "Alice",
    "mail.identity.id1.useremail": "alice@example.com",
    "mail.identity.id1.valid": True,
    "mail.identity.id1.doFcc": False,
    "mail.identity.id1.compose_html": False,
    "mail.identity.id1.smtpServer": "smtp1",
    "mail.smtpservers": "smtp1",
    "mail.smtp.defaultserver": "smtp1",
    "mail.smtpserver.smtp1.hostname": "localhost",
    "mail.smtpserver.smtp1.username": "alice@example.com",
    "mail.provider.suppress_dialog_on_startup": True,
    "mailnews.start_page.enabled": False,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "security.default_personal_cert": "Select Automatically",
    # What it says to the server, into its log.
    "mailnews.smtp.loglevel": "All",
    "devtools.console.stdout.chrome": True,
    "browser.dom.window.dump.enabled": True,
}

# Composes as the compose window does, and sends at once; gives the status, and what the person would be told.
SEND = """
const [from, to, subject, done] = arguments;
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { MessageSend } = ChromeUtils.importESModule("resource:///modules/MessageSend.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
const identity = MailServices.accounts.allIdentities[0];
const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
[fields.from, fields.to, fields.subject] = [from, to, subject];
fields.forcePlainText = true;
const send = new MessageSend();
let told = "";
send.fail = (code, message) => { told = message; };
const end = (status) => setTimeout(() => done({ status, told }), status ? 1000 : 0);
const listener = {
    QueryInterface: ChromeUtils.generateQI(["nsIMsgSendListener"]),
    onStartSending() {}, onSendProgress() {}, onProgress() {}, onStatus() {}, onGetDraftFolderURI() {},
    onTransportSecurityError(id, status) { end(status); },
    onSendNotPerformed(id, status) { end(status); },
    onStopSending(id, status) { end(status); },
};
send.createAndSendMessage(null, identity, "account1", fields, false, false, Ci.nsIMsgSend.nsMsgDeliverNow, null, "text/plain",
    "Gr\\u00fc\\u00dfe\\r\\n.\\r\\nfrom Thunderbird\\r\\n", null, null, listener, null, "", Ci.nsIMsgCompType.New);
"""

# What a person who lets Thunderbird keep the password has.
REMEMBER = """
const [password, done] = arguments;
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("smtp://localhost", null, "smtp://localhost", "alice@example.com", password, "", "");
Services.logins.addLoginAsync(login).then(() => done(true), (fault) => done(String(fault)));
"""


class Marionette:
    """One session with a Thunderbird that listens on this port."""

    def __init__(self, port, process):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._stream = socket.create_connection(("127.0.0.1", port), PATIENCE)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit("Thunderbird does not listen")
                time.sleep(0.2)
        self._buffer = b""
        self._count = 0
        self._receive()
        self.do("WebDriver:NewSession", {})
        self.do("Marionette:SetContext", {"value": "chrome"})
        self.do("WebDriver:SetTimeouts", {"script": PATIENCE * 1000})

    def do(self, command, parameters):
        self._count += 1
        text = json.dumps([0, self._count, command, parameters]).encode()
        self._stream.sendall(b"%d:%s" % (len(text), text))
        _, _, fault, result = self._receive()
        if fault:
            sys.exit(f"{command}: {fault}")
        return result

    def run(self, script, *arguments):
        return self.do("WebDriver:ExecuteAsyncScript", {"script": script, "args": list(arguments), "sandbox": "system"})["value"]

    def _receive(self):
        while b":" not in self._buffer:
            self._more()
        length, self._buffer = self._buffer.split(b":", 1)
        while len(self._buffer) < int(length):
            self._more()
        text, self._buffer = self._buffer[: int(length)], self._buffer[int(length):]
        return json.loads(text)

    def _more(self):
        piece = self._stream.recv(65536)
        if not piece:
            sys.exit("Thunderbird has ended")
        self._buffer += piece


def must(words, **options):
    done = subprocess.run(words, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def profile(folder, house, way, method, marionette):
    """A profile with alice's certificate and this server."""
    folder.mkdir()
    place = f"sql:{folder}"
    must(["certutil", "-N", "--empty-password", "-d", place])
    must(["certutil", "-A", "-n", "root", "-t", "CT,,", "-i", house / "ca.pem", "-d", place])
    must(["pk12util", "-i", house / "alice.p12", "-d", place, "-K", "", "-W", "sealpost"])
    settings = PREFERENCES | {
        "mail.smtpserver.smtp1.port": PORTS[way],
        "mail.smtpserver.smtp1.try_ssl": SOCKET_TYPE[way],
        "mail.smtpserver.smtp1.authMethod": AUTHENTICATION[method],
        "mail.server.server1.directory": str(folder / "Mail"),
        "marionette.port": marionette,
    }
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in settings.items()]
    (folder / "user.js").write_text("".join(lines))


def send(folder, house, way, method):
    """Two messages: one that alice may send, one in bob's name. What came of them."""
    port = free_port()
    profile(folder, house, way, method, port)
    log = open(folder.with_suffix(".log"), "wb")
    process = subprocess.Popen(
        ["thunderbird", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", folder],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        driven = Marionette(port, process)
        if method == "normal password" and (kept := driven.run(REMEMBER, PASSWORD)) is not True:
            sys.exit(f"the password could not be kept: {kept}")
        subject = f"by Thunderbird, {way}, {method}, {folder.name}"
        return [driven.run(SEND, f"{who}@example.com", "reader@example.net", f"{who} {subject}") for who in ("alice", "bob")]
    finally:
        process.terminate()
        process.wait(PATIENCE)


def caught(house, subject):
    files = [file for file in (house / "outbox").rglob("*") if file.is_file()]
    return [text for text in (file.read_text(errors="replace") for file in files) if f"Subject: {subject}" in text]


@contextmanager
def quickstart(program, house):
    """The relay, while it runs."""
    relay = subprocess.Popen([program, "quickstart", "--dir", house, "--port-offset", str(OFFSET)],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in relay.stdout:
            if "Ctrl-C" in line:
                break
        else:
            sys.exit("sealpost quickstart has ended")
        yield relay
    finally:
        relay.terminate()
        relay.wait(PATIENCE)


def demand_password(program, house, relay):
    """From now on the certificate alone is not enough."""
    line = must([program, "passwd", "quickstart:alice@example.com"], input=PASSWORD + "\n")
    credentials = house / "credentials"
    credentials.write_text(line)
    credentials.chmod(0o600)
    configuration = house / "sealpost.toml"
    text = configuration.read_text().replace("send_as_email = true", 'send_as_email = true\nsecond_factor = "password"')
    configuration.write_text(text + '\n[credentials]\nfile = "credentials"\n')
    relay.send_signal(signal.SIGHUP)
    certificate = [f"--{name}={house / file}" for name, file in (("cert", "alice.pem"), ("key", "alice.key"), ("ca", "ca.pem"))]
    words = [program, "submit", "--server", f"localhost:{PORTS['starttls']}", *certificate, "-f", "alice@example.com", "nobody@example.net"]
    end = time.monotonic() + PATIENCE
    while "530" not in subprocess.run(words, input=(house / "alice.eml").read_text(), capture_output=True, text=True).stderr:
        if time.monotonic() > end:
            sys.exit("the relay goes on without asking for a password")
        time.sleep(0.2)


def tried(directory, house, way, method, goes):
    """Whether alice's mail went if it was to go, and bob's name was refused."""
    folder = directory / f"{len(list(directory.iterdir()))}"
    own, others = send(folder, house, way, method)
    arrived = caught(house, f"alice by Thunderbird, {way}, {method}, {folder.name}")
    right = (own["status"] == 0, len(arrived)) == ((True, 1) if goes else (False, 0))
    right &= others["status"] != 0 and not caught(house, f"bob by Thunderbird, {way}, {method}, {folder.name}")
    print(f"{'ok' if right else 'FAILED'}: {way}, authentication {method}: alice {own}, arrived {len(arrived)}; as bob {others}", flush=True)
    return right


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sealpost", type=Path, default=Path("target/debug/sealpost"))
    arguments.add_argument("--keep", action="store_true", help="keep the directory with profiles and logs")
    given = arguments.parse_args()
    for program in ("thunderbird", "certutil", "pk12util"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed; apt-get install thunderbird libnss3-tools")
    directory = Path(tempfile.mkdtemp(prefix="sealpost-thunderbird-"))
    house = directory / "house"
    failed = 0
    try:
        print(must(["thunderbird", "--version"]).strip())
        with quickstart(given.sealpost, house) as relay:
            failed += sum(not tried(directory, house, way, method, True) for way in PORTS for method in ("none", "TLS certificate"))
            demand_password(given.sealpost, house, relay)
            failed += sum(not tried(directory, house, way, method, goes) for way in PORTS for method, goes in WITH_PASSWORD.items())
    finally:
        if given.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
