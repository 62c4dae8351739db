//! smtp-proto's reading of commands and replies beside ours. It is more patient than ours; where both take a line, they must see the same in it.
//!
//! Not compared: quoted local parts, which it gives without their quotes, and what it does not keep.

use sealpost::mail::{Address, Body, ForwardPath, Notify, Ret, ReversePath};
use sealpost::smtp::command::xtext;
use sealpost::smtp::{Command, Reply, ReplyReader};
use sealpost::sys::WallTime;
use smtp_proto::response::parser::ResponseReceiver;
use smtp_proto::{
    MAIL_BODY_8BITMIME, MAIL_REQUIRETLS, MAIL_RET_FULL, MAIL_RET_HDRS, MAIL_SMTPUTF8, RCPT_NOTIFY_DELAY,
    RCPT_NOTIFY_FAILURE, RCPT_NOTIFY_NEVER, RCPT_NOTIFY_SUCCESS, Request,
};

use super::command::everything_offered;
use super::{Broken, Lie, Told};

const NOW: WallTime = WallTime::from_seconds(1_800_000_000);

/// The octets as lines of commands, and as replies.
pub(super) fn others(octets: &[u8], _seed: u64, lie: Lie) -> Told {
    for line in octets.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.iter().any(|octet| matches!(octet, b'\r' | 0)) {
            command(line, lie)?;
        }
    }
    replies(octets, lie)
}

fn command(line: &[u8], lie: Lie) -> Told {
    let whole = [line, b"\r\n"].concat();
    let Ok(theirs) = Request::parse(&mut whole.iter()) else { return Ok(()) };
    let ours = match Command::parse(line, &everything_offered(), NOW) {
        Ok(Command::Bdat { count, last }) if lie == Lie::OtherCommand => {
            Command::Bdat { count: count.saturating_add(1), last }
        }
        Ok(Command::Rcpt { parameters, .. }) if lie == Lie::OtherCommand => {
            Command::Rcpt { forward_path: ForwardPath::Postmaster, parameters }
        }
        Ok(ours) => ours,
        Err(_) => return Ok(()),
    };
    let same = match (&ours, &theirs) {
        (Command::Mail { reverse_path, parameters }, Request::Mail { from }) => {
            let flag = |mask| from.flags & mask != 0;
            let address = match reverse_path {
                ReversePath::Null => from.address.is_empty(),
                ReversePath::Address(address) => is_same(address, &from.address),
            };
            let envid = parameters.envid.as_deref().and_then(xtext::decode);
            let theirs = from.env_id.as_ref().map(|text| text.as_bytes().to_vec());
            address
                && parameters.size.is_none_or(|size| usize::try_from(size).is_ok_and(|size| size == from.size))
                && flag(MAIL_BODY_8BITMIME) == (parameters.body == Body::EightBitMime)
                && flag(MAIL_SMTPUTF8) == parameters.smtputf8
                && flag(MAIL_REQUIRETLS) == parameters.require_tls
                && flag(MAIL_RET_FULL) == (parameters.ret == Some(Ret::Full))
                && flag(MAIL_RET_HDRS) == (parameters.ret == Some(Ret::Headers))
                && (envid.is_none() || envid == theirs)
                && parameters.priority.is_none_or(|priority| i64::from(priority) == from.mt_priority)
        }
        (Command::Rcpt { forward_path, parameters }, Request::Rcpt { to }) => {
            let flag = |mask| to.flags & mask != 0;
            let address = match forward_path {
                ForwardPath::Postmaster => to.address.is_empty(),
                ForwardPath::Address(address) => is_same(address, &to.address),
            };
            let never = parameters.notify == Some(Notify::NEVER);
            let asked = parameters.notify.unwrap_or(Notify::NEVER);
            address
                && flag(RCPT_NOTIFY_NEVER) == never
                && flag(RCPT_NOTIFY_SUCCESS) == asked.success
                && flag(RCPT_NOTIFY_FAILURE) == asked.failure
                && flag(RCPT_NOTIFY_DELAY) == asked.delay
        }
        (Command::Bdat { count, last }, Request::Bdat { chunk_size, is_last }) => {
            usize::try_from(*count).is_ok_and(|count| count == *chunk_size) && last == is_last
        }
        (Command::Ehlo(_), Request::Ehlo { .. })
        | (Command::Helo(_), Request::Helo { .. })
        | (Command::Auth { .. }, Request::Auth { .. })
        | (Command::Vrfy(_), Request::Vrfy { .. })
        | (Command::Expn, Request::Expn { .. })
        | (Command::Noop, Request::Noop { .. })
        | (Command::Help, Request::Help { .. })
        | (Command::StartTls, Request::StartTls)
        | (Command::Data, Request::Data)
        | (Command::Rset, Request::Rset)
        | (Command::Quit, Request::Quit) => true,
        _ => false,
    };
    if same { Ok(()) } else { Err(Broken(format!("{}: {ours:?}, to smtp-proto {theirs:?}", line.escape_ascii()))) }
}

fn is_same(ours: &Address, theirs: &str) -> bool {
    ours.as_str().starts_with('"') || ours.as_str() == theirs
}

/// Replies one behind the other, each read by both from where ours began.
fn replies(octets: &[u8], lie: Lie) -> Told {
    let mut reader = ReplyReader::default();
    let (mut begin, mut at) = (0, 0);
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        at += line.len();
        let Some(text) = line.strip_suffix(b"\r\n") else { return Ok(()) };
        if text.iter().any(|octet| matches!(octet, b'\r' | 0)) {
            return Ok(());
        }
        match reader.line(text) {
            Ok(None) => {}
            Ok(Some(ours)) => {
                let from = if lie == Lie::OtherReply { 0 } else { begin };
                reply(&ours, &octets[from..at])?;
                begin = at;
            }
            Err(_) => begin = at,
        }
    }
    Ok(())
}

fn reply(ours: &Reply, octets: &[u8]) -> Told {
    let Ok(theirs) = ResponseReceiver::default().parse(&mut octets.iter()) else { return Ok(()) };
    let lines = theirs.message.split('\n').count();
    if theirs.code == ours.code().number() && lines == ours.lines().len() {
        Ok(())
    } else {
        Err(Broken(format!("{}: {ours:?}, to smtp-proto {theirs:?}", octets.escape_ascii())))
    }
}
