//! Who may be the client, what befalls the relay, and what the session goes by.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sealpost::content::{HeaderLimits, HeaderRules};
use sealpost::credentials::Credentials;
use sealpost::identity::Identity;
use sealpost::route::{Delivery, Route, Routes};
use sealpost::session::{Onward, Promises, Session, SessionSettings};
use sealpost::smtp::{Code, Reply};
use sealpost::sys::WallTime;
use sealpost::tls::{PeerChain, RefusalMode, verify};
use sealpost::upstream::Upstream;

use crate::dialog::cast::{Cast, Season};
use crate::recipe::NOW;

/// Who may be the client, by the first octet's low bits.
pub(in crate::bodies) const PERSONAS: [&str; 8] =
    ["alice", "zoe", "robot", "device", "guarded", "metered", "resender", "novice"];

pub(super) const NOW_WALL: WallTime = WallTime::from_seconds(NOW);
pub(super) const MESSAGE_MAX: u64 = 4000;
pub(super) const LINE_MAX: usize = 1000;
pub(super) const HEADER_LIMITS: HeaderLimits = HeaderLimits { section: 2000, line: 500, fields: 40 };

/// What befalls the relay, by the first octet's high bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    None,
    /// The certificate is revoked after the first MAIL.
    Revoked,
    /// No room for the second message.
    NoRoom,
    /// What is written can't be kept.
    NotKept,
    /// No commit succeeds.
    NoCommit,
    /// The ledger can't be read.
    NoLedger,
    /// The upstream is asked meanwhile, and takes the message, but not the second recipient.
    Through,
    /// The daemon shuts down after the fifth line.
    Drains,
}

pub(super) const MISHAPS: [Mishap; 8] = [
    Mishap::None,
    Mishap::Revoked,
    Mishap::NoRoom,
    Mishap::NotKept,
    Mishap::NoCommit,
    Mishap::NoLedger,
    Mishap::Through,
    Mishap::Drains,
];

pub(super) fn begun(identity: &Arc<Identity>, mishap: Mishap) -> Session {
    let delivery = match mishap {
        Mishap::Through => Delivery::Through(Duration::from_secs(30)),
        _ => Delivery::Queued,
    };
    let mut session = Session::new(Arc::clone(identity), settings(), routes(delivery));
    session.equip(credentials().means(identity.name(), identity.grant().second_factor, None));
    session
}

fn settings() -> Arc<SessionSettings> {
    static SETTINGS: OnceLock<Arc<SessionSettings>> = OnceLock::new();
    let make = || {
        Arc::new(SessionSettings {
            header: HeaderRules::default(),
            hostname: "mail.example.com".to_owned(),
            message_size_max: MESSAGE_MAX,
            recipients_max: 100,
            postmaster: None,
            refusal: RefusalMode::Reply,
            auth_failures_max: 5,
            idle_commands_max: 100,
            promises: Promises { onward: Onward::Proved, hold_max: Duration::from_secs(432_000) },
        })
    };
    Arc::clone(SETTINGS.get_or_init(make))
}

fn routes(delivery: Delivery) -> Arc<Routes> {
    let upstream = Arc::new(Upstream::new("main", "smtp.example.net", 25, "mail.example.com"));
    let route = Route::for_all("default", vec![upstream]).map(|route| route.delivered(delivery));
    Arc::new(Routes::new(route.into_iter().collect()))
}

pub(super) fn upstreams(code: u16) -> Reply {
    Reply::new(Code::new(code).unwrap(), None, "so the upstream says")
}

/// Everybody, made the only way there is: of a verified chain, by the roster.
pub(super) fn identities() -> &'static [Arc<Identity>] {
    static ALL: OnceLock<Vec<Arc<Identity>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let (cast, season) = (Cast::get(), Season::default());
        let (trust, roster) = (cast.trust(&season), cast.roster(&season));
        let identity = |persona: &&str| {
            let chain = PeerChain(cast.chain(persona).unwrap().unwrap());
            Arc::new(roster.identify(&verify(&chain, &trust, NOW_WALL).unwrap()).unwrap())
        };
        PERSONAS.iter().map(identity).collect()
    })
}

pub(super) fn credentials() -> &'static Credentials {
    static ALL: OnceLock<Credentials> = OnceLock::new();
    ALL.get_or_init(|| Cast::get().credentials(&Season::default()))
}
