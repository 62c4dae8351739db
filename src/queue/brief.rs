//! What a listing shows of a message, read out of its record without making the whole of it: no address is judged again, nothing is kept that is not shown.
//!
//! A record names each of its fields in order (postcard), so all before the last that is wanted must be passed: `Written` is a record as it lies there, and
//! changes with it. Never: guesses at what fails its checksum; is what a message is delivered by.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::record::{HeldBy, Recheck, RecipientState, Record, State};
use crate::mail::QueueId;
use crate::mail::envelope::{Body, DeliverBy, Notify, Ret};
use crate::sys::WallTime;

/// A message as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// Its name.
    pub id: QueueId,
    /// Where it stands.
    pub state: State,
    /// Why it is dead or held.
    pub reason: Option<String>,
    /// When it came.
    pub arrived: WallTime,
    /// When its sender wants it to be sent, not before.
    pub hold_until: Option<WallTime>,
    /// When it is to be tried next, if it is queued.
    pub due: WallTime,
    /// Octets of it.
    pub length: u64,
    texts: Texts,
    recipients: Vec<To>,
}

/// Who sent it, the reverse path, and the CA that vouched; behind them in the same text each forward path. One text of all, since a listing of very many costs what it allocates.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Texts {
    all: String,
    /// Where the identity ends.
    identity: usize,
    /// Where the reverse path ends.
    sender: usize,
    /// Where the CA ends, if one vouched.
    ca: Option<usize>,
}

/// A recipient: where its forward path ends in the text, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct To {
    end: usize,
    state: RecipientState,
}

impl Texts {
    /// With room for so many octets of forward paths.
    fn new(identity: &str, sender: &str, ca: Option<&str>, paths: usize) -> Self {
        let own =
            [identity, sender, ca.unwrap_or_default()].iter().fold(paths, |sum, one| sum.saturating_add(one.len()));
        let mut texts = Self { all: String::with_capacity(own), identity: 0, sender: 0, ca: None };
        texts.identity = texts.push(identity);
        texts.sender = texts.push(sender);
        texts.ca = ca.map(|ca| texts.push(ca));
        texts
    }

    /// Where the first forward path begins.
    fn paths(&self) -> usize {
        self.ca.unwrap_or(self.sender)
    }

    /// Puts one more behind; where it ends.
    fn push(&mut self, path: &str) -> usize {
        self.all.push_str(path);
        self.all.len()
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.all.get(from..to).unwrap_or_default()
    }
}

impl Brief {
    /// That of a record.
    pub fn of(record: &Record) -> Self {
        let paths = record.envelope.recipients().iter().map(|one| one.forward_path.as_str());
        let (custodian, sender) = (&record.custodian, record.envelope.reverse_path().as_str());
        let mut texts = Texts::new(&custodian.identity, sender, custodian.ca.as_deref(), 0);
        let recipients = paths.zip(&record.recipients);
        let recipients = recipients.map(|(path, state)| To { end: texts.push(path), state: state.clone() }).collect();
        Self {
            id: record.id,
            state: record.state,
            reason: record.reason.clone(),
            arrived: record.trace.arrived,
            hold_until: record.envelope.parameters().hold_until,
            due: record.due,
            length: record.length,
            texts,
            recipients,
        }
    }

    /// That of a record of the present format, as it is written.
    pub(super) fn read(payload: &[u8]) -> Result<Self, postcard::Error> {
        let Written { id, envelope, custodian, trace, state, reason, recipients, due, length, .. } =
            postcard::from_bytes(payload)?;
        let paths = || envelope.recipients.iter().map(|one| one.forward_path.as_str());
        let (sender, octets) = (envelope.reverse_path.as_str(), paths().map(str::len).sum());
        let mut texts = Texts::new(custodian.identity, sender, custodian.ca, octets);
        let recipients = paths().zip(recipients).map(|(path, state)| To { end: texts.push(path), state }).collect();
        Ok(Self {
            id,
            state,
            reason: reason.map(str::to_owned),
            arrived: trace.arrived,
            hold_until: envelope.parameters.hold_until,
            due,
            length,
            texts,
            recipients,
        })
    }
}

/// What is asked of a message by whoever looks for some.
pub trait Sketch {
    /// Its name.
    fn id(&self) -> QueueId;
    /// Where it stands.
    fn state(&self) -> State;
    /// Who sent it.
    fn identity(&self) -> &str;
    /// The reverse path; empty for `<>`.
    fn sender(&self) -> &str;
    /// The CA that vouched for its sender's certificate.
    fn ca(&self) -> Option<&str>;
    /// Octets of it.
    fn length(&self) -> u64;
    /// Each forward path, and how it stands.
    fn recipients(&self) -> impl Iterator<Item = (&str, &RecipientState)>;
}

impl Sketch for Brief {
    fn id(&self) -> QueueId {
        self.id
    }

    fn state(&self) -> State {
        self.state
    }

    fn identity(&self) -> &str {
        self.texts.part(0, self.texts.identity)
    }

    fn sender(&self) -> &str {
        self.texts.part(self.texts.identity, self.texts.sender)
    }

    fn ca(&self) -> Option<&str> {
        self.texts.ca.map(|end| self.texts.part(self.texts.sender, end))
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn recipients(&self) -> impl Iterator<Item = (&str, &RecipientState)> {
        self.recipients.iter().scan(self.texts.paths(), |from, To { end, state }| {
            Some((self.texts.part(std::mem::replace(from, *end), *end), state))
        })
    }
}

impl Sketch for Record {
    fn id(&self) -> QueueId {
        self.id
    }

    fn state(&self) -> State {
        self.state
    }

    fn identity(&self) -> &str {
        &self.custodian.identity
    }

    fn sender(&self) -> &str {
        self.envelope.reverse_path().as_str()
    }

    fn ca(&self) -> Option<&str> {
        self.custodian.ca.as_deref()
    }

    fn length(&self) -> u64 {
        self.length
    }

    fn recipients(&self) -> impl Iterator<Item = (&str, &RecipientState)> {
        self.envelope.recipients().iter().map(|to| to.forward_path.as_str()).zip(&self.recipients)
    }
}

impl<M: Sketch> Sketch for Box<M> {
    fn id(&self) -> QueueId {
        (**self).id()
    }

    fn state(&self) -> State {
        (**self).state()
    }

    fn identity(&self) -> &str {
        (**self).identity()
    }

    fn sender(&self) -> &str {
        (**self).sender()
    }

    fn ca(&self) -> Option<&str> {
        (**self).ca()
    }

    fn length(&self) -> u64 {
        (**self).length()
    }

    fn recipients(&self) -> impl Iterator<Item = (&str, &RecipientState)> {
        (**self).recipients()
    }
}

/// A [`Record`] as it lies there.
#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct Written<'a> {
    id: QueueId,
    #[serde(borrow)]
    envelope: Envelope<'a>,
    custodian: Custodian<'a>,
    trace: TraceFacts,
    state: State,
    reason: Option<&'a str>,
    recipients: Vec<RecipientState>,
    due: WallTime,
    attempts: u32,
    warned: bool,
    length: u64,
    checksum: u64,
    held_by: Option<HeldBy>,
    released: Option<WallTime>,
    recheck: Recheck,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    reverse_path: Reverse<'a>,
    parameters: MailParameters,
    recipients: Vec<Recipient<'a>>,
}

#[derive(Deserialize)]
enum Reverse<'a> {
    Null,
    Address(&'a str),
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct MailParameters {
    size: Option<u64>,
    body: Body,
    smtputf8: bool,
    ret: Option<Ret>,
    envid: Option<Unread>,
    require_tls: bool,
    deliver_by: Option<DeliverBy>,
    hold_until: Option<WallTime>,
    priority: Option<i8>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct Recipient<'a> {
    #[serde(borrow)]
    forward_path: Forward<'a>,
    notify: Option<Notify>,
    orcpt: Option<(Unread, Unread)>,
}

#[derive(Deserialize)]
enum Forward<'a> {
    Postmaster,
    Address(&'a str),
}

impl<'a> Reverse<'a> {
    fn as_str(&self) -> &'a str {
        match self {
            Self::Null => "",
            Self::Address(address) => address,
        }
    }
}

impl<'a> Forward<'a> {
    fn as_str(&self) -> &'a str {
        match self {
            Self::Postmaster => "postmaster",
            Self::Address(address) => address,
        }
    }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct Custodian<'a> {
    identity: &'a str,
    #[serde(borrow)]
    ca: Option<&'a str>,
    fingerprint: Unread,
    chain: Passed<(Unread, Unread)>,
    key: Option<Digest>,
    links: Passed<Link>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct Link {
    issuer: Digest,
    issuer_key: Option<Digest>,
    serial: Unread,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is not shown is passed")]
struct TraceFacts {
    client: Unread,
    helo: Unread,
    protocol: Unread,
    tls: Unread,
    arrived: WallTime,
    message_id: Option<Unread>,
}

/// 32 octets that are passed. A number of this kind is written as its eight octets (postcard), and four are passed sooner than 32.
type Digest = [f64; 4];

/// A text that is not shown, or octets, which are written alike: nobody looks whether it is a text.
struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_bytes(Ignored)
    }
}

struct Ignored;

impl Visitor<'_> for Ignored {
    type Value = Unread;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("octets")
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Unread, E> {
        Ok(Unread)
    }
}

/// A list of which nothing is kept.
struct Passed<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Passed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Each(PhantomData))
    }
}

struct Each<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
    type Value = Passed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Passed<T>, S::Error> {
        while list.next_element::<T>()?.is_some() {}
        Ok(Passed(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::envelope::OriginalRecipient;
    use crate::mail::{self, Address, ForwardPath, RecipientParameters, ReversePath};
    use crate::queue::record::samples;
    use crate::queue::{Deposit, Outcome, record};
    use crate::smtp::{Code, Reply};

    const THEN: WallTime = WallTime::from_seconds(1_900_000_000);

    /// Nothing that may be there is missing in it.
    fn full() -> Record {
        let Deposit { envelope, mut custodian, mut trace } = samples::deposit(WallTime::from_seconds(1_000));
        let parameters = mail::MailParameters {
            size: Some(u64::MAX),
            body: Body::EightBitMime,
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("QQ+2B1".to_owned()),
            require_tls: true,
            deliver_by: Some(DeliverBy { deadline: THEN, or_return: true, trace: true }),
            hold_until: Some(THEN),
            priority: Some(-9),
        };
        let orcpt = OriginalRecipient { address_type: "rfc822".to_owned(), address: "bob@example.net".to_owned() };
        let recipients =
            [ForwardPath::Postmaster, ForwardPath::Address(Address::parse("jörg@bücher.example").unwrap())];
        let recipients = recipients.into_iter().map(|forward_path| mail::Recipient {
            forward_path,
            parameters: RecipientParameters { notify: Some(Notify::DEFAULT), orcpt: Some(orcpt.clone()) },
        });
        let envelope = mail::Envelope::new(envelope.reverse_path().clone(), parameters, recipients.collect()).unwrap();
        custodian.chain = vec![("CN=one".to_owned(), "01".to_owned()), ("CN=two, größer".to_owned(), "02".to_owned())];
        custodian.links.push(record::Link { issuer: [200; 32], issuer_key: None, serial: vec![255; 20] });
        trace.message_id = None;
        let mut record = Record::new(QueueId::from_u128(u128::MAX), Deposit { envelope, custodian, trace }, 70_000, 7);
        record.hold(HeldBy::Recheck, Some("its certificate was revoked".to_owned()));
        let reply = Reply::new(Code::new(451).unwrap(), None, "later");
        record.recipients[0].last = Some(Outcome::Deferred { reason: "silent".to_owned(), reply: Some(reply) });
        record.recipients[0].last_attempt = Some((THEN, "main".to_owned()));
        record.recipients[1].undetermined = true;
        (record.attempts, record.warned, record.released) = (9, true, Some(THEN));
        record
    }

    #[test]
    fn a_brief_is_what_the_record_says() {
        let mut bare = samples::record(7);
        bare.envelope = mail::Envelope::new(
            ReversePath::Null,
            mail::MailParameters::default(),
            bare.envelope.recipients().to_vec(),
        )
        .unwrap();
        bare.custodian = crate::queue::Custodian::ours();
        for record in [samples::record(7), full(), bare] {
            let octets = postcard::to_stdvec(&record).unwrap();
            assert_eq!(Brief::read(&octets), Ok(Brief::of(&record)));
            assert!(postcard::take_from_bytes::<Written<'_>>(&octets).unwrap().1.is_empty(), "all was passed");
            for cut in 0..octets.len() {
                assert!(Brief::read(&octets[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn record_and_brief_tell_the_same_to_who_looks_for_some() {
        fn told(one: &impl Sketch) -> String {
            let recipients: Vec<_> = one.recipients().collect();
            format!(
                "{} {:?} {} {} {} {recipients:?}",
                one.id(),
                one.state(),
                one.identity(),
                one.sender(),
                one.length()
            )
        }
        let record = full();
        assert_eq!(told(&Brief::of(&record)), told(&record));
    }
}
