"""A real Postfix in directories of its own: own configuration, queue and data, own port on 127.0.0.1, no chroot, no systemd.

Needs root (Postfix drops to its own user itself). The system's own Postfix, if one runs, is not touched.
"""

from pathlib import Path

from wait import free_ports, must, run

_MASTER = """\
{services}
postlog   unix-dgram n - n - 1 postlogd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
verify    unix - - n - 1 verify
flush     unix n - n 1000? 0 flush
proxymap  unix - - n - - proxymap
smtp      unix - - n - - smtp
relay     unix - - n - - smtp
lmtp      unix - - n - - lmtp
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
anvil     unix - - n - 1 anvil
scache    unix - - n - 1 scache
"""

_SETTINGS = {
    "compatibility_level": "3.6",
    "command_directory": "/usr/sbin",
    "daemon_directory": "/usr/lib/postfix/sbin",
    "mail_owner": "postfix",
    "setgid_group": "postdrop",
    "inet_interfaces": "127.0.0.1",
    "inet_protocols": "ipv4",
    "myhostname": "upstream.test",
    "mynetworks": "127.0.0.0/8",
    "mydestination": "",
    "relay_domains": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    # What arrives must be what was sent: nothing is rewritten, wrapped, added or cut.
    "local_header_rewrite_clients": "",
    "lmtp_line_length_limit": "0",
    "message_size_limit": "104857600",
    "mailbox_size_limit": "0",
    "header_size_limit": "1048576",
    "in_flow_delay": "0",
    "minimal_backoff_time": "2s",
    "maximal_backoff_time": "4s",
    "queue_run_delay": "2s",
}


class Postfix:
    """One instance. `services` are lines of master.cf, with {port} filled in by free ports in their order; `more` are settings of main.cf."""

    def __init__(self, directory, arrivals_port, *, services=("{port} inet n - n - - smtpd",), more=None):
        self.directory = Path(directory)
        for name in ("", "queue", "data"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        must(["chown", "postfix", self.directory / "data"])
        self.ports = free_ports(len(services))
        lines = [line.format(port=f"127.0.0.1:{port}") for line, port in zip(services, self.ports)]
        (self.directory / "master.cf").write_text(_MASTER.format(services="\n".join(lines)))
        settings = {
            **_SETTINGS,
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "maillog_file": self.directory / "log",
            "maillog_file_prefixes": self.directory,
            "default_transport": f"lmtp:[127.0.0.1]:{arrivals_port}",
            **(more or {}),
        }
        (self.directory / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))

    @property
    def port(self):
        return self.ports[0]

    def start(self):
        """Returns when it listens: master reports back after it has opened its sockets."""
        self._control("start")

    def demand_password(self, user, password, mechanisms):
        """Relays only after AUTH, checked by Cyrus SASL in a database of this instance's own (Debian reads its settings beside main.cf)."""
        directory = self.directory / "sasl"
        directory.mkdir()
        database = directory / "sasldb2"
        must(["saslpasswd2", "-p", "-c", "-f", database, "-u", "upstream.test", user], stdin=password.encode())
        must(["chown", "postfix", database])
        (directory / "smtpd.conf").write_text(
            f"pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {database}\nmech_list: {mechanisms}\n")
        self.set("smtpd_sasl_auth_enable", "yes")
        self.set("smtpd_sasl_local_domain", "upstream.test")
        self.set("smtpd_sasl_security_options", "noanonymous")
        self.set("smtpd_relay_restrictions", "permit_sasl_authenticated, reject")

    def stop(self):
        self._control("stop")

    def reload(self):
        self._control("reload")

    def abort(self):
        """At once, and no matter whether it runs."""
        run(["postfix", "-c", self.directory, "abort"])

    def set(self, name, value):
        """Changes main.cf; a reload makes it count."""
        must(["postconf", "-c", self.directory, "-e", f"{name}={value}"])

    def log(self):
        file = self.directory / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _control(self, word):
        must(["postfix", "-c", self.directory, word])


def tls(certificate, key, level):
    """Settings for a server certificate."""
    return {
        "smtpd_tls_cert_file": certificate,
        "smtpd_tls_key_file": key,
        "smtpd_tls_security_level": level,
        "smtpd_tls_loglevel": "1",
    }


def client_certificates(ca):
    """Settings that make a client certificate of this CA the condition for relaying."""
    return {
        "smtpd_tls_CAfile": ca,
        "smtpd_tls_req_ccert": "yes",
        "smtpd_relay_restrictions": "permit_tls_all_clientcerts, reject",
    }
