//! DER, as far as the judge reads it by itself (X.690 §8.1, §10.1): an element after the other, none copied.
//!
//! webpki and x509-parser read certificates; what neither gives away (name constraints by form, distribution points, the entries of long CRLs)
//! is read here. `None` is: not DER. Never: recurses; allocates for more than it returns.

/// A tag of one octet, its content, and both together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// With tag and length.
    pub(super) raw: &'a [u8],
}

/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// OBJECT IDENTIFIER.
pub(super) const OID: u8 = 0x06;
/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// BOOLEAN.
pub(super) const BOOLEAN: u8 = 0x01;
/// BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// UTF8String.
pub(super) const UTF8_STRING: u8 = 0x0c;

/// The bits of a first octet that say that the tag goes on behind it (X.690 §8.1.2.4): no structure read here has such tags.
const LONG_TAG: u8 = 0x1f;

/// The first element, and what stands behind it.
pub(super) fn first(octets: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, behind) = octets.split_first()?;
    let (&short, behind) = behind.split_first()?;
    let (length, behind) = match short {
        0..=0x7f => (usize::from(short), behind),
        // At most four octets of length: 4 GiB. None is the indefinite form, which DER forbids.
        0x81..=0x84 => {
            let (octets, behind) = behind.split_at_checked(usize::from(short & 0x7f))?;
            let length = octets.iter().try_fold(0_usize, |length, &octet| {
                length.checked_mul(256).and_then(|length| length.checked_add(usize::from(octet)))
            })?;
            // X.690 §10.1: the shortest form.
            let shortest = octets.first() != Some(&0) && length > 0x7f;
            (shortest.then_some(length)?, behind)
        }
        _ => return None,
    };
    let (content, rest) = behind.split_at_checked(length)?;
    let raw = octets.get(..octets.len().checked_sub(rest.len())?)?;
    (tag & LONG_TAG != LONG_TAG).then_some((Element { tag, content, raw }, rest))
}

/// The content of the one element of this tag that the octets are.
pub(super) fn only(octets: &[u8], tag: u8) -> Option<&[u8]> {
    match first(octets)? {
        (element, []) if element.tag == tag => Some(element.content),
        _ => None,
    }
}

/// All elements, in order.
pub(super) fn all(octets: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut found = Vec::new();
    let mut rest = octets;
    while !rest.is_empty() {
        let (element, behind) = first(rest)?;
        found.push(element);
        rest = behind;
    }
    Some(found)
}

/// If the octets begin with an element of this tag, its content; it is taken off them.
pub(super) fn take<'a>(octets: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    take_raw(octets, tag).map(|element| element.content)
}

/// The same, whole.
pub(super) fn take_raw<'a>(octets: &mut &'a [u8], tag: u8) -> Option<Element<'a>> {
    match first(octets)? {
        (element, rest) if element.tag == tag => {
            *octets = rest;
            Some(element)
        }
        _ => None,
    }
}

/// One element.
pub(super) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut written = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short @ 0..=0x7f) => written.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let significant = length.iter().position(|&octet| octet != 0).unwrap_or(0);
            let length = length.get(significant..).unwrap_or_default();
            written.push(0x80 | u8::try_from(length.len()).unwrap_or(0));
            written.extend_from_slice(length);
        }
    }
    written.extend_from_slice(content);
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            assert_eq!(only(&write(SEQUENCE, &content), SEQUENCE), Some(content.as_slice()), "{length}");
        }
    }

    #[test]
    fn what_is_not_der_is_not_read() {
        for wrong in [
            &b""[..],
            b"\x30",
            b"\x30\x01",
            b"\x30\x80\x00\x00",
            b"\x30\x81\x01\x00",
            b"\x30\x82\x00\x80",
            b"\x30\x85\x00\x00\x00\x00\x01\x00",
            b"\x1f\x81\x01\x00",
        ] {
            assert_eq!(first(wrong), None, "{wrong:x?}");
        }
        assert_eq!(only(b"\x30\x00\x00", SEQUENCE), None);
        assert_eq!(all(b"\x02\x01\x05\x02"), None);
    }
}
