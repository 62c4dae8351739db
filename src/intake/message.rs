//! The octets of one message: framing undone, header gathered whole, body piece by piece, each wait within the pace.
//!
//! RFC 5321 §4.1.1.4, RFC 3030 §2: a refused message, or chunk, is read to its true end before it is answered; unless it is [`BEYOND_MAX`] octets over
//! its limit, which no honest client sends. The chunks of a message are one
//! message: its header, its size, its lines and its pace go on from each to the next. A header section takes memory of the queue's budget while it is read.
//! Never: judges; keeps a body; keeps a header that is refused.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::pace::{Pace, PaceLimits, TooSlow};
use super::wire::{Gone, Wire};
use crate::content::{
    self, BodyEnd, BodyFacts, Collected, HeaderCollector, HeaderFacts, HeaderFault, HeaderLimits, HeaderRules,
    Utf8Header,
};
use crate::queue::{Incoming, QueueError};
use crate::session::message::BEYOND_MAX;
use crate::smtp::data::{BareLf, DotState};
use crate::smtp::{Framing, MessageReader};
use crate::sys::Clock;

/// A buffer of decoded octets that is larger goes before more octets are waited for: a thousand clients in the middle of large messages wait at once.
const DECODED_KEPT: usize = 8 * 1024;

/// Why reading the message did not come to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// The client sent too little for too long.
    TooSlow,
    /// Nothing more comes.
    Gone(Gone),
}

/// What reading a header section came to.
#[derive(Debug)]
pub(super) enum HeaderEnd {
    /// It is whole, or wrong: this is what it says.
    Read(Box<HeaderFacts>),
    /// The chunk is over before the header is, which goes on in the next.
    GoesOn,
    /// There is no memory for it; the rest of the message is still to come.
    NoRoom(QueueError),
}

/// A message from its first octet to its last.
#[derive(Debug)]
pub(super) struct Receiving {
    reader: MessageReader,
    collector: HeaderCollector,
    /// What was read of the header, once it is whole.
    section: Vec<u8>,
    header: HeaderLimits,
    pace: Pace,
    /// Decoded octets that are not with the queue yet; one reading of the wire at most.
    decoded: Vec<u8>,
    octets: u64,
    octets_max: u64,
    /// Octets after which its end is not waited for.
    read_max: u64,
    state: DotState,
}

impl Receiving {
    /// One whose framing begins so.
    pub(super) fn new(
        framing: Framing,
        header: HeaderLimits,
        pace: PaceLimits,
        octets_max: u64,
        bare_lf: BareLf,
    ) -> Self {
        Self {
            reader: MessageReader::new(framing, bare_lf),
            collector: HeaderCollector::new(&header),
            section: Vec::new(),
            header,
            pace: Pace::new(pace),
            decoded: Vec::new(),
            octets: 0,
            octets_max,
            read_max: octets_max.saturating_add(BEYOND_MAX),
            state: DotState::More,
        }
    }

    /// The next chunk begins.
    pub(super) fn go_on(&mut self, framing: Framing) {
        self.reader.go_on(framing);
        self.decoded.clear();
        self.state = DotState::More;
    }

    /// Reads the header section whole and says what it says; [`Receiving::take_section`] gives it. What has come of the body then stands in
    /// [`Receiving::decoded`]. What it takes of memory is asked of `incoming`, in a few steps.
    pub(super) async fn header<S>(
        &mut self,
        wire: &mut Wire<S>,
        clock: &dyn Clock,
        utf8: Utf8Header,
        rules: &HeaderRules,
        mut incoming: Option<&mut Incoming>,
    ) -> Result<HeaderEnd, Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            self.piece(wire, clock).await?;
            if let Some(incoming) = &mut incoming
                && let Err(fault) = incoming.make_room(self.collector.would_hold(self.decoded.len())).await
            {
                return Ok(HeaderEnd::NoRoom(fault));
            }
            match self.collector.push(&self.decoded) {
                Err(fault) => return Ok(faulty(fault)),
                Ok(Collected::Whole { consumed }) => {
                    self.decoded.drain(..consumed.min(self.decoded.len()));
                    break;
                }
                Ok(Collected::More) => self.decoded.clear(),
            }
            match self.state {
                DotState::More => {}
                // No blank line: all there is, is the section (RFC 5322 §3.5: the body is optional, and so is the line before it).
                DotState::End if self.reader.is_last() => break,
                DotState::End => return Ok(HeaderEnd::GoesOn),
                DotState::Fault(fault) => return Ok(faulty(HeaderFault::Octets(fault))),
            }
        }
        let empty = HeaderCollector::new(&self.header);
        let section = std::mem::replace(&mut self.collector, empty).into_section();
        let (section, facts) = content::take_in(section, &self.header, utf8, rules);
        self.section = section;
        Ok(HeaderEnd::Read(Box::new(facts)))
    }

    /// The header section, as it was judged.
    pub(super) fn take_section(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.section)
    }

    /// What has been decoded and has not been taken; taken by reading on.
    pub(super) fn decoded(&self) -> &[u8] {
        &self.decoded
    }

    /// Whether it is larger than allowed.
    pub(super) fn is_over_size(&self) -> bool {
        self.octets > self.octets_max
    }

    /// How it ended, when it has: the message, or this chunk of it.
    pub(super) fn end(&self) -> Option<BodyEnd> {
        match self.state {
            DotState::More if self.octets > self.read_max => Some(BodyEnd::Endless),
            DotState::More => None,
            DotState::Fault(fault) => Some(BodyEnd::Disputed(fault)),
            DotState::End if self.is_over_size() => Some(BodyEnd::TooLarge),
            DotState::End if self.reader.longest_line() > self.header.line => {
                Some(BodyEnd::LineTooLong { limit: self.header.line })
            }
            DotState::End => Some(BodyEnd::Complete),
        }
    }

    /// What is known at the end.
    pub(super) fn facts(&self, end: BodyEnd) -> BodyFacts {
        BodyFacts { end, octets: self.octets.saturating_add(self.reader.held_back()) }
    }

    /// Reads to the true end and keeps nothing, of the header neither: the end may be an hour away.
    pub(super) async fn discard<S>(&mut self, wire: &mut Wire<S>, clock: &dyn Clock) -> Result<BodyFacts, Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.collector.give_up();
        self.section = Vec::new();
        loop {
            if let Some(end) = self.end() {
                return Ok(self.facts(end));
            }
            self.piece(wire, clock).await?;
        }
    }

    /// Decodes what is buffered, waiting for it when there is nothing.
    pub(super) async fn piece<S>(&mut self, wire: &mut Wire<S>, clock: &dyn Clock) -> Result<(), Stopped>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.decoded.clear();
        if wire.buffered().is_empty() && self.reader.wants_octets() {
            if self.decoded.capacity() > DECODED_KEPT {
                self.decoded = Vec::new();
            }
            await_octets(&mut self.pace, wire, clock).await?;
        }
        let progress = self.reader.read(wire.buffered(), &mut self.decoded);
        wire.consume(progress.consumed);
        self.state = progress.state;
        self.octets = self.octets.saturating_add(u64::try_from(self.decoded.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// How long the client may take to the next chunk.
    pub(super) fn patience(&self) -> Duration {
        self.pace.patience()
    }

    /// Counts the time between two chunks, and the octets that came in it, the next chunk's among them.
    pub(super) fn wait(&mut self, waited: Duration, octets: usize) -> Result<(), TooSlow> {
        self.pace.count(waited, octets)
    }
}

/// Reads over so many octets: the chunk that they are is refused (RFC 3030 §2).
pub(super) async fn skip<S>(
    wire: &mut Wire<S>,
    clock: &dyn Clock,
    pace: PaceLimits,
    count: u64,
) -> Result<BodyFacts, Stopped>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut pace, mut left) = (Pace::new(pace), count);
    loop {
        let here = wire.buffered().len().min(usize::try_from(left).unwrap_or(usize::MAX));
        wire.consume(here);
        left = left.saturating_sub(u64::try_from(here).unwrap_or(u64::MAX));
        if left == 0 {
            return Ok(BodyFacts { end: BodyEnd::Complete, octets: count });
        }
        await_octets(&mut pace, wire, clock).await?;
    }
}

/// Waits for octets, no longer than the pace allows. What was said to the commands before them is written first: a client may wait for it before
/// it sends its chunk (RFC 2920 §3.2).
async fn await_octets<S>(pace: &mut Pace, wire: &mut Wire<S>, clock: &dyn Clock) -> Result<(), Stopped>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    wire.flush().await.map_err(Stopped::Gone)?;
    let before = clock.now().mono;
    let came = match timeout(pace.patience(), wire.fill()).await {
        Ok(Ok(count)) => count,
        Ok(Err(gone)) => return Err(Stopped::Gone(gone)),
        Err(_) => 0,
    };
    pace.count(clock.now().mono.since(before), came).map_err(|_| Stopped::TooSlow)
}

fn faulty(fault: HeaderFault) -> HeaderEnd {
    HeaderEnd::Read(Box::new(HeaderFacts { fault: Some(fault), ..HeaderFacts::default() }))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::sys::ManualClock;

    fn limits() -> (HeaderLimits, PaceLimits) {
        let second = Duration::from_secs(1);
        let header = HeaderLimits { section: 1000, line: 1000, fields: 10 };
        (header, PaceLimits { rate_min: 1, window: second, total_max: second })
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_more_of_a_large_message_holds_nothing_of_it() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let (header, pace) = limits();
        let mut receiving = Receiving::new(Framing::Dot, header, pace, 1 << 20, BareLf::Refused);
        let (mut wire, clock) =
            (Wire::new(server, pace.window), ManualClock::at(crate::sys::WallTime::from_seconds(0)));
        client.write_all(&b"x\r\n".repeat(5000)).await.unwrap();
        receiving.piece(&mut wire, &clock).await.unwrap();
        assert!(receiving.decoded.capacity() > DECODED_KEPT);
        while !wire.buffered().is_empty() {
            receiving.piece(&mut wire, &clock).await.unwrap();
        }
        {
            let waiting = std::pin::pin!(receiving.piece(&mut wire, &clock));
            assert!(futures_util::poll!(waiting).is_pending());
        }
        assert_eq!(receiving.decoded.capacity(), 0);
    }

    /// RFC 3030 §2: the reply to a chunk tells how many octets came. A CR at its end waits for its LF.
    #[tokio::test(start_paused = true)]
    async fn a_cr_at_the_end_of_a_chunk_counts() {
        let (mut client, server) = tokio::io::duplex(1 << 10);
        let (header, pace) = limits();
        let framing = |count| Framing::Octets { count, chunk: crate::smtp::Chunk::Middle };
        let mut receiving = Receiving::new(framing(5), header, pace, 1 << 20, BareLf::Refused);
        let (mut wire, clock) =
            (Wire::new(server, pace.window), ManualClock::at(crate::sys::WallTime::from_seconds(0)));
        for (octets, all) in [(&b"text\r"[..], 5), (b"\n", 6), (b"\r", 7)] {
            receiving.go_on(framing(u64::try_from(octets.len()).unwrap()));
            client.write_all(octets).await.unwrap();
            receiving.piece(&mut wire, &clock).await.unwrap();
            assert_eq!(receiving.facts(BodyEnd::Complete).octets, all);
        }
    }

    /// RFC 5321 §4.1.1.4 has a message read to its end; not one that has none.
    #[tokio::test(start_paused = true)]
    async fn the_end_of_what_is_far_too_large_is_not_waited_for() {
        for (read_max, expected) in [(100, BodyEnd::Endless), (1 << 20, BodyEnd::TooLarge)] {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let (header, pace) = limits();
            let mut receiving = Receiving::new(Framing::Dot, header, pace, 50, BareLf::Refused);
            receiving.read_max = read_max;
            client.write_all(&b"x\r\n".repeat(100_000)).await.unwrap();
            client.write_all(b".\r\n").await.unwrap();
            let mut wire = Wire::new(server, pace.window);
            let clock = ManualClock::at(crate::sys::WallTime::from_seconds(0));
            let facts = receiving.discard(&mut wire, &clock).await.unwrap();
            assert_eq!(facts.end, expected);
            assert_eq!(facts.octets < 300_000, expected == BodyEnd::Endless);
        }
    }

    /// What is refused may go on for an hour.
    #[tokio::test(start_paused = true)]
    async fn of_a_message_that_is_refused_no_header_is_kept() {
        for text in ["From: a@example.com\r\n\r\ntext\r\n.\r\n", "From: a@example.com\r\n.\r\n"] {
            let (mut client, server) = tokio::io::duplex(1 << 20);
            let second = Duration::from_secs(1);
            let pace = PaceLimits { rate_min: 1, window: second, total_max: second };
            let header = HeaderLimits::default();
            let mut receiving = Receiving::new(Framing::Dot, header, pace, 5000, BareLf::Refused);
            client.write_all(text.as_bytes()).await.unwrap();
            let mut wire = Wire::new(server, second);
            let clock = ManualClock::at(crate::sys::WallTime::from_seconds(0));
            let rules = HeaderRules::default();
            let read = receiving.header(&mut wire, &clock, Utf8Header::NotDeclared, &rules, None).await.unwrap();
            assert!(matches!(read, HeaderEnd::Read(facts) if facts.fault.is_none()), "{text}");
            assert!(!receiving.section.is_empty(), "{text}");
            receiving.discard(&mut wire, &clock).await.unwrap();
            assert_eq!((receiving.section.capacity(), receiving.collector.section().len()), (0, 0), "{text}");
        }
    }
}
