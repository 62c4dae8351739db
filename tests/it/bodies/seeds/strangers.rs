//! Seeds for the bodies of what upstreams, balancers, responders and operators send: no fixture holds such octets, they are written here.

use sealpost::mail::{
    Address, Body, DeliverBy, Envelope, ForwardPath, MailParameters, Notify, OriginalRecipient, QueueId, Recipient,
    RecipientParameters, Ret, ReversePath,
};
use sealpost::queue::{Custodian, Deposit, Link, Outcome, Queue, Record, TraceFacts};
use sealpost::smtp::{Code, Reply};
use sealpost::sys::WallTime;

use crate::bodies::proxy::tlv;
use crate::bodies::upstream::scram_answers;

/// Headers in version 2 that tell of the client's TLS, rightly and wrongly.
pub(super) fn vouched() -> Vec<Vec<u8>> {
    let certificate = tlv(0x28, b"\x30\x03\x02\x01\x05");
    let parts = [tlv(0x21, b"TLSv1.3"), tlv(0x22, b"alice\r\n"), certificate.clone(), tlv(0x23, b"X\0")].concat();
    let ssl = |client: u8, verdict: u8, parts: &[u8]| tlv(0x20, &[&[client, 0, 0, 0, verdict], parts].concat());
    let good = ssl(7, 0, &parts);
    let twice = ssl(7, 0, &[certificate.clone(), tlv(0x28, b"other")].concat());
    let all = [
        good.clone(),
        ssl(7, 18, &parts),
        ssl(5, 0, &parts),
        ssl(1, 0, b""),
        ssl(0, 0, &certificate),
        [tlv(1, b"smtp"), good.clone(), tlv(4, &[0; 9])].concat(),
        [ssl(1, 0, b""), good].concat(),
        certificate,
        twice,
        ssl(7, 0, &[0x28, 255, 255, 1]),
    ];
    let header = |tlvs: &Vec<u8>| {
        let length = u16::try_from(tlvs.len() + 12).unwrap().to_be_bytes();
        let addresses = b"\xc0\0\x02\x07\xc0\0\x02\x01\x9c\x40\x02\x4b";
        [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..], &length, addresses, tlvs, b"EHLO"].concat()
    };
    all.iter().map(header).collect()
}

fn chunk(octets: &[u8], word: &str) -> Vec<u8> {
    [format!("BDAT {}{word}\r\n", octets.len()).as_bytes(), octets].concat()
}

/// Sessions whose messages come in chunks: as they should, cut within line ends, with what others might take for an end or a command in them, refused.
pub(super) fn in_chunks(headers: &[Vec<u8>]) -> Vec<Vec<u8>> {
    const BEGIN: &[u8] = b"EHLO c.example\r\nMAIL FROM:<alice@example.com>\r\nRCPT TO:<bob@example.net>\r\n";
    const AGAIN: &[u8] = b"MAIL FROM:<alice@example.com>\r\nRCPT TO:<bob@example.net>\r\n";
    const MESSAGE: &[u8] =
        b"From: alice@example.com\r\n\r\n.\r\n..hi\r\nMAIL FROM:<ceo@example.com>\r\nBDAT 5 LAST\r\nyes";
    const SMUGGLED: &[u8] =
        b"From: alice@example.com\r\n\r\nhi\n.\nMAIL FROM:<ceo@example.com>\nRCPT TO:<bob@example.net>\nDATA\n";
    let commands = [AGAIN, b"DATA\r\n", b"From: alice@example.com\r\n\r\nx\r\n.\r\n"].concat();
    let (first, second) = MESSAGE.split_at(24);
    let bodies = [
        chunk(MESSAGE, " LAST"),
        [chunk(first, ""), chunk(second, " last"), AGAIN.to_vec(), chunk(MESSAGE, " LAST")].concat(),
        [chunk(MESSAGE, ""), b"NOOP\r\n".to_vec(), chunk(b"", " LAST")].concat(),
        [chunk(MESSAGE, ""), b"RSET\r\n".to_vec(), AGAIN.to_vec(), chunk(MESSAGE, " LAST")].concat(),
        [chunk(MESSAGE, ""), b"DATA\r\nMAIL FROM:<alice@example.com>\r\n".to_vec(), chunk(b"more\r\n", " LAST")]
            .concat(),
        [chunk(SMUGGLED, " LAST"), AGAIN.to_vec(), chunk(MESSAGE, " LAST")].concat(),
        [chunk(&[MESSAGE, b"\r"].concat(), ""), chunk(b"\n.\r\n", " LAST")].concat(),
        [chunk(&[MESSAGE, b"\r"].concat(), ""), chunk(b"x", ""), chunk(&commands, " LAST")].concat(),
        chunk(b"From: alice@example.com\r\nSubject: no end", " LAST"),
        chunk(b"", " LAST"),
        [b"RSET\r\n".to_vec(), chunk(&commands, " LAST"), AGAIN.to_vec(), chunk(MESSAGE, " LAST")].concat(),
        [
            chunk(b"From: ceo@example.com\r\n\r\n", ""),
            chunk(&commands, " LAST"),
            AGAIN.to_vec(),
            chunk(MESSAGE, " LAST"),
        ]
        .concat(),
        [b"BDAT 4001\r\n".to_vec(), commands.clone()].concat(),
        [b"BDAT x\r\n".to_vec(), commands.clone()].concat(),
        [b"DATA\r\n".to_vec(), MESSAGE.to_vec(), b"\r\n.\r\n".to_vec(), AGAIN.to_vec(), chunk(MESSAGE, " LAST")]
            .concat(),
    ];
    let mut all = Vec::new();
    // Alice; the device that may send bare LFs.
    for (body, first) in bodies.iter().flat_map(|body| [(body, 0_u8), (body, 3)]) {
        all.push([&[first], BEGIN, body].concat());
    }
    for mishap in 1..8 {
        all.push([&[mishap * 8], BEGIN, &bodies[1]].concat());
    }
    let device = BEGIN.escape_ascii().to_string().replace("alice", "device").replace("\\r\\n", "\r\n");
    all.push([&[3], device.as_bytes(), &chunk(SMUGGLED, " LAST")].concat());
    for (place, header) in headers.iter().enumerate().filter(|(place, header)| header.len() < 1500 && place % 5 == 1) {
        let (first, second) = header.split_at(place % 7 * header.len() / 7);
        all.push([&[0], BEGIN, &chunk(first, ""), &chunk(second, " LAST")].concat());
    }
    all
}

/// What upstreams say: the terms, and replies one behind the other.
pub(super) fn upstreams() -> Vec<Vec<u8>> {
    const HELLO: &str = "250-mx.example\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 DSN\r\n";
    const PIPELINED: &str = "250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-SIZE\r\n250 8BITMIME\r\n";
    const LOGIN: &str =
        "250-mx.example\r\n250-PIPELINING\r\n250 AUTH PLAIN LOGIN SCRAM-SHA-256 OAUTHBEARER XOAUTH2 EXTERNAL\r\n";
    const ONE: &str = "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 kept\r\n221 bye\r\n";
    const CHUNKED: &str = "250 ok\r\n250 ok\r\n250 kept\r\n221 bye\r\n";
    let [server_first, server_final] = scram_answers();
    let starttls = "250-mx.example\r\n250 STARTTLS\r\n220 go\r\n";
    // Demanded, from the start, if offered, never; with the password 4, the token 8, the certificate 12; to two 32, to three 48; eight bits 64.
    let told: Vec<(u8, String)> = vec![
        (3, format!("220 mx\r\n{HELLO}{ONE}")),
        (3, format!("220 mx\r\n{PIPELINED}{CHUNKED}")),
        (0, format!("220 mx\r\n{starttls}{HELLO}{ONE}")),
        (0, format!("220 mx\r\n{HELLO}{ONE}")),
        (2, format!("220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 4.7.0 no TLS now\r\n{HELLO}{ONE}")),
        (2, format!("220 mx\r\n{HELLO}{ONE}")),
        (3, format!("220-mx\r\n220 mx\r\n500 what\r\n250 hello\r\n{ONE}")),
        (1, format!("220 mx\r\n{HELLO}250 ok\r\n550 5.1.1 nobody\r\n503 5.5.1 nobody\r\n221 bye\r\n")),
        (
            1 + 48,
            format!("220 mx\r\n{PIPELINED}250 ok\r\n250 ok\r\n550 5.1.1 no\r\n450 4.2.1 no\r\n250 kept\r\n221 x\r\n"),
        ),
        (1 + 32 + 128, format!("220 mx\r\n{PIPELINED}250 ok\r\n250 ok\r\n452 full\r\n354 go\r\n250 kept\r\n221 x\r\n")),
        (1 + 32, format!("220 mx\r\n{PIPELINED}550 5.7.1 not you\r\n503 x\r\n503 x\r\n503 x\r\n250 x\r\n221 x\r\n")),
        (1 + 128, format!("220 mx\r\n{HELLO}250 ok\r\n250 ok\r\n354 go\r\n554 5.6.0 spam\r\n221 x\r\n")),
        (1 + 128, format!("220 mx\r\n{HELLO}250 ok\r\n250 ok\r\n354 go\r\n421 4.3.2 leaving\r\n")),
        (1 + 128, format!("220 mx\r\n{HELLO}250 ok\r\n250 ok\r\n354 go\r\n250-ok\r\n")),
        (1 + 64, format!("220 mx\r\n250 mx\r\n{ONE}")),
        (1 + 64 + 32, format!("220 mx\r\n250 mx\r\n{ONE}")),
        (4 + 1, format!("220 mx\r\n{LOGIN}{server_first}{server_final}235 in\r\n{ONE}")),
        (4 + 1, format!("220 mx\r\n{LOGIN}{server_first}334 dj1BQUFB\r\n235 in\r\n{ONE}")),
        (4 + 1, format!("220 mx\r\n{LOGIN}235 in\r\n{ONE}")),
        (4, format!("220 mx\r\n{starttls}{LOGIN}{server_first}{server_final}235 in\r\n{ONE}")),
        (4 + 2, format!("220 mx\r\n{LOGIN}{ONE}")),
        (4 + 3, format!("220 mx\r\n{LOGIN}235 in\r\n{ONE}")),
        (4 + 3, format!("220 mx\r\n250 AUTH PLAIN\r\n250-mx\r\n250 AUTH PLAIN\r\n235 in\r\n{ONE}")),
        (4 + 1, format!("220 mx\r\n250-mx\r\n250 AUTH PLAIN\r\n235 in\r\n{ONE}")),
        (4 + 1, "220 mx\r\n250-mx\r\n250 AUTH PLAIN\r\n535 5.7.8 AHJlbGF5AHMzY3JldA== is no s3cret\r\n".to_owned()),
        (4 + 1, format!("220 mx\r\n250-mx\r\n250 AUTH LOGIN\r\n334 VXNlcjo=\r\n334 UGFzczo=\r\n235 in\r\n{ONE}")),
        (8 + 1, format!("220 mx\r\n{LOGIN}334 eyJzdGF0dXMiOiI0MDEifQ==\r\n535 no\r\n221 x\r\n")),
        (8 + 1, format!("220 mx\r\n{LOGIN}235 in\r\n{ONE}")),
        (12 + 1, format!("220 mx\r\n{LOGIN}235 in\r\n{ONE}")),
        (3, "554 5.7.1 not you\r\n".to_owned()),
        (3, "220 mx\r\n421 later\r\n".to_owned()),
        (3, "220\tmx\r\n".to_owned()),
        (3, format!("220 mx\r\n{}", "250-x\r\n".repeat(200))),
    ];
    let mut all: Vec<Vec<u8>> = told.iter().map(|(first, said)| [&[*first], said.as_bytes()].concat()).collect();
    // What comes before it was asked for.
    for said in [
        format!("220 mx\r\n{HELLO}"),
        format!("220 mx\r\n|250-mx\r\n250 STARTTLS\r\n|220 go\r\n250 injected\r\n|{HELLO}|{ONE}"),
        format!("220 mx\r\n|{PIPELINED}|250 ok\r\n250 ok\r\n250 kept\r\n"),
        format!("220 mx\r\n|{HELLO}|250 ok\r\n250 ok\r\n354 go\r\n250 kept\r\n"),
    ] {
        let cut: Vec<u8> = said.bytes().map(|octet| if octet == b'|' { 255 } else { octet }).collect();
        all.extend([0, 2, 3].map(|first| [&[first], &cut[..]].concat()));
    }
    all
}

/// Lists and answers: as they are, and with some octets changed.
pub(super) fn revocations() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..4).map(|place| vec![place]).collect();
    for place in 0..4 {
        for at in (0..=255).step_by(5) {
            all.push(vec![place, 0, at, at % 6, 1]);
        }
        all.extend([vec![place, 0, 1, 0, 0x84], vec![place, 0, 0, 5, 200], vec![place, 1, 0, 1, 1, 0, 40, 1, 255]]);
    }
    all
}

pub(super) fn eight_bit() -> Vec<Vec<u8>> {
    [
        "Subject: x\n\n\u{e4}\n",
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngr\u{fc}\u{df}e = \n.\n\nend\t\n",
        "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"a b\" (so)\n\nbefore\n--a b\nContent-Type: text/plain\n\nplain\n--a b\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\n\u{ff}\u{e9}\n--a b--\nbehind\n",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx--b--\u{e4}\n--b--\n",
        "Content-Type: multipart/signed; boundary=s\n\n--s\n\n\u{e4}\n--s\nContent-Type: application/pkcs7-signature\n\nAAAA\n--s--\n",
        "Content-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: inner\n\n\u{df}\n--d--\n",
        "Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\nSubject: \u{e4}\n\n\u{e4}",
        "Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: \u{e4}\n\n\u{e4}\n",
        "Content-Type: multipart/mixed\n\n--\n\u{e4}\n",
        "Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n\u{e4}\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

/// Records as they are packed, without their checksum.
pub(super) fn records() -> Vec<Vec<u8>> {
    let address = |text: &str| Address::parse(text).unwrap();
    let parameters = MailParameters {
        size: Some(9),
        body: Body::EightBitMime,
        smtputf8: true,
        ret: Some(Ret::Full),
        envid: Some("a+2Bb".to_owned()),
        require_tls: true,
        deliver_by: Some(DeliverBy { deadline: WallTime::from_seconds(99), or_return: true, trace: true }),
        hold_until: Some(WallTime::from_seconds(9)),
        priority: Some(-3),
    };
    let asked = RecipientParameters {
        notify: Some(Notify { success: true, failure: true, delay: false }),
        orcpt: Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "c+2Bd@example.org".to_owned() }),
    };
    let custodian = Custodian {
        identity: "staff:alice@example.com".to_owned(),
        ca: Some("staff".to_owned()),
        fingerprint: "ab".repeat(32),
        chain: vec![("CN=Staff".to_owned(), "01af".to_owned())],
        key: Some([7; 32]),
        links: vec![Link { issuer: [8; 32], issuer_key: Some([9; 32]), serial: vec![1, 0xaf] }],
        vouched: Some(sealpost::queue::Vouched { fingerprint: [1; 32], key: [2; 32] }),
        ends: Some(WallTime::from_seconds(1_800_000_000)),
    };
    let trace = TraceFacts {
        client: "192.0.2.1:40000".to_owned(),
        helo: "laptop.example.com".to_owned(),
        protocol: "ESMTPS".to_owned(),
        tls: "TLS1.3".to_owned(),
        arrived: WallTime::from_seconds(1_000),
        message_id: Some("<1@example.com>".to_owned()),
    };
    let record = |sender: ReversePath, parameters: MailParameters, asked: RecipientParameters| {
        let to = [("bob@example.net", RecipientParameters::default()), ("carol@example.org", asked)];
        let to =
            to.map(|(text, parameters)| Recipient { forward_path: ForwardPath::Address(address(text)), parameters });
        let envelope = Envelope::new(sender, parameters, to.to_vec()).unwrap();
        let deposit = Deposit { envelope, custodian: custodian.clone(), trace: trace.clone() };
        Record::new(QueueId::from_u128(7), deposit, 3, 0)
    };
    let sender = ReversePath::Address(address("alice@example.com"));
    let mut spoken = record(sender.clone(), parameters.clone(), asked.clone());
    let reply = |code| Reply::new(Code::new(code).unwrap(), None, "so it says");
    for (state, last) in spoken.recipients.iter_mut().zip([
        Outcome::Delivered { reply: reply(250) },
        Outcome::Failed { reason: "refused".to_owned(), reply: Some(reply(550)) },
    ]) {
        state.last = Some(last);
    }
    // What no client could have said: a line of its own.
    let broken = MailParameters { envid: Some("a\r\nRCPT TO:<x@example.com>".to_owned()), ..parameters.clone() };
    let of_two = RecipientParameters {
        orcpt: Some(OriginalRecipient { address_type: "rfc822".to_owned(), address: "c\r\nDATA".to_owned() }),
        ..asked.clone()
    };
    let all = [
        record(sender.clone(), MailParameters::default(), RecipientParameters::default()),
        record(ReversePath::Null, parameters.clone(), asked.clone()),
        spoken,
        record(sender.clone(), broken, asked),
        record(sender, parameters, of_two),
    ];
    let packed = |record: &Record| {
        let octets = Queue::pack(record).unwrap();
        [&[octets[0]], &octets[10..]].concat()
    };
    let mut packed: Vec<Vec<u8>> = all.iter().map(packed).collect();
    let mut older = packed[0].clone();
    older[0] = 1;
    packed.push(older);
    packed
}

pub(super) fn requests() -> Vec<Vec<u8>> {
    [
        r#"{"version":2,"command":{"list":{"limit":10}}}"#,
        r#"{"version":2,"command":{"list":{"filters":{"identity":"staff:alice@example.com"},"after":"01J","limit":18446744073709551615}}}"#,
        r#"{"version":2,"command":{"count":{"filters":{},"action":"retry"}}}"#,
        r#"{"version":2,"command":{"show":{"id":"01J","headers":true}}}"#,
        r#"{"version":2,"command":"stats"}"#,
        r#"{"version":1,"command":{"list":{"limit":-1}}}"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub(super) fn secrets() -> Vec<Vec<u8>> {
    [
        "# who\n\nrobot $argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
        "robot SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n",
        "\"the \\\"boss\\\"\" totp=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\r\nbob\n",
        "alice hunter2hunter2\ncarol totp=AAAA\n\"dave x\neve SCRAM-SHA-1$4096:a$b:c $argon2id$v=19$m=99999999,t=1,p=1$c2FsdA$AAAA\n",
        "a\u{7}b secret1234\nx\u{85}y\u{2028}z secret1234\n",
        "ya29.a0Af-_~+/=\n",
        "  token \r\nsecond line\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub(super) fn urls() -> Vec<Vec<u8>> {
    [
        "http://pki.example.com:8080/old/ca.crl?x=1 new.crl",
        "HTTP://PKI.Example.COM /a?b#c",
        "http://[2001:db8::1]:81/a //other.example.com/ca.crl",
        "http://192.0.2.1 http://[::1]/",
        "https://pki.example.com/ca.crl x",
        "http://a/b/c?d=http://e ?f",
        "http://a:65535 ../x",
        "http://a? #",
        "http://user@a/ x",
        "http://a\\b/ x",
        "http://a_b.-c/ x://y",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub(super) fn rosters() -> Vec<Vec<u8>> {
    [
        "name,ca,email,send_as,send_to\nbob,staff,bob@example.com,@certificate !ceo@example.com,*\n# a remark\ncarol,staff,carol@example.com,@certificate,*@example.net *@example.org\n",
        "name,ca,email,send_as,send_to\nbob,nobody,bob@example.com,@certificate,*\nbob,staff,bob,@@,\n,staff,x@example.com,*,*\n",
        "send_to,name,fingerprint,message_size,messages_per_hour\n*,x,00,10MiB,200\n*,y,zz,10Mib,-1\n",
        "name,ca,emial\nbob,staff,bob@example.com\n",
        "\"name\",\"ca\",email,send_as,send_to\r\n\"b\"\"ob\",staff,\"b\nob@example.com\",*,*\r\n\"never closed,staff\n\n",
        "name\n\n\n#\nx,y,z\n\u{7}\n",
        "name,ca,dns,send_as,send_to\nrobot,staff,robot.example.com,robot@example.com,*\nzo\u{eb},staff,*.example.com,zo\u{eb}@example.com,*\n",
        "",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
