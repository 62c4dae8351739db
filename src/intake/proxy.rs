//! The header by which a load balancer says whose connection it passes on: PROXY protocol, versions 1 and 2.
//!
//! No RFC has it; its specification is HAProxy's `doc/proxy-protocol.txt`: section 2 (who may send one: trusted sources only, and then
//! always), 2.1 (version 1, a line), 2.2 (version 2, binary), 2.2.4 (its CRC32c). A line in version 1 has 107 octets at most; a header in
//! version 2 here at most `LENGTH_MAX` behind its fixed part.
//!
//! Octets go in as they come, in pieces of any size; no octet behind the header is taken, for TLS may follow at once. What a header tells of
//! the client's TLS (`told`) is for `vouched` alone. Never: guesses (what is not exactly a header is a fault); keeps more than one header.

mod told;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use told::{Told, Unvouched, Word, word_of};

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: [u8; 6] = *b"PROXY ";

/// The shortest beginning that every header has: that of the signature. The shortest line, `PROXY UNKNOWN`, is longer.
const BEGINNING: usize = SIGNATURE.len();

/// Octets of a version 1 line, CRLF included (section 2.1).
const LINE_MAX: usize = 107;

/// Octets of the fixed part of version 2 (section 2.2).
const FIXED: usize = 16;

/// Octets behind the fixed part of version 2: addresses and TLVs, a chain of certificates among them if need be.
const LENGTH_MAX: usize = 16 * 1024;

/// The TLV with the header's checksum (section 2.2.4).
const TYPE_CRC32C: u8 = 0x03;

/// The polynomial of CRC32c (RFC 3720 §12.1), its bits reversed.
const CASTAGNOLI: u32 = 0x82F6_3B78;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// A client's connection.
    Client {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// The balancer's own: it looks whether we are well (LOCAL, UNKNOWN, AF_UNSPEC).
    Probe,
}

/// Why something is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyFault {
    /// It begins like neither version.
    #[error("what came is no PROXY header")]
    NoHeader,
    /// Version 1 does not end.
    #[error("its line is longer than {LINE_MAX} octets")]
    LongLine,
    /// Version 1: CR without LF, or LF without CR.
    #[error("its line does not end with CRLF")]
    LineEnd,
    /// Version 1: not five words with one space between them.
    #[error("its line is not a family, two addresses and two ports")]
    Words,
    /// Version 1: not an address of the family, or not as addresses are written.
    #[error("an address in it is malformed or of another family")]
    Address,
    /// Version 1: not 0 to 65535 without leading zeros.
    #[error("a port in it is malformed")]
    Port,
    /// Neither LOCAL nor PROXY of version 2.
    #[error("its version or command is unknown")]
    Command,
    /// Anything but TCP over IPv4 or IPv6.
    #[error("it is not about TCP over IPv4 or IPv6")]
    Family,
    /// Version 2 that is too long.
    #[error("it says that it has more than {LENGTH_MAX} octets")]
    Long,
    /// Version 2 without room for the addresses of its family.
    #[error("it is too short for its addresses")]
    Short,
    /// TLVs that do not fill their room exactly.
    #[error("its TLVs do not fit")]
    Tlv,
    /// A TLV whose value must be one.
    #[error("it tells of the same thing twice (TLV 0x{0:02x})")]
    Twice(u8),
    /// The checksum is another, stands twice, or is not four octets.
    #[error("its checksum is wrong")]
    Checksum,
    /// An address that nobody can connect from or to.
    #[error("it claims an address that nobody has: {0}")]
    Nobody(IpAddr),
}

/// Reads one header.
#[derive(Debug, Default)]
pub struct HeaderReader {
    octets: Vec<u8>,
}

impl HeaderReader {
    /// So many octets belong to the header at least, besides those taken; never 0 before it is whole.
    pub fn wants(&self) -> usize {
        let had = self.octets.len();
        if had < BEGINNING {
            return BEGINNING.saturating_sub(had);
        }
        if begins(&self.octets, &SIGNATURE) {
            let whole = fixed(&self.octets).map_or(FIXED, |fixed| FIXED.saturating_add(length(fixed)));
            return whole.saturating_sub(had);
        }
        if self.octets.ends_with(b"\r") { 1 } else { 2 }
    }

    /// Whether nothing has been taken yet.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// Takes what belongs to the header from the front of `octets`: how many that were, and the header when it is whole.
    ///
    /// # Errors
    /// It is no header, as soon as that is certain.
    pub fn take(&mut self, octets: &[u8]) -> Result<(usize, Option<Proxied>), ProxyFault> {
        let mut taken: usize = 0;
        loop {
            let rest = octets.get(taken..).unwrap_or_default();
            let piece = rest.get(..self.wants().min(rest.len())).unwrap_or_default();
            if piece.is_empty() {
                return Ok((taken, None));
            }
            self.octets.extend_from_slice(piece);
            taken = taken.saturating_add(piece.len());
            if let Some(proxied) = self.look()? {
                return Ok((taken, Some(proxied)));
            }
        }
    }

    /// What stands behind the addresses of a header that is whole; none of version 1.
    pub fn tlvs(&self) -> Option<&[u8]> {
        let [.., family, _, _] = fixed(&self.octets).filter(|_| begins(&self.octets, &SIGNATURE))?;
        let addresses = match family {
            0x11 => Shape::Tcp4.addresses(),
            0x21 => Shape::Tcp6.addresses(),
            _ => Shape::Nobodys.addresses(),
        };
        self.octets.get(FIXED.saturating_add(addresses)..)
    }

    fn look(&self) -> Result<Option<Proxied>, ProxyFault> {
        if begins(&self.octets, &SIGNATURE) {
            return version_2(&self.octets);
        }
        if begins(&self.octets, &WORD) {
            return version_1(&self.octets, self.wants());
        }
        Err(ProxyFault::NoHeader)
    }
}

/// Whether `octets` are the beginning of `start`, or begin with it.
fn begins(octets: &[u8], start: &[u8]) -> bool {
    octets.iter().zip(start).all(|(octet, expected)| octet == expected)
}

/// The fixed part of version 2.
fn fixed(octets: &[u8]) -> Option<&[u8; FIXED]> {
    octets.first_chunk()
}

/// Octets behind the fixed part.
fn length([.., high, low]: &[u8; FIXED]) -> usize {
    usize::from(u16::from_be_bytes([*high, *low]))
}

/// Section 2.1. `missing`: octets that must come at least. However the octets came, the fault is the same.
fn version_1(octets: &[u8], missing: usize) -> Result<Option<Proxied>, ProxyFault> {
    let Some(stop) = octets.iter().position(|octet| matches!(octet, b'\r' | b'\n')) else {
        let least = octets.len().saturating_add(missing);
        return if least > LINE_MAX { Err(ProxyFault::LongLine) } else { Ok(None) };
    };
    if stop.saturating_add(2) > LINE_MAX {
        return Err(ProxyFault::LongLine);
    }
    let (line, end) = octets.split_at_checked(stop).unwrap_or_default();
    match end {
        b"\r" => Ok(None),
        // More can stand behind only where the line is shorter than the shortest, which is a fault.
        [b'\r', b'\n', ..] => said_in(line.get(WORD.len()..).unwrap_or_default()).map(Some),
        _ => Err(ProxyFault::LineEnd),
    }
}

/// What the line says behind its first word.
fn said_in(words: &[u8]) -> Result<Proxied, ProxyFault> {
    // What else stands in such a line does not count, whatever it is.
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Ok(Proxied::Probe);
    }
    let text = str::from_utf8(words).map_err(|_| ProxyFault::Words)?;
    let mut words = text.split(' ');
    let mut word = || words.next().ok_or(ProxyFault::Words);
    let (family, source, destination) = (word()?, word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(ProxyFault::Words);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| ProxyFault::Address),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| ProxyFault::Address),
        _ => Err(ProxyFault::Family),
    };
    client((address(source)?, port(source_port)?), (address(destination)?, port(destination_port)?))
}

/// 0 to 65535; leading zeros are not allowed.
fn port(text: &str) -> Result<u16, ProxyFault> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(ProxyFault::Port)
}

/// Section 2.2. `None`: more must come.
fn version_2(octets: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let Some(fixed) = fixed(octets) else { return Ok(None) };
    let [.., command, family, _, _] = *fixed;
    let length = length(fixed);
    let shape = match (command, family) {
        // Of LOCAL neither the family counts nor what stands behind.
        (0x20, _) | (0x21, 0x00) => Shape::Nobodys,
        (0x21, 0x11) => Shape::Tcp4,
        (0x21, 0x21) => Shape::Tcp6,
        (0x21, _) => return Err(ProxyFault::Family),
        _ => return Err(ProxyFault::Command),
    };
    if length > LENGTH_MAX {
        return Err(ProxyFault::Long);
    }
    if length < shape.addresses() {
        return Err(ProxyFault::Short);
    }
    let block = octets.get(FIXED..).unwrap_or_default();
    if block.len() < length {
        return Ok(None);
    }
    match shape {
        Shape::Nobodys => Ok(Some(Proxied::Probe)),
        Shape::Tcp4 => {
            let (source, block) = number(block)?;
            let (destination, block) = number(block)?;
            let (ports, tlvs) = ports(block)?;
            let at = |address| IpAddr::V4(Ipv4Addr::from_octets(address));
            told(at(source), at(destination), ports, tlvs, octets)
        }
        Shape::Tcp6 => {
            let (source, block) = number(block)?;
            let (destination, block) = number(block)?;
            let (ports, tlvs) = ports(block)?;
            let at = |address| IpAddr::V6(Ipv6Addr::from_octets(address));
            told(at(source), at(destination), ports, tlvs, octets)
        }
    }
}

/// What stands behind the fixed part.
#[derive(Clone, Copy)]
enum Shape {
    Nobodys,
    Tcp4,
    Tcp6,
}

impl Shape {
    /// Octets of the addresses and ports.
    const fn addresses(self) -> usize {
        match self {
            Self::Nobodys => 0,
            Self::Tcp4 => 12,
            Self::Tcp6 => 36,
        }
    }
}

fn told(
    source: IpAddr,
    destination: IpAddr,
    (source_port, destination_port): (u16, u16),
    tlvs: &[u8],
    header: &[u8],
) -> Result<Option<Proxied>, ProxyFault> {
    check_tlvs(tlvs, header)?;
    client((source, source_port), (destination, destination_port)).map(Some)
}

/// So many octets, and the rest.
fn number<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8]), ProxyFault> {
    octets.split_first_chunk().map(|(first, rest)| (*first, rest)).ok_or(ProxyFault::Short)
}

fn ports(octets: &[u8]) -> Result<((u16, u16), &[u8]), ProxyFault> {
    let (source, rest) = number(octets)?;
    let (destination, rest) = number(rest)?;
    Ok(((u16::from_be_bytes(source), u16::from_be_bytes(destination)), rest))
}

/// Walks over all TLVs (section 2.2): they fill `tlvs`, which ends the header, and the checksum, if there is one, is right.
fn check_tlvs(tlvs: &[u8], header: &[u8]) -> Result<(), ProxyFault> {
    let (mut rest, mut checksum) = (tlvs, None);
    while let Some(Tlv { kind, value, behind }) = Tlv::first_of(rest)? {
        rest = behind;
        if kind == TYPE_CRC32C {
            let sum: [u8; 4] = value.try_into().map_err(|_| ProxyFault::Checksum)?;
            let before = header.len().saturating_sub(behind.len()).saturating_sub(sum.len());
            if checksum.replace((u32::from_be_bytes(sum), before, behind)).is_some() {
                return Err(ProxyFault::Checksum);
            }
        }
    }
    let Some((expected, before, behind)) = checksum else { return Ok(()) };
    // It was computed with zeros in its own place.
    let before = header.get(..before).unwrap_or_default();
    if crc32c(before.iter().chain(&[0; 4]).chain(behind)) == expected { Ok(()) } else { Err(ProxyFault::Checksum) }
}

/// A TLV, and what stands behind it.
struct Tlv<'a> {
    kind: u8,
    value: &'a [u8],
    behind: &'a [u8],
}

impl<'a> Tlv<'a> {
    /// None where nothing is left.
    fn first_of(octets: &'a [u8]) -> Result<Option<Self>, ProxyFault> {
        if octets.is_empty() {
            return Ok(None);
        }
        let (&[kind, high, low], behind) = octets.split_first_chunk().ok_or(ProxyFault::Tlv)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, behind) = behind.split_at_checked(length).ok_or(ProxyFault::Tlv)?;
        Ok(Some(Self { kind, value, behind }))
    }
}

fn crc32c<'a>(octets: impl Iterator<Item = &'a u8>) -> u32 {
    !octets.fold(u32::MAX, |sum, octet| {
        (0..8).fold(sum ^ u32::from(*octet), |sum, _| if sum & 1 == 1 { (sum >> 1) ^ CASTAGNOLI } else { sum >> 1 })
    })
}

fn client(source: (IpAddr, u16), destination: (IpAddr, u16)) -> Result<Proxied, ProxyFault> {
    let end = |(address, port)| Ok(SocketAddr::new(somebodys(address)?, port));
    Ok(Proxied::Client { source: end(source)?, destination: end(destination)? })
}

/// An address that a host can have (RFC 1122 §3.2.1.3, RFC 4291 §2.5.2, §2.7); IPv4 written as IPv6 is IPv4.
fn somebodys(address: IpAddr) -> Result<IpAddr, ProxyFault> {
    let address = address.to_canonical();
    let nobodys = match address {
        IpAddr::V4(v4) => v4.octets().starts_with(&[0]) || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_multicast(),
    };
    if nobodys { Err(ProxyFault::Nobody(address)) } else { Ok(address) }
}

#[cfg(test)]
mod tests;
