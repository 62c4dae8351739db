//! AUTH as the scripted upstream takes it: strict, and written anew, so that sealpost's own reading of RFC 5802 is held against another one.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Whom the upstream knows.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
    pub(crate) token: &'static str,
    /// It signs SCRAM with another password than it knows the user by: an impostor that got hold of the rest.
    pub(crate) signs_wrongly: bool,
}

impl Login {
    pub(crate) const fn new(user: &'static str, password: &'static str, token: &'static str) -> Self {
        Self { user, password, token, signs_wrongly: false }
    }
}

/// What is said next: a challenge to be answered, or the verdict.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Challenge(String),
    Yes,
    No(&'static str),
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    login: Login,
    mechanism: String,
    /// What SCRAM is bound to; none outside TLS 1.3.
    exporter: Option<[u8; 32]>,
    heard: Vec<Vec<u8>>,
    server_first: String,
}

const SALT: &[u8] = b"0123456789abcdef";
const ITERATIONS: u32 = 4096;
const MALFORMED: Said = Said::No("501 5.5.2 malformed\r\n");
const WRONG: Said = Said::No("535 5.7.8 wrong\r\n");

impl Exchange {
    pub(crate) fn new(login: Login, mechanism: &str, exporter: Option<[u8; 32]>) -> Self {
        let mechanism = mechanism.to_ascii_uppercase();
        Self { login, mechanism, exporter, heard: Vec::new(), server_first: String::new() }
    }

    /// What a client's line, without its CRLF, leads to.
    pub(crate) fn hear(&mut self, line: &str) -> Said {
        let decoded = if line == "=" { Ok(Vec::new()) } else { BASE64.decode(line) };
        let Ok(octets) = decoded else { return MALFORMED };
        self.heard.push(octets.clone());
        let text = String::from_utf8_lossy(&octets).into_owned();
        let Login { user, password, token, .. } = self.login;
        match (self.mechanism.as_str(), self.heard.len()) {
            ("PLAIN", 1) => verdict(text == format!("\0{user}\0{password}")),
            ("EXTERNAL", 1) => verdict(text.is_empty() || text == user),
            ("LOGIN", 1) => Said::Challenge("UGFzc3dvcmQ6".into()),
            ("LOGIN", 2) => verdict(self.heard[0] == user.as_bytes() && text == password),
            ("XOAUTH2", 1) if text == format!("user={user}\u{1}auth=Bearer {token}\u{1}\u{1}") => Said::Yes,
            ("OAUTHBEARER", 1) if text == format!("n,a={user},\u{1}auth=Bearer {token}\u{1}\u{1}") => Said::Yes,
            ("XOAUTH2" | "OAUTHBEARER", 1) => Said::Challenge(BASE64.encode("{\"status\":\"invalid_token\"}")),
            ("XOAUTH2", 2) if line.is_empty() => WRONG,
            ("OAUTHBEARER", 2) if line == "AQ==" => WRONG,
            ("SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS", 1) => self.scram_first(&text),
            ("SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS", 2) => self.scram_final(&text),
            ("SCRAM-SHA-256" | "SCRAM-SHA-256-PLUS", 3) if line.is_empty() => Said::Yes,
            _ => MALFORMED,
        }
    }

    /// What asks for a first response where none came with AUTH.
    pub(crate) fn prompt(&self) -> Said {
        Said::Challenge(if self.mechanism == "LOGIN" { "VXNlcm5hbWU6".into() } else { String::new() })
    }

    fn scram_first(&mut self, text: &str) -> Said {
        let flag = text.split(',').next().unwrap();
        let wanted =
            if self.mechanism.ends_with("PLUS") { flag == "p=tls-exporter" } else { flag == "n" || flag == "y" };
        let Some(nonce) = text.split(",r=").nth(1) else { return MALFORMED };
        if !wanted {
            return WRONG;
        }
        self.server_first = format!("r={nonce}theirs,s={},i={ITERATIONS}", BASE64.encode(SALT));
        Said::Challenge(BASE64.encode(&self.server_first))
    }

    fn scram_final(&self, text: &str) -> Said {
        let first = String::from_utf8_lossy(&self.heard[0]).into_owned();
        let bare = first.splitn(3, ',').nth(2).unwrap().to_owned();
        let gs2 = first.strip_suffix(&bare).unwrap();
        let mut bound = gs2.as_bytes().to_vec();
        if self.mechanism.ends_with("PLUS") {
            bound.extend(self.exporter.expect("PLUS is offered where there is a value"));
        }
        let Some((without_proof, proof)) = text.split_once(",p=") else { return MALFORMED };
        let nonce = self.server_first.split(',').next().unwrap();
        if without_proof != format!("c={},{nonce}", BASE64.encode(bound)) {
            return WRONG;
        }
        let signed = format!("{bare},{},{without_proof}", self.server_first);
        let salted = salted(self.login.password);
        let client_key = mac(&salted, "Client Key");
        let stored_key = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored_key.as_ref(), &signed);
        let expected: Vec<u8> = client_key.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let is_user = bare.split(',').next() == Some(&format!("n={}", self.login.user));
        if !is_user || BASE64.encode(expected) != proof {
            return WRONG;
        }
        let salted = if self.login.signs_wrongly { self::salted("another") } else { salted };
        Said::Challenge(BASE64.encode(format!("v={}", BASE64.encode(mac(&mac(&salted, "Server Key"), &signed)))))
    }
}

fn verdict(right: bool) -> Said {
    if right { Said::Yes } else { WRONG }
}

fn salted(password: &str) -> [u8; 32] {
    let mut salted = [0; 32];
    let rounds = std::num::NonZeroU32::new(ITERATIONS).unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, SALT, password.as_bytes(), &mut salted);
    salted
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}
