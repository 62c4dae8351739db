//! The header of a load balancer: it is the same however it comes, and no octet behind it is taken, for TLS may follow at once. What it tells of the
//! client's certificate stands in it once, and counts only with everything that makes it count.

use std::net::IpAddr;

use sealpost::intake::proxy::{HeaderReader, Proxied, ProxyFault, word_of};
use sealpost::tls::ToldTls;

use super::{Lie, Told, pieces, require, same};

pub(super) const LIES: [Lie; 4] =
    [Lie::ProxyTakesOneMore, Lie::ProxyLosesItsPlace, Lie::ProxyMindsNoVerdict, Lie::ProxyTakesTheLast];

/// What came of some octets: the header with its length; nothing yet; or a fault.
type Came = Result<Option<(usize, Proxied)>, ProxyFault>;

/// [`HeaderReader`], see above.
pub(super) fn proxy(octets: &[u8], seed: u64, lie: Lie) -> Told {
    let whole = read(std::iter::once(octets), lie)?;
    same("in pieces", &read(pieces(octets, seed), lie)?, &whole)?;
    same("octet by octet", &read(octets.chunks(1), lie)?, &whole)?;
    let Ok(Some((length, proxied))) = whole else { return Ok(()) };
    same("octets of the header", &Some(length), &plain_length(octets))?;
    if let Proxied::Client { source, destination, .. } = proxied {
        require("an address that nobody has", [source.ip(), destination.ip()].into_iter().all(is_somebodys))?;
    }
    word(octets.get(..length).unwrap_or_default(), lie)?;
    for end in 0..length.min(200) {
        same("a beginning of it", &read(std::iter::once(&octets[..end]), lie)?, &Ok(None))?;
    }
    Ok(())
}

/// [`word_of`] a whole header: nobody is vouched for but by the one certificate that stands within what is told of TLS.
fn word(header: &[u8], lie: Lie) -> Told {
    let mut reader = HeaderReader::default();
    require("a header that was read is none", reader.take(header).is_ok())?;
    let tlvs = reader.tlvs().map(|tlvs| match lie {
        Lie::ProxyMindsNoVerdict => with_verdict(tlvs),
        Lie::ProxyTakesTheLast => of_the_last(tlvs),
        _ => tlvs.to_vec(),
    });
    let Ok(Ok(told)) = word_of(tlvs.as_deref()) else { return Ok(()) };
    let of_kind = |all: Vec<(u8, Vec<u8>)>, wanted| -> Vec<Vec<u8>> {
        all.into_iter().filter(|(kind, _)| *kind == wanted).map(|(_, value)| value).collect()
    };
    let ssl = of_kind(listed(reader.tlvs().unwrap_or_default()), 0x20);
    same("words about TLS", &ssl.len(), &1)?;
    let head: Vec<u8> = ssl.iter().flat_map(|value| value.iter().take(5).copied()).collect();
    require("a client without a certificate here and now", head.first().is_some_and(|flags| flags & 3 == 3))?;
    same("the balancer's verdict", &head.get(1..), &Some([0; 4].as_slice()))?;
    let parts = ssl.first().and_then(|value| value.get(5..)).unwrap_or_default();
    same("the certificate", &of_kind(listed(parts), 0x28), &vec![told.certificate.to_vec()])?;
    require("an empty certificate", !told.certificate.is_empty())?;
    let shown = ToldTls::new(told.version, told.cipher).to_string();
    require("words about TLS that break a line", !shown.chars().any(char::is_control))
}

/// Type, length, value.
fn listed(tlvs: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut all, mut rest) = (Vec::new(), tlvs);
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(*high) * 256 + usize::from(*low);
        let (value, behind) = behind.split_at_checked(length).unwrap_or((behind, &[]));
        all.push((*kind, value.to_vec()));
        rest = behind;
    }
    all
}

/// For seeds and lies.
pub(super) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind][..], &u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes(), value].concat()
}

/// Whatever the balancer says, it is content.
fn with_verdict(tlvs: &[u8]) -> Vec<u8> {
    let content = |(kind, mut value): (u8, Vec<u8>)| {
        if let (0x20, Some(head)) = (kind, value.get_mut(..5)) {
            head.copy_from_slice(&[7, 0, 0, 0, 0]);
        }
        tlv(kind, &value)
    };
    listed(tlvs).into_iter().flat_map(content).collect()
}

/// Of two alike the last counts.
fn of_the_last(tlvs: &[u8]) -> Vec<u8> {
    let all = listed(tlvs);
    let last = |place: usize, kind: u8| !all[place + 1..].iter().any(|(other, _)| *other == kind);
    let kept = all.iter().enumerate().filter(|(place, (kind, _))| last(*place, *kind));
    kept.flat_map(|(_, (kind, value))| tlv(*kind, value)).collect()
}

fn read<'a>(all: impl Iterator<Item = &'a [u8]>, lie: Lie) -> Result<Came, super::Broken> {
    let (mut reader, mut length) = (HeaderReader::default(), 0);
    for piece in all {
        if lie == Lie::ProxyLosesItsPlace {
            reader = HeaderReader::default();
        }
        require("nothing is wanted of a header that is not whole", reader.wants() > 0)?;
        let (taken, proxied) = match reader.take(piece) {
            Ok(taken) => taken,
            Err(fault) => return Ok(Err(fault)),
        };
        length += taken;
        if let Some(proxied) = proxied {
            let more = usize::from(lie == Lie::ProxyTakesOneMore && taken < piece.len());
            return Ok(Ok(Some((length + more, proxied))));
        }
        same("octets left of a header that is not whole", &taken, &piece.len())?;
    }
    Ok(Ok(None))
}

/// How long a header is that begins so.
fn plain_length(octets: &[u8]) -> Option<usize> {
    if octets.starts_with(b"PROXY ") {
        return octets.windows(2).position(|two| two == b"\r\n").map(|at| at + 2);
    }
    let length = octets.get(14..16)?;
    Some(16 + usize::from(length[0]) * 256 + usize::from(length[1]))
}

fn is_somebodys(address: IpAddr) -> bool {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    !mapped && !address.is_unspecified() && !address.is_multicast()
}
