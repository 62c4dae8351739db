//! A record on the disk: format version, checksum, postcard.
//!
//! ```text
//! u16 LE  version of the record's format
//! u64 LE  XXH3-64 of version and payload
//! ...     the record in postcard
//! ...     which load balancer vouched for the sender's certificate, if one did
//! ```
//!
//! What stands behind the record a program that does not know it passes, and a record without it is whole: so it is one format with and without.
//!
//! Never: guesses at what fails its checksum.

use xxhash_rust::xxh3::Xxh3;

use super::brief::Brief;
use super::earlier::Record1;
use super::record::Record;
use crate::mail::QueueId;

/// The format that this program writes.
pub(super) const RECORD_VERSION: u16 = 2;

/// Why octets are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CodecFault {
    #[error("its record fails its checksum")]
    Checksum,
    #[error("its record has format {0}, newer than {RECORD_VERSION}, the newest that this sealpost knows")]
    Newer(u16),
    #[error("its record can't be read: {0}")]
    Content(String),
    #[error("in its record's place lies that of {0}")]
    Another(QueueId),
    #[error("the disk fails to read its record; when it reads it again, `sealpost queue retry` has the message tried")]
    Disk,
}

pub(super) fn encode(record: &Record) -> Result<Vec<u8>, CodecFault> {
    let failed = |fault: postcard::Error| CodecFault::Content(fault.to_string());
    let mut payload = postcard::to_stdvec(record).map_err(failed)?;
    if let Some(vouched) = &record.custodian.vouched {
        payload.extend(postcard::to_stdvec(vouched).map_err(failed)?);
    }
    let version = RECORD_VERSION.to_le_bytes();
    let mut octets = Vec::with_capacity(payload.len() + 10);
    octets.extend_from_slice(&version);
    octets.extend_from_slice(&checksum(version, &payload).to_le_bytes());
    octets.extend_from_slice(&payload);
    Ok(octets)
}

pub(super) fn decode(octets: &[u8]) -> Result<Record, CodecFault> {
    let read = match checked(octets)? {
        (1, payload) => postcard::from_bytes::<Record1>(payload).map(Record::from),
        (_, payload) => present(payload),
    };
    read.map_err(|fault| CodecFault::Content(fault.to_string()))
}

fn present(payload: &[u8]) -> Result<Record, postcard::Error> {
    let (mut record, behind) = postcard::take_from_bytes::<Record>(payload)?;
    if !behind.is_empty() {
        record.custodian.vouched = Some(postcard::from_bytes(behind)?);
    }
    Ok(record)
}

/// The version of what passes its checksum, and the record in it.
fn checked(octets: &[u8]) -> Result<(u16, &[u8]), CodecFault> {
    let (version, rest) = octets.split_first_chunk::<2>().ok_or(CodecFault::Checksum)?;
    let (sum, payload) = rest.split_first_chunk::<8>().ok_or(CodecFault::Checksum)?;
    if checksum(*version, payload) != u64::from_le_bytes(*sum) {
        return Err(CodecFault::Checksum);
    }
    let version = u16::from_le_bytes(*version);
    if version > RECORD_VERSION {
        return Err(CodecFault::Newer(version));
    }
    Ok((version, payload))
}

/// The record of this message, and no other's: a place that was noted wrongly may hold another's, whole.
pub(super) fn decode_of(id: QueueId, octets: &[u8]) -> Result<Record, CodecFault> {
    let record = decode(octets)?;
    if record.id == id { Ok(record) } else { Err(CodecFault::Another(record.id)) }
}

/// What a listing shows of this message, and of no other.
pub(super) fn decode_brief_of(id: QueueId, octets: &[u8]) -> Result<Brief, CodecFault> {
    let brief = match checked(octets)? {
        (RECORD_VERSION, payload) => Brief::read(payload).map_err(|fault| CodecFault::Content(fault.to_string()))?,
        _ => Brief::of(&decode(octets)?),
    };
    if brief.id == id { Ok(brief) } else { Err(CodecFault::Another(brief.id)) }
}

fn checksum(version: [u8; 2], payload: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(&version);
    sum.update(payload);
    sum.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::record::{Vouched, samples};

    #[test]
    fn a_record_reads_back() {
        let record = samples::record(7);
        assert_eq!(decode(&encode(&record).unwrap()), Ok(record));
    }

    #[test]
    fn who_vouched_stands_behind_the_record_and_who_does_not_know_of_it_reads_the_record() {
        let plain = samples::record(7);
        let mut vouched = plain.clone();
        vouched.custodian.vouched = Some(Vouched { fingerprint: [1; 32], key: [2; 32] });
        let octets = encode(&vouched).unwrap();
        assert_eq!(decode(&octets), Ok(vouched.clone()));
        assert_eq!(decode_brief_of(vouched.id, &octets), Ok(Brief::of(&plain)));
        let payload = &octets[10..];
        assert!(payload.starts_with(&encode(&plain).unwrap()[10..]));
        // As a program of before reads it.
        assert_eq!(postcard::from_bytes(payload), Ok(plain));
        for cut in 1..64 {
            assert!(present(&payload[..payload.len() - cut]).is_err(), "cut by {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let octets = encode(&samples::record(7)).unwrap();
        for place in 0..octets.len() * 8 {
            let mut damaged = octets.clone();
            damaged[place / 8] ^= 1 << (place % 8);
            assert_eq!(decode(&damaged), Err(CodecFault::Checksum), "bit {place}");
        }
    }

    #[test]
    fn a_newer_record_is_refused_by_name() {
        let mut octets = encode(&samples::record(7)).unwrap();
        let version = (RECORD_VERSION + 1).to_le_bytes();
        let payload = octets.split_off(10);
        let mut newer = version.to_vec();
        newer.extend_from_slice(&checksum(version, &payload).to_le_bytes());
        newer.extend_from_slice(&payload);
        assert_eq!(decode(&newer), Err(CodecFault::Newer(RECORD_VERSION + 1)));
    }
}
