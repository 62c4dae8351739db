//! What both stages and the table of headers set alike: `[header]`; and what is ours in a message that was kept.

use sealpost::content::{EightBit, ForeignSender, HeaderRules, MissingSender, Results, Unqualified};
use sealpost::mail::Domain;

/// Sets one; whether there is one of this name.
pub(crate) fn set_rule(rules: &mut HeaderRules, key: &str, value: &str) -> Result<bool, String> {
    match (key, value) {
        ("strict_8bit", "yes") => rules.eight_bit = EightBit::Refused,
        ("sender", "rewrite") => rules.foreign_sender = ForeignSender::Replaced,
        ("add_sender", "yes") => rules.missing_sender = MissingSender::Added,
        ("fqdn", "refuse") => rules.unqualified = Unqualified::Refused,
        ("fqdn", domain) => rules.unqualified = Unqualified::Completed(Domain::parse(domain).map_err(|_| "no domain")?),
        ("authentication_results", "yes") => rules.results = Results::Written,
        ("strict_8bit" | "sender" | "add_sender" | "authentication_results", _) => {
            return Err(format!("{key} = {value} sets nothing"));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The message without the fields that the relay puts in front of every message.
pub(crate) fn as_sent(hostname: &str, octets: &[u8]) -> Vec<u8> {
    let mut rest = octets;
    let own_id = format!("@{hostname}>");
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n").map(|at| at + 2) {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let folded = line.starts_with([' ', '\t']);
        let ours = line.starts_with(&format!("Received: from client.invalid by {hostname}"))
            || folded
            || (line.starts_with("Date: ") && line.contains("2027 "))
            || (line.starts_with("Message-ID: <") && line.trim_end().ends_with(&own_id));
        if !ours {
            break;
        }
        rest = &rest[end..];
    }
    rest.to_vec()
}
