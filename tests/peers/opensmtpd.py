"""A real OpenSMTPD of Debian's package, in a jail with all its libraries.

Of Debian 13: that of Debian 12 (6.8.0p2) serves no TLS, since it can't sign with OpenSSL 3 (OpenSMTPD/OpenSMTPD issues 1171 and 1239).
"""

from pathlib import Path

from jail import Jail
from mta import PASSWORD, USER, Demands
from packages import unpacked
from wait import free_ports, must

_PACKAGES = ("opensmtpd", "libc6", "libssl3t64", "libevent-2.1-7t64", "zlib1g", "libcrypt1", "libpam0g", "libaudit1", "libcap-ng0",
             "libdb5.3t64", "libzstd1")
_SERVER = "/etc/smtpd/server"


class OpenSmtpd:
    """One instance. What it takes goes to `arrivals_port`, or to the `smarthost`."""

    name = "OpenSMTPD"

    def __init__(self, directory, arrivals_port, demands=None, smarthost=None):
        self.demands, self._smarthost, self._arrivals_port = demands or Demands(), smarthost, arrivals_port
        self._jail = Jail(directory, unpacked(*_PACKAGES, suite="trixie"), ["opensmtpd", "opensmtpq", "nobody"])
        for name in ("var/empty", "var/lib/opensmtpd/empty", "var/run", "var/spool", "var/mail"):
            self._jail.room(name, 0o755)
        # It trusts the system's CAs, here ours, and does not start without any.
        self._jail.write("etc/ssl/certs/ca-certificates.crt", Path(smarthost.ca).read_text() if smarthost else "")
        (self.port,) = free_ports(1)

    def start(self):
        self._jail.write("etc/smtpd.conf", "\n".join(self._configuration()) + "\n", mode=0o600)
        self._jail.start(["/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf"], self.port)

    def stop(self):
        self._jail.stop()

    def abort(self):
        self._jail.abort()

    def log(self):
        return self._jail.said()

    def _configuration(self):
        yield "smtp max-message-size 100M"
        yield "queue ttl 1h"
        listen = f"listen on 127.0.0.1 port {self.port} hostname upstream.test"
        demands = self.demands
        if demands.server:
            certificate, key = demands.server
            self._inside("server.pem", certificate)
            self._inside("server.key", key)
            yield f'pki upstream cert "{_SERVER}.pem"'
            yield f'pki upstream key "{_SERVER}.key"'
            verify = ""
            if demands.client_ca:
                self._inside("clients.pem", demands.client_ca)
                yield 'ca clients cert "/etc/smtpd/clients.pem"'
                verify = " verify"
            listen += f" {'smtps' if demands.implicit else 'tls-require'}{verify} pki upstream"
            listen += " ca clients" if demands.client_ca else ""
        if demands.mechanisms:
            hashed = must(["openssl", "passwd", "-6", PASSWORD]).strip()
            yield f'table people {{ "{USER}" = "{hashed}" }}'
            listen += " auth <people>"
        for number, (address, reply) in enumerate(demands.answers.items()):
            yield f'filter answer{number} phase rcpt-to match rcpt-to {{ "{address}" }} reject "{reply}"'
        if demands.answers:
            yield f"filter answers chain {{ {', '.join(f'answer{number}' for number in range(len(demands.answers)))} }}"
            listen += " filter answers"
        yield listen
        yield from self._onward()
        yield "match from any for any action onward"

    def _onward(self):
        there = self._smarthost
        if not there:
            yield f'action onward relay host "lmtp://127.0.0.1:{self._arrivals_port}"'
            return
        self._inside("client.pem", there.certificate)
        self._inside("client.key", there.key)
        yield 'pki client cert "/etc/smtpd/client.pem"'
        yield 'pki client key "/etc/smtpd/client.key"'
        yield f'action onward relay host "{"smtps" if there.implicit else "smtp+tls"}://localhost:{there.port}" pki client'

    def _inside(self, name, file):
        self._jail.write(f"etc/smtpd/{name}", Path(file).read_text(), mode=0o600)
