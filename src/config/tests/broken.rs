//! Broken configurations: the right one with a line changed, and what is told.

use super::{RIGHT, told};

/// One change, and every sentence it brings.
pub(super) struct Broken {
    pub(super) line: &'static str,
    pub(super) instead: &'static str,
    pub(super) told: &'static [&'static str],
}

const fn broken(line: &'static str, instead: &'static str, told: &'static [&'static str]) -> Broken {
    Broken { line, instead, told }
}

#[rustfmt::skip]
pub(super) const TABLE: &[Broken] = &[
    // Mail that would come round.
    broken("address = \"smtp.example.net:587\"", "address = \"localhost:1587\"", &[
        "sealpost.toml:28: upstream \"main\": address: is the listener 127.0.0.1:1587 of this relay: mail would come round to it again; name the server that takes the mail on",
    ]),
    // What is told stands on one line, whatever was written.
    broken("send_to = [\"*\"]", "send_to = [\"\\u0007@x.example\"]", &[
        "sealpost.toml:18: client_ca \"staff\": send_to: \"\\u{7}@x.example\": the address holds a control character; write \"alice@example.com\", \"*@example.com\" or \"*\"",
    ]),
    // Grammar and keys.
    broken("data_dir = \"data\"", "data_dir = data", &[
        "sealpost.toml:2: not TOML: string values must be quoted, expected literal string",
    ]),
    // The grammar does not say where it stands: not on line 1.
    broken("data_dir = \"data\"", "data_dir = \"data\"\na.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", &[
        "sealpost.toml: not TOML: recursion limit",
    ]),
    broken("hostname = \"mail.example.com\"", "hostnam = \"mail.example.com\"", &[
        "sealpost.toml:1: hostnam: there is no such key; did you mean \"hostname\"?",
    ]),
    broken("hostname = \"mail.example.com\"", "hostname = 5", &[
        "sealpost.toml:1: hostname: must be a text in quotes, not a number",
    ]),
    broken("hostname = \"mail.example.com\"", "hostname = \"not a name\"", &[
        "sealpost.toml:1: hostname: \"not a name\": not a domain name; write a name like \"mail.example.com\"",
    ]),
    broken("hostname = \"mail.example.com\"", "hostname = \"mail\"", &[
        "sealpost.toml:1: warning: hostname: \"mail\": not fully qualified; upstreams may refuse it in EHLO; write the whole name, like \"mail.example.com\" (RFC 5321 section 2.3.5)",
        "sealpost.toml:9: warning: tls.certificate: no certificate is for \"mail\": clients that connect to this name will not trust it; get one with this name, or set hostname to a name it has",
    ]),
    broken("data_dir = \"data\"", "", &[
        "sealpost.toml: data_dir: is missing; write the directory for the queue, like data_dir = \"/var/lib/sealpost\"",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"\"", &[
        "sealpost.toml:2: data_dir: is empty",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"server.pem\"", &[
        "sealpost.toml:2: data_dir: server.pem: is a file, not a directory; name a directory, which is made when it is not there",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nshutdown_grace = 30", &[
        "sealpost.toml:3: shutdown_grace: must be a duration with its unit, like \"30s\", \"5m\", \"4h\", \"5d\", not a number",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nshutdown_grace = \"30\"", &[
        "sealpost.toml:3: shutdown_grace: \"30\": a duration needs a unit: write a number and its unit, like \"30s\", \"5m\", \"4h\", \"5d\"",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\npostmaster = \"nobody\"", &[
        "sealpost.toml:3: postmaster: \"nobody\": the address has no @ behind its local part; write an address like \"postmaster@example.com\"",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nlog = { format = \"jsno\", level = 3 }", &[
        "sealpost.toml:3: log.format: \"jsno\": there is no such choice; did you mean \"json\"?",
        "sealpost.toml:3: log.level: must be one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", not a number",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\ndata_dir = \"other\"", &[
        "sealpost.toml:3: not TOML: duplicate key \"data_dir\"; leave one out",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nmetrics = true", &[
        "sealpost.toml:3: metrics: there is no such key; known here: hostname, data_dir, postmaster, shutdown_grace, listener, tls, client_ca, identity, identities, credentials, upstream, route, dns, queue, limits, deadlines, received, header, reports, notices, log, reload",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nreload = { watch = \"everything\", poll = \"10ms\" }", &[
        "sealpost.toml:3: reload.poll: 10ms: the disk would be looked at without a pause; write \"1s\" or more",
        "sealpost.toml:3: reload.watch: \"everything\": there is no such choice; write one of \"files\", \"all\", \"off\"",
    ]),
    // Fetched and asked.
    broken("crls = [\"ca.crl\"]", "crl_urls = [\"https://pki.example.com/ca.crl\"]\ncrl_refresh = \"0s\"", &[
        "sealpost.toml:15: client_ca \"staff\": crl_urls: \"https://pki.example.com/ca.crl\": not plain http; write \"http://...\": what is fetched is signed, so https gains nothing (RFC 5280 section 8)",
        "sealpost.toml:16: client_ca \"staff\": crl_refresh: 0s: the server would be asked without a pause; write \"1m\" or more",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.crl\"]\ncrl_refresh = \"5m\"\nocsp = \"sometimes\"\nocsp_url = \"http://user@ocsp.example.com\"", &[
        "sealpost.toml:17: client_ca \"staff\": ocsp: \"sometimes\": there is no such choice; write one of \"off\", \"if-available\", \"require\"",
        "sealpost.toml:18: client_ca \"staff\": ocsp_url: \"http://user@ocsp.example.com\": its host is no name or address; write \"http://pki.example.com/ca.crl\"",
    ]),
    // Listeners.
    broken("[[listener]]", "[listener]", &[
        "sealpost.toml:4: listener: this is a list of tables; write [[listener]]",
    ]),
    broken("[[listener]]", "[listener]\naddress = \"127.0.0.1:1465\"\n\n[listener]", &[
        "sealpost.toml:7: listener: this is a list of tables; write [[listener]] each time",
    ]),
    broken("[[listener]]", "[listener]\naddress = \"127.0.0.1:1465\"\n\n[[listener]]", &[
        "sealpost.toml:7: listener: it is above in another way, and this is a list of tables; write [[listener]] each time",
    ]),
    broken("[[upstream]]", "[limits]\nconnections = 3\n[limits]\nconnections = 4\nheader_size = \"1MiB\"\n[[upstream]]", &[
        "sealpost.toml:28: limits: is there above already; put them together in one [limits]",
        "sealpost.toml:29: not TOML: duplicate key \"connections\"; leave one out",
    ]),
    broken("[[upstream]]", "[queue]\nmemory_share_per_identity = 25.5\n[[upstream]]", &[
        "sealpost.toml:27: queue.memory_share_per_identity: must be a whole number, without quotes, not one with a fraction",
    ]),
    broken("[tls]", "[[tls.certificates]]\n\n[tls.certificates]\n\n[tls]", &[
        "sealpost.toml:10: tls.certificates: this is a list of tables; write [[tls.certificates]] each time",
    ]),
    broken("address = \"127.0.0.1:1587\"", "address = \"localhost:1587\"", &[
        "sealpost.toml:5: listener 1: address: \"localhost:1587\": not an address to listen on; write an IP address and a port, like \"0.0.0.0:587\", \"[::]:587\", \"127.0.0.1:1587\"",
    ]),
    broken("address = \"127.0.0.1:1587\"", "adress = \"127.0.0.1:1587\"", &[
        "sealpost.toml:5: listener 1: adress: there is no such key; did you mean \"address\"?",
    ]),
    broken("mode = \"starttls\"", "mode = \"start-tls\"", &[
        "sealpost.toml:6: listener 1: mode: \"start-tls\": there is no such choice; did you mean \"starttls\"?",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nclient_cas = [\"staf\"]", &[
        "sealpost.toml:7: listener 1: client_cas: \"staf\": there is no client_ca of this name; did you mean \"staff\"?",
        "sealpost.toml:13: warning: client_ca \"staff\": never applies: no listener takes it; name it in the client_cas of a listener, or take it out",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nclient_cas = []\npins = true", &[
        "sealpost.toml:14: warning: client_ca \"staff\": never applies: no listener takes it; name it in the client_cas of a listener, or take it out",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nclient_cas = []", &[
        "sealpost.toml:7: listener 1: client_cas: is empty: nobody could come in here; name a client_ca, or write pins = true for pinned certificates alone",
        "sealpost.toml:13: warning: client_ca \"staff\": never applies: no listener takes it; name it in the client_cas of a listener, or take it out",
    ]),
    broken("mode = \"starttls\"", "mode = \"plain\"", &[
        "sealpost.toml:6: listener 1: mode: \"plain\": there is no such choice; write one of \"starttls\", \"implicit\", \"proxied-tls\"",
    ]),
    broken("mode = \"starttls\"", "[[listener]]\naddress = \"127.0.0.1:1587\"", &[
        "sealpost.toml:7: listener 2: address: \"127.0.0.1:1587\": another listener has this address; remove one of the two",
    ]),
    broken("mode = \"starttls\"", "mode = \"proxied-tls\"", &[
        "sealpost.toml:4: listener 1: balancer_pin: is missing; pin the load balancer's own certificate or its key: balancer_pin = [\"sha256/...\"]",
        "sealpost.toml:4: listener 1: proxy: is missing; name the networks that the load balancers connect from: proxy = [\"10.0.0.0/29\"]",
    ]),
    broken("mode = \"starttls\"", "mode = \"proxied-tls\"\nproxy = \"10.0.0.1\"\nbalancer_pin = [\"00:11\"]\nrefusal = \"alert\"", &[
        "sealpost.toml:8: listener 1: balancer_pin: \"00:11\": not a pin; write \"sha256/\" and the SHA-256 of the certificate or of its public key, in base64 or hexadecimal; sealpost shows the key's when it does not match",
        "sealpost.toml:9: listener 1: refusal: \"alert\": the handshake is the load balancer's, and can't tell a client anything; write \"reply\" or \"defer\"",
    ]),
    broken("mode = \"starttls\"", "mode = \"proxied-tls\"\nproxy = \"10.0.0.1\"\nbalancer_pin = []", &[
        "sealpost.toml:8: listener 1: balancer_pin: is empty: nobody could connect; pin the load balancer's own certificate or its key: balancer_pin = [\"sha256/...\"]",
    ]),
    broken("mode = \"starttls\"", "mode = \"proxied-tls\"\nproxy = \"10.0.0.1\"\nbalancer_pin = [\"sha256/0000000000000000000000000000000000000000000000000000000000000000\"]", &[
        "sealpost.toml:6: warning: listener 1: mode: nobody can send here: there is no accept_vouched = true; write it in each [[client_ca]] and [[identity]] whose certificates load balancers may vouch for",
    ]),
    broken("mode = \"starttls\"", "mode = \"implicit\"\nbalancer_pin = [\"sha256/0000000000000000000000000000000000000000000000000000000000000000\"]", &[
        "sealpost.toml:7: listener 1: balancer_pin: counts with mode = \"proxied-tls\" alone; take it out; a listener for load balancers that vouch has mode = \"proxied-tls\"",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nproxy = []", &[
        "sealpost.toml:7: listener 1: proxy: is empty: nobody could connect; name the networks of the load balancers, or take the key out",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nproxy = [\"10.0.0.1/8\", \"balancer.example.com\", \"2001:db8::/129\", \"::ffff:10.0.0.1\"]", &[
        "sealpost.toml:7: listener 1: proxy: \"10.0.0.1/8\": the network of this length is 10.0.0.0/8; write \"10.0.0.0/8\", or the address of one host without a slash",
        "sealpost.toml:7: listener 1: proxy: \"2001:db8::/129\": behind the slash stands no number from 0 to 128; write networks or addresses, like \"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::/32\"",
        "sealpost.toml:7: listener 1: proxy: \"::ffff:10.0.0.1\": IPv4 written as IPv6; write it as IPv4, like \"10.0.0.0/8\"",
        "sealpost.toml:7: listener 1: proxy: \"balancer.example.com\": not an address or network; write networks or addresses, like \"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::/32\"",
    ]),
    broken("mode = \"starttls\"", "mode = \"starttls\"\nproxy = \"0.0.0.0/0\"", &[
        "sealpost.toml:7: warning: listener 1: proxy: \"0.0.0.0/0\": whoever connects may claim any address; name the load balancers alone",
    ]),
    broken("address = \"127.0.0.1:1587\"\nmode = \"starttls\"", "address = \"127.0.0.1:465\"", &[
        "sealpost.toml:4: warning: listener 1: mode: clients expect mode = \"implicit\" on port 465",
    ]),
    // The server's certificate.
    broken("certificate = \"server.pem\"", "", &[
        "sealpost.toml:8: tls.certificate: is missing; write the file of the server's certificate chain, PEM, leaf first",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"missing.pem\"", &[
        "sealpost.toml:9: tls.certificate: missing.pem: can't be read: there is no such file",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"old.pem\"\nprivate_key = \"old.key\"", &[
        "sealpost.toml:9: tls.certificate: old.pem: the certificate is X.509 version 1 or 2, and TLS takes version 3 only; have it issued again with extensions (a subjectAltName)",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"nothing\"", &[
        "sealpost.toml:9: tls.certificate: nothing: is a directory, not a file",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"empty.pem\"", &[
        "sealpost.toml:9: tls.certificate: empty.pem: it is empty; copy it again, whole",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"prose.pem\"", &[
        "sealpost.toml:9: tls.certificate: prose.pem: it holds no certificate; it must have a block that begins with -----BEGIN CERTIFICATE-----",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"server.key\"", &[
        "sealpost.toml:9: tls.certificate: server.key: it holds no certificate; it must have a block that begins with -----BEGIN CERTIFICATE-----",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"expired.pem\"\nprivate_key = \"expired.key\"", &[
        "sealpost.toml:9: tls.certificate: the certificate has expired on 2026-11-23T01:48:00Z; renew it",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"future.pem\"\nprivate_key = \"future.key\"", &[
        "sealpost.toml:9: tls.certificate: the certificate is not valid before 2026-11-25T01:48:00Z; wait, or set the clock",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"ending.pem\"\nprivate_key = \"ending.key\"", &[
        "sealpost.toml:9: warning: tls.certificate: the certificate ends on 2026-11-29T01:48:00Z; renew it soon",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"strange.pem\"\nprivate_key = \"strange.key\"", &[
        "sealpost.toml:9: warning: tls.certificate: no certificate is for \"mail.example.com\": clients that connect to this name will not trust it; get one with this name, or set hostname to a name it has",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"client.pem\"\nprivate_key = \"client.key\"", &[
        "sealpost.toml:9: tls.certificate: the certificate is not for servers (its extended key usage lacks serverAuth), so no client accepts it; `sealpost pki server` makes one that is; of another CA, ask for one for TLS servers",
    ]),
    broken("certificate = \"server.pem\"", "certificate = \"whole.pem\"", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"gap.pem\"", &[
        "sealpost.toml:9: warning: tls.certificate: certificate 1 of the file was not issued by certificate 2: clients can't follow the chain; put behind the server's certificate what issued it, then what issued that, up to the root's (many CAs call it full chain)",
    ]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"alone.pem\"\nprivate_key = \"alone.key\"", &[
        "sealpost.toml:9: warning: tls.certificate: the certificate stands without what issued it: clients that do not have that can't follow the chain; put behind the server's certificate what issued it, then what issued that, up to the root's (many CAs call it full chain)",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"expired.key\"", &[
        "sealpost.toml:10: tls.private_key: it is not the key of the certificate server.pem; name the key that this certificate was issued for",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"open.key\"", &[
        "sealpost.toml:10: tls.private_key: open.key: everybody may read it (mode 0644); chmod 640 open.key",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"server.pem\"", &[
        "sealpost.toml:10: tls.private_key: server.pem: everybody may read it (mode 0644); chmod 640 server.pem",
        "sealpost.toml:10: tls.private_key: server.pem: it holds no private key; it must have a block that begins with -----BEGIN PRIVATE KEY-----",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\nmin_version = 1.2", &[
        "sealpost.toml:11: tls.min_version: must be one of \"1.2\", \"1.3\", not a number",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\nmin_version = \"1.4\"", &[
        "sealpost.toml:11: tls.min_version: \"1.4\": there is no such choice; write one of \"1.2\", \"1.3\"",
    ]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\n[[tls.certificates]]\ncertificate = \"server.pem\"", &[
        "sealpost.toml:11: tls.certificates 1: private_key: is missing; write the file of the certificate's private key, PEM",
    ]),
    // Client CAs.
    broken("name = \"staff\"", "", &[
        "sealpost.toml:12: client_ca 1: name: is missing; write name = \"...\": log and queue call it so",
        "sealpost.toml:22: identity \"robot\": match.ca: \"staff\": there is no client_ca of this name; write a [[client_ca]] of this name",
    ]),
    broken("certificates = \"ca.pem\"", "", &[
        "sealpost.toml:12: client_ca \"staff\": certificates: is missing; write certificates = \"ca.pem\", the file of the CA's root",
    ]),
    broken("certificates = \"ca.pem\"", "certificates = [\"empty.pem\"]", &[
        "sealpost.toml:14: client_ca \"staff\": certificates: empty.pem: it is empty; copy it again, whole",
    ]),
    broken("certificates = \"ca.pem\"", "certificates = [\"server.pem\"]", &[
        "sealpost.toml:14: client_ca \"staff\": certificates: certificate 1 of client_ca \"staff\" (CN=mail.example.com) is no CA certificate (basic constraints); to trust one certificate alone, give its fingerprint in an [[identity]]",
    ]),
    broken("certificates = \"ca.pem\"", "certificates = [\"ca.pem\", \"other.pem\"]", &[
        "sealpost.toml:15: warning: client_ca \"staff\": crls: there is no CRL of CN=other CA: every certificate that it issued is refused; add its CRL; a root has one too, for the issuing CAs below it",
    ]),
    broken("certificates = \"ca.pem\"\ncrls = [\"ca.crl\"]", "certificates = \"ended.pem\"\ncrls = [\"ended.crl\"]", &[
        "sealpost.toml:14: warning: client_ca \"staff\": certificates: the CA certificate of CN=ended CA has ended on 2026-08-16T01:48:00Z: what it issued is refused; add the renewed one, or take it out",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.crl\"]\npurposes = [\"clientauth\", \"x\"]\nchain_max = 9\nrsa_bits_min = 1024", &[
        "sealpost.toml:16: client_ca \"staff\": purposes: \"clientauth\": not a purpose known here; did you mean \"clientAuth\"?",
        "sealpost.toml:16: client_ca \"staff\": purposes: \"x\": not a purpose known here; write some of \"clientAuth\", \"emailProtection\", \"serverAuth\", \"any\", \"unstated\"",
        "sealpost.toml:17: client_ca \"staff\": chain_max: 9: not between 2 and 8; in certificates, the client's own and the CA's root counted",
        "sealpost.toml:18: client_ca \"staff\": rsa_bits_min: 1024: not between 2048 and 8192; in bits",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.crl\"]\npurposes = []\npolicies = [\"gold\", \"2.5.29.32.0\"]", &[
        "sealpost.toml:16: client_ca \"staff\": purposes: is empty: every certificate of this CA would be refused; write purposes = [\"clientAuth\"], or leave it out",
        "sealpost.toml:17: client_ca \"staff\": policies: \"2.5.29.32.0\": not the object identifier of a policy: numbers with dots, like 1.3.6.1.4.1.99999.1.2; write a policy's number as it stands in the certificates (openssl x509 -text)",
        "sealpost.toml:17: client_ca \"staff\": policies: \"gold\": not the object identifier of a policy: numbers with dots, like 1.3.6.1.4.1.99999.1.2; write a policy's number as it stands in the certificates (openssl x509 -text)",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", dns = \"robot.example.com\" }\npin_ignores_expiry = true", &[
        "sealpost.toml:23: identity \"robot\": pin_ignores_expiry: only a pinned certificate may outlive its end; match it by fingerprint or spki, without ca",
    ]),
    broken("crls = [\"ca.crl\"]", "", &[
        "sealpost.toml:12: client_ca \"staff\": revocation: is missing; name the CRL files in crls, or write revocation = \"off\" if certificates of this CA shall be good until they end",
    ]),
    broken("crls = [\"ca.crl\"]", "revocation = \"require\"", &[
        "sealpost.toml:15: client_ca \"staff\": revocation: \"require\", and there are no crls: every certificate of this CA would be refused; name the CRL files in crls",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"other.crl\"]", &[
        "sealpost.toml:15: client_ca \"staff\": crls: other.crl: its issuer (CN=other CA) is not among this CA's certificates and intermediates; if this CRL is of another CA, take it out; if it is of an issuing CA below this one, add that CA's certificate to intermediates",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"namesake.crl\"]", &[
        "sealpost.toml:15: client_ca \"staff\": crls: namesake.crl: its signature does not verify with the certificate of CN=staff CA: it is forged, damaged, or of another CA of the same name",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.pem\"]", &[
        "sealpost.toml:15: client_ca \"staff\": crls: ca.pem: it holds no CRL; it must have a block that begins with -----BEGIN X509 CRL-----",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"nothing\"]", &[
        "sealpost.toml:15: client_ca \"staff\": crls: nothing: holds no file; put the CA's CRL there",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"stale.crl\"]", &[
        "sealpost.toml:15: warning: client_ca \"staff\": crls: a CRL is out of date since 2026-10-25T01:48:00Z: its certificates are refused until there is a new one; get a new one from the CA (sealpost pki crl)",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ahead.crl\"]", &[
        "sealpost.toml:15: warning: client_ca \"staff\": crls: the CRL of CN=staff CA is dated ahead (2026-11-26T01:48:00Z): until then none that comes counts beside it; check the clocks of the CA and of this machine; a list that is made for later is put in place then",
    ]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.crl\"]\nrevocation = \"off\"", &[
        "sealpost.toml:15: warning: client_ca \"staff\": crls: never asked: revocation is \"off\"",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"*.example.com\"]", &[
        "sealpost.toml:16: client_ca \"staff\": domains: \"*.example.com\": for the subdomains of a domain write .example.com",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nlimits = { messages_per_hour = 0 }", &[
        "sealpost.toml:17: client_ca \"staff\": limits.messages_per_hour: 0: nothing could be sent; write 1 or more",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nlimits = { priority_max = 10 }", &[
        "sealpost.toml:17: client_ca \"staff\": limits.priority_max: \"10\": not a priority; write a number from -9 to 9, without quotes",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nlimits = { priority_min = 1 }", &[
        "sealpost.toml:17: client_ca \"staff\": limits.priority_min: from 1 to 0 there is none",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nlimits = { recipients_per_hour = 9, recipients_per_day = 8 }", &[
        "sealpost.toml:17: warning: client_ca \"staff\": limits.recipients_per_hour: never applies: recipients_per_day is smaller",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nsecond_factor = \"password\"", &[
        "sealpost.toml:17: client_ca \"staff\": second_factor: is demanded, and there is no file of credentials: nobody could ever show it; write file = \"...\" in [credentials]; see `sealpost passwd --help`",
    ]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nsecond_factor = \"pasword\"", &[
        "sealpost.toml:17: client_ca \"staff\": second_factor: \"pasword\": there is no such choice; did you mean \"password\"?",
    ]),
    // Credentials.
    broken("data_dir = \"data\"", "data_dir = \"data\"\ncredentials = { file = \"nowhere\" }", &[
        "sealpost.toml:3: credentials.file: nowhere: can't be read: there is no such file",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\ncredentials = { file = \"open-password\" }", &[
        "sealpost.toml:3: credentials.file: open-password: others than its owner may use it (mode 0644); chmod 600 open-password",
        "sealpost.toml:3: credentials.file: open-password, line 1: has a name and no credential behind it; write what `sealpost passwd` prints",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\ncredentials = { file = \"costly\" }", &[
        "sealpost.toml:3: credentials.file: costly, line 2: \"robot\" has a password hash that costs too much: at most m=131072,t=16,p=4 are taken, it has m=1048576,t=2,p=1",
        "sealpost.toml:3: credentials.file: costly, line 3: \"robot\" has a word that is no credential; write what `sealpost passwd` prints",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\ncredentials = { file = \"credentials\" }", &[
        "sealpost.toml:3: warning: credentials.file: credentials: the credential of \"robot\" is never asked for; write second_factor = \"password\" for it, or take the line out",
        "sealpost.toml:3: warning: credentials.file: credentials: the credential of \"staff:alice@example.com\" is never asked for; write second_factor = \"password\" for it, or take the line out",
    ]),
    broken("send_as_email = true", "send_as_email = \"true\"", &[
        "sealpost.toml:17: client_ca \"staff\": send_as_email: must be true or false, without quotes, not a text",
    ]),
    broken("send_as_email = true", "", &[
        "sealpost.toml:18: warning: client_ca \"staff\": send_to: never applies without send_as_email = true or send_as_upn = true",
    ]),
    broken("send_as = [\"robot@example.com\"]", "", &[
        "sealpost.toml:20: warning: identity \"robot\": send_as: is empty and grants nothing; everything must be written out, like send_as = [\"robot@example.com\"]",
    ]),
    broken("send_to = [\"*\"]", "", &[
        "sealpost.toml:12: warning: client_ca \"staff\": send_to: is empty and grants nothing; everything must be written out, like send_to = [\"*\"]",
    ]),
    broken("send_as_email = true", "resend = true\nbare_lf = \"normalize\"\naccept_vouched = true", &[
        "sealpost.toml:17: warning: client_ca \"staff\": resend: never applies without send_as_email = true or send_as_upn = true",
        "sealpost.toml:18: warning: client_ca \"staff\": bare_lf: never applies without send_as_email = true or send_as_upn = true",
        "sealpost.toml:19: warning: client_ca \"staff\": accept_vouched: never applies without send_as_email = true or send_as_upn = true",
        "sealpost.toml:20: warning: client_ca \"staff\": send_to: never applies without send_as_email = true or send_as_upn = true",
    ]),
    // Headers.
    broken("data_dir = \"data\"", "data_dir = \"data\"\nheader = { sender = \"add\", strict_8bit = \"yes\" }", &[
        "sealpost.toml:3: header.sender: \"add\": there is no such choice; write one of \"check\", \"rewrite\"",
        "sealpost.toml:3: header.strict_8bit: must be true or false, without quotes, not a text",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nheader = { fqdn = \"complete\" }", &[
        "sealpost.toml:3: header.fqdn: \"complete\": by which domain is not written; write domain = \"example.com\" beside it",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nheader = { fqdn = \"complete\", domain = \"local\" }", &[
        "sealpost.toml:3: header.domain: \"local\": not fully qualified itself; write a name like \"example.com\"",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nheader = { fqdn = \"complete\", domain = \"a b\" }", &[
        "sealpost.toml:3: header.domain: \"a b\": the domain holds ' ', which no host name has; write a name like \"example.com\"",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nheader = { fqdn = \"refuse\", domain = \"example.com\" }", &[
        "sealpost.toml:3: warning: header.domain: never applies without fqdn = \"complete\"",
    ]),
    // Identities.
    broken("name = \"robot\"", "name = \"staff:robot\"", &[
        "sealpost.toml:21: identity \"staff:robot\": name: begins with the name of a client_ca and a colon, as certificates of \"staff\" are called in the log; write another name",
    ]),
    broken("name = \"robot\"", "name = \"robot\"\nhold = \"yes\"", &[
        "sealpost.toml:22: identity \"robot\": hold: must be true or false, without quotes, not a text",
    ]),
    broken("name = \"robot\"", "name = \"robot\"\nresend = 1", &[
        "sealpost.toml:22: identity \"robot\": resend: must be true or false, without quotes, not a number",
    ]),
    broken("name = \"robot\"", "name = \"robot\"\nbare_lf = \"normalise\"", &[
        "sealpost.toml:22: identity \"robot\": bare_lf: \"normalise\": there is no such choice; did you mean \"normalize\"?",
    ]),
    broken("name = \"robot\"", "name = \"robot\"\npassword = \"hunter2\"", &[
        "sealpost.toml:22: identity \"robot\": password: must not be written here: secrets come from files; write credentials.file = \"FILE\"",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "", &[
        "sealpost.toml:20: identity \"robot\": match: is missing; write match = { ca = \"...\", email = \"...\" }",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\" }", &[
        "sealpost.toml:22: identity \"robot\": match: needs at least one of email, upn, dns, uri, subject, issuer_serial, fingerprint, spki; a CA alone would make all of its certificates this one identity",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"stuff\", dns = \"robot.example.com\" }", &[
        "sealpost.toml:22: identity \"robot\": match.ca: \"stuff\": there is no client_ca of this name; did you mean \"staff\"?",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", upn = \"CORP\\\\robot\" }", &[
        "sealpost.toml:22: identity \"robot\": match.upn: \"CORP\\\\robot\": the address has no @ behind its local part; write an address like \"alice@example.com\", or \"*@example.com\" for all of a domain",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", email = \"robot@localhost\", dns = \"*.*.example.com\" }", &[
        "sealpost.toml:22: identity \"robot\": match.dns: \"*.*.example.com\": not a DNS name; write one like \"backup.example.com\", or \"*.example.com\" for all hosts below",
        "sealpost.toml:22: identity \"robot\": match.email: \"robot@localhost\": no certificate has such a name: its domain is not fully qualified",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", uri = \"https://example.com/*\" }", &[
        "sealpost.toml:22: identity \"robot\": match.uri: \"https://example.com/*\": a * in a uri stands for all SPIFFE IDs below a path and is written at the end: \"spiffe://example.com/ns/prod/*\"",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", subject = \"Alice\" }", &[
        "sealpost.toml:22: identity \"robot\": match.subject: \"Alice\": \"Alice\" has no =; each part is written TYPE=value, and a comma within a value as \\,",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", subject = \"C=DE,O=Example,CN=Alice\" }", &[
        "sealpost.toml:22: warning: identity \"robot\": match: has the name C=DE,O=Example,CN=Alice, which begins with its most general part; RFC 4514 writes the most special one first: CN=...,O=...,C=...",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", issuer_serial = { issuer = \"CN=staff CA\" } }", &[
        "sealpost.toml:22: identity \"robot\": match.issuer_serial.serial: is missing; write issuer_serial = { issuer = \"CN=...,O=...\", serial = \"0x...\" }",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", issuer_serial = { issuer = \"CN=staff CA\", serial = \"4096\" } }", &[
        "sealpost.toml:22: identity \"robot\": match.issuer_serial.serial: \"4096\": could be hexadecimal or decimal; write 0x4096, or decimal:4096",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", uri = \"spiffe://example.org/x\" }\n[[client_ca]]\nname = \"b\"\ncertificates = \"other.pem\"\nrevocation = \"off\"\nsend_as_email = true\nsend_to = [\"*\"]\ndomains = [\"*\"]\ntrust_domain = \"spiffe://Example.org/x\"\n[[identity]]\nname = \"more\"\nmatch = { ca = \"staff\", dns = \"x.example\" }", &[
        "sealpost.toml:30: client_ca \"b\": trust_domain: \"spiffe://Example.org/x\": not a SPIFFE trust domain; write \"example.org\"",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", dns = \"*.robot.example.com\" }\nsend_as = [\"a@example.com\"]\nsend_to = [\"*\"]\n[[identity]]\nname = \"all\"\nmatch = { ca = \"staff\", dns = \"*.example.com\" }", &[
        "sealpost.toml:22: warning: identity \"robot\": match: never applies: all that it matches identity \"all\" (sealpost.toml:25) matches, too, and neither is more certain; give it another key",
    ]),
    broken("domains = [\"example.com\"]\nsend_as_email = true\nsend_to = [\"*\"]\n\n[[identity]]\nname = \"robot\"\nmatch = { ca = \"staff\", dns = \"robot.example.com\" }", "domains = [\"example.com\"]\ntrust_domain = \"example.com\"\nsend_as_email = true\nsend_to = [\"*\"]\n[[identity]]\nname = \"robot\"\nmatch = { ca = \"staff\", uri = \"spiffe://example.org/robot\" }", &[
        "sealpost.toml:22: warning: identity \"robot\": match: never holds: its uri is of the trust domain \"example.org\", trust_domain of its CA is \"example.com\"",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { fingerprint = \"abc\" }", &[
        "sealpost.toml:22: identity \"robot\": match.fingerprint: \"abc\": not a SHA-256 (64 hexadecimal digits); get it with: openssl x509 -in cert.pem -noout -fingerprint -sha256",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { spki = \"abc\" }", &[
        "sealpost.toml:22: identity \"robot\": match.spki: \"abc\": not a SHA-256 (64 hexadecimal digits); get it with: openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", email = \"robot\", uri = \"robot\" }", &[
        "sealpost.toml:22: identity \"robot\": match.email: \"robot\": the address has no @ behind its local part; write an address like \"alice@example.com\", or \"*@example.com\" for all of a domain",
        "sealpost.toml:22: identity \"robot\": match.uri: \"robot\": not a URI: it has no scheme; write one like \"spiffe://example.com/billing\"",
    ]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\"*@\"]", &[
        "sealpost.toml:23: identity \"robot\": send_as: \"*@\": the domain (right of the @) is empty; write \"alice@example.com\", \"*@example.com\" or \"*\"",
    ]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\n  \"robot@example.com\",\n  \"example.com\",\n  7,\n]", &[
        "sealpost.toml:25: identity \"robot\": send_as: \"example.com\": it has no @; for every address of a domain write *@example.com",
        "sealpost.toml:26: identity \"robot\": send_as: must be a text in quotes, not a number",
    ]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\"robot@elsewhere.example\"]", &[
        "sealpost.toml:23: warning: identity \"robot\": send_as: has robot@elsewhere.example, which lies beyond the domains of its CA and is never granted",
    ]),
    broken("send_as = [\"robot@example.com\"]", "send_a = [\"robot@example.com\"]", &[
        "sealpost.toml:23: identity \"robot\": send_a: there is no such key; did you mean \"send_as\"?",
    ]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"@certificate\"]", &[
        "sealpost.toml:24: identity \"robot\": send_to: \"@certificate\": @certificate has a meaning in send_as only; write \"alice@example.com\", \"*@example.com\" or \"*\"",
    ]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\nlimits = { message_size = \"1GiB\", recipients_per_message = 0 }", &[
        "sealpost.toml:25: identity \"robot\": limits.recipients_per_message: 0: nothing could be sent; write 1 or more",
    ]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\nlimits = { message_size = \"1GiB\" }", &[
        "sealpost.toml:25: warning: identity \"robot\": limits.message_size: never applies: limits.message_size of the server is 50 MiB",
    ]),
    // A warning that may follow from a mistake waits until that is mended.
    broken("send_as_email = true", "send_as_email = \"yes\"", &[
        "sealpost.toml:17: client_ca \"staff\": send_as_email: must be true or false, without quotes, not a text",
    ]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\n[[identity]]\nname = \"robot\"\nmatch = { ca = \"staff\", dns = \"robot.example.com\" }\nsend_as = [\"*\"]\nsend_to = [\"*\"]", &[
        "sealpost.toml:25: identity \"robot\": matches the same certificates as identity \"robot\" (sealpost.toml:20); leave one out or give it another key",
        "sealpost.toml:26: identity \"robot\": name: \"robot\": there is another of this name; give each its own name",
    ]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\n[[client_ca]]\nname = \"idle\"\ncertificates = \"other.pem\"\nrevocation = \"off\"", &[
        "sealpost.toml:25: warning: client_ca \"idle\": never applies: no [[identity]] names it, and neither send_as_email nor send_as_upn is true",
    ]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { dns = \"robot.example.com\" }\n[[client_ca]]\nname = \"b\"\ncertificates = \"other.pem\"\nrevocation = \"off\"\nsend_as_email = true\nsend_to = [\"*\"]\ndomains = [\"*\"]\n[[identity]]\nname = \"more\"\nmatch = { ca = \"staff\", dns = \"x.example\" }", &[
        "sealpost.toml:22: identity \"robot\": match: needs `ca`: there is not exactly one client_ca, and any of them could issue a certificate with this name",
    ]),
    // Upstreams.
    broken("[[upstream]]\nname = \"main\"\naddress = \"smtp.example.net:587\"\nca = \"ca.pem\"\n", "", &[
        "sealpost.toml: upstream: is missing: mail could go nowhere; write [[upstream]] with name and address",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net\"", &[
        "sealpost.toml:28: upstream \"main\": address: \"smtp.example.net\": not the address of a server; write a host and a port, like \"smtp.example.net:587\", \"192.0.2.1:25\", \"[2001:db8::1]:25\"",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:0\"", &[
        "sealpost.toml:28: upstream \"main\": address: \"smtp.example.net:0\": not the address of a server; write a host and a port, like \"smtp.example.net:587\", \"192.0.2.1:25\", \"[2001:db8::1]:25\"",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:25\"\ntls = \"none\"\nusername = \"relay\"\npassword_file = \"password\"", &[
        "sealpost.toml:31: upstream \"main\": password_file: a password would go over a connection that may be plaintext; write tls = \"verify\"",
    ]),
    broken("address = \"smtp.example.net:587\"\nca = \"ca.pem\"", "address = \"smtp.example.net:25\"\ntls = \"opportunistic\"\nusername = \"relay\"\npassword_file = \"password\"", &[
        "sealpost.toml:31: upstream \"main\": password_file: a password would go over a connection that may be plaintext; write tls = \"verify\"",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:465\"\nmode = \"implicit\"\ntls = \"opportunistic\"", &[
        "sealpost.toml:30: upstream \"main\": tls: mode \"implicit\" is TLS from the first octet: set tls to \"verify\" (or \"require\")",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"", &[
        "sealpost.toml:26: upstream \"main\": password_file: is missing; write the file that holds the password",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"open-password\"", &[
        "sealpost.toml:30: upstream \"main\": password_file: open-password: everybody may read it (mode 0644); chmod 640 open-password",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"empty-password\"", &[
        "sealpost.toml:30: upstream \"main\": password_file: empty-password: is empty; it should hold the password on its first line",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword = \"hunter2\"", &[
        "sealpost.toml:30: upstream \"main\": password: must not be written here: secrets come from files; write password_file = \"FILE\"",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nauth_in_mail = true", &[
        "sealpost.toml:29: upstream \"main\": auth_in_mail: says AUTH=<> where we have logged in, and we log in nowhere; write username and password_file, or take it out",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"password\"\nauth = \"cram-md5\"", &[
        "sealpost.toml:31: upstream \"main\": auth: \"cram-md5\": there is no such choice; write one of \"scram-sha-256-plus\", \"scram-sha-256\", \"oauthbearer\", \"xoauth2\", \"plain\", \"login\", \"external\"",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"password\"\nauth = \"xoauth2\"", &[
        "sealpost.toml:31: upstream \"main\": auth: goes by a token, not by a password; write token_file, not password_file",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"password\"\nauth = \"external\"", &[
        "sealpost.toml:31: upstream \"main\": auth: \"external\" goes by the certificate, not by a password or a token; take out password_file and token_file, or auth",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nauth = \"external\"", &[
        "sealpost.toml:29: upstream \"main\": auth: \"external\" says that our certificate is who we are, and there is none; write certificate and private_key",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\nauth = \"xoauth2\"", &[
        "sealpost.toml:26: upstream \"main\": token_file: is missing; write the file that holds the token",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"password\"\ntoken_file = \"password\"", &[
        "sealpost.toml:31: upstream \"main\": token_file: beside password_file: only one of them can be who we are; take one of them out",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\ntoken_file = \"no-token\"", &[
        "sealpost.toml:30: warning: upstream \"main\": token_file: no-token: can't be read: there is no such file; mail waits until there is a token in it",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ncertificate = \"server.pem\"", &[
        "sealpost.toml:26: upstream \"main\": private_key: is missing; write the file of the certificate's private key",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ncertificate = \"server.pem\"\nprivate_key = \"expired.key\"", &[
        "sealpost.toml:30: upstream \"main\": private_key: certificate and private_key can't be used: it is not the key of the certificate; name the key that this certificate was issued for",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nour_fault = [\"250\"]\nconnections = 0", &[
        "sealpost.toml:29: upstream \"main\": our_fault: \"250\": not a reply; write a code, a status or both, like \"550\", \"5.7.64\" or \"550 5.7.64\"; only 4yz and 5yz make sense",
        "sealpost.toml:30: upstream \"main\": connections: 0: not between 1 and 1000",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ntls = \"require\"\nserver_name = \"x.example\"", &[
        "sealpost.toml:30: warning: upstream \"main\": server_name: never applies: the certificate is looked at only with tls = \"verify\"",
        "sealpost.toml:31: warning: upstream \"main\": ca: never applies: the certificate is looked at only with tls = \"verify\"",
    ]),
    broken("ca = \"ca.pem\"", "ca = \"ca.pem\"\ndane = true\ntls = \"none\"\n[dns]\nservers = [\"localhost\"]", &[
        "sealpost.toml:30: upstream \"main\": dane: with tls = \"none\" there is no certificate to look at; write tls = \"opportunistic\", which holds where there are no records",
        "sealpost.toml:33: dns.servers: \"localhost\": not the address of a name server; write IP addresses, like \"192.0.2.53\" or \"[2001:db8::53]:5353\"",
    ]),
    broken("ca = \"ca.pem\"", "ca = \"ca.pem\"\ndane = true\nlookup = \"mx\"", &[
        "sealpost.toml:30: upstream \"main\": dane: with lookup = \"mx\" or \"srv\" the servers are others than address, and it is not asked for records of theirs; write the server's own name and port in address, without lookup",
    ]),
    broken("ca = \"ca.pem\"", "ca = \"ca.pem\"\n[dns]\ntrusted = true", &[
        "sealpost.toml:31: dns.trusted: true, and no servers are named whose word is to count; write servers = [\"127.0.0.1\"], a resolver that checks DNSSEC",
    ]),
    broken("ca = \"ca.pem\"", "pin = [\"sha256/AAEC\"]", &[
        "sealpost.toml:29: upstream \"main\": pin: \"sha256/AAEC\": not a pin; write \"sha256/\" and the SHA-256 of the certificate or of its public key, in base64 or hexadecimal; sealpost shows the key's when it does not match",
    ]),
    broken("ca = \"ca.pem\"", "ca = \"empty.pem\"", &[
        "sealpost.toml:29: upstream \"main\": ca: empty.pem: it is empty; copy it again, whole",
    ]),
    broken("ca = \"ca.pem\"", "ca = \"ca.pem\"\n[[upstream]]\nname = \"main\"\naddress = \"127.0.0.1:25\"\ntls = \"none\"", &[
        "sealpost.toml:31: upstream \"main\": name: \"main\": there is another of this name; give each its own name",
    ]),
    // Queue, limits, deadlines.
    broken("[[upstream]]", "[queue]\nper_identity = 0\n[[upstream]]", &[
        "sealpost.toml:27: queue.per_identity: 0: not between 1 and 128, half of all deliveries at once; write 10, or leave it out: then it follows the upstreams' `connections`",
    ]),
    broken("[[upstream]]", "[queue]\nretry = []\n[[upstream]]", &[
        "sealpost.toml:27: queue.retry: is empty: nothing would be tried again; write [\"1m\", \"5m\", \"15m\", \"1h\"]",
    ]),
    broken("[[upstream]]", "[queue]\nretry = \"5m\"\n[[upstream]]", &[
        "sealpost.toml:27: queue.retry: must be a list of durations, like [\"1m\", \"5m\", \"1h\"], not a text",
    ]),
    broken("[[upstream]]", "[queue]\nretry = [\"5m\", \"soon\", 9]\n[[upstream]]", &[
        "sealpost.toml:27: queue.retry: \"soon\": not a duration: write a number and its unit, like \"30s\", \"5m\", \"4h\", \"5d\"",
        "sealpost.toml:27: queue.retry: must be a duration with its unit, like \"30s\", \"5m\", \"4h\", \"5d\", not a number",
    ]),
    broken("[[upstream]]", "[queue]\nwarn_after = \"6d\"\n[[upstream]]", &[
        "sealpost.toml:27: warning: queue.warn_after: 6d: never happens, since mail is given up after 5d",
    ]),
    broken("[[upstream]]", "[queue]\ngive_up_after = \"30s\"\nwarn_after = \"10s\"\n[[upstream]]", &[
        "sealpost.toml:27: queue.give_up_after: 30s: gives up before the first retry; RFC 5321 section 4.5.4.1 asks for four to five days",
    ]),
    broken("[[upstream]]", "[queue]\nsize = \"1MiB\"\ncount = 1\nmemory = \"1KiB\"\n[[upstream]]", &[
        "sealpost.toml:27: queue.size: 1 MiB: too small; write 256 MiB or more",
        "sealpost.toml:28: queue.count: 1: too few: some are kept for reports; write 2000 or more",
        "sealpost.toml:29: queue.memory: 1 KiB: too small; write 1 MiB or more",
    ]),
    broken("[[upstream]]", "[limits]\nrecipients_per_transaction = 50\nmessage_size = \"1KiB\"\nconnections = -1\nheader_size = \"10 stone\"\n[[upstream]]", &[
        "sealpost.toml:27: limits.recipients_per_transaction: 50: RFC 5321 section 4.5.3.1.8 has servers take 100; write 100 or more",
        "sealpost.toml:28: limits.message_size: 1 KiB: too small; RFC 5321 section 4.5.3.1.7 has servers take 64 KiB",
        "sealpost.toml:29: limits.connections: \"-1\": not a whole number from 0 to 4294967295; write a whole number, without quotes",
        "sealpost.toml:30: limits.header_size: \"10 stone\": \"stone\" is no unit of size: write a number and its unit, like \"512KiB\", \"10MiB\", \"1GiB\"",
    ]),
    broken("[[upstream]]", "[limits]\nheader_size = \"2MiB\"\n[queue]\nmemory = \"1MiB\"\n[[upstream]]", &[
        "sealpost.toml:27: limits.header_size: 2 MiB: more than queue.memory, 1 MiB, in which a header section is held while it is read; make it smaller, or queue.memory larger",
    ]),
    broken("[[upstream]]", "[deadlines]\ncommand = \"1m\"\nhandshake = \"0s\"\n[[upstream]]", &[
        "sealpost.toml:27: warning: deadlines.command: under the five minutes that RFC 5321 section 4.5.3.2.7 asks for",
        "sealpost.toml:28: deadlines.handshake: under one second: nobody could be so fast",
    ]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nidentities = [\"nowhere.d\", \"ca.pem\"]", &[
        "sealpost.toml:3: identities: ca.pem: its name ends in neither .toml nor .csv; name the file by what is in it",
        "sealpost.toml:3: identities: nowhere.d: can't be read: there is no such file",
    ]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\"*@a.example.com\", \"*@*.example.com\", \"*\", \"!b+*@example.com\"]", &[
        "sealpost.toml:23: warning: identity \"robot\": send_as: has *@*.example.com, which lies beyond the domains of its CA and is never granted",
        "sealpost.toml:23: warning: identity \"robot\": send_as: has *@*.example.com, which says nothing beside *; leave one of them out",
        "sealpost.toml:23: warning: identity \"robot\": send_as: has *@a.example.com, which lies beyond the domains of its CA and is never granted",
        "sealpost.toml:23: warning: identity \"robot\": send_as: has *@a.example.com, which says nothing beside *@*.example.com; leave one of them out",
    ]),
    broken("[[upstream]]", "[reports]\nenvelope_sender = \"x\"\nupstream = \"mian\"\npostmaster = \"y\"\n[[upstream]]", &[
        "sealpost.toml:27: reports.envelope_sender: \"x\": the address has no @ behind its local part; write an address like \"postmaster@example.com\"",
        "sealpost.toml:28: reports.upstream: \"mian\": no [[upstream]] is called so; did you mean \"main\"?",
        "sealpost.toml:29: reports.postmaster: \"y\": the address has no @ behind its local part; write an address like \"postmaster@example.com\"",
    ]),
    broken("[[upstream]]", "[reports]\nfrom = \"x\"\n[received]\nidentity = \"yes\"\n[[upstream]]", &[
        "sealpost.toml:27: reports.from: \"x\": the address has no @ behind its local part; write an address like \"postmaster@example.com\"",
        "sealpost.toml:29: received.identity: must be true or false, without quotes, not a text",
    ]),
    // How upstreams are reached.
    broken("address = \"smtp.example.net:587\"", "address = \"192.0.2.1:25\"\nlookup = \"mx\"\nsource_address = [\"0.0.0.0\", \"192.0.2.1:25\", \"192.0.2.1\", \"192.0.2.2\"]", &[
        "sealpost.toml:28: upstream \"main\": address: \"192.0.2.1:25\": not the address of a server; with lookup = \"mx\" write a domain, like \"example.net\"; a port behind it if it is not 25",
        "sealpost.toml:30: upstream \"main\": source_address: \"0.0.0.0\": not the address of a machine",
        "sealpost.toml:30: upstream \"main\": source_address: \"192.0.2.1:25\": not an IP address; write an IPv4 or IPv6 address of this machine, or one of each, without ports",
        "sealpost.toml:30: upstream \"main\": source_address: \"192.0.2.2\": there is another of its family; leave one out",
    ]),
    broken("address = \"smtp.example.net:587\"", "address = \"example.net:587\"\nlookup = \"srv\"", &[
        "sealpost.toml:28: upstream \"main\": address: \"example.net:587\": not the address of a server; with lookup = \"srv\" write a domain alone, like \"example.net\": the record says the port",
    ]),
    broken("[[upstream]]", "[dns]\nservers = \"dns.example.net\"\n[[upstream]]", &[
        "sealpost.toml:27: dns.servers: \"dns.example.net\": not the address of a name server; write IP addresses, like \"192.0.2.53\" or \"[2001:db8::53]:5353\"",
    ]),
    // Routes.
    broken("[[upstream]]", "[[route]]\nname = \"all\"\nupstreams = [\"main\"]\n[[route]]\nname = \"all\"\nidentities = [\"robot\", \"robott\"]\nclient_cas = [\"staf\"]\nupstreams = [\"maine\", \"main\", \"main\"]\n[[upstream]]", &[
        "sealpost.toml:30: route \"all\": name: \"all\": there is another of this name; give each its own name",
        "sealpost.toml:32: route \"all\": client_cas: \"staf\": there is no client_ca of this name; did you mean \"staff\"?",
        "sealpost.toml:33: route \"all\": upstreams: \"main\": is named twice; leave one out",
        "sealpost.toml:33: route \"all\": upstreams: \"maine\": there is no upstream of this name; did you mean \"main\"?",
    ]),
    broken("[[upstream]]", "[[route]]\nname = \"all\"\nupstreams = [\"main\"]\n[[route]]\nname = \"robots\"\nidentities = [\"robot\", \"robott\"]\nupstreams = [\"main\"]\n[[upstream]]\norder = 5\nweight = 2", &[
        "sealpost.toml:29: warning: route \"robots\": never applies: route \"all\" above takes all that it wants; put the narrower route first",
        "sealpost.toml:31: warning: route \"robots\": identities: \"robott\": there is no identity of this name; write names as `sealpost identities` lists them; * stands for any text, as in \"staff:*\"",
        "sealpost.toml:35: warning: upstream \"main\": weight: never applies: no other upstream has the same order; write the same order for those that are to share the mail",
    ]),
    broken("[[upstream]]", "[[route]]\nname = \"some\"\nsender_domains = [\"<>\", \"a@example.com\"]\nrecipient_domains = []\n[[upstream]]", &[
        "sealpost.toml:26: route \"some\": upstreams: is missing: no upstream would take this mail; name the [[upstream]] tables that take this mail, like upstreams = [\"main\"]",
        "sealpost.toml:28: route \"some\": sender_domains: \"a@example.com\": a domain is wanted, not an address; write example.com",
        "sealpost.toml:29: route \"some\": recipient_domains: is empty: the route would take nobody; leave it out to take all",
        "sealpost.toml:30: warning: upstream \"main\": never applies: no route names it; name it in the upstreams of a [[route]], or take it out",
    ]),
    broken("[[upstream]]", "[queue]\ndelivery = \"throgh\"\nthrough_wait = \"10m\"\n[[upstream]]", &[
        "sealpost.toml:27: queue.delivery: \"throgh\": there is no such choice; did you mean \"through\"?",
        "sealpost.toml:28: queue.through_wait: 10m: not between 1s and 5m; write what the slowest of these upstreams needs for a message, and no more than clients wait",
    ]),
    broken("[[upstream]]", "[queue]\nsoft_bounce = true\n[[route]]\nname = \"ours\"\nidentities = [\"reports\"]\nupstreams = [\"main\"]\ndelivery = \"through\"\n[[route]]\nname = \"rest\"\nupstreams = [\"main\"]\ndelivery = \"through\"\n[[upstream]]", &[
        "sealpost.toml:27: warning: queue.soft_bounce: with soft_bounce no refusal of an upstream reaches the client; take one of the two out: soft_bounce, or delivery = \"through\"",
        "sealpost.toml:32: warning: route \"ours\": delivery: never applies; take it out: reports and notices are made here, and no client waits for them",
    ]),
    broken("[[upstream]]", "[[route]]\nname = \"some\"\nidentities = [\"staff:alice@example.com\"]\nupstreams = \"main\"\n[[upstream]]", &[
        "sealpost.toml:26: warning: route: no route takes our own reports to every sender: some of them could not be told of failures; write a last [[route]] with upstreams alone, or one with identities = [\"reports\"]",
    ]),
    broken("[[upstream]]", "[[upstream]]\nname = \"other\"\naddress = \"mx.example.org:25\"\nca = \"ca.pem\"\nweight = 0\n[[upstream]]\norder = 5\nweight = 2", &[
        "sealpost.toml:26: upstream: only some of these upstreams have an order, and other have none; write order in each of their [[upstream]] tables, or in none",
        "sealpost.toml:30: upstream \"other\": weight: 0: not between 1 and 65535",
    ]),
];

#[test]
fn every_broken_configuration_is_told_with_line_key_and_remedy() {
    let mut wrong = Vec::new();
    for broken in TABLE {
        assert!(RIGHT.contains(broken.line), "{:?} is not in the right configuration", broken.line);
        let told = told(&RIGHT.replacen(broken.line, broken.instead, 1), &[]);
        if told != broken.told {
            wrong.push(format!(
                "{:?} -> {:?}\n    {}",
                broken.line,
                broken.instead,
                told.iter().map(|line| format!("{line:?},")).collect::<Vec<_>>().join("\n    ")
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} told otherwise:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}
