//! Where a certificate says that its revocation can be asked for: CRL distribution points (RFC 5280 §4.2.1.13) and OCSP responders
//! (authorityInfoAccess, §4.2.2.1).
//!
//! Plain http only. A CRL and an OCSP answer are signed, so that nothing is gained by TLS; and RFC 5280 §8 warns that https needs a chain
//! validated first, whose revocation would have to be asked for at its own server. LDAP is passed over.
//!
//! Pure: octets and texts to values. Never: connects. What can fail is a URL that is none, told as the end of a sentence.

use std::fmt;

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{FromDer as _, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};

/// The longest URL taken, octets.
pub const URL_OCTETS_MAX: usize = 1024;
/// Names of one certificate's extension that are looked at.
const NAMES_MAX: usize = 16;

/// An http URL: `http://host[:port]/path?query`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpUrl {
    host: String,
    port: u16,
    /// Begins with `/`.
    path: String,
}

/// A distribution point that a certificate under a CA named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The CA, by its name in the configuration.
    pub ca: std::sync::Arc<str>,
    /// Where.
    pub url: HttpUrl,
}

/// Why a text is no URL that is fetched here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlFault {
    /// Another scheme.
    #[error(
        "not plain http; write \"http://...\": what is fetched is signed, so https gains nothing (RFC 5280 section 8)"
    )]
    Scheme,
    /// No host, or one that is none; or a user's name in it.
    #[error("its host is no name or address; write \"http://pki.example.com/ca.crl\"")]
    Host,
    /// No port.
    #[error("its port is no number from 1 to 65535")]
    Port,
    /// Spaces, controls, other than ASCII; or too long.
    #[error("it has characters that no URL has, or is longer than {URL_OCTETS_MAX} octets")]
    Characters,
}

impl HttpUrl {
    /// Reads a URL (RFC 3986 §3, RFC 9110 §4.2.1); a fragment is dropped.
    ///
    /// # Errors
    /// It is none that is fetched here.
    pub fn parse(text: &str) -> Result<Self, UrlFault> {
        if text.len() > URL_OCTETS_MAX || !text.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(UrlFault::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlFault::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(UrlFault::Scheme);
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).ok_or(UrlFault::Host)?;
        let (host, port) = split_port(authority)?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { host: host.to_ascii_lowercase(), port, path })
    }

    /// The URL that a redirection from here leads to (RFC 9110 §10.2.2): a reference, resolved as RFC 3986 §5.2 has it.
    ///
    /// # Errors
    /// It leads to what is not fetched here.
    pub fn follow(&self, location: &str) -> Result<Self, UrlFault> {
        if has_scheme(location) {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("http:{location}"));
        }
        let location = location.split_once('#').map_or(location, |(before, _)| before);
        let (path, query) = split_query(location);
        let (own_path, own_query) = split_query(&self.path);
        let (path, query) = match path {
            "" => (own_path.to_owned(), if query.is_empty() { own_query } else { query }),
            path if path.starts_with('/') => (without_dots(path), query),
            path => {
                let folder = own_path.rsplit_once('/').map_or("", |(folder, _)| folder);
                (without_dots(&format!("{folder}/{path}")), query)
            }
        };
        Self::parse(&format!("http://{}{path}{query}", self.authority()))
    }

    /// The host to connect to, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the Host field says.
    pub fn authority(&self) -> String {
        if self.port == 80 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// What the request line says: path and query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// Whether the text begins with a scheme (RFC 3986 §3.1); a colon behind a slash, a query or a fragment is none's.
fn has_scheme(text: &str) -> bool {
    let is_of_scheme = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.');
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(is_of_scheme)
}

/// The path, and the query with its question mark.
fn split_query(text: &str) -> (&str, &str) {
    text.split_at_checked(text.find('?').unwrap_or(text.len())).unwrap_or((text, ""))
}

/// A path that begins with a slash without its `.` and `..` (RFC 3986 §5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // What it stood for is a folder.
                kept.extend(is_last.then_some(""));
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn split_port(authority: &str) -> Result<(&str, u16), UrlFault> {
    let bracket = authority.find(']').map_or(0, |at| at.saturating_add(1));
    let (address, rest) = authority.split_at_checked(bracket).ok_or(UrlFault::Host)?;
    let (name, port) = rest.split_once(':').map_or((rest, None), |(name, port)| (name, Some(port)));
    let named = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    let inside = address.strip_prefix('[').and_then(|inside| inside.strip_suffix(']'));
    let is_host = match inside {
        Some(inside) => name.is_empty() && inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => address.is_empty() && !name.is_empty() && name.bytes().all(named),
    };
    if !is_host {
        return Err(UrlFault::Host);
    }
    let port = match port {
        None | Some("") => 80,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(UrlFault::Port)?,
    };
    Ok((if address.is_empty() { name } else { address }, port))
}

/// Where a certificate says that the CRL which covers it lies; what is not http is left out.
pub fn crl_urls(certificate: &CertificateDer<'_>) -> Vec<HttpUrl> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.points.iter().take(NAMES_MAX) {
            // RFC 5280 §4.2.1.13: a point with cRLIssuer leads to another CA's CRL, an indirect one, which is not taken here.
            if let (Some(DistributionPointName::FullName(full)), None) = (&point.distribution_point, &point.crl_issuer)
            {
                names.extend(full.iter().take(NAMES_MAX).filter_map(url));
            }
        }
    }
    names
}

/// Where a certificate says that its OCSP responder is; what is not http is left out.
pub fn ocsp_urls(certificate: &CertificateDer<'_>) -> Vec<HttpUrl> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { continue };
        let ocsp =
            access.accessdescs.iter().take(NAMES_MAX).filter(|one| one.access_method == oid!(1.3.6.1.5.5.7.48.1));
        names.extend(ocsp.filter_map(|one| url(&one.access_location)));
    }
    names
}

fn url(name: &GeneralName<'_>) -> Option<HttpUrl> {
    if let GeneralName::URI(text) = name { HttpUrl::parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        let table: [(&str, Result<&str, UrlFault>); 16] = [
            ("http://pki.example.com/ca.crl", Ok("http://pki.example.com/ca.crl")),
            ("HTTP://PKI.Example.COM:80", Ok("http://pki.example.com/")),
            ("http://pki.example.com:8080?ca=1#x", Ok("http://pki.example.com:8080/?ca=1")),
            ("http://192.0.2.1:8080/a/b", Ok("http://192.0.2.1:8080/a/b")),
            ("http://[2001:db8::1]:81/a", Ok("http://[2001:db8::1]:81/a")),
            ("https://pki.example.com/ca.crl", Err(UrlFault::Scheme)),
            ("ldap://pki.example.com/cn=ca", Err(UrlFault::Scheme)),
            ("file:///etc/passwd", Err(UrlFault::Scheme)),
            ("pki.example.com/ca.crl", Err(UrlFault::Scheme)),
            ("http:///ca.crl", Err(UrlFault::Host)),
            ("http://user@pki.example.com/", Err(UrlFault::Host)),
            ("http://[::1/", Err(UrlFault::Host)),
            ("http://pki.example.com:0/", Err(UrlFault::Port)),
            ("http://pki.example.com:65536/", Err(UrlFault::Port)),
            ("http://pki.example.com/a b", Err(UrlFault::Characters)),
            ("http://pki.example.com/\r\nX-Injected: 1", Err(UrlFault::Characters)),
        ];
        for (text, wanted) in table {
            let read = HttpUrl::parse(text).map(|url| url.to_string());
            assert_eq!(read, wanted.map(str::to_owned), "{text}");
        }
        assert_eq!(HttpUrl::parse("http://[2001:db8::1]/").unwrap().host(), "2001:db8::1");
    }

    /// RFC 3986 §5.4.1 and §5.4.2, without parameters that no query of http has, fragments left out.
    #[test]
    fn references_are_resolved_as_the_rfc_shows() {
        let from = HttpUrl::parse("http://a/b/c/d;p?q").unwrap();
        for (reference, wanted) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("../../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            (".g", "http://a/b/c/.g"),
            ("g..", "http://a/b/c/g.."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("g?y/./x", "http://a/b/c/g?y/./x"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
        ] {
            assert_eq!(from.follow(reference).map(|url| url.to_string()), Ok(wanted.to_owned()), "{reference}");
        }
        assert_eq!(from.follow("g:h"), Err(UrlFault::Scheme));
        assert_eq!(from.follow("http:g"), Err(UrlFault::Scheme));
    }

    #[test]
    fn redirections_stay_with_http() {
        let from = HttpUrl::parse("http://pki.example.com:8080/old/ca.crl?x=1").unwrap();
        let table = [
            ("http://other.example.com/ca.crl", Ok("http://other.example.com/ca.crl")),
            ("//other.example.com/ca.crl", Ok("http://other.example.com/ca.crl")),
            ("/new/ca.crl", Ok("http://pki.example.com:8080/new/ca.crl")),
            ("new.crl", Ok("http://pki.example.com:8080/old/new.crl")),
            ("https://pki.example.com/ca.crl", Err(UrlFault::Scheme)),
            (
                "new.crl?from=http://pki.example.net/",
                Ok("http://pki.example.com:8080/old/new.crl?from=http://pki.example.net/"),
            ),
            (
                "/new.crl?from=http://pki.example.net/#x",
                Ok("http://pki.example.com:8080/new.crl?from=http://pki.example.net/"),
            ),
            ("/a://b", Ok("http://pki.example.com:8080/a://b")),
            ("#http://pki.example.net/", Ok("http://pki.example.com:8080/old/ca.crl?x=1")),
            ("mailto:pki@example.com", Err(UrlFault::Scheme)),
        ];
        for (location, wanted) in table {
            assert_eq!(from.follow(location).map(|url| url.to_string()), wanted.map(str::to_owned), "{location}");
        }
    }
}
