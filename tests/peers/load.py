"""A first figure of speed: the same load on sealpost and on Postfix, both demanding a client certificate, both relaying to smtp-sink.

    python3 tests/peers/load.py --sealpost target/release/sealpost --load target/release/examples/load [--connections N] [--messages N]

Both sync each message to the same disk before 250. One line per size and relay; "drained" is when the relay's queue was empty.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import postfix
from certificates import Certificates
from relay import Relay, upstream
from wait import free_ports, must

# Octets of the messages.
SIZES = (10_000, 75_000)
# How long a relay may take to empty its queue after the load, seconds.
DRAIN = 300


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sealpost", type=Path, required=True)
    arguments.add_argument("--load", type=Path, required=True)
    arguments.add_argument("--connections", type=int, default=32)
    arguments.add_argument("--messages", type=int, default=5000)
    given = arguments.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="sealpost-load-"))
    directory.chmod(0o755)
    try:
        measure(given, directory, Certificates(directory / "certificates"))
    finally:
        shutil.rmtree(directory)


def measure(given, directory, certificates):
    (sink_port,) = free_ports(1)
    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", "-c", f"127.0.0.1:{sink_port}", "1000"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
    settings = {
        **postfix.tls(*certificates.server, "encrypt"), **postfix.client_certificates(certificates.ca),
        "default_transport": f"smtp:[127.0.0.1]:{sink_port}", "smtpd_client_connection_count_limit": "0", "smtpd_tls_loglevel": "0",
    }
    mta = postfix.Postfix(directory / "postfix", sink_port, more=settings)
    relay = Relay(given.sealpost, directory / "relay", certificates, upstream(sink_port))
    try:
        mta.start()
        relay.start()
        for size in SIZES:
            for name, port, empty in [
                ("Postfix", mta.port, lambda: "Mail queue is empty" in must(["postqueue", "-c", mta.directory, "-p"])),
                ("sealpost", relay.target.ports["starttls"], lambda: json.loads(relay.queue("stats", "--json"))["queued"] == 0),
            ]:
                certificate, key = certificates.clients["alice"]
                began = time.monotonic()
                said = must([given.load, f"127.0.0.1:{port}", certificates.ca, certificate, key, given.connections, given.messages, size],
                            seconds=600)
                drained = wait_until(empty, began)
                print(f"{name:9} {given.connections} connections, {size} octets: {said.strip()} drained after {drained:.1f} s", flush=True)
        print(f"sealpost's memory at its peak: {peak_memory(relay.process_id)} KiB", flush=True)
    finally:
        relay.abort()
        mta.abort()
        sink.terminate()
        sink.wait()


def wait_until(empty, began):
    """A queue tells nobody that it is empty: it is asked, until the deadline."""
    while not empty():
        if time.monotonic() - began > DRAIN:
            return float("nan")
        time.sleep(0.1)
    return time.monotonic() - began


def peak_memory(process):
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


if __name__ == "__main__":
    main()
