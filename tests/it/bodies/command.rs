//! Commands: what is read is printed and read again as itself, word for word as it came; what is refused is refused in printable words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sealpost::mail::{Address, Body, ForwardPath, MailParameters, Notify, RecipientParameters, Ret, ReversePath};
use sealpost::smtp::extension::HoldLimits;
use sealpost::smtp::{Command, CommandFault, Extension, InitialResponse, NotBase64, Offered};
use sealpost::sys::WallTime;

use super::{Lie, Told, is_sayable, require, same};

const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

/// Everything that sealpost knows of, offered.
pub fn everything_offered() -> Offered {
    Extension::ALL
        .into_iter()
        .fold(Offered::default(), Offered::with)
        .with_size(10_000_000)
        .with_auth(["EXTERNAL", "PLAIN"])
        .with_deliver_by(Some(1))
        .with_future_release(HoldLimits { interval_max: u32::MAX, latest: WallTime::from_seconds(6_000_000_000) })
}

/// [`Command`], see above. By the seed, with everything offered or nothing.
pub(super) fn command(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let everything = everything_offered();
    let offered = if seed & 1 == 0 { everything.clone() } else { Offered::default() };
    let read = |line: &[u8]| read(line, &offered, lie);
    let came = read(octets);
    let padded = [octets, b" \t "].concat();
    same("with white space at its end", &read(&padded), &came)?;
    let command = match came {
        Err(fault) => return require("a fault in words that can't be said", is_sayable(&fault.to_string())),
        Ok(command) => command,
    };
    if seed & 1 == 1 {
        same("with everything offered", &Command::parse(octets, &everything, NOW), &Ok(command.clone()))?;
        require("a parameter that was not offered", has_no_parameters(&command))?;
    }
    let verb = octets.iter().position(|octet| *octet == b' ').unwrap_or(octets.len());
    let (verb, argument) = octets.split_at(verb);
    same("in lower case", &read(&[&verb.to_ascii_lowercase(), argument].concat()), &Ok(command.clone()))?;
    let line = printed(&command);
    if !is_unwritable(&command) {
        same("printed and read again", &read(line.as_bytes()), &Ok(command.clone()))?;
    }
    if let Some(path) = path_of(&command)
        && let Some((_, parameters)) = line.split_once(&format!("<{path}> "))
        && let Some(first) = parameters.split(' ').next()
    {
        let twice = read(format!("{line} {first}").as_bytes());
        require("a parameter that stands twice", twice.is_err())?;
    }
    judge(&command, octets)
}

/// The path of MAIL or RCPT; a quoted local part may hold what ends a path elsewhere.
fn path_of(command: &Command) -> Option<&str> {
    match command {
        Command::Mail { reverse_path, .. } => Some(reverse_path.as_str()),
        Command::Rcpt { forward_path, .. } => Some(forward_path.as_str()),
        _ => None,
    }
}

fn read(line: &[u8], offered: &Offered, lie: Lie) -> Result<Command, CommandFault> {
    match lie {
        Lie::CommandTakesAll => Command::parse(line, &everything_offered(), NOW),
        Lie::CommandTakesTheLast => Command::parse(&without_repeated(line), offered, NOW),
        Lie::CommandLowersAddresses => Command::parse(line, offered, NOW).map(|command| match command {
            Command::Mail { reverse_path: ReversePath::Address(address), parameters } => {
                let address = Address::parse(&address.as_str().to_lowercase()).unwrap_or(address);
                Command::Mail { reverse_path: ReversePath::Address(address), parameters }
            }
            command => command,
        }),
        _ => Command::parse(line, offered, NOW),
    }
}

/// Of parameters alike, the last alone.
fn without_repeated(line: &[u8]) -> Vec<u8> {
    let words: Vec<&[u8]> = line.split(|&octet| octet == b' ').collect();
    let last = |(place, word): &(usize, &&[u8])| *place < 2 || !words[place + 1..].contains(word);
    let kept: Vec<&[u8]> = words.iter().enumerate().filter(last).map(|(_, word)| *word).collect();
    kept.join(&b' ')
}

fn has_no_parameters(command: &Command) -> bool {
    match command {
        Command::Mail { parameters, .. } => *parameters == MailParameters::default(),
        Command::Rcpt { parameters, .. } => *parameters == RecipientParameters::default(),
        _ => true,
    }
}

/// What else must be so of what was read.
fn judge(command: &Command, octets: &[u8]) -> Told {
    let path = match command {
        Command::Ehlo(name) | Command::Helo(name) => {
            let is_plain = |octet: u8| octet.is_ascii_graphic() && !b"()<>@,;\\\"".contains(&octet);
            return require(
                "a name that breaks a field",
                !name.as_str().is_empty() && name.as_str().bytes().all(is_plain),
            );
        }
        Command::Mail { reverse_path: ReversePath::Address(address), .. }
        | Command::Rcpt { forward_path: ForwardPath::Address(address), .. } => address,
        _ => return Ok(()),
    };
    let text = path.as_str();
    let literally = octets.windows(text.len()).any(|part| part == text.as_bytes());
    require("an address that is not as it was written", literally)?;
    require("an address with controls, or too long", text.len() <= 254 && !text.chars().any(char::is_control))?;
    same("the address read again", &Address::parse(text).as_ref(), &Ok(path))
}

/// A command as a client writes it.
pub fn printed(command: &Command) -> String {
    match command {
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::Helo(name) => format!("HELO {name}"),
        Command::StartTls => "STARTTLS".to_owned(),
        Command::Auth { mechanism, initial: None } => format!("AUTH {mechanism}"),
        Command::Auth { mechanism, initial: Some(initial) } => {
            format!("AUTH {mechanism} {}", initial_response(initial))
        }
        Command::Mail { reverse_path, parameters } => {
            format!("MAIL FROM:<{}>{}", reverse_path.as_str(), mail_parameters(parameters))
        }
        Command::Rcpt { forward_path, parameters } => {
            format!("RCPT TO:<{}>{}", forward_path.as_str(), recipient_parameters(parameters))
        }
        Command::Data => "DATA".to_owned(),
        Command::Bdat { count, last } => format!("BDAT {count}{}", if *last { " LAST" } else { "" }),
        Command::Rset => "RSET".to_owned(),
        Command::Noop => "NOOP".to_owned(),
        Command::Vrfy(what) => format!("VRFY {what}"),
        Command::Expn => "EXPN".to_owned(),
        Command::Help => "HELP".to_owned(),
        Command::Quit => "QUIT".to_owned(),
    }
}

/// What can be read of it, written anew; and the rest as it is.
fn initial_response(initial: &InitialResponse) -> String {
    match initial.read() {
        Ok(octets) if octets.expose().is_empty() => "=".to_owned(),
        Ok(octets) => STANDARD.encode(octets.expose()),
        Err(NotBase64) => String::from_utf8_lossy(initial.expose()).into_owned(),
    }
}

/// An initial response that no text holds: nobody has read it yet.
fn is_unwritable(command: &Command) -> bool {
    matches!(command, Command::Auth { initial: Some(initial), .. } if std::str::from_utf8(initial.expose()).is_err())
}

fn mail_parameters(parameters: &MailParameters) -> String {
    let mut words = Vec::new();
    words.extend(parameters.size.map(|octets| format!("SIZE={octets}")));
    words.extend((parameters.body == Body::EightBitMime).then(|| "BODY=8BITMIME".to_owned()));
    words.extend(parameters.smtputf8.then(|| "SMTPUTF8".to_owned()));
    words.extend(parameters.ret.map(|ret| format!("RET={}", if ret == Ret::Full { "FULL" } else { "HDRS" })));
    words.extend(parameters.envid.as_ref().map(|envid| format!("ENVID={envid}")));
    words.extend(parameters.require_tls.then(|| "REQUIRETLS".to_owned()));
    words.extend(parameters.deliver_by.map(|by| {
        let seconds = (by.deadline.millis() - NOW.millis()) / 1000;
        format!("BY={seconds};{}{}", if by.or_return { "R" } else { "N" }, if by.trace { "T" } else { "" })
    }));
    words.extend(parameters.hold_until.map(|until| format!("HOLDUNTIL={}", until.rfc3339())));
    words.extend(parameters.priority.map(|priority| format!("MT-PRIORITY={priority}")));
    joined(&words)
}

fn recipient_parameters(parameters: &RecipientParameters) -> String {
    let mut words = Vec::new();
    words.extend(parameters.notify.map(|notify| format!("NOTIFY={}", notified(notify))));
    words.extend(parameters.orcpt.as_ref().map(|orcpt| format!("ORCPT={};{}", orcpt.address_type, orcpt.address)));
    joined(&words)
}

fn notified(notify: Notify) -> String {
    if notify == Notify::NEVER {
        return "NEVER".to_owned();
    }
    let words = [(notify.success, "SUCCESS"), (notify.failure, "FAILURE"), (notify.delay, "DELAY")];
    words.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

/// Each behind a space.
fn joined(words: &[String]) -> String {
    words.iter().map(|word| format!(" {word}")).collect()
}
