"""Whether the measurement judges rightly: arithmetic and verdicts, on figures of which the answer is known. `python3 benches/compare/check.py`; nothing is
started, nothing is timed. What it meets of a machine is met by a run.
"""

import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2] / "tests/peers")]

import counters  # noqa: E402
import leftovers  # noqa: E402
import measure  # noqa: E402
import plan as plans  # noqa: E402
import table  # noqa: E402
from packages import Unavailable  # noqa: E402
from wait import Fault  # noqa: E402

# `__main__` is this program's own name.
_MAIN = importlib.util.spec_from_file_location("compare", Path(__file__).parent / "__main__.py")
ours = importlib.util.module_from_spec(_MAIN)
_MAIN.loader.exec_module(ours)

# Named here again: one that is left out there must be missed here.
_WRONG, _REFUSED = ("lost", "duplicates", "changed", "strange"), ("not_accepted", "broken")
_CLEAN = dict.fromkeys((*_WRONG, *_REFUSED), 0)
_EVENTS = ("syscalls:sys_enter_fsync", "syscalls:sys_enter_fdatasync")
_PERF = "# started on\n\n12,,syscalls:sys_enter_fsync,group,5,100.00,,\n3,,syscalls:sys_enter_fdatasync,group,5,100.00,,\n"
_STRACE = "% time seconds usecs/call calls errors syscall\n------ --- --- --- --- ---\n100.00 0.1 10 41 2 fdatasync\n------ --- --- --- --- ---\n100.00 0.1 10 41 2 total\n"


def results(**rounds):
    """Results of a run of one load, one message a connection; of each server the rounds' figures."""
    usual = {"cpu_per_thousand": 1.0, "accepted_per_second": 1000, "p50_ms": 5.0, "share": 0.5, "others_share": 0.1, "load_wanted": 0.3, "sink_wanted": 0.1, **_CLEAN}
    names = {name.replace("_", "-"): [{"single": {**usual, **figures}} for figures in those] for name, those in rounds.items()}
    return {
        "date": "", "commit": "abc", "program": "noon", "built": "now", "machine": {"cores": 2, "cpu": "", "memory_mib": 1, "kernel": ""}, "load_average_before": [0], "notes": [],
        "plan": {"rounds": 1, "seconds": 1, "warmup": 1, "idle": 1, "idle_many": 1, "upload": {"sessions": 1}, "million": 1, "delay_ms": 1},
        "cases": {"single": {"title": "single"}}, "ended_early": False,
        "servers": {name: {"version": "1", "unavailable": None, "rounds": those, "faults": [], "not_asked": []} for name, those in names.items()},
    }


def row(told, title):
    """The cells of a row behind its title."""
    line = next(line for line in table.write(told).splitlines() if line.startswith(f"| single: {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


class Load(unittest.TestCase):
    """What the load says of itself."""

    case = plans.Case("many", "", 4096, 100, messages=10)

    def said(self, **more):
        return {"ended_early": False, "accepted": 10, "not_accepted": 0, "sessions": 10, "broken": 0, "said": {}, **more}

    def test_whole(self):
        self.assertEqual(measure.whole(self.said(), self.case)["accepted"], 10)

    def test_one_that_gave_up_is_a_fault(self):
        with self.assertRaises(Fault):
            measure.whole(self.said(ended_early=True), self.case)

    def test_one_whose_count_is_not_full_is_a_fault(self):
        with self.assertRaises(Fault):
            measure.whole(self.said(accepted=9), self.case)
        self.assertEqual(measure.whole(self.said(accepted=9, not_accepted=1), self.case)["not_accepted"], 1)

    def test_sessions_are_counted_as_messages_are(self):
        case = plans.Case("handshake", "", 0, 0, messages=10)
        with self.assertRaises(Fault):
            measure.whole(self.said(sessions=9), case)
        self.assertEqual(measure.whole(self.said(sessions=9, broken=1), case)["broken"], 1)


class Verdicts(unittest.TestCase):
    """What must be nothing."""

    def test_each_of_them_marks_the_row_and_fails_sealpost(self):
        for words, mark in ((_WRONG, "wrong"), (_REFUSED, "refused")):
            for word in words:
                with self.subTest(word):
                    told = results(sealpost=[{word: 1}], Postfix=[{"accepted_per_second": 500}])
                    self.assertTrue(table.sealpost_failed(told))
                    self.assertEqual(row(told, "accepted/s"), [f"1000 {mark}", "500"])
                    self.assertEqual(row(told, "p50 ms, MAIL to 250")[0], f"5.0 {mark}")

    def test_a_peer_that_refuses_has_no_ratio_and_fails_nobody(self):
        told = results(sealpost=[{}], Postfix=[{"not_accepted": 3}])
        self.assertFalse(table.sealpost_failed(told))
        self.assertEqual(row(told, "accepted/s"), ["1000", "1000 refused"])
        self.assertIn("Postfix: 3 messages not accepted.", table.write(told))

    def test_a_row_measured_once_is_judged_however_deep_it_says_so(self):
        told = results(sealpost=[{}])
        told["servers"]["sealpost"]["syncs"] = {"many": {"syncs_per_message": 0.2, **_CLEAN}, "large": {"syncs_per_message": 0.3, **_CLEAN, "broken": 1}}
        self.assertTrue(table.sealpost_failed(told))
        self.assertIn("| syncs per message, 75 KB, 20 connections | 0.30 refused |", table.write(told))

    def test_nothing_wrong(self):
        told = results(sealpost=[{}], Postfix=[{}])
        self.assertFalse(table.sealpost_failed(told))
        self.assertEqual(row(told, "accepted/s"), ["1000", "1000 (1 x)"])

    def test_of_several_the_sum(self):
        self.assertEqual(measure.together([{**_CLEAN, "lost": 1}, {**_CLEAN, "lost": 2, "broken": 1}]), {**_CLEAN, "lost": 3, "broken": 1})


class Table(unittest.TestCase):
    """Ratios and marks."""

    def test_ratios_are_of_rounds_and_better_is_above_one(self):
        told = results(sealpost=[{"accepted_per_second": 100}, {"accepted_per_second": 200}, {"accepted_per_second": 300}],
                       Exim=[{"accepted_per_second": 50, "cpu_per_thousand": 4}, {"accepted_per_second": 50}, {"accepted_per_second": 50}])
        self.assertEqual(row(told, "accepted/s"), ["200", "50 (4 x)"])
        self.assertEqual(row(results(sealpost=[{}], Exim=[{"cpu_per_thousand": 4}]), "CPU s per 1,000"), ["1.00", "4.00 (4 x)"])

    def test_a_round_that_failed_spoils_no_other(self):
        told = results(sealpost=[{}, {}], Exim=[{"accepted_per_second": 500}, {}])
        told["servers"]["Exim"]["rounds"][1]["single"] = None
        self.assertEqual(row(told, "accepted/s"), ["1000", "500 (2 x)"])

    def test_the_better_setting_of_a_program_is_the_one_beside_which_sealpost_is_set(self):
        told = results(sealpost=[{}], Postfix=[{"accepted_per_second": 250}], Postfix_uncached=[{"accepted_per_second": 500, "cpu_per_thousand": 3}])
        self.assertEqual(row(told, "accepted/s"), ["1000", "250", "500 (2 x)"])
        self.assertEqual(row(told, "CPU s per 1,000"), ["1.00", "1.00 (1 x)", "3.00"])

    def test_marks_stand_at_rates_and_at_times_but_not_at_processor_time(self):
        for figures, mark in (({"share": 0.95}, "\\*"), ({"others_share": 0.45}, "†"), ({"load_wanted": 0.95}, "‡"), ({"sink_wanted": 0.95, "share": 1.0}, "\\*‡")):
            with self.subTest(mark):
                told = results(sealpost=[figures])
                self.assertEqual([row(told, title)[0] for title in ("accepted/s", "p50 ms, MAIL to 250", "CPU s per 1,000")], [f"1000{mark}", f"5.0{mark}", "1.00"])

    def test_shares(self):
        def at(moment, used, busy, wanted):
            return SimpleNamespace(at=moment, ours=used, busy=busy, wanted=wanted)

        told = measure.shares(at(10, [1, 1, 1], 5, [1, 1]), at(20, [9, 4, 2], 18, [10, 2]), 2)
        self.assertEqual(told, {"share": 0.6, "others_share": 0.05, "load_wanted": 0.9, "sink_wanted": 0.1})


    def test_the_commit_is_told_only_of_what_was_built_of_it(self):
        for built, text in (("now", "commit abc; program of noon"), ("here", "commit abc, or with changes; program of noon"), ("elsewhere", "program of noon, built elsewhere")):
            with self.subTest(built):
                about = table.write({**results(sealpost=[{}]), "built": built}).splitlines()[0]
                self.assertIn(f", {text}; ", about)
                self.assertEqual("abc" in about, built != "elsewhere")

    def test_a_program_is_of_this_tree_when_it_lies_in_its_target(self):
        for made, built in ((None, "now"), ("/tree/target/release", "here"), ("/tree/target", "here"), ("/tree/targets", "elsewhere"),
                            ("/other/target/release", "elsewhere"), ("/tree/target/../../other", "elsewhere")):
            with self.subTest(made):
                self.assertEqual(ours.built(made and Path(made), Path("/tree")), built)


class CommandLine(unittest.TestCase):
    """What can't be done is refused in words before anything begins."""

    def refused(self, *words):
        """What is said to it; argparse ends with 2."""
        said = io.StringIO()
        with self.assertRaises(SystemExit) as end, contextlib.redirect_stderr(said):
            plans.arguments(words)
        self.assertEqual(end.exception.code, 2)
        return said.getvalue()

    def test_numbers(self):
        whole = ("0", "-5", "1.5", "many", "", "\u0662", "9" * 30)
        for option, values in (("rounds", whole), ("idle", (*whole, "20001")), ("uploads", (*whole, "20001")), ("seconds", ("0", "-1", "nan", "inf", "soon")),
                               ("warmup", ("-1", "nan"))):
            for value in values:
                with self.subTest(option=option, value=value):
                    self.assertIn(f"argument --{option}: {value!r} is no ", self.refused(f"--{option}={value}"))

    def test_those_that_can_be(self):
        _, plan = plans.arguments(["--rounds", "1", "--seconds", "0.5", "--warmup", "0", "--idle", "20000", "--uploads", "1"])
        self.assertEqual((plan.rounds, plan.seconds, plan.warmup, plan.idle, plan.upload.sessions), (1, 0.5, 0, 20000, 1))

    def test_a_row_that_none_of_the_servers_has(self):
        self.assertIn("none of Postfix-uncached, Postfix-resuming has a part in start", self.refused("--servers", "Postfix-uncached,Postfix-resuming", "--only", "start"))
        self.assertIn("none of Postfix has a part in queued", self.refused("--servers", "Postfix", "--only", "queued"))
        plans.arguments(["--servers", "Postfix-uncached,sealpost", "--only", "start"])
        plans.arguments(["--servers", "Postfix-uncached", "--only", "start,many"])

    def test_a_name_twice_is_one(self):
        self.assertEqual(plans.arguments(["--servers", "Exim,sealpost,Exim"])[1].servers, ("Exim", "sealpost"))
        self.assertIn("no server is called", self.refused("--servers", ""))

    def test_directories(self):
        with tempfile.TemporaryDirectory() as name:
            (Path(name) / "file").touch()
            self.assertIn("file is no directory", self.refused("--directory", f"{name}/file"))
            self.assertIn("absent is not there", self.refused("--directory", f"{name}/absent"))
            ours.try_out(Path(name) / "new/results")
            self.assertEqual(list((Path(name) / "new/results").iterdir()), [])
            said = io.StringIO()
            with self.assertRaises(SystemExit) as end, contextlib.redirect_stderr(said):
                ours.try_out(Path(name) / "file/results")
            self.assertEqual((end.exception.code, said.getvalue().count("\n")), (2, 1))


class Leftovers(unittest.TestCase):
    """Whose a folder is, and whether that one has gone: what is not sure is left alone."""

    def test_a_process(self):
        numbers = " ".join(str(number) for number in range(4, 53))
        self.assertEqual(leftovers.began(f"7 (sh) S {numbers}"), 22)
        self.assertEqual(leftovers.began(f"7 (a) Z ) b) S {numbers}"), 22)
        self.assertIsNone(leftovers.began(f"7 (sh) Z {numbers}"))

    def test_gone(self):
        owner = {"process": 7, "began": 22, "boot": "a"}
        for boot, began, gone in (("a", 22, False), ("a", 23, True), ("a", None, True), ("b", 22, True)):
            with self.subTest(boot=boot, began=began):
                self.assertEqual(leftovers.gone(owner, boot, began), gone)

    def test_an_owner_that_is_not_told_is_none(self):
        for text in ("", "{", "7", "[]", '{"process": 7}', '{"process": "7", "began": 1, "boot": "a"}', '{"process": 7, "began": null, "boot": "a"}'):
            with self.subTest(text):
                self.assertIsNone(leftovers.read_owner(text))

    def test_folders_of_the_living_and_of_others_stay(self):
        with tempfile.TemporaryDirectory() as name:
            live, silent, open_one, dead = leftovers.begin(name), Path(name) / "sealpost-compare-programs", leftovers.begin(name), leftovers.begin(name)
            silent.mkdir()
            for folder in (open_one, dead):
                (folder / "owner.json").write_text('{"process": %d, "began": 1, "boot": "another"}' % os.getpid())
                (folder / "queue").mkdir()
            open_one.chmod(0o777)
            self.assertEqual(list(leftovers.clear(name)), [f"{dead} was left by a run that was killed (process {os.getpid()}); cleared: the folder"])
            self.assertEqual(sorted(Path(name).iterdir()), sorted([live, silent, open_one]))

    def test_mounts_the_last_first_and_only_those_below(self):
        text = "/dev/loop0 /a/b/disk ext4 rw 0 0\n/dev/loop1 /a/bc ext4 rw 0 0\nx /a/b/disk/in\\040it tmpfs rw 0 0\nx /a/b tmpfs rw 0 0\n"
        self.assertEqual(leftovers.mounts(text, Path("/a/b")), [Path("/a/b/disk/in it"), Path("/a/b/disk")])

    def test_what_is_told(self):
        self.assertEqual(leftovers.told("/f", 7, ["2 process(es)", "the folder"], []), "/f was left by a run that was killed (process 7); cleared: 2 process(es), the folder")
        self.assertTrue(leftovers.told("/f", 7, [], ["mount(s): /f/disk"]).endswith("cleared: nothing; still there: mount(s): /f/disk"))


class Counters(unittest.TestCase):
    """What perf and strace write."""

    def test_perf(self):
        self.assertEqual(counters.counted(_PERF, _EVENTS), 15)

    def test_perf_that_counted_not_all_or_not_always_is_a_fault(self):
        for text in ("", _PERF.replace("3,,", "<not counted>,,"), _PERF.replace("12,,", "<not supported>,,"), _PERF.replace("100.00", "70.10")):
            with self.subTest(text), self.assertRaises(Fault):
                counters.counted(text, _EVENTS)

    def test_strace(self):
        self.assertEqual(counters.traced_syncs(_STRACE), 40)

    def test_a_counter_that_did_not_see_our_own_sync_is_a_fault_and_no_nought(self):
        with self.assertRaises(Fault):
            counters.traced_syncs("")
        with self.assertRaises(Fault):
            counters.without_proof(0)
        self.assertEqual(counters.without_proof(1), 0)


class Attempts(unittest.TestCase):
    """A row that fails says why, and the others go on."""

    def attempted(self, raised):
        def work():
            raise raised

        server = {"faults": [], "not_asked": []}
        ours.attempt(server, server, "row", SimpleNamespace(tell=lambda _: None), "sealpost", work)
        return server

    def test_whatever_it_is(self):
        self.assertEqual(self.attempted(Fault("broke"))["faults"], ["row: broke"])
        self.assertEqual(self.attempted(KeyError("x"))["faults"], ["row: KeyError: 'x'"])
        self.assertEqual(self.attempted(Unavailable("absent"))["not_asked"], ["row: absent"])

    def test_but_not_the_end(self):
        with self.assertRaises(KeyboardInterrupt):
            self.attempted(KeyboardInterrupt())


if __name__ == "__main__":
    unittest.main()
