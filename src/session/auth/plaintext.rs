//! PLAIN (RFC 4616) and LOGIN: a user and a password, inside TLS.
//!
//! LOGIN was never specified; programs know it by its two prompts. Never: looks at the password.

use super::{Attempt, Challenge, Checking, Mechanism, Question, Secret, Session, State, Step, User, replies};

impl Session {
    /// `[authzid] NUL authcid NUL passwd` (RFC 4616 §2).
    pub(super) fn plain(&mut self, message: &[u8]) -> Step {
        let fields: Vec<&[u8]> = message.split(|&octet| octet == 0).collect();
        let [authzid, user, password] = fields.as_slice() else {
            return self.authentication_failed(replies::authentication_refused(), "PLAIN takes three fields");
        };
        self.check(Mechanism::Plain, user, authzid, password)
    }

    /// The first answer, or the initial response: some programs save a turn.
    pub(super) fn login_user(&mut self, user: &[u8]) -> Step {
        self.challenge(Challenge::LoginPassword(Secret::new(user.to_vec())), replies::challenge_with(b"Password:"))
    }

    pub(super) fn login_password(&mut self, user: &Secret, password: &[u8]) -> Step {
        self.check(Mechanism::Login, user.expose(), b"", password)
    }

    fn check(&mut self, mechanism: Mechanism, user: &[u8], authzid: &[u8], password: &[u8]) -> Step {
        let name = prepared(user);
        let (named, shown) = (self.named(name.as_bytes(), authzid), User::shown(user, authzid));
        let password = Secret::new(password.to_vec());
        let question = Question::Authenticate(Attempt::Password { named, user: name.clone(), password });
        self.state = State::Checking(Checking::Password(mechanism, User { named, name, shown }));
        Step::Ask(question)
    }
}

/// RFC 4616 §2: names are prepared before they are compared; what can't be is nobody's name.
fn prepared(user: &[u8]) -> String {
    crate::credentials::prep::prepared(user).map(|user| user.to_string()).unwrap_or_default()
}
