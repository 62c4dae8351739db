//! What a header in version 2 tells of the client's TLS with the load balancer: PP2_TYPE_SSL and its parts (section 2.2.6), the client's
//! certificate among them (PP2_SUBTYPE_SSL_CLIENT_CERT, since 2026).
//!
//! Read only where balancers vouch, and only of balancers that are pinned: the header alone proves nothing. Never: judges a certificate; uses the
//! name that a balancer read from one (PP2_SUBTYPE_SSL_CN).

use super::{ProxyFault, Tlv};

/// What is told of the client's TLS.
const TYPE_SSL: u8 = 0x20;
/// Within that: the version of TLS.
const SUBTYPE_VERSION: u8 = 0x21;
/// Within that: the cipher suite.
const SUBTYPE_CIPHER: u8 = 0x23;
/// Within that: the client's certificate, DER.
const SUBTYPE_CLIENT_CERT: u8 = 0x28;

/// The client spoke TLS with the balancer.
const CLIENT_SSL: u8 = 0x01;
/// It showed a certificate in this very connection.
const CLIENT_CERT_CONN: u8 = 0x02;

/// A client's certificate, of which the balancer says that its handshake proved the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// DER.
    pub certificate: &'a [u8],
    /// The version of TLS that the client speaks.
    pub version: Option<&'a [u8]>,
    /// The cipher suite.
    pub cipher: Option<&'a [u8]>,
}

/// Why a load balancer vouches for no certificate of its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unvouched {
    /// Version 1 has no room for one.
    #[error("the load balancer's PROXY header is of version 1, which tells of no certificate")]
    Version1,
    /// Nothing of the client's TLS.
    #[error("the load balancer's PROXY header tells nothing of the client's TLS (PP2_TYPE_SSL)")]
    NothingTold,
    /// The client spoke no TLS.
    #[error("the client does not speak TLS with the load balancer (PP2_CLIENT_SSL is not set)")]
    NoTls,
    /// No certificate, or one of an earlier connection: resumption asks for none.
    #[error(
        "the client has shown the load balancer no certificate in this connection (PP2_CLIENT_CERT_CONN is not set); has TLS been resumed?"
    )]
    NotShown,
    /// The balancer found something wrong with it.
    #[error("the load balancer has not found the client's certificate good: it says {0}")]
    NotVerified(u32),
    /// It is not in the header.
    #[error("the load balancer does not pass the client's certificate on (PP2_SUBTYPE_SSL_CLIENT_CERT)")]
    NotPassed,
}

/// A balancer's word.
pub type Word<'a> = Result<Told<'a>, Unvouched>;

/// Reads what stands behind the addresses of a whole header; `None` is a header in version 1. What the balancer says of the client is read in the
/// order in which it matters: whoever has shown no certificate is told so, whatever stands in the parts.
///
/// # Errors
/// It is malformed, or says something twice.
pub fn word_of(tlvs: Option<&[u8]>) -> Result<Word<'_>, ProxyFault> {
    let Some(tlvs) = tlvs else { return Ok(Err(Unvouched::Version1)) };
    let Some(ssl) = only(tlvs, TYPE_SSL)? else { return Ok(Err(Unvouched::NothingTold)) };
    let (&[client, verify @ ..], parts) = ssl.split_first_chunk::<5>().ok_or(ProxyFault::Tlv)?;
    let verify = u32::from_be_bytes(verify);
    if client & CLIENT_SSL == 0 {
        return Ok(Err(Unvouched::NoTls));
    }
    if client & CLIENT_CERT_CONN == 0 {
        return Ok(Err(Unvouched::NotShown));
    }
    if verify != 0 {
        return Ok(Err(Unvouched::NotVerified(verify)));
    }
    let certificate = only(parts, SUBTYPE_CLIENT_CERT)?.filter(|der| !der.is_empty());
    let (version, cipher) = (only(parts, SUBTYPE_VERSION)?, only(parts, SUBTYPE_CIPHER)?);
    Ok(certificate.map(|certificate| Told { certificate, version, cipher }).ok_or(Unvouched::NotPassed))
}

/// The value of this type; a second one would be another word of the same balancer.
fn only(tlvs: &[u8], wanted: u8) -> Result<Option<&[u8]>, ProxyFault> {
    let (mut rest, mut found) = (tlvs, None);
    while let Some(Tlv { kind, value, behind }) = Tlv::first_of(rest)? {
        rest = behind;
        if kind == wanted && found.replace(value).is_some() {
            return Err(ProxyFault::Twice(wanted));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
    }

    fn ssl(client: u8, verify: u32, parts: &[u8]) -> Vec<u8> {
        tlv(TYPE_SSL, &[&[client][..], &verify.to_be_bytes(), parts].concat())
    }

    #[test]
    fn what_a_balancer_says_of_its_client_counts_whole_and_once_or_not_at_all() {
        let certificate = tlv(SUBTYPE_CLIENT_CERT, b"der");
        let parts =
            [tlv(SUBTYPE_VERSION, b"TLSv1.3"), tlv(0x22, b"CN"), certificate.clone(), tlv(SUBTYPE_CIPHER, b"X")]
                .concat();
        let whole = Told { certificate: b"der", version: Some(b"TLSv1.3"), cipher: Some(b"X") };
        let bare = Told { certificate: b"der", version: None, cipher: None };
        let good = ssl(0x07, 0, &certificate);
        for (claim, tlvs, expected) in [
            ("everything", ssl(0x07, 0, &parts), Ok(Ok(whole))),
            (
                "the certificate alone, among others",
                [tlv(0x01, b"smtp"), good.clone(), tlv(0x30, b"ns")].concat(),
                Ok(Ok(bare)),
            ),
            ("of this connection alone", ssl(0x03, 0, &certificate), Ok(Ok(bare))),
            ("nothing", Vec::new(), Ok(Err(Unvouched::NothingTold))),
            ("other things", tlv(0x05, b"id"), Ok(Err(Unvouched::NothingTold))),
            ("a certificate that stands outside", certificate.clone(), Ok(Err(Unvouched::NothingTold))),
            ("no TLS", ssl(0x06, 0, &certificate), Ok(Err(Unvouched::NoTls))),
            ("no certificate", ssl(0x01, 0, b""), Ok(Err(Unvouched::NotShown))),
            ("one of an earlier connection", ssl(0x05, 0, &certificate), Ok(Err(Unvouched::NotShown))),
            ("a bad one", ssl(0x07, 18, &certificate), Ok(Err(Unvouched::NotVerified(18)))),
            (
                "a verdict in the last octet",
                ssl(0x07, 0x0100_0000, &certificate),
                Ok(Err(Unvouched::NotVerified(1 << 24))),
            ),
            ("none passed on", ssl(0x07, 0, &tlv(0x22, b"CN")), Ok(Err(Unvouched::NotPassed))),
            ("an empty one", ssl(0x07, 0, &tlv(SUBTYPE_CLIENT_CERT, b"")), Ok(Err(Unvouched::NotPassed))),
            (
                "two certificates",
                ssl(0x07, 0, &[certificate.clone(), certificate.clone()].concat()),
                Err(ProxyFault::Twice(0x28)),
            ),
            ("two of TLS", [good.clone(), good.clone()].concat(), Err(ProxyFault::Twice(0x20))),
            ("two, the second without", [good, ssl(0x01, 0, b"")].concat(), Err(ProxyFault::Twice(0x20))),
            (
                "two versions",
                ssl(0x07, 0, &[parts.clone(), tlv(SUBTYPE_VERSION, b"")].concat()),
                Err(ProxyFault::Twice(0x21)),
            ),
            ("too short for its verdict", tlv(TYPE_SSL, &[7, 0, 0, 0]), Err(ProxyFault::Tlv)),
            ("parts cut short", ssl(0x07, 0, &parts[..parts.len() - 1]), Err(ProxyFault::Tlv)),
            ("half a part", ssl(0x07, 0, &[&certificate[..], &[0x21, 0]].concat()), Err(ProxyFault::Tlv)),
            ("a part beyond its end", ssl(0x07, 0, &[0x28, 0xff, 0xff, 1]), Err(ProxyFault::Tlv)),
        ] {
            assert_eq!(word_of(Some(&tlvs)), expected, "{claim}");
        }
        assert_eq!(word_of(None), Ok(Err(Unvouched::Version1)));
    }

    proptest::proptest! {
        #[test]
        fn no_octets_panic_and_no_certificate_is_told_that_does_not_stand_there(
            octets in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            kinds in proptest::collection::vec(0x1f..0x2a_u8, 0..6),
        ) {
            let parts: Vec<u8> = kinds.iter().flat_map(|kind| tlv(*kind, octets.get(..usize::from(*kind)).unwrap_or(&octets))).collect();
            for tlvs in [octets.clone(), ssl(0x07, 0, &octets), ssl(0x07, 0, &parts)] {
                if let Ok(Ok(told)) = word_of(Some(&tlvs)) {
                    let stands = tlvs.windows(told.certificate.len()).any(|window| window == told.certificate);
                    proptest::prop_assert!(stands && !told.certificate.is_empty());
                }
            }
        }
    }
}
