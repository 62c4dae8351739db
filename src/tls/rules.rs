//! What a CA demands of its certificates, by configuration: purposes, length of the chain, policies, strength and kind of keys.
//!
//! Values and pure questions on them; [`judge`](super::verify::judge) asks. Never: loosens what webpki demands.

use std::str::FromStr;

use super::der;

/// The most certificates of a path, the leaf and the anchor counted: webpki follows six between them.
pub const CHAIN_MOST: usize = 8;
/// The shortest RSA key that can be configured, bits; also the default.
pub const RSA_BITS_LEAST: usize = 2048;
/// The longest RSA key that signatures are verified with, bits.
pub const RSA_BITS_MOST: usize = 8192;

/// Which purposes a client's certificate may state (RFC 5280 §4.2.1.12): one of these is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purposes {
    /// 1.3.6.1.5.5.7.3.2
    pub client_auth: bool,
    /// 1.3.6.1.5.5.7.3.4
    pub email_protection: bool,
    /// 1.3.6.1.5.5.7.3.1
    pub server_auth: bool,
    /// 2.5.29.37.0
    pub any: bool,
    /// No extended key usage at all.
    pub unstated: bool,
}

impl Default for Purposes {
    fn default() -> Self {
        Self { client_auth: true, ..Self::NONE }
    }
}

/// No such purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a purpose known here")]
pub struct NotAPurpose;

impl Purposes {
    /// Not one.
    pub const NONE: Self =
        Self { client_auth: false, email_protection: false, server_auth: false, any: false, unstated: false };

    /// The words that [`Purposes::with`] knows.
    pub const WORDS: [&str; 5] = ["clientAuth", "emailProtection", "serverAuth", "any", "unstated"];

    /// These and the one of this name.
    ///
    /// # Errors
    /// There is no purpose of this name.
    pub fn with(self, word: &str) -> Result<Self, NotAPurpose> {
        match word {
            "clientAuth" => Ok(Self { client_auth: true, ..self }),
            "emailProtection" => Ok(Self { email_protection: true, ..self }),
            "serverAuth" => Ok(Self { server_auth: true, ..self }),
            "any" => Ok(Self { any: true, ..self }),
            "unstated" => Ok(Self { unstated: true, ..self }),
            _ => Err(NotAPurpose),
        }
    }

    /// Whether a leaf that states these (or none) may be a client's.
    pub(super) fn accept(self, stated: Option<Self>) -> bool {
        match stated {
            None => self.unstated,
            Some(stated) => (self.any && stated.any) || self.common(stated) != Self::NONE,
        }
    }

    /// What a chain may be for whose leaf states these (or none): its CAs must allow one of it. One that states nothing, or any purpose, is for
    /// client authentication.
    pub(super) fn wanted_of_issuers(self, stated: Option<Self>) -> Self {
        let general = Self { client_auth: true, ..self.named() };
        match stated {
            Some(stated) if self.common(stated) != Self::NONE => self.common(stated),
            Some(_) | None => general,
        }
    }

    /// The named purposes that both have.
    pub(super) fn common(self, other: Self) -> Self {
        Self {
            client_auth: self.client_auth && other.client_auth,
            email_protection: self.email_protection && other.email_protection,
            server_auth: self.server_auth && other.server_auth,
            ..Self::NONE
        }
    }

    fn named(self) -> Self {
        Self { any: false, unstated: false, ..self }
    }
}

/// A certificate policy (RFC 5280 §4.2.1.4): the content octets of its object identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyOid(Vec<u8>);

/// The text is no object identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the object identifier of a policy: numbers with dots, like 1.3.6.1.4.1.99999.1.2")]
pub struct NotAnOid;

impl PolicyOid {
    pub(super) fn of(content: &[u8]) -> Self {
        Self(content.to_vec())
    }

    /// anyPolicy, 2.5.29.32.0.
    pub(super) fn is_any(&self) -> bool {
        self.0 == [0x55, 0x1d, 0x20, 0]
    }
}

impl FromStr for PolicyOid {
    type Err = NotAnOid;

    /// Reads `1.3.6.1.4.1.99999.1.2` (X.690 §8.19). anyPolicy is none: it would demand nothing.
    fn from_str(text: &str) -> Result<Self, NotAnOid> {
        let number = |part: &str| {
            let plain = part == "0" || !part.starts_with('0');
            let digits = !part.is_empty() && part.bytes().all(|octet| octet.is_ascii_digit());
            if plain && digits { part.parse::<u64>().map_err(|_| NotAnOid) } else { Err(NotAnOid) }
        };
        let arcs: Vec<u64> = text.split('.').map(number).collect::<Result<_, _>>()?;
        let [first, second, rest @ ..] = arcs.as_slice() else { return Err(NotAnOid) };
        if *first > 2 || (*first < 2 && *second > 39) || rest.is_empty() {
            return Err(NotAnOid);
        }
        let head = first.saturating_mul(40).checked_add(*second).ok_or(NotAnOid)?;
        let oid = Self(std::iter::once(&head).chain(rest).flat_map(|arc| base128(*arc)).collect());
        if oid.is_any() { Err(NotAnOid) } else { Ok(oid) }
    }
}

fn base128(mut arc: u64) -> Vec<u8> {
    let mut octets = Vec::new();
    loop {
        let low = u8::try_from(arc & 0x7f).unwrap_or(0);
        octets.push(if octets.is_empty() { low } else { low | 0x80 });
        arc >>= 7;
        if arc == 0 {
            octets.reverse();
            return octets;
        }
    }
}

/// Which policies a certificate asserts, and what it says of those below it.
#[derive(Clone, Debug, Default)]
pub(super) struct Policies {
    pub(super) asserted: Vec<PolicyOid>,
    /// inhibitAnyPolicy (RFC 5280 §4.2.1.14), whatever its number.
    pub(super) inhibits_any: bool,
    /// policyMappings (RFC 5280 §4.2.1.5).
    pub(super) maps: bool,
}

impl Policies {
    /// From the value of certificatePolicies; `None` when it is malformed.
    pub(super) fn read(value: &[u8]) -> Option<Vec<PolicyOid>> {
        let read = |information: &der::Element<'_>| {
            let (oid, _) = der::first(information.content)?;
            (information.tag == der::SEQUENCE && oid.tag == der::OID).then(|| PolicyOid::of(oid.content))
        };
        der::all(der::only(value, der::SEQUENCE)?)?.iter().map(read).collect()
    }
}

/// Whether one of the wanted policies is valid for a path, leaf first, the anchor last: a part of RFC 5280 §6.1 that accepts nothing which the
/// whole would refuse. The leaf names the policy itself; each CA below the anchor names it or anyPolicy. No mapping is followed: a path with a
/// CA that maps has no policy. anyPolicy counts nowhere below a CA that inhibits it, however many certificates that one would let pass.
pub(super) fn policy_is_valid(wanted: &[PolicyOid], path: &[&Policies]) -> bool {
    let Some((_, [leaf, cas @ ..])) = path.split_last() else { return false };
    if path.iter().any(|policies| policies.maps) {
        return false;
    }
    let names = |place: usize, ca: &Policies, policy: &PolicyOid| {
        // `place` is among the CAs; those above it in the path stand behind it.
        let inhibited = path.iter().skip(place.saturating_add(2)).any(|above| above.inhibits_any);
        ca.asserted.iter().any(|asserted| asserted == policy || (asserted.is_any() && !inhibited))
    };
    wanted.iter().any(|policy| {
        leaf.asserted.contains(policy) && cas.iter().enumerate().all(|(place, ca)| names(place, ca, policy))
    })
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with so many bits of modulus.
    Rsa(usize),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
    /// One that no signature is verified with here.
    Other,
}

/// What keys the certificates of a CA may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRules {
    /// The shortest RSA modulus, bits.
    pub rsa_bits_min: usize,
}

impl Default for KeyRules {
    fn default() -> Self {
        Self { rsa_bits_min: RSA_BITS_LEAST }
    }
}

impl KeyRules {
    /// Whether the key is RSA, and too short.
    pub(super) fn is_short(self, kind: KeyKind) -> bool {
        matches!(kind, KeyKind::Rsa(bits) if bits < self.rsa_bits_min)
    }
}

/// What a CA demands of its certificates besides what RFC 5280 demands of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaRules {
    /// What the leaf may be for.
    pub purposes: Purposes,
    /// Certificates of a path at most, the leaf and the anchor counted; at most [`CHAIN_MOST`].
    pub chain_max: usize,
    /// One of these must be valid for the path; empty demands none.
    pub policies: Vec<PolicyOid>,
    /// The keys of all certificates of a path.
    pub keys: KeyRules,
}

impl Default for CaRules {
    fn default() -> Self {
        Self { purposes: Purposes::default(), chain_max: CHAIN_MOST, policies: Vec::new(), keys: KeyRules::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_identifier_is_read_as_it_stands_in_certificates() {
        let read = |text: &str| text.parse::<PolicyOid>().map(|PolicyOid(octets)| octets);
        assert_eq!(read("1.2.840.113549.1"), Ok(vec![0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1]));
        assert_eq!(read("2.999.0"), Ok(vec![0x88, 0x37, 0]));
        for wrong in ["", "1", "1.2", "1.40.1", "3.1.1", "1..2", "1.2.", "1.02.3", "a.b.c", "1.2.-3", "2.5.29.32.0"] {
            assert_eq!(read(wrong), Err(NotAnOid), "{wrong:?}");
        }
    }

    #[test]
    fn a_policy_is_valid_only_along_the_whole_path() {
        let policy = |text: &str| text.parse::<PolicyOid>().unwrap();
        let any = || PolicyOid::of(&[0x55, 0x1d, 0x20, 0]);
        let with = |asserted: Vec<PolicyOid>| Policies { asserted, ..Policies::default() };
        let (strong, weak) = (policy("1.2.3.1"), policy("1.2.3.2"));
        let none = Policies::default();
        let inhibiting = Policies { inhibits_any: true, ..with(vec![strong.clone()]) };
        let mapping = Policies { maps: true, ..with(vec![strong.clone()]) };
        let (strongly, weakly, anyhow) = (with(vec![strong.clone()]), with(vec![weak]), with(vec![any()]));
        #[rustfmt::skip]
        let cases = [
            // Leaf, CAs, anchor.
            (vec![&strongly, &none], true),
            (vec![&weakly, &none], false),
            (vec![&anyhow, &none], false),
            (vec![&none, &none], false),
            (vec![&strongly, &none, &none], false),
            (vec![&strongly, &strongly, &none], true),
            (vec![&strongly, &weakly, &none], false),
            (vec![&strongly, &anyhow, &none], true),
            (vec![&strongly, &anyhow, &inhibiting, &none], false),
            (vec![&strongly, &anyhow, &inhibiting], false),
            (vec![&strongly, &inhibiting, &anyhow, &none], true),
            (vec![&strongly, &mapping, &none], false),
            (vec![&strongly, &mapping], false),
            (vec![&strongly], false),
            (vec![], false),
        ];
        for (number, (path, valid)) in cases.into_iter().enumerate() {
            assert_eq!(policy_is_valid(std::slice::from_ref(&strong), &path), valid, "case {number}");
        }
    }
}
