//! What can be written behind `sealpost queue`. The help is written to teach: an operator reads it with a full queue and little time.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::ConfigArgument;
use crate::daemon::steering::StateName;
use crate::daemon::steering::selection::Filters;
use crate::mail::QueueId;

/// `sealpost queue`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples (-c is --config):\n\n  \
    sealpost queue stats -c sealpost.toml                                 what is there, whose, how old; does mail go in, does it go out\n  \
    sealpost queue list -c sealpost.toml --sender '*@example.com' --older-than 2h\n  \
    sealpost queue list -c sealpost.toml --state dead --json\n  \
    sealpost queue list -c sealpost.toml --active                         what is being tried just now, at which upstream, at which step\n  \
    sealpost queue show -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d --headers\n  \
    sealpost queue hold -c sealpost.toml --identity billing-robot         stop what it has sent, whatever it was\n  \
    sealpost queue remove -c sealpost.toml --identity billing-robot --newer-than 1h --dry-run\n  \
    sealpost queue retry -c sealpost.toml --upstream main                 it is well again\n\n\
    While the daemon runs, it is asked; else the store is opened, by its owner only. Each deed that the daemon does is told in the log's audit, with who asked.")]
pub struct QueueArguments {
    /// What to do with it.
    #[command(subcommand)]
    pub command: QueueCommand,
}

const HOLD_HELP: &str = "Examples:\n\n  sealpost queue hold -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue hold -c sealpost.toml --sender '*@example.com' --newer-than 2h\n  \
    sealpost queue hold -c sealpost.toml --identity billing-robot --dry-run\n\n\
    Filters are put together with \"and\". Without names, what is queued is meant, and only what is there when the command begins: what comes later is \
    not held. The names of the messages it was done to are printed, one a line. Of a message that is named and is dead, that is said, and \
    nothing is done.";

const RELEASE_HELP: &str = "Examples:\n\n  sealpost queue release -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue release -c sealpost.toml --identity billing-robot\n  sealpost queue release -c sealpost.toml --all --dry-run\n\n\
    Filters are put together with \"and\". Without names, what is held is meant, also what queue.recheck or an identity's hold keeps back. The names of the \
    messages it was done to are printed, one a line. Of a message that is named and is not held, that is said, and nothing is done.";

const RETRY_HELP: &str = "Examples:\n\n  sealpost queue retry -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue retry -c sealpost.toml --upstream main       it is well again\n  sealpost queue retry -c sealpost.toml --state dead --dry-run\n\n\
    Filters are put together with \"and\". Without names, what is queued or dead is meant: it is due now; a held message is let go when it is named. What its sender wants to wait (FUTURERELEASE) waits on. The names of the messages it was done to are \
    printed, one a line.";

const REMOVE_HELP: &str = "Examples:\n\n  sealpost queue remove -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue remove -c sealpost.toml --identity billing-robot --dry-run\n  \
    sealpost queue remove -c sealpost.toml --identity billing-robot --yes\n  \
    sealpost queue remove -c sealpost.toml --recipient '*@typo.example'\n  \
    sealpost queue remove -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d --recipient bob@example.net\n\n\
    Filters are put together with \"and\". Only what is there when the command begins is meant. With --recipient these recipients are taken out of each \
    message, and the message goes when nobody is left. By filter it asks before it begins, or wants --yes. The names of the messages it was done to \
    are printed, one a line. Nobody gets a report of what is removed.";

/// What can be done with the queue.
#[derive(Clone, Debug, Subcommand)]
pub enum QueueCommand {
    /// List what is in the queue, oldest first
    List(QueueList),
    /// Show one message: envelope, who sent it, each recipient and its last reply; never its body
    Show(QueueShow),
    /// Keep messages back until released
    #[command(after_help = HOLD_HELP)]
    Hold(QueueSelection),
    /// Let held messages go on
    #[command(after_help = RELEASE_HELP)]
    Release(QueueSelection),
    /// Try messages now, dead ones included
    #[command(after_help = RETRY_HELP)]
    Retry(QueueSelection),
    /// Remove messages, or single recipients of them; nobody is told
    #[command(after_help = REMOVE_HELP)]
    Remove(QueueRemoval),
    /// Count what is in the queue, and say whether mail goes in and out
    Stats(QueueStats),
    /// Give the disk back what the store's file does not need: writes it anew with what is kept
    #[command(after_help = "Example:\n\n  sealpost queue compact -c sealpost.toml\n\n\
        Worth it when `queue stats` tells a file much larger than what is queued, held and dead, after a flood say.")]
    Compact {
        /// Which queue.
        #[command(flatten)]
        common: QueueCommon,
    },
    /// Write messages into a file, as they are, to be moved to another queue; or remove them once they have arrived there
    Export(QueueExport),
    /// Take the messages of an export in, as they were; done twice, it does nothing the second time
    Import(QueueImport),
}

impl QueueCommand {
    /// Which messages are meant, where that can be said.
    pub fn filters(&self) -> Option<Filters> {
        match self {
            Self::List(list) => Some(list.filters.filters()),
            Self::Hold(selection) | Self::Release(selection) | Self::Retry(selection) => {
                Some(selection.filters.filters())
            }
            Self::Remove(removal) => Some(removal.selection.filters.filters()),
            Self::Export(export) => Some(export.filters.filters()),
            Self::Show(_) | Self::Stats(_) | Self::Compact { .. } | Self::Import(_) => None,
        }
    }
}

/// What all queue commands take.
#[derive(Clone, Debug, Args)]
pub struct QueueCommon {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgument,
    /// JSON, one object a line: for each message, or of the whole for stats
    #[arg(long)]
    pub json: bool,
}

/// The name of a message: any that one could have, whether it is there or not.
fn name(text: &str) -> Result<String, String> {
    text.parse::<QueueId>().map(|_| text.to_owned()).map_err(|fault| fault.to_string())
}

/// `sealpost queue list`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost queue list -c sealpost.toml --recipient '*@example.net'\n  \
    sealpost queue list -c sealpost.toml --active               what is being tried just now, and where it hangs\n  \
    sealpost queue list -c sealpost.toml --upstream main --newest-first --limit 20\n  \
    sealpost queue list -c sealpost.toml --json --limit 500 --after 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue list -c sealpost.toml --json | jq -r 'select(.attempts > 10) | .id' | sealpost queue hold -c sealpost.toml -\n\n\
    Filters are put together with \"and\". A line has the name, the state, the size, the age, and who sends to whom; below it stands what \
    happened to each recipient that was tried, or how far the attempt is that is under way: that only a running daemon knows. On a terminal lines are cut; --json has everything.")]
pub struct QueueList {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// Which messages.
    #[command(flatten)]
    pub filters: QueueFilters,
    /// Only what is being tried just now: since when, at which upstream, at which step; quick at any size of the queue
    #[arg(long)]
    pub active: bool,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    pub limit: usize,
    /// Begin behind this message: the last one of the list before
    #[arg(long, value_name = "ID", value_parser = name)]
    pub after: Option<String>,
    /// Newest first
    #[arg(long)]
    pub newest_first: bool,
}

/// `sealpost queue show`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost queue show -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d\n  \
    sealpost queue show -c sealpost.toml 01jdkz3n7q8w0x2y4z6a8b0c1d --headers\n\n\
    The body is never shown, by no option: it is the sender's and the recipients', and no decision here depends on it.")]
pub struct QueueShow {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// The message
    pub id: String,
    /// Show its header section too, with Received on top as the upstream gets it
    #[arg(long)]
    pub headers: bool,
}

/// `sealpost queue stats`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost queue stats -c sealpost.toml\n  \
    sealpost queue stats -c sealpost.toml --top 0 --json | jq '.intake.accepts'     quick at any size, for monitoring\n\n\
    The list by identity, upstream, domain and age looks at each message: four seconds or so for a million. \"refused\" counts senders, recipients, \
    messages and authentications.")]
pub struct QueueStats {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// So many identities, upstreams and domains; 0 for none, without a look at each message
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub top: usize,
}

/// `sealpost queue export`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples, to move a queue from one machine to another:\n\n  \
    systemctl stop sealpost                                            on the old machine\n  \
    sealpost queue export -c sealpost.toml /root/queue.export\n  \
    scp /root/queue.export new:                                        and there\n  \
    sealpost queue import -c sealpost.toml queue.export                with the relay running, or stopped\n  \
    scp new:queue.export.receipt /root/                                and back on the old one\n  \
    sealpost queue export -c sealpost.toml --remove-after /root/queue.export.receipt\n\n\
    An export changes nothing: until --remove-after the old queue has its messages still, and a relay that is started on it sends them. Import into \
    one queue only: two would both deliver. --remove-after removes exactly what the receipt says has arrived, and may be repeated; what this queue has told \
    another one since, that it has it, stays (exit code 1): export it again. While the relay runs, only held messages are exported, for others could be delivered here and \
    there: hold what is to move first. How many were passed over is told (exit code 1), unless --state held was said. The file holds whole messages: keep it as you keep the queue (it is made with mode 0600).\n\
    The format is told in docs/operating.md.")]
pub struct QueueExport {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// Which messages.
    #[command(flatten)]
    pub filters: QueueFilters,
    /// Where to; it must not exist
    #[arg(value_name = "FILE", required_unless_present = "remove_after", conflicts_with = "remove_after")]
    pub file: Option<PathBuf>,
    /// Remove what this receipt of an import says has arrived elsewhere
    #[arg(long, value_name = "RECEIPT", conflicts_with_all = ["state", "identity", "sender", "recipient", "upstream", "older_than", "newer_than"])]
    pub remove_after: Option<PathBuf>,
}

/// `sealpost queue import`
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n\n  sealpost queue import -c sealpost.toml queue.export\n\n\
    What was held is held, what was queued is due as it was, and nothing is counted to anybody's limits a second time. What is damaged in the file is \
    left out and told; everything else is taken. Interrupted, it is repeated, and goes on where it was. When all is on stable storage, the receipt is \
    written: queue.export.receipt, for `queue export --remove-after` on the machine that it came from. The machine that the export \
    was made on refuses it, for the messages are there or another one has them, unless --take-back is said.")]
pub struct QueueImport {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// The export
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Take in what was exported here: only when the queue that got it, or this one, never delivered it and never will
    #[arg(long)]
    pub take_back: bool,
    /// Where to write the receipt, instead of FILE.receipt
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// Filters; all that are given must hold.
#[derive(Clone, Debug, Default, Args)]
pub struct QueueFilters {
    /// Only messages in this state
    #[arg(long, value_enum)]
    pub state: Option<QueueStateArgument>,
    /// Only what this identity sent
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,
    /// Only from this address, or *@domain; <> is the null sender
    #[arg(long, value_name = "ADDRESS")]
    pub sender: Option<String>,
    /// Only to this address, or *@domain, as long as it does not have the message
    #[arg(long, value_name = "ADDRESS")]
    pub recipient: Option<String>,
    /// Only what this upstream was last asked to take
    #[arg(long, value_name = "NAME")]
    pub upstream: Option<String>,
    /// Only what came longer ago: 30m, 2h, 3d
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub older_than: Option<Duration>,
    /// Only what came since: 30m, 2h, 3d ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub newer_than: Option<Duration>,
}

impl QueueFilters {
    /// As they are asked.
    pub fn filters(&self) -> Filters {
        let millis = |wait: Option<Duration>| wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        Filters {
            state: self.state.map(StateName::from),
            identity: self.identity.clone(),
            sender: self.sender.clone(),
            recipient: self.recipient.clone(),
            upstream: self.upstream.clone(),
            older_than: millis(self.older_than),
            newer_than: millis(self.newer_than),
            until: None,
        }
    }
}

/// Which messages.
#[derive(Clone, Debug, Args)]
pub struct QueueSelection {
    /// Which queue.
    #[command(flatten)]
    pub common: QueueCommon,
    /// The messages; - reads their names from standard input
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only those of them, or of all, that these hold for.
    #[command(flatten)]
    pub filters: QueueFilters,
    /// All that this can be done to
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Do nothing: list which messages it would be done to, and how many
    #[arg(long)]
    pub dry_run: bool,
}

/// `sealpost queue remove`
#[derive(Clone, Debug, Args)]
pub struct QueueRemoval {
    /// Which messages.
    #[command(flatten)]
    pub selection: QueueSelection,
    /// Do not ask, where filters or --all say what is meant; what is named is never asked about
    #[arg(long)]
    pub yes: bool,
}

/// A state to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum QueueStateArgument {
    /// To be tried when due
    Queued,
    /// Kept back
    Held,
    /// Can't be delivered nor reported
    Dead,
}

impl From<QueueStateArgument> for StateName {
    fn from(state: QueueStateArgument) -> Self {
        match state {
            QueueStateArgument::Queued => Self::Queued,
            QueueStateArgument::Held => Self::Held,
            QueueStateArgument::Dead => Self::Dead,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a number and its unit, like 30m, 2h, 3d".to_owned())
}
