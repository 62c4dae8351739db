//! The control socket: how `sealpost queue` and `sealpost identities` ask the running daemon.
//!
//! A Unix socket `control.sock` in the data directory, mode 0600; besides, the kernel's word on the peer is checked: only root and the daemon's
//! own user are answered. One JSON object in a line is the request, the answer is a line for each entry and `End`. Both carry a
//! version: another one is refused by name. Never: trusts what the peer says of itself; lets a slow peer hold a task for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::steering;
use crate::house::House;

/// The version of request and answer.
pub const VERSION: u32 = 1;
/// The longest request, octets.
const REQUEST_MAX: u64 = 1024 * 1024;
/// How long a peer may take to ask, and to take each line of its answer.
const PEER_MAX: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    pub command: steering::Command,
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

/// Answers until the drain begins.
pub async fn run(listener: UnixListener, house: Arc<House>) {
    let mut drain = house.tasks.drain();
    loop {
        let accepted = tokio::select! {
            () = drain.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let serving = Arc::clone(&house);
                house.tasks.spawn("control connection", async move {
                    if let Err(fault) = serve(stream, &serving).await {
                        tracing::warn!(%fault, "a control connection failed");
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

async fn serve(mut stream: UnixStream, house: &House) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    if peer != own && peer != 0 {
        let answer =
            steering::Answer::Fault(format!("only root and the daemon's own user ({own}) may ask; you are {peer}"));
        return write(&mut stream, &answer).await;
    }
    let mut line = String::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(REQUEST_MAX));
    timeout(PEER_MAX, reading.read_line(&mut line)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let by = format!("uid {peer}");
    let mut answers = match serde_json::from_str::<Request>(&line) {
        Ok(request) if request.version == VERSION => steering::Answers::new(request.command, by),
        Ok(request) => steering::Answers::fault(format!(
            "the daemon speaks version {VERSION} of the control protocol, you speak {}: use the sealpost of the same version",
            request.version
        )),
        Err(fault) => steering::Answers::fault(format!("the request can't be read: {fault}")),
    };
    loop {
        let snapshot = house.snapshot();
        let desk = steering::Desk {
            queue: &house.queue,
            upstreams: Some((&house.courier, &snapshot.routes)),
            roster: &snapshot.roster,
            now: house.now().wall,
        };
        let Some(answer) = answers.next(desk).await else { break };
        write(&mut writing, &answer).await?;
    }
    Ok(())
}

/// Tells whoever asks that the queue is not open yet.
pub(super) async fn say_opening(mut stream: UnixStream) {
    let mut line = String::new();
    let (reading, mut writing) = stream.split();
    let mut reading = BufReader::new(reading.take(REQUEST_MAX));
    // What is asked is read before it is answered: octets that nobody read would take the answer with them.
    if let Ok(Ok(_)) = timeout(PEER_MAX, reading.read_line(&mut line)).await {
        let why = "the daemon is recovering its queue after a start: come again in a minute";
        write(&mut writing, &steering::Answer::Fault(why.to_owned())).await.ok();
    }
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(to: &mut W, answer: &steering::Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PEER_MAX, to.write_all(&line)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
