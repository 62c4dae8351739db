//! Who is at the other end of the control socket, as the kernel tells: for the audit.
//!
//! Names come from /etc/passwd; of whom it does not know, the number is told. Never: believes what the peer says of itself.

use std::fmt;

use tokio::net::unix::UCred;

/// Octets of /etc/passwd that are looked through.
const PASSWD_MAX: usize = 1024 * 1024;

/// No session: loginuid of what nobody logged in for.
const UNSET: u32 = u32::MAX;

/// Who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    uid: u32,
    name: Option<String>,
    pid: Option<i32>,
    /// The user who logged in, when that was another: `sudo` changes the uid, and not this.
    login: Option<(u32, Option<String>)>,
}

impl Peer {
    /// Who the kernel says it is.
    pub fn of(credentials: UCred) -> Self {
        let passwd = read(std::path::Path::new("/etc/passwd"));
        let (uid, pid) = (credentials.uid(), credentials.pid());
        let login = pid.and_then(login_uid).filter(|&login| login != UNSET && login != uid);
        Self { uid, name: name_of(uid, &passwd), pid, login: login.map(|login| (login, name_of(login, &passwd))) }
    }

    /// This process, which opened the store itself.
    pub fn own() -> Self {
        let passwd = read(std::path::Path::new("/etc/passwd"));
        let uid = rustix::process::geteuid().as_raw();
        let pid = i32::try_from(std::process::id()).ok();
        let login = pid.and_then(login_uid).filter(|&login| login != UNSET && login != uid);
        Self { uid, name: name_of(uid, &passwd), pid, login: login.map(|login| (login, name_of(login, &passwd))) }
    }

    /// Its user.
    pub fn uid(&self) -> u32 {
        self.uid
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        if let Some(name) = &self.name {
            write!(f, " ({name})")?;
        }
        if let Some((login, name)) = &self.login {
            write!(f, ", logged in as uid {login}")?;
            if let Some(name) = name {
                write!(f, " ({name})")?;
            }
        }
        match self.pid {
            Some(pid) => write!(f, ", pid {pid}"),
            None => Ok(()),
        }
    }
}

/// The user who logged in for this process (proc_pid_loginuid(5)); none where the kernel does not tell.
fn login_uid(pid: i32) -> Option<u32> {
    read(std::path::Path::new(&format!("/proc/{pid}/loginuid"))).trim().parse().ok()
}

/// passwd(5): name, password, uid, and more.
fn name_of(uid: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        let is_text = !name.is_empty() && !name.contains(char::is_control);
        (is_text && number.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// What can't be read tells nothing.
#[expect(clippy::disallowed_methods, reason = "the kernel and /etc/passwd tell who asks")]
fn read(path: &std::path::Path) -> String {
    use std::io::Read as _;
    let mut octets = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let most = u64::try_from(PASSWD_MAX).unwrap_or(u64::MAX);
        file.take(most).read_to_end(&mut octets).ok();
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_when_the_file_knows_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken line\nada:x:1000:1000::/home/ada:/bin/sh\n:x:7:7::/:\n";
        for (uid, name) in [(0, Some("root")), (1000, Some("ada")), (7, None), (1, None)] {
            assert_eq!(name_of(uid, passwd).as_deref(), name, "{uid}");
        }
    }

    #[test]
    fn who_asked_is_told_with_the_login_behind_sudo() {
        let root = Peer { uid: 0, name: Some("root".to_owned()), pid: Some(42), login: None };
        assert_eq!(root.to_string(), "uid 0 (root), pid 42");
        let sudo = Peer { login: Some((1000, Some("ada".to_owned()))), ..root.clone() };
        assert_eq!(sudo.to_string(), "uid 0 (root), logged in as uid 1000 (ada), pid 42");
        let nobody = Peer { uid: 77, name: None, pid: None, login: Some((78, None)) };
        assert_eq!(nobody.to_string(), "uid 77, logged in as uid 78");
    }
}
