"""Messages of real shape, as octets with CRLF line ends; each has a Message-ID by which its arrival is known.

Random parts come from a seed, so a run repeats. What a message demands of its client stands in `needs`.
"""

import random
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from typing import Callable

# Octets of the large attachment before base64, so that the message is over 25,000,000 octets.
LARGE_ATTACHMENT = 18_600_000
DATE = "Tue, 24 Nov 2026 09:00:00 +0100"


@dataclass(frozen=True)
class Shape:
    """One kind of message."""

    name: str
    body: Callable[[], tuple]  # gives (header lines besides the usual, body octets)
    needs: frozenset = frozenset()

    def octets(self, message_id, sender, recipient):
        extra, body = self.body()
        head = [f"From: {sender}", f"To: {recipient}", f"Date: {DATE}", f"Message-ID: {message_id}", *extra]
        return "\r\n".join(head).encode("utf-8") + b"\r\n\r\n" + body


def _plain():
    return ["Subject: plain"], b"One line.\r\n\r\nAnother after an empty one.\r\n"


def _attachment(size=300_000, subject="with an attachment"):
    message = EmailMessage(policy=policy.SMTP)
    message.set_content("Please find attached.\n\nKind regards\n")
    message.add_attachment(random.Random(1).randbytes(size), maintype="application", subtype="pdf", filename="Rechnung Mai.pdf")
    message.add_attachment("a;b\n1;2\n", subtype="csv", filename="table.csv")
    message.set_boundary("=-=peers-boundary=-=")
    head, body = message.as_bytes().split(b"\r\n\r\n", 1)
    return [f"Subject: {subject}", *head.decode("ascii").split("\r\n")], body


def _large():
    return _attachment(LARGE_ATTACHMENT, "over 25 MB")


def _utf8():
    return [
        "Subject: =?utf-8?B?R3LDvMOfZSBhdXMgS8O2bG4g4pyJ?=",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
    ], "Grüße aus Köln ✉\r\nこんにちは\r\n".encode()


def _flowed():
    return [
        "Subject: flowed",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii; format=flowed; delsp=no",
    ], b"This paragraph is softly broken, \r\nso this line continues it. \r\n From space-stuffed\r\n> quoted \r\n-- \r\nsignature\r\n"


def _undeclared_8bit():
    return ["Subject: 8-bit without a word about it"], "Käse, Füße und ein 'Ä' in Latin-1\r\n".encode("latin-1") + bytes(
        octet for octet in range(0x80, 0x100)) + b"\r\n"


def _long_lines():
    lines = [b"x" * length for length in (997, 998, 999, 1000, 2047, 2048, 2049, 5000, 20_000)]
    return ["Subject: lines of 998 and longer"], b"\r\n".join(lines) + b"\r\n"


def _leading_dots():
    return ["Subject: leading dots"], b".\r\n..\r\n...\r\n.hidden\r\n\r\n.\r\n a.\r\n" + b"." * 998 + b"\r\n.\r\n"


def _trailing_blank_lines():
    return ["Subject: ends with empty lines"], b"text\r\n\r\n\r\n\r\n"


def _folded_header():
    references = "\r\n\t".join(f"<{n:032x}@lists.example.com>" for n in range(40))
    return [f"References: {references}", "Subject: folded\r\n over\r\n\tthree lines", "X-Empty:", "x-CASE: kept"], b"text\r\n"


def _empty_body():
    return ["Subject: nothing below the header"], b""


def _smtputf8():
    return ["Subject: Grüße in einem rohen Kopf", "X-Ort: Köln"], "Text mit ü\r\n".encode()


SHAPES = [
    Shape("plain", _plain),
    Shape("attachment", _attachment),
    Shape("utf-8", _utf8),
    Shape("format=flowed", _flowed),
    Shape("undeclared 8-bit", _undeclared_8bit),
    Shape("long lines", _long_lines),
    Shape("leading dots", _leading_dots),
    Shape("trailing empty lines", _trailing_blank_lines),
    Shape("folded header", _folded_header),
    Shape("empty body", _empty_body),
    Shape("smtputf8", _smtputf8, frozenset({"smtputf8"})),
    Shape("over 25 MB", _large),
]
