//! What outlasts a crash: the disk, the upstream, the calendar, the dice, and the account of what was promised.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealpost::queue::{Driving, Listed, State};
use sealpost::route::Delivery;
use sealpost::sys::disk::{Fault, SyncHonesty};
use sealpost::sys::{Entropy, SeededEntropy, SimulatedDisk, WallTime};

use super::account::{Account, Summary};
use super::balance::{self, Evidence};
use super::life::{self, Ended, Life};
use super::weather::Weather;
use crate::recipe::NOW;
use crate::scripted_upstream::{Net, Script, Scripted};

/// The upstream's name and the only address it has; and another's.
pub(super) const UPSTREAM: &str = "smtp.example.net";
pub(super) const SECOND: &str = "smtp.example.org";

/// How long a life without a crash lasts.
const LIFE: Duration = Duration::from_secs(3600);

/// How long the relay may take at the end to be rid of all it holds: `give_up_after`, once more for reports, and an hour.
const SETTLING: Duration = Duration::from_secs(49 * 3600);

/// How long an outcome may wait to be recorded where the disk fails or is full: until it is well, and until it is tried again.
const RECORDED_WITHIN: Duration = Duration::from_secs(600);

/// The same on a disk that is well, also while the attempt goes on: eight seconds, three commits of the slowest, and what they wait for.
const RECORDED_SOON: Duration = Duration::from_secs(17);

/// How long after a disk was ill the store may still be on its way back.
const CONVALESCENCE: Duration = Duration::from_secs(120);

/// What is wrong on purpose, to show that the account notices: the relay's disk, or what the relay hears of its upstream, as if it had misread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    /// A sync keeps nothing.
    SyncsNothing,
    /// 421 is taken for the end of the message.
    Blames421,
    /// So is a greeting with 554.
    BlamesGreeting,
    /// What was taken is taken for refused: its sender hears of a failure.
    ReportsWhatArrived,
    /// A report that was taken is sent again.
    ReportsTwice,
}

impl Lie {
    pub(super) const OF_THE_RELAY: [Self; 4] =
        [Self::Blames421, Self::BlamesGreeting, Self::ReportsWhatArrived, Self::ReportsTwice];

    /// Whether the account complains of this.
    pub(super) fn is_told_by(self, complaint: &str) -> bool {
        match self {
            Self::Nothing | Self::SyncsNothing => false,
            Self::Blames421 | Self::BlamesGreeting => complaint.contains("there was no reason"),
            Self::ReportsWhatArrived => complaint.contains("has it, and is reported as failed"),
            Self::ReportsTwice => complaint.contains("a report came twice"),
        }
    }
}

/// Numbers for decisions: never shared with the relay's own randomness.
#[derive(Debug)]
pub(super) struct Dice(SeededEntropy);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    /// A number below `below`.
    pub(super) fn draw(&self, below: u64) -> u64 {
        self.0.next_u64() % below
    }

    pub(super) fn one_in(&self, count: u64) -> bool {
        self.draw(count) == 0
    }

    pub(super) fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[usize::try_from(self.draw(from.len() as u64)).unwrap()]
    }

    pub(super) fn seconds(&self, below: u64) -> Duration {
        Duration::from_millis(self.draw(below * 1000))
    }
}

/// See the module.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) dice: Arc<Dice>,
    pub(super) disk: SimulatedDisk,
    pub(super) upstream: Arc<Scripted>,
    lie: Lie,
    /// It has a weather of its own.
    pub(super) second: Arc<Scripted>,
    pub(super) weather: Arc<Weather>,
    pub(super) account: Arc<Mutex<Account>>,
    now: WallTime,
    /// Lives that end by a power cut before the last.
    crashes: u64,
    /// What the upstream took so shortly before a power cut that this was not recorded, by its place among all.
    unrecorded: BTreeSet<usize>,
    /// The same, as long as nobody has looked into the store.
    doubtful: BTreeSet<usize>,
    /// What the upstream took without a word, so long before a power cut that it must be recorded that it may have it.
    silent: BTreeSet<usize>,
    /// When each was taken, since the beginning of the first life, which is so long ago.
    when: Vec<Duration>,
    age: Duration,
}

impl World {
    pub(super) fn new(seed: u64, lie: Lie) -> Self {
        let dice = Arc::new(Dice::new(seed ^ 0x5eed));
        let disk = SimulatedDisk::new(seed);
        disk.set_honesty(if lie == Lie::SyncsNothing { SyncHonesty::OnlySaid } else { SyncHonesty::Kept });
        let crashes = dice.draw(4);
        let upstream = Scripted::new(Script::default());
        Self {
            seed,
            lie,
            weather: Arc::new(Weather::new(Dice::new(seed ^ 0xf00d), lie)),
            dice,
            disk,
            second: upstream.beside(Script::default()),
            upstream,
            account: Arc::default(),
            now: WallTime::from_seconds(NOW),
            crashes,
            unrecorded: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            silent: BTreeSet::new(),
            when: Vec::new(),
            age: Duration::ZERO,
        }
    }

    /// Whether the disk is honest.
    pub(super) fn keeps_what_it_synced(&self) -> bool {
        self.lie != Lie::SyncsNothing
    }

    /// Whether this seed has power cuts in it.
    pub(super) fn crashes(&self) -> bool {
        self.crashes > 0
    }

    /// In one of three each change has a commit of its own. In the others who comes while one lasts shares the next, on a disk that takes its time and on one
    /// that takes very long.
    pub(super) fn driving(&self) -> Driving {
        match self.seed / 3 % 3 {
            0 => Driving::Inline,
            1 => Driving::Simulated(Duration::from_millis(30)),
            _ => Driving::Simulated(Duration::from_secs(2)),
        }
    }

    /// In one of three the upstream is asked while the client waits.
    pub(super) fn delivery(&self) -> Delivery {
        if self.seed % 3 == 1 { Delivery::Through(Duration::from_secs(30)) } else { Delivery::Queued }
    }

    /// In one of two there are two upstreams and two routes, and reloads that take one of them out.
    pub(super) fn is_wide(&self) -> bool {
        self.seed % 2 == 1
    }

    pub(super) fn network(&self) -> Net {
        let net = Net::default().name(UPSTREAM, &[1]).host(1, &self.upstream);
        net.name(SECOND, &[2]).host(2, &self.second)
    }

    /// All lives, and the account at the end.
    pub(super) fn play(mut self) -> Result<Summary, String> {
        for _ in 0..self.crashes {
            if self.dice.one_in(4) {
                self.live_until_the_drain()?;
            }
            self.live_until_the_power_goes()?;
        }
        self.disk.mend();
        let mut life = self.begin()?;
        self.live(&life)?;
        let ended = life.busy(&self, LIFE, u64::MAX);
        self.now = life.now();
        assert_eq!(ended, Ended::InTime);
        self.disk.mend();
        self.disk.set_space(life::SPACE);
        for upstream in [&self.upstream, &self.second] {
            upstream.turn_into(self.weather.fair());
        }
        let left = life.settle(SETTLING);
        self.past(&life);
        let (listing, closed) = life.close();
        closed.map_err(|left| format!("{left} tasks were still at work at the end"))?;
        let account = self.account.lock().unwrap();
        let evidence = Evidence {
            taken: &self.upstream.taken(),
            when: &self.when,
            unrecorded: &self.unrecorded,
            listing: &listing,
            crashes: self.crashes,
        };
        let summary = balance::balance(&account, &evidence)?;
        match left {
            0 => Ok(summary),
            left => {
                let stuck: Vec<_> = listing.iter().filter(|listed| listed.state() != State::Dead).collect();
                let now = self.now.after(SETTLING);
                Err(format!("{left} messages are stuck: neither delivered nor reported nor dead at {now:?}: {stuck:?}"))
            }
        }
    }

    fn live_until_the_power_goes(&mut self) -> Result<(), String> {
        let before = self.upstream.taken().len();
        let mut life = self.come_up()?;
        let last_operation = self.disk.operations() + 1 + self.dice.draw(400);
        let _ = life.busy(self, LIFE, last_operation);
        self.now = life.now();
        let cut = life.instant();
        let taken = self.upstream.taken();
        let ill = life.ill();
        let late = taken.iter().enumerate().skip(before).filter(|(_, one)| {
            // An illness that began when it was long recorded excuses nothing.
            let was_ill =
                ill.iter().any(|&(from, until)| from <= one.at + RECORDED_SOON && until + CONVALESCENCE >= one.at);
            cut.duration_since(one.at) < if was_ill { RECORDED_WITHIN } else { RECORDED_SOON }
        });
        let late: BTreeSet<usize> = late.map(|(place, _)| place).collect();
        let silent = (before..taken.len()).filter(|place| !taken[*place].answered && !late.contains(place));
        self.silent.extend(silent);
        self.past(&life);
        // First the disk, then the process: what its tasks do while they are torn down reaches nothing any more.
        self.power_cut();
        life.kill();
        // Of these only what the store still owes somebody may come again.
        self.doubtful.extend(late);
        Ok(())
    }

    /// The daemon is stopped with mail in the queue, as for an update. What it heard of the upstream by then it has written down: nothing of that comes again.
    fn live_until_the_drain(&mut self) -> Result<(), String> {
        let mut life = self.come_up()?;
        let _ = life.busy(self, LIFE / 2, u64::MAX);
        self.disk.mend();
        self.disk.set_space(life::SPACE);
        self.now = life.now();
        self.past(&life);
        let (before, rest) = (self.upstream.taken(), life.instant());
        let (end, closed) = life.come_to_rest();
        let drained = self.upstream.taken().len() - before.len();
        // Who waited for an upstream before the end of a message may be left, and has nothing to write down.
        let is_slow = matches!(self.driving(), Driving::Simulated(commit) if commit >= Duration::from_secs(2));
        if closed.is_err() && is_slow {
            // The daemon ends five seconds after its grace: on such a disk the last outcomes are as after a cut.
            let late = before.iter().enumerate().filter(|(_, one)| rest.duration_since(one.at) < RECORDED_WITHIN);
            self.doubtful.extend(late.map(|(place, _)| place).chain(before.len()..before.len() + drained));
        }
        self.when.extend(std::iter::repeat_n(self.age, drained));
        self.age += end;
        self.now = self.now.after(end);
        Ok(())
    }

    /// A life has begun.
    fn live(&mut self, life: &Life) -> Result<(), String> {
        self.account.lock().unwrap().live(self.age, life.instant());
        let (doubtful, silent) = (std::mem::take(&mut self.doubtful), std::mem::take(&mut self.silent));
        let Some(owed) = life.owed() else {
            self.unrecorded.extend(doubtful);
            return Ok(());
        };
        let taken = self.upstream.taken();
        let silent: Vec<_> = silent.iter().map(|&place| taken[place].clone()).collect();
        balance::knows_who_may_have_it(&owed, &silent)?;
        let owed: BTreeSet<String> = owed
            .iter()
            .filter_map(|listed| match listed {
                Listed::Message(record) => record.trace.message_id.clone(),
                Listed::Unreadable(..) => None,
            })
            .collect();
        self.unrecorded.extend(doubtful.into_iter().filter(|&place| {
            let own = balance::message_id(&String::from_utf8_lossy(&taken[place].octets));
            own.is_some_and(|own| owed.iter().any(|one| own.trim_matches(['<', '>']) == one.trim_matches(['<', '>'])))
        }));
        Ok(())
    }

    /// A life is over; its clock is nobody's any more.
    fn past(&mut self, life: &Life) {
        let account = self.account.lock().unwrap();
        let taken = self.upstream.taken();
        self.when.extend(taken.iter().skip(self.when.len()).map(|one| account.since_beginning(one.at)));
        self.age = account.since_beginning(life.instant());
    }

    /// The power may go while the store recovers, too; when it stays, the store opens.
    fn come_up(&mut self) -> Result<Life, String> {
        while self.dice.one_in(3) {
            self.disk.fail(1 + self.dice.draw(30), u64::MAX, Fault::Error);
            if let Ok(life) = self.begin() {
                // It came up before that operation. A disk that fails for longer than a report waits to quote its message is none of this life's.
                self.disk.mend();
                self.live(&life)?;
                return Ok(life);
            }
            self.power_cut();
        }
        let life = self.begin()?;
        self.live(&life)?;
        Ok(life)
    }

    fn power_cut(&mut self) {
        self.disk.crash();
        self.disk.mend();
        self.disk.set_space(life::SPACE);
        let dark = self.dice.seconds(600);
        self.now = self.now.after(dark);
        self.age += dark;
    }

    fn begin(&self) -> Result<Life, String> {
        Life::begin(self, self.now)
    }
}
