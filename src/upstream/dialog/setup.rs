//! From the greeting to a session that is ready for mail: EHLO, STARTTLS, EHLO again, AUTH (RFC 5321 §3.1, RFC 3207, RFC 4954).
//!
//! Never: goes on in plaintext where TLS is demanded; keeps what was learned before TLS; says a password outside demanded TLS.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use super::{AuthStep, Dialog, Expect, Stage, Step, TlsTerm};
use crate::smtp::extension::{Extension, Offered};
use crate::smtp::line::{COMMAND_LINE_MAX, LineReader};
use crate::smtp::reply::{Reply, ReplyReader};
use crate::upstream::attempt::FaultCause;
use crate::upstream::blame::Phase;
use crate::upstream::settings::Credentials;

impl Dialog {
    pub(super) fn hello(&mut self) -> Step {
        let ehlo = format!("EHLO {}", self.terms.helo);
        self.say(&ehlo, Expect::Ehlo)
    }

    pub(super) fn greeted(&mut self, offered: Offered) -> Step {
        self.offered = offered;
        let has_starttls = self.offered.has(Extension::StartTls);
        match self.terms.tls {
            TlsTerm::Demanded | TlsTerm::IfOffered if self.inside_tls => self.authenticate_or_rest(),
            TlsTerm::Demanded | TlsTerm::IfOffered if has_starttls => self.say("STARTTLS", Expect::StartTls),
            TlsTerm::Demanded => self.fail_at(Phase::StartTls, FaultCause::TlsNotOffered),
            TlsTerm::IfOffered | TlsTerm::Never | TlsTerm::FromTheStart => self.authenticate_or_rest(),
        }
    }

    /// The 220 to STARTTLS must be the last plaintext octet (RFC 3207 §4.2): what stands behind it would be read as if it came inside TLS.
    pub(super) fn start_tls(&mut self) -> Step {
        if !self.lines.buffered().is_empty() {
            return self.fail_at(Phase::StartTls, FaultCause::Injected);
        }
        self.stage = Stage::StartingTls;
        Step::StartTls
    }

    /// Nothing learned in plaintext is kept (RFC 3207 §4.2).
    pub(super) fn begin_anew_inside_tls(&mut self) -> Step {
        self.stage = Stage::Setup;
        self.inside_tls = true;
        self.offered = Offered::default();
        self.lines = LineReader::new();
        self.replies = ReplyReader::default();
        self.hello()
    }

    pub(super) fn authenticate_or_rest(&mut self) -> Step {
        let Some(credentials) = self.terms.credentials.clone() else {
            return self.rest();
        };
        let demanded = matches!(self.terms.tls, TlsTerm::Demanded | TlsTerm::FromTheStart);
        if !(self.inside_tls && demanded) {
            return self.fail_at(Phase::Auth, FaultCause::CredentialsInTheClear);
        }
        let offers = |name: &str| self.offered.auth_mechanisms().iter().any(|offer| offer.eq_ignore_ascii_case(name));
        if offers("PLAIN") {
            self.auth_plain(&credentials)
        } else if offers("LOGIN") {
            self.say("AUTH LOGIN", Expect::Auth(AuthStep::LoginUser))
        } else {
            let offered = self.offered.auth_mechanisms().to_vec();
            self.fail_at(Phase::Auth, FaultCause::NoMechanism(offered))
        }
    }

    fn auth_plain(&mut self, credentials: &Credentials) -> Step {
        let response = plain_response(credentials);
        let line = Zeroizing::new(format!("AUTH PLAIN {}\r\n", *response));
        // RFC 4954 §4: a line too long for a command (RFC 5321 §4.5.3.1.4) goes behind a prompt.
        if line.len() > COMMAND_LINE_MAX {
            return self.say("AUTH PLAIN", Expect::Auth(AuthStep::PlainPrompt));
        }
        self.say_all(Zeroizing::new(line.as_bytes().to_vec()), &[Expect::Auth(AuthStep::Verdict)])
    }

    pub(super) fn auth(&mut self, step: AuthStep, reply: Reply) -> Step {
        let is_prompt = reply.code().is_intermediate();
        let Some(credentials) = self.terms.credentials.clone() else {
            return self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply));
        };
        let (response, next) = match (step, is_prompt) {
            (AuthStep::Verdict, false) => return self.rest(),
            (AuthStep::PlainPrompt, true) => (plain_response(&credentials), AuthStep::Verdict),
            (AuthStep::LoginUser, true) => (base64(credentials.username().as_bytes()), AuthStep::LoginPassword),
            (AuthStep::LoginPassword, true) => (base64(credentials.password().reveal().as_bytes()), AuthStep::Verdict),
            (AuthStep::Verdict, true)
            | (AuthStep::PlainPrompt | AuthStep::LoginUser | AuthStep::LoginPassword, false) => {
                return self.fail_at(Phase::Auth, FaultCause::UnexpectedReply(reply));
            }
        };
        let mut octets = Zeroizing::new(Vec::with_capacity(response.len() + 2));
        octets.extend_from_slice(response.as_bytes());
        octets.extend_from_slice(b"\r\n");
        self.say_all(octets, &[Expect::Auth(next)])
    }

    fn rest(&mut self) -> Step {
        self.stage = Stage::Idle;
        if self.lines.buffered().is_empty() { Step::Ready } else { self.unasked(&[]) }
    }

    pub(super) fn can_do_without_extensions(&self) -> bool {
        self.terms.credentials.is_none() && (self.inside_tls || self.terms.tls != TlsTerm::Demanded)
    }
}

/// RFC 4616 §2: `authzid NUL authcid NUL passwd`, the authzid empty.
fn plain_response(credentials: &Credentials) -> Zeroizing<String> {
    let clear = Zeroizing::new(format!("\0{}\0{}", credentials.username(), credentials.password().reveal()));
    base64(clear.as_bytes())
}

fn base64(clear: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE64.encode(clear))
}
