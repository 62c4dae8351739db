"""What is asked of a mail server that is not Postfix, as upstream or as client; exim.py, opensmtpd.py and aiosmtpd_server.py do it.

Each is an object with `port`, `start`, `stop`, `abort`, `log` and `demands`, which may be changed while it is stopped.
"""

from dataclasses import dataclass, field
from pathlib import Path

USER, PASSWORD = "relay", "right"


@dataclass
class Demands:
    """How it serves. `server`: its certificate and key, or None: no TLS. `answers`: what is said to a recipient instead of 250."""

    server: tuple | None = None
    implicit: bool = False
    client_ca: Path | None = None  # a client certificate of this CA is demanded
    mechanisms: tuple = ()  # of AUTH, one of which is demanded
    requiretls: bool = False  # REQUIRETLS (RFC 8689) is offered and taken; aiosmtpd alone can be made to
    answers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Smarthost:
    """Where it sends all mail on to, with a certificate; instead of `arrivals`, to which it speaks LMTP."""

    port: int
    implicit: bool
    ca: Path
    certificate: Path
    key: Path
