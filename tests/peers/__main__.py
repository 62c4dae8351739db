"""sealpost with real peers: mail programs and libraries submit; Postfix, Exim, OpenSMTPD and aiosmtpd are upstreams; scanners look at it.

    python3 tests/peers --sealpost target/debug/sealpost --lettre target/debug/examples/submit_lettre [--only WORD] [--keep]
    python3 tests/peers --write-clients      tries the programs of docs/clients.md, and writes its table anew
    python3 tests/peers --write-calibration  plays the dialog scripts to other servers, and writes the tables of docs/calibration.md anew
    python3 tests/peers --calibrate ...      the same clients against Postfix with client certificates demanded, without sealpost

Python, and only its standard library, because everything driven here is a process (the same binaries that people run), a skip is a
result of its own that the Rust test runner has no word for, and Python is on every machine. Certificates are made by OpenSSL.
Needs root for Postfix; without it every check is skipped and said so. The last line is "N passed, N failed, N skipped".
"""

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

import headers
import postfix
from arrivals import Arrivals
from authority import Authorities
from bench import Check, Count
from calibration import SERVERS, Calibration
from certificates import Certificates
from clients import CLIENTS, Target, lettre, submit
from load import Load
from matrix import DOCUMENT, Matrix
from others import Others
from recipes import Recipes
from relay import Relay, upstream
from reports import Reports
from routes import Routes
from scanners import Scanners
from second_factor import SecondFactor
from submissions import Submissions
from upstreams import Upstreams
from wait import missing


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sealpost", type=Path, default=Path("target/debug/sealpost"))
    arguments.add_argument("--lettre", type=Path, default=Path("target/debug/examples/submit_lettre"))
    arguments.add_argument("--only", default="", help="run the checks whose name has this in it")
    arguments.add_argument("--keep", action="store_true", help="keep the directory with configurations, logs and queues")
    arguments.add_argument("--write-clients", action="store_true", help="write docs/clients.md")
    arguments.add_argument("--write-calibration", action="store_true", help="write docs/calibration.md")
    arguments.add_argument("--calibrate", action="store_true", help="clients against Postfix itself")
    given = arguments.parse_args()
    if reason := cannot_run():
        print(f"skip real peers, all of them: {reason}")
        print("0 passed, 0 failed, 1 skipped")
        return
    directory = Path(tempfile.mkdtemp(prefix="sealpost-peers-"))
    directory.chmod(0o755)  # Postfix's own user must be able to reach its queue.
    count = Count()
    try:
        bench = calibrated if given.calibrate else matrix if given.write_clients else dialogues if given.write_calibration else sealpost
        bench(given, directory, Certificates(directory / "certificates"), count)
    finally:
        if given.keep:
            print(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
    print(count)
    sys.exit(1 if count.failed else 0)


def cannot_run():
    """Why nothing can be run here, or None."""
    if os.geteuid() != 0:
        return "Postfix needs root"
    if lacking := missing(["postfix", "openssl"]):
        return f"not on this machine: {', '.join(lacking)}"
    return None


def sealpost(given, directory, certificates, count):
    """All there is. What scanners take is mostly waiting, so they begin first and are asked last."""
    scanners = Scanners(given.sealpost, directory, certificates)
    try:
        if not given.only:
            scanners.start()
        side_by_side(GROUPS, given, directory, certificates, count)
        if not given.only:
            run(count, "", scanners.checks())
    finally:
        scanners.abort()


def side_by_side(groups, given, directory, certificates, count):
    """Two groups at a time, each in a process of its own: most of what they do is waiting. What a group needs it starts and ends by itself."""
    context = multiprocessing.get_context("fork")
    with context.Pool(2, maxtasksperchild=1) as lanes:
        jobs = [(group, given, directory, certificates) for group in groups]
        for counted in lanes.imap_unordered(alone, jobs, chunksize=1):
            count.add(counted)


def alone(job):
    """One group, and what came of its checks; a group that breaks outside its checks is a failure, not a silence."""
    group, given, directory, certificates = job
    count = Count()
    room = directory / group.__name__.replace("_", "-")
    room.mkdir()
    room.chmod(0o755)
    try:
        group(given, room, certificates, count)
    except Exception:
        count.broke(group.__name__)
    return count


def dialogues(given, directory, certificates, count):
    """The dialog scripts against other servers."""
    for name in SERVERS:
        made = Calibration(name, directory, certificates)
        try:
            run(count, given.only, made.checks())
            if given.write_calibration:
                made.write()
        finally:
            made.close()


def header_readings(given, directory, certificates, count):
    """Python's own readers of mail, on the fixtures."""
    run(count, given.only, [Check("Python sees in every header that passes whom it was granted to", headers.agrees)])


def submissions(given, directory, certificates, count):
    """Clients -> sealpost -> Postfix."""
    arrivals = Arrivals()
    mta = postfix.Postfix(directory / "postfix", arrivals.port)
    relay = Relay(given.sealpost, directory / "relay", certificates, upstream(mta.port))
    clients = [*CLIENTS, lettre(given.lettre), submit(given.sealpost)]
    made = Submissions(clients, certificates, relay.target, arrivals, directory, hops=2, protocol=b"SMTPS")
    try:
        mta.start()
        relay.start()
        run(count, given.only, made.deliveries())
        print(*made.not_sendable(), sep="\n")
        run(count, given.only, made.refusals())
        run(count, given.only, [Check("sealpost drains and ends with 0", relay.stop),
                                Check("nothing that was refused has arrived", made.nothing_refused_arrived)])
    finally:
        relay.abort()
        mta.abort()
        arrivals.close()


def second_factor(given, directory, certificates, count):
    factor = SecondFactor(given.sealpost, directory, certificates)
    try:
        run(count, given.only, factor.checks())
    finally:
        factor.abort()


def upstreams(given, directory, certificates, count):
    run(count, given.only, Upstreams(given.sealpost, directory, certificates).checks())


def other_upstreams(given, directory, certificates, count):
    run(count, given.only, Others(given.sealpost, directory, certificates).checks())


def routes(given, directory, certificates, count):
    run(count, given.only, Routes(given.sealpost, directory, certificates).checks())


def delivery_reports(given, directory, certificates, count):
    run(count, given.only, Reports(given.sealpost, directory, certificates).checks())


def authorities(given, directory, certificates, count):
    run(count, given.only, Authorities(given.sealpost, directory / "pki").checks())


def short_load(given, directory, certificates, count):
    run(count, given.only, Load(given.sealpost, given.lettre.parent, directory / "load").checks())


def matrix(given, directory, certificates, count):
    """The programs of docs/clients.md."""
    made = Matrix(given.sealpost.absolute(), given.lettre.absolute(), directory, certificates)
    try:
        made.start()
        run(count, given.only, made.checks())
        if given.write_clients and not count.failed:
            DOCUMENT.write_text(made.written())
        if not given.only:
            run(count, "", [Check("docs/clients.md says what was seen", made.document)])
    finally:
        made.close()


def recipes(given, directory, certificates, count):
    """Programs with the settings that `sealpost pki issue --print-config` prints for them, with certificates of `sealpost pki`."""
    arrivals = Arrivals()
    mta = postfix.Postfix(directory / "recipes-postfix", arrivals.port)
    made = Recipes(given.sealpost, directory / "recipes", mta.port, arrivals)
    try:
        mta.start()
        made.relay.start()
        run(count, given.only, made.checks())
    finally:
        made.close()
        mta.abort()
        arrivals.close()


def calibrated(given, directory, certificates, count):
    """Clients -> Postfix that demands client certificates: shows that the rows of the table are right, whatever sealpost does."""
    arrivals = Arrivals()
    settings = {**postfix.tls(*certificates.server, "encrypt"), **postfix.client_certificates(certificates.ca)}
    mta = postfix.Postfix(directory / "postfix", arrivals.port, more=settings, services=(
        "{port} inet n - n - - smtpd", "{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"))
    target = Target(dict(zip(("starttls", "implicit"), mta.ports)), certificates.ca)
    clients = [*CLIENTS, lettre(given.lettre)]
    submissions = Submissions(clients, certificates, target, arrivals, directory, hops=1, protocol=b"SMTPS")
    try:
        mta.start()
        run(count, given.only, submissions.deliveries())
    finally:
        mta.abort()
        arrivals.close()


# The long ones first, so that no lane is left with one of them at the end.
GROUPS = [upstreams, submissions, dialogues, matrix, other_upstreams, recipes, delivery_reports, routes, second_factor, authorities, short_load,
          header_readings]


def run(count, only, checks):
    for check in checks:
        if only in check.name:
            count.run(check)


if __name__ == "__main__":
    main()
