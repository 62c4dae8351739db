"""How long a relay takes to listen, and to serve: start.py SEALPOST CONFIG HOST PORT WHEN. Kills it then.

Listening is the first connection that is answered, with 421 or 220; serving the first 220.
"""

import socket
import subprocess
import sys
import time


def answer(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=60) as connection:
        return connection.recv(200).decode(errors="replace")[:3]


def main() -> None:
    sealpost, config, host, port, when = sys.argv[1:]
    began = time.monotonic()
    relay = subprocess.Popen([sealpost, "serve", "--config", config], stderr=subprocess.DEVNULL)
    listening, refused = None, 0
    try:
        while True:
            try:
                said = answer(host, int(port))
            except OSError:
                said = ""
            now = time.monotonic() - began
            if said and listening is None:
                listening = now
            if said == "220":
                break
            refused += said == "421"
            if relay.poll() is not None or now > 600:
                sys.exit(f"the relay does not serve: {relay.poll()}")
            time.sleep(0.01)
        print(f"the relay {when}: listens after {listening:.2f} s, serves after {now:.2f} s, {refused} were told 421")
    finally:
        relay.kill()
        relay.wait()


main()
