"""A real Exim of Debian's package, in a jail: all its extensions on, everything sent on unchanged."""

from pathlib import Path

from jail import Jail
from mta import PASSWORD, USER, Demands
from packages import unpacked
from wait import free_ports

_PROGRAM = "usr/sbin/exim4"
# Built in.
_USER = "Debian-exim"
_MAIN = """\
primary_hostname = upstream.test
keep_environment =
disable_ipv6
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
{implicit}
log_file_path = /var/log/exim4/%slog
log_selector = +pipelining +8bitmime +tls_peerdn +smtp_protocol_error +received_recipients +queue_run
host_lookup =
rfc1413_query_timeout = 0s
smtp_accept_max = 0
message_size_limit = 100M
chunking_advertise_hosts = *
dsn_advertise_hosts = *
smtputf8_advertise_hosts = *
delay_warning =
tls_advertise_hosts = {tls_hosts}
{tls}
acl_smtp_mail = sender
acl_smtp_rcpt = recipient

begin acl
sender:
{encrypted}
  accept

recipient:
{answers}
  accept {condition}
  deny message = 550 5.7.1 Relaying denied

begin routers
all:
  driver = manualroute
  route_list = * {host} byname
  self = send
  transport = onward

begin transports
onward:
  driver = smtp
  message_linelength_limit = 1000000
{onward}

begin retry
* * F,1h,1s

begin authenticators
{authenticators}
"""
_AUTHENTICATORS = {
    "PLAIN": f"plain:\n  driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n  server_set_id = $auth2\n"
             f"  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}\n",
    "LOGIN": f"login:\n  driver = plaintext\n  public_name = LOGIN\n  server_prompts = <| Username: | Password:\n  server_set_id = $auth1\n"
             f"  server_condition = ${{if and{{{{eq{{$auth1}}{{{USER}}}}}{{eq{{$auth2}}{{{PASSWORD}}}}}}}}}\n",
    # RFC 4422 appendix A: the certificate is the login here too.
    "EXTERNAL": "external:\n  driver = external\n  public_name = EXTERNAL\n  server_set_id = $auth1\n"
                "  server_param2 = ${certextract {subj_altname,mail,>:}{$tls_in_peercert}}\n"
                "  server_condition = ${if forany{$auth2}{eq{$item}{$auth1}}}\n",
}


class Exim:
    """One instance. What it takes goes to `arrivals_port`, or to the `smarthost`."""

    name = "Exim"

    def __init__(self, directory, arrivals_port, demands=None, smarthost=None):
        self.demands, self._smarthost, self._arrivals_port = demands or Demands(), smarthost, arrivals_port
        self._jail = Jail(directory, unpacked("exim4-daemon-light", "exim4-base"), [_USER])
        self._jail.libraries_of(_PROGRAM)
        self._jail.room("var/spool/exim4", 0o750, _USER)
        self._jail.room("var/log/exim4", 0o750, _USER)
        (self.port,) = free_ports(1)

    def start(self):
        self._jail.write("etc/exim4/exim4.conf", self._configuration())
        self._jail.start([f"/{_PROGRAM}", "-bdf", "-q1s"], self.port)

    def stop(self):
        self._jail.stop()

    def abort(self):
        self._jail.abort()

    def log(self):
        logs = sorted((self._jail.root / "var/log/exim4").glob("*log"))
        return "".join(file.read_text(errors="replace") for file in logs) + self._jail.said()

    def _configuration(self):
        demands = self.demands
        return _MAIN.format(
            port=self.port,
            implicit=f"tls_on_connect_ports = {self.port}" if demands.implicit else "",
            tls_hosts="*" if demands.server else "",
            tls="\n".join(self._tls()),
            encrypted="  deny message = 530 5.7.0 TLS first\n    !encrypted = *" if demands.server else "",
            answers="\n".join(f"  {'deny' if reply[0] == '5' else 'defer'} recipients = {address}\n    message = {reply}"
                              for address, reply in demands.answers.items()),
            condition="authenticated = *" if demands.mechanisms else "",
            host="localhost" if self._smarthost else "127.0.0.1",
            onward="\n".join(f"  {line}" for line in self._onward()),
            authenticators="\n".join(_AUTHENTICATORS[mechanism] for mechanism in demands.mechanisms),
        )

    def _tls(self):
        if self.demands.server:
            certificate, key = self.demands.server
            yield f"tls_certificate = {self._inside('server.pem', certificate)}"
            yield f"tls_privatekey = {self._inside('server.key', key)}"
        if self.demands.client_ca:
            yield f"tls_verify_certificates = {self._inside('clients.pem', self.demands.client_ca)}"
            yield "tls_verify_hosts = *"

    def _onward(self):
        there = self._smarthost
        if not there:
            yield from ["protocol = lmtp", f"port = {self._arrivals_port}", "hosts_avoid_tls = *"]
            return
        yield from [f"protocol = {'smtps' if there.implicit else 'smtp'}", f"port = {there.port}", "hosts_require_tls = *"]
        yield from ["tls_sni = localhost", "tls_verify_hosts = *", "tls_verify_cert_hostnames = *"]
        yield f"tls_verify_certificates = {self._inside('smarthost-ca.pem', there.ca)}"
        yield f"tls_certificate = {self._inside('client.pem', there.certificate)}"
        yield f"tls_privatekey = {self._inside('client.key', there.key)}"

    def _inside(self, name, file):
        self._jail.write(f"etc/exim4/{name}", Path(file).read_text(), mode=0o640, user=_USER)
        return f"/etc/exim4/{name}"
