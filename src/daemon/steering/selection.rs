//! Which messages are meant: what an operator asked for, put together with "and", as a predicate on what the queue lists.
//!
//! A recipient counts while it does not have the message: one that was delivered, or whose failure was reported, is nobody's concern any more.
//! The age of a message is told by its name, so a listing reads no older nor newer part of the queue than it must. What can't be read has no
//! sender, identity or recipient: it is meant only when nothing of the kind was asked for.
//!
//! Pure. Fails with a sentence about what was asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::StateName;
use crate::identity::pattern::{AddressPattern, AddressPatterns};
use crate::mail::{Address, LocalPartCase, QueueId};
use crate::queue::{Listed, RecipientState, Sketch, State};
use crate::sys::WallTime;

/// What was asked for; all that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filters {
    /// In this state.
    pub state: Option<StateName>,
    /// Sent by this identity.
    pub identity: Option<String>,
    /// From an address like this; `<>` is the null sender.
    pub sender: Option<String>,
    /// To an address like this that does not have it yet.
    pub recipient: Option<String>,
    /// Last tried by this upstream, for such a recipient.
    pub upstream: Option<String>,
    /// Older than so many milliseconds.
    pub older_than: Option<u64>,
    /// Not older than so many milliseconds.
    pub newer_than: Option<u64>,
    /// Here by then, milliseconds since 1970: what comes while somebody answers a question is not meant.
    pub until: Option<i64>,
}

impl Filters {
    /// Whether nothing was asked for, so that all is meant.
    pub fn is_empty(&self) -> bool {
        *self == Self { until: self.until, ..Self::default() }
    }

    /// In words, for the audit and for questions: as on the command line.
    pub fn words(&self) -> String {
        let age = |name: &str, millis: Option<u64>| {
            millis.map(|millis| format!("{name} {}", humantime::format_duration(Duration::from_millis(millis))))
        };
        let text = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
        let words = [
            self.state.map(|state| format!("--state {}", state.word())),
            text("--identity", &self.identity),
            text("--sender", &self.sender),
            text("--recipient", &self.recipient),
            text("--upstream", &self.upstream),
            age("--older-than", self.older_than),
            age("--newer-than", self.newer_than),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        if words.is_empty() { "--all".to_owned() } else { words.join(" ") }
    }
}

/// What was asked for, ready to be held against messages.
#[derive(Clone, Debug)]
pub struct Selection {
    state: Option<State>,
    identity: Option<String>,
    sender: Option<SenderWanted>,
    recipient: Option<RecipientWanted>,
    upstream: Option<String>,
    /// Those that came by then are too old.
    after: Option<WallTime>,
    /// Those that came later are too young.
    until: Option<WallTime>,
}

#[derive(Clone, Debug)]
enum SenderWanted {
    Null,
    Like(AddressPatterns),
}

#[derive(Clone, Debug)]
enum RecipientWanted {
    Postmaster,
    Like(AddressPatterns),
}

impl Selection {
    /// What was asked for at `now`.
    ///
    /// # Errors
    /// An address is none, in words for who wrote it.
    pub fn new(filters: &Filters, now: WallTime) -> Result<Self, String> {
        let age = |millis: u64| now.before(Duration::from_millis(millis));
        let until = filters.until.map(WallTime::from_millis);
        Ok(Self {
            state: filters.state.map(State::from),
            identity: filters.identity.clone(),
            sender: filters.sender.as_deref().map(sender).transpose()?,
            recipient: filters.recipient.as_deref().map(recipient).transpose()?,
            upstream: filters.upstream.clone(),
            after: filters.newer_than.map(age),
            until: filters.older_than.map(age).into_iter().chain(until).min(),
        })
    }

    /// All there is.
    pub fn all() -> Self {
        Self { state: None, identity: None, sender: None, recipient: None, upstream: None, after: None, until: None }
    }

    /// The state that is wanted, for whoever can leave the others out early.
    pub fn state(&self) -> Option<State> {
        self.state
    }

    /// Nothing is meant that has this name or one before it.
    pub fn after(&self) -> Option<QueueId> {
        self.after.map(|after| QueueId::new(after, u128::MAX))
    }

    /// Nothing is meant that has this name or one behind it.
    pub fn before(&self) -> Option<QueueId> {
        self.until.map(|until| QueueId::new(until.after(Duration::from_millis(1)), 0))
    }

    /// Whether this message is meant.
    pub fn matches<M: Sketch>(&self, listed: &Listed<M>) -> bool {
        let id = listed.id();
        let in_time = self.after().is_none_or(|after| id > after) && self.before().is_none_or(|before| id < before);
        if !in_time || self.state.is_some_and(|state| state != listed.state()) {
            return false;
        }
        match listed {
            Listed::Message(message) => self.matches_message(message),
            Listed::Unreadable(..) => self.asks_for_nothing_within(),
        }
    }

    /// The places in the envelope of the recipients that are meant; all who do not have it when none was named.
    pub fn recipients(&self, message: &impl Sketch) -> Vec<usize> {
        let wanted = |(to, state): (&str, &RecipientState)| {
            state.is_owed(message.state())
                && self.recipient.as_ref().is_none_or(|wanted| wanted.is(to))
                && self.upstream.as_deref().is_none_or(|upstream| last_tried_by(state, upstream))
        };
        message.recipients().enumerate().filter(|(_, one)| wanted(*one)).map(|(place, _)| place).collect()
    }

    fn matches_message(&self, message: &impl Sketch) -> bool {
        self.identity.as_ref().is_none_or(|identity| identity == message.identity())
            && self.sender.as_ref().is_none_or(|wanted| wanted.is(message.sender()))
            && ((self.recipient.is_none() && self.upstream.is_none()) || !self.recipients(message).is_empty())
    }

    fn asks_for_nothing_within(&self) -> bool {
        self.identity.is_none() && self.sender.is_none() && self.recipient.is_none() && self.upstream.is_none()
    }
}

fn last_tried_by(state: &RecipientState, upstream: &str) -> bool {
    state.last_attempt.as_ref().is_some_and(|(_, tried_by)| tried_by == upstream)
}

impl SenderWanted {
    fn is(&self, path: &str) -> bool {
        match self {
            Self::Null => path.is_empty(),
            Self::Like(patterns) => is_like(patterns, path),
        }
    }
}

impl RecipientWanted {
    fn is(&self, path: &str) -> bool {
        match self {
            // An address has an `@`.
            Self::Postmaster => path == "postmaster",
            Self::Like(patterns) => is_like(patterns, path),
        }
    }
}

fn is_like(patterns: &AddressPatterns, path: &str) -> bool {
    let address = Address::parse(path).map(|address| address.canonical(LocalPartCase::Ignored));
    address.is_ok_and(|address| patterns.matches(&address).is_some())
}

fn sender(text: &str) -> Result<SenderWanted, String> {
    match text {
        "" | "<>" => Ok(SenderWanted::Null),
        text => like(text).map(SenderWanted::Like),
    }
}

fn recipient(text: &str) -> Result<RecipientWanted, String> {
    if text.eq_ignore_ascii_case("postmaster") {
        return Ok(RecipientWanted::Postmaster);
    }
    like(text).map(RecipientWanted::Like)
}

/// An address, or `*@domain` and the other patterns of grants. Letters count in any case: an operator looks for somebody, and grants nothing.
fn like(text: &str) -> Result<AddressPatterns, String> {
    match text.parse() {
        Ok(AddressPattern::Certificate) => Err("@certificate is no address".to_owned()),
        Ok(_) => AddressPatterns::parse([text], LocalPartCase::Ignored).map_err(|fault| format!("{text}: {fault}")),
        Err(fault) => Err(format!("{text}: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::samples;
    use crate::queue::{Brief, Outcome, Record};
    use crate::smtp::{Code, Reply};

    const NOW: WallTime = WallTime::from_seconds(100_000);

    /// A message from alice@example.com to bob@example.net, who has it, and carol@example.org, who was tried by `main`; an hour old.
    fn record() -> Record {
        let mut record = samples::record(QueueId::new(WallTime::from_seconds(96_400), 7).to_u128());
        record.recipients[0].open = false;
        record.recipients[0].last = Some(Outcome::Delivered { reply: Reply::new(Code::new(250).unwrap(), None, "ok") });
        record.recipients[0].last_attempt = Some((NOW, "spare".to_owned()));
        record.recipients[1].last = Some(Outcome::Deferred { reason: "silent".to_owned(), reply: None });
        record.recipients[1].last_attempt = Some((NOW, "main".to_owned()));
        record
    }

    fn is_meant(filters: Filters, record: &Record) -> bool {
        let selection = Selection::new(&filters, NOW).unwrap();
        let is_meant = selection.matches(&Listed::Message(Box::new(record.clone())));
        assert_eq!(selection.matches(&Listed::Message(Brief::of(record))), is_meant, "{}", filters.words());
        is_meant
    }

    fn asked(set: impl FnOnce(&mut Filters)) -> Filters {
        let mut filters = Filters::default();
        set(&mut filters);
        filters
    }

    #[test]
    fn each_filter_means_what_it_says() {
        const HOUR: u64 = 3_600_000;
        let text = |text: &str| Some(text.to_owned());
        let table: Vec<(&str, bool, Filters)> = vec![
            ("all", true, Filters::default()),
            ("state", true, asked(|asked| asked.state = Some(StateName::Queued))),
            ("other state", false, asked(|asked| asked.state = Some(StateName::Dead))),
            ("identity", true, asked(|asked| asked.identity = text("staff:alice@example.com"))),
            ("part of an identity", false, asked(|asked| asked.identity = text("alice@example.com"))),
            ("sender", true, asked(|asked| asked.sender = text("ALICE@Example.com"))),
            ("sender's domain", true, asked(|asked| asked.sender = text("*@example.com"))),
            ("other sender", false, asked(|asked| asked.sender = text("bob@example.com"))),
            ("any sender", true, asked(|asked| asked.sender = text("*"))),
            ("null sender", false, asked(|asked| asked.sender = text("<>"))),
            ("recipient", true, asked(|asked| asked.recipient = text("carol@example.org"))),
            ("recipient's domain", true, asked(|asked| asked.recipient = text("*@EXAMPLE.org"))),
            ("a recipient who has it", false, asked(|asked| asked.recipient = text("bob@example.net"))),
            ("postmaster", false, asked(|asked| asked.recipient = text("postmaster"))),
            ("upstream", true, asked(|asked| asked.upstream = text("main"))),
            ("upstream of one who has it", false, asked(|asked| asked.upstream = text("spare"))),
            ("older", true, asked(|asked| asked.older_than = Some(HOUR))),
            ("not so old", false, asked(|asked| asked.older_than = Some(HOUR + 1))),
            ("newer", true, asked(|asked| asked.newer_than = Some(HOUR + 1))),
            ("not so new", false, asked(|asked| asked.newer_than = Some(HOUR))),
            ("here by then", true, asked(|asked| asked.until = Some(96_400_000))),
            ("came later", false, asked(|asked| asked.until = Some(96_399_999))),
        ];
        for (what, meant, filters) in table {
            assert_eq!(is_meant(filters, &record()), meant, "{what}");
        }
    }

    #[test]
    fn all_that_was_asked_for_must_hold_and_of_one_recipient() {
        let both = |recipient: &str, upstream: &str| {
            asked(|asked| {
                (asked.recipient, asked.upstream) = (Some(recipient.to_owned()), Some(upstream.to_owned()));
            })
        };
        let mut record = record();
        record.recipients[0].open = true;
        assert!(is_meant(both("carol@example.org", "main"), &record));
        assert!(is_meant(both("bob@example.net", "spare"), &record));
        assert!(!is_meant(both("bob@example.net", "main"), &record), "bob was tried by the other one");
        let filters = asked(|asked| {
            (asked.identity, asked.sender) = (Some("staff:alice@example.com".to_owned()), Some("<>".to_owned()));
        });
        assert!(!is_meant(filters, &record));
    }

    #[test]
    fn of_a_dead_message_those_count_who_do_not_have_it() {
        let mut record = record();
        record.recipients[1].open = false;
        let carol = || asked(|asked| asked.recipient = Some("carol@example.org".to_owned()));
        assert!(!is_meant(carol(), &record), "nothing is left to do for her");
        record.state = State::Dead;
        assert!(is_meant(carol(), &record));
        record.take_out(&[1]);
        assert!(!is_meant(carol(), &record));
    }

    #[test]
    fn what_can_not_be_read_is_meant_only_when_nothing_of_its_inside_is_asked_for() {
        let unreadable =
            Listed::<Brief>::Unreadable(QueueId::new(WallTime::from_seconds(96_400), 7), "damaged".to_owned());
        let meant = |filters: Filters| Selection::new(&filters, NOW).unwrap().matches(&unreadable);
        assert!(meant(Filters::default()));
        assert!(meant(asked(|asked| asked.state = Some(StateName::Dead))));
        assert!(meant(asked(|asked| asked.older_than = Some(1))));
        assert!(!meant(asked(|asked| asked.state = Some(StateName::Queued))));
        assert!(!meant(asked(|asked| asked.sender = Some("*".to_owned()))));
        assert!(!meant(asked(|asked| asked.upstream = Some("main".to_owned()))));
    }

    #[test]
    fn names_bound_what_has_to_be_read() {
        let filters = asked(|asked| (asked.older_than, asked.newer_than) = (Some(1_000), Some(2_000)));
        let selection = Selection::new(&filters, NOW).unwrap();
        let id = |millis: i64| QueueId::new(WallTime::from_millis(millis), 5);
        let (after, before) = (selection.after().unwrap(), selection.before().unwrap());
        assert!(id(99_998_000) < after && id(99_998_001) > after);
        assert!(id(99_999_000) < before && id(99_999_001) > before);
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (sender, part) in
            [("example.com", "no @"), ("bi*@example.com", "local part"), ("@certificate", "no address")]
        {
            let fault = Selection::new(&asked(|asked| asked.sender = Some(sender.to_owned())), NOW).unwrap_err();
            assert!(fault.contains(part), "{sender}: {fault}");
        }
        assert!(Selection::new(&asked(|asked| asked.recipient = Some("!bob@example.com".to_owned())), NOW).is_err());
    }

    #[test]
    fn what_was_asked_for_reads_as_on_the_command_line() {
        assert_eq!(Filters::default().words(), "--all");
        let filters = asked(|asked| {
            (asked.state, asked.older_than) = (Some(StateName::Held), Some(5_400_000));
            (asked.sender, asked.until) = (Some("*@example.com".to_owned()), Some(1));
        });
        assert_eq!(filters.words(), "--state held --sender *@example.com --older-than 1h 30m");
        assert!(!filters.is_empty() && asked(|asked| asked.until = Some(1)).is_empty());
    }
}
