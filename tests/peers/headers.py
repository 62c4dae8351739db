"""Python's reading of every header in fixtures/header that passes: whom it takes for the author must be granted.

    python3 tests/peers/headers.py

Two readings, since programs use both: the structured one of email.policy.default, and getaddresses() on the raw value as older programs
have it. The format of the cases is told in fixtures/header/README.md. Cases that the relay completes before it judges them are left out:
what goes on is another header then, and the Rust test looks at that.
"""

import email
import re
import sys
from email import policy
from email.utils import getaddresses
from pathlib import Path

from wait import Fault

TOP = Path(__file__).resolve().parents[2]
# Fewer, and the cases were not found.
COMPARED_LEAST = 400
ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|\*(\d+)\{([^}]*)\}|(\\))")


def cases():
    """(name, options, message as octets) of every case with the verdict `pass`."""
    for path in sorted(TOP.glob("fixtures/header/*/*.txt")):
        text = path.read_bytes().removesuffix(b"\n")
        for case in (b"\n" + text).split(b"\n=== ")[1:]:
            head, message = (case + b"\n").split(b"\n---\n", 1)
            name, *lines = head.decode().split("\n")
            options = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
            if options["verdict"] == "pass":
                lines = message.removesuffix(b"\n").split(b"\n") if message else []
                yield name, options, b"".join(ESCAPE.sub(octets, line) + b"\r\n" for line in lines)


def octets(found):
    """What an escape stands for."""
    digits, count, repeated, _ = found.groups()
    if digits:
        return bytes([int(digits, 16)])
    return repeated * int(count) if count else b"\\"


def readings(message, options):
    """Whom Python sees as the author, in each of two ways; of what is sent again, who sends it again."""
    field = "Resent-From" if options.get("resend") == "yes" else "From"
    if options.get("utf8") == "yes":
        parse = lambda rules: email.message_from_string(message.decode(), policy=rules)
    else:
        parse = lambda rules: email.message_from_bytes(message, policy=rules)
    structured = parse(policy.default)[field]
    yield "policy.default", [address.addr_spec for address in structured.addresses]
    raw = str(parse(policy.compat32)[field])
    yield "getaddresses", [address for _, address in getaddresses([raw])]


def canonical(address):
    """Local part without case and quotes, domain as A-labels."""
    local, _, domain = address.rpartition("@")
    local = local[1:-1] if len(local) > 1 and local[0] == local[-1] == '"' else local
    if not domain.startswith("["):
        domain = domain.encode("idna").decode() if domain else domain
    return local.lower(), domain.lower()


def is_granted(address, patterns):
    """Whether one of the patterns of the case grants it."""
    local, domain = canonical(address)
    for pattern in patterns:
        wanted, host = canonical(pattern)
        fits = wanted in ("*", local) or (wanted.endswith("+*") and local.startswith(wanted[:-1]))
        if fits and host == domain and local:
            return True
    return False


def wrong():
    """How many readings were compared, and each that names somebody else."""
    compared, found = 0, []
    for name, options, message in cases():
        if options.get("fqdn", "refuse") != "refuse":
            continue
        patterns = options.get("grant", "alice@example.com").split(", ")
        for way, seen in readings(message, options):
            compared += 1
            if not seen or not all(is_granted(address, patterns) for address in seen):
                found.append(f"{name}: {way} sees {seen}, granted is {patterns}")
    return compared, found


def agrees():
    """For the bench: raises when Python reads a header otherwise."""
    compared, found = wrong()
    if found or compared < COMPARED_LEAST:
        raise Fault("\n".join([*found, f"{compared} readings were compared"]))


def main():
    compared, found = wrong()
    print(*found, sep="\n")
    print(f"{compared} readings compared, {len(found)} see somebody else")
    sys.exit(1 if found or compared < COMPARED_LEAST else 0)


if __name__ == "__main__":
    main()
