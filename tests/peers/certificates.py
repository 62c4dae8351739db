"""Certificates made by OpenSSL when the test runs: the daemon's own tests use another maker (rcgen), so no tool judges only itself.

A CA that sealpost trusts ("staff"), one that nobody trusts ("stranger"), and leaves: the server, alice, bob, carol (revoked).
"""

from pathlib import Path

from wait import must

# Octets of a serial are fixed by OpenSSL (20 random ones); days are enough for a run and too few to be kept.
DAYS = "3"

_CA_CONFIG = """
[ca]
default_ca = staff
[staff]
dir = {dir}
database = {dir}/index.txt
new_certs_dir = {dir}
serial = {dir}/serial
crlnumber = {dir}/crlnumber
default_md = sha256
default_crl_days = 3
policy = anything
unique_subject = no
[anything]
commonName = supplied
[req]
distinguished_name = name
prompt = no
[name]
CN = unused
[anchor]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = email:{email}
authorityKeyIdentifier = keyid
"""


class Authority:
    """One small CA in a directory of its own."""

    def __init__(self, directory, name):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True)
        self.certificate = self.directory / "ca.pem"
        self._key = self.directory / "ca.key"
        for file, text in [("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "01\n")]:
            (self.directory / file).write_text(text)
        config = self._config("nobody@invalid")
        must(["openssl", "req", "-x509", *_new_key(self._key), "-out", self.certificate, "-days", DAYS,
              "-subj", f"/CN={name}", "-config", config, "-extensions", "anchor"])

    def issue(self, name, kind, email="nobody@invalid", dates=None):
        """A key and a certificate of this CA: (certificate, key) as paths of PEM files. `dates` are begin and end, as OpenSSL writes them."""
        certificate, key, request = (self.directory / f"{name}.{end}" for end in ("pem", "key", "csr"))
        lasting = ["-startdate", dates[0], "-enddate", dates[1]] if dates else ["-days", DAYS]
        config = self._config(email)
        must(["openssl", "req", "-new", *_new_key(key), "-out", request, "-subj", f"/CN={name}", "-config", config])
        must(["openssl", "ca", "-batch", "-notext", "-config", config, "-extensions", kind, *lasting, "-in", request,
              "-out", certificate, "-cert", self.certificate, "-keyfile", self._key])
        return certificate, key

    def revoke(self, certificate):
        """Puts the certificate on the next CRL."""
        must(["openssl", "ca", "-config", self._config("nobody@invalid"), "-cert", self.certificate, "-keyfile", self._key,
              "-revoke", certificate])

    def crl(self):
        """A fresh CRL as a path."""
        file = self.directory / "ca.crl"
        must(["openssl", "ca", "-config", self._config("nobody@invalid"), "-cert", self.certificate, "-keyfile", self._key,
              "-gencrl", "-out", file])
        return file

    def _config(self, email):
        file = self.directory / "openssl.cnf"
        file.write_text(_CA_CONFIG.format(dir=self.directory, email=email))
        return file


def _new_key(file):
    return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file]


class Certificates:
    """All that a run of the peers needs."""

    def __init__(self, directory):
        self.staff = staff = Authority(Path(directory) / "staff", "Peers staff CA")
        self.stranger = stranger = Authority(Path(directory) / "stranger", "Peers stranger CA")
        self.ca = staff.certificate
        self.server = staff.issue("localhost", "server")
        self.clients = {
            "alice": staff.issue("alice", "client", "alice@example.com"),
            "bob": staff.issue("bob", "client", "bob@example.com"),
            "carol": staff.issue("carol", "client", "carol@example.com"),
            "stranger": stranger.issue("alice", "client", "alice@example.com"),
        }
        staff.revoke(self.clients["carol"][0])
        self.crl = staff.crl()

    def authority_lines(self):
        """What the relay's [[client_ca]] says of the CA."""
        return f'certificates = "{self.ca}"\ncrls = ["{self.crl}"]'
