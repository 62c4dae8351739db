//! AUTH (RFC 4954): EXTERNAL for programs that want to log in although the certificate has said all, and the second factor where one is demanded.
//!
//! What is offered is what this identity can use ([`Means`]). Whoever is named, as user or to act as, must be the identity: its name, or an
//! address that is granted to it literally (not by a wildcard). AUTH can narrow nothing and widen nothing. Every failure has one text.
//!
//! PLAIN and LOGIN are in `plaintext`, SCRAM in `scram`; here is what they share: where an exchange stands, how it ends, what still counts at
//! MAIL. Never: looks a credential up, hashes a password, keeps what was sent.

mod plaintext;
mod scram;

pub(super) use scram::Founding;

use super::secured::{Introduction, Session, State};
use super::{Attempt, Attempted, Decision, NoRoom, Question, Ruling, Secret, Step, Subject, replies};
use crate::credentials::scram::Exchange;
use crate::credentials::{Means, Mechanism, Named, Proof, Wrong};
use crate::identity::{Identity, SecondFactor};
use crate::mail::trace::Authentication;
use crate::mail::{Address, CanonicalAddress};
use crate::sasl::prep::prepared;
use crate::smtp::{AuthAnswer, InitialResponse, LineFault, NotBase64, Reply};

/// What the next response of the client is.
#[derive(Debug)]
pub(in crate::session) enum Challenge {
    /// EXTERNAL's authorization identity.
    External,
    /// PLAIN's one message.
    Plain,
    /// LOGIN's user.
    LoginUser,
    /// LOGIN's password.
    LoginPassword(Secret),
    /// SCRAM's first message.
    ScramFirst(Mechanism),
    /// SCRAM's final message.
    ScramFinal(Mechanism, Box<Exchange>, User),
    /// Nothing more: the client has seen that we know the password too (RFC 4954 §4: it answers with an empty line).
    ScramSeen(Mechanism, Proof),
}

/// What intake is looking at.
#[derive(Debug)]
pub(in crate::session) enum Checking {
    /// A password.
    Password(Mechanism, User),
    /// The outcome of SCRAM; with the final message to say when it is good.
    Scram(Mechanism, User, Option<String>),
}

/// Letters of a user's name that the log is told.
const USER_SHOWN: usize = 64;

/// The user who was named.
#[derive(Clone, Debug)]
pub(in crate::session) struct User {
    named: Named,
    /// Prepared; empty when it can't be.
    name: String,
    /// As it was given, for the log: escaped, and cut.
    shown: String,
}

impl User {
    /// As it was given, and what it wants to act as.
    fn shown(user: &[u8], authzid: &[u8]) -> String {
        let short = |octets: &[u8]| {
            let text = String::from_utf8_lossy(octets);
            let cut = if text.chars().nth(USER_SHOWN).is_some() { "..." } else { "" };
            let escaped: String = text.chars().take(USER_SHOWN).flat_map(char::escape_debug).collect();
            format!("\"{escaped}{cut}\"")
        };
        if authzid.is_empty() { short(user) } else { format!("{} (to act as {})", short(user), short(authzid)) }
    }

    /// What is wrong, for the log.
    fn told(&self, mechanism: Mechanism, wrong: Wrong) -> String {
        let name = mechanism.name();
        match wrong {
            Wrong::User | Wrong::SomebodyElses | Wrong::Unknown => format!("{name}: {} {wrong}", self.shown),
            Wrong::NoCredential | Wrong::Password | Wrong::Code | Wrong::UsedCode | Wrong::Scram(_) => {
                format!("{name}: {wrong}")
            }
        }
    }
}

/// What has been shown in this session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) mechanism: Mechanism,
    /// None for EXTERNAL, which is no second factor.
    pub(super) proof: Option<Proof>,
}

impl Session {
    /// AUTH outside a transaction (the table has seen to that). What is wrong is said in this order: the session's state, the mechanism (504), and
    /// only of a login that is begun what is in its initial response (501): so no other counts as one that failed.
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&InitialResponse>) -> Step {
        if self.shown.is_some() {
            return self.idle(replies::authenticated_already());
        }
        // AUTH is an extension: who said HELO does not know that we have it (RFC 4954 §3).
        let Some(Introduction::Ehlo(_)) = self.introduction else { return self.idle(replies::ehlo_first()) };
        let offered = Mechanism::of_name(mechanism).filter(|mechanism| self.means.offers(*mechanism));
        let Some(mechanism) = offered else { return self.idle(replies::mechanism_unknown()) };
        let challenge = match mechanism {
            Mechanism::External => Challenge::External,
            Mechanism::Plain => Challenge::Plain,
            Mechanism::Login => Challenge::LoginUser,
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => Challenge::ScramFirst(mechanism),
        };
        match initial {
            Some(response) => match response.read() {
                Ok(response) => self.respond(challenge, response.expose()),
                Err(NotBase64) => self.not_base64(),
            },
            None => {
                let prompt = if mechanism == Mechanism::Login {
                    replies::challenge_with(b"Username:")
                } else {
                    replies::challenge()
                };
                self.challenge(challenge, prompt)
            }
        }
    }

    /// The line after 334 (RFC 4954 §4).
    pub(super) fn auth_response(&mut self, line: Result<&[u8], LineFault>) -> Step {
        let State::Challenged(challenge) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.our_fault();
        };
        match line {
            Ok(line) => match AuthAnswer::parse(line) {
                Ok(AuthAnswer::Response(response)) => self.respond(*challenge, response.expose()),
                Ok(AuthAnswer::Cancel) => {
                    self.authentication_failed(replies::authentication_cancelled(), "cancelled by the client")
                }
                Err(NotBase64) => self.not_base64(),
            },
            Err(_) => self.authentication_failed(replies::authentication_too_long(), "line too long"),
        }
    }

    fn respond(&mut self, challenge: Challenge, response: &[u8]) -> Step {
        match challenge {
            Challenge::External => self.external(response),
            Challenge::Plain => self.plain(response),
            Challenge::LoginUser => self.login_user(response),
            Challenge::LoginPassword(user) => self.login_password(&user, response),
            Challenge::ScramFirst(mechanism) => self.scram_first(mechanism, response),
            Challenge::ScramFinal(mechanism, exchange, user) => self.scram_final(mechanism, &exchange, user, response),
            Challenge::ScramSeen(mechanism, proof) => self.scram_seen(mechanism, proof, response),
        }
    }

    fn challenge(&mut self, challenge: Challenge, prompt: Reply) -> Step {
        self.state = State::Challenged(Box::new(challenge));
        Step::Challenge(prompt)
    }

    /// In the response or in the initial response (RFC 4954 §4).
    fn not_base64(&mut self) -> Step {
        self.authentication_failed(replies::not_base64(), "not base64")
    }

    fn external(&mut self, authzid: &[u8]) -> Step {
        if acts_as(&self.identity, authzid) {
            self.authenticated(Shown { mechanism: Mechanism::External, proof: None })
        } else {
            let cause = format!("EXTERNAL as \"{}\"", authzid.escape_ascii());
            self.authentication_failed(replies::authentication_refused(), &cause)
        }
    }

    /// A password or the outcome of SCRAM has been looked at.
    pub(super) fn attempted(&mut self, outcome: Attempted) -> Step {
        let State::Checking(checking) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.our_fault();
        };
        let (mechanism, user, server_final) = match checking {
            Checking::Password(mechanism, user) => (mechanism, user, None),
            Checking::Scram(mechanism, user, server_final) => (mechanism, user, Some(server_final)),
        };
        match (outcome, server_final) {
            (Attempted::Right(proof), None) => self.authenticated(Shown { mechanism, proof: Some(proof) }),
            (Attempted::Right(proof), Some(Some(server_final))) => {
                let seen = Challenge::ScramSeen(mechanism, proof);
                self.challenge(seen, replies::challenge_with(server_final.as_bytes()))
            }
            (Attempted::Right(_), Some(None)) => {
                let cause = user.told(mechanism, Wrong::Password);
                self.authentication_failed(replies::authentication_refused(), &cause)
            }
            (Attempted::Wrong(wrong), _) => {
                let cause = user.told(mechanism, wrong);
                self.authentication_failed(replies::authentication_refused(), &cause)
            }
            (Attempted::Busy, _) => {
                let reply = replies::authentication_unavailable();
                self.decide(Decision::refused(
                    Subject::Authentication,
                    reply.clone(),
                    "no password could be looked at in time",
                ));
                self.idle(reply)
            }
            (Attempted::TooMany, _) => {
                let reply = replies::authentication_exhausted();
                let cause = "too many failures of this certificate, or from this address";
                self.decide(Decision::refused(Subject::Authentication, reply.clone(), cause));
                self.close(reply)
            }
        }
    }

    /// Authenticated, and the audit is told by which mechanism.
    fn authenticated(&mut self, shown: Shown) -> Step {
        self.shown = Some(shown);
        let ruling = Ruling::Authenticated(shown.mechanism.name());
        self.decide(Decision::new(Subject::Authentication, ruling, String::new()));
        self.say(replies::authenticated())
    }

    /// One failure more; the reply, unless it was one too many (RFC 4954 §9 lets a server end it, after three at least).
    fn authentication_failed(&mut self, reply: Reply, cause: &str) -> Step {
        self.authentication_failures = self.authentication_failures.saturating_add(1);
        let one_too_many = self.authentication_failures > self.settings.auth_failures_max;
        let reply = if one_too_many { replies::authentication_exhausted() } else { reply };
        self.decide(Decision::refused(Subject::Authentication, reply.clone(), cause));
        if one_too_many { self.close(reply) } else { self.say(reply) }
    }

    /// What this identity can authenticate with, as of now: told by intake before the first word and before each answer to `Reidentify`. What
    /// was shown and counts no more (another credential, another factor) is forgotten, and AUTH may be said again.
    pub fn equip(&mut self, means: Means) {
        if self.shown.and_then(|shown| shown.proof).is_some_and(|proof| !means.still_hold(&proof)) {
            self.shown = None;
        }
        self.means = means;
    }

    /// For the Received field.
    pub(super) fn authentication(&self) -> Authentication {
        match self.shown {
            Some(_) => Authentication::Auth,
            None => Authentication::Certificate,
        }
    }

    /// Whether what is demanded besides the certificate has been shown.
    pub(super) fn has_second_factor(&self) -> bool {
        self.has_shown(self.identity.grant().second_factor, &self.means)
    }

    fn has_shown(&self, factor: SecondFactor, means: &Means) -> bool {
        let proof = self.shown.and_then(|shown| shown.proof);
        match factor {
            SecondFactor::None => true,
            // The certificate shown once more (EXTERNAL) is no second factor.
            SecondFactor::Password | SecondFactor::Totp => proof.is_some_and(|proof| means.still_hold(&proof)),
        }
    }

    /// The rule of the second look, at the end of data: whether the message, which was judged by this session's identity, may be kept for
    /// `now`, whom the certificate stands for by this time, with these means.
    ///
    /// # Errors
    /// Why not.
    pub fn still_allows(&self, now: &Identity, means: &Means) -> Result<(), NoRoom> {
        let judged = &self.identity;
        if now.name() != judged.name() || !now.grant().certainly_allows(judged.grant()) {
            return Err(NoRoom::Regranted);
        }
        if self.has_shown(now.grant().second_factor, means) { Ok(()) } else { Err(NoRoom::Unauthenticated) }
    }

    /// The user named in AUTH, held against the identity. Says nothing on the wire: an unknown user goes on as a known one.
    fn named(&self, user: &[u8], authzid: &[u8]) -> Named {
        let itself = !user.is_empty() && acts_as(&self.identity, user) && acts_as(&self.identity, authzid);
        if itself { Named::Itself } else { Named::Another }
    }
}

/// Whether the identity is, or literally may be, what is asked for; nothing asked for is itself. Both sides are prepared by SASLprep, and what can't be, or
/// comes out empty, is nobody (RFC 4954 §4).
fn acts_as(identity: &Identity, authzid: &[u8]) -> bool {
    if authzid.is_empty() {
        return true;
    }
    let Some(asked) = prepared(authzid) else { return false };
    if prepared(identity.name().as_bytes()).is_some_and(|name| *name == *asked) {
        return true;
    }
    let grant = identity.grant();
    let address = |text: &str| Address::parse(text).ok().map(|address| address.canonical(grant.local_part_case));
    let Some(asked) = address(&asked) else { return false };
    // ASCII is prepared as it stands, and was found as it stands.
    let comes_to_it = |granted: &CanonicalAddress| {
        let granted = granted.to_string();
        !granted.is_ascii()
            && prepared(granted.as_bytes()).and_then(|granted| address(&granted)).as_ref() == Some(&asked)
    };
    grant.send_as.names(&asked) || grant.send_as.name_one(comes_to_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_told_who_was_named_and_what_was_wrong() {
        let long = "x".repeat(USER_SHOWN + 1);
        for (user, authzid, wrong, told) in [
            ("mallory", "", Wrong::Unknown, "PLAIN: \"mallory\" is an unknown user"),
            ("bob", "", Wrong::SomebodyElses, "PLAIN: \"bob\" is somebody else's user"),
            ("alice", "bob", Wrong::Unknown, "PLAIN: \"alice\" (to act as \"bob\") is an unknown user"),
            ("a\r\nb\"", "", Wrong::Unknown, "PLAIN: \"a\\r\\nb\\\"\" is an unknown user"),
            (&long, "", Wrong::Unknown, "...\" is an unknown user"),
            ("alice", "", Wrong::Password, "PLAIN: wrong password"),
            ("alice", "", Wrong::Code, "PLAIN: the password is right; the code behind it is wrong"),
            ("alice", "", Wrong::NoCredential, "PLAIN: this identity has no credential"),
        ] {
            let shown = User::shown(user.as_bytes(), authzid.as_bytes());
            let user = User { named: Named::Itself, name: user.to_owned(), shown };
            let line = user.told(Mechanism::Plain, wrong);
            assert!(line.contains(told), "{line}");
            assert!(line.len() < 4 * USER_SHOWN, "{line}");
        }
    }
}
