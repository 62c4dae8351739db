//! A load balancer's connection, before it is a client's: its PROXY header is read, and nothing else is said or heard until it is there.
//!
//! Never: takes an octet behind the header; waits longer than [`HEADER_WAIT`]; says anything to the balancer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::called_away;
use super::proxy::{HeaderReader, Proxied, ProxyFault};
use crate::doors::Place;
use crate::house::House;

/// For the whole header, unless the handshake has less time. A balancer sends it at once.
const HEADER_WAIT: Duration = Duration::from_secs(10);

/// However little time the handshake has: the specification asks for three seconds at least, for one lost packet.
const HEADER_WAIT_MIN: Duration = Duration::from_secs(3);

/// Octets read at once.
const READ_SIZE: usize = 512;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum Headless {
    #[error(transparent)]
    Fault(#[from] ProxyFault),
    #[error("it did not come in time")]
    Slow,
    #[error("the connection ended within it")]
    Broken,
}

/// Whose connection a load balancer's is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduced {
    /// A client's, which connected to the balancer from there.
    Client(SocketAddr),
    /// The balancer's own: it looks whether we are well, and is served like anybody (LOCAL, UNKNOWN and AF_UNSPEC: the header says
    /// nothing of addresses, so the connection's own are used).
    Probe,
}

/// Whose connection `balancer` passes on. `None`: it is nobody's, and is to be closed; it was told.
pub async fn introduced<S>(stream: &mut S, balancer: SocketAddr, house: &House, place: &Place) -> Option<Introduced>
where
    S: AsyncRead + Unpin,
{
    header_of(stream, balancer, house, place).await.map(|(introduced, _)| introduced)
}

/// The same, with the header.
pub(super) async fn header_of<S>(
    stream: &mut S,
    balancer: SocketAddr,
    house: &House,
    place: &Place,
) -> Option<(Introduced, HeaderReader)>
where
    S: AsyncRead + Unpin,
{
    let wait = house.snapshot().intake.proxy_header;
    let mut drain = house.tasks.drain();
    let read = tokio::select! {
        biased;
        read = read_header(stream, wait) => read,
        () = drain.wait() => return None,
        () = called_away(place, balancer, house) => return None,
    };
    match read {
        Ok(Some((Proxied::Client { source, destination }, header))) => {
            tracing::debug!(client = %source, %destination, %balancer, "a client came by way of a load balancer");
            Some((Introduced::Client(source), header))
        }
        Ok(probe) => {
            let probes = house.doors.count_probe();
            tracing::debug!(%balancer, probes, "the load balancer looked whether we are here");
            probe.map(|(_, header)| (Introduced::Probe, header))
        }
        Err(fault) => {
            tell_headless(balancer, &fault, house);
            None
        }
    }
}

/// How long a PROXY header is waited for where a handshake has so long.
pub fn header_wait(handshake: Duration) -> Duration {
    handshake.clamp(HEADER_WAIT_MIN, HEADER_WAIT)
}

/// Says, now and then, what is wrong with the header of a connection that is closed therefore.
pub(super) fn tell_headless(balancer: SocketAddr, fault: &Headless, house: &House) {
    let Some(unsaid) = house.doors.headless.say(house.now().mono) else { return };
    match fault {
        Headless::Fault(ProxyFault::NoHeader) | Headless::Slow => tracing::warn!(
            %balancer, %fault, unsaid,
            "no PROXY header from an address of the listener's proxy networks: the connection is closed"
        ),
        Headless::Fault(_) | Headless::Broken => tracing::warn!(
            %balancer, %fault, unsaid,
            "a PROXY header that can't be read, from an address of the listener's proxy networks: the connection is closed"
        ),
    }
}

/// Whether a load balancer's header came, for who is sent away in any case: nothing is told or counted.
pub async fn has_header<S: AsyncRead + Unpin>(stream: &mut S) -> bool {
    matches!(read_header(stream, HEADER_WAIT).await, Ok(Some(_)))
}

/// Reads one header, to its last octet and no further. `None`: the connection ended before the first octet, for balancers also look
/// whether anybody listens without a header.
async fn read_header<S: AsyncRead + Unpin>(
    stream: &mut S,
    wait: Duration,
) -> Result<Option<(Proxied, HeaderReader)>, Headless> {
    timeout(wait, header(stream)).await.unwrap_or(Err(Headless::Slow))
}

async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<(Proxied, HeaderReader)>, Headless> {
    let (mut reader, mut room) = (HeaderReader::default(), [0; READ_SIZE]);
    loop {
        let most = reader.wants().min(READ_SIZE);
        let read: io::Result<usize> = stream.read(room.get_mut(..most).unwrap_or_default()).await;
        match read {
            Ok(0) | Err(_) if reader.is_empty() => return Ok(None),
            Ok(0) | Err(_) => return Err(Headless::Broken),
            Ok(count) => {
                if let (_, Some(proxied)) = reader.take(room.get(..count).unwrap_or_default())? {
                    return Ok(Some((proxied, reader)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 587\r\n";

    /// proxy-protocol.txt, section 2.
    #[test]
    fn a_header_is_waited_for_three_seconds_at_least_and_ten_at_most() {
        for (handshake, wait) in [(1, 3), (3, 3), (7, 7), (60, 10)] {
            assert_eq!(header_wait(Duration::from_secs(handshake)), Duration::from_secs(wait), "{handshake} s");
        }
    }

    #[test]
    fn what_stands_behind_the_header_is_left_for_tls() {
        let mut version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01".to_vec();
        version_2.extend([0x9c, 0x40, 0x02, 0x4b]);
        for head in [LINE, version_2.as_slice()] {
            run(async {
                let (mut ours, mut theirs) = tokio::io::duplex(4096);
                ours.write_all(&[head, b"\x16\x03\x01"].concat()).await.unwrap();
                drop(ours);
                let source = "192.0.2.7:40000".parse().unwrap();
                let read = read_header(&mut theirs, HEADER_WAIT).await.unwrap();
                assert!(
                    matches!(read, Some((Proxied::Client { source: found, .. }, _)) if found == source),
                    "{read:?}"
                );
                let mut rest = Vec::new();
                theirs.read_to_end(&mut rest).await.unwrap();
                assert_eq!(rest, b"\x16\x03\x01");
            });
        }
    }

    #[test]
    fn a_header_that_drips_has_one_deadline_in_all() {
        run(async {
            let (mut ours, mut theirs) = tokio::io::duplex(4096);
            let mut dripped = 0;
            let dripping = async {
                for octet in LINE {
                    tokio::time::sleep(Duration::from_millis(900)).await;
                    ours.write_all(&[*octet]).await.unwrap();
                    dripped += 1;
                }
            };
            let read = tokio::select! {
                read = read_header(&mut theirs, HEADER_WAIT) => read,
                () = dripping => unreachable!("the line takes longer than the deadline"),
            };
            assert!(matches!(read, Err(Headless::Slow)), "{read:?}");
            assert_eq!(dripped, 11, "octets in ten seconds");
        });
    }

    #[test]
    fn an_end_before_the_first_octet_is_a_probe_and_one_within_the_header_is_a_fault() {
        let ending_after = |count: usize| {
            run(async {
                let (mut ours, mut theirs) = tokio::io::duplex(4096);
                ours.write_all(&LINE[..count]).await.unwrap();
                drop(ours);
                read_header(&mut theirs, HEADER_WAIT).await
            })
        };
        assert!(matches!(ending_after(0), Ok(None)));
        for count in 1..LINE.len() {
            assert!(matches!(ending_after(count), Err(Headless::Broken)), "{count}");
        }
    }
}
