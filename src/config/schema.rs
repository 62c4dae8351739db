//! Every key there is, and what may be written for it. `conf/sealpost.toml` shows them all; a test compares.
//!
//! A key that the design names but this version does not enforce is [`Kind::Later`]: writing it is a mistake, so that nobody relies on it.

/// A key and what may be written for it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// What may be written for a key.
#[derive(Debug)]
pub(super) enum Kind {
    /// A text.
    Text,
    /// A list of texts; one alone may stand without brackets.
    Texts,
    /// `true` or `false`.
    Flag,
    /// A whole number, not negative.
    Count,
    /// A priority of RFC 6710: -9 to 9.
    Priority,
    /// A duration: `"5m"`.
    Wait,
    /// A list of durations.
    Waits,
    /// A size: `"10MiB"`, or a number of octets.
    Size,
    /// One of these words; the second list holds words that a later version will know.
    Choice(&'static [&'static str], &'static [&'static str]),
    /// A table of keys.
    Table(&'static [Key]),
    /// A list of tables: `[[name]]`.
    Tables(&'static [Key]),
    /// The design has it; this version does not.
    #[expect(dead_code, reason = "every key that is named is enforced now; the next one that is not stands so")]
    Later,
    /// A secret, which must not be written; this key names the file to put it in.
    Secret(&'static str),
}

impl Kind {
    /// What people should write, as the end of a sentence.
    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Texts => "a list of texts, like [\"one\", \"two\"]".to_owned(),
            Self::Flag => "true or false, without quotes".to_owned(),
            Self::Count => "a whole number, without quotes".to_owned(),
            Self::Priority => "a number from -9 to 9, without quotes".to_owned(),
            Self::Wait => "a duration with its unit, like \"30s\", \"5m\", \"4h\", \"5d\"".to_owned(),
            Self::Waits => "a list of durations, like [\"1m\", \"5m\", \"1h\"]".to_owned(),
            Self::Size => "a size with its unit, like \"512KiB\", \"10MiB\"".to_owned(),
            Self::Choice(now, _) => format!("one of {}", quoted(now)),
            Self::Table(_) => "a table".to_owned(),
            Self::Tables(_) => "a list of tables".to_owned(),
            Self::Later | Self::Secret(_) => "nothing".to_owned(),
        }
    }
}

/// Words in quotes, with commas.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

const REFUSAL: Kind = Kind::Choice(&["reply", "defer", "alert"], &[]);
const MODE: Kind = Kind::Choice(&["starttls", "implicit"], &[]);
const LISTENER_MODE: Kind = Kind::Choice(&["starttls", "implicit", "proxied-tls"], &[]);
const SECOND_FACTOR: Kind = Kind::Choice(&["none", "password", "totp"], &[]);
const BARE_LF: Kind = Kind::Choice(&["refuse", "normalize"], &[]);
const CASE: Kind = Kind::Choice(&["ignored", "exact"], &[]);

/// The whole file.
pub(super) const TOP: &[Key] = &[
    key("hostname", Kind::Text),
    key("data_dir", Kind::Text),
    key("postmaster", Kind::Text),
    key("shutdown_grace", Kind::Wait),
    key("listener", Kind::Tables(LISTENER)),
    key("tls", Kind::Table(TLS)),
    key("client_ca", Kind::Tables(CLIENT_CA)),
    key("identity", Kind::Tables(IDENTITY)),
    key("identities", Kind::Texts),
    key("credentials", Kind::Table(CREDENTIALS)),
    key("upstream", Kind::Tables(UPSTREAM)),
    key("route", Kind::Tables(ROUTE)),
    key("dns", Kind::Table(DNS)),
    key("queue", Kind::Table(QUEUE)),
    key("limits", Kind::Table(SERVER_LIMITS)),
    key("deadlines", Kind::Table(DEADLINES)),
    key("received", Kind::Table(RECEIVED)),
    key("header", Kind::Table(HEADER)),
    key("reports", Kind::Table(REPORTS)),
    key("notices", Kind::Table(NOTICES)),
    key("log", Kind::Table(LOG)),
    key("reload", Kind::Table(RELOAD)),
];

/// A file of identities.
pub(super) const IDENTITIES: &[Key] = &[key("identity", Kind::Tables(IDENTITY))];

const LISTENER: &[Key] = &[
    key("address", Kind::Text),
    key("mode", LISTENER_MODE),
    key("refusal", REFUSAL),
    key("client_cas", Kind::Texts),
    key("pins", Kind::Flag),
    key("proxy", Kind::Texts),
    key("balancer_pin", Kind::Texts),
];

const TLS: &[Key] = &[
    key("certificate", Kind::Text),
    key("private_key", Kind::Text),
    key("certificates", Kind::Tables(CERTIFICATE)),
    key("min_version", Kind::Choice(&["1.2", "1.3"], &[])),
    key("refusal", REFUSAL),
];

const CERTIFICATE: &[Key] = &[key("certificate", Kind::Text), key("private_key", Kind::Text)];

const CLIENT_CA: &[Key] = &[
    key("name", Kind::Text),
    key("certificates", Kind::Texts),
    key("intermediates", Kind::Texts),
    key("crls", Kind::Texts),
    key("crl_urls", Kind::Texts),
    key("crl_distribution_points", Kind::Flag),
    key("crl_refresh", Kind::Wait),
    key("ocsp", Kind::Choice(&["off", "if-available", "require"], &[])),
    key("ocsp_url", Kind::Text),
    key("revocation", Kind::Choice(&["require", "if-available", "off"], &[])),
    key("crl_grace", Kind::Wait),
    key("purposes", Kind::Texts),
    key("policies", Kind::Texts),
    key("chain_max", Kind::Count),
    key("rsa_bits_min", Kind::Count),
    key("domains", Kind::Texts),
    key("local_part_case", CASE),
    key("trust_domain", Kind::Text),
    key("send_as_email", Kind::Flag),
    key("send_as_upn", Kind::Flag),
    key("send_to", Kind::Texts),
    key("null_sender", Kind::Flag),
    key("second_factor", SECOND_FACTOR),
    key("limits", Kind::Table(IDENTITY_LIMITS)),
    key("hold", Kind::Flag),
    key("resend", Kind::Flag),
    key("bare_lf", BARE_LF),
    key("accept_vouched", Kind::Flag),
];

const IDENTITY: &[Key] = &[
    key("name", Kind::Text),
    key("match", Kind::Table(MATCH)),
    key("pin_ignores_expiry", Kind::Flag),
    key("send_as", Kind::Texts),
    key("send_to", Kind::Texts),
    key("null_sender", Kind::Flag),
    key("disabled", Kind::Flag),
    key("second_factor", SECOND_FACTOR),
    key("limits", Kind::Table(IDENTITY_LIMITS)),
    key("hold", Kind::Flag),
    key("resend", Kind::Flag),
    key("bare_lf", BARE_LF),
    key("accept_vouched", Kind::Flag),
    key("password", Kind::Secret("credentials.file")),
];

const CREDENTIALS: &[Key] = &[key("file", Kind::Text)];

const MATCH: &[Key] = &[
    key("ca", Kind::Text),
    key("email", Kind::Text),
    key("dns", Kind::Text),
    key("upn", Kind::Text),
    key("uri", Kind::Text),
    key("subject", Kind::Text),
    key("issuer_serial", Kind::Table(ISSUER_SERIAL)),
    key("fingerprint", Kind::Text),
    key("spki", Kind::Text),
];

const ISSUER_SERIAL: &[Key] = &[key("issuer", Kind::Text), key("serial", Kind::Text)];

const IDENTITY_LIMITS: &[Key] = &[
    key("recipients_per_message", Kind::Count),
    key("message_size", Kind::Size),
    key("messages_per_hour", Kind::Count),
    key("messages_per_day", Kind::Count),
    key("recipients_per_hour", Kind::Count),
    key("recipients_per_day", Kind::Count),
    key("priority_min", Kind::Priority),
    key("priority_max", Kind::Priority),
];

const UPSTREAM: &[Key] = &[
    key("name", Kind::Text),
    key("address", Kind::Text),
    key("mode", MODE),
    key("tls", Kind::Choice(&["none", "opportunistic", "require", "verify"], &[])),
    key("server_name", Kind::Text),
    key("ca", Kind::Texts),
    key("pin", Kind::Texts),
    key("dane", Kind::Flag),
    key("certificate", Kind::Text),
    key("private_key", Kind::Text),
    key("username", Kind::Text),
    key("password_file", Kind::Text),
    key("token_file", Kind::Text),
    key("auth", Kind::Choice(AUTH, &[])),
    key("connections", Kind::Count),
    key("messages_per_connection", Kind::Count),
    key("idle", Kind::Wait),
    key("our_fault", Kind::Texts),
    key("lookup", Kind::Choice(&["address", "mx", "srv"], &[])),
    key("source_address", Kind::Texts),
    key("order", Kind::Count),
    key("weight", Kind::Count),
    key("chunking", Kind::Flag),
    key("eight_bit", Kind::Choice(&["send-anyway", "encode", "report"], &[])),
    key("auth_in_mail", Kind::Flag),
    key("password", Kind::Secret("password_file")),
    key("token", Kind::Secret("token_file")),
];

const ROUTE: &[Key] = &[
    key("name", Kind::Text),
    key("identities", Kind::Texts),
    key("client_cas", Kind::Texts),
    key("sender_domains", Kind::Texts),
    key("recipient_domains", Kind::Texts),
    key("upstreams", Kind::Texts),
    key("delivery", Kind::Choice(DELIVERY, &[])),
];

/// When the upstreams of a route are asked.
const DELIVERY: &[&str] = &["queue", "through"];

/// Mechanisms by which we can log in at an upstream.
const AUTH: &[&str] = &["scram-sha-256-plus", "scram-sha-256", "oauthbearer", "xoauth2", "plain", "login", "external"];

const DNS: &[Key] = &[key("servers", Kind::Texts), key("trusted", Kind::Flag)];

const QUEUE: &[Key] = &[
    key("retry", Kind::Waits),
    key("warn_after", Kind::Wait),
    key("give_up_after", Kind::Wait),
    key("size", Kind::Size),
    key("count", Kind::Count),
    key("memory", Kind::Size),
    key("recheck", Kind::Flag),
    key("soft_bounce", Kind::Flag),
    key("share_per_identity", Kind::Count),
    key("memory_share_per_identity", Kind::Count),
    key("receiving_per_identity", Kind::Count),
    key("per_identity", Kind::Count),
    key("delivery", Kind::Choice(DELIVERY, &[])),
    key("through_wait", Kind::Wait),
];

const SERVER_LIMITS: &[Key] = &[
    key("connections", Kind::Count),
    key("connections_per_address", Kind::Count),
    key("connections_per_identity", Kind::Count),
    key("connections_per_minute", Kind::Count),
    key("message_size", Kind::Size),
    key("recipients_per_transaction", Kind::Count),
    key("header_size", Kind::Size),
    key("auth_failures", Kind::Count),
    key("idle_commands", Kind::Count),
];

const DEADLINES: &[Key] = &[
    key("handshake", Kind::Wait),
    key("command", Kind::Wait),
    key("write", Kind::Wait),
    key("transaction", Kind::Wait),
    key("rate_min", Kind::Size),
    key("rate_window", Kind::Wait),
    key("session_max", Kind::Wait),
];

const RECEIVED: &[Key] = &[key("identity", Kind::Flag), key("client_address", Kind::Flag)];

const HEADER: &[Key] = &[
    key("strict_8bit", Kind::Flag),
    key("sender", Kind::Choice(&["check", "rewrite"], &[])),
    key("add_sender", Kind::Flag),
    key("fqdn", Kind::Choice(&["pass", "refuse", "complete"], &[])),
    key("domain", Kind::Text),
    key("authentication_results", Kind::Flag),
];

const RELOAD: &[Key] = &[key("watch", Kind::Choice(&["files", "all", "off"], &[])), key("poll", Kind::Wait)];

const REPORTS: &[Key] = &[
    key("from", Kind::Text),
    key("envelope_sender", Kind::Text),
    key("upstream", Kind::Text),
    key("postmaster", Kind::Text),
];

const NOTICES: &[Key] = &[key("expiry", Kind::Flag)];

const LOG: &[Key] = &[
    key("format", Kind::Choice(&["auto", "text", "json", "journald"], &[])),
    key("level", Kind::Choice(&["error", "warn", "info", "debug", "trace"], &[])),
];

/// The key of this name.
pub(super) fn find<'a>(keys: &'a [Key], name: &str) -> Option<&'a Key> {
    keys.iter().find(|key| key.name == name)
}

/// What people may write among these keys.
pub(super) fn names(keys: &'static [Key]) -> impl Iterator<Item = &'static str> {
    keys.iter().filter(|key| !matches!(key.kind, Kind::Later | Kind::Secret(_))).map(|key| key.name)
}
