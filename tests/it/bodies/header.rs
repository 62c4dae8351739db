//! A message's header: gathered the same however it comes; what passes both readers is from whom every reader takes it to be from; what goes on is the
//! same fields but for those that the fix-ups name.

use sealpost::content::{
    Collected, FixUps, HeaderCollector, HeaderFacts, HeaderFault, HeaderLimits, HeaderRules, Unqualified, Utf8Header,
    fix_ups, read_header, take_in,
};
use sealpost::mail::header::{HeaderSection, SectionEnd};
use sealpost::mail::trace::{Authentication, Protocol, TlsEnd, Trace};
use sealpost::mail::{Address, Domain, QueueId};
use sealpost::sys::WallTime;

use super::{Broken, Lie, Told, is_sayable, pieces, require, same};

/// Such as many a header exceeds.
const NARROW: HeaderLimits = HeaderLimits { section: 400, line: 60, fields: 5 };
const BOUNDLESS: HeaderLimits = HeaderLimits { section: usize::MAX, line: usize::MAX, fields: usize::MAX };

/// Collector, both readers and fix-ups. By the seed, with the limits in force or narrow ones.
pub(super) fn header(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let limits = if seed & 1 == 0 { HeaderLimits::default() } else { NARROW };
    let gathered = gather(std::iter::once(octets), &limits);
    same("the section in pieces", &gather(pieces(octets, seed), &limits), &gathered)?;
    let Ok(section) = gathered else {
        return require("a section that fits was refused", plain_end(octets) > limits.section);
    };
    same("the section", &section.len(), &plain_end(octets))?;
    for utf8 in [Utf8Header::NotDeclared, Utf8Header::Declared] {
        let facts = read(&section, &limits, utf8, lie);
        sayable(&facts)?;
        if facts.fault.is_none() {
            passes(&section, &facts, &limits)?;
            mended(&section, &facts, utf8, lie)?;
        }
    }
    completed(section, &limits)
}

fn gather<'a>(all: impl Iterator<Item = &'a [u8]>, limits: &HeaderLimits) -> Result<Vec<u8>, HeaderFault> {
    let mut collector = HeaderCollector::new(limits);
    for piece in all {
        if let Collected::Whole { .. } = collector.push(piece)? {
            break;
        }
    }
    Ok(collector.into_section())
}

/// Where the section ends: behind the first empty line, or with the message.
pub(super) fn plain_end(octets: &[u8]) -> usize {
    let blank = octets.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    if octets.starts_with(b"\r\n") { 2 } else { blank.unwrap_or(octets.len()) }
}

fn read(section: &[u8], limits: &HeaderLimits, utf8: Utf8Header, lie: Lie) -> HeaderFacts {
    match lie {
        Lie::HeaderTakesOneOfTwo => read_header(&with_one_from(section), limits, utf8),
        Lie::HeaderBelievesNames => {
            let mut facts = read_header(section, limits, utf8);
            if let Some(shown) = facts.display_addresses.first() {
                facts.from = vec![shown.address.clone()];
            }
            facts
        }
        _ => read_header(section, limits, utf8),
    }
}

/// Of several From fields the last alone.
fn with_one_from(section: &[u8]) -> Vec<u8> {
    let is_from = |line: &[u8]| line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"from:"));
    let lines: Vec<&[u8]> = section.split_inclusive(|&octet| octet == b'\n').collect();
    let last = lines.iter().rposition(|line| is_from(line));
    let kept = lines.iter().enumerate().filter(|(place, line)| !is_from(line) || Some(*place) == last);
    kept.flat_map(|(_, line)| line.iter().copied()).collect()
}

/// What is said of a header on the wire or in the log is printable.
fn sayable(facts: &HeaderFacts) -> Told {
    let fault = facts.fault.as_ref().map(ToString::to_string);
    let texts = [fault, facts.sender_fault.clone(), facts.undeclared.clone(), facts.unqualified.clone()];
    for text in texts.iter().flatten() {
        require(&format!("a sentence that can't be said: {text:?}"), is_sayable(text))?;
    }
    let id = facts.message_id.as_ref();
    require("a Message-ID that can't be told", id.is_none_or(|id| id.is_empty() || is_sayable(id)))
}

/// A header that may be judged: one From, which is there literally, and which a reader that is none of ours reads alike.
fn passes(section: &[u8], facts: &HeaderFacts, limits: &HeaderLimits) -> Told {
    let read = HeaderSection::read(section, limits).map_err(|fault| Broken(format!("passes though {fault}")))?;
    let mut again: Vec<u8> = Vec::new();
    for field in read.fields() {
        again.extend_from_slice(&[field.name.as_bytes(), b":", field.value, b"\r\n"].concat());
    }
    match read.end() {
        SectionEnd::BlankLine => again.extend_from_slice(b"\r\n"),
        SectionEnd::EndOfMessage if !section.ends_with(b"\r\n") => again.truncate(section.len()),
        SectionEnd::EndOfMessage => {}
    }
    same("the fields written again", &again.escape_ascii().to_string(), &section.escape_ascii().to_string())?;
    require("bare CR, LF or NUL", super::wire::is_clean(section))?;
    same("From fields", &read.named("From").count(), &1)?;
    let literal =
        |address: &Address| section.windows(address.as_str().len()).any(|part| part == address.as_str().as_bytes());
    let all = facts.from.iter().chain(&facts.sender).chain(&facts.resent_from).chain(&facts.resent_sender);
    require("an address that is not there literally", all.clone().all(literal))?;
    let whole = mail_parser::MessageParser::default().parse(section).ok_or_else(|| Broken("no message".to_owned()))?;
    let seen = |address: Option<&mail_parser::Address<'_>>| -> Vec<String> {
        let all = address.into_iter().flat_map(mail_parser::Address::iter);
        all.map(|one| one.address().unwrap_or_default().to_owned()).collect()
    };
    let ours = |addresses: &[Address]| -> Vec<String> { addresses.iter().map(ToString::to_string).collect() };
    same("From to mail-parser", &seen(whole.from()), &ours(&facts.from))?;
    match &facts.sender {
        Some(sender) => same("Sender to mail-parser", &seen(whole.sender()), &vec![sender.to_string()]),
        None => Ok(()),
    }
}

/// What goes on: read again it says the same, with our fields in front and without what must not go on.
fn mended(section: &[u8], facts: &HeaderFacts, utf8: Utf8Header, lie: Lie) -> Told {
    let trace = Trace {
        hostname: "mail.example.com",
        client: None,
        identity: None,
        protocol: Protocol::of(Authentication::Certificate, utf8),
        tls_version: "TLSv1.3",
        tls_cipher: "TLS_AES_128_GCM_SHA256",
        tls_end: TlsEnd::Client,
        id: QueueId::from_u128(7),
        priority: None,
        recipient: None,
        arrived: WallTime::from_seconds(1_800_000_000),
    };
    let wanted = FixUps { trace: &trace, unique: "7", sender: None, proved: None };
    let mut header = fix_ups(section, facts, &wanted).header;
    if lie == Lie::HeaderKeepsBcc {
        header = [trace.received().as_bytes(), section].concat();
    }
    let read = HeaderSection::read(&header, &BOUNDLESS).map_err(|fault| Broken(format!("mended, but {fault}")))?;
    let count = |name: &str| read.named(name).count();
    same("Bcc in what goes on", &(count("Bcc") + count("Resent-Bcc")), &0)?;
    same("Received in what goes on", &count("Received"), &(facts.received + 1))?;
    require("no Date goes on", count("Date") == 1 || facts.is_signed("date"))?;
    require("no Message-ID goes on", count("Message-ID") == 1 || facts.is_signed("message-id"))?;
    let again = read_header(&header, &BOUNDLESS, utf8);
    same("fault of what goes on", &again.fault, &None)?;
    same("From of what goes on", &again.from, &facts.from)?;
    same("Resent-From of what goes on", &again.resent_from, &facts.resent_from)
}

/// What is completed once is complete.
fn completed(section: Vec<u8>, limits: &HeaderLimits) -> Told {
    let domain = Domain::parse("example.com").map_err(|fault| Broken(fault.to_string()))?;
    let rules = HeaderRules { unqualified: Unqualified::Completed(domain), ..HeaderRules::default() };
    let once = take_in(section, limits, Utf8Header::NotDeclared, &rules);
    let twice = take_in(once.0.clone(), limits, Utf8Header::NotDeclared, &rules);
    // What has become too long by it is not completed any further.
    if once.1.fault.is_some() { Ok(()) } else { same("completed once more", &twice, &once) }
}
