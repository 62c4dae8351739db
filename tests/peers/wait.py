"""Free ports, waiting with a deadline, and running other people's programs.

Nothing here sleeps and hopes: what is waited for is an event (a datagram, a condition, a process that ends), and every wait has an end. A port that
opens and another program's log tell nobody; they alone are asked again and again.
"""

import os
import random
import shutil
import socket
import subprocess
import time

# How long one event may take on a busy machine, seconds.
PATIENCE = 60


class Fault(Exception):
    """A check that did not hold, or a program that did not do its part."""


# Below the range from which kernels take ports for connections (32768 on Linux): none of those can sit on a port between its choice and its use.
_CHOICE = range(10_000, 32_000)


def free_ports(count):
    """Ports of 127.0.0.1 that nobody listens on, taken at random: who chooses in another process at the same time chooses others."""
    ports = []
    while len(ports) < count:
        port = random.choice(_CHOICE)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def reachable(port, process, said):
    """Returns when the port of 127.0.0.1 takes connections; a fault when the process ends before that."""
    began = time.monotonic()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise Fault(f"port {port} never opened:\n{said()}") from None
        time.sleep(0.02)


def asked_until(holds, what):
    """Asks again and again; a fault when it does not hold in time."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > PATIENCE:
            raise Fault(f"not within {PATIENCE} s: {what}")
        time.sleep(0.05)


def missing(programs):
    """Those of the programs that are not on this machine."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [name for name in programs if not shutil.which(name, path=path)]


def run(command, *, stdin=None, environment=None, seconds=PATIENCE):
    """Runs a program to its end; its exit status and what it said (both streams, as text)."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    environment["PATH"] = environment.get("PATH", "") + ":/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            [str(word) for word in command],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Fault(f"{command[0]} did not end within {seconds} s") from late
    return done.returncode, done.stdout.decode("utf-8", "replace")


def must(command, **options):
    """Runs a program that has to succeed; what it said."""
    status, said = run(command, **options)
    if status != 0:
        raise Fault(f"{' '.join(map(str, command))}: exit {status}\n{said}")
    return said
