//! The parameters of MAIL and RCPT (RFC 5321 §4.1.2, and one document for each extension).
//!
//! Only what is offered is known. Each may stand once: no RFC says which of two would count. Keywords and fixed values in any case.

use super::{CommandFault, OCTET_COUNT_DIGITS, is_digits, xtext};
use crate::mail::{Body, DeliverBy, MailParameters, Notify, OriginalRecipient, RecipientParameters, Ret};
use crate::smtp::extension::{Extension, Offered};
use crate::sys::WallTime;

/// The longest ENVID, characters (RFC 3461 §4.4).
const ENVID_MAX: usize = 100;
/// The longest ORCPT, characters (RFC 3461 §4.2).
const ORCPT_MAX: usize = 500;
/// The most digits of a number of seconds (RFC 2852 §4, RFC 4865).
const SECONDS_DIGITS: usize = 9;
/// `2026-11-24T01:48:00` (RFC 3339 §5.6); a fraction of the second and the zone stand behind it.
const DATE_SHAPE: &str = "dddd-dd-ddTdd:dd:dd";
/// UTC, as RFC 3339 §5.6 and §4.3 have it.
const UTC: [&str; 4] = ["Z", "z", "+00:00", "-00:00"];
/// The most digits of a fraction of a second.
const FRACTION_DIGITS: usize = 9;

const NOT_A_PARAMETER: CommandFault = CommandFault::Argument("a parameter is KEYWORD or KEYWORD=value");
const TWICE: &str = "given twice";
const NO_VALUE: &str = "takes no value";
/// RFC 4865 §5.2.2: the time to deliver in goes on while the message waits.
const HELD_BEYOND: &str = "is over before the message is to be sent on";

/// One parameter, its keyword in upper case.
struct Parameter<'a> {
    keyword: String,
    value: Option<&'a str>,
}

impl Parameter<'_> {
    /// RFC 5321 §4.1.2: `esmtp-keyword ["=" esmtp-value]`, the value with RFC 6531 §3.3's UTF-8.
    fn read(word: &str) -> Result<Parameter<'_>, CommandFault> {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if keyword.is_empty() || keyword.starts_with('-') || !keyword.chars().all(is_name) {
            return Err(NOT_A_PARAMETER);
        }
        Ok(Parameter { keyword: keyword.to_ascii_uppercase(), value })
    }

    fn wrong(&self, why: &'static str) -> CommandFault {
        CommandFault::Parameter { keyword: self.keyword.clone(), why }
    }

    fn unkept(&self, why: &'static str) -> CommandFault {
        CommandFault::Unkept { keyword: self.keyword.clone(), why }
    }

    fn unknown(self) -> CommandFault {
        CommandFault::UnknownParameter(self.keyword)
    }

    /// The value, read; `why` says what would be right.
    fn value<T>(&self, read: impl FnOnce(&str) -> Option<T>, why: &'static str) -> Result<T, CommandFault> {
        let is_value =
            |value: &&str| !value.is_empty() && value.chars().all(|c| !c.is_control() && !matches!(c, ' ' | '='));
        self.value.filter(is_value).and_then(read).ok_or_else(|| self.wrong(why))
    }

    fn flag(&self) -> Result<(), CommandFault> {
        if self.value.is_none() { Ok(()) } else { Err(self.wrong(NO_VALUE)) }
    }
}

/// Each parameter of the list, in order; a fault where one stands twice.
fn each(list: &str, mut take: impl FnMut(Parameter<'_>) -> Result<(), CommandFault>) -> Result<(), CommandFault> {
    let mut seen: Vec<String> = Vec::new();
    for word in list.split(' ').filter(|word| !word.is_empty()) {
        let parameter = Parameter::read(word)?;
        if seen.contains(&parameter.keyword) {
            return Err(parameter.wrong(TWICE));
        }
        seen.push(parameter.keyword.clone());
        take(parameter)?;
    }
    Ok(())
}

/// The parameters of MAIL.
pub(super) fn of_mail(list: &str, offered: &Offered, now: WallTime) -> Result<MailParameters, CommandFault> {
    let mut all = MailParameters::default();
    each(list, |parameter| mail_parameter(&mut all, parameter, offered, now))?;
    if all.deliver_by.zip(all.hold_until).is_some_and(|(by, until)| until > by.deadline) {
        return Err(CommandFault::Parameter { keyword: "BY".to_owned(), why: HELD_BEYOND });
    }
    Ok(all)
}

fn mail_parameter(
    all: &mut MailParameters,
    parameter: Parameter<'_>,
    offered: &Offered,
    now: WallTime,
) -> Result<(), CommandFault> {
    use Extension::{DeliverBy, Dsn, EightBitMime, FutureRelease, MtPriority, RequireTls, Size, SmtpUtf8};
    match parameter.keyword.as_str() {
        "SIZE" if offered.has(Size) => all.size = Some(parameter.value(octets, "takes a number of octets")?),
        "BODY" if offered.has(EightBitMime) => all.body = parameter.value(body, "takes 7BIT or 8BITMIME")?,
        "SMTPUTF8" if offered.has(SmtpUtf8) => {
            parameter.flag()?;
            all.smtputf8 = true;
        }
        // RFC 4954 §5: who submitted it first. We trust nobody to say so: it is taken as `<>`, whether AUTH is offered or not.
        "AUTH" => {
            parameter.value(|value| (value == "<>" || xtext::is_xtext(value)).then_some(()), "takes <> or xtext")?
        }
        "RET" if offered.has(Dsn) => all.ret = Some(parameter.value(ret, "takes FULL or HDRS")?),
        "ENVID" if offered.has(Dsn) => all.envid = Some(parameter.value(envid, "takes up to 100 characters of xtext")?),
        "REQUIRETLS" if offered.has(RequireTls) => {
            parameter.flag()?;
            all.require_tls = true;
        }
        "BY" if offered.has(DeliverBy) => {
            let asked = parameter.value(|value| by(value, now), "takes seconds;N or seconds;R, and T")?;
            // RFC 2852 §4: what EHLO names is the least that can be promised.
            let least = later(now, offered.deliver_by_min().unwrap_or(0).into());
            if asked.or_return && asked.deadline < least {
                return Err(parameter.unkept("with R, takes no fewer seconds than EHLO says"));
            }
            all.deliver_by = Some(asked);
        }
        "HOLDFOR" | "HOLDUNTIL" if offered.has(FutureRelease) => hold(all, &parameter, offered, now)?,
        "MT-PRIORITY" if offered.has(MtPriority) => all.priority = Some(parameter.value(priority, "takes -9 to 9")?),
        _ => return Err(parameter.unknown()),
    }
    Ok(())
}

/// The parameters of RCPT.
pub(super) fn of_rcpt(list: &str, offered: &Offered) -> Result<RecipientParameters, CommandFault> {
    let mut all = RecipientParameters::default();
    each(list, |parameter| {
        match parameter.keyword.as_str() {
            "NOTIFY" if offered.has(Extension::Dsn) => {
                all.notify = Some(parameter.value(notify, "takes NEVER, or SUCCESS, FAILURE, DELAY")?);
            }
            "ORCPT" if offered.has(Extension::Dsn) => {
                all.orcpt = Some(parameter.value(original, "takes type;address, the address in xtext")?);
            }
            _ => return Err(parameter.unknown()),
        }
        Ok(())
    })?;
    Ok(all)
}

/// RFC 1870 §4: up to 20 digits. What no u64 can hold is larger than any limit.
fn octets(value: &str) -> Option<u64> {
    (value.len() <= OCTET_COUNT_DIGITS && is_digits(value)).then(|| value.parse().unwrap_or(u64::MAX))
}

/// RFC 6152 §2. BINARYMIME (RFC 3030 §3) is not offered.
fn body(value: &str) -> Option<Body> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some(Body::SevenBit),
        "8BITMIME" => Some(Body::EightBitMime),
        _ => None,
    }
}

/// RFC 3461 §4.3.
fn ret(value: &str) -> Option<Ret> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
    }
}

/// RFC 3461 §4.4: xtext of printable ASCII.
fn envid(value: &str) -> Option<String> {
    let is_text = |octets: Vec<u8>| octets.iter().all(|&octet| octet.is_ascii_graphic() || octet == b' ');
    (value.len() <= ENVID_MAX && xtext::decode(value).is_some_and(is_text)).then(|| value.to_owned())
}

/// RFC 3461 §4.1: `NEVER` stands alone.
fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::NEVER);
    }
    let mut notify = Notify::NEVER;
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

/// RFC 3461 §4.2; for `utf-8` also the unescaped and `\x{..}` forms of RFC 6533 §3.
fn original(value: &str) -> Option<OriginalRecipient> {
    let (address_type, address) = value.split_once(';')?;
    let is_type =
        !address_type.is_empty() && address_type.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-');
    let is_address = match address_type.to_ascii_lowercase().as_str() {
        "utf-8" => is_utf8_address(address),
        // A control that is hidden in xtext would come out in a report's field (RFC 3464 §2.3.1).
        _ => xtext::decode(address).is_some_and(|octets| octets.iter().all(|octet| (b' '..=b'~').contains(octet))),
    };
    (value.chars().count() <= ORCPT_MAX && is_type && is_address && !address.is_empty())
        .then(|| OriginalRecipient { address_type: address_type.to_owned(), address: address.to_owned() })
}

/// RFC 6533 §3: neither `+` nor `=`, and a backslash only in `\x{HEX}`. Anything else an upstream may refuse the recipient for.
fn is_utf8_address(address: &str) -> bool {
    let mut pieces = address.split('\\');
    let is_plain = |text: &str| !text.contains(['+', '=']);
    let is_point = |hex: &str| {
        let is_hex = |letter: u8| matches!(letter, b'0'..=b'9' | b'A'..=b'F');
        (2..=6).contains(&hex.len()) && hex.bytes().all(is_hex)
    };
    pieces.next().is_some_and(is_plain)
        && pieces.all(|piece| {
            let point = piece.strip_prefix("x{").and_then(|rest| rest.split_once('}'));
            point.is_some_and(|(hex, rest)| is_point(hex) && is_plain(rest))
        })
}

/// RFC 2852 §4: `by-time ";" by-mode [by-trace]`; a time that is over can't be asked for with `R`.
fn by(value: &str, now: WallTime) -> Option<DeliverBy> {
    let (time, mode) = value.split_once(';')?;
    let (past, digits) = match time.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, time.strip_prefix('+').unwrap_or(time)),
    };
    let seconds = seconds(digits)?;
    let (or_return, trace) = match mode.to_ascii_uppercase().as_str() {
        "N" => (false, false),
        "NT" => (false, true),
        "R" => (true, false),
        "RT" => (true, true),
        _ => return None,
    };
    if or_return && (past || seconds == 0) {
        return None;
    }
    let deadline = later(now, if past { seconds.saturating_neg() } else { seconds });
    Some(DeliverBy { deadline, or_return, trace })
}

/// RFC 4865 §4: one of the two, once, and no longer than EHLO allows.
fn hold(
    all: &mut MailParameters,
    parameter: &Parameter<'_>,
    offered: &Offered,
    now: WallTime,
) -> Result<(), CommandFault> {
    if all.hold_until.is_some() {
        return Err(parameter.wrong("HOLDFOR and HOLDUNTIL exclude each other"));
    }
    let until = if parameter.keyword == "HOLDFOR" {
        parameter.value(|value| wait(value).map(|wait| later(now, wait)), "takes a number of seconds")?
    } else {
        parameter.value(date, "takes a moment such as 2026-11-24T01:48:00Z")?
    };
    let latest = offered.hold_limits().map(|limits| limits.latest.min(later(now, limits.interval_max.into())));
    if latest.is_some_and(|latest| until > latest) {
        return Err(parameter.wrong("longer than EHLO allows"));
    }
    all.hold_until = Some(until);
    Ok(())
}

/// RFC 6710: -9 to 9, without a plus and without leading zeros.
fn priority(value: &str) -> Option<i8> {
    let number: i8 = value.parse().ok()?;
    ((-9..=9).contains(&number) && number.to_string() == value).then_some(number)
}

/// RFC 4865 §3: a number from 1 on, without leading zeros.
fn wait(digits: &str) -> Option<i64> {
    seconds(digits).filter(|_| !digits.starts_with('0'))
}

fn seconds(digits: &str) -> Option<i64> {
    if digits.len() > SECONDS_DIGITS || !is_digits(digits) {
        return None;
    }
    digits.parse().ok()
}

fn later(now: WallTime, seconds: i64) -> WallTime {
    WallTime::from_millis(now.millis().saturating_add(seconds.saturating_mul(1000)))
}

/// RFC 3339 §5.6, in UTC (RFC 4865 §3). A part of a second counts as a whole one: nothing is sent before its moment, and whole seconds are what is told.
fn date(value: &str) -> Option<WallTime> {
    let fits = |(octet, shape): (u8, u8)| {
        if shape == b'd' { octet.is_ascii_digit() } else { octet.eq_ignore_ascii_case(&shape) }
    };
    let (second, rest) = value.split_at_checked(DATE_SHAPE.len())?;
    let zone = UTC.into_iter().find(|&zone| rest.ends_with(zone))?;
    let fraction = rest.strip_suffix(zone)?;
    let is_fraction = |digits: &str| digits.len() <= FRACTION_DIGITS && is_digits(digits);
    if !second.bytes().zip(DATE_SHAPE.bytes()).all(fits)
        || !(fraction.is_empty() || fraction.strip_prefix('.').is_some_and(is_fraction))
    {
        return None;
    }
    let moment: jiff::Timestamp = format!("{second}{fraction}Z").parse().ok()?;
    let seconds = moment.as_nanosecond().saturating_add(999_999_999).div_euclid(1_000_000_000);
    Some(WallTime::from_seconds(i64::try_from(seconds).ok()?))
}
