//! Whether anything was heard of an upstream lately, and the word to the operator when not: long before the deadlines of RFC 5321 §4.5.3.2,
//! which are made for patience, end an attempt.
//!
//! A sign is a reply, an address that is tried, octets of the message that it takes. Told once per attempt; when attempt after attempt goes
//! so, loudly. Never: ends an attempt; the courier does, where something else can be done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::alarms::Voice;
use super::blame::Phase;
use super::examination::{Negotiated, REPLIES_MAX};
use crate::smtp::Reply;

/// For so long nothing is heard of an upstream before the log says so.
pub const UNANSWERED: Duration = Duration::from_secs(60);

/// For so long an upstream that has just got a message is heard once nobody waits any longer.
const LAST_WORD: Duration = Duration::from_secs(2);

/// So many attempts in a row without an answer are an alarm.
pub const UNANSWERED_ALARM: u32 = 3;

/// What was last heard and seen in one attempt; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    seen: Arc<Mutex<Seen>>,
    /// Whether the session is ready for mail.
    ready: Arc<watch::Sender<bool>>,
    /// None where somebody waits at any time.
    last_call: Option<LastCall>,
}

/// Whether nobody waits any longer for what comes behind the final dot: the daemon ends.
pub(super) type LastCall = watch::Receiver<bool>;

#[derive(Debug)]
struct Seen {
    at: Instant,
    phase: Phase,
    /// Since when it is waited for there.
    since: Instant,
    /// Octets of the message that it has taken off our hands, of the last one that was begun to be sent.
    sent: u64,
    said: Option<Reply>,
    /// All of it, where somebody wants to see it.
    record: Option<Record>,
}

/// Where an attempt is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What is waited for.
    pub phase: Phase,
    /// For so long.
    pub lasts: Duration,
    /// For so long nothing was heard of the upstream: no reply, nor did it take octets.
    pub silent: Duration,
    /// Octets of the message that were sent.
    pub sent: u64,
}

/// What was said and agreed on.
#[derive(Debug, Default)]
struct Record {
    replies: Vec<(Phase, Reply)>,
    tls: Option<Negotiated>,
}

impl Signs {
    /// An attempt begins.
    pub(super) fn new() -> Self {
        let at = present();
        let seen = Seen { at, phase: Phase::Lookup, since: at, sent: 0, said: None, record: None };
        Self { seen: Arc::new(Mutex::new(seen)), ready: Arc::new(watch::Sender::new(false)), last_call: None }
    }

    /// The same, of an attempt whose outcome has to be known at the last call.
    pub(super) fn until(self, last_call: LastCall) -> Self {
        Self { last_call: Some(last_call), ..self }
    }

    /// Whether the last call has come: nothing is begun any more whose end nobody could hear.
    pub(super) fn is_last_called(&self) -> bool {
        self.last_call.as_ref().is_some_and(|called| *called.borrow())
    }

    /// Comes [`LAST_WORD`] behind the last call. Cancel-safe.
    pub(super) async fn last_call(&self) {
        let Some(mut called) = self.last_call.clone() else { return std::future::pending().await };
        if called.wait_for(|called| *called).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_WORD).await;
    }

    /// The same, and what is said is kept, up to [`REPLIES_MAX`] replies.
    pub(super) fn recording() -> Self {
        let signs = Self::new();
        signs.lock().record = Some(Record::default());
        signs
    }

    /// What was kept.
    pub(super) fn recorded(&self) -> (Vec<(Phase, Reply)>, Option<Negotiated>) {
        let record = self.lock().record.take().unwrap_or_default();
        (record.replies, record.tls)
    }

    /// TLS was made.
    pub(super) fn secured(&self, negotiated: impl FnOnce() -> Negotiated) {
        let mut seen = self.lock();
        seen.at = present();
        if let Some(record) = &mut seen.record {
            record.tls = Some(negotiated());
        }
    }

    /// The upstream gave a sign.
    pub(super) fn heard(&self) {
        self.lock().at = present();
    }

    /// It took so many octets.
    pub(super) fn took(&self, octets: usize) {
        let mut seen = self.lock();
        seen.at = present();
        if seen.phase == Phase::Body {
            seen.sent = seen.sent.saturating_add(u64::try_from(octets).unwrap_or(u64::MAX));
        }
    }

    /// Where it is waited for, for whoever asks meanwhile.
    pub(super) fn look(&self) -> Sight {
        let (now, seen) = (present(), self.lock());
        Sight {
            phase: seen.phase,
            lasts: now.saturating_duration_since(seen.since),
            silent: now.saturating_duration_since(seen.at),
            sent: seen.sent,
        }
    }

    /// It said this.
    pub(super) fn said(&self, reply: Option<&Reply>) {
        let mut seen = self.lock();
        seen.at = present();
        let phase = seen.phase;
        if let (Some(record), Some(reply)) = (&mut seen.record, reply)
            && record.replies.len() < REPLIES_MAX
        {
            record.replies.push((phase, reply.clone()));
        }
        seen.said = reply.cloned().or_else(|| seen.said.take());
    }

    /// From now on it is waited for here. Beyond MAIL, that was answered: so also a connection that was kept is found to be ready for mail.
    pub(super) fn waits_at(&self, phase: Phase) {
        let mut seen = self.lock();
        if seen.phase != phase {
            (seen.phase, seen.since) = (phase, present());
            if phase == Phase::Body {
                seen.sent = 0;
            }
        }
        drop(seen);
        if phase > Phase::Mail {
            self.is_ready();
        }
    }

    /// Whether no message was begun.
    pub(super) fn is_before_mail(&self) -> bool {
        self.lock().phase < Phase::Mail
    }

    /// The session is ready for mail.
    pub(super) fn is_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Comes when the session is ready for mail. Cancel-safe.
    pub(super) async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        if ready.wait_for(|is_ready| *is_ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether nothing was heard for so long, and no message was begun.
    pub(super) fn hangs_before_mail(&self, silence: Duration) -> Option<Phase> {
        let seen = self.lock();
        (seen.phase < Phase::Mail && seen.at + silence <= present()).then_some(seen.phase)
    }

    /// Waits until nothing has been heard for [`UNANSWERED`].
    pub(super) async fn silence(&self) {
        loop {
            let until = self.lock().at + UNANSWERED;
            if until <= present() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Tells the operator. `row`: how many attempts in a row went so.
    pub(super) fn tell(&self, upstream: &str, message: &str, row: u32, voice: Voice) {
        let seen = self.lock();
        let seconds = UNANSWERED.as_secs();
        let phase = seen.phase.words();
        let said = seen.said.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
        drop(seen);
        if voice == Voice::Alarm {
            tracing::error!(
                upstream,
                id = message,
                phase,
                said_last = said,
                attempts_in_a_row = row,
                "an upstream leaves attempt after attempt without an answer for {seconds} s; look into its log; mail waits"
            );
        } else {
            tracing::warn!(
                upstream,
                id = message,
                phase,
                said_last = said,
                attempts_in_a_row = row,
                "an upstream has not answered for {seconds} s; it is waited for"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The present by tokio's clock, which a test may hold or push on.
pub(super) fn present() -> Instant {
    tokio::time::sleep(Duration::ZERO).deadline()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::Code;

    /// How long after the sign the silence is noticed.
    async fn noticed_after(sign: impl Fn(&Signs)) -> Duration {
        let signs = Signs::new();
        tokio::time::sleep(UNANSWERED - Duration::from_secs(1)).await;
        sign(&signs);
        let signed = present();
        signs.silence().await;
        present() - signed
    }

    #[tokio::test(start_paused = true)]
    async fn each_sign_pushes_the_minute_on_and_waiting_is_none() {
        let reply = Reply::new(Code::known(250), None, "ok");
        assert_eq!(noticed_after(Signs::heard).await, UNANSWERED, "octets that it takes");
        assert_eq!(noticed_after(|signs| signs.said(Some(&reply))).await, UNANSWERED, "a reply");
        assert_eq!(noticed_after(|signs| signs.said(None)).await, UNANSWERED, "a part of one");
        assert_eq!(noticed_after(|signs| signs.waits_at(Phase::Mail)).await, Duration::from_secs(1), "we wait");
    }

    /// What an operator sees: a further reply at the same step begins nothing anew, the next step does, and so does a further message.
    #[tokio::test(start_paused = true)]
    async fn how_long_a_step_lasts_and_how_much_was_taken_in_it_is_seen() {
        let signs = Signs::new();
        let seen = || {
            let Sight { phase, lasts, silent, sent } = signs.look();
            (phase, lasts.as_secs(), silent.as_secs(), sent)
        };
        let second = || tokio::time::sleep(Duration::from_secs(1));
        second().await;
        assert_eq!(seen(), (Phase::Lookup, 1, 1, 0));
        signs.waits_at(Phase::Recipient);
        second().await;
        signs.said(None);
        signs.waits_at(Phase::Recipient);
        second().await;
        assert_eq!(seen(), (Phase::Recipient, 2, 1, 0));
        signs.took(6);
        assert_eq!(seen(), (Phase::Recipient, 2, 0, 0), "a command is no message");
        for _ in 0..2 {
            signs.waits_at(Phase::Body);
            signs.took(10);
            second().await;
            signs.took(5);
            assert_eq!(seen(), (Phase::Body, 1, 0, 15));
            signs.waits_at(Phase::EndOfData);
            second().await;
            assert_eq!(seen(), (Phase::EndOfData, 1, 1, 15));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_begins_with_mail() {
        for (phase, is_before) in [
            (Phase::Lookup, true),
            (Phase::Auth, true),
            (Phase::Reset, true),
            (Phase::Mail, false),
            (Phase::Recipient, false),
            (Phase::EndOfData, false),
        ] {
            let signs = Signs::new();
            signs.waits_at(phase);
            assert_eq!(signs.is_before_mail(), is_before, "{phase:?}");
            let is_ready = tokio::time::timeout(Duration::ZERO, signs.ready()).await.is_ok();
            assert_eq!(is_ready, phase > Phase::Mail, "{phase:?}");
            assert_eq!(signs.hangs_before_mail(UNANSWERED), None, "{phase:?}");
            signs.silence().await;
            assert_eq!(signs.hangs_before_mail(UNANSWERED), is_before.then_some(phase), "{phase:?}");
        }
    }
}
