//! A record on the disk: format version, checksum, postcard.
//!
//! ```text
//! u16 LE  version of the record's format
//! u64 LE  XXH3-64 of version and payload
//! ...     the record in postcard
//! ...     which load balancer vouched for the sender's certificate, if one did
//! ...     when that certificate ends, of a message that its sender wants to wait; before it stands a load balancer always: of zeros, if none vouched
//! ```
//!
//! What stands behind the record a program that does not know it passes, and a record without it is whole: so it is one format with and without. (To a
//! program that knows of load balancers alone, the zeros are one that counts nowhere: it holds such a message instead of sending it.)
//!
//! Never: guesses at what fails its checksum.

use xxhash_rust::xxh3::Xxh3;

use super::brief::Brief;
use super::earlier::Record1;
use super::record::{Custodian, Record, Vouched};
use crate::mail::QueueId;

/// The format that this program writes.
pub(super) const RECORD_VERSION: u16 = 2;

/// In the place of a load balancer where none vouched: no certificate has the digest of zeros.
const NOBODY: Vouched = Vouched { fingerprint: [0; 32], key: [0; 32] };

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
    let Custodian { vouched, ends, .. } = &record.custodian;
    if vouched.is_some() || ends.is_some() {
        payload.extend(postcard::to_stdvec(vouched.as_ref().unwrap_or(&NOBODY)).map_err(failed)?);
    }
    if let Some(ends) = ends {
        payload.extend(postcard::to_stdvec(ends).map_err(failed)?);
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
        let (vouched, behind) = postcard::take_from_bytes::<Vouched>(behind)?;
        record.custodian.vouched = (vouched != NOBODY).then_some(vouched);
        if !behind.is_empty() {
            record.custodian.ends = Some(postcard::from_bytes(behind)?);
        }
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
    use crate::queue::record::samples;
    use crate::sys::WallTime;

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
    fn when_the_certificate_ends_stands_behind_who_vouched_or_behind_nobody() {
        let plain = samples::record(7);
        for vouched in [None, Some(Vouched { fingerprint: [1; 32], key: [2; 32] })] {
            for ends in [None, Some(WallTime::from_seconds(1_800_000_000)), Some(WallTime::from_millis(0))] {
                let mut record = plain.clone();
                record.custodian.vouched = vouched;
                record.custodian.ends = ends;
                let octets = encode(&record).unwrap();
                assert_eq!(decode(&octets), Ok(record.clone()), "{vouched:?} {ends:?}");
                assert_eq!(decode_brief_of(record.id, &octets), Ok(Brief::of(&plain)));
                // As programs of before read it: the record, and the record with who vouched.
                let payload = &octets[10..];
                let (before, behind) = postcard::take_from_bytes::<Record>(payload).unwrap();
                assert_eq!(before, plain);
                if let Some(vouched) = vouched {
                    assert_eq!(postcard::from_bytes(behind), Ok(vouched));
                } else if ends.is_some() {
                    assert_eq!(postcard::from_bytes(behind), Ok(NOBODY), "whom no listener knows");
                }
            }
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
