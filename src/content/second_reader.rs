//! The second reader of the header: mail-parser, asked for the same things.
//!
//! It stands for the many programs that read mail kindly. What it sees otherwise than the strict reader is refused, whoever is right. It is
//! never believed alone: it takes the last of several From fields, makes one address of `<a@x> <b@y>`, and lets bare CR and NUL pass.

use std::sync::LazyLock;

use mail_parser::parsers::MessageStream;
use mail_parser::{Addr, Address, Header, HeaderName, HeaderValue, MessageParser};

use crate::mail::header::HeaderSection;

static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_address(HeaderName::From)
        .header_address(HeaderName::Sender)
        .header_address(HeaderName::ResentFrom)
        .header_address(HeaderName::ResentSender)
        .default_header_ignore()
});

/// A section as the second reader sees it: the same fields at the same places.
pub(super) struct SecondReading<'a> {
    headers: Vec<Header<'a>>,
}

impl<'a> SecondReading<'a> {
    /// Reads `octets`, those of `section`; none when the two cut it into different fields.
    pub(super) fn of(section: &HeaderSection<'_>, octets: &'a [u8]) -> Option<Self> {
        let mut headers = Vec::with_capacity(section.fields().len());
        MessageStream::new(octets).parse_headers(&PARSER, &mut headers);
        let same = headers.len() == section.fields().len()
            && section.fields().iter().zip(&headers).all(|(field, header)| {
                let value = field.offset.saturating_add(field.name.len()).saturating_add(1);
                field.is(header.name())
                    && usize::try_from(header.offset_field()).is_ok_and(|offset| offset == field.offset)
                    && usize::try_from(header.offset_start()).is_ok_and(|offset| offset == value)
            });
        same.then_some(Self { headers })
    }

    /// The mailboxes of the field at this place; none when they are no plain list.
    pub(super) fn mailboxes(&self, place: usize) -> Option<Vec<&Addr<'a>>> {
        match self.headers.get(place).map(Header::value) {
            Some(HeaderValue::Address(Address::List(list))) => Some(list.iter().collect()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::header::HeaderLimits;

    fn section(text: &str) -> HeaderSection<'_> {
        HeaderSection::read(text.as_bytes(), &HeaderLimits::default()).unwrap()
    }

    #[test]
    fn other_fields_than_the_strict_reader_saw_are_no_reading() {
        let seen = "A: b\r\nFrom: a@x.example\r\n\r\n";
        assert!(SecondReading::of(&section(seen), seen.as_bytes()).is_some());
        for other in [
            "A: b\r\n From: a@x.example\r\n\r\n",
            "A: bb\r\nFrom: a@x.example\r\n\r\n",
            "A: b\r\nFram: a@x.example\r\n\r\n",
            "A: b\r\nFrom : a@x.example\r\n\r\n",
            "A: b\r\nFrom: a@x.example\r\nX: y\r\n\r\n",
        ] {
            assert!(SecondReading::of(&section(seen), other.as_bytes()).is_none(), "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// So honest mail is never refused for the way it is cut.
        #[test]
        fn what_the_strict_reader_cuts_the_second_cuts_alike(
            fields in prop::collection::vec(
                ("From|Sender|Resent-From|Subject|[!-9;-~]{1,20}", "( ?([!-~é\\xff]|=\\?utf-8\\?[QB]\\?|\\?=){1,9}|\r\n [!-~]{1,9}){0,5}"), 0..8),
            ended: bool,
        ) {
            let mut text: String = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
            if ended {
                text.push_str("\r\n");
            }
            prop_assert!(SecondReading::of(&section(&text), text.as_bytes()).is_some());
        }
    }
}
