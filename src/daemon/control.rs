//! The control socket: how `sealpost queue` and `sealpost identities` ask the running daemon.
//!
//! A Unix socket `control.sock` in the data directory, mode 0600; besides, the kernel's word on the peer is checked: only root and the daemon's
//! own user are answered. One JSON object in a line is the request, the answer is a line for each entry and `End`; behind a line of `lines` stands the text
//! of the length that it names. While the daemon drains, who only looks is answered still. The request carries a version: another one is refused by name. Never: trusts what the peer says of itself; lets a slow peer hold a task for ever.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::peer::Peer;
use super::steering::moving::{Back, Importing};
use super::steering::{Answer, Answers, Command, Desk, Running, Unavailable};
use crate::house::House;
use crate::snapshot::Snapshot;
use crate::sys::{Drain, Tasks};

/// The version of request and answer. It goes up with each change after which one side would not read the other's words, or would read something else in
/// them; what may be missing (`serde(default)`), and what is only said to who asks for it, changes none.
///
/// 2: filters, counts, several answers at once. 3: an import is told which messages are missing, not how many are there. 4: a listing comes as its lines. 5: that
/// it starts or stops is an answer of its own.
pub const VERSION: u32 = 5;
/// The longest request, octets.
const REQUEST_MAX: u64 = 1024 * 1024;
/// Answers that are written at once.
const TOGETHER_MAX: usize = 500;
/// The longest line of what is brought, octets: a piece of a body, or the record of a message with very many recipients.
const BROUGHT_MAX: u64 = 64 * 1024 * 1024;
/// How long a peer may take to ask, and to bring each line.
const PEER_MAX: Duration = Duration::from_secs(30);
/// How long a peer may take to take each part of its answer: a person may be reading it, and all that waits is a task.
const READER_MAX: Duration = Duration::from_secs(3600);
/// The same once the drain has begun.
const FAREWELL_MAX: Duration = Duration::from_secs(5);
/// How long whoever has the socket may take to say whether it serves.
const SAYS_WITHIN: Duration = Duration::from_secs(5);
/// Said when the drain begins in the middle, and to who asks for more than a look while it lasts.
const STOPPING: Answer = Answer::Unavailable(Unavailable::Stopping);
/// How long who looks at the end of the drain may take to have his answer.
const LAST_LOOKS: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    pub command: Command,
}

/// The longest path of a Unix socket on Linux, octets (unix(7): 108 with the NUL behind it).
pub const PATH_MAX: usize = 107;

/// Where the socket is.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Binds the socket. One that a killed daemon left is put away: the data directory's lock, which the caller holds, says that nobody uses it.
///
/// # Errors
/// The socket can't be made.
#[expect(clippy::disallowed_methods, reason = "the daemon owns its data directory")]
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = path(data_dir);
    match std::fs::remove_file(&path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => return Err(fault),
        Ok(()) | Err(_) => {}
    }
    // The directory is 0700, so nobody can come in between.
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Which commands are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    /// What changes nothing: the daemon is stopping.
    Looks,
}

/// Answers until the drain begins.
pub async fn run(listener: Arc<UnixListener>, house: Arc<House>) {
    let mut drain = house.tasks.drain();
    tokio::select! {
        () = drain.wait() => {}
        never = accept(&listener, &house, &house.tasks, Scope::Everything) => match never {},
    }
}

/// Waits for `rest`, and answers who only looks meanwhile: what a drain waits for is best seen while it lasts.
pub(super) async fn until_rest<T>(
    rest: impl Future<Output = T>,
    listener: Option<Arc<UnixListener>>,
    house: &Arc<House>,
) -> T {
    let looks = Tasks::default();
    let at_socket = async {
        match listener {
            Some(listener) => accept(&listener, house, &looks, Scope::Looks).await,
            None => std::future::pending().await,
        }
    };
    let come = tokio::select! {
        biased;
        come = rest => come,
        never = at_socket => match never {},
    };
    looks.begin_drain();
    looks.wait(LAST_LOOKS).await;
    come
}

async fn accept(listener: &UnixListener, house: &Arc<House>, tasks: &Tasks, scope: Scope) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (serving, drain) = (Arc::clone(house), tasks.drain());
                tasks.spawn("control connection", async move {
                    match serve(stream, &serving, scope, drain).await {
                        Err(fault) if went_away(&fault) => tracing::debug!(%fault, "a control connection ended early"),
                        Err(fault) => tracing::warn!(%fault, "a control connection failed"),
                        Ok(()) => {}
                    }
                });
            }
            Err(fault) => {
                tracing::warn!(%fault, "the control socket did not accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(mut stream: UnixStream, house: &House, scope: Scope, drain: Drain) -> io::Result<()> {
    let peer = Peer::of(stream.peer_cred()?);
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != own && peer.uid() != 0 {
        let answer = Answer::Fault(format!("only root and the daemon's own user ({own}) may ask; you are {peer}"));
        return write(&mut stream, &[answer, Answer::End], &drain).await;
    }
    let mut line = String::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(REQUEST_MAX));
    timeout(PEER_MAX, reading.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let mut answers = match request(&line) {
        asked if scope == Scope::Looks && !asked.as_ref().is_ok_and(Command::only_looks) => {
            Answers::objecting(STOPPING)
        }
        Ok(Command::Import { export, back }) => {
            return import(&export, back, &peer, reading, &mut writing, house).await;
        }
        Ok(command) => Answers::new(command, peer.to_string()),
        Err(why) => Answers::objecting(Answer::Fault(why)),
    };
    loop {
        if drain.begun() {
            return write(&mut writing, &[STOPPING, Answer::End], &drain).await;
        }
        let snapshot = house.snapshot();
        let Some(answer) = answers.next(desk(house, &snapshot)).await else { return Ok(()) };
        let more = std::iter::from_fn(|| answers.ready());
        let together: Vec<Answer> = std::iter::once(answer).chain(more).take(TOGETHER_MAX).collect();
        write(&mut writing, &together, &drain).await?;
    }
}

/// Whether a daemon answers there that is not about to end.
pub(super) async fn is_served(path: &Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(path).await else { return false };
    let asked = async {
        // It is no command: whoever serves says so, and who is stopping says that to all but looks.
        stream.write_all(b"\n").await?;
        let mut answer = String::new();
        BufReader::new(stream.take(REQUEST_MAX)).read_line(&mut answer).await.map(|_| answer)
    };
    match timeout(SAYS_WITHIN, asked).await {
        Ok(Ok(answer)) => {
            // As one says it that speaks version 4 or less.
            let said =
                |answer: &Answer| matches!(answer, Answer::Fault(why) if why.starts_with("the daemon is stopping"));
            let stops = |answer: &Answer| said(answer) || matches!(answer, Answer::Unavailable(Unavailable::Stopping));
            !answer.is_empty() && !serde_json::from_str(&answer).is_ok_and(|answer| stops(&answer))
        }
        // It went away.
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

/// Tells whoever asks that the queue is not open yet.
pub(super) async fn say_opening(mut stream: UnixStream) {
    let mut line = String::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(REQUEST_MAX));
    // What is asked is read before it is answered: octets that nobody read would take the answer with them.
    if let Ok(Ok(_)) = timeout(PEER_MAX, reading.read_line(&mut line)).await {
        let mut line = serde_json::to_vec(&Answer::Unavailable(Unavailable::Opening)).unwrap_or_default();
        line.push(b'\n');
        timeout(PEER_MAX, writing.write_all(&line)).await.ok();
    }
}

/// Takes in what is brought line by line; ends with the line that says so, or with a fault.
async fn import<R, W>(
    export: &str,
    back: Back,
    peer: &Peer,
    mut reading: BufReader<tokio::io::Take<R>>,
    writing: &mut W,
    house: &House,
) -> io::Result<()>
where
    R: tokio::io::AsyncRead + Unpin,
    W: tokio::io::AsyncWrite + Unpin,
{
    let mut drain = house.tasks.drain();
    let (mut importing, adopted) = match Importing::begin(export, back, peer.to_string(), &house.queue).await {
        Ok(begun) => begun,
        Err(why) => return write(writing, &[Answer::Fault(why), Answer::End], &drain).await,
    };
    write(writing, &[Answer::Adopted(adopted)], &drain).await?;
    let mut line = String::new();
    loop {
        line.clear();
        reading.get_mut().set_limit(BROUGHT_MAX);
        let brought = tokio::select! {
            biased;
            () = drain.wait() => {
                return write(writing, &[STOPPING, Answer::End], &drain).await;
            }
            brought = timeout(PEER_MAX, reading.read_line(&mut line)) => brought,
        };
        brought.map_err(|_| io::ErrorKind::TimedOut)??;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let snapshot = house.snapshot();
        let taken = match serde_json::from_str(&line) {
            Ok(brought) => importing.take(desk(house, &snapshot), brought).await.map_err(|fault| fault.to_string()),
            Err(fault) => Err(format!("what was brought can't be read: {fault}")),
        };
        let answers = taken.unwrap_or_else(|why| vec![Answer::Fault(why), Answer::End]);
        write(writing, &answers, &drain).await?;
        if matches!(answers.last(), Some(Answer::End)) {
            return Ok(());
        }
    }
}

/// What answers are made from, at this moment.
fn desk<'a>(house: &'a House, snapshot: &'a Snapshot) -> Desk<'a> {
    let now = house.now();
    let running = Running {
        courier: &house.courier,
        active: &house.active,
        routes: &snapshot.routes,
        message_size: snapshot.doors.iter().map(|door| door.session.message_size_max).max().unwrap_or(0),
        log: &house.log,
        counts: &house.counts,
        mono: now.mono,
    };
    Desk { queue: &house.queue, daemon: Some(running), roster: &snapshot.roster, now: now.wall }
}

/// What a request asks for. Its version is looked at first: what follows may be of a shape that only the other one knows.
fn request(line: &str) -> Result<Command, String> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let unreadable = |fault: serde_json::Error| format!("the request can't be read: {fault}");
    let Versioned { version } = serde_json::from_str(line).map_err(unreadable)?;
    if version != VERSION {
        return Err(format!(
            "the running daemon speaks version {VERSION} of the control protocol, and this sealpost version {version}: use the sealpost \
             that the daemon was started from, or restart the daemon after an upgrade"
        ));
    }
    serde_json::from_str::<Request>(line).map(|request| request.command).map_err(unreadable)
}

async fn write<W>(to: &mut W, answers: &[Answer], drain: &Drain) -> io::Result<()>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    let written = async {
        let mut lines = Vec::new();
        for answer in answers {
            serde_json::to_writer(&mut lines, answer)?;
            lines.push(b'\n');
            let text = answer.text_behind();
            if !text.is_empty() {
                to.write_all(&lines).await?;
                to.write_all(text).await?;
                lines.clear();
            }
        }
        to.write_all(&lines).await
    };
    let mut drain = drain.clone();
    let farewell = async {
        drain.wait().await;
        tokio::time::sleep(FAREWELL_MAX).await;
    };
    tokio::select! {
        written = timeout(READER_MAX, written) => written.map_err(|_| io::ErrorKind::TimedOut)?,
        () = farewell => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Whoever asked had enough: `sealpost queue list | head`.
fn went_away(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A start waits for one that ends, and for no other; also for one that says it as versions up to 4 did, at an upgrade.
    #[tokio::test]
    async fn who_ends_serves_nobody_whatever_version_it_speaks() {
        let folder = tempfile::tempdir().unwrap();
        for (number, (said, serves)) in [
            (Some(&b"{\"unavailable\":\"stopping\"}\n\"end\"\n"[..]), false),
            (Some(b"{\"fault\":\"the daemon is stopping: what was told is done; ask again\"}\n\"end\"\n"), false),
            (Some(b"{\"unavailable\":\"opening\"}\n"), true),
            (Some(b"{\"fault\":\"the request can't be read: EOF\"}\n\"end\"\n"), true),
            // It goes away without a word.
            (Some(b""), false),
            // Nobody is there.
            (None, false),
        ]
        .into_iter()
        .enumerate()
        {
            let path = folder.path().join(number.to_string());
            let Some(said) = said else {
                assert!(!is_served(&path).await);
                continue;
            };
            let listener = UnixListener::bind(&path).unwrap();
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 1];
                stream.read_exact(&mut asked).await.unwrap();
                stream.write_all(said).await.unwrap();
            };
            let (is_served, ()) = tokio::join!(is_served(&path), answering);
            assert_eq!(is_served, serves, "{}", String::from_utf8_lossy(said));
        }
    }

    #[test]
    fn another_version_is_told_plainly_whatever_it_asks_in_its_own_words() {
        for asked in [
            r#"{"version":1,"command":{"list":{"state":null,"limit":1000}}}"#,
            r#"{"version":1,"command":"stats"}"#,
            r#"{"version":99,"command":{"defragment":{}},"more":true}"#,
        ] {
            let why = request(asked).unwrap_err();
            assert!(
                why.contains(&format!("speaks version {VERSION}")) && why.contains("restart the daemon"),
                "{asked}: {why}"
            );
        }
        assert!(matches!(
            request(r#"{"version":5,"command":{"list":{"limit":5}}}"#),
            Ok(Command::List { limit: 5, .. })
        ));
        for broken in ["", "{", r#"{"version":5,"command":{"steer":{}}}"#] {
            assert!(request(broken).unwrap_err().contains("can't be read"), "{broken}");
        }
    }
}
