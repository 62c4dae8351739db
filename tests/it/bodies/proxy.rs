//! The header of a load balancer: it is the same however it comes, and no octet behind it is taken, for TLS may follow at once.

use std::net::IpAddr;

use sealpost::intake::proxy::{HeaderReader, Proxied, ProxyFault};

use super::{Lie, Told, pieces, require, same};

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
    for end in 0..length.min(200) {
        same("a beginning of it", &read(std::iter::once(&octets[..end]), lie)?, &Ok(None))?;
    }
    Ok(())
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
