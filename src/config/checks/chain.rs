//! Whether clients can follow the chain of our own certificate: each certificate in the file is to be issued by the next (RFC 8446 §4.4.2).
//!
//! Clients have the root, and nothing else is sure. Whether the last one in the file is issued by their root, only they know; one that says from where its issuer
//! can be had (RFC 5280 §4.2.2.1) does not expect it with them. Never: more than a warning, for some clients fetch what is missing.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::oid;
use x509_parser::extensions::ParsedExtension;

use super::Checking;
use crate::tls;

const REMEDY: &str = "put behind the server's certificate what issued it, then what issued that, up to the root's (many CAs call it full chain)";

impl Checking<'_> {
    pub(super) fn warn_of_gaps(&mut self, key: &str, chain: &[CertificateDer<'static>]) {
        let gap = chain.windows(2).position(|pair| matches!(pair, [one, next] if !tls::is_issued_by(one, next)));
        if let Some(gap) = gap {
            let (one, next) = (gap.saturating_add(1), gap.saturating_add(2));
            let wrong = format!(
                "certificate {one} of the file was not issued by certificate {next}: clients can't follow the chain"
            );
            self.findings.warning(key, wrong, REMEDY);
        } else if let [alone] = chain
            && names_its_issuer(alone)
        {
            let wrong =
                "the certificate stands without what issued it: clients that do not have that can't follow the chain";
            self.findings.warning(key, wrong, REMEDY);
        }
    }
}

/// Whether it says where the certificate of its issuer is.
fn names_its_issuer(certificate: &[u8]) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    certificate.extensions().iter().any(|extension| {
        let ParsedExtension::AuthorityInfoAccess(access) = extension.parsed_extension() else { return false };
        access.accessdescs.iter().any(|one| one.access_method == oid!(1.3.6.1.5.5.7.48.2))
    })
}
