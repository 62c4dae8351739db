#!/usr/bin/env python3
"""A roster of many lines: how long `sealpost check` reads it, and what memory an entry takes.

Memory is the daemon's own (VmRSS once it listens), less that of the same daemon with an empty roster, over the number of entries; the peak is
VmHWM, so it holds what reading took, too. Three shapes: lines that share one grant, lines with a sender of their own, and fingerprints.
"""

import argparse
import hashlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

CONFIG = """hostname = "mail.example.com"
data_dir = "data"
identities = ["people.csv"]
[[listener]]
address = "127.0.0.1:0"
[tls]
certificate = "server.pem"
private_key = "server.key"
[[client_ca]]
name = "staff"
certificates = "ca.pem"
revocation = "off"
domains = ["example.com"]
[[upstream]]
name = "main"
address = "127.0.0.1:1"
tls = "none"
[log]
format = "text"
"""

SHAPES = {
    "shared": ("name,ca,email,send_as,send_to", lambda n: f"person{n:07},staff,person{n:07}@example.com,@certificate,*"),
    "own": (
        "name,ca,email,send_as,send_to,message_size",
        lambda n: f"person{n:07},staff,person{n:07}@example.com,alias{n:07}@example.com,*@example.net,10MiB",
    ),
    "fingerprint": (
        "name,fingerprint,send_as,send_to",
        lambda n: f"device{n:07},{hashlib.sha256(str(n).encode()).hexdigest()},devices@example.com,*@example.com",
    ),
}


def openssl(directory, *arguments):
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def furnish(directory):
    new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    openssl(directory, *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Staff CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl(directory, *new, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=mail.example.com",
            "-addext", "subjectAltName=DNS:mail.example.com")
    os.chmod(directory / "server.key", 0o600)
    (directory / "sealpost.toml").write_text(CONFIG)


def write(directory, shape, count):
    head, line = SHAPES[shape]
    with open(directory / "people.csv", "w") as file:
        file.write(head + "\n")
        file.writelines(line(n) + "\n" for n in range(count))
    return (directory / "people.csv").stat().st_size


def memory(sealpost, directory):
    """VmRSS and VmHWM in octets, and the seconds until it listened."""
    begin = time.monotonic()
    daemon = subprocess.Popen([sealpost, "serve", "--config", "sealpost.toml"], cwd=directory, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in daemon.stdout:
            if "listen" in line:
                break
        else:
            sys.exit("the daemon did not start")
        took = time.monotonic() - begin
        status = pathlib.Path(f"/proc/{daemon.pid}/status").read_text()
        return [int(re.search(rf"{field}:\s+(\d+)", status)[1]) * 1024 for field in ("VmRSS", "VmHWM")] + [took]
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sealpost", required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    sealpost = os.path.abspath(arguments.sealpost)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        furnish(directory)
        write(directory, "shared", 1)
        empty, _, _ = memory(sealpost, directory)
        print("shape, lines, file MB, seconds of check, seconds to listen, octets an entry, octets an entry at the peak")
        for shape in SHAPES:
            size = write(directory, shape, arguments.count)
            begin = time.monotonic()
            subprocess.run([sealpost, "check", "--config", "sealpost.toml"], cwd=directory, check=True)
            check = time.monotonic() - begin
            now, peak, listen = memory(sealpost, directory)
            each = [round((octets - empty) / arguments.count) for octets in (now, peak)]
            print(f"{shape}, {arguments.count}, {size / 1e6:.0f}, {check:.1f}, {listen:.1f}, {each[0]}, {each[1]}", flush=True)


main()
