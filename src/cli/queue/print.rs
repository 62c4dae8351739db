//! How messages and figures are printed: in lines that fit a terminal, whole, or as JSON that scripts read.
//!
//! Never: prints what could steer a terminal.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

use serde_json::json;

use crate::cli::output::{self, Output, clean, clean_lines, counted, cut};
use crate::daemon::steering::StateName;
use crate::daemon::steering::breakdown::{Breakdown, Row};
use crate::daemon::steering::entry::Entry;
use crate::daemon::steering::line::{Shown, ShownRecipient};
use crate::daemon::steering::sums::{Happened, IntakeSums, Sums, UpstreamSums};
use crate::sys::WallTime;

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Whole,
    Json,
}

/// Prints.
#[derive(Debug)]
pub(super) struct Printer {
    pub(super) form: Form,
    pub(super) out: Output,
    now: WallTime,
    /// What a line is put together in.
    text: String,
}

impl Printer {
    pub(super) fn new(form: Form, now: WallTime) -> Self {
        Self { form, out: Output::new(), now, text: String::new() }
    }

    pub(super) fn entry(&mut self, entry: &Entry) -> anyhow::Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{}", output::json(entry)?)?,
            // What is listed in lines comes in lines.
            Form::Lines | Form::Whole => self.whole(entry)?,
        }
        Ok(())
    }

    pub(super) fn headers(&mut self, section: &str) -> anyhow::Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{}", output::json(&json!({ "headers": section }))?)?,
            Form::Lines | Form::Whole => writeln!(self.out, "\n{}", clean_lines(section).trim_end())?,
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let width = self.out.width();
        self.out.write_all(cut(&clean(line), width).as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// One message of a list.
    pub(super) fn line_of(&mut self, one: &Shown<'_>) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        self.write_line(&mut text, one).map_err(io::Error::other)?;
        self.line(&text)?;
        self.text = text;
        if let Some(reason) = &one.reason {
            self.line(&format!("    {reason}"))?;
        }
        if one.state == StateName::Queued && one.tried.is_empty() {
            self.line(&untried(one.hold_until, self.now))?;
        }
        one.tried.iter().try_for_each(|ShownRecipient { address, outcome, detail, reply }| {
            self.line(&format!("    {address}: {outcome}{}", said(detail, reply.as_deref())))
        })
    }

    fn write_line(&self, text: &mut String, one: &Shown<'_>) -> fmt::Result {
        use fmt::Write as _;
        let Shown { id, state, identity, sender, octets, arrived, .. } = one;
        let (state, size, ago) = (state.word(), size(*octets), ago(*arrived, self.now));
        write!(text, "{id}  {state:6}  {size:>8}  {ago:>4}  {} (as {identity}) ->", shown_sender(sender))?;
        for (place, to) in one.to.iter().enumerate() {
            text.push_str(if place == 0 { " " } else { ", " });
            text.push_str(to);
        }
        Ok(())
    }

    fn whole(&mut self, entry: &Entry) -> io::Result<()> {
        let parameters =
            |words: &[String]| if words.is_empty() { String::new() } else { format!(" {}", words.join(" ")) };
        let is_due = || seconds(&entry.due).is_some_and(|due| due <= self.now.seconds());
        let next = match entry.state {
            StateName::Queued if is_due() => format!("{} (it is due: when its turn comes)", entry.due),
            StateName::Queued => entry.due.clone(),
            StateName::Held | StateName::Dead => String::new(),
        };
        let mut rows = vec![
            ("id", entry.id.clone()),
            ("state", entry.state.word().to_owned()),
            ("reason", entry.reason.clone().unwrap_or_default()),
            ("held by", entry.held_by.clone().unwrap_or_default()),
            ("sent by", entry.identity.clone()),
            ("trusted by", trusted(entry)),
            ("certificate", entry.fingerprint.clone()),
        ];
        for (issuer, serial) in &entry.chain {
            rows.push(("issued", format!("serial {serial} by {issuer}")));
        }
        rows.extend([
            ("from", format!("{}{}", shown_sender(&entry.sender), parameters(&entry.parameters))),
            ("Message-ID", entry.message_id.clone().unwrap_or_default()),
            ("arrived", format!("{} ({} ago)", entry.arrived, age(&entry.arrived, self.now).trim())),
            ("client", format!("{} ({}), {} {}", entry.client, entry.helo, entry.protocol, entry.tls)),
            ("octets", entry.octets.to_string()),
            ("attempts", entry.attempts.to_string()),
            ("let go", entry.released.clone().unwrap_or_default()),
            ("delay told", if entry.warned { "yes".to_owned() } else { String::new() }),
            ("next attempt", next),
        ]);
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(self.out, "{name:>13}: {}", clean(value))?;
        }
        for to in &entry.recipients {
            let line = format!(
                "{}{}: {}{}",
                to.address,
                parameters(&to.parameters),
                to.outcome,
                said(&to.detail, to.reply.as_deref())
            );
            writeln!(self.out, "{:>13}: {}", "to", clean(&line))?;
            if let (Some(upstream), Some(at)) = (&to.upstream, &to.last_attempt) {
                // One whose end was not heard yet, or never, is not counted.
                let (upstream, number) = (clean(upstream), to.attempts.max(1));
                writeln!(self.out, "{:>13}  attempt {number} at {at} by upstream {upstream}", "")?;
            }
            if to.undetermined {
                writeln!(self.out, "{:>13}  an upstream may have it: it was silent behind the last octet, or is", "")?;
            }
        }
        Ok(())
    }

    pub(super) fn sums(&mut self, sums: &Sums) -> anyhow::Result<()> {
        if self.form == Form::Json {
            writeln!(self.out, "{}", output::json(sums)?)?;
            return Ok(());
        }
        for (name, count, octets) in [
            ("queued", sums.queued, sums.queued_octets),
            ("held", sums.held, sums.held_octets),
            ("dead", sums.dead, sums.dead_octets),
        ] {
            writeln!(self.out, "{name:>8}: {}, {}", counted(count, "message"), size(octets))?;
        }
        writeln!(self.out, "{:>8}: {} being tried now", "claimed", counted(sums.claimed, "message"))?;
        if sums.unrecorded > 0 {
            writeln!(
                self.out,
                "{:>8}: of {} the attempt is over, and its outcome waits to be recorded",
                "outcomes",
                counted(sums.unrecorded, "message")
            )?;
        }
        if let Some(seconds) = sums.oldest_seconds {
            writeln!(self.out, "{:>8}: {}", "oldest", span(seconds))?;
        }
        writeln!(self.out, "{:>8}: {}", "file", size(sums.file_octets))?;
        match &sums.intake {
            Some(IntakeSums { why_not: Some(why), largest: Some(largest), .. }) => writeln!(
                self.out,
                "{:>8}: mail is taken, BUT NO MESSAGE OVER {}, of which clients hear 452: {}",
                "intake",
                size(*largest),
                clean(why)
            )?,
            Some(IntakeSums { why_not: None, .. }) => writeln!(self.out, "{:>8}: mail is taken", "intake")?,
            Some(IntakeSums { why_not: Some(why), .. }) => {
                writeln!(self.out, "{:>8}: NO MAIL IS TAKEN, clients hear 452: {}", "intake", clean(why))?;
            }
            None => writeln!(self.out, "{:>8}: no daemon runs, so no mail is taken", "intake")?,
        }
        if let Some(happened) = &sums.since_start {
            self.happened(happened)?;
        }
        match &sums.upstreams {
            Some(upstreams) => upstreams.iter().try_for_each(|one| self.upstream(one))?,
            None => writeln!(self.out, "upstreams: no daemon runs, and only a running one knows how they stand")?,
        }
        if let Some(breakdown) = sums.breakdown.as_ref().filter(|_| sums.queued + sums.held + sums.dead > 0) {
            self.breakdown(breakdown)?;
        }
        Ok(())
    }

    fn happened(&mut self, happened: &Happened) -> io::Result<()> {
        writeln!(
            self.out,
            "since the start, {} ago: {} accepted{}; recipients: {} delivered{}, {} deferred, {} failed; {}, {} dead; {}",
            span(happened.seconds),
            counted(happened.accepted, "message"),
            pace(happened.accepted, happened.seconds),
            happened.delivered,
            pace(happened.delivered, happened.seconds),
            happened.deferred,
            happened.failed,
            counted(happened.reported, "report"),
            happened.dead,
            counted(happened.refused, "refusal")
        )
    }

    fn breakdown(&mut self, breakdown: &Breakdown) -> io::Result<()> {
        for (title, rows) in [
            ("by identity", &breakdown.identities),
            ("by upstream asked last", &breakdown.upstreams),
            ("by recipient domain", &breakdown.domains),
            ("by age", &breakdown.ages),
        ] {
            writeln!(self.out, "{title}:")?;
            for Row { name, messages, octets } in rows.iter().filter(|row| row.messages > 0) {
                self.line(&format!("{messages:>9}  {:>8}  {name}", size(*octets)))?;
            }
        }
        for identity in &breakdown.shares_used_up {
            self.line(&format!("{identity} has its share of the queue (queue.share_per_identity) and hears 452"))?;
        }
        Ok(())
    }

    fn upstream(&mut self, one: &UpstreamSums) -> io::Result<()> {
        let health = match &one.open_until {
            Some(until) => format!("left alone until {until}, then one message probes it"),
            None if one.health == "half-open" => "being tried: one message probes it, the others wait".to_owned(),
            None => "in service".to_owned(),
        };
        writeln!(
            self.out,
            "upstream {}: {health}; {} of {} in use, {} idle, {} waiting for one",
            one.name,
            one.connections_in_use,
            counted(one.connections_limit, "connection"),
            one.connections_idle,
            counted(one.waiting, "message")
        )?;
        if one.routes != ["default"] {
            writeln!(self.out, "    of route {}", one.routes.join(", "))?;
        }
        if one.unanswered_in_a_row > 0 {
            let row = one.unanswered_in_a_row;
            writeln!(self.out, "    attempts in a row without an answer for a minute: {row}")?;
        }
        if let Some(since) = &one.nothing_delivered_since {
            writeln!(
                self.out,
                "    answers, and puts off all messages since {since}: nothing was delivered through it"
            )?;
        }
        if let (Some(fault), Some(at)) = (&one.last_fault, &one.last_fault_at) {
            let fault = clean(fault);
            writeln!(self.out, "    last fault, {at} ({} in a row): {fault}", one.faults_in_a_row)?;
        }
        Ok(())
    }
}

/// Why nothing stands below a message that waits.
fn untried(hold_until: Option<i64>, now: WallTime) -> Cow<'static, str> {
    match hold_until.filter(|&until| until > now.seconds()) {
        Some(until) => {
            let until = WallTime::from_seconds(until).rfc3339();
            format!("    waits until {until}, as its sender asked (HOLDFOR, HOLDUNTIL)").into()
        }
        None => "    no attempt has ended yet: see `sealpost queue stats`".into(),
    }
}

/// What happened to a recipient, and what the upstream said, where the one does not hold the other.
fn said(detail: &str, reply: Option<&str>) -> String {
    let happened = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    match reply {
        Some(reply) if !detail.contains(reply) => format!("{happened}: {reply}"),
        Some(_) | None => happened,
    }
}

/// Who vouched for the certificate; our own reports have none.
fn trusted(entry: &Entry) -> String {
    let by_pin = || if entry.fingerprint.is_empty() { String::new() } else { "a pin".to_owned() };
    entry.ca.clone().unwrap_or_else(by_pin)
}

fn shown_sender(sender: &str) -> &str {
    if sender.is_empty() { "<>" } else { sender }
}

/// How long ago a moment was, in one unit.
fn age(arrived: &str, now: WallTime) -> String {
    seconds(arrived).map_or_else(|| "?".to_owned(), |arrived| ago(arrived, now))
}

/// Of RFC 3339, since 1970.
fn seconds(moment: &str) -> Option<i64> {
    moment.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

fn ago(arrived: i64, now: WallTime) -> String {
    let seconds = u64::try_from(now.seconds().saturating_sub(arrived)).unwrap_or(0);
    let units = [(86_400 * 2, 86_400, "d"), (3_600, 3_600, "h"), (60, 60, "m")];
    let unit = units.into_iter().find(|(from, _, _)| seconds >= *from);
    unit.map_or_else(|| format!("{seconds}s"), |(_, whole, name)| format!("{}{name}", seconds / whole))
}

fn span(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// So many a minute, when it is one at least and there was a minute.
fn pace(count: u64, seconds: u64) -> String {
    match count.saturating_mul(60) / seconds.max(1) {
        0 => String::new(),
        _ if seconds < 60 => String::new(),
        a_minute => format!(" ({a_minute} a minute)"),
    }
}

/// Octets for people: three figures are enough.
pub(in crate::cli) fn size(octets: u64) -> String {
    let mut whole = octets;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    let mut tenth = 0;
    for next in units {
        if whole < 1024 {
            break;
        }
        tenth = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = next;
    }
    if unit == "B" || whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_came_of_a_message_yet_is_said() {
        let now = WallTime::from_seconds(1_800_000_000);
        for (until, words) in [
            (None, "no attempt has ended yet"),
            (Some(1_800_000_000), "no attempt has ended yet"),
            (Some(1_800_000_001), "waits until 2027-01-15T08:00:01Z, as its sender asked"),
        ] {
            assert!(untried(until, now).contains(words), "{until:?}: {}", untried(until, now));
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let now = WallTime::from_seconds(1_000_000);
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (172_799, "47h"), (172_800, "2d")]
        {
            assert_eq!(age(&WallTime::from_seconds(1_000_000 - seconds).rfc3339(), now), shown, "{seconds}");
        }
        assert_eq!((age("", now), age("2999-01-01T00:00:00Z", now)), ("?".to_owned(), "0s".to_owned()));
    }

    #[test]
    fn sizes_have_three_figures() {
        for (octets, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (104_857_600, "100 MiB")] {
            assert_eq!(size(octets), shown);
        }
    }
}
