//! From the greeting to a session that is ready for mail: EHLO, STARTTLS, EHLO again (RFC 5321 §3.1, RFC 3207). AUTH is in [`super::auth`].
//!
//! Never: goes on in plaintext where TLS is demanded; keeps what was learned before TLS.

use super::{Dialog, Expect, Stage, Step, TlsTerm};
use crate::sasl::ExporterValue;
use crate::smtp::extension::{Extension, Offered};
use crate::smtp::line::LineReader;
use crate::smtp::reply::ReplyReader;
use crate::upstream::attempt::FaultCause;
use crate::upstream::blame::Phase;

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
    pub(super) fn begin_anew_inside_tls(&mut self, exporter: Option<ExporterValue>) -> Step {
        self.stage = Stage::Setup;
        self.exporter = exporter;
        self.inside_tls = true;
        self.offered = Offered::default();
        self.lines = LineReader::new();
        self.replies = ReplyReader::default();
        self.hello()
    }

    pub(super) fn rest(&mut self) -> Step {
        self.stage = Stage::Idle;
        if self.lines.buffered().is_empty() { Step::Ready } else { self.unasked(&[]) }
    }

    pub(super) fn can_do_without_extensions(&self) -> bool {
        self.terms.credentials.is_none() && (self.inside_tls || self.terms.tls != TlsTerm::Demanded)
    }
}
