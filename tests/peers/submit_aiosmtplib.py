#!/usr/bin/env python3
"""Submits one message with aiosmtplib and a client certificate: WAY PORT CA CERT KEY DSN FROM FILE RECIPIENT; `-` for CERT shows none."""

import asyncio
import ssl
import sys
from pathlib import Path

import aiosmtplib


async def main():
    way, port, ca, certificate, key, dsn, sender, file, recipient = sys.argv[1:]
    context = ssl.create_default_context(cafile=ca)
    if certificate != "-":
        context.load_cert_chain(certificate, key)
    async with aiosmtplib.SMTP(hostname="localhost", port=int(port), use_tls=way == "implicit", tls_context=context, start_tls=False) as smtp:
        if way == "starttls":
            await smtp.starttls(tls_context=context)
        asked = {"mail_options": ["RET=HDRS"], "rcpt_options": ["NOTIFY=SUCCESS"]} if dsn == "dsn" else {}
        await smtp.sendmail(sender, [recipient], Path(file).read_bytes(), **asked)


asyncio.run(main())
