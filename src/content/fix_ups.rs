//! What is put in front of a message: Received always, Date and Message-ID when missing (RFC 6409 §8).
//!
//! Nothing else is touched: every octet of the message follows as it came. A field named in a DKIM signature's `h=` is not added, for the
//! signature says that it was not there (RFC 6376 §5.4.2). Received is added even then, as every hop must (RFC 5321 §4.4).

use crate::mail::trace::Trace;

use super::HeaderFacts;

/// The fields to put in front, each with its CRLF. `unique` is the left side of a new Message-ID (RFC 5322 §3.6.4), made of queue id and
/// random digits by whoever has them; characters that may not stand there are left out.
/// Gives the Message-ID too, where one was made.
pub fn fix_ups(facts: &HeaderFacts, trace: &Trace<'_>, unique: &str) -> (Vec<u8>, Option<String>) {
    let mut fields = trace.received();
    if !facts.has_date && !is_signed(facts, "date") {
        fields.push_str(&format!("Date: {}\r\n", trace.arrived.rfc5322()));
    }
    let mut made = None;
    if facts.message_id.is_none() && !is_signed(facts, "message-id") {
        let left: String = unique.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
        let message_id = format!("<{left}@{}>", trace.hostname);
        fields.push_str(&format!("Message-ID: {message_id}\r\n"));
        made = Some(message_id);
    }
    (fields.into_bytes(), made)
}

fn is_signed(facts: &HeaderFacts, name: &str) -> bool {
    facts.signed.iter().any(|signed| signed == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{HeaderLimits, Utf8Header, read_header};
    use crate::mail::{Protocol, QueueId};
    use crate::sys::WallTime;

    fn fixed(header: &str) -> String {
        let facts = read_header(header.as_bytes(), &HeaderLimits::default(), Utf8Header::NotDeclared);
        let trace = Trace {
            hostname: "mail.example.com",
            client: None,
            identity: None,
            protocol: Protocol::Esmtps,
            tls_version: "TLSv1.3",
            tls_cipher: "TLS_AES_128_GCM_SHA256",
            id: QueueId::from_u128(7),
            priority: None,
            recipient: None,
            arrived: WallTime::from_seconds(1_795_484_880),
        };
        let (fields, made) = fix_ups(&facts, &trace, "07-a b<>@c");
        let fields = String::from_utf8(fields).unwrap();
        assert_eq!(made.is_some(), fields.contains("Message-ID: <07-abc@mail.example.com>\r\n"));
        let (received, rest) = fields.split_once("+0000\r\n").unwrap();
        assert!(received.starts_with("Received: "));
        rest.to_owned()
    }

    #[test]
    fn what_is_missing_is_added_and_nothing_else() {
        let date = "Date: Tue, 24 Nov 2026 01:48:00 +0000\r\n";
        let id = "Message-ID: <07-abc@mail.example.com>\r\n";
        for (header, expected) in [
            ("From: a@x.example\r\n\r\n", format!("{date}{id}")),
            ("From: a@x.example\r\ndate: yesterday\r\n\r\n", id.to_owned()),
            ("From: a@x.example\r\nMESSAGE-ID:\r\n <1@x>\r\n\r\n", date.to_owned()),
            ("Date: x\r\nMessage-ID: y\r\nFrom: a@x.example\r\n\r\n", String::new()),
        ] {
            assert_eq!(fixed(header), expected, "{header}");
        }
    }

    #[test]
    fn what_a_signature_names_is_not_added() {
        let signed = "DKIM-Signature: v=1; h=From:\r\n\tDate : date:Message-ID ; b=x\r\nFrom: a@x.example\r\n\r\n";
        assert_eq!(fixed(signed), "");
    }
}
