//! PLAIN (RFC 4616) and LOGIN: a user and a password, inside TLS.
//!
//! LOGIN was never specified; programs know it by its two prompts. Never: looks at the password.

use super::{Attempt, Challenge, Checking, Mechanism, Named, Question, Secret, Session, State, Step, replies};

impl Session {
    /// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).
    pub(super) fn plain(&mut self, message: &[u8]) -> Step {
        let fields: Vec<&[u8]> = message.split(|&octet| octet == 0).collect();
        let [authzid, user, password] = fields.as_slice() else {
            return self.authentication_failed(replies::authentication_refused(), "PLAIN takes three fields");
        };
        let named = self.named(&prepared(user), authzid);
        self.check(Mechanism::Plain, named, password)
    }

    /// The first answer, or the initial response: some programs save a turn.
    pub(super) fn login_user(&mut self, user: &[u8]) -> Step {
        self.challenge(Challenge::LoginPassword(Secret::new(user.to_vec())), replies::challenge_with(b"Password:"))
    }

    pub(super) fn login_password(&mut self, user: &Secret, password: &[u8]) -> Step {
        let named = self.named(&prepared(user.expose()), b"");
        self.check(Mechanism::Login, named, password)
    }

    fn check(&mut self, mechanism: Mechanism, named: Named, password: &[u8]) -> Step {
        self.state = State::Checking(Checking::Password(mechanism));
        Step::Ask(Question::Authenticate(Attempt::Password { named, password: Secret::new(password.to_vec()) }))
    }
}

/// RFC 4616 §2: names are prepared before they are compared; what can't be is nobody's name.
fn prepared(user: &[u8]) -> Vec<u8> {
    crate::credentials::prep::prepared(user).map(|user| user.as_bytes().to_vec()).unwrap_or_default()
}
