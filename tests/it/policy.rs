//! Policy's answers, for identities made the only way there is; the same tables are put before policies that are wrong on purpose (`mutants`).

use std::sync::Arc;

use sealpost::content::{ForeignSender, HeaderFacts, HeaderRules, MissingSender};
use sealpost::identity::Identity;
use sealpost::mail::{Address, ForwardPath, ReversePath};
use sealpost::policy::{self, Offence, SenderField, Verdict};
use sealpost::sys::WallTime;
use sealpost::tls::{PeerChain, verify};

use crate::dialog::cast::{Cast, Season};
use crate::recipe::NOW;

fn identity(persona: &str) -> Arc<Identity> {
    let (cast, season) = (Cast::get(), Season::default());
    let chain = PeerChain(cast.chain(persona).unwrap().unwrap());
    let verified = verify(&chain, &cast.trust(&season), WallTime::from_seconds(NOW)).unwrap();
    Arc::new(cast.roster(&season).identify(&verified).unwrap())
}

/// A policy that is wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The real one.
    None,
    /// `alice+tag` is alice.
    IgnoresTags,
    /// What a domain may, its subdomains may.
    TakesSubdomains,
    /// `Alice` is not alice.
    MindsCase,
    /// Everybody may use the null sender.
    NullForAll,
    /// The bare postmaster is a recipient like others.
    ForbidsPostmaster,
    /// Signs by which an MTA is led elsewhere are letters like others.
    IgnoresRouting,
    /// One recipient more.
    CountsOneLess,
    /// One octet more.
    WeighsOneLess,
    /// As urgent as was asked.
    UncappedPriority,
}

impl Lie {
    pub(crate) const ALL: [Self; 9] = [
        Self::IgnoresTags,
        Self::TakesSubdomains,
        Self::MindsCase,
        Self::NullForAll,
        Self::ForbidsPostmaster,
        Self::IgnoresRouting,
        Self::CountsOneLess,
        Self::WeighsOneLess,
        Self::UncappedPriority,
    ];

    /// Whether `who` may send as this; as nobody, the null sender.
    fn sender(self, who: &Identity, text: &str) -> bool {
        if text.is_empty() {
            return self == Self::NullForAll || allowed(&policy::sender(who, &ReversePath::Null));
        }
        self.address(text, |text| allowed(&policy::sender(who, &ReversePath::Address(text.parse().unwrap()))))
    }

    /// Whether `who` may write to this.
    fn recipient(self, who: &Identity, text: &str) -> bool {
        match (self, text) {
            (Self::ForbidsPostmaster, "postmaster") => self.recipient(who, "postmaster@mail.example.com"),
            (_, "postmaster") => allowed(&policy::recipient(who, &ForwardPath::Postmaster)),
            _ => self
                .address(text, |text| allowed(&policy::recipient(who, &ForwardPath::Address(text.parse().unwrap())))),
        }
    }

    /// What is judged instead of an address.
    fn address(self, text: &str, judge: impl Fn(&str) -> bool) -> bool {
        let (local, domain) = text.rsplit_once('@').unwrap();
        match self {
            Self::IgnoresTags => judge(&format!("{}@{domain}", local.split('+').next().unwrap())),
            Self::TakesSubdomains => {
                let above = domain.split_once('.').filter(|(_, above)| above.contains('.'));
                judge(text) || above.is_some_and(|(_, above)| judge(&format!("{local}@{above}")))
            }
            Self::MindsCase => text == text.to_lowercase() && judge(text),
            Self::IgnoresRouting => judge(&format!("{}@{domain}", local.replace('%', "x"))),
            _ => judge(text),
        }
    }

    fn recipients(self, who: &Identity, count: usize) -> bool {
        allowed(&policy::limits::recipients(who, count - usize::from(self == Self::CountsOneLess)))
    }

    fn size(self, who: &Identity, octets: u64) -> bool {
        allowed(&policy::limits::size(who, octets - u64::from(self == Self::WeighsOneLess)))
    }

    fn priority(self, who: &Identity, asked: Option<i8>) -> i8 {
        match (self, asked) {
            (Self::UncappedPriority, Some(asked)) => asked,
            _ => policy::limits::priority(who, asked),
        }
    }
}

fn allowed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allowed(_))
}

fn offence(verdict: Verdict) -> Offence {
    match verdict {
        Verdict::Refused(refusal) => refusal.offence,
        Verdict::Allowed(rule) => panic!("allowed by {rule}"),
    }
}

/// Who as whom; nobody is the null sender.
const SENDERS: [(&str, &str, bool); 15] = [
    ("alice", "alice@example.com", true),
    ("alice", "Alice@EXAMPLE.com", true),
    ("alice", "bob@example.com", false),
    ("alice", "alice@sub.example.com", false),
    ("alice", "alice+tag@example.com", false),
    ("robot", "billing@example.com", true),
    ("robot", "x@invoices.example.com", true),
    ("robot", "x@deep.invoices.example.com", false),
    ("robot", "x@example.com", false),
    ("zoe", "zoë@example.com", true),
    ("zoe", "zoe@example.com", true),
    ("pinned", "printer@example.com", true),
    ("pinned", "alice@example.com", false),
    ("alice", "", true),
    ("quiet", "", false),
];

/// Who to whom.
const RECIPIENTS: [(&str, &str, bool); 7] = [
    ("alice", "anyone@anywhere.example", true),
    ("robot", "a@customer.example", true),
    ("robot", "a@sub.customer.example", false),
    ("robot", "a@elsewhere.example", false),
    ("robot", "victim%evil.example@customer.example", false),
    ("alice", "postmaster", true),
    ("robot", "postmaster", true),
];

/// Who; how many recipients and how many octets: the last number that passes.
const LIMITS: [(&str, usize, u64); 1] = [("robot", 3, 2000)];

/// Who; what is asked for, and what is given.
const PRIORITIES: [(&str, Option<i8>, i8); 4] =
    [("robot", Some(4), 4), ("robot", Some(9), 4), ("quiet", Some(0), -2), ("alice", None, 0)];

/// What a policy says otherwise than the tables.
pub(crate) fn faults(lie: Lie) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: String, holds: bool| {
        if !holds {
            faults.push(what);
        }
    };
    for (persona, address, expected) in SENDERS {
        check(format!("{persona} as <{address}>"), lie.sender(&identity(persona), address) == expected);
    }
    for (persona, address, expected) in RECIPIENTS {
        check(format!("{persona} to <{address}>"), lie.recipient(&identity(persona), address) == expected);
    }
    for (persona, count, octets) in LIMITS {
        let who = identity(persona);
        check(format!("{persona}: {count} recipients"), lie.recipients(&who, count));
        check(format!("{persona}: more than {count} recipients"), !lie.recipients(&who, count + 1));
        check(format!("{persona}: {octets} octets"), lie.size(&who, octets));
        check(format!("{persona}: more than {octets} octets"), !lie.size(&who, octets + 1));
    }
    for (persona, asked, expected) in PRIORITIES {
        check(format!("{persona}: priority {asked:?}"), lie.priority(&identity(persona), asked) == expected);
    }
    faults
}

#[test]
fn policy_says_what_the_tables_say() {
    assert_eq!(faults(Lie::None), Vec::<String>::new());
}

#[test]
fn limits_are_named_in_their_refusal() {
    let (robot, alice) = (identity("robot"), identity("alice"));
    assert_eq!(offence(policy::limits::recipients(&robot, 4)), Offence::TooManyRecipients { limit: 3 });
    assert!(allowed(&policy::limits::recipients(&alice, usize::MAX)));
    assert_eq!(offence(policy::limits::size(&robot, 2001)), Offence::TooLarge { limit: 2000 });
    assert!(allowed(&policy::limits::size(&alice, u64::MAX)));
    assert_eq!(offence(policy::sender(&identity("quiet"), &ReversePath::Null)), Offence::NullSender);
}

#[test]
fn a_refusal_names_the_rule_and_keeps_the_cause_to_itself() {
    let path = ReversePath::Address("ceo@example.com".parse().unwrap());
    let Verdict::Refused(refusal) = policy::sender(&identity("robot"), &path) else { panic!("allowed") };
    assert_eq!(refusal.rule.to_string(), "identity \"billing-robot\" (sealpost.toml:1)");
    assert!(refusal.cause.contains("send_as"), "{}", refusal.cause);
}

/// `explain` asks for paths that MAIL would have refused: nobody is put in as Sender who is not granted.
#[test]
fn a_sender_becomes_only_what_is_granted() {
    let alice = identity("alice");
    let address = |text: &str| -> Address { text.parse().unwrap() };
    let rules = HeaderRules {
        foreign_sender: ForeignSender::Replaced,
        missing_sender: MissingSender::Added,
        ..HeaderRules::default()
    };
    for (path, from, sender, becomes) in [
        ("alice@example.com", "alice@example.com", Some("bob@example.net"), Some("alice@example.com")),
        ("ceo@example.com", "alice@example.com", Some("bob@example.net"), None),
        ("ceo@example.com", "alice@example.com", None, None),
        ("", "alice@example.com", Some("bob@example.net"), Some("alice@example.com")),
        ("", "ceo@example.com", Some("bob@example.net"), None),
        ("", "alice@example.com", None, None),
        ("", "ceo@example.com", None, None),
    ] {
        let sender = sender.map(address);
        let facts =
            HeaderFacts { from: vec![address(from)], has_sender: sender.is_some(), sender, ..HeaderFacts::default() };
        let path = if path.is_empty() { ReversePath::Null } else { ReversePath::Address(address(path)) };
        let becomes = becomes.map_or(SenderField::AsItCame, |text| SenderField::Becomes(address(text)));
        assert_eq!(policy::sender_field(&alice, &facts, &rules, &path), becomes, "{path:?} {from} {facts:?}");
    }
}
