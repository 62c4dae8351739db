//! Which lists are read, and which are refused for what.

use proptest::prelude::*;

use super::*;

#[test]
fn these_are_read() {
    for (value, expected) in [
        (" alice@x.example", &[("alice@x.example", &[][..])][..]),
        ("<alice@x.example>", &[("alice@x.example", &[])]),
        ("Alice <alice@x.example>", &[("alice@x.example", &["Alice"])]),
        ("John Q. Public <j@x.example>", &[("j@x.example", &["John Q. Public"])]),
        ("\"Public, John \\\"Q\\\"\" <j@x.example>", &[("j@x.example", &["Public, John \"Q\""])]),
        ("\"a\" b \"c\"<j@x.example>", &[("j@x.example", &["a b c"])]),
        ("alice@x.example (Alice A.)", &[("alice@x.example", &["Alice A."])]),
        ("Alice (work) <a@x.example> (home) ", &[("a@x.example", &["Alice", "work", "home"])]),
        ("a@x.example,\tB <b@x.example>", &[("a@x.example", &[]), ("b@x.example", &["B"])]),
        ("=?utf-8?Q?J=C3=B6rg?= <j@x.example>", &[("j@x.example", &["=?utf-8?Q?J=C3=B6rg?="])]),
        ("<\"a b\"@x.example>", &[("\"a b\"@x.example", &[])]),
        ("printer@[192.0.2.7]", &[("printer@[192.0.2.7]", &[])]),
        ("printer@[IPv6:2001:db8::7] (x)", &[("printer@[IPv6:2001:db8::7]", &["x"])]),
        ("Жора <жора@пример.рф>", &[("жора@пример.рф", &["Жора"])]),
        ("\"\" <a@x.example>", &[("a@x.example", &[])]),
    ] {
        let found = read_mailboxes(value).unwrap_or_else(|fault| panic!("{value}: {fault}"));
        let found: Vec<(String, Vec<String>)> = found
            .into_iter()
            .map(|one| {
                let name = Some(one.name.join(" ")).filter(|name| !name.is_empty());
                (one.address.to_string(), name.into_iter().chain(one.comments).collect())
            })
            .collect();
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let expected: Vec<(String, Vec<String>)> =
            expected.iter().map(|(address, texts)| ((*address).to_owned(), owned(texts))).collect();
        assert_eq!(found, expected, "{value}");
    }
}

#[test]
fn these_are_not() {
    use MailboxFault as Fault;
    for (value, fault) in [
        ("", Fault::Empty),
        (" \t", Fault::Empty),
        (",a@x.example", Fault::EmptyPlace),
        ("a@x.example,", Fault::EmptyPlace),
        ("a@x.example,,b@x.example", Fault::EmptyPlace),
        ("(only a comment)", Fault::EmptyPlace),
        ("Alice", Fault::NoAddress),
        ("Alice, a@x.example", Fault::NoAddress),
        ("staff: a@x.example;", Fault::Group),
        ("undisclosed:;", Fault::Group),
        ("a@x.example;", Fault::Group),
        ("a@x.example:b@x.example", Fault::Group),
        ("\"Alice <a@x.example>", Fault::Quote),
        ("\"Alice\\\" <a@x.example>", Fault::Quote),
        ("<\"a@x.example>", Fault::Quote),
        ("a@x.example (x", Fault::Comment),
        ("a@x.example (x (y))", Fault::NestedComment),
        ("a@x.example (x\\))", Fault::NestedComment),
        ("Alice <a@x.example", Fault::Angle),
        ("<a@x.example> <b@x.example>", Fault::Behind),
        ("<a@x.example> b", Fault::Behind),
        ("a@x.example b@x.example", Fault::Behind),
        ("a@x.example <b@x.example>", Fault::Behind),
        ("Alice a@x.example", Fault::LooseAt),
        ("a @x.example", Fault::LooseAt),
        ("a(c)@x.example", Fault::LooseAt),
        ("@x.example", Fault::LooseAt),
        ("Alice > <a@x.example>", Fault::Stray('>')),
        ("Alice\\ <a@x.example>", Fault::Stray('\\')),
        ("Al\"ice\" <a@x.example>", Fault::Stray('"')),
        ("\"Al\"ice <a@x.example>", Fault::Stray('i')),
        ("[x] <a@x.example>", Fault::Stray('[')),
        ("a@[192.0.2.1", Fault::Stray('[')),
        ("<\"a@b\"@x.example>", Fault::QuotedLocalPart),
        ("<\"a,b\"@x.example>", Fault::QuotedLocalPart),
        ("<\"a\\\"b\"@x.example>", Fault::QuotedLocalPart),
        ("\"a\"@x.example", Fault::QuotedLocalPart),
        ("<cafe\u{301}@x.example>", Fault::NotNormal),
        ("<>", Fault::Address(AddressFault::Empty)),
        ("<@y.example:a@x.example>", Fault::Address(AddressFault::LocalPartEmpty)),
        ("< a@x.example>", Fault::Address(AddressFault::LocalPartCharacter(' '))),
        ("<a@x.example >", Fault::Address(AddressFault::DomainCharacter(' '))),
        ("<a@x(c).example>", Fault::Address(AddressFault::DomainCharacter('('))),
        ("<<a@x.example>>", Fault::Address(AddressFault::LocalPartCharacter('<'))),
        ("a@x.example.", Fault::Address(AddressFault::TrailingDot)),
    ] {
        assert_eq!(read_mailboxes(value), Err(fault), "{value:?}");
        assert!(fault.to_string().bytes().all(|octet| matches!(octet, b' '..=b'~')), "{fault}");
    }
}

#[test]
fn a_name_is_shown_with_spaces_and_without_and_its_comments_behind_it_and_as_it_stands_where_words_are_encoded() {
    for (value, shown) in [
        ("a@x.example", ["", "", ""]),
        ("A <a@x.example>", ["A", "A", "A"]),
        ("(w) \"A\" B. <a@x.example> (h)", ["A B. (w) (h)", "AB. (w) (h)", "AB. (w) (h)"]),
        (
            "=?utf-8?Q?a?= (w)\t\"A\"<a@x.example>(h)",
            ["=?utf-8?Q?a?= A (w) (h)", "=?utf-8?Q?a?=A (w) (h)", "=?utf-8?Q?a?= (w)\t\"A\""],
        ),
    ] {
        assert_eq!(read_mailboxes(value).unwrap()[0].shown(), shown, "{value}");
    }
}

#[test]
fn a_list_has_a_limit() {
    let list = |count| vec!["a@x.example"; count].join(", ");
    assert_eq!(read_mailboxes(&list(MAILBOXES_MAX)).unwrap().len(), MAILBOXES_MAX);
    assert_eq!(read_mailboxes(&list(MAILBOXES_MAX + 1)), Err(MailboxFault::TooMany));
}

proptest! {
    #[test]
    fn each_address_stands_in_the_value(value in "[a-c@.<>\"(),:; \\\\é]{0,40}") {
        for mailbox in read_mailboxes(&value).unwrap_or_default() {
            prop_assert!(value.contains(mailbox.address.as_str()));
        }
    }
}
