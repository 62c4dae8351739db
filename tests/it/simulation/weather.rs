//! How the upstream is disposed from time to time.

use std::sync::Arc;
use std::time::Duration;

use sealpost::upstream::Phase;

use super::world::{Dice, Lie};
use crate::scripted_upstream::{Misdeed, Misheard, Script, Scripted};

/// What it says of recipients, always.
const RECIPIENTS: [(&str, &str); 3] = [
    ("never@", "550 5.1.1 no such mailbox\r\n"),
    ("later@", "450 4.2.1 not now\r\n"),
    // Who is told of a failure, and can't be.
    ("bob@example.com", "550 5.1.1 we do not know him either\r\n"),
];

/// Where something can go wrong.
const PHASES: [Phase; 7] =
    [Phase::Greeting, Phase::Hello, Phase::Mail, Phase::Recipient, Phase::Data, Phase::EndOfData, Phase::EndOfData];

/// How it goes wrong; none of it is about the message, so none of it may fail one.
const MISDEEDS: [Misdeed; 7] = [
    Misdeed::Say(b"451 4.3.0 not today\r\n"),
    Misdeed::SayAndClose(b""),
    Misdeed::SayAndClose(b"421 4.3.2 going down\r\n"),
    Misdeed::SayAndHang(b"", 1),
    Misdeed::Dribble(b"CODE 2.0.0 slow but sure\r\n"),
    Misdeed::Say(b"what?\r\n"),
    Misdeed::Strange(b"CODE-2.0.0 one\r\nCODE DELIVERBY\r\n"),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Weather {
    dice: Dice,
    lie: Lie,
}

/// A greeting that lets nobody in.
const CLOSED: &[u8] = b"554 5.3.2 go away\r\n";
/// What a relay that blames the message takes other words for.
const BLAMED: (Phase, Misdeed) = (Phase::Mail, Misdeed::Say(b"550 5.7.1 not this one\r\n"));

impl Weather {
    pub(super) fn new(dice: Dice, lie: Lie) -> Self {
        Self { dice, lie }
    }

    /// As it should be.
    pub(super) fn fair(&self) -> Script {
        Script {
            extensions: vec!["PIPELINING", "8BITMIME", "SMTPUTF8", "DELIVERBY"],
            recipients: RECIPIENTS.to_vec(),
            misheard: match self.lie {
                Lie::ReportsWhatArrived => Some(Misheard::AsRefused),
                Lie::ReportsTwice => Some(Misheard::ReportsAsDeferred),
                Lie::Nothing | Lie::SyncsNothing | Lie::Blames421 | Lie::BlamesGreeting => None,
            },
            ..Script::default()
        }
    }

    /// This weather, as the relay hears of it.
    fn heard(&self, script: Script) -> Script {
        let (Some((phase, Misdeed::Say(said) | Misdeed::SayAndClose(said))), lie) = (script.misdeed, self.lie) else {
            return script;
        };
        let is_blamed = match lie {
            Lie::Blames421 => said.starts_with(b"421"),
            Lie::BlamesGreeting => phase == Phase::Greeting && said == CLOSED,
            Lie::Nothing | Lie::SyncsNothing | Lie::ReportsWhatArrived | Lie::ReportsTwice => false,
        };
        Script { misdeed: if is_blamed { Some(BLAMED) } else { script.misdeed }, ..script }
    }

    /// Changes for as long as the life lasts.
    pub(super) async fn change(self: Arc<Self>, upstream: Arc<Scripted>) {
        loop {
            upstream.turn_into(self.heard(self.next()));
            tokio::time::sleep(Duration::from_secs(30) + self.dice.seconds(900)).await;
            // An outage: nothing but a probe now and then, for up to an hour.
            if self.dice.one_in(6) {
                let refusing = self.dice.pick(&[&b""[..], CLOSED, b"421 4.3.2 out of order\r\n"]);
                let misdeed = Some((Phase::Greeting, Misdeed::SayAndClose(refusing)));
                upstream.turn_into(self.heard(Script { misdeed, ..self.fair() }));
                tokio::time::sleep(self.dice.seconds(3600)).await;
            }
        }
    }

    fn next(&self) -> Script {
        let mut script = self.fair();
        if self.dice.one_in(3) {
            // Where it is not offered, what has `BY=..;R` comes back at once (RFC 2852 §4.1.1), and r0 to r3 would fail rightly.
            script.extensions = vec!["DELIVERBY"];
        }
        if self.dice.one_in(2) {
            let phase = self.dice.pick(&PHASES);
            let misdeed = match phase {
                Phase::EndOfData if self.dice.one_in(2) => {
                    self.dice.pick(&[Misdeed::TakeAndVanish, Misdeed::TakeAndHang])
                }
                _ => self.dice.pick(&MISDEEDS),
            };
            script.misdeed = Some((phase, misdeed));
        }
        script.closes_after_message = self.dice.one_in(4);
        script.recipients_max = self.dice.one_in(4).then_some(1);
        // It goes wrong only when some have the message.
        script.at_message = usize::from(script.recipients_max.is_some() && self.dice.one_in(2));
        script
    }
}
