//! CRLs that are fetched: where from, where they are kept, and what is there already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Checking;
use crate::config::files;
use crate::config::settings::{CRL_KINDS_MAX, CRL_URLS_MAX, CrlSource, crl_cache_file, crl_cache_name};
use crate::config::units::wait_text;
use crate::config::written::{WrittenCa, WrittenOcsp};
use crate::tls::points::{self, HttpUrl};
use crate::tls::{Asks, ClientCa, CrlFile, OcspMode};

/// The longest pause between two fetches, unless written.
const REFRESH: Duration = Duration::from_secs(3600);
/// The shortest one that may be written.
const REFRESH_LEAST: Duration = Duration::from_secs(1);

/// What a CA says of fetching.
pub(super) struct Fetching {
    urls: Vec<HttpUrl>,
    learns: bool,
    folder: PathBuf,
    refresh: Duration,
}

/// Whether a CA has its CRLs fetched.
pub(super) fn is_fetched(written: &WrittenCa) -> bool {
    !written.crl_urls.is_empty() || written.crl_distribution_points
}

impl Fetching {
    /// Where the CRLs of this CA come from; with distribution points, those of its own certificates among them.
    pub(super) fn source(self, ca: Arc<ClientCa>) -> CrlSource {
        let Self { urls: mut written, learns, folder, refresh } = self;
        let mut own: Vec<HttpUrl> = if learns { ca.ders().flat_map(points::crl_urls).collect() } else { Vec::new() };
        for list in [&mut written, &mut own] {
            list.sort();
            list.dedup();
        }
        // What is written comes first.
        own.retain(|url| !written.contains(url));
        let urls = written.into_iter().chain(own).take(CRL_URLS_MAX).collect();
        CrlSource { ca, urls, learns, folder, refresh }
    }
}

impl Checking<'_> {
    pub(super) fn fetching(
        &mut self,
        path: &str,
        written: &WrittenCa,
        name: &str,
        data_dir: Option<&str>,
    ) -> Option<Fetching> {
        let refresh = written.crl_refresh.map_or(REFRESH, |wait| wait.0);
        if refresh < REFRESH_LEAST {
            let wrong = format!("{}: the server would be asked without a pause", wait_text(refresh));
            self.findings.mistake(&format!("{path}.crl_refresh"), wrong, "write \"1m\" or more");
        }
        if !is_fetched(written) {
            if written.crl_refresh.is_some() {
                let wrong = "never applies without crl_urls or crl_distribution_points = true";
                self.findings.warning(&format!("{path}.crl_refresh"), wrong, ());
            }
            return None;
        }
        if written.crl_urls.len() > CRL_URLS_MAX {
            self.findings.mistake(&format!("{path}.crl_urls"), format!("more than {CRL_URLS_MAX} URLs"), ());
        }
        let mut urls = Vec::new();
        for (index, text) in written.crl_urls.iter().enumerate() {
            match HttpUrl::parse(text) {
                Ok(url) => urls.push(url),
                Err(fault) => {
                    let key = format!("{path}.crl_urls[{index}]");
                    self.findings.mistake(&key, format!("{text:?}: {fault}"), ());
                }
            }
        }
        let folder = self.resolve(data_dir?).join("crls").join(folder_name(name));
        Some(Fetching { urls, learns: written.crl_distribution_points, folder, refresh })
    }

    /// What is asked of other servers about a CA's certificates.
    pub(super) fn asks(&mut self, path: &str, written: &WrittenCa) -> Asks {
        let key = format!("{path}.ocsp_url");
        let ocsp = match written.ocsp {
            WrittenOcsp::Off => OcspMode::Off,
            WrittenOcsp::IfAvailable => OcspMode::IfAvailable,
            WrittenOcsp::Require => OcspMode::Require,
        };
        let ocsp_url = written.ocsp_url.as_ref().and_then(|text| match HttpUrl::parse(text) {
            Ok(url) => Some(url),
            Err(fault) => {
                self.findings.mistake(&key, format!("{text:?}: {fault}"), ());
                None
            }
        });
        if ocsp == OcspMode::Off && written.ocsp_url.is_some() {
            self.findings.warning(&key, "never applies without ocsp = \"if-available\" or \"require\"", ());
        }
        Asks { named_crls: written.crl_distribution_points, ocsp, ocsp_url }
    }

    /// What was fetched before. Nothing there is nobody's mistake.
    pub(super) fn fetched_crls(&mut self, path: &str, fetching: &Fetching) -> Vec<CrlFile> {
        self.watched.insert(fetching.folder.clone());
        let wanted: Vec<String> = fetching
            .urls
            .iter()
            .flat_map(|url| (0..CRL_KINDS_MAX).map(|slot| crl_cache_file(&url.to_string(), slot)))
            .collect();
        let is_wanted = |file: &PathBuf| {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".crl") && (fetching.learns || wanted.iter().any(|wanted| wanted == name))
        };
        let files = files::files_of(&fetching.folder).unwrap_or_default();
        let mut found = Vec::new();
        for file in files.into_iter().filter(is_wanted) {
            if let Ok(contents) = files::read_named(&file) {
                let place = file.display().to_string();
                self.digests.insert(format!("{path}.crl_urls {place}"), super::digest(&contents));
                found.push(CrlFile { place, octets: contents.octets.to_vec() });
            }
        }
        found
    }
}

/// A CA's name as the name of a folder: what is safe of it, and a digest that tells it from others.
fn folder_name(name: &str) -> String {
    let safe: String =
        name.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').take(40).collect();
    let digest: String = crl_cache_name(name).chars().take(8).collect();
    format!("{safe}-{digest}")
}
