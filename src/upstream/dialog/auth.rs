//! AUTH (RFC 4954): which mechanism, and what is said in it.
//!
//! | mechanism                     | we say                                   | the server                                          |
//! |-------------------------------|------------------------------------------|-----------------------------------------------------|
//! | SCRAM-SHA-256, -PLUS          | first, final, an empty line              | first, its signature, 235 only behind a right one    |
//! | OAUTHBEARER, XOAUTH2          | user and token                           | 235; or why not, an empty answer, and then 535       |
//! | PLAIN, EXTERNAL               | all at once                              | 235                                                 |
//! | LOGIN                         | the user, the password, each when asked  | 235                                                 |
//!
//! The strongest that is offered and that our credentials serve; one that is set (`auth`) and no other. Whatever goes wrong here says nothing
//! about a message. Never: says anything of credentials outside demanded TLS; believes a SCRAM server that has not proved that it knows the
//! password; shows a token or a password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::scram::{Begun, Binding, Derived, ServerFault};
use super::{AuthStep, Dialog, Expect, Step, TlsTerm};
use crate::smtp::line::COMMAND_LINE_MAX;
use crate::smtp::reply::{Code, Reply};
use crate::upstream::attempt::FaultCause;
use crate::upstream::blame::Phase;
use crate::upstream::settings::{Credentials, Mechanism};

/// Octets of what a server says against a token that are shown.
const TOKEN_WORDS_MAX: usize = 200;

/// A challenge (RFC 4954 §4).
const CHALLENGE: Code = Code::known(334);

/// Where an exchange of more than one line is.
#[derive(Debug, Default)]
pub(super) enum Exchange {
    #[default]
    None,
    ScramBegun(Begun),
    ScramDerived(Derived),
    /// The server has said why it does not take the token.
    TokenRefused(String),
}

/// Characters of a secret by which it is found in a reply, and fewer of which are none.
const SECRET_HEAD: usize = 8;
const SECRET_LEAST: usize = 4;

/// What was said at AUTH, as it was said.
#[derive(Default)]
pub(super) struct Said(Vec<Zeroizing<String>>);

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Said(..)")
    }
}

impl Dialog {
    pub(super) fn authenticate_or_rest(&mut self) -> Step {
        let Some(credentials) = self.terms.credentials.clone() else {
            return self.rest();
        };
        let demanded = matches!(self.terms.tls, TlsTerm::Demanded | TlsTerm::FromTheStart);
        if !(self.inside_tls && demanded) {
            return self.fail_at(Phase::Auth, FaultCause::CredentialsInTheClear);
        }
        match credentials.mechanisms().find(|&mechanism| self.can_use(mechanism)) {
            Some(mechanism) => self.authenticate(mechanism, &credentials),
            None => {
                let offered = self.offered.auth_mechanisms().to_vec();
                let wanted = credentials.mechanisms().map(Mechanism::name).collect();
                self.fail_at(Phase::Auth, FaultCause::NoMechanism { offered, wanted })
            }
        }
    }

    fn can_use(&self, mechanism: Mechanism) -> bool {
        let can_bind = mechanism != Mechanism::ScramSha256Plus || self.exporter.is_some();
        can_bind && self.offers(mechanism)
    }

    fn offers(&self, mechanism: Mechanism) -> bool {
        self.offered.auth_mechanisms().iter().any(|offer| offer.eq_ignore_ascii_case(mechanism.name()))
    }

    fn authenticate(&mut self, mechanism: Mechanism, credentials: &Credentials) -> Step {
        let name = mechanism.name();
        let Some(response) = self.initial_response(mechanism, credentials) else {
            return self.say(&format!("AUTH {name}"), Expect::Auth(AuthStep::LoginUser));
        };
        self.said.0.push(response.clone());
        let line = Zeroizing::new(format!("AUTH {name} {}\r\n", *response));
        // RFC 4954 §4: a line too long for a command (RFC 5321 §4.5.3.1.4) goes behind a prompt.
        if line.len() > COMMAND_LINE_MAX {
            return self.say(&format!("AUTH {name}"), Expect::Auth(AuthStep::Prompt(mechanism)));
        }
        self.say_all(Zeroizing::new(line.as_bytes().to_vec()), &[Expect::Auth(after_response(mechanism))])
    }

    /// What goes with AUTH itself, in base64; LOGIN has nothing there.
    fn initial_response(&mut self, mechanism: Mechanism, credentials: &Credentials) -> Option<Zeroizing<String>> {
        let user = credentials.username();
        let password = credentials.password().map(|password| password.reveal()).unwrap_or_default();
        let token = self.terms.fresh.token.as_ref().map(|token| token.reveal()).unwrap_or_default();
        let clear = match mechanism {
            Mechanism::Login => return None,
            // RFC 4616 §2: authzid NUL authcid NUL passwd, the authzid empty.
            Mechanism::Plain => format!("\0{user}\0{password}"),
            // RFC 7628 §3.1; host and port are optional there.
            Mechanism::OauthBearer => {
                let user = crate::sasl::scram::written_name(user);
                format!("n,a={user},\u{1}auth=Bearer {token}\u{1}\u{1}")
            }
            Mechanism::Xoauth2 => format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}"),
            // RFC 4954 §4: an empty response is said as an equals sign.
            Mechanism::External if user.is_empty() => return Some(Zeroizing::new("=".to_owned())),
            Mechanism::External => user.to_owned(),
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let begun = Begun::new(user, &self.terms.fresh.nonce, self.binding(mechanism));
                let first = begun.first();
                self.exchange = Exchange::ScramBegun(begun);
                first
            }
        };
        let clear = Zeroizing::new(clear);
        Some(base64(clear.as_bytes()))
    }

    /// RFC 5802 §6: `y` tells a server that offered PLUS that its offer did not reach us.
    fn binding(&self, mechanism: Mechanism) -> Binding {
        match (mechanism, &self.exporter) {
            (Mechanism::ScramSha256Plus, Some(value)) => Binding::Bound(value.clone()),
            (_, Some(_)) if !self.offers(Mechanism::ScramSha256Plus) => Binding::SawNone,
            (_, Some(_) | None) => Binding::None,
        }
    }

    pub(super) fn auth(&mut self, step: AuthStep, reply: Reply) -> Step {
        let Some(credentials) = self.terms.credentials.clone() else {
            return self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply));
        };
        if !reply.code().is_intermediate() {
            return match step {
                AuthStep::Verdict | AuthStep::TokenVerdict(_) => self.rest(),
                AuthStep::ServerFirst | AuthStep::ServerFinal => self.unproven("235 without a proof".to_owned()),
                AuthStep::Prompt(_) | AuthStep::LoginUser | AuthStep::LoginPassword | AuthStep::TokenRefused => {
                    self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply))
                }
            };
        }
        // RFC 4954 §4: what asks further is a 334.
        if reply.code() != CHALLENGE {
            let reply = self.without_said(reply);
            return self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply));
        }
        let password =
            |credentials: &Credentials| base64(credentials.password().map_or(&[], |it| it.reveal().as_bytes()));
        match step {
            AuthStep::Verdict | AuthStep::TokenRefused => {
                let reply = self.without_said(reply).shortened();
                self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply))
            }
            AuthStep::Prompt(mechanism) => {
                let response = self.initial_response(mechanism, &credentials).unwrap_or_default();
                self.respond(&response, after_response(mechanism))
            }
            AuthStep::LoginUser => self.respond(&base64(credentials.username().as_bytes()), AuthStep::LoginPassword),
            AuthStep::LoginPassword => self.respond(&password(&credentials), AuthStep::Verdict),
            AuthStep::ServerFirst => self.server_first(&reply, &credentials),
            AuthStep::ServerFinal => self.server_final(&reply),
            AuthStep::TokenVerdict(mechanism) => {
                self.exchange = Exchange::TokenRefused(self.token_words(&reply));
                // RFC 7628 §3.2.3: one 0x01; XOAUTH2 wants an empty line. Both then say no in so many words.
                let nothing = if mechanism == Mechanism::OauthBearer { "AQ==" } else { "" };
                self.respond(nothing, AuthStep::TokenRefused)
            }
        }
    }

    fn respond(&mut self, response: &str, next: AuthStep) -> Step {
        self.said.0.push(Zeroizing::new(response.to_owned()));
        let mut octets = Zeroizing::new(Vec::with_capacity(response.len().saturating_add(2)));
        octets.extend_from_slice(response.as_bytes());
        octets.extend_from_slice(b"\r\n");
        self.say_all(octets, &[Expect::Auth(next)])
    }

    /// A reply to AUTH without what we said there: many servers repeat a line that they do not understand, and replies go to logs and senders.
    pub(super) fn without_secrets(&self, reply: Reply) -> Reply {
        if matches!(self.expected.front(), Some(Expect::Auth(_))) { self.without_said(reply) } else { reply }
    }

    fn without_said(&self, reply: Reply) -> Reply {
        let Some(credentials) = &self.terms.credentials else { return reply };
        let password = credentials.password().map(|password| password.reveal());
        let token = self.terms.fresh.token.as_ref().map(|token| token.reveal());
        reply.reworded(|line| {
            let said = self.said.0.iter().map(|said| said.as_str());
            said.chain(password).chain(token).fold(line.to_owned(), |line, secret| hidden(&line, secret))
        })
    }

    // SCRAM.

    fn server_first(&mut self, reply: &Reply, credentials: &Credentials) -> Step {
        let (Exchange::ScramBegun(begun), Some(password)) =
            (std::mem::take(&mut self.exchange), credentials.password())
        else {
            return self.unproven(ServerFault::Grammar.to_string());
        };
        match challenge(reply).ok_or(ServerFault::Grammar).and_then(|message| begun.server_first(&message, password)) {
            Ok(derivation) => Step::Derive(derivation),
            Err(fault) => self.unproven(fault.to_string()),
        }
    }

    pub(super) fn derived(&mut self, derived: Derived) -> Step {
        let response = base64(derived.client_final().as_bytes());
        self.exchange = Exchange::ScramDerived(derived);
        self.respond(&response, AuthStep::ServerFinal)
    }

    /// RFC 4954 §4: data that goes with success comes in a last challenge, which an empty line answers.
    fn server_final(&mut self, reply: &Reply) -> Step {
        let Exchange::ScramDerived(derived) = std::mem::take(&mut self.exchange) else {
            return self.unproven(ServerFault::Grammar.to_string());
        };
        match challenge(reply).ok_or(ServerFault::Grammar).and_then(|message| derived.server_final(&message)) {
            Ok(()) => self.respond("", AuthStep::Verdict),
            Err(fault) => self.unproven(fault.to_string()),
        }
    }

    fn unproven(&mut self, what: String) -> Step {
        self.fail_at(Phase::Auth, FaultCause::ServerUnproven(what))
    }

    // Tokens.

    /// What the server says against a token, for people: printable, short, and without the token.
    fn token_words(&self, reply: &Reply) -> String {
        let octets = challenge(reply).unwrap_or_default();
        let text: String = String::from_utf8_lossy(&octets)
            .chars()
            .map(|letter| if letter.is_ascii_graphic() || letter == ' ' { letter } else { '?' })
            .collect();
        let shown = match &self.terms.fresh.token {
            Some(token) => text.replace(token.reveal(), "[token]"),
            None => text,
        };
        shown.chars().take(TOKEN_WORDS_MAX).collect()
    }

    /// The fault of a reply that refuses us at AUTH.
    pub(super) fn refused_at_auth(&mut self, reply: Reply) -> FaultCause {
        match std::mem::take(&mut self.exchange) {
            Exchange::TokenRefused(said) => FaultCause::TokenRefused(reply, said),
            Exchange::None | Exchange::ScramBegun(_) | Exchange::ScramDerived(_) => FaultCause::RefusesUs(reply),
        }
    }
}

/// The text without a secret, or the beginning of one that was cut.
fn hidden(text: &str, secret: &str) -> String {
    let secret = secret.trim_end_matches('=');
    let head: String = secret.chars().take(SECRET_HEAD).collect();
    if head.chars().count() < SECRET_LEAST {
        return text.to_owned();
    }
    let tail = secret.strip_prefix(head.as_str()).unwrap_or_default();
    let mut parts = text.split(head.as_str());
    let mut clear = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clear.push_str("[secret]");
        let same = part.chars().zip(tail.chars()).take_while(|(one, other)| one == other).count();
        clear.extend(part.chars().skip(same));
    }
    clear
}

/// What the reply to a mechanism's first response means.
fn after_response(mechanism: Mechanism) -> AuthStep {
    match mechanism {
        Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => AuthStep::ServerFirst,
        Mechanism::OauthBearer | Mechanism::Xoauth2 => AuthStep::TokenVerdict(mechanism),
        Mechanism::Plain | Mechanism::Login | Mechanism::External => AuthStep::Verdict,
    }
}

/// What stands behind 334.
fn challenge(reply: &Reply) -> Option<Vec<u8>> {
    BASE64.decode(reply.text().trim()).ok()
}

fn base64(clear: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(clear))
}
