"""The four servers, each configured for the same job: STARTTLS with a required client certificate, no limits that the load would meet, every
message relayed to the sink. docs/performance.md says why each setting stands here.

Each runs in the foreground in a cgroup of its own, with its queue in a directory of its own, so that whatever it does is counted and whatever
it leaves can be removed.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import figures
import packages
import postfix
from wait import PATIENCE, Fault, free_ports, must

# Connections to the sink at once, for all.
UPSTREAM_CONNECTIONS = 20
# More than any load opens.
SESSIONS_MAX = 20000
# How long a server may take to end, seconds.
_ENDING = 20


class Server:
    """One server of one measurement: its directory, its port, its processes."""

    name = ""
    # The rows that it takes part in; None: all.
    rows = None

    @classmethod
    def takes(cls, row):
        """Whether it takes part in this row."""
        return cls.rows is None or row in cls.rows

    def __init__(self, bench, directory, sink_port, upstream_connections=UPSTREAM_CONNECTIONS):
        self.bench = bench
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        self.sink_port = sink_port
        self.upstream_connections = upstream_connections
        (self.port,) = free_ports(1)
        self._process = None
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self.configure()
            self.cgroup = bench.cgroup(self.name)
            undo.callback(self.cgroup.remove)
            self._undo = undo.pop_all()

    def configure(self):
        """Writes its configuration."""
        raise NotImplementedError

    def command(self):
        """What runs it in the foreground."""
        raise NotImplementedError

    def version(self):
        """As its package calls it."""
        raise NotImplementedError

    def start(self, around=()):
        """Starts it under `around` (strace), and returns how long it took to its greeting, seconds."""
        log = open(self.directory / "output", "ab")
        began = time.monotonic()
        self._process = subprocess.Popen(
            self.cgroup.enter([*around, *map(str, self.command())]), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        log.close()
        while not self._greets():
            if self._process.poll() is not None:
                raise Fault(f"{self.name} ended with {self._process.returncode}: {self.said()}")
            if time.monotonic() - began > PATIENCE:
                raise Fault(f"{self.name} does not greet within {PATIENCE} s: {self.said()}")
            time.sleep(0.001)
        return time.monotonic() - began

    def _greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
                return connection.recv(200).startswith(b"220")
        except OSError:
            return False

    def settle(self, when, seconds=figures.REST, still=1):
        """Waits until it is at rest, and says so when it never was."""
        if not self.cgroup.settle(seconds, still):
            self.bench.note(f"{self.name} was not at rest within {seconds} s, {when}")

    def stop(self):
        """Stops it, and whatever it has left; whether it ended by itself. Where it had to be killed, that is said."""
        if not self._process:
            return True
        # Under strace the server is a child: all of the cgroup are told.
        for process in self.cgroup.processes():
            try:
                os.kill(process, 15)
            except ProcessLookupError:
                pass
        end = time.monotonic() + _ENDING
        while (left := self.cgroup.processes()) and time.monotonic() < end:
            self._process.poll()
            time.sleep(0.05)
        if left:
            self.bench.note(f"{self.name} had to be killed: {len(left)} of its processes did not end within {_ENDING} s of SIGTERM")
        self.cgroup.kill()
        self._process.wait()
        self._process = None
        return not left

    def remove(self):
        """Stops it and removes its directory."""
        try:
            self.stop()
        finally:
            self._undo.close()

    def said(self):
        """The end of what it said."""
        return (self.directory / "output").read_text(errors="replace")[-2000:]


class Sealpost(Server):
    """The relay of this tree: all checks on, CRL required, audit lines written."""

    name = "sealpost"

    def configure(self):
        certificates = self.bench.certificates
        data = self.bench.data or self.directory / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        (self.directory / "sealpost.toml").write_text(f"""\
hostname = "localhost"
data_dir = "{data}"
{f'identities = ["{self.bench.roster}"]' if self.bench.roster else ""}
[[listener]]
address = "127.0.0.1:{self.port}"
mode = "starttls"
[tls]
certificate = "{certificates}/localhost.pem"
private_key = "{certificates}/localhost.key"
[limits]
connections = {SESSIONS_MAX}
connections_per_address = {SESSIONS_MAX}
connections_per_identity = {SESSIONS_MAX}
connections_per_minute = 1000000
[[client_ca]]
name = "staff"
certificates = "{certificates}/ca.pem"
crls = ["{certificates}/ca.crl"]
revocation = "require"
domains = ["example.com"]
send_as_email = true
send_to = ["*"]
[queue]
size = "40GiB"
count = 10000000
share_per_identity = 100
memory_share_per_identity = 100
receiving_per_identity = 1000
[[upstream]]
name = "sink"
address = "127.0.0.1:{self.sink_port}"
tls = "none"
connections = {self.upstream_connections}
[log]
format = "json"
""")

    def command(self):
        return [self.bench.sealpost, "serve", "--config", self.directory / "sealpost.toml"]

    def version(self):
        return must([self.bench.sealpost, "--version"]).split()[-1]


class Postfix(Server):
    """The system's own Postfix package, in directories of its own."""

    name = "Postfix"

    def configure(self):
        if not shutil.which("postfix", path="/usr/sbin"):
            raise packages.Unavailable("the package postfix is not installed (tests/run installs it)")
        certificates = self.bench.certificates
        self._instance = postfix.Postfix(
            self.directory, self.sink_port, services=("{port} inet n - n - - smtpd",),
            more={
                **postfix.tls(f"{certificates}/localhost.pem", f"{certificates}/localhost.key", "encrypt"),
                **postfix.client_certificates(f"{certificates}/ca.pem"),
                "smtpd_tls_loglevel": "0",
                **self._resumption(),
                "default_transport": f"smtp:[127.0.0.1]:{self.sink_port}",
                "smtp_tls_security_level": "none",
                "default_process_limit": str(SESSIONS_MAX),
                "smtpd_client_connection_count_limit": "0",
                "smtpd_client_connection_rate_limit": "0",
                "smtpd_peername_lookup": "no",
                "disable_dns_lookups": "yes",
                "qmgr_message_active_limit": "50000",
                "qmgr_message_recipient_limit": "50000",
                "default_destination_concurrency_limit": str(self.upstream_connections),
                "initial_destination_concurrency": str(self.upstream_connections),
                **self._cache(),
            })
        self.port = self._instance.port

    def _resumption(self):
        """As sealpost: none."""
        return {"tls_ssl_options": "NO_TICKET"}

    def _cache(self):
        """A connection to the sink is kept from message to message."""
        return {"smtp_connection_cache_on_demand": "yes", "smtp_connection_cache_destinations": f"[127.0.0.1]:{self.sink_port}"}

    def command(self):
        return ["postfix", "-c", self.directory, "start-fg"]

    def version(self):
        return must(["postconf", "-h", "mail_version"]).strip()


class PostfixUncached(Postfix):
    """The same, with a connection to the sink for each message: whoever thinks that keeping them hinders it can look."""

    name = "Postfix-uncached"
    rows = {"single", "many", "large"}

    def _cache(self):
        return {"smtp_connection_cache_on_demand": "no", "smtp_connection_cache_destinations": ""}


class PostfixResuming(Postfix):
    """The same, with a cache of TLS sessions and with tickets, as many have it: no client of ours resumes, and what that costs or saves is seen."""

    name = "Postfix-resuming"
    rows = {"handshake", "cold"}

    def _resumption(self):
        return {"smtpd_tls_session_cache_database": f"btree:{self.directory}/data/sessions"}


class Exim(Server):
    """Debian's exim4-daemon-light (GnuTLS), unpacked."""

    name = "Exim"

    def configure(self):
        if self.upstream_connections < UPSTREAM_CONNECTIONS:
            raise packages.Unavailable("each of its deliveries opens a connection of its own; told to open fewer, it puts mail off until the next queue run")
        self.root = packages.unpack(["exim4-daemon-light", "exim4-base"], self.bench.programs / "exim")
        program = self.root / "usr/sbin/exim4"
        packages.loadable(program)
        packages.user("Debian-exim")
        certificates = self.bench.certificates
        spool = self.directory / "spool"
        spool.mkdir()
        shutil.chown(spool, "Debian-exim", "Debian-exim")
        (self.directory / "exim.conf").write_text(f"""\
exim_path = {program}
spool_directory = {spool}
log_file_path = {spool}/%slog
pid_file_path = {spool}/pid
primary_hostname = relay.test
daemon_smtp_ports = {self.port}
local_interfaces = 127.0.0.1
split_spool_directory = true
message_logs = false
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1000
never_users =
check_spool_space = 0
check_spool_inodes = 0
message_size_limit = 100M
tls_advertise_hosts = *
tls_certificate = {certificates}/localhost.pem
tls_privatekey = {self._key()}
tls_verify_certificates = {certificates}/ca.pem
tls_verify_hosts = *
tls_resumption_hosts =
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
mail:
  accept encrypted = *
         verify = certificate
  deny
rcpt:
  accept
data:
  accept
begin routers
sink:
  driver = manualroute
  route_list = * 127.0.0.1
  transport = sink
  self = send
begin transports
sink:
  driver = smtp
  port = {self.sink_port}
  allow_localhost
  hosts_avoid_tls = *
  hosts_try_dane =
  connection_max_messages = 0
begin retry
* * F,1h,1m
""")

    def _key(self):
        """Exim reads the key as its own user."""
        key = self.directory / "localhost.key"
        shutil.copy(self.bench.certificates / "localhost.key", key)
        shutil.chown(key, "Debian-exim", "Debian-exim")
        return key

    def command(self):
        return [self.root / "usr/sbin/exim4", "-bdf", "-q1m", "-C", self.directory / "exim.conf"]

    def version(self):
        return packages.version(self.root, "exim4-daemon-light")


class OpenSmtpd(Server):
    """Debian's opensmtpd, unpacked; bookworm's own 6.8 fails every handshake with OpenSSL 3, so there it is the one of bookworm-backports.

    It knows the place of its queue from when it was built, so it gets a mount namespace in which that place is ours. There is no other way to tell it
    that it must ask no name server either: it looks up the name of each client before it greets, three questions each time, and waits five seconds where
    one of them is not answered.
    """

    name = "OpenSMTPD"
    # What it finds where it was built to look.
    _places = {"spool": "/var/spool/smtpd", "run": "/run", "libexec": "/usr/libexec/opensmtpd", "empty": "/var/lib/opensmtpd"}

    def configure(self):
        suite = "bookworm-backports" if packages.codename() == "bookworm" else None
        self.root = packages.unpack(["opensmtpd"], self.bench.programs / "opensmtpd", suite)
        packages.loadable(self.root / "usr/sbin/smtpd")
        for name in ("opensmtpd", "opensmtpq"):
            packages.user(name)
        for name in self._places:
            (self.directory / name).mkdir()
        shutil.copytree(self.root / "usr/libexec/opensmtpd", self.directory / "libexec", dirs_exist_ok=True)
        (self.directory / "spool").chmod(0o711)
        (self.directory / "empty/empty").mkdir()
        certificates = self.bench.certificates
        key = self.directory / "localhost.key"
        shutil.copy(certificates / "localhost.key", key)
        key.chmod(0o600)
        (self.directory / "resolv.conf").write_text("lookup file\n")
        (self.directory / "smtpd.conf").write_text(f"""\
pki localhost cert "{certificates}/localhost.pem"
pki localhost key "{key}"
ca staff cert "{certificates}/ca.pem"
smtp limit max-mails 100000
smtp max-message-size "100M"
mta limit max-conn-per-host {self.upstream_connections}
mta limit max-conn-per-route {self.upstream_connections}
mta limit max-conn-per-domain {self.upstream_connections}
mta limit max-conn-per-source {self.upstream_connections}
mta limit max-conn-per-relay {self.upstream_connections}
mta limit conn-delay-host 0
mta limit conn-delay-source 0
mta limit conn-delay-connector 0
mta limit conn-delay-relay 0
mta limit conn-delay-domain 0
mta limit conn-delay-route 0
mta limit reconn-delay-route 0
mta limit session-mail-max 1000000
mta limit task-hiwat 5000
mta limit task-lowat 3000
mta limit task-release 1000
listen on 127.0.0.1 port {self.port} tls-require verify pki localhost ca staff hostname localhost
action "sink" relay host smtp://127.0.0.1:{self.sink_port}
match from any for any action "sink"
""")

    def command(self):
        for place in self._places.values():
            Path(place).mkdir(parents=True, exist_ok=True)
        places = self._places
        # Without that file it asks nobody anyway.
        if Path("/etc/resolv.conf").exists():
            places = {**places, "resolv.conf": "/etc/resolv.conf"}
        binds = " && ".join(f"mount --bind {self.directory / name} {place}" for name, place in places.items())
        smtpd = f"{self.root}/usr/sbin/smtpd"
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{binds} && exec {smtpd} -F -f {self.directory}/smtpd.conf"]

    def remove(self):
        try:
            super().remove()
        finally:
            for place in self._places.values():
                try:
                    Path(place).rmdir()
                except OSError:
                    pass  # It is not ours.

    def version(self):
        return packages.version(self.root, "opensmtpd")


# Servers that are one program set in different ways: sealpost is set beside the best of them.
FAMILIES = {PostfixUncached.name: Postfix.name, PostfixResuming.name: Postfix.name}
ALL = {server.name: server for server in (Sealpost, Postfix, PostfixUncached, PostfixResuming, Exim, OpenSmtpd)}


def machine():
    """What a figure is worth nothing without."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "memory_mib": memory, "kernel": os.uname().release}


