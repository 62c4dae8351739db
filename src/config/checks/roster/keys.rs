//! What an `[[identity]]` matches: texts to the roster's keys.

use std::str::FromStr;
use std::sync::Arc;

use crate::config::checks::Checking;
use crate::config::checks::trust::Cas;
use crate::config::nearest::nearest;
use crate::config::schema::quoted;
use crate::config::written::{WrittenIssuerSerial, WrittenMatch};
use crate::identity::{Digest256, DistinguishedName, MailboxKey, MatchKeys, SerialNumber};

/// What is wrong, and what to do about it where that is not said yet.
pub(super) type Wrong = (String, Option<String>);

impl Checking<'_> {
    pub(super) fn match_keys(&mut self, path: &str, written: &WrittenMatch, cas: &Cas) -> Option<MatchKeys> {
        let ca = match &written.ca {
            None => None,
            Some(ca) => match known_ca(ca, cas) {
                Ok(known) => Some(known),
                Err(wrong) => {
                    self.tell(&format!("{path}.ca"), wrong);
                    return None;
                }
            },
        };
        if self.findings.origins().is_spoiled_within(path) {
            return None;
        }
        let at = |key: &str| format!("{path}.{key}");
        let email = self.key(&at("email"), written.email.as_ref(), email);
        let upn = self.key(&at("upn"), written.upn.as_ref(), upn);
        let dns = self.key(&at("dns"), written.dns.as_ref(), parsed);
        let uri = self.key(&at("uri"), written.uri.as_ref(), parsed);
        let subject = self.key(&at("subject"), written.subject.as_ref(), distinguished_name);
        let issuer_serial = match &written.issuer_serial {
            None => Some(None),
            Some(written) => self.issuer_serial(&at("issuer_serial"), written).map(Some),
        };
        let fingerprint = self.key(&at("fingerprint"), written.fingerprint.as_ref(), fingerprint);
        let spki = self.key(&at("spki"), written.spki.as_ref(), spki);
        Some(MatchKeys {
            ca,
            email: email?,
            upn: upn?,
            dns: dns?,
            uri: uri?,
            subject: subject?.map(Arc::new),
            issuer_serial: issuer_serial?,
            fingerprint: fingerprint?,
            spki: spki?,
        })
    }

    /// `None`: it was wrong, and told.
    fn key<K>(
        &mut self,
        key: &str,
        written: Option<&String>,
        read: impl FnOnce(&str) -> Result<K, Wrong>,
    ) -> Option<Option<K>> {
        let Some(text) = written else { return Some(None) };
        match read(text) {
            Ok(value) => Some(Some(value)),
            Err(wrong) => {
                self.tell(key, wrong);
                None
            }
        }
    }

    fn issuer_serial(
        &mut self,
        path: &str,
        written: &WrittenIssuerSerial,
    ) -> Option<(Arc<DistinguishedName>, SerialNumber)> {
        let (issuer_key, serial_key) = (format!("{path}.issuer"), format!("{path}.serial"));
        let how = "write issuer_serial = { issuer = \"CN=...,O=...\", serial = \"0x...\" }";
        let issuer = self.required(&issuer_key, written.issuer.as_ref(), how);
        let serial = self.required(&serial_key, written.serial.as_ref(), how);
        let issuer = self.key(&issuer_key, issuer.as_ref(), distinguished_name)?;
        let serial = self.key(&serial_key, serial.as_ref(), serial_number)?;
        Some((Arc::new(issuer?), serial?))
    }

    fn tell(&mut self, key: &str, (wrong, remedy): Wrong) {
        self.findings.mistake(key, wrong, remedy);
    }
}

/// The CA of this name.
pub(super) fn known_ca(ca: &str, cas: &Cas) -> Result<Arc<str>, Wrong> {
    if let Some(known) = cas.grants.iter().find(|known| *known.ca == *ca) {
        return Ok(Arc::clone(&known.ca));
    }
    if cas.names.contains(ca) {
        return Ok(ca.into());
    }
    let mut known: Vec<&str> = cas.names.iter().map(String::as_str).collect();
    known.sort_unstable();
    let remedy = match (nearest(ca, known.iter().copied()), known.is_empty()) {
        (Some(meant), _) => format!("did you mean {meant:?}?"),
        (None, true) => "write a [[client_ca]] of this name".to_owned(),
        (None, false) => format!("there are {}", quoted(&known)),
    };
    Err((format!("{ca:?}: there is no client_ca of this name"), Some(remedy)))
}

fn told<V, F: std::fmt::Display>(text: &str, read: Result<V, F>) -> Result<V, Wrong> {
    read.map_err(|fault| (format!("{text:?}: {fault}"), None))
}

fn parsed<K: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<K, Wrong> {
    told(text, text.parse())
}

fn email(text: &str) -> Result<MailboxKey, Wrong> {
    told(text, MailboxKey::email(text))
}

fn upn(text: &str) -> Result<MailboxKey, Wrong> {
    told(text, MailboxKey::upn(text))
}

fn distinguished_name(text: &str) -> Result<DistinguishedName, Wrong> {
    told(text, DistinguishedName::parse(text))
}

fn serial_number(text: &str) -> Result<SerialNumber, Wrong> {
    told(text, SerialNumber::parse(text))
}

fn fingerprint(text: &str) -> Result<Digest256, Wrong> {
    digest(text, "openssl x509 -in cert.pem -noout -fingerprint -sha256")
}

fn spki(text: &str) -> Result<Digest256, Wrong> {
    digest(text, "openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform DER | sha256sum")
}

fn digest(text: &str, how: &str) -> Result<Digest256, Wrong> {
    Digest256::from_str(text)
        .map_err(|_| (format!("{text:?}: not a SHA-256 (64 hexadecimal digits)"), Some(format!("get it with: {how}"))))
}

/// The texts of one line of a file; empty ones are not given.
#[derive(Default)]
pub(super) struct KeyTexts<'t> {
    pub(super) email: &'t str,
    pub(super) upn: &'t str,
    pub(super) dns: &'t str,
    pub(super) uri: &'t str,
    pub(super) subject: &'t str,
    pub(super) issuer: &'t str,
    pub(super) serial: &'t str,
    pub(super) fingerprint: &'t str,
    pub(super) spki: &'t str,
}

impl KeyTexts<'_> {
    /// The keys; `ca` is left out. What is wrong comes with the column's name.
    pub(super) fn read(
        &self,
        names: &mut impl FnMut(&str) -> Result<Arc<DistinguishedName>, Wrong>,
    ) -> Result<MatchKeys, (&'static str, Wrong)> {
        let issuer_serial = match (self.issuer, self.serial) {
            ("", "") => None,
            ("", _) => return Err(("issuer", ("is empty beside serial".to_owned(), None))),
            (_, "") => return Err(("serial", ("is empty beside issuer".to_owned(), None))),
            (issuer, serial) => Some((
                names(issuer).map_err(|wrong| ("issuer", wrong))?,
                serial_number(serial).map_err(|wrong| ("serial", wrong))?,
            )),
        };
        Ok(MatchKeys {
            ca: None,
            email: given("email", self.email, email)?,
            upn: given("upn", self.upn, upn)?,
            dns: given("dns", self.dns, parsed)?,
            uri: given("uri", self.uri, parsed)?,
            subject: given("subject", self.subject, names)?,
            issuer_serial,
            fingerprint: given("fingerprint", self.fingerprint, fingerprint)?,
            spki: given("spki", self.spki, spki)?,
        })
    }
}

fn given<K>(
    column: &'static str,
    text: &str,
    read: impl FnOnce(&str) -> Result<K, Wrong>,
) -> Result<Option<K>, (&'static str, Wrong)> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some).map_err(|wrong| (column, wrong)) }
}

/// A distinguished name of a line.
pub(super) fn name_of_line(text: &str) -> Result<Arc<DistinguishedName>, Wrong> {
    distinguished_name(text).map(Arc::new)
}
