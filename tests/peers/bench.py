"""The bench that the checks stand on, and how a check is counted.

A check is a function that takes the bench; it returns when it held, raises `Fault` when it did not, `Skip` when it cannot run here. A skip is
shown with its reason and never counts as passed.
"""

import itertools
import re
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from wait import Fault


class Skip(Exception):
    """This check cannot run here, and why."""


@dataclass(frozen=True)
class Check:
    """One claim."""

    name: str
    run: Callable


_numbers = itertools.count(1)


def new_message_id(word):
    """A Message-ID that no other message of this run has."""
    return f"<{re.sub('[^a-z0-9]+', '-', word.lower())}.{next(_numbers)}@peers.example.com>"


def readme_block(beginning, places):
    """README's own recipe that begins so, with the places of this machine for those that it names."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    recipe = beginning + readme.split(f"```\n{beginning}", 1)[1].split("```", 1)[0]
    for told, here in places.items():
        if told not in recipe:
            raise Fault(f"README's recipe does not name {told}")
        recipe = recipe.replace(told, str(here))
    return recipe


_RECEIVED = re.compile(rb"received:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.IGNORECASE)


def without_trace(octets):
    """The trace fields in front, and the message behind them."""
    trace = []
    while found := _RECEIVED.match(octets):
        trace.append(found.group())
        octets = octets[found.end():]
    return trace, octets


def first_difference(arrived, expected):
    """Where two octet strings part, for people."""
    at = next((n for n, (a, b) in enumerate(zip(arrived, expected)) if a != b), min(len(arrived), len(expected)))
    near = slice(max(0, at - 40), at + 40)
    return (f"differs at octet {at} ({len(arrived)} arrived, {len(expected)} expected):\n"
            f"  arrived  {arrived[near]!r}\n  expected {expected[near]!r}")


@dataclass
class Count:
    """What came of the checks."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def run(self, check):
        """Runs one check and tells of it in one line."""
        began = time.monotonic()
        try:
            check.run()
        except Skip as reason:
            self.skipped += 1
            print(f"skip {check.name}: {reason}", flush=True)
        except Fault as fault:
            self._fail(check.name, fault)
        except Exception:
            self.broke(check.name)
        else:
            self.passed += 1
            print(f"ok   {check.name} ({time.monotonic() - began:.1f} s)", flush=True)

    def broke(self, name):
        """A harness that breaks is a failed check, not a passed one. Called where an exception is handled."""
        self._fail(name, traceback.format_exc())

    def add(self, other):
        """What came of other checks, too."""
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def _fail(self, name, what):
        self.failed += 1
        print(f"FAIL {name}\n     {str(what).strip()}".replace("\n", "\n     "), flush=True)

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
