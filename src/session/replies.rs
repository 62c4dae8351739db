//! The catalogue: every reply of ours, said once, with its code, its status and where both come from.
//!
//! Every 2yz, 4yz and 5yz carries an enhanced status of its own class (RFC 2034 §4, RFC 3463), but for the greeting and the replies to EHLO
//! and HELO. One exception to the exception: who has no identity hears the cause with its status whatever was said, EHLO included, because
//! that is mostly the only reply it ever sees. Texts are ASCII (RFC 6531 §3.7.4 allows more only where SMTPUTF8 was asked for), hold what a
//! person can act on, and no secrets. Never: decides which reply is due. Nothing here can fail.

mod refused_upstream;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use refused_upstream::{Asked, refused_upstream};

use crate::identity::NoIdentity;
use crate::mail::{Measure, QueueId, Rate, Window};
use crate::policy::{Offence, Refusal};
use crate::session::{Need, Unidentified};
use crate::smtp::{Code, CommandFault, PathFault, Reply, Status};
use crate::sys::WallTime;
use crate::tls::CertificateFault;

/// A reply of one line with a status.
fn said(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(Code::known(code), Some(Status::known(class, subject, detail)), ascii(text.into()))
}

/// A reply without a status: greeting, EHLO, HELO, 3yz.
fn bare(code: u16, text: impl Into<String>) -> Reply {
    Reply::new(Code::known(code), None, ascii(text.into()))
}

/// What is not ASCII in RFC 6533's way (§3, `\x{E9}`), so that the person still can tell which address is meant.
fn ascii(text: String) -> String {
    if text.is_ascii() {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() {
            plain.push(letter);
        } else {
            plain.push_str(&format!("\\x{{{:X}}}", u32::from(letter)));
        }
    }
    plain
}

// --- Hello and goodbye.

/// The greeting (RFC 5321 §4.2: 220 and our name).
pub fn greeting(hostname: &str) -> Reply {
    bare(220, format!("{hostname} ESMTP sealpost"))
}

/// To EHLO (RFC 5321 §4.1.1.1): our name, then a line for each extension.
pub fn ehlo(hostname: &str, extensions: impl IntoIterator<Item = String>) -> Reply {
    Reply::multiline(Code::known(250), None, std::iter::once(hostname.to_owned()).chain(extensions))
}

/// To HELO (RFC 5321 §4.1.1.1).
pub fn helo(hostname: &str) -> Reply {
    bare(250, hostname)
}

/// EHLO or HELO without a name, or with one that is longer than any (RFC 5321 §4.1.1.1, §4.5.3.1.2).
pub fn helo_name() -> Reply {
    bare(501, "A domain name or an address literal of at most 255 octets must follow")
}

/// The reply as we say it, `hostname`: behind 221 and 421 stands who leaves (RFC 5321 §4.2.3), as behind 220.
pub fn from_here(hostname: &str, reply: Reply) -> Reply {
    if matches!(reply.code().number(), 221 | 421) {
        Reply::new(reply.code(), reply.status(), format!("{hostname} {}", reply.text()))
    } else {
        reply
    }
}

/// To QUIT (RFC 5321 §4.1.1.10).
pub fn bye() -> Reply {
    said(221, (2, 0, 0), "Bye")
}

/// To NOOP (RFC 5321 §4.1.1.9).
pub fn noop() -> Reply {
    said(250, (2, 0, 0), "Nothing done")
}

/// To RSET (RFC 5321 §4.1.1.5).
pub fn reset() -> Reply {
    said(250, (2, 0, 0), "Forgotten")
}

/// To VRFY (RFC 5321 §3.5.3: 252 when the server does not say).
pub fn verify() -> Reply {
    said(252, (2, 5, 0), "Addresses are not verified here; send, and a report will tell")
}

/// To HELP (RFC 5321 §4.1.1.8).
pub fn help() -> Reply {
    let lines = [
        "sealpost relays mail for who presents a known TLS client certificate.",
        "Commands: EHLO HELO AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT",
        "The certificate is the login. AUTH EXTERNAL is there for programs that want it.",
        "Envelope sender, From and Sender must be addresses granted to your certificate.",
        "A refusal says why; your postmaster's log says more.",
    ];
    Reply::multiline(Code::known(214), Some(Status::known(2, 0, 0)), lines.map(str::to_owned))
}

// --- TLS (RFC 3207).

/// To STARTTLS (RFC 3207 §4).
pub fn ready_for_tls() -> Reply {
    said(220, (2, 0, 0), "Ready to start TLS")
}

/// TLS is not possible now (RFC 3207 §4: 454).
pub fn tls_unavailable() -> Reply {
    said(454, (4, 7, 0), "TLS not available now, try later")
}

/// Any other command before TLS (RFC 3207 §4: 530).
pub fn starttls_first() -> Reply {
    said(530, (5, 7, 0), "Must issue a STARTTLS command first")
}

/// STARTTLS inside TLS (RFC 3207 §4.2: not offered again, so out of order).
pub fn tls_already() -> Reply {
    said(503, (5, 5, 1), "TLS is active already")
}

/// Octets where the client had to wait for us: before the greeting, behind STARTTLS, DATA or AUTH (RFC 5321 §4.3.1, RFC 2920 §3.1).
pub fn talked_early() -> Reply {
    said(554, (5, 5, 0), "You spoke out of turn: wait for the reply")
}

// --- No identity.

/// Whether the cause may pass by itself, so that nobody's queued mail should bounce over it.
pub fn passes_by_itself(cause: &Unidentified) -> bool {
    match cause {
        Unidentified::Certificate(CertificateFault::NotYetValid { .. } | CertificateFault::RevocationUnknown)
        | Unidentified::Crowded => true,
        Unidentified::NoCertificate | Unidentified::Roster(_) | Unidentified::Certificate(_) => false,
    }
}

/// Who can't be identified: 554 (RFC 3207 §4.1), or 421 with the same text for what passes by itself.
pub fn unidentified(cause: &Unidentified, now: WallTime) -> Reply {
    let text = unidentified_text(cause, now);
    match cause {
        _ if passes_by_itself(cause) => said(421, (4, 7, 0), text),
        Unidentified::Roster(_) => said(554, (5, 7, 1), text),
        Unidentified::NoCertificate | Unidentified::Certificate(_) | Unidentified::Crowded => {
            said(554, (5, 7, 0), text)
        }
    }
}

/// The same in the mode `defer`: always 421 (RFC 5321 §3.8), for MTAs as clients.
pub fn unidentified_deferred(cause: &Unidentified, now: WallTime) -> Reply {
    said(421, (4, 7, 0), unidentified_text(cause, now))
}

fn unidentified_text(cause: &Unidentified, now: WallTime) -> String {
    match cause {
        Unidentified::NoCertificate => "Client certificate required".to_owned(),
        Unidentified::Certificate(fault) => certificate_text(fault, now),
        Unidentified::Roster(NoIdentity::Unknown) => {
            "Certificate valid, but no identity here is granted to it".to_owned()
        }
        Unidentified::Roster(NoIdentity::Disabled { .. }) => {
            "Certificate valid, but its identity is disabled here".to_owned()
        }
        Unidentified::Roster(NoIdentity::NotVouched { .. }) => {
            "Certificate valid, but its identity may not come by way of this load balancer".to_owned()
        }
        Unidentified::Roster(NoIdentity::Ambiguous { .. }) => {
            "Certificate valid, but two identities of equal rank match it here".to_owned()
        }
        Unidentified::Crowded => "Too many connections of this identity, close some or try later".to_owned(),
    }
}

fn certificate_text(fault: &CertificateFault, now: WallTime) -> String {
    match fault {
        CertificateFault::Untrusted { cause } => format!("Client certificate not trusted: {cause}"),
        CertificateFault::Expired { at } => format!("Client certificate expired on {}", at.rfc3339()),
        CertificateFault::NotYetValid { from } => {
            format!("Client certificate not valid before {} (server time {})", from.rfc3339(), now.rfc3339())
        }
        CertificateFault::Revoked => "Client certificate revoked".to_owned(),
        CertificateFault::RevocationUnknown => {
            "Revocation status of the client certificate is unknown, try later".to_owned()
        }
    }
}

// --- AUTH (RFC 4954).

/// The empty challenge of EXTERNAL (RFC 4422 appendix A, RFC 4954 §4).
pub fn challenge() -> Reply {
    bare(334, "")
}

/// A challenge with words of the mechanism (RFC 4954 §4: base64).
pub fn challenge_with(words: &[u8]) -> Reply {
    bare(334, STANDARD.encode(words))
}

/// Authenticated (RFC 4954 §6).
pub fn authenticated() -> Reply {
    said(235, (2, 7, 0), "Authentication succeeded")
}

/// Not authenticated, one text for whatever reason (RFC 4954 §6).
pub fn authentication_refused() -> Reply {
    said(535, (5, 7, 8), "Authentication credentials invalid")
}

/// A mechanism that is not offered (RFC 4954 §4: 504).
pub fn mechanism_unknown() -> Reply {
    said(504, (5, 5, 4), "Mechanism not offered; EHLO lists those that are")
}

/// AUTH after a successful AUTH (RFC 4954 §4: 503).
pub fn authenticated_already() -> Reply {
    said(503, (5, 5, 1), "Authenticated already")
}

/// AUTH in a transaction (RFC 4954 §4: 503).
pub fn authentication_in_transaction() -> Reply {
    said(503, (5, 5, 1), "No AUTH in a mail transaction; RSET first")
}

/// `*` (RFC 4954 §4: 501).
pub fn authentication_cancelled() -> Reply {
    said(501, (5, 7, 0), "Authentication cancelled")
}

/// What is no base64 (RFC 4954 §4: 501, 5.5.2).
pub fn not_base64() -> Reply {
    said(501, (5, 5, 2), "Cannot decode: base64 expected")
}

/// A line of AUTH over 12,288 octets (RFC 4954 §4, §6: 500 5.5.6).
pub fn authentication_too_long() -> Reply {
    said(500, (5, 5, 6), "Authentication exchange line is too long")
}

/// Nobody could look at the password in time (RFC 4954 §6: 454).
pub fn authentication_unavailable() -> Reply {
    said(454, (4, 7, 0), "Authentication is not possible now, try later")
}

/// Too many failures (RFC 4954 §9 lets a server end it, after three at least; 421 closes, RFC 5321 §3.8).
pub fn authentication_exhausted() -> Reply {
    said(421, (4, 7, 0), "Too many failed authentications")
}

/// A second factor is demanded and was not shown (RFC 4954 §6: 530).
pub fn authentication_required() -> Reply {
    said(530, (5, 7, 0), "Authentication required: a password besides the certificate")
}

// --- Grammar and order.

/// No such command (RFC 5321 §4.2.4: 500).
pub fn unknown_command() -> Reply {
    said(500, (5, 5, 1), "Unknown command; HELP lists them")
}

/// HTTP (421 closes, RFC 5321 §3.8).
pub fn not_http() -> Reply {
    said(421, (4, 7, 0), "This is SMTP; HTTP is not spoken here")
}

/// A command that exists but is not offered here (RFC 5321 §4.2.4: 502).
pub fn not_offered(verb: &str) -> Reply {
    said(502, (5, 5, 1), format!("{verb} is not offered here"))
}

/// A wrong argument (RFC 5321 §4.2.3: 501).
pub fn bad_argument(why: &str) -> Reply {
    said(501, (5, 5, 4), why)
}

/// A parameter with a wrong value (RFC 5321 §4.2.3: 501).
pub fn bad_parameter(keyword: &str, why: &str) -> Reply {
    said(501, (5, 5, 4), format!("Parameter {keyword}: {why}"))
}

/// A wait (HOLDFOR, HOLDUNTIL) beyond the end of the client's certificate, or of a CA above it (RFC 4865 §4.2).
pub fn waits_too_long(ends: WallTime) -> Reply {
    bad_parameter(
        "HOLDFOR or HOLDUNTIL",
        &format!("your certificate, or its CA's, ends before that, on {}", ends.rfc3339()),
    )
}

/// A parameter that asks for more than is promised (RFC 2852 §4: 555).
pub fn parameter_not_kept(keyword: &str, why: &str) -> Reply {
    said(555, (5, 5, 4), format!("Parameter {keyword}: {why}"))
}

/// What a command that can't be read is answered.
pub fn command_fault(fault: &CommandFault) -> Reply {
    match fault {
        CommandFault::Unknown => unknown_command(),
        CommandFault::Argument(why) => bad_argument(why),
        CommandFault::HeloName => helo_name(),
        CommandFault::Sender(fault) => sender_syntax(*fault),
        CommandFault::Recipient(fault) => recipient_syntax(*fault),
        CommandFault::UnknownParameter(keyword) => unknown_parameter(keyword),
        CommandFault::Parameter { keyword, why } => bad_parameter(keyword, why),
        CommandFault::Unkept { keyword, why } => parameter_not_kept(keyword, why),
        CommandFault::Http => not_http(),
        CommandFault::StartTls | CommandFault::Bdat => bad_argument(&fault.to_string()),
    }
}

/// A command line over the limit (RFC 5321 §4.5.3.1.4: 500).
pub fn line_too_long() -> Reply {
    said(500, (5, 5, 2), "Line too long")
}

/// Bare CR, bare LF or NUL (RFC 5321 §2.3.8: only CRLF ends a line).
pub fn disputed(what: &dyn fmt::Display) -> Reply {
    said(550, (5, 5, 2), format!("Found {what}; lines end in CRLF and hold no NUL"))
}

/// A command that needs EHLO first (RFC 5321 §4.1.4: 503).
pub fn ehlo_first() -> Reply {
    said(503, (5, 5, 1), "Send EHLO first")
}

/// RCPT, DATA or BDAT without MAIL, and BDAT behind the last chunk (RFC 3030 §2; RFC 5321 §4.1.4: 503).
pub fn mail_first() -> Reply {
    said(503, (5, 5, 1), "Send MAIL first")
}

/// MAIL in a transaction (RFC 5321 §4.1.4: 503).
pub fn mail_already() -> Reply {
    said(503, (5, 5, 1), "A mail transaction is open already; RSET drops it")
}

/// DATA, or one more recipient, between the chunks of a message (RFC 3030 §2: 503).
pub fn chunks_under_way() -> Reply {
    said(503, (5, 5, 1), "A message is coming by BDAT; go on with it, or RSET")
}

/// DATA or BDAT with no recipient taken (RFC 5321 §3.3: 554).
pub fn no_recipients() -> Reply {
    said(554, (5, 5, 1), "No valid recipients")
}

/// A parameter of MAIL or RCPT that is not offered (RFC 5321 §4.1.1.11: 555).
pub fn unknown_parameter(name: &str) -> Reply {
    said(555, (5, 5, 4), format!("Parameter {name} is not known here"))
}

/// Too many commands that come to nothing (421 closes, RFC 5321 §3.8).
pub fn too_many_idle_commands() -> Reply {
    said(421, (4, 7, 0), "Too many commands that come to nothing")
}

/// Too many refused recipients in one session (421 closes, RFC 5321 §3.8).
pub fn too_many_refused_recipients() -> Reply {
    said(421, (4, 7, 0), "Too many refused recipients")
}

// --- Envelope.

/// To MAIL (RFC 5321 §3.3).
pub fn sender_taken() -> Reply {
    said(250, (2, 1, 0), "Sender ok")
}

/// To MAIL, when the message gets another priority than was asked for (RFC 6710 §4; X.3.6: the number comes first).
pub fn sender_taken_at(priority: i8) -> Reply {
    said(250, (2, 3, 6), format!("{priority} is the priority of this message"))
}

/// To RCPT (RFC 5321 §3.3).
pub fn recipient_taken() -> Reply {
    said(250, (2, 1, 5), "Recipient ok")
}

/// A reverse path that is no address (RFC 5321 §4.2.3: 501; RFC 3463 X.1.7).
pub fn sender_syntax(fault: PathFault) -> Reply {
    said(501, (5, 1, 7), format!("Bad sender address: {fault}"))
}

/// A forward path that is no address (RFC 5321 §4.2.3: 501; RFC 3463 X.1.3).
pub fn recipient_syntax(fault: PathFault) -> Reply {
    said(501, (5, 1, 3), format!("Bad recipient address: {fault}"))
}

/// A sender whose domain is not fully qualified (RFC 6409 §4.2: 554; RFC 3463 X.1.8).
pub fn sender_unqualified(domain: &str) -> Reply {
    said(554, (5, 1, 8), format!("Sender domain {domain} is not fully qualified"))
}

/// A recipient whose domain is not fully qualified (RFC 6409 §4.2: 554; RFC 3463 X.1.2).
pub fn recipient_unqualified(domain: &str) -> Reply {
    said(554, (5, 1, 2), format!("Recipient domain {domain} is not fully qualified"))
}

/// A non-ASCII address without SMTPUTF8 (RFC 6531 §3.5: 553, X.6.7).
pub fn needs_smtputf8() -> Reply {
    said(553, (5, 6, 7), "Non-ASCII address without SMTPUTF8")
}

/// More recipients than the server takes in one message (RFC 5321 §4.5.3.1.10: 452).
pub fn too_many_recipients() -> Reply {
    said(452, (4, 5, 3), "Too many recipients in one message; send the others in another")
}

/// No memory for one more recipient. RFC 5321 §4.5.3.1.10: clients send to whom was refused with 452 in another transaction; RFC 3463 X.3.1.
pub fn no_room_for_recipient() -> Reply {
    said(452, (4, 3, 1), "No room for more recipients now; send the others in another message")
}

/// What policy refused. RFC 6409 §6.1 and §6.2 give 550 5.7.1, §6.3 gives 554 for a bad header, RFC 1870 §6.3 gives 552.
pub fn refused(refusal: &Refusal, identity: &str) -> Reply {
    match &refusal.offence {
        Offence::Sender { address } => said(550, (5, 7, 1), format!("Sender <{address}> not allowed for {identity}")),
        Offence::NullSender => said(550, (5, 7, 1), format!("Sender <> not allowed for {identity}")),
        Offence::Author { field, address } => {
            said(550, (5, 7, 1), format!("{field} <{address}> not allowed for {identity}"))
        }
        Offence::Header { reason } => header_unclear(reason),
        Offence::Recipient { .. } => said(550, (5, 7, 1), "Recipient not permitted for this sender"),
        Offence::NoRoute { .. } => no_route(),
        Offence::TooManyRecipients { limit } => {
            let recipients = if *limit == 1 { "recipient" } else { "recipients" };
            said(550, (5, 7, 1), format!("At most {limit} {recipients} in one message for {identity}"))
        }
        Offence::TooLarge { limit } => {
            said(552, (5, 3, 4), format!("Message too large: {identity} may send {limit} octets"))
        }
        Offence::TooMuch { rate, until } => too_much(*rate, *until, identity),
    }
}

/// No route of the configuration takes this recipient (RFC 3463 X.4.4: unable to route; RFC 5321 §4.2.3: 550 to RCPT).
fn no_route() -> Reply {
    said(550, (5, 4, 4), "No route here for your mail to this recipient; ask your postmaster")
}

/// A limit per hour or per day is reached (RFC 5321 §4.3.2 allows 450, 451, 452 to RCPT, and 451, 452 to MAIL; RFC 3463 X.7.0). Messages are counted
/// at MAIL, recipients at RCPT; what a day may bring is a quota. The time is the first whole second at which there is room.
fn too_much(rate: Rate, until: WallTime, identity: &str) -> Reply {
    let code = match (rate.window, rate.measure) {
        (Window::Day, Measure::Messages | Measure::Recipients) => 452,
        (Window::Hour, Measure::Messages) => 451,
        (Window::Hour, Measure::Recipients) => 450,
    };
    let until = until.after(Duration::from_millis(999)).rfc3339();
    said(code, (4, 7, 0), format!("Limit of {rate} reached for {identity}, come back at {until}"))
}

/// What a server said, as far as it is told on: printable ASCII, and no more than [`QUOTED_MAX`] octets.
fn quoted(reply: &Reply) -> String {
    let mut text: String =
        ascii(reply.text()).chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    text.truncate(QUOTED_MAX);
    text
}

/// Octets of a server's text that are told on.
const QUOTED_MAX: usize = 200;

/// No upstream of the recipient's route offers what it needs (RFC 6531 §3.5: X.6.7, with 553 as for an address that can't be used; RFC 8689 §4.2.1: X.7.30).
pub fn lacking(need: Need) -> Reply {
    match need {
        Need::Utf8Address => said(553, (5, 6, 7), "Non-ASCII address, and no server on the way out takes any"),
        Need::RequireTls => said(550, (5, 7, 30), "REQUIRETLS, and no server on the way out keeps to it"),
    }
}

// --- The message.

/// To DATA (RFC 5321 §4.1.1.4).
pub fn send_data() -> Reply {
    bare(354, "Send the message, end it with CRLF.CRLF")
}

/// To a chunk that is not the last (RFC 3030 §2). It promises nothing.
pub fn chunk_taken(octets: u64) -> Reply {
    said(250, (2, 0, 0), format!("Chunk taken, {octets} octets so far"))
}

/// Custody is taken (RFC 5321 §6.1): the only reply that promises anything.
pub fn kept(id: QueueId) -> Reply {
    said(250, (2, 0, 0), format!("Accepted, id={id}"))
}

/// Custody is taken, and it goes on at the moment that was asked for (RFC 4865 §4).
pub fn waits(id: QueueId, until: WallTime) -> Reply {
    said(250, (2, 0, 0), format!("Accepted, to be sent on at {}, id={id}", until.rfc3339()))
}

/// Custody is taken, and an operator decides when it goes on (RFC 5321 §6.1 asks for no more).
pub fn held(id: QueueId) -> Reply {
    said(250, (2, 0, 0), format!("Accepted, held for approval, id={id}"))
}

/// An upstream has it (cut-through): the same promise, and theirs to keep.
pub fn relayed(id: QueueId, reply: &Reply) -> Reply {
    said(250, (2, 0, 0), format!("Relayed, id={id}; upstream said: {} {}", reply.code(), quoted(reply)))
}

/// What the upstream would not take, for a reason that begins with its status (RFC 1870 §6.1: 552 for what is too large).
pub fn not_for_the_upstream(reason: &str) -> Reply {
    let known = reason.split_once(' ').and_then(|(status, text)| Some((status.parse::<Status>().ok()?, text)));
    let (status, text) = known.unwrap_or((Status::known(5, 0, 0), reason));
    let code = if status == Status::known(5, 3, 4) { 552 } else { 554 };
    Reply::new(Code::known(code), Some(status), ascii(text.to_owned()))
}

/// A header that can't be judged (RFC 6409 §6.3: 554; RFC 3463 X.6.0).
pub fn header_unclear(reason: &str) -> Reply {
    said(554, (5, 6, 0), reason)
}

/// A header section over the limit (RFC 3463 X.6.0).
pub fn header_too_large(limit: usize) -> Reply {
    said(554, (5, 6, 0), format!("Header section larger than {limit} octets"))
}

/// A line of the message over the limit (RFC 5321 §4.5.3.1.6 asks for 1,000 octets at least; RFC 3463 X.6.0).
pub fn data_line_too_long(limit: usize) -> Reply {
    said(554, (5, 6, 0), format!("A line of the message is longer than {limit} octets"))
}

/// Larger than the server takes (RFC 1870 §6.1, §6.3: 552; RFC 3463 X.3.4).
pub fn too_large(limit: u64) -> Reply {
    said(552, (5, 3, 4), format!("Message too large: at most {limit} octets"))
}

/// Over so many hops (RFC 5321 §6.3; RFC 3463 X.4.6).
pub fn loops(limit: usize) -> Reply {
    said(554, (5, 4, 6), format!("Mail loop: more than {limit} Received fields"))
}

/// No room, or the store fails: come again (RFC 5321 §4.2.3: 452; RFC 3463 X.3.1).
pub fn no_room() -> Reply {
    said(452, (4, 3, 1), "Cannot keep the message now, try later")
}

/// The identity has as much here as one may have (RFC 5321 §4.2.3: 452; RFC 3463 X.3.1).
pub fn share_used_up(identity: &str) -> Reply {
    said(452, (4, 3, 1), format!("Too much mail of {identity} is here already, try later"))
}

/// What the message was judged by at MAIL does not hold any more; the next MAIL is judged by what does (RFC 5321 §4.2.3: 450; RFC 3463 X.7.1).
pub fn regranted(identity: &str) -> Reply {
    said(450, (4, 7, 1), format!("What {identity} may send has changed, send the message again"))
}

// --- Leaving, 421 (RFC 5321 §3.8).

/// Shutting down (RFC 3463 X.3.2).
pub fn shutting_down() -> Reply {
    said(421, (4, 3, 2), "Shutting down, try again soon")
}

/// Not open yet after a start (RFC 3463 X.3.2).
pub fn starting() -> Reply {
    said(421, (4, 3, 2), "Starting, come again in a minute")
}

/// No more connections, or no more in this minute (RFC 3463 X.7.0).
pub fn too_many_connections() -> Reply {
    said(421, (4, 7, 0), "Too many connections, try later")
}

/// Idle too long, too slow, or too old (RFC 5321 §4.5.3.2.7; RFC 3463 X.4.2).
pub fn timed_out(what: &str) -> Reply {
    said(421, (4, 4, 2), what)
}

/// We are at fault, and say no more on the wire (RFC 3463 X.3.0).
pub fn our_fault() -> Reply {
    said(421, (4, 3, 0), "Internal fault, try later")
}

#[cfg(test)]
mod tests;
