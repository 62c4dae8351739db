//! How messages and figures are printed: in lines that fit a terminal, whole, or as JSON that scripts read.
//!
//! Never: prints what could steer a terminal.

use std::io::{self, Write};

use serde_json::json;

use crate::cli::output::{Output, clean_section, counted, cut};
use crate::daemon::steering::StateName;
use crate::daemon::steering::active::{ActiveEntry, LongestAttempt};
use crate::daemon::steering::breakdown::{Breakdown, Row};
use crate::daemon::steering::entry::{Entry, EntryRecipient};
use crate::daemon::steering::line::{push_said, shown_sender};
use crate::daemon::steering::sums::{Happened, IntakeSums, Sums, UpstreamSums};
use crate::plain::{self, clean, size};
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
}

impl Printer {
    pub(super) fn new(form: Form, now: WallTime) -> Self {
        Self { form, out: Output::new(), now }
    }

    pub(super) fn entry(&mut self, entry: &Entry) -> anyhow::Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{}", plain::json(entry)?)?,
            // What is listed in lines comes in lines.
            Form::Lines | Form::Whole => self.whole(entry)?,
        }
        Ok(())
    }

    pub(super) fn headers(&mut self, section: &str) -> anyhow::Result<()> {
        match self.form {
            Form::Json => writeln!(self.out, "{}", plain::json(&json!({ "headers": section }))?)?,
            Form::Lines | Form::Whole => writeln!(self.out, "\n{}", clean_section(section).trim_end())?,
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        let width = self.out.width();
        self.out.write_all(cut(&clean(line), width).as_bytes())?;
        self.out.write_all(b"\n")
    }

    /// Lines of a list. Whoever made them has left nothing in them that steers a terminal; what comes from another process is looked at all the same.
    pub(super) fn lines(&mut self, text: &str) -> io::Result<()> {
        let text = plain::clean_lines(text);
        match self.out.width() {
            None => self.out.write_all(text.as_bytes()),
            width => text.lines().try_for_each(|line| writeln!(self.out, "{}", cut(line, width))),
        }
    }

    fn whole(&mut self, entry: &Entry) -> io::Result<()> {
        let parameters =
            |words: &[String]| if words.is_empty() { String::new() } else { format!(" {}", words.join(" ")) };
        let is_due = || seconds(&entry.due).is_some_and(|due| due <= self.now.seconds());
        let next = match entry.state {
            _ if entry.active.is_some() => String::new(),
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
            ("active", entry.active.as_ref().map(tried_since).unwrap_or_default()),
        ]);
        for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(self.out, "{name:>13}: {}", clean(value))?;
        }
        for route in entry.active.iter().flat_map(|active| &active.routes) {
            writeln!(self.out, "{:>13}  {}", "", clean(&route.words(Some(entry.octets))))?;
        }
        for to in &entry.recipients {
            let mut line = format!("{}{}: {}", to.address, parameters(&to.parameters), to.outcome);
            push_said(&mut line, &to.detail, to.reply.as_ref());
            writeln!(self.out, "{:>13}: {}", "to", clean(&line))?;
            if let Some(line) = tried_last(to) {
                writeln!(self.out, "{:>13}  {}", "", clean(&line))?;
            }
        }
        Ok(())
    }

    pub(super) fn sums(&mut self, sums: &Sums) -> anyhow::Result<()> {
        if self.form == Form::Json {
            writeln!(self.out, "{}", plain::json(sums)?)?;
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
        if let Some(LongestAttempt { id, active }) = sums.longest_attempt.as_ref().filter(|one| one.active.seconds > 0)
        {
            let where_it_is: Vec<String> = active.routes.iter().map(|route| route.words(None)).collect();
            let line = format!("attempt under way for {}, {id}: {}", span(active.seconds), where_it_is.join("; "));
            writeln!(self.out, "{:>8}: {}", "longest", clean(&line))?;
        }
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

/// Which upstream tried it last, and whether it has answered. While it is waited for, and after a crash then, the attempt is not counted.
fn tried_last(to: &EntryRecipient) -> Option<String> {
    let (upstream, at) = (to.upstream.as_ref()?, to.last_attempt.as_ref()?);
    Some(match (to.undetermined, to.attempts) {
        (false, attempts) => format!("attempt {attempts} by upstream {upstream}, ended {at}"),
        (true, attempts) => {
            let ended = match attempts {
                0 => "no attempt has ended yet".to_owned(),
                1 => "1 attempt has ended".to_owned(),
                several => format!("{several} attempts have ended"),
            };
            format!("upstream {upstream} may have it: it was given all of it, and had not answered at {at}; {ended}")
        }
    })
}

fn tried_since(active: &ActiveEntry) -> String {
    format!("being tried now, since {} ({} ago)", active.since, span(active.seconds))
}

/// Who vouched for the certificate; our own reports have none.
fn trusted(entry: &Entry) -> String {
    let by_pin = || if entry.fingerprint.is_empty() { String::new() } else { "a pin".to_owned() };
    entry.ca.clone().unwrap_or_else(by_pin)
}

/// How long ago a moment was, in one unit.
fn age(arrived: &str, now: WallTime) -> String {
    seconds(arrived).map_or_else(|| "?".to_owned(), |arrived| plain::age(WallTime::from_seconds(arrived), now))
}

/// Of RFC 3339, since 1970.
fn seconds(moment: &str) -> Option<i64> {
    moment.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_tried_last_is_told_with_whether_that_was_answered() {
        let told = |undetermined: bool, attempts: u32, upstream: Option<&str>| {
            tried_last(&EntryRecipient {
                address: "bob@example.net".to_owned(),
                parameters: Vec::new(),
                open: true,
                outcome: "deferred".to_owned(),
                detail: String::new(),
                reply: None,
                undetermined,
                attempts,
                upstream: upstream.map(str::to_owned),
                last_attempt: Some("T".to_owned()),
            })
        };
        assert_eq!(told(false, 0, None), None);
        assert_eq!(told(false, 2, Some("main")).unwrap(), "attempt 2 by upstream main, ended T");
        for (attempts, ended) in
            [(0, "no attempt has ended yet"), (1, "1 attempt has ended"), (2, "2 attempts have ended")]
        {
            let line = told(true, attempts, Some("main")).unwrap();
            let begin = "upstream main may have it: it was given all of it, and had not answered at T; ";
            assert_eq!(line, format!("{begin}{ended}"));
        }
    }

    #[test]
    fn a_moment_that_is_none_has_no_age() {
        let now = WallTime::from_seconds(1_000_000);
        assert_eq!(age(&WallTime::from_seconds(999_940).rfc3339(), now), "1m");
        assert_eq!((age("", now), age("2999-01-01T00:00:00Z", now)), ("?".to_owned(), "0s".to_owned()));
    }
}
