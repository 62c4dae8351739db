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
    // Grammar and keys.
    broken("data_dir = \"data\"", "data_dir = data", &[]),
    broken("hostname = \"mail.example.com\"", "hostnam = \"mail.example.com\"", &[]),
    broken("hostname = \"mail.example.com\"", "hostname = 5", &[]),
    broken("hostname = \"mail.example.com\"", "hostname = \"not a name\"", &[]),
    broken("hostname = \"mail.example.com\"", "hostname = \"mail\"", &[]),
    broken("data_dir = \"data\"", "", &[]),
    broken("data_dir = \"data\"", "data_dir = \"\"", &[]),
    broken("data_dir = \"data\"", "data_dir = \"server.pem\"", &[]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nshutdown_grace = 30", &[]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nshutdown_grace = \"30\"", &[]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\npostmaster = \"nobody\"", &[]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nlog = { format = \"jsno\", level = 3 }", &[]),
    broken("data_dir = \"data\"", "data_dir = \"data\"\nmetrics = true", &[]),
    // Listeners.
    broken("[[listener]]", "[listener]", &[]),
    broken("address = \"127.0.0.1:1587\"", "address = \"localhost:1587\"", &[]),
    broken("address = \"127.0.0.1:1587\"", "adress = \"127.0.0.1:1587\"", &[]),
    broken("mode = \"starttls\"", "mode = \"start-tls\"", &[]),
    broken("mode = \"starttls\"", "mode = \"plain\"", &[]),
    broken("mode = \"starttls\"", "[[listener]]\naddress = \"127.0.0.1:1587\"", &[]),
    broken("address = \"127.0.0.1:1587\"\nmode = \"starttls\"", "address = \"127.0.0.1:465\"", &[]),
    // The server's certificate.
    broken("certificate = \"server.pem\"", "", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"missing.pem\"", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"nothing\"", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"empty.pem\"", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"prose.pem\"", &[]),
    broken("certificate = \"server.pem\"", "certificate = \"server.key\"", &[]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"expired.pem\"\nprivate_key = \"expired.key\"", &[]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"future.pem\"\nprivate_key = \"future.key\"", &[]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"ending.pem\"\nprivate_key = \"ending.key\"", &[]),
    broken("certificate = \"server.pem\"\nprivate_key = \"server.key\"", "certificate = \"strange.pem\"\nprivate_key = \"strange.key\"", &[]),
    broken("private_key = \"server.key\"", "private_key = \"expired.key\"", &[]),
    broken("private_key = \"server.key\"", "private_key = \"open.key\"", &[]),
    broken("private_key = \"server.key\"", "private_key = \"server.pem\"", &[]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\nmin_version = 1.2", &[]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\nmin_version = \"1.4\"", &[]),
    broken("private_key = \"server.key\"", "private_key = \"server.key\"\n[[tls.certificates]]\ncertificate = \"server.pem\"", &[]),
    // Client CAs.
    broken("name = \"staff\"", "", &[]),
    broken("certificates = \"ca.pem\"", "", &[]),
    broken("certificates = \"ca.pem\"", "certificates = [\"empty.pem\"]", &[]),
    broken("certificates = \"ca.pem\"", "certificates = [\"server.pem\"]", &[]),
    broken("certificates = \"ca.pem\"\ncrls = [\"ca.crl\"]", "certificates = \"ended.pem\"\ncrls = [\"ended.crl\"]", &[]),
    broken("crls = [\"ca.crl\"]", "", &[]),
    broken("crls = [\"ca.crl\"]", "revocation = \"require\"", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"other.crl\"]", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"namesake.crl\"]", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.pem\"]", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"nothing\"]", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"stale.crl\"]", &[]),
    broken("crls = [\"ca.crl\"]", "crls = [\"ca.crl\"]\nrevocation = \"off\"", &[]),
    broken("domains = [\"example.com\"]", "domains = [\"*.example.com\"]", &[]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nlimits = { messages_per_hour = 200 }", &[]),
    broken("domains = [\"example.com\"]", "domains = [\"example.com\"]\nsecond_factor = \"password\"", &[]),
    broken("send_as_email = true", "send_as_email = \"true\"", &[]),
    broken("send_as_email = true", "", &[]),
    broken("send_to = [\"*\"]", "", &[]),
    // Identities.
    broken("name = \"robot\"", "name = \"staff:robot\"", &[]),
    broken("name = \"robot\"", "name = \"robot\"\nhold = true", &[]),
    broken("name = \"robot\"", "name = \"robot\"\npassword = \"hunter2\"", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\" }", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"stuff\", dns = \"robot.example.com\" }", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", upn = \"robot@example.com\" }", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { fingerprint = \"abc\" }", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { spki = \"abc\" }", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { ca = \"staff\", email = \"robot\", uri = \"robot\" }", &[]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\"*@\"]", &[]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\n  \"robot@example.com\",\n  \"example.com\",\n  7,\n]", &[]),
    broken("send_as = [\"robot@example.com\"]", "send_as = [\"robot@elsewhere.example\"]", &[]),
    broken("send_as = [\"robot@example.com\"]", "send_a = [\"robot@example.com\"]", &[]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"@certificate\"]", &[]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\nlimits = { message_size = \"1GiB\", recipients_per_message = 0 }", &[]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\n[[identity]]\nname = \"robot\"\nmatch = { ca = \"staff\", dns = \"robot.example.com\" }\nsend_as = [\"*\"]\nsend_to = [\"*\"]", &[]),
    broken("send_to = [\"*@example.net\"]", "send_to = [\"*@example.net\"]\n[[client_ca]]\nname = \"idle\"\ncertificates = \"other.pem\"\nrevocation = \"off\"", &[]),
    broken("match = { ca = \"staff\", dns = \"robot.example.com\" }", "match = { dns = \"robot.example.com\" }\n[[client_ca]]\nname = \"b\"\ncertificates = \"other.pem\"\nrevocation = \"off\"\nsend_as_email = true\nsend_to = [\"*\"]\ndomains = [\"*\"]\n[[identity]]\nname = \"more\"\nmatch = { ca = \"staff\", dns = \"x.example\" }", &[]),
    // Upstreams.
    broken("[[upstream]]\nname = \"main\"\naddress = \"smtp.example.net:587\"\nca = \"ca.pem\"\n", "", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:0\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:25\"\ntls = \"none\"\nusername = \"relay\"\npassword_file = \"password\"", &[]),
    broken("address = \"smtp.example.net:587\"\nca = \"ca.pem\"", "address = \"smtp.example.net:25\"\ntls = \"opportunistic\"\nusername = \"relay\"\npassword_file = \"password\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:465\"\nmode = \"implicit\"\ntls = \"opportunistic\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"open-password\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword_file = \"empty-password\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nusername = \"relay\"\npassword = \"hunter2\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ncertificate = \"server.pem\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ncertificate = \"server.pem\"\nprivate_key = \"expired.key\"", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\nour_fault = [\"250\"]\nconnections = 0", &[]),
    broken("address = \"smtp.example.net:587\"", "address = \"smtp.example.net:587\"\ntls = \"require\"\nserver_name = \"x.example\"", &[]),
    broken("ca = \"ca.pem\"", "ca = \"empty.pem\"", &[]),
    broken("ca = \"ca.pem\"", "ca = \"ca.pem\"\n[[upstream]]\nname = \"main\"\naddress = \"127.0.0.1:25\"\ntls = \"none\"", &[]),
    // Queue, limits, deadlines.
    broken("[[upstream]]", "[queue]\nretry = []\n[[upstream]]", &[]),
    broken("[[upstream]]", "[queue]\nretry = \"5m\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[queue]\nretry = [\"5m\", \"soon\", 9]\n[[upstream]]", &[]),
    broken("[[upstream]]", "[queue]\nwarn_after = \"6d\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[queue]\ngive_up_after = \"30s\"\nwarn_after = \"10s\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[queue]\nsize = \"1MiB\"\ncount = 1\nmemory = \"1KiB\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[limits]\nrecipients_per_transaction = 50\nmessage_size = \"1KiB\"\nconnections = -1\nheader_size = \"10 stone\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[deadlines]\ncommand = \"1m\"\nhandshake = \"0s\"\n[[upstream]]", &[]),
    broken("[[upstream]]", "[reports]\nfrom = \"x\"\n[received]\nidentity = \"yes\"\n[[upstream]]", &[]),
];

#[test]
fn every_broken_configuration_is_told_with_line_key_and_remedy() {
    let mut wrong = Vec::new();
    for broken in TABLE {
        assert!(RIGHT.contains(broken.line), "{:?} is not in the right configuration", broken.line);
        let told = told(&RIGHT.replacen(broken.line, broken.instead, 1), &[]);
        if told != broken.told {
            wrong.push(format!("{:?} -> {:?}\n    {}", broken.line, broken.instead, told.iter().map(|line| format!("{line:?},")).collect::<Vec<_>>().join("\n    ")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} told otherwise:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}
