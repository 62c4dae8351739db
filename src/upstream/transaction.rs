//! One message in the dialogue: its commands, and where each recipient stands.
//!
//! Decided here: which parameters are said (only those whose extension is offered), what can't be sent at all (RFC 1870 §6.1, RFC 6531 §3.5,
//! RFC 6152 §3), whether it goes by DATA or by BDAT, and what each reply makes of each recipient. Never: decides whose fault a reply is (`blame`
//! does), holds the message.
//!
//! By BDAT (RFC 3030) the message is one chunk, the last, whose count we know. Behind its RCPTs it may be sent ahead like any command (§4.2); since an
//! octet that is sent can't be called back, only a message of [`CHUNK_AHEAD_MAX`] goes ahead of the replies to its recipients, and all of it is
//! then one round trip. Until the reply to such a chunk is read, a connection that breaks leaves everybody undetermined who was not refused before.
//!
//! The next message's MAIL does not go behind the end of this one, though RFC 2920 §3.1 lets the message's content be the first of a group: what
//! came of this one is to be recorded before another depends on the same connection, the two are claims of their own, and connections side by
//! side hide the round trip that it would save.
//!
//! A reason that this relay itself gives for a failure begins with its enhanced status, as a reply's text does (RFC 2034 §4), so that the report
//! can carry it.

use std::collections::VecDeque;

use super::attempt::{Attempt, FaultCause, Undertaking, UpstreamFault};
use super::blame::{Judgement, Phase};
use super::dialog::{Characters, Contents, Expect, Form, Look};
use super::settings::{Chunking, EightBit, Manner};
use crate::mail::Recipient;
use crate::queue::Outcome;
use crate::smtp::Reply;
use crate::smtp::extension::{Extension, Offered};

mod lines;
mod order;

use lines::{mail_command, recipient_command};
use order::Extent;
pub use order::Order;

/// Why a message that demands TLS does not go to an upstream whose certificate nobody looks at (RFC 8689 §4.2.1).
pub(super) const UPSTREAM_NOT_PROVED: &str =
    "5.7.10 the message demands TLS all the way (REQUIRETLS), and the upstream's certificate is not verified";

/// Octets of a message that goes ahead of the replies to its recipients, by BDAT: small enough for the buffers of both sides (RFC 2920 §3.1), and
/// nothing much when nobody is taken.
pub(super) const CHUNK_AHEAD_MAX: u64 = 32 * 1024;

/// What can be said of an order when the upstream's extensions are known.
#[derive(Debug)]
pub(super) enum Planned {
    /// Nothing is to be sent: everybody's outcome is known.
    Settled(Box<Attempt>),
    /// It depends on what the message is made of: whether SMTPUTF8 is to be asked for, or can't be; whether octets over 127 are in it.
    Look(Box<Transaction>, Look),
    /// It can be sent.
    Go(Box<Transaction>),
}

/// Whether SMTPUTF8 is asked for: only when an address or a header needs it (RFC 6531 §3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Utf8 {
    NotNeeded,
    Needed,
}

/// What is to be said next.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) octets: Vec<u8>,
    pub(super) expect: Vec<Expect>,
    /// The last of it is BDAT: the message goes behind it.
    pub(super) has_chunk: bool,
}

/// Where a recipient stands.
#[derive(Clone, Debug)]
enum Stand {
    Open,
    Accepted,
    /// Not in this transaction (RFC 5321 §4.5.3.1.10).
    TooMany(Reply),
    /// Not taken, for a reason that is ours or the upstream's; another upstream may be tried.
    Free(Outcome),
    Settled(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyStand {
    NotYet,
    Sending,
    DotSent,
}

/// What follows when all commands are answered.
#[derive(Debug)]
pub(super) enum Sequel {
    /// A further transaction, for those who were too many for this one; and what this one came to.
    Further(Box<Transaction>, Box<Attempt>),
    /// Nothing: everybody has an outcome.
    Concluded(Box<Attempt>),
}

/// One message under way.
#[derive(Debug)]
pub(super) struct Transaction {
    order: Order,
    stands: Vec<Stand>,
    commands: VecDeque<(Expect, String)>,
    sender_refused: bool,
    body: BodyStand,
    undertaking: Undertaking,
    utf8: Utf8,
    form: Form,
    /// Whether the chunk went ahead of replies to recipients.
    chunk_is_ahead: bool,
    /// Whether MAIL is said, or about to be.
    is_begun: bool,
    /// What is wrong with the upstream, found in a reply behind which more must be read.
    fault: Option<UpstreamFault>,
    /// What came of the earlier transactions of the same order.
    earlier: Attempt,
}

impl Transaction {
    fn new(order: Order, earlier: Attempt) -> Self {
        Self {
            stands: vec![Stand::Open; order.recipients.len()],
            order,
            commands: VecDeque::new(),
            sender_refused: false,
            body: BodyStand::NotYet,
            undertaking: Undertaking::default(),
            utf8: Utf8::NotNeeded,
            form: Form::AsItIs,
            chunk_is_ahead: false,
            is_begun: false,
            fault: None,
            earlier,
        }
    }

    pub(super) fn plan(order: Order, offered: &Offered, manner: Manner) -> Planned {
        if let Some(reason) = order.lacks(offered) {
            let places: Vec<usize> = order.recipients.iter().map(|&(place, _)| place).collect();
            return Planned::Settled(Box::new(Attempt::unable(&places, &reason)));
        }
        let mut transaction = Self::new(order, Attempt::default());
        transaction.settle_what_is_too_large(offered);
        if !offered.has(Extension::SmtpUtf8) {
            transaction.settle_addresses_not_taken();
        } else if !transaction.order.is_ascii() {
            transaction.utf8 = Utf8::Needed;
        }
        if transaction.is_settled() {
            return Planned::Settled(Box::new(transaction.conclude()));
        }
        Box::new(transaction).look_first(offered, manner)
    }

    /// Looked at before it goes, where what it is made of matters to this upstream.
    fn look_first(self: Box<Self>, offered: &Offered, manner: Manner) -> Planned {
        let asks_of_header = self.order.parameters.smtputf8 && self.utf8 == Utf8::NotNeeded;
        let look = match (offered.has(Extension::EightBitMime), manner.eight_bit) {
            (false, EightBit::Encode) => Some(Look::Encoding),
            (false, EightBit::Report) => Some(Look::Whole),
            (true, _) | (false, EightBit::SendAnyway) => asks_of_header.then_some(Look::Headers),
        };
        match look {
            Some(look) => Planned::Look(self, look),
            None => Planned::Go(self),
        }
    }

    // While its client waits.

    /// A transaction whose recipients come one by one.
    pub(super) fn growing(order: Order, offered: &Offered) -> Self {
        let utf8 = order.parameters.smtputf8 && offered.has(Extension::SmtpUtf8);
        Self { utf8: if utf8 { Utf8::Needed } else { Utf8::NotNeeded }, ..Self::new(order, Attempt::default()) }
    }

    /// One more recipient; all before it are answered for. Behind a refused sender it is refused in the same words.
    pub(super) fn add(&mut self, place: usize, recipient: Recipient) {
        let of_the_sender = self.stands.first().filter(|_| self.sender_refused).cloned();
        self.stands.push(of_the_sender.unwrap_or(Stand::Open));
        self.order.recipients.push((place, recipient));
    }

    /// What was said of the last recipient, unless it was taken.
    pub(super) fn said_of_last(&self) -> Option<Outcome> {
        match self.stands.last()? {
            Stand::Accepted => None,
            Stand::Settled(outcome) | Stand::Free(outcome) => Some(outcome.clone()),
            Stand::TooMany(reply) => Some(too_many(reply)),
            Stand::Open => Some(unanswered()),
        }
    }

    /// Whether more recipients may come, or the message.
    pub(super) fn is_growing(&self) -> bool {
        self.order.extent == Extent::Growing
    }

    /// All recipients are answered for; the message is there, and of so many octets.
    pub(super) fn grown(mut self: Box<Self>, octets: u64, offered: &Offered, manner: Manner) -> Planned {
        (self.order.extent, self.order.octets) = (Extent::Whole, octets);
        self.settle_what_is_too_large(offered);
        if self.has_accepted() { self.look_first(offered, manner) } else { Planned::Settled(Box::new(self.conclude())) }
    }

    fn is_settled(&self) -> bool {
        self.stands.iter().all(|stand| matches!(stand, Stand::Settled(_)))
    }

    /// What the message is made of, as far as it was asked.
    pub(super) fn seen(mut self: Box<Self>, contents: Contents, offered: &Offered, manner: Manner) -> Planned {
        // RFC 6531 §3.2: at whatever level the header stands.
        let whose = match (contents.header, contents.parts) {
            (Characters::Beyond, _) => Some("its header"),
            (Characters::Ascii, Characters::Beyond) => Some("the header of a part of it"),
            (Characters::Ascii, Characters::Ascii) => None,
        };
        if let Some(whose) = whose.filter(|_| self.order.parameters.smtputf8) {
            if offered.has(Extension::SmtpUtf8) {
                self.utf8 = Utf8::Needed;
            } else {
                self.utf8_header_not_taken(whose);
            }
        }
        // A header goes beyond ASCII by SMTPUTF8 alone.
        let header = contents.header == Characters::Beyond && self.utf8 == Utf8::NotNeeded;
        let is_too_wide = (contents.body == Characters::Beyond || header) && !offered.has(Extension::EightBitMime);
        match (is_too_wide, manner.eight_bit, contents.encoded) {
            (true, EightBit::Encode, Some(Ok(octets))) => {
                (self.form, self.order.octets, self.order.size) = (Form::SevenBit, octets, Some(octets));
                self.settle_what_is_too_large(offered);
            }
            (true, EightBit::Encode, Some(Err(why))) => {
                self.eight_bit_not_taken(&format!(", and can't be encoded: {why}"))
            }
            (true, EightBit::Encode, None) => {
                self.eight_bit_not_taken(", and can't be encoded: its header section holds them")
            }
            (true, EightBit::Report, _) => self.eight_bit_not_taken(""),
            (true, EightBit::SendAnyway, _) | (false, _, _) => {}
        }
        if self.is_settled() { Planned::Settled(Box::new(self.conclude())) } else { Planned::Go(self) }
    }

    /// RFC 1870 §6.1: a message over the announced limit need not be tried. A limit of 0 is none (§4).
    fn settle_what_is_too_large(&mut self, offered: &Offered) {
        let octets = self.order.octets;
        if let Some(limit) = offered.size_limit().filter(|&limit| limit > 0 && octets > limit) {
            self.settle_open(&failed(format!(
                "5.3.4 the message has {octets} octets, and the upstream takes at most {limit}"
            )));
        }
    }

    /// RFC 6531 §3.5: an internationalized address can't go where SMTPUTF8 is not offered.
    fn settle_addresses_not_taken(&mut self) {
        if !self.order.reverse_path.as_str().is_ascii() {
            let reason = "5.6.7 the sender's address needs SMTPUTF8, which the upstream does not offer";
            self.settle_open(&failed(reason.to_owned()));
        }
        for ((_, recipient), stand) in self.order.recipients.iter().zip(&mut self.stands) {
            if matches!(stand, Stand::Open) && !recipient.forward_path.as_str().is_ascii() {
                let reason = "5.6.7 the recipient's address needs SMTPUTF8, which the upstream does not offer";
                *stand = Stand::Settled(failed(reason.to_owned()));
            }
        }
    }

    /// RFC 6531 §3.5, RFC 6532: the content itself needs SMTPUTF8.
    fn utf8_header_not_taken(&mut self, whose: &str) {
        let reason = format!(
            "5.6.9 the message holds UTF-8 in {whose}, which needs SMTPUTF8, which the upstream does not offer"
        );
        self.settle_open(&failed(reason));
    }

    /// RFC 6152 §3: encoded, or not sent.
    fn eight_bit_not_taken(&mut self, why: &str) {
        let reason = format!(
            "5.6.3 the message holds octets over 127, which need 8BITMIME, which the upstream does not offer{why}"
        );
        self.settle_open(&failed(reason));
    }

    fn settle_open(&mut self, outcome: &Outcome) {
        self.settle(outcome, |stand| matches!(stand, Stand::Open | Stand::Accepted));
    }

    fn settle(&mut self, outcome: &Outcome, which: impl Fn(&Stand) -> bool) {
        for stand in self.stands.iter_mut().filter(|stand| which(stand)) {
            *stand = Stand::Settled(outcome.clone());
        }
    }

    // Commands.

    pub(super) fn queue_commands(&mut self, stained: bool, offered: &Offered, manner: Manner) {
        if !std::mem::replace(&mut self.is_begun, true) {
            self.undertaking =
                Undertaking { reports: offered.has(Extension::Dsn), deadline: offered.has(Extension::DeliverBy) };
            if stained {
                self.commands.push_back((Expect::Reset, "RSET".to_owned()));
            }
            let mail = mail_command(&self.order, self.utf8, offered, manner.submitter);
            self.commands.push_back((Expect::Mail, mail));
        }
        for (place, ((_, recipient), stand)) in self.order.recipients.iter().zip(&self.stands).enumerate() {
            if matches!(stand, Stand::Open) {
                self.commands.push_back((Expect::Recipient(place), recipient_command(recipient, self.utf8, offered)));
            }
        }
        if self.is_growing() {
            return;
        }
        let by_chunk = offered.has(Extension::Chunking) && manner.chunking == Chunking::WhenOffered;
        self.commands.push_back(if by_chunk {
            (Expect::Chunk, format!("BDAT {} LAST", self.order.octets))
        } else {
            (Expect::Data, "DATA".to_owned())
        });
    }

    /// In which form the message is to be sent, and its octets in it.
    pub(super) fn form(&self) -> (Form, u64) {
        (self.form, self.order.octets)
    }

    /// At most `window` commands, with what they expect; none when there is nothing left to say.
    pub(super) fn next_commands(&mut self, window: usize) -> Batch {
        let only_the_message_is_left = matches!(self.commands.front(), Some((Expect::Data | Expect::Chunk, _)));
        if self.sender_refused || (only_the_message_is_left && !self.has_accepted()) {
            self.commands.clear();
        }
        let mut batch = Batch { octets: Vec::new(), expect: Vec::new(), has_chunk: false };
        while let Some((what, line)) = self.commands.pop_front_if(|(what, _)| {
            let is_early = *what == Expect::Chunk && !batch.expect.is_empty();
            // Behind RSET nothing goes ahead: while its reply is waited for, no message is begun, and other upstreams may be asked.
            let may_be_early = self.order.octets <= CHUNK_AHEAD_MAX && !batch.expect.contains(&Expect::Reset);
            batch.expect.len() < window && (!is_early || may_be_early)
        }) {
            batch.octets.extend_from_slice(line.as_bytes());
            batch.octets.extend_from_slice(b"\r\n");
            batch.has_chunk = what == Expect::Chunk;
            self.chunk_is_ahead |= batch.has_chunk && !batch.expect.is_empty();
            batch.expect.push(what);
        }
        batch
    }

    // Replies.

    pub(super) fn sender_is_refused(&self) -> bool {
        self.sender_refused
    }

    pub(super) fn has_accepted(&self) -> bool {
        self.stands.iter().any(|stand| matches!(stand, Stand::Accepted))
    }

    /// Whether what is expected was asked before the answer became known: nobody's outcome hangs on it.
    pub(super) fn is_past(&self, expect: Expect) -> bool {
        let is_recipient = matches!(expect, Expect::Recipient(_));
        let is_message = matches!(expect, Expect::Data | Expect::Chunk);
        (is_recipient && self.sender_refused) || (is_message && (self.sender_refused || !self.has_accepted()))
    }

    pub(super) fn mail(&mut self, judgement: Judgement, reply: &Reply) {
        if let Some(outcome) = refusal(Phase::Mail, judgement, reply) {
            self.sender_refused = true;
            self.settle_open(&outcome);
        }
    }

    pub(super) fn recipient(&mut self, place: usize, judgement: Judgement, reply: Reply) {
        let Some(stand) = self.stands.get_mut(place).filter(|stand| matches!(stand, Stand::Open)) else {
            return;
        };
        *stand = match refusal(Phase::Recipient, judgement, &reply) {
            Some(outcome) => Stand::Settled(outcome),
            None if judgement == Judgement::TooMany => Stand::TooMany(reply),
            None => Stand::Accepted,
        };
    }

    /// Whether the message is on its way although not all of its recipients are answered for: what comes of it must be heard, whatever is found
    /// wrong before.
    pub(super) fn must_be_heard_out(&self, expect: Expect) -> bool {
        self.chunk_is_ahead && matches!(expect, Expect::Mail | Expect::Recipient(_))
    }

    /// A reply to MAIL or RCPT refuses us, and the chunk is under way: the others may be taken, and their outcome is yet to come.
    pub(super) fn refuses_us(&mut self, expect: Expect, fault: UpstreamFault) {
        let outcome = Outcome::Deferred { reason: fault.sentence(), reply: fault.reply().cloned() };
        self.sender_refused |= expect == Expect::Mail;
        for (place, stand) in self.stands.iter_mut().enumerate() {
            let is_meant = expect == Expect::Mail || expect == Expect::Recipient(place);
            if is_meant && matches!(stand, Stand::Open) {
                *stand = Stand::Free(outcome.clone());
            }
        }
        self.fault.get_or_insert(fault);
    }

    pub(super) fn data_refused(&mut self, judgement: Judgement, reply: &Reply) {
        if let Some(outcome) = refusal(Phase::Data, judgement, reply) {
            self.settle_accepted(&outcome);
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.body == BodyStand::Sending
    }

    pub(super) fn has_sent_all(&self) -> bool {
        self.body == BodyStand::DotSent
    }

    pub(super) fn send_body(&mut self) {
        self.body = BodyStand::Sending;
    }

    /// From here on the upstream may have the message without our knowing.
    pub(super) fn send_dot(&mut self) {
        self.body = BodyStand::DotSent;
    }

    /// The reply to the final dot: only here is anything delivered.
    pub(super) fn end(&mut self, judgement: Judgement, reply: &Reply) {
        if judgement == Judgement::Proceed {
            self.settle_accepted(&Outcome::Delivered { reply: reply.clone() });
        } else if let Some(outcome) = refusal(Phase::EndOfData, judgement, reply) {
            self.settle_accepted(&outcome);
        }
    }

    fn settle_accepted(&mut self, outcome: &Outcome) {
        self.settle(outcome, |stand| matches!(stand, Stand::Accepted));
    }

    // Endings.

    /// The further transaction for those who were too many, or the outcomes. Each further one needs a delivery by the one before, so
    /// there are never more than recipients.
    pub(super) fn sequel(mut self: Box<Self>) -> Sequel {
        let delivered = |stand: &Stand| matches!(stand, Stand::Settled(Outcome::Delivered { .. }));
        if self.fault.is_some()
            || !self.stands.iter().any(delivered)
            || !self.stands.iter().any(|stand| matches!(stand, Stand::TooMany(_)))
        {
            return Sequel::Concluded(Box::new(self.conclude()));
        }
        let left = self.order.recipients.iter().zip(&self.stands);
        let left = left.filter(|(_, stand)| matches!(stand, Stand::TooMany(_))).map(|(recipient, _)| recipient.clone());
        let order = Order { recipients: left.collect(), ..self.order.clone() };
        let earlier = std::mem::take(&mut self.earlier);
        let brought = self.outcomes(&unanswered());
        let further = Self::new(order, joined(earlier, brought.clone()));
        Sequel::Further(Box::new(Self { utf8: self.utf8, form: self.form, ..further }), Box::new(brought))
    }

    /// Who may have it, and nothing was said of them yet.
    pub(super) fn perhaps(&self) -> Attempt {
        let places = self.order.recipients.iter().zip(&self.stands);
        let undetermined: Vec<usize> =
            places.filter(|(_, stand)| self.may_have_it(stand)).map(|((place, _), _)| *place).collect();
        let outcomes = undetermined.iter().map(|&place| (place, unheard_of())).collect();
        Attempt { outcomes, undetermined, ..Attempt::default() }
    }

    /// Whether whoever stands so may have it when its end was sent and nothing came.
    fn may_have_it(&self, stand: &Stand) -> bool {
        match stand {
            Stand::Accepted => true,
            // The chunk went ahead of the reply to this one, which may have been a yes.
            Stand::Open => self.chunk_is_ahead,
            Stand::Settled(_) | Stand::TooMany(_) | Stand::Free(_) => false,
        }
    }

    pub(super) fn conclude(mut self) -> Attempt {
        let earlier = std::mem::take(&mut self.earlier);
        let mut attempt = self.outcomes(&unanswered());
        let places = self.order.recipients.iter().zip(&self.stands);
        attempt.free =
            places.filter(|(_, stand)| matches!(stand, Stand::Free(_))).map(|((place, _), _)| *place).collect();
        attempt.fault = self.fault;
        joined(earlier, attempt)
    }

    /// The dialogue ended in the middle. What was settled stays settled; the rest is deferred, and when the final dot was sent and no
    /// readable answer came, nobody knows whether the upstream has it (RFC 5321 §4.5.3.2.6).
    pub(super) fn broken_off(mut self, fault: UpstreamFault) -> Attempt {
        let undetermined = self.body == BodyStand::DotSent && leaves_in_the_dark(&fault.cause);
        let reason = if undetermined {
            format!("{}; it may have taken the message", fault.sentence())
        } else {
            fault.sentence()
        };
        let left = Outcome::Deferred { reason, reply: fault.reply().cloned() };
        let mut attempt = self.outcomes(&left);
        for ((place, _), stand) in self.order.recipients.iter().zip(&self.stands) {
            if undetermined && self.may_have_it(stand) {
                attempt.undetermined.push(*place);
            } else if !matches!(stand, Stand::Settled(_)) {
                attempt.free.push(*place);
            }
        }
        attempt.fault = Some(fault);
        joined(std::mem::take(&mut self.earlier), attempt)
    }

    fn outcomes(&self, otherwise: &Outcome) -> Attempt {
        let outcome = |stand: &Stand| match stand {
            Stand::Settled(outcome) | Stand::Free(outcome) => outcome.clone(),
            Stand::TooMany(reply) => too_many(reply),
            Stand::Open | Stand::Accepted => otherwise.clone(),
        };
        let places = self.order.recipients.iter().map(|&(place, _)| place);
        let outcomes = places.zip(self.stands.iter().map(outcome)).collect();
        Attempt { outcomes, undertaking: self.undertaking, ..Attempt::default() }
    }
}

fn joined(mut earlier: Attempt, later: Attempt) -> Attempt {
    earlier.followed_by(later);
    earlier
}

fn failed(reason: String) -> Outcome {
    Outcome::Failed { reason, reply: None }
}

fn too_many(reply: &Reply) -> Outcome {
    let reason = "the upstream takes no more recipients in one transaction".to_owned();
    Outcome::Deferred { reason, reply: Some(reply.clone()) }
}

fn unanswered() -> Outcome {
    Outcome::Deferred { reason: "the upstream gave no answer for this recipient".to_owned(), reply: None }
}

/// What is known while the answer to the end of the message is waited for.
fn unheard_of() -> Outcome {
    let reason = "the upstream was given the whole message and had not answered yet; it may have taken it".to_owned();
    Outcome::Deferred { reason, reply: None }
}

/// What a refusing reply makes of those it speaks of; `None` when it refuses nobody.
fn refusal(phase: Phase, judgement: Judgement, reply: &Reply) -> Option<Outcome> {
    let what = phase.words();
    match judgement {
        Judgement::Later => Some(Outcome::Deferred {
            reason: format!("the upstream does not take {what} at the moment"),
            reply: Some(reply.clone()),
        }),
        Judgement::Never => {
            Some(Outcome::Failed { reason: format!("the upstream refused {what}"), reply: Some(reply.clone()) })
        }
        Judgement::Proceed
        | Judgement::TooMany
        | Judgement::Busy
        | Judgement::Broken
        | Judgement::Over
        | Judgement::Unexpected => None,
    }
}

/// Whether, after the final dot, a fault leaves open what became of the message. A refusal in so many words does not.
fn leaves_in_the_dark(cause: &FaultCause) -> bool {
    let is_refusal = |reply: &Reply| reply.code().is_transient() || reply.code().is_permanent();
    let is_out_of_step = matches!(cause, FaultCause::UnexpectedReply(reply) if is_refusal(reply));
    !is_out_of_step
        && !matches!(
            cause,
            FaultCause::Leaves(_) | FaultCause::RefusesUs(_) | FaultCause::Busy(_) | FaultCause::NoChunking(_)
        )
}

#[cfg(test)]
mod tests;
