//! xtext: how ENVID, ORCPT and AUTH carry octets that a parameter can't (RFC 3461 §4).

/// Whether it is xtext: printable ASCII without `+` and `=`, or `+` and two upper-case hexadecimal digits.
pub fn is_xtext(text: &str) -> bool {
    decode(text).is_some()
}

/// The octets that the xtext stands for; `None` when it is none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'+' => octets.push(hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?),
            b'=' => return None,
            b'!'..=b'~' => octets.push(octet),
            _ => return None,
        }
    }
    Some(octets)
}

/// The xtext of some octets.
pub fn encode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    for &octet in octets {
        match octet {
            b'+' | b'=' => text.push_str(&format!("+{octet:02X}")),
            b'!'..=b'~' => text.push(char::from(octet)),
            _ => text.push_str(&format!("+{octet:02X}")),
        }
    }
    text
}

/// RFC 3461 §4: upper case only.
fn hex_digit(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => octet.checked_sub(b'0'),
        b'A'..=b'F' => octet.checked_sub(b'A').map(|digit| digit.saturating_add(10)),
        _ => None,
    }
}
