//! A whole dialogue with an upstream that says anything: what we say to it, and what we take from it for an outcome.
//!
//! The first octet says on which terms; the rest is what the upstream says, reply by reply as it is asked, or, where an octet 255 stands in it, piece by
//! piece between those. Beside the machine goes a plain reading that puts each reply to the line that it answers, by counting.

mod scram;

use std::collections::VecDeque;

use sealpost::mail::{
    Address, Envelope, ForwardPath, MailParameters, Notify, Recipient, RecipientParameters, ReversePath,
};
use sealpost::queue::Outcome;
use sealpost::sasl::ExporterValue;
use sealpost::upstream::attempt::{Attempt, FaultCause, UpstreamFault};
use sealpost::upstream::dialog::{
    Characters, Contents, Dialog, Event, Form, Framing, Fresh, Look, Patience, Step, Terms, TlsTerm,
};
use sealpost::upstream::seven_bit::NotEncodable;
use sealpost::upstream::{Chunking, Credentials, EightBit, Manner, Order, Phase, ReplyPattern, Secret, Submitter};

use super::{Broken, Lie, Told, pieces, require, same};
use scram::Exchange;
pub(super) use scram::{NONCE, PASSWORD, USER, answers as scram_answers};

pub(super) const LIES: [Lie; 5] = [
    Lie::UpstreamHearsYes,
    Lie::UpstreamForgetsTls,
    Lie::UpstreamTellsPasswords,
    Lie::UpstreamLosesRecipient,
    Lie::UpstreamBelievesServers,
];

const TOKEN: &str = "ya29.token";
/// What a password and a token begin with in base64, as they are said.
const SECRETS: [&str; 2] = ["AHJlbGF5AHMzY3JldA", "bixhPXJlbGF5LAFhdXRo"];
/// Octets of the message, as MAIL and BDAT say.
const OCTETS: u64 = 77;
/// Steps of a dialogue besides one for each piece that comes.
const STEPS_MAX: usize = 400;
/// Iterations of SCRAM that are computed here; more take long, and are no other.
const ITERATIONS_MAX: u64 = 5000;
/// Marks where what the upstream says is cut.
const CUT: u8 = 255;

/// [`Dialog`], see above.
pub(super) fn upstream(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let Some((&first, said)) = octets.split_first() else { return Ok(()) };
    let whole = Talk::new(first, lie).play(&volleys(said))?;
    if said.contains(&CUT) {
        return Ok(());
    }
    let cut: Vec<Vec<u8>> =
        volleys(said).iter().flat_map(|volley| pieces(volley, seed).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect();
    let cut = Talk::new(first, lie).play(&cut)?;
    same("what is said to replies in pieces", &cut.said, &whole.said)?;
    same("what comes of replies in pieces", &cut.attempt, &whole.attempt)
}

/// What comes at once: a whole reply, or what stands between two marks.
fn volleys(said: &[u8]) -> Vec<Vec<u8>> {
    if said.contains(&CUT) {
        return said.split(|&octet| octet == CUT).filter(|piece| !piece.is_empty()).map(<[u8]>::to_vec).collect();
    }
    let (mut all, mut volley) = (Vec::new(), Vec::new());
    for line in said.split_inclusive(|&octet| octet == b'\n') {
        volley.extend_from_slice(line);
        if line.get(3) != Some(&b'-') {
            all.push(std::mem::take(&mut volley));
        }
    }
    if !volley.is_empty() {
        all.push(volley);
    }
    all
}

/// Who we are to it, by the first octet's third and fourth bit.
fn credentials(first: u8) -> Option<Credentials> {
    match first >> 2 & 3 {
        1 => Credentials::new(USER, Secret::new(PASSWORD)).ok(),
        2 => Credentials::with_token_file(USER, "token".into()).ok(),
        3 => Credentials::by_certificate("").ok(),
        _ => None,
    }
}

fn logs_in_by_password(first: u8) -> bool {
    first >> 2 & 3 == 1
}

fn term(first: u8) -> TlsTerm {
    match first & 3 {
        0 => TlsTerm::Demanded,
        1 => TlsTerm::FromTheStart,
        2 => TlsTerm::IfOffered,
        _ => TlsTerm::Never,
    }
}

fn terms(first: u8, tls: TlsTerm) -> Terms {
    Terms {
        upstream: "main".to_owned(),
        address: None,
        helo: "relay.example.com".to_owned(),
        tls,
        credentials: credentials(first),
        fresh: Fresh { nonce: NONCE.to_owned(), token: Some(Secret::new(TOKEN)) },
        ours: ReplyPattern::known(),
        manner: Manner {
            chunking: if first & 128 == 0 { Chunking::WhenOffered } else { Chunking::Never },
            eight_bit: if first & 64 == 0 { EightBit::default() } else { EightBit::Encode },
            submitter: Submitter::default(),
        },
    }
}

/// To one, two or three, of whom the last asks for reports.
fn order(first: u8) -> Option<Order> {
    let count = usize::from(first >> 4 & 3).clamp(1, 3);
    let recipient = |place: usize| {
        let notify = (place == 2).then_some(Notify { success: true, failure: true, delay: false });
        let forward_path = ForwardPath::Address(Address::parse(&format!("r{place}@example.net")).ok()?);
        Some(Recipient { forward_path, parameters: RecipientParameters { notify, ..RecipientParameters::default() } })
    };
    let sender = ReversePath::Address(Address::parse("alice@example.com").ok()?);
    let envelope = Envelope::new(sender, MailParameters::default(), (0..count).filter_map(recipient).collect())?;
    Some(Order::new(&envelope, &(0..count).collect::<Vec<_>>(), OCTETS))
}

/// What was said, and what is thought to be said next.
struct Talk {
    first: u8,
    lie: Lie,
    dialog: Dialog,
    inside_tls: bool,
    /// Every line, as it went.
    said: Vec<String>,
    /// What waits for a reply: the line; empty is the greeting.
    asked: VecDeque<String>,
    /// All that the upstream has said.
    heard: Vec<u8>,
    /// What came of a reply that is not whole.
    reply: Vec<u8>,
    /// Each line with the code that answered it.
    answered: Vec<(String, u16)>,
    exchange: Exchange,
    begun: bool,
    attempt: Option<Attempt>,
}

impl Talk {
    fn new(first: u8, lie: Lie) -> Self {
        let tls = match lie {
            Lie::UpstreamForgetsTls if term(first) == TlsTerm::Demanded => TlsTerm::IfOffered,
            Lie::UpstreamTellsPasswords => TlsTerm::FromTheStart,
            _ => term(first),
        };
        Self {
            first,
            lie,
            dialog: Dialog::new(terms(first, tls)),
            inside_tls: term(first) == TlsTerm::FromTheStart,
            said: Vec::new(),
            asked: VecDeque::from([String::new()]),
            heard: Vec::new(),
            reply: Vec::new(),
            answered: Vec::new(),
            exchange: Exchange::default(),
            begun: false,
            attempt: None,
        }
    }

    fn play(mut self, volleys: &[Vec<u8>]) -> Result<Self, Broken> {
        let mut coming = volleys.iter();
        let mut step = self.dialog.on(Event::Connected(Some(ExporterValue([7; 32]))));
        for _ in 0..volleys.len() + STEPS_MAX {
            step = match step {
                Step::Send(octets) => {
                    self.say(&octets)?;
                    self.hear(coming.next())
                }
                Step::Read(Patience::Anew | Patience::GoesOn) => self.hear(coming.next()),
                Step::StartTls => {
                    self.inside_tls = true;
                    self.dialog.on(Event::TlsReady(Some(ExporterValue([7; 32]))))
                }
                Step::Derive(derivation) if iterations(&format!("{derivation:?}")) <= ITERATIONS_MAX => {
                    self.dialog.on(Event::Derived(derivation.run()))
                }
                Step::Derive(_) => self.dialog.on(Event::Failed(FaultCause::Closed)),
                Step::Ready => self.begin()?,
                Step::Asked => return Err(Broken("asked about a recipient who was not asked for".to_owned())),
                Step::Look(look) => self.dialog.on(Event::Seen(self.contents(look))),
                Step::SendBody { ahead, form, framing } => {
                    self.say(&ahead)?;
                    self.send_body(form, framing)?
                }
                Step::EndBody => self.hear(coming.next()),
                Step::Done(attempt) => return self.done(attempt),
                Step::Over(fault) => return self.over(&fault),
                Step::Left => return Ok(self),
            };
        }
        Err(Broken("a dialogue without an end".to_owned()))
    }

    /// The session stands: it has the TLS that is demanded, and the login.
    fn begin(&mut self) -> Result<Step, Broken> {
        require("ready without the TLS that is demanded", self.inside_tls || !self.is_tls_demanded())?;
        self.exchange.is_proved()?;
        if std::mem::replace(&mut self.begun, true) {
            return Ok(self.dialog.on(Event::Leave));
        }
        let order = order(self.first).ok_or_else(|| Broken("no order".to_owned()))?;
        Ok(self.dialog.on(Event::Begin(order)))
    }

    fn contents(&self, look: Look) -> Contents {
        let body = if self.first & 64 == 0 { Characters::Ascii } else { Characters::Beyond };
        let encoded = (look == Look::Encoding).then_some(if self.first & 32 == 0 {
            Ok(OCTETS * 2)
        } else {
            Err(NotEncodable("it is signed"))
        });
        Contents { header: Characters::Ascii, parts: Characters::Ascii, body, encoded }
    }

    fn send_body(&mut self, form: Form, framing: Framing) -> Result<Step, Broken> {
        match framing {
            Framing::Dots => self.asked.push_back(".".to_owned()),
            Framing::Count(octets) => {
                let announced = self.said.last().and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
                same("octets that BDAT announces", &announced, &Some(octets))?;
                require("another length", form == Form::SevenBit || octets == OCTETS)?;
            }
        }
        Ok(self.dialog.on(Event::BodyAtEnd))
    }

    fn is_tls_demanded(&self) -> bool {
        matches!(term(self.first), TlsTerm::Demanded | TlsTerm::FromTheStart)
    }

    /// Lines that go out: whole, in the clear only what may be, and each waits for a reply.
    fn say(&mut self, octets: &[u8]) -> Told {
        let text = str::from_utf8(octets).map_err(|_| Broken("what is said is no text".to_owned()))?;
        require("a line that is not whole", text.is_empty() || text.ends_with("\r\n"))?;
        for line in text.split_terminator("\r\n") {
            require(&format!("a line with controls: {line:?}"), !line.chars().any(char::is_control))?;
            let verb = line.split(' ').next().unwrap_or_default();
            let open = self.inside_tls || !self.is_tls_demanded();
            let may_be_said = match verb {
                _ if verb == "AUTH" || self.exchange.is_under_way() => self.inside_tls && self.is_tls_demanded(),
                "EHLO" | "HELO" | "STARTTLS" | "QUIT" => true,
                "MAIL" | "RCPT" | "DATA" | "BDAT" | "RSET" | "." => open,
                _ => false,
            };
            require(&format!("unasked, or in the clear: {verb}"), may_be_said)?;
            self.exchange.say(line);
            self.said.push(line.to_owned());
            self.asked.push_back(line.to_owned());
        }
        Ok(())
    }

    /// What comes next; or nothing more ever.
    fn hear(&mut self, volley: Option<&Vec<u8>>) -> Step {
        let Some(volley) = volley else { return self.dialog.on(Event::Failed(FaultCause::Closed)) };
        let is_end = self.asked.front().is_some_and(|line| is_end(line));
        let no = matches!(volley.first(), Some(b'4' | b'5')) && self.reply.is_empty();
        let is_last_of_login = self.exchange.waits_for_signature();
        self.note(volley);
        let shown = match self.lie {
            Lie::UpstreamHearsYes if no && is_end => b"250 ok\r\n".as_slice(),
            Lie::UpstreamBelievesServers if is_last_of_login => self.exchange.right(),
            _ => volley,
        };
        let shown = shown.get(..self.dialog.room()).unwrap_or(shown).to_vec();
        self.dialog.on(Event::Received(&shown))
    }

    /// Puts replies to what they answer.
    fn note(&mut self, volley: &[u8]) {
        self.heard.extend_from_slice(volley);
        for line in volley.split_inclusive(|&octet| octet == b'\n') {
            self.reply.extend_from_slice(line);
            if !self.reply.ends_with(b"\r\n") {
                continue;
            }
            let last = self.reply.split_inclusive(|&octet| octet == b'\n').next_back().unwrap_or_default();
            if last.get(3) == Some(&b'-') {
                continue;
            }
            let code = last.get(..3).and_then(|code| str::from_utf8(code).ok()?.parse().ok()).unwrap_or(0);
            let text = String::from_utf8_lossy(last.get(4..).unwrap_or_default()).trim_end().to_owned();
            let asked = self.asked.pop_front().unwrap_or_else(|| "nothing".to_owned());
            self.exchange.hear(code, &text);
            self.answered.push((asked, code));
            self.reply.clear();
        }
    }

    fn is_answered(&self, is_line: impl Fn(&str) -> bool, class: u16) -> bool {
        self.answered.iter().any(|(line, code)| is_line(line) && code / 100 == class)
    }

    fn done(mut self, mut attempt: Attempt) -> Result<Self, Broken> {
        if self.lie == Lie::UpstreamLosesRecipient {
            attempt.outcomes.pop();
        }
        let places: Vec<usize> = attempt.outcomes.iter().map(|(place, _)| *place).collect();
        let count = usize::from(self.first >> 4 & 3).clamp(1, 3);
        same("recipients with an outcome", &places, &(0..count).collect())?;
        for (place, outcome) in &attempt.outcomes {
            let is_recipient = |line: &str| line.starts_with(&format!("RCPT TO:<r{place}@"));
            match outcome {
                Outcome::Delivered { reply } => {
                    require("delivered without a word", reply.code().is_positive())?;
                    require("delivered to whom it did not take", self.is_answered(is_recipient, 2))?;
                    require("delivered without a 250 at the end", self.is_answered(is_end, 2))?;
                }
                Outcome::Failed { reply: Some(reply), .. } => {
                    same("class of what fails a recipient", &(reply.code().number() / 100), &5)?;
                    let of_message =
                        |line: &str| is_recipient(line) || line.starts_with("MAIL") || line == "DATA" || is_end(line);
                    require("failed without a refusal", self.is_answered(of_message, 5))?;
                }
                Outcome::Failed { reply: None, .. } | Outcome::Deferred { .. } => {}
            }
            let reason = match outcome {
                Outcome::Delivered { .. } => "",
                Outcome::Deferred { reason, .. } | Outcome::Failed { reason, .. } => reason,
            };
            tellable(reason)?;
        }
        if let Some(fault) = &attempt.fault {
            tellable(&fault.sentence())?;
        }
        self.attempt = Some(attempt);
        Ok(self)
    }

    fn over(mut self, fault: &UpstreamFault) -> Result<Self, Broken> {
        tellable(&fault.sentence())?;
        if fault.phase == Phase::Auth {
            // Where a token or a certificate logs in there is no password that we could have said.
            let configured = [TOKEN].into_iter().chain(logs_in_by_password(self.first).then_some(PASSWORD));
            let mut ours = SECRETS.into_iter().filter(|secret| !self.is_upstreams_own(secret)).chain(configured);
            same("a secret that is told", &ours.find(|secret| fault.sentence().contains(secret)), &None)?;
        }
        self.said.push(fault.sentence());
        Ok(self)
    }

    /// Whether the upstream said this, and we did not: then it is no secret of ours, whatever it looks like.
    fn is_upstreams_own(&self, text: &str) -> bool {
        let is_heard = self.heard.windows(text.len()).any(|part| part == text.as_bytes());
        is_heard && !self.said.iter().any(|line| line.contains(text))
    }
}

/// Whether a line ends a message.
fn is_end(line: &str) -> bool {
    line == "." || line.starts_with("BDAT")
}

/// What people read: a line without controls.
fn tellable(sentence: &str) -> Told {
    require(&format!("a sentence with controls: {sentence:?}"), !sentence.chars().any(char::is_control))
}

/// `Derivation { iterations: 4096, .. }`.
fn iterations(shown: &str) -> u64 {
    shown.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(u64::MAX)
}
