#!/usr/bin/env python3
"""Submits one message with Python's smtplib and a client certificate, as a script of any user would."""

import argparse
import smtplib
import ssl
from pathlib import Path


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--way", choices=["starttls", "implicit"], required=True)
    arguments.add_argument("--server", required=True)
    arguments.add_argument("--ca", required=True)
    arguments.add_argument("--cert")
    arguments.add_argument("--key")
    arguments.add_argument("--from", dest="sender", required=True)
    arguments.add_argument("--smtputf8", action="store_true")
    arguments.add_argument("--dsn", action="store_true")
    arguments.add_argument("file", type=Path)
    arguments.add_argument("recipients", nargs="+")
    given = arguments.parse_args()

    context = ssl.create_default_context(cafile=given.ca)
    if given.cert:
        context.load_cert_chain(given.cert, given.key)
    host, port = given.server.rsplit(":", 1)
    options = ["SMTPUTF8", "BODY=8BITMIME"] if given.smtputf8 else []
    asked = ["NOTIFY=SUCCESS"] if given.dsn else []
    options += ["RET=HDRS"] if given.dsn else []
    with connect(given.way, host, int(port), context) as smtp:
        refused = smtp.sendmail(given.sender, given.recipients, given.file.read_bytes(), mail_options=options, rcpt_options=asked)
    if refused:
        raise SystemExit(f"refused: {refused}")


def connect(way, host, port, context):
    if way == "implicit":
        return smtplib.SMTP_SSL(host, port, "client.example.com", context=context, timeout=120)
    smtp = smtplib.SMTP(host, port, "client.example.com", timeout=120)
    smtp.starttls(context=context)
    return smtp


if __name__ == "__main__":
    main()
