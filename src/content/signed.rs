//! Which fields the DKIM signatures of a message cover (RFC 6376).
//!
//! Only a signature that could verify counts: one with each tag that it must have, none of them twice, that covers From. Whatever else stands in a
//! DKIM-Signature field no verifier believes (§6.1.1), and it must not keep a fix-up from being made. Never: verifies; that takes keys from the DNS.

use std::collections::BTreeMap;

use crate::mail::header::HeaderSection;

/// RFC 6376 §3.5: a signature has these, and each says something.
const REQUIRED: [&[u8]; 6] = [b"a", b"b", b"bh", b"d", b"h", b"s"];

/// The names in the `h=` of each, in lower case and in order.
pub(super) fn signed_names(section: &HeaderSection<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for field in section.named("DKIM-Signature") {
        names.extend(covered(&field.unfolded()).unwrap_or_default());
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// What a signature covers; none when it is no whole signature.
fn covered(value: &[u8]) -> Option<Vec<String>> {
    let tags = tags(value)?;
    let is_whole = REQUIRED.iter().all(|name| tags.get(name).is_some_and(|value| !value.is_empty()));
    let list = tags.get(&b"h"[..]).filter(|_| is_whole && tags.get(&b"v"[..]) == Some(&&b"1"[..]))?;
    // Colon-separated, white space anywhere between.
    let names = list.split(|&octet| octet == b':').filter_map(|name| std::str::from_utf8(name.trim_ascii()).ok());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_ascii_lowercase).collect();
    names.iter().any(|name| name == "from").then_some(names)
}

/// RFC 6376 §3.2: a tag that stands twice spoils the whole list, and so does what is no tag; behind the last semicolon nothing may stand.
fn tags(value: &[u8]) -> Option<BTreeMap<&[u8], &[u8]>> {
    let mut tags = BTreeMap::new();
    let mut parts = value.split(|&octet| octet == b';').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() && part.trim_ascii().is_empty() {
            break;
        }
        let place = part.iter().position(|&octet| octet == b'=')?;
        let (name, value) = part.split_at_checked(place)?;
        if tags.insert(name.trim_ascii(), value.get(1..)?.trim_ascii()).is_some() {
            return None;
        }
    }
    Some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header::HeaderLimits;

    fn signed(header: &str) -> Vec<String> {
        signed_names(&HeaderSection::read(header.as_bytes(), &HeaderLimits::default()).unwrap())
    }

    #[test]
    fn signed_names_come_from_every_signature_and_from_h_alone() {
        let header = "DKIM-Signature: v=1; a=rsa-sha256; s=x; d=h; bh=y=; h = From : date:\r\n\tMESSAGE-ID ;b=h=;\r\n\
            DKIM-Signature: h=from:date:cc;b=x;bh=x;d=x;s=x;a=x;v= 1\r\nFrom: a@x.example\r\n\r\n";
        assert_eq!(signed(header), ["cc", "date", "from", "message-id"]);
    }

    #[test]
    fn what_no_verifier_believes_signs_nothing() {
        let tags = ["v=1", "a=rsa-sha256", "b=x", "bh=x", "d=example.com", "s=x", "h=from:date"];
        let field = |tags: &[&str]| format!("DKIM-Signature: {}\r\n\r\n", tags.join("; "));
        assert_eq!(signed(&field(&tags)), ["date", "from"]);
        for (place, tag) in tags.iter().enumerate() {
            let (name, _) = tag.split_once('=').unwrap();
            let with = |other: &str| {
                let mut tags = tags;
                tags[place] = other;
                signed(&field(&tags))
            };
            assert_eq!(with("x=1"), [""; 0], "without {name}");
            assert_eq!(with(&format!("{name}= ")), [""; 0], "{name} empty");
            assert_eq!(signed(&field(&[&tags[..], &[tag]].concat())), [""; 0], "{name} twice");
        }
        for (other, why) in [("v=2", "version"), ("h=date:message-id", "From is not covered"), ("h", "no tag")] {
            let place = if other.starts_with('v') { 0 } else { 6 };
            let mut tags = tags;
            tags[place] = other;
            assert_eq!(signed(&field(&tags)), [""; 0], "{why}");
        }
        assert_eq!(signed("DKIM-Signature: h=date:return-path\r\n\r\n"), [""; 0]);
    }

    #[test]
    fn however_many_names_are_signed_each_is() {
        let names: Vec<String> = (0..5000).map(|number| format!("x-{number}")).collect();
        let header = format!("DKIM-Signature: v=1; a=x; b=x; bh=x; d=x; s=x; h=from:{}\r\n\r\n", names.join(":"));
        assert_eq!(signed(&header).len(), 5001);
    }
}
