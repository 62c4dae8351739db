//! Who we are to an upstream: a user with a password or a token, or our certificate.

use super::{Checking, Secrecy};
use crate::config::files;
use crate::config::written::{WrittenAuth, WrittenUpstream};
use crate::upstream::{self, Credentials, Evidence, Mechanism, Secret, TlsDemand};

impl Checking<'_> {
    pub(super) fn credentials(
        &mut self,
        path: &str,
        written: &WrittenUpstream,
        demand: TlsDemand,
    ) -> Option<Credentials> {
        let mechanism = written.auth.map(mechanism);
        let has = |file: &Option<String>| file.is_some();
        if written.username.is_none()
            && !has(&written.password_file)
            && !has(&written.token_file)
            && mechanism.is_none()
        {
            if written.auth_in_mail == Some(true) {
                let wrong = "says AUTH=<> where we have logged in, and we log in nowhere";
                self.findings.mistake(
                    &format!("{path}.auth_in_mail"),
                    wrong,
                    "write username and password_file, or take it out",
                );
            }
            return None;
        }
        let evidence = self.evidence(path, written, mechanism)?;
        self.check_that_nobody_listens(path, demand, evidence);
        let made = match evidence {
            Evidence::Password => {
                let (user, password) = (self.username(path, written), self.password(path, written));
                Credentials::new(user?, password?)
            }
            Evidence::Token => {
                let (user, file) = (self.username(path, written), self.token_file(path, written));
                Credentials::with_token_file(user?, file?)
            }
            Evidence::Certificate => Credentials::by_certificate(written.username.clone().unwrap_or_default()),
        };
        match made {
            Ok(credentials) => Some(credentials.only_by(mechanism)),
            Err(fault) => {
                self.findings.mistake(&format!("{path}.username"), fault.to_string(), ());
                None
            }
        }
    }

    /// What is written decides what we say who we are by; `auth` must fit it.
    fn evidence(&mut self, path: &str, written: &WrittenUpstream, mechanism: Option<Mechanism>) -> Option<Evidence> {
        let wanted = mechanism.map(Mechanism::evidence);
        let (password, token) = (written.password_file.is_some(), written.token_file.is_some());
        let key = format!("{path}.auth");
        match (wanted, password, token) {
            (_, true, true) => {
                let wrong = "beside password_file: only one of them can be who we are";
                self.findings.mistake(&format!("{path}.token_file"), wrong, "take one of them out");
                None
            }
            (Some(Evidence::Token) | None, false, true) => Some(Evidence::Token),
            (Some(Evidence::Password) | None, _, false) => Some(Evidence::Password),
            (Some(Evidence::Token), false, false) => {
                let remedy = "write the file that holds the token";
                self.required::<String>(&format!("{path}.token_file"), None, remedy);
                None
            }
            (Some(Evidence::Certificate), false, false) if written.certificate.is_some() => Some(Evidence::Certificate),
            (Some(Evidence::Certificate), false, false) => {
                let wrong = "\"external\" says that our certificate is who we are, and there is none";
                self.findings.mistake(&key, wrong, "write certificate and private_key");
                None
            }
            (Some(Evidence::Certificate), _, _) => {
                let wrong = "\"external\" goes by the certificate, not by a password or a token";
                self.findings.mistake(&key, wrong, "take out password_file and token_file, or auth");
                None
            }
            (Some(Evidence::Token), true, false) => {
                self.findings.mistake(
                    &key,
                    "goes by a token, not by a password",
                    "write token_file, not password_file",
                );
                None
            }
            (Some(Evidence::Password), false, true) => {
                self.findings.mistake(
                    &key,
                    "goes by a password, not by a token",
                    "write password_file, not token_file",
                );
                None
            }
        }
    }

    /// Where there may be no TLS, nothing of credentials is said; where the certificate is not looked at, whoever answers hears them.
    fn check_that_nobody_listens(&mut self, path: &str, demand: TlsDemand, evidence: Evidence) {
        let (key, what) = match evidence {
            Evidence::Password => ("password_file", "a password"),
            Evidence::Token => ("token_file", "a token"),
            Evidence::Certificate => ("auth", "AUTH"),
        };
        let key = format!("{path}.{key}");
        if matches!(demand, TlsDemand::None | TlsDemand::Opportunistic) {
            let wrong = format!("{what} would go over a connection that may be plaintext");
            self.findings.mistake(&key, wrong, "write tls = \"verify\"");
        } else if demand == TlsDemand::Require && evidence != Evidence::Certificate {
            let what = if evidence == Evidence::Token { "token" } else { "password" };
            let wrong = format!("with tls = \"require\" the {what} goes to whoever answers");
            self.findings.warning(&key, wrong, "write tls = \"verify\"");
        }
    }

    fn username(&mut self, path: &str, written: &WrittenUpstream) -> Option<String> {
        let remedy = if written.token_file.is_some() {
            "write the user that the token belongs to"
        } else {
            "write the user that the password belongs to"
        };
        self.required(&format!("{path}.username"), written.username.as_ref(), remedy)
    }

    fn password(&mut self, path: &str, written: &WrittenUpstream) -> Option<Secret> {
        let key = format!("{path}.password_file");
        let file = self.required(&key, written.password_file.as_ref(), "write the file that holds the password")?;
        let contents = self.read(&key, &file, Secrecy::Secret)?;
        let password = self.taken(&key, &file, files::password(&contents))?;
        Some(Secret::new(password.as_str()))
    }

    /// The file is read for each connection. What it holds now need not be good: whoever renews the token may start after us.
    fn token_file(&mut self, path: &str, written: &WrittenUpstream) -> Option<std::path::PathBuf> {
        let key = format!("{path}.token_file");
        let file = self.resolve(written.token_file.as_ref()?);
        match files::read_named(&file) {
            Ok(contents) => {
                self.check_mode(&key, &file, &contents, Secrecy::Secret);
                if let Err(wrong) = upstream::token_in(&contents.octets) {
                    self.findings.warning(&key, format!("{}: {wrong}", file.display()), ());
                }
            }
            Err(wrong) => {
                let remedy = "mail waits until there is a token in it";
                self.findings.warning(&key, format!("{}: {wrong}", file.display()), remedy);
            }
        }
        Some(file)
    }
}

fn mechanism(written: WrittenAuth) -> Mechanism {
    match written {
        WrittenAuth::ScramSha256Plus => Mechanism::ScramSha256Plus,
        WrittenAuth::ScramSha256 => Mechanism::ScramSha256,
        WrittenAuth::OauthBearer => Mechanism::OauthBearer,
        WrittenAuth::Xoauth2 => Mechanism::Xoauth2,
        WrittenAuth::Plain => Mechanism::Plain,
        WrittenAuth::Login => Mechanism::Login,
        WrittenAuth::External => Mechanism::External,
    }
}
