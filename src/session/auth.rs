//! AUTH EXTERNAL (RFC 4954, RFC 4422 appendix A): for programs that want to log in although the certificate has said all.
//!
//! The authorization identity may be empty, the identity's own name, or an address that is granted to it literally (not by a wildcard): AUTH
//! can narrow nothing and widen nothing. Every failure has one text. Never: looks a password up, keeps what was sent.

use super::secured::{Introduction, Session, State};
use super::{Decision, Step, Subject, replies};
use crate::identity::Identity;
use crate::mail::Address;
use crate::mail::trace::Authentication;
use crate::smtp::{AuthAnswer, AuthOctets, LineFault, Reply};

/// The one mechanism.
pub const EXTERNAL: &str = "EXTERNAL";

impl Session {
    /// AUTH outside a transaction (the table has seen to that).
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<AuthOctets>) -> Step {
        if self.authentication == Authentication::Auth {
            return self.idle(replies::authenticated_already());
        }
        // AUTH is an extension: who said HELO does not know that we have it (RFC 4954 §3).
        let Some(Introduction::Ehlo(_)) = self.introduction else { return self.idle(replies::ehlo_first()) };
        if !mechanism.eq_ignore_ascii_case(EXTERNAL) {
            return self.idle(replies::mechanism_unknown());
        }
        match initial {
            Some(authzid) => self.external(authzid.expose()),
            None => {
                self.state = State::Challenged;
                Step::Challenge(replies::challenge())
            }
        }
    }

    /// The line after 334 (RFC 4954 §4).
    pub(super) fn auth_response(&mut self, line: Result<&[u8], LineFault>) -> Step {
        self.state = State::Idle;
        match line {
            Ok(line) => match AuthAnswer::parse(line) {
                Ok(AuthAnswer::Response(authzid)) => self.external(authzid.expose()),
                Ok(AuthAnswer::Cancel) => {
                    self.authentication_failed(replies::authentication_cancelled(), "cancelled by the client")
                }
                Err(_) => self.not_base64(),
            },
            Err(_) => self.authentication_failed(replies::authentication_too_long(), "line too long"),
        }
    }

    /// In the response or in the initial response (RFC 4954 §4).
    pub(super) fn not_base64(&mut self) -> Step {
        self.authentication_failed(replies::not_base64(), "not base64")
    }

    fn external(&mut self, authzid: &[u8]) -> Step {
        if speaks_for(&self.identity, authzid) {
            self.authentication = Authentication::Auth;
            self.say(replies::authenticated())
        } else {
            let cause = format!("EXTERNAL as \"{}\"", authzid.escape_ascii());
            self.authentication_failed(replies::authentication_refused(), &cause)
        }
    }

    /// One failure more; the reply, unless it was one too many (RFC 4954 §4 advises a limit on guesses).
    fn authentication_failed(&mut self, reply: Reply, cause: &str) -> Step {
        self.authentication_failures = self.authentication_failures.saturating_add(1);
        let one_too_many = self.authentication_failures > self.settings.auth_failures_max;
        let reply = if one_too_many { replies::authentication_exhausted() } else { reply };
        self.decide(Decision::refused(Subject::Authentication, reply.clone(), cause));
        if one_too_many { self.close(reply) } else { self.say(reply) }
    }
}

/// Whether the identity is, or literally may be, what is asked for.
fn speaks_for(identity: &Identity, authzid: &[u8]) -> bool {
    if authzid.is_empty() || authzid == identity.name().as_bytes() {
        return true;
    }
    let Some(address) = std::str::from_utf8(authzid).ok().and_then(|text| Address::parse(text).ok()) else {
        return false;
    };
    let grant = identity.grant();
    grant.send_as.names(&address.canonical(grant.local_part_case))
}
