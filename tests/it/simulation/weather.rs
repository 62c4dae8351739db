//! How the upstream is disposed from time to time.

use std::sync::Arc;
use std::time::Duration;

use sealpost::upstream::Phase;

use super::world::Dice;
use crate::scripted_upstream::{Misdeed, Script, Scripted};

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
    Misdeed::Strange(b"CODE-2.0.0 one\r\nCODE 2.0.0 two\r\n"),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Weather {
    dice: Dice,
}

impl Weather {
    pub(super) fn new(dice: Dice) -> Self {
        Self { dice }
    }

    /// As it should be.
    pub(super) fn fair(&self) -> Script {
        Script {
            extensions: vec!["PIPELINING", "8BITMIME", "SMTPUTF8"],
            recipients: RECIPIENTS.to_vec(),
            ..Script::default()
        }
    }

    /// Changes for as long as the life lasts.
    pub(super) async fn change(self: Arc<Self>, upstream: Arc<Scripted>) {
        loop {
            upstream.turn_into(self.next());
            tokio::time::sleep(Duration::from_secs(30) + self.dice.seconds(900)).await;
            // An outage: nothing but a probe now and then, for up to an hour.
            if self.dice.one_in(6) {
                let refusing = self.dice.pick(&[&b""[..], b"554 5.3.2 go away\r\n", b"421 4.3.2 out of order\r\n"]);
                let misdeed = Some((Phase::Greeting, Misdeed::SayAndClose(refusing)));
                upstream.turn_into(Script { misdeed, ..self.fair() });
                tokio::time::sleep(self.dice.seconds(3600)).await;
            }
        }
    }

    fn next(&self) -> Script {
        let mut script = self.fair();
        if self.dice.one_in(3) {
            script.extensions.clear();
        }
        if self.dice.one_in(2) {
            let phase = self.dice.pick(&PHASES);
            let misdeed = match phase {
                Phase::EndOfData if self.dice.one_in(2) => Misdeed::TakeAndVanish,
                _ => self.dice.pick(&MISDEEDS),
            };
            script.misdeed = Some((phase, misdeed));
        }
        script.closes_after_message = self.dice.one_in(4);
        script.recipients_max = self.dice.one_in(4).then_some(1);
        script
    }
}
