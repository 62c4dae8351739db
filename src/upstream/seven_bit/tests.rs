//! Messages with octets over 127 and what becomes of them; another reader (mail-parser) must read the same out of both.

use mail_parser::{MessageParser, MimeHeaders as _};
use proptest::prelude::*;

use super::*;

fn encoded_in_pieces(message: &[u8], piece: usize) -> Result<Vec<u8>, NotEncodable> {
    let mut survey = Survey::default();
    for piece in message.chunks(piece) {
        survey.push(piece)?;
    }
    let mut encoder = Encoder::new(survey.finish()?);
    let mut out = Vec::new();
    for piece in message.chunks(piece) {
        encoder.push(piece, &mut out)?;
    }
    encoder.finish(&mut out)?;
    Ok(out)
}

fn encoded(message: &str) -> Result<String, NotEncodable> {
    let out = encoded_in_pieces(message.as_bytes(), 1 << 20)?;
    assert_eq!(encoded_in_pieces(message.as_bytes(), 1), Ok(out.clone()), "cut otherwise");
    Ok(String::from_utf8(out).unwrap())
}

#[track_caller]
fn check(message: &str, expected: &str) {
    let lines = |text: &str| text.replace('\n', "\r\n");
    let out = encoded(&lines(message)).unwrap();
    assert!(out.is_ascii());
    assert_eq!(out, lines(expected));
    // A second time there is nothing to do.
    assert_eq!(encoded(&out), Ok(out));
}

#[test]
fn a_text_becomes_quoted_printable() {
    check(
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nSubject: x\n\ngrüße = \n.\n\nend\t\n",
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nSubject: x\n\ngr=C3=BC=C3=9Fe =3D=20\n.\n\nend=09\n",
    );
}

#[test]
fn a_message_that_is_no_mime_is_made_one() {
    check(
        "Subject: x\n\nä\n",
        "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n",
    );
}

/// Forwarded together, or a digest: side by side is not within one another.
#[test]
fn many_messages_side_by_side_are_not_deep() {
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    let part = "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: text/plain\r\n\r\nä\r\n";
    let out = encoded(&format!("{head}{}--b--\r\n", part.repeat(2 * DEPTH_MAX))).unwrap();
    assert_eq!(out.matches("=C3=A4").count(), 2 * DEPTH_MAX);
    let within = "Content-Type: message/rfc822\r\n\r\n".repeat(DEPTH_MAX + 1);
    assert_eq!(encoded(&format!("{within}\r\nä\r\n")), Err(NotEncodable("its parts lie too deep in one another")));
}

#[test]
fn what_is_no_text_becomes_base64() {
    check(
        "MIME-Version: 1.0\nContent-Type: application/json\ncontent-transfer-encoding:\n 8BIT\n\n{\"ä\":1}\n",
        "MIME-Version: 1.0\nContent-Type: application/json\nContent-Transfer-Encoding: base64\n\neyLDpCI6MX0NCg==\n",
    );
}

/// RFC 6532 §3.5: of what is of the type message, this alone.
#[test]
fn an_internationalized_message_within_becomes_base64_as_a_whole() {
    check(
        "MIME-Version: 1.0\nContent-Type: message/global\nContent-Transfer-Encoding: 8bit\n\nSubject: Grüße\n\nä\n",
        "MIME-Version: 1.0\nContent-Type: message/global\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogR3LDvMOfZQ0KDQrDpA0K\n",
    );
}

#[test]
fn only_the_parts_that_need_it_are_encoded_and_a_multipart_never() {
    check(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"a b\" (so)\nContent-Transfer-Encoding: 8bit\n\nfor old readers\n--a b\nContent-Type: text/plain\n\nplain = plain\n--a b\nContent-Type: multipart/alternative; boundary=in\nContent-Transfer-Encoding: 8bit\n\n--in\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>ö\n--in--\nbehind\n--a b\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nall ascii\n--a b--  \n",
        "MIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"a b\" (so)\nContent-Transfer-Encoding: 7bit\n\nfor old readers\n--a b\nContent-Type: text/plain\n\nplain = plain\n--a b\nContent-Type: multipart/alternative; boundary=in\nContent-Transfer-Encoding: 7bit\n\n--in\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n<p>=C3=B6\n--in--\nbehind\n--a b\nContent-Type: text/plain\nContent-Transfer-Encoding: 7bit\n\nall ascii\n--a b--  \n",
    );
}

#[test]
fn a_message_in_a_message_is_encoded_within() {
    check(
        "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: inner\nContent-Type: text/plain; charset=utf-8\n\nß\n--d\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: other\nContent-Type: image/x\n\nß\n--d--\n",
        "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: inner\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\n=C3=9F\n--d\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 7bit\n\nSubject: other\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\nw58=\n--d--\n",
    );
}

#[test]
fn a_line_that_is_broken_becomes_no_boundary() {
    let filler = "x".repeat(75);
    let out = encoded(&format!(
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n{filler}--b--ä\r\n--b--\r\n"
    ))
    .unwrap();
    assert!(out.contains(&format!("{filler}=\r\n=2D-b--=C3=A4\r\n--b--\r\n")), "{out}");
}

#[test]
fn what_can_not_be_encoded_is_told() {
    let signed = "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=s; protocol=\"application/pkcs7-signature\"\n\n--s\n";
    for (message, reason) in [
        ("Subject: ä\n\nx\n".to_owned(), "header"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\nX: ä\n\nx\n--b--\n".to_owned(), "header"),
        (format!("{signed}Content-Type: text/plain\n\nä\n--s\n\nsig\n--s--\n"), "signed"),
        (format!("{signed}Content-Type: multipart/mixed; boundary=i\n\n--i\n\nä\n--i--\n--s--\n"), "signed"),
        ("Content-Type: multipart/mixed; boundary=b\n\nä\n--b--\n".to_owned(), "outside"),
        ("Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\nä\n".to_owned(), "outside"),
        ("Content-Type: multipart/mixed\n\nä\n".to_owned(), "boundary"),
        ("Content-Type: text/plain\nContent-Type: text/html\n\nä\n".to_owned(), "twice"),
        ("Content-Transfer-Encoding: base64\n\nä\n".to_owned(), "encoded"),
        ("Content-Transfer-Encoding: x-uuencode\n\nä\n".to_owned(), "not known"),
        ("Content-Type: message/delivery-status\n\nä\n".to_owned(), "type message"),
    ] {
        let fault = encoded(&message.replace('\n', "\r\n")).unwrap_err();
        assert!(fault.0.contains(reason), "{message}: {fault}");
    }
}

/// Without octets over 127 a signed message, and anything else, stays as it is.
#[test]
fn what_needs_nothing_stays_as_it_is() {
    for message in [
        "Content-Type: multipart/signed; boundary=s\nContent-Transfer-Encoding: 8bit\n\n--s\nContent-Transfer-Encoding: 8bit\n\nx\n--s\n\nsig\n--s--\n",
        "Subject: x\n\nno line end",
        "Subject: only a header\n",
        "",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nnever ended",
        "Content-Type: multipart/mixed; boundary=b\n\n--b\nSubject: x\n--b--\n",
    ] {
        let message = message.replace('\n', "\r\n");
        assert_eq!(encoded(&message), Ok(message.clone()));
    }
}

#[test]
fn the_end_of_the_last_line_is_kept_as_it_is() {
    for end in ["", "\r\n", "\r\n\r\n"] {
        let out = encoded(&format!("Content-Type: text/plain\r\n\r\nä{end}")).unwrap();
        assert!(out.ends_with(&format!("\r\n\r\n=C3=A4{end}")), "{out:?}");
    }
}

proptest! {
    /// Whatever the text, mail-parser reads the same out of what is encoded; nothing over 127 is left, no line is over 76.
    #[test]
    fn another_reader_reads_the_same(text in "([a-zäö =\\-.\t]{0,200}\r\n){1,6}ä\r\n", kind in prop::sample::select(vec!["text/plain", "application/x"])) {
        let message = format!(
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"-=b\"\r\n\r\n---=b\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{text}\r\n---=b--\r\n"
        );
        let out = encoded_in_pieces(message.as_bytes(), 7).unwrap();
        prop_assert!(out.is_ascii());
        prop_assert!(out.split(|&octet| octet == b'\n').all(|line| line.len() <= 78));
        let parser = MessageParser::default();
        let (before, after) = (parser.parse(message.as_bytes()).unwrap(), parser.parse(&out).unwrap());
        prop_assert_eq!(before.parts.len(), after.parts.len());
        let (before, after) = (before.part(1).unwrap(), after.part(1).unwrap());
        prop_assert_eq!(before.contents(), after.contents());
        prop_assert_eq!(before.content_type().map(|it| it.subtype()), after.content_type().map(|it| it.subtype()));
    }

    /// No octets make it panic, and what it takes comes out in ASCII.
    #[test]
    fn no_octets_make_it_panic(octets in prop::collection::vec(prop::sample::select(b"\r\n-:;=\"ab \xc3\xa4".to_vec()), 0..300), head in any::<bool>()) {
        let head = if head { "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" } else { "" };
        let message = [head.as_bytes(), &octets].concat();
        if let Ok(out) = encoded_in_pieces(&message, 5) {
            // A bare LF is no line end here; intake lets none through.
            prop_assert!(out.is_ascii() || !message.is_ascii());
        }
    }
}
