//! The configuration as written: defaults, file and environment in one value, keys spelt right and of the right type, nothing checked
//! against anything else yet.

use serde::Deserialize;
use toml::{Table, Value};

use super::units::{Size, Wait};

/// What holds where nothing is written. The same text, with reasons, stands in `conf/sealpost.toml`.
const DEFAULTS: &str = r#"
shutdown_grace = "30s"

[tls]
min_version = "1.2"
refusal = "reply"

[dns]
trusted = false

[queue]
retry = ["1m", "5m", "15m", "1h"]
warn_after = "4h"
give_up_after = "5d"
size = "10GiB"
count = 1000000
memory = "64MiB"
recheck = false
soft_bounce = false
share_per_identity = 50
memory_share_per_identity = 25
receiving_per_identity = 100
delivery = "queue"
through_wait = "30s"

[limits]
connections = 2000
connections_per_address = 50
connections_per_minute = 600
message_size = "50MiB"
recipients_per_transaction = 1000
header_size = "256KiB"
auth_failures = 3
idle_commands = 50

[deadlines]
handshake = "60s"
command = "5m"
write = "5m"
transaction = "1h"
rate_min = "1KiB"
rate_window = "60s"
session_max = "24h"

[received]
identity = false
client_address = false

[header]
strict_8bit = false
sender = "check"
add_sender = false
fqdn = "pass"
authentication_results = false

[notices]
expiry = false

[log]
format = "auto"
level = "info"

[reload]
watch = "files"
poll = "30s"
"#;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) hostname: Option<String>,
    pub(super) data_dir: Option<String>,
    pub(super) postmaster: Option<String>,
    pub(super) shutdown_grace: Wait,
    #[serde(default)]
    pub(super) listener: Vec<WrittenListener>,
    pub(super) tls: WrittenTls,
    #[serde(default)]
    pub(super) client_ca: Vec<WrittenCa>,
    #[serde(default)]
    pub(super) identity: Vec<WrittenIdentity>,
    #[serde(default)]
    pub(super) identities: Vec<String>,
    #[serde(default)]
    pub(super) upstream: Vec<WrittenUpstream>,
    #[serde(default)]
    pub(super) route: Vec<WrittenRoute>,
    #[serde(default)]
    pub(super) credentials: WrittenCredentials,
    pub(super) dns: WrittenDns,
    pub(super) queue: WrittenQueue,
    pub(super) limits: WrittenServerLimits,
    pub(super) deadlines: WrittenDeadlines,
    pub(super) received: WrittenReceived,
    pub(super) header: WrittenHeader,
    #[serde(default)]
    pub(super) reports: WrittenReports,
    pub(super) notices: WrittenNotices,
    pub(super) log: WrittenLog,
    pub(super) reload: WrittenReload,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenListener {
    pub(super) address: Option<String>,
    pub(super) mode: Option<WrittenListenerMode>,
    pub(super) refusal: Option<WrittenRefusal>,
    pub(super) client_cas: Option<Vec<String>>,
    pub(super) pins: Option<bool>,
    pub(super) proxy: Option<Vec<String>>,
    pub(super) balancer_pin: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenListenerMode {
    Starttls,
    Implicit,
    ProxiedTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenMode {
    Starttls,
    Implicit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenRefusal {
    Reply,
    Defer,
    Alert,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenTls {
    pub(super) certificate: Option<String>,
    pub(super) private_key: Option<String>,
    #[serde(default)]
    pub(super) certificates: Vec<WrittenCertificate>,
    pub(super) min_version: WrittenVersion,
    pub(super) refusal: WrittenRefusal,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCertificate {
    pub(super) certificate: Option<String>,
    pub(super) private_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum WrittenVersion {
    #[serde(rename = "1.2")]
    V12,
    #[serde(rename = "1.3")]
    V13,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCa {
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) certificates: Vec<String>,
    #[serde(default)]
    pub(super) intermediates: Vec<String>,
    #[serde(default)]
    pub(super) crls: Vec<String>,
    #[serde(default)]
    pub(super) crl_urls: Vec<String>,
    #[serde(default)]
    pub(super) crl_distribution_points: bool,
    pub(super) crl_refresh: Option<Wait>,
    #[serde(default)]
    pub(super) ocsp: WrittenOcsp,
    pub(super) ocsp_url: Option<String>,
    pub(super) revocation: Option<WrittenRevocation>,
    pub(super) crl_grace: Option<Wait>,
    pub(super) purposes: Option<Vec<String>>,
    pub(super) policies: Option<Vec<String>>,
    pub(super) chain_max: Option<u32>,
    pub(super) rsa_bits_min: Option<u32>,
    pub(super) domains: Option<Vec<String>>,
    #[serde(default)]
    pub(super) local_part_case: WrittenCase,
    #[serde(default)]
    pub(super) send_as_email: bool,
    #[serde(default)]
    pub(super) send_as_upn: bool,
    pub(super) trust_domain: Option<String>,
    pub(super) send_to: Option<Vec<String>>,
    pub(super) null_sender: Option<bool>,
    #[serde(default)]
    pub(super) second_factor: WrittenSecondFactor,
    #[serde(default)]
    pub(super) limits: WrittenLimits,
    #[serde(default)]
    pub(super) hold: bool,
    #[serde(default)]
    pub(super) resend: bool,
    #[serde(default)]
    pub(super) bare_lf: WrittenBareLf,
    #[serde(default)]
    pub(super) accept_vouched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenRevocation {
    Require,
    IfAvailable,
    Off,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenOcsp {
    #[default]
    Off,
    IfAvailable,
    Require,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenCase {
    #[default]
    Ignored,
    Exact,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenBareLf {
    #[default]
    Refuse,
    Normalize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenSecondFactor {
    #[default]
    None,
    Password,
    Totp,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLimits {
    pub(super) recipients_per_message: Option<u32>,
    pub(super) message_size: Option<Size>,
    pub(super) messages_per_hour: Option<u32>,
    pub(super) messages_per_day: Option<u32>,
    pub(super) recipients_per_hour: Option<u32>,
    pub(super) recipients_per_day: Option<u32>,
    pub(super) priority_min: Option<i8>,
    pub(super) priority_max: Option<i8>,
}

impl WrittenLimits {
    /// Those that count something, by their keys.
    pub(super) fn counts(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("recipients_per_message", self.recipients_per_message),
            ("messages_per_hour", self.messages_per_hour),
            ("messages_per_day", self.messages_per_day),
            ("recipients_per_hour", self.recipients_per_hour),
            ("recipients_per_day", self.recipients_per_day),
        ]
    }

    /// Whether any is.
    pub(super) fn is_written(&self) -> bool {
        let has_priority = self.priority_min.is_some() || self.priority_max.is_some();
        has_priority || self.message_size.is_some() || self.counts().iter().any(|(_, number)| number.is_some())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenIdentity {
    pub(super) name: Option<String>,
    #[serde(rename = "match")]
    pub(super) matches: Option<WrittenMatch>,
    #[serde(default)]
    pub(super) pin_ignores_expiry: bool,
    pub(super) send_as: Option<Vec<String>>,
    pub(super) send_to: Option<Vec<String>>,
    pub(super) null_sender: Option<bool>,
    #[serde(default)]
    pub(super) disabled: bool,
    pub(super) second_factor: Option<WrittenSecondFactor>,
    #[serde(default)]
    pub(super) limits: WrittenLimits,
    #[serde(default)]
    pub(super) hold: bool,
    #[serde(default)]
    pub(super) resend: bool,
    #[serde(default)]
    pub(super) bare_lf: WrittenBareLf,
    #[serde(default)]
    pub(super) accept_vouched: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenCredentials {
    pub(super) file: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenMatch {
    pub(super) ca: Option<String>,
    pub(super) email: Option<String>,
    pub(super) upn: Option<String>,
    pub(super) dns: Option<String>,
    pub(super) uri: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) issuer_serial: Option<WrittenIssuerSerial>,
    pub(super) fingerprint: Option<String>,
    pub(super) spki: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenIssuerSerial {
    pub(super) issuer: Option<String>,
    pub(super) serial: Option<String>,
}

/// A file of identities.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenIdentities {
    #[serde(default)]
    pub(super) identity: Vec<WrittenIdentity>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenUpstream {
    pub(super) name: Option<String>,
    pub(super) address: Option<String>,
    pub(super) mode: Option<WrittenMode>,
    pub(super) tls: Option<WrittenUpstreamTls>,
    pub(super) server_name: Option<String>,
    #[serde(default)]
    pub(super) ca: Vec<String>,
    #[serde(default)]
    pub(super) pin: Vec<String>,
    #[serde(default)]
    pub(super) dane: bool,
    pub(super) certificate: Option<String>,
    pub(super) private_key: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) token_file: Option<String>,
    pub(super) auth: Option<WrittenAuth>,
    pub(super) connections: Option<u32>,
    pub(super) messages_per_connection: Option<u32>,
    pub(super) idle: Option<Wait>,
    #[serde(default)]
    pub(super) our_fault: Vec<String>,
    pub(super) lookup: Option<WrittenLookup>,
    #[serde(default)]
    pub(super) source_address: Vec<String>,
    pub(super) order: Option<u32>,
    pub(super) weight: Option<u32>,
    pub(super) chunking: Option<bool>,
    pub(super) eight_bit: Option<WrittenEightBit>,
    pub(super) auth_in_mail: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenLookup {
    Address,
    Mx,
    Srv,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRoute {
    pub(super) name: Option<String>,
    pub(super) identities: Option<Vec<String>>,
    pub(super) client_cas: Option<Vec<String>>,
    pub(super) sender_domains: Option<Vec<String>>,
    pub(super) recipient_domains: Option<Vec<String>>,
    pub(super) upstreams: Option<Vec<String>>,
    pub(super) delivery: Option<WrittenDelivery>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenDelivery {
    Queue,
    Through,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenEightBit {
    SendAnyway,
    Encode,
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenUpstreamTls {
    None,
    Opportunistic,
    Require,
    Verify,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDns {
    #[serde(default)]
    pub(super) servers: Vec<String>,
    pub(super) trusted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WrittenAuth {
    #[serde(rename = "scram-sha-256-plus")]
    ScramSha256Plus,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    #[serde(rename = "oauthbearer")]
    OauthBearer,
    Xoauth2,
    Plain,
    Login,
    External,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenQueue {
    pub(super) retry: Vec<Wait>,
    pub(super) warn_after: Wait,
    pub(super) give_up_after: Wait,
    pub(super) size: Size,
    pub(super) count: u32,
    pub(super) memory: Size,
    pub(super) recheck: bool,
    pub(super) soft_bounce: bool,
    pub(super) share_per_identity: u32,
    pub(super) memory_share_per_identity: u32,
    pub(super) receiving_per_identity: u32,
    pub(super) per_identity: Option<u32>,
    pub(super) delivery: WrittenDelivery,
    pub(super) through_wait: Wait,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenServerLimits {
    pub(super) connections: u32,
    pub(super) connections_per_address: u32,
    pub(super) connections_per_identity: Option<u32>,
    pub(super) connections_per_minute: u32,
    pub(super) message_size: Size,
    pub(super) recipients_per_transaction: u32,
    pub(super) header_size: Size,
    pub(super) auth_failures: u32,
    pub(super) idle_commands: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenDeadlines {
    pub(super) handshake: Wait,
    pub(super) command: Wait,
    pub(super) write: Wait,
    pub(super) transaction: Wait,
    pub(super) rate_min: Size,
    pub(super) rate_window: Wait,
    pub(super) session_max: Wait,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenReceived {
    pub(super) identity: bool,
    pub(super) client_address: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenHeader {
    pub(super) strict_8bit: bool,
    pub(super) sender: WrittenSender,
    pub(super) add_sender: bool,
    pub(super) fqdn: WrittenFqdn,
    pub(super) domain: Option<String>,
    pub(super) authentication_results: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenSender {
    Check,
    Rewrite,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenFqdn {
    Pass,
    Refuse,
    Complete,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenReports {
    pub(super) from: Option<String>,
    pub(super) envelope_sender: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) postmaster: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNotices {
    pub(super) expiry: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLog {
    pub(super) format: WrittenLogFormat,
    pub(super) level: WrittenLogLevel,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenLogFormat {
    Auto,
    Text,
    Json,
    Journald,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenLogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenReload {
    pub(super) watch: WrittenWatch,
    pub(super) poll: Wait,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WrittenWatch {
    Files,
    All,
    Off,
}

/// The layers in one.
#[derive(Clone, Debug)]
pub(super) struct Layered {
    pub(super) value: Written,
    /// The same without types, to tell what a reload changes.
    pub(super) told: Value,
}

/// Layers defaults, the usable part of the file, and the environment, the later over the earlier.
///
/// # Errors
/// The layers do not fit the types; since all three were held against the list of keys before, that is a slip of this module.
pub(super) fn layer(file: &Table, environment: Vec<(String, Value)>) -> Result<Layered, config::ConfigError> {
    let text = toml::to_string(file).map_err(|fault| config::ConfigError::Foreign(Box::new(fault)))?;
    let mut layers = config::Config::builder()
        .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml))
        .add_source(config::File::from_str(&text, config::FileFormat::Toml));
    for (path, value) in environment {
        layers = layers.set_override(path, as_layer(value))?;
    }
    let layered = layers.build()?;
    Ok(Layered { told: layered.clone().try_deserialize()?, value: layered.try_deserialize()? })
}

fn as_layer(value: Value) -> config::Value {
    let kind = match value {
        Value::String(text) => config::ValueKind::String(text),
        Value::Integer(number) => config::ValueKind::I64(number),
        Value::Boolean(flag) => config::ValueKind::Boolean(flag),
        Value::Array(list) => config::ValueKind::Array(list.into_iter().map(as_layer).collect()),
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => config::ValueKind::Nil,
    };
    config::Value::new(None, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_the_types() {
        let written = layer(&Table::new(), Vec::new()).unwrap().value;
        assert_eq!(written.tls.min_version, WrittenVersion::V12);
        assert_eq!(written.queue.retry.len(), 4);
    }

    #[test]
    fn the_environment_is_over_the_file_and_the_file_over_the_defaults() {
        let file = toml::toml! {
            [limits]
            connections = 7
            auth_failures = 9
        };
        let environment = vec![
            ("limits.connections".to_owned(), Value::Integer(8)),
            ("queue.retry".to_owned(), Value::Array(vec![Value::String("2m".to_owned())])),
        ];
        let written = layer(&file, environment).unwrap().value;
        assert_eq!(
            (written.limits.connections, written.limits.auth_failures, written.limits.idle_commands),
            (8, 9, 50)
        );
        assert_eq!(written.queue.retry, [Wait(std::time::Duration::from_secs(120))]);
    }
}
