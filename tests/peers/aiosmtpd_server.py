"""A real aiosmtpd, of Debian's package but in this Python: what it takes is kept in `Arrivals` as it came, since nothing is behind it.

It pipelines, and has 8BITMIME, SMTPUTF8, SIZE and AUTH; neither DSN nor CHUNKING nor enhanced status codes of its own. REQUIRETLS
is put into it here.
"""

import importlib
import logging
import ssl
import sys
from pathlib import Path

from arrivals import Arrival
from mta import PASSWORD, USER, Demands
from packages import unpacked
from wait import PATIENCE, free_ports


class Aiosmtpd:
    """One server, in a thread of its own."""

    name = "aiosmtpd"

    def __init__(self, _directory, arrivals, demands=None):
        self.demands, self._arrivals = demands or Demands(), arrivals
        where = str(unpacked("python3-aiosmtpd", "python3-attr", "python3-public") / "usr/lib/python3/dist-packages")
        if where not in sys.path:
            sys.path.append(where)
        self._library = {name: importlib.import_module(f"aiosmtpd.{name}") for name in ("controller", "smtp")}
        # It tells of every handshake that fails, and some are to fail.
        logging.getLogger("mail").setLevel(logging.CRITICAL)
        logging.getLogger("mail.log").setLevel(logging.CRITICAL)
        (self.port,) = free_ports(1)
        self._controller, self._lines = None, []

    def start(self):
        demands = self.demands
        how = {"hostname": "127.0.0.1", "port": self.port, "ready_timeout": PATIENCE, "server_hostname": "upstream.test", "enable_SMTPUTF8": True,
               "data_size_limit": 100_000_000, "command_call_limit": None}
        if demands.mechanisms:
            library = self._library["smtp"]
            how |= {"auth_required": True, "auth_require_tls": not demands.implicit, "authenticator": self._authenticate,
                    "auth_exclude_mechanism": {"PLAIN", "LOGIN"} - set(demands.mechanisms)}
            self._result = library.AuthResult
        if demands.server and demands.implicit:
            # It takes a stream that was TLS from the start for one in the clear, so AUTH must be let be.
            how |= {"ssl_context": self._tls()}
        elif demands.server:
            how |= {"tls_context": self._tls(), "require_starttls": True}
        self._controller = self._served()(self, **how)
        self._controller.start()

    def _served(self):
        plain = self._library["controller"].Controller
        if not self.demands.requiretls:
            return plain

        class Taking(self._library["smtp"].SMTP):
            """One that knows the parameter REQUIRETLS; the handler offers it."""

            def _getparams(self, params):
                found = super()._getparams(params)
                if found:
                    found.pop("REQUIRETLS", None)
                return found

        class Controller(plain):
            def factory(self):
                return Taking(self.handler, **self.SMTP_kwargs)

        return Controller

    def stop(self):
        self._controller.stop()
        self._controller = None

    def abort(self):
        if self._controller:
            self.stop()

    def log(self):
        return "\n".join(self._lines)

    def _tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(Path, self.demands.server))
        if self.demands.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.demands.client_ca)
        return context

    def _authenticate(self, _server, _session, _envelope, mechanism, credentials):
        right = (credentials.login, credentials.password) == (USER.encode(), PASSWORD.encode())
        self._lines.append(f"auth {mechanism} {'right' if right else 'wrong'}")
        return self._result(success=right, handled=False)

    # What aiosmtpd calls.

    async def handle_EHLO(self, _server, session, _envelope, hostname, responses):
        session.host_name = hostname
        # RFC 8689 §2: offered inside TLS.
        more = ["250-REQUIRETLS"] if self.demands.requiretls and session.ssl else []
        return [*responses[:-1], *more, responses[-1]]

    async def handle_RCPT(self, _server, _session, envelope, address, options):
        if reply := self.demands.answers.get(address):
            return reply
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server, session, envelope):
        peer = session.ssl and session.ssl["peercert"]
        self._lines.append(f"took TLS={bool(session.ssl)} certificate={peer} options={envelope.mail_options}")
        self._arrivals.keep(Arrival(envelope.mail_from.strip("<>"), tuple(envelope.rcpt_tos), envelope.original_content))
        return "250 2.0.0 OK"
