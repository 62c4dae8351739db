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
