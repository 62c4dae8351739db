//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS in AUTH (RFC 5802, RFC 7677); the exchange itself is `credentials::scram`.
//!
//! The server's final message goes in a 334, since 235 has no place for it, and the client answers with an empty line (RFC 4954 §4). Never:
//! says which check failed.

use super::{Attempt, Challenge, Checking, Mechanism, Proof, Question, Session, Shown, State, Step, User, replies};
use crate::credentials::Ground;
use crate::credentials::scram::{Binding, ClientFirst, Exchange};

/// What waits for the ground of an exchange.
#[derive(Debug)]
pub(in crate::session) struct Founding {
    mechanism: Mechanism,
    first: ClientFirst,
    binding: Binding,
    user: User,
}

impl Session {
    /// The client's first message: who it is, and what it says of channel binding.
    pub(super) fn scram_first(&mut self, mechanism: Mechanism, message: &[u8]) -> Step {
        let binding = match (mechanism, self.means.exporter()) {
            (Mechanism::ScramSha256Plus, Some(value)) => Binding::Bound(value.clone()),
            _ if self.means.offers(Mechanism::ScramSha256Plus) => Binding::Declined,
            _ => Binding::NotOffered,
        };
        match ClientFirst::read(message, &binding) {
            Ok(first) => {
                let named = self.named(first.user.as_bytes(), first.authzid.as_bytes());
                let question = Question::ScramGround { named, user: first.user.clone() };
                let shown = User::shown(first.user.as_bytes(), first.authzid.as_bytes());
                let user = User { named, name: first.user.clone(), shown };
                self.state = State::Founding(Box::new(Founding { mechanism, first, binding, user }));
                Step::Ask(question)
            }
            Err(fault) => {
                let cause = format!("{}: {fault}", mechanism.name());
                self.authentication_failed(replies::authentication_refused(), &cause)
            }
        }
    }

    /// What it stands on, and our part of the nonce.
    pub(in crate::session) fn scram_ground(&mut self, ground: Ground, nonce: &str) -> Step {
        let State::Founding(founding) = std::mem::replace(&mut self.state, State::Idle) else {
            return self.our_fault();
        };
        let Founding { mechanism, first, binding, user } = *founding;
        let exchange = first.answer(ground, binding, nonce);
        let prompt = replies::challenge_with(exchange.server_first().as_bytes());
        self.challenge(Challenge::ScramFinal(mechanism, Box::new(exchange), user), prompt)
    }

    /// The client's final message: the proof. Right or wrong, it is counted before it is answered.
    pub(super) fn scram_final(
        &mut self,
        mechanism: Mechanism,
        exchange: &Exchange,
        user: User,
        message: &[u8],
    ) -> Step {
        let (outcome, server_final) = match exchange.finish(message) {
            Ok((proof, server_final)) => (Ok(proof), Some(server_final)),
            Err(fault) => (Err(fault), None),
        };
        let attempt = Attempt::Scram { named: user.named, user: user.name.clone(), outcome };
        self.state = State::Checking(Checking::Scram(mechanism, user, server_final));
        Step::Ask(Question::Authenticate(attempt))
    }

    /// The empty line behind the server's final message.
    pub(super) fn scram_seen(&mut self, mechanism: Mechanism, proof: Proof, response: &[u8]) -> Step {
        if response.is_empty() {
            self.authenticated(Shown { mechanism, proof: Some(proof) })
        } else {
            self.authentication_failed(replies::authentication_refused(), "SCRAM: words behind its end")
        }
    }
}
