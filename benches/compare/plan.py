"""What is measured: the rows, how long each takes, and the words of the command line."""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import servers

# The upstream far away, milliseconds.
DELAY = 50
# Clients' certificates: those that come in turn, again and again, so that whatever is remembered of them is at hand; and of whom nothing is,
# several times as many as the relay remembers (1,024).
CLIENTS = 20
STRANGERS = 5000
# Where queues are kept, and what peers' packages are unpacked to.
DIRECTORY = Path("/var/tmp")
PROGRAMS = Path("/var/tmp/sealpost-compare-programs")


@dataclass(frozen=True)
class Case:
    """A load: for a time (`messages` 0), or of so many messages where they are what is counted (octets, syncs, round trips)."""

    key: str
    title: str
    octets: int
    # 0: sessions are opened and closed, and nothing is sent.
    per_connection: int
    messages: int = 0
    connections: int = 20
    clients: int = CLIENTS


@dataclass(frozen=True)
class Upload:
    """Clients that send a large message each, all at once."""

    sessions: int
    octets: int


# Loads for a time, in rounds.
CASES = {case.key: case for case in (
    Case("handshake", f"sessions opened and closed, warm ({CLIENTS} clients in turn)", 0, 0),
    Case("cold", f"sessions opened and closed, cold ({STRANGERS:,} clients in turn)", 0, 0, clients=STRANGERS),
    Case("single", "1 message a connection, 4 KB", 4096, 1),
    Case("many", "100 a connection, 4 KB", 4096, 100),
    Case("large", "100 a connection, 75 KB", 76800, 100),
)}

# Rows that are measured once, and what they say; seconds for each server, about.
ONCE = {
    "start": ("a start with an empty queue, five times", 20),
    "idle": ("memory of idle sessions: --idle, 2,000 unless told", 30),
    "idle10000": ("the same with 10,000; Postfix would take 17 GB for it, and is left out", 90),
    "upload": ("memory while 1,000 connections send 25 MB each, all at once; as much of it as the disk holds", 240),
    "written": ("octets written for an octet of mail, on a disk of its own", 30),
    "syncs": ("syncs of a message, counted by perf, or under strace where that can't", 30),
    "allocations": ("allocations of a session alone and of a message of 4 KB, counted by perf", 30),
    "far": (f"round trips to an upstream {DELAY} ms away, on one connection", 15),
    "identities": (f"CPU of a session, warm and cold, and of a message, with a roster of a million against {STRANGERS:,}, in turn (sealpost alone)", 300),
    "revoked": ("the same with a CRL of a million serials against ten", 300),
    "queued": ("CPU of a message, 100 a connection, and octets written, with a million messages that wait in the queue", 300),
}
# Rows that are of sealpost alone.
_ALONE = {"identities", "revoked", "queued"}
# No load is measured longer than a day.
_LONG = 86_400
# Rows with clients of whom nothing is remembered.
STRANGE = {"cold", "identities", "revoked"}
# What a full run leaves out unless it is asked for.
_ASKED = {"idle10000"}
_DRAIN = 10  # What a queue takes to empty, about, seconds.


@dataclass(frozen=True)
class Plan:
    """All that is asked of one run."""

    servers: tuple
    rows: tuple
    rounds: int
    seconds: float
    warmup: float
    idle: int
    # And of those that only memory bounds.
    idle_many: int
    upload: Upload
    # Of a row that counts messages: so many of them.
    messages: int
    million: int

    def cases(self):
        """The loads among the rows."""
        return [case for key, case in CASES.items() if key in self.rows]

    def clients(self):
        """How many certificates it takes."""
        return STRANGERS if STRANGE & set(self.rows) else CLIENTS

    def counted(self):
        """Loads whose octets and syncs are counted."""
        return [Case(key, size, CASES[key].octets, 100, messages=self.messages) for key, size in (("many", "4 KB"), ("large", "75 KB"))]

    def allocating(self):
        """Loads whose allocations are counted: sessions without a message, and messages with a hundredth of a session each."""
        return [replace(CASES[key], messages=self.messages) for key in ("handshake", "many")]

    def far(self):
        """One of each connection's messages is under way upstream at a time."""
        return Case("far", "4 KB", 4096, 100, messages=60 if self.messages > 1000 else 20, connections=4)

    def estimate(self):
        """How long it takes, seconds, about."""
        loads = sum(servers.ALL[name].takes(case.key) for case in self.cases() for name in self.servers)
        once = sum(seconds * (1 if row in _ALONE else sum(servers.ALL[name].takes(row) for name in self.servers))
                   for row, (_, seconds) in ONCE.items() if row in self.rows)
        return loads * self.rounds * (self.warmup + self.seconds + _DRAIN) + once


def arguments(words=None):
    """The command line, or these words, read: the plan, and where things are."""
    parser = argparse.ArgumentParser(prog="python3 benches/compare", description=_description(), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short trial: one round of 2 s, few messages, little at once; says whether it works, not how fast")
    parser.add_argument("--only", type=_words, metavar="ROW,..", help="some of the rows above")
    parser.add_argument("--servers", type=_words, metavar="NAME,..", help=f"some of {', '.join(servers.ALL)}; all unless told")
    parser.add_argument("--rounds", type=_count(1000), help="rounds of the loads (3; quick: 1)")
    parser.add_argument("--seconds", type=_time(0.1), help="how long a load is measured (30; quick: 2)")
    parser.add_argument("--warmup", type=_time(0), help="how long it goes on before that (5; quick: 1)")
    parser.add_argument("--idle", type=_count(servers.SESSIONS_MAX), help="idle sessions (2000; quick: 200). Postfix takes 1.7 MiB each")
    parser.add_argument("--uploads", type=_count(servers.SESSIONS_MAX), help="connections that send 25 MB each (1000; quick: 50, 2 MB each)")
    parser.add_argument("--directory", type=_directory, default=DIRECTORY, help=f"where queues are kept while it runs: the disk that is measured ({DIRECTORY})")
    parser.add_argument("--programs", type=Path, default=PROGRAMS, help=f"where the peers' packages are unpacked, and stay ({PROGRAMS})")
    parser.add_argument("--sealpost", type=Path, help="a directory with an optimized build (sealpost, examples/load, examples/sink, examples/queue), instead of building one")
    parser.add_argument("--out", type=Path, help="where results.json and table.md go")
    given = parser.parse_args(words)
    _known(parser, "server", given.servers, servers.ALL)
    _known(parser, "row", given.only, [*CASES, *ONCE])
    plan = _plan(given)
    if not asked(plan.servers, plan.rows):
        parser.error(f"none of {', '.join(plan.servers)} has a part in {', '.join(plan.rows)}")
    return given, plan


def _plan(given):
    quick = given.quick

    def told(value, full, short):
        return value if value is not None else short if quick else full

    everything = [row for row in (*CASES, *ONCE) if row not in _ASKED]
    return Plan(
        servers=tuple(given.servers or servers.ALL), rows=tuple(given.only or everything), rounds=told(given.rounds, 3, 1),
        seconds=told(given.seconds, 30, 2), warmup=told(given.warmup, 5, 1), idle=told(given.idle, 2000, 200),
        idle_many=1000 if quick else 10_000,
        upload=Upload(told(given.uploads, 1000, 50), 2_000_000 if quick else 25_000_000), messages=400 if quick else 2000,
        million=10_000 if quick else 1_000_000)


def asked(names, rows):
    """Which server is asked for which row."""
    return [(name, row) for name in names for row in rows if servers.ALL[name].takes(row) and (row not in _ALONE or name == servers.Sealpost.name)]


def _known(parser, what, given, there):
    unknown = set(given or ()) - set(there)
    if unknown:
        parser.error(f"no {what} is called {', '.join(sorted(unknown)) or 'nothing'}; there are {', '.join(there)}")


def _words(text):
    """What is named twice is asked once."""
    return list(dict.fromkeys(word.strip() for word in text.split(",")))


def _count(most):
    """What reads a whole number, from one to so many."""
    def read(text):
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to {most}")
        return int(text)

    return read


def _time(least):
    """What reads seconds, so many at least."""
    def read(text):
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        # What is no number is in no order.
        if not least <= seconds <= _LONG:
            raise argparse.ArgumentTypeError(f"{text!r} is no time from {least} to {_LONG} seconds")
        return seconds

    return read


def _directory(text):
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is {'no directory' if path.exists() else 'not there'}")
    return path.resolve()


def _description():
    each = f"{5 + 30 + _DRAIN} s a server and round"
    rows = [*((key, f"{case.title}: {each}") for key, case in CASES.items()),
            *((key, f"{what}: {seconds} s a server") for key, (what, seconds) in ONCE.items())]
    return "\n".join([
        "sealpost beside Postfix, Exim and OpenSMTPD: the same load on each, in turn, and a table with ratios. Root on Debian needed.", "",
        "Builds the optimized relay, unpacks the peers' packages into private directories (nothing is installed, no service starts), and runs all",
        "servers interleaved in rounds: who else works on the machine hurts all alike. docs/performance.md tells the method and its limits.",
        "The tables go to standard output, the progress to standard error; --out keeps results.json and table.md, written anew behind each row.",
        "Ctrl-C, SIGTERM and SIGHUP end it with what there is; all that was started goes. It exits with 1 when it was ended so, or when sealpost lost,",
        "doubled, changed or refused something, broke a session, or could not do a job; with 2 when it can't do what the command line says. What a run",
        "left that was killed (SIGKILL), processes, mounts, loop devices, probes, cgroups and its folder, the next one with the same --directory clears, and says so.", "",
        "rows, and how long each takes, about (others have to wait: it wants the machine for itself):",
        *(f"  {key:<11} {what}" for key, what in rows), "",
        f"Only when named: {', '.join(sorted(_ASKED))}. The store alone, with a million against a hundred: tests/long queue (about an hour).",
        "Memory, reading and start with a roster of a million: tests/long roster."])
