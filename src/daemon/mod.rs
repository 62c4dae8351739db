//! The daemon: listeners, signals, reload, drain. [`Daemon::start`] and [`Daemon::run`] can be read aloud.
//!
//! Never: runs with a configuration that `check` would refuse; drops a connection for a reload; leaves a task behind.

mod aside;
pub mod build;
mod cache;
pub mod control;
pub mod ending;
mod fetch;
pub mod logging;
mod opening;
pub mod peer;
pub(crate) mod place;
mod ready;
mod reload;
mod retry;
mod stamps;
pub mod stranded;
pub mod steering;
mod telling;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use self::aside::aside;
use self::reload::{Cause, Reloader, Source};
use self::watch::Orders;
use crate::config::{self, CrlSource, Mistake, Settings};
use crate::doors::Full;
use crate::house::{House, LAST_OUTCOMES};
use crate::intake::Introduced;
use crate::queue::fill::{Notice, Watch};
use crate::queue::{Listed, LostCommit, OpenError, Queue, QueueSettings, Recovery};
use crate::session::replies;
use crate::snapshot::{Door, Mode};
use crate::sys::{Clock, SystemEntropy, Tasks};
use crate::tls::ListenerFault;
use crate::upstream::{Courier, SystemNetwork};
use crate::web::Responders;
use crate::{audit, delivery, intake};

/// Connections that the kernel keeps for us while we accept others.
const BACKLOG: i32 = 1024;

/// How long to wait after an accept failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// For saying QUIT to all idle upstreams at the end.
const GOODBYE: Duration = Duration::from_secs(5);
/// Messages that a stop names.
const NAMED_MAX: usize = 10;

/// So long after a stop began it is told for the first time what it waits for, and then so often again: what ends at once is not worth a word.
const AWAITED_TOLD: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How often the daemon looks how full disk and queue are.
const ROOM_LOOK: Duration = Duration::from_secs(60);

/// How often the daemon looks whether a certificate or a CRL of its own ends soon.
const EXPIRY_LOOK: Duration = Duration::from_secs(3600);

/// Where OCSP answers that say "revoked" are kept, under `data_dir`.
const OCSP_FOLDER: &str = "ocsp";

/// Why the daemon did not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonFault {
    /// The configuration is wrong; all mistakes.
    #[error("the configuration is wrong")]
    Configuration(Vec<Mistake>),
    /// Our TLS settings can't be used.
    #[error("the TLS settings can't be used: {0}")]
    Tls(#[from] ListenerFault),
    /// An address can't be listened on.
    #[error("can't listen on {address}: {fault}{}", remedy(.fault))]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        fault: io::Error,
    },
    /// The queue can't be where it is to be.
    #[error("data_dir: {0}")]
    Place(#[from] place::Unfit),
    /// The queue can't be opened.
    #[error("the queue can't be opened: {0}")]
    Queue(#[from] OpenError),
    /// The control socket can't be made.
    #[error("the control socket {} can't be made: {fault}", .path.display())]
    Control {
        /// Where.
        path: PathBuf,
        /// Why.
        fault: io::Error,
    },
    /// A loop that must live has ended: a panic, or a defect of another kind.
    #[error("the {0} ended before its time: a defect of sealpost; the log says more")]
    Fallen(&'static str),
    /// The operating system does not give signals.
    #[error("signals can't be received: {0}")]
    Signals(io::Error),
}

fn remedy(fault: &io::Error) -> &'static str {
    let remedies = [
        (io::ErrorKind::AddrInUse, " (another program, perhaps another sealpost, listens there: see `ss -ltnp`)"),
        (
            io::ErrorKind::PermissionDenied,
            " (ports under 1024 need the capability CAP_NET_BIND_SERVICE: conf/sealpost.service gives it)",
        ),
        (io::ErrorKind::AddrNotAvailable, " (this machine has no such address)"),
    ];
    remedies.into_iter().find(|(kind, _)| *kind == fault.kind()).map_or("", |(_, remedy)| remedy)
}

/// A daemon that listens and delivers.
#[derive(Debug)]
pub struct Daemon {
    house: Arc<House>,
    reloader: Reloader,
    bound: Vec<SocketAddr>,
    /// What is to be watched.
    orders: tokio::sync::watch::Sender<Orders>,
    /// Whose CRLs are to be fetched.
    sources: tokio::sync::watch::Sender<Arc<[Arc<CrlSource>]>>,
    /// Told when files that are watched have changed.
    changed: Arc<Notify>,
    /// Told when CRLs are to be fetched at once.
    fetch_at_once: Arc<Notify>,
    /// Until the end of the drain.
    control: Option<Arc<UnixListener>>,
    hang_up: Signal,
}

impl Daemon {
    /// Reads the configuration, listens, opens the queue; until it is open, clients are told to come again. When this returns, they are served.
    ///
    /// # Errors
    /// What the daemon can't start with.
    pub async fn start(
        file: &Path,
        environment: Vec<(String, String)>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DaemonFault> {
        let began = clock.now().wall;
        let text = config::read_text(file).map_err(DaemonFault::Configuration)?;
        let loaded = config::load_text(file, &text, &environment, &clock).map_err(DaemonFault::Configuration)?;
        let settings = loaded.settings;
        let log = logging::start(settings.log);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        // From here on a hang-up ends no start: it is a reload, once there is something to reload.
        let hang_up = on(SignalKind::hangup())?;
        // A place that will not do, another's queue, a port in use, and a folder in use, are told before anything is touched.
        place::will_do(&settings.data_dir, place::own_uid())?;
        let listeners = listen_on_all(&settings)?;
        let snapshot = build::snapshot(&settings, 0, &clock)?;
        let queue = QueueSettings { readers: QueueSettings::readers_here(), ..settings.queue.clone() };
        let tasks = Tasks::default();
        let owned = opening::owned(queue, settings.shutdown_grace);
        let owned = opening::until(owned, &listeners, &snapshot.doors, None, &tasks).await?;
        let control = control::bind(&settings.data_dir)
            .map_err(|fault| DaemonFault::Control { path: control::path(&settings.data_dir), fault })?;
        let opened = {
            let clock = Arc::clone(&clock);
            let open = aside("opening of the queue", move || Queue::open_owned(owned, clock, Arc::new(SystemEntropy)));
            opening::until(open, &listeners, &snapshot.doors, Some(&control), &tasks).await
        };
        let (queue, recovery) = opened.ok_or(DaemonFault::Fallen("opening of the queue"))??;
        let network = Arc::new(SystemNetwork::new(Arc::new(SystemEntropy)));
        let courier = Courier::new(network, Arc::clone(&clock), Arc::new(SystemEntropy));
        courier.configure(&settings.upstreams);
        let house = House::new(snapshot, queue, Arc::clone(&clock), Arc::new(SystemEntropy), tasks, courier);
        let responders = Responders::keeping_in(settings.data_dir.join(OCSP_FOLDER));
        let house = Arc::new(house.with_log(log).with_responders(responders));
        tell_recovery(&recovery, &settings.data_dir, &house);
        let bound = listeners.iter().map(|(_, address)| *address).collect();
        let control = Arc::new(control);
        house.tasks.spawn_vital("control socket", control::run(Arc::clone(&control), Arc::clone(&house)));
        house.tasks.spawn_vital("delivery loop", delivery::run(Arc::clone(&house)));
        let (queue, routes) = (house.queue.clone(), Arc::clone(&house.snapshot().routes));
        let now = house.now().wall;
        let looking = stranded::tell(queue, routes, stranded::Moment::Start, now, house.tasks.drain());
        house.tasks.spawn("mail without a route", looking);
        house.tasks.spawn_vital("writer of the queue", watch_queue(Arc::clone(&house)));
        house.tasks.spawn_vital("damaged messages", count_damaged(Arc::clone(&house)));
        house.tasks.spawn_vital("idle upstream connections", tend(Arc::clone(&house)));
        house.tasks.spawn_vital("expiry", watch_expiry(Arc::clone(&house)));
        house.tasks.spawn_vital("ends of clients' certificates", ending::run(Arc::clone(&house)));
        house.tasks.spawn_vital("room in the queue", watch_room(Arc::clone(&house)));
        for (door, (listener, address)) in listeners.into_iter().enumerate() {
            tracing::info!(%address, "listening");
            house.tasks.spawn_vital("listener", accept(listener, door, Arc::clone(&house)));
        }
        let source = Source { file: file.to_owned(), text: text.into(), environment, clock };
        let reloader = Reloader::new(source, settings);
        let (orders, ordered) = tokio::sync::watch::channel(reloader.first_orders(began));
        let (changed, fetch_at_once) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (sources, named_sources) = tokio::sync::watch::channel(reloader.crl_sources());
        if let Some(named) = house.take_named_points() {
            let (changed, at_once) = (Arc::clone(&changed), Arc::clone(&fetch_at_once));
            let fetching = fetch::run(named_sources, named, changed, at_once, Arc::clone(&house));
            house.tasks.spawn_vital("CRLs over HTTP", fetching);
        }
        house.tasks.spawn_vital("watch", watch::run(ordered, Arc::clone(&changed), house.tasks.drain()));
        let control = Some(control);
        Ok(Self { house, reloader, bound, orders, sources, changed, fetch_at_once, control, hang_up })
    }

    /// The addresses that are listened on, in the order of the configuration; ports that were 0 are the kernel's choice.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// Serves until SIGTERM or SIGINT, reloads on SIGHUP, then drains. A second signal does not wait.
    ///
    /// # Errors
    /// Signals can't be received; or a loop that must live has ended, and the rest was drained.
    pub async fn run(mut self) -> Result<(), DaemonFault> {
        let mut terminate = on(SignalKind::terminate())?;
        let mut interrupt = on(SignalKind::interrupt())?;
        let status = match self.bound.len() {
            1 => "serving 1 listener".to_owned(),
            many => format!("serving {many} listeners"),
        };
        ready::ready(&status);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
        // The TLS library gathers its entropy once, for some fifty milliseconds: better now than in the first client's handshake, which waits for it if need be.
        // Where that fails, it fails again where somebody needs it, and is told there.
        tokio::task::spawn_blocking(|| aws_lc_rs::rand::fill(&mut [0]).ok());
        let fallen = loop {
            let cause = tokio::select! {
                biased;
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                name = self.house.tasks.fallen() => break Some(name),
                _ = self.hang_up.recv() => Cause::Asked,
                () = self.changed.notified() => Cause::Files,
                () = self.reloader.due() => Cause::Again,
            };
            // Signals that come meanwhile are one more reload, however many they are; the end does not wait for it.
            tokio::select! {
                biased;
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                () = self.reload(cause, &status) => {}
            }
        };
        if let Some(name) = fallen {
            tracing::error!(name, "a part that sealpost can't be without has ended: it stops, to be started again");
        }
        tokio::select! {
            () = self.drain() => {}
            _ = terminate.recv() => self.tell_asked_again(),
            _ = interrupt.recv() => self.tell_asked_again(),
        }
        fallen.map_or(Ok(()), |name| Err(DaemonFault::Fallen(name)))
    }

    fn tell_asked_again(&self) {
        tracing::warn!(
            deliveries = %under_way(&self.house),
            "asked again to stop: not waiting any longer; of these messages each is tried again and may arrive twice"
        );
    }

    /// Takes over what the configuration and its files say now; what is wrong changes nothing and is told. systemd hears of what it asked for.
    async fn reload(&mut self, cause: Cause, status: &str) {
        if cause == Cause::Asked {
            ready::reloading();
        }
        let orders = self.reloader.reload(cause, &self.house).await;
        self.orders.send_replace(orders);
        self.sources.send_replace(self.reloader.crl_sources());
        if cause == Cause::Asked {
            self.fetch_at_once.notify_one();
            ready::ready(status);
        }
    }

    /// Stops listening and claiming, lets what is under way end, closes the store.
    pub async fn drain(&mut self) {
        ready::stopping();
        tracing::info!("stopping");
        let grace = self.reloader.settings().shutdown_grace;
        let control = self.control.take();
        let left = tokio::select! {
            biased;
            left = control::until_rest(self.house.come_to_rest(grace), control, &self.house) => left,
            never = tell_awaited(&self.house, grace) => match never {},
        };
        if left > 0 {
            tracing::warn!(
                left, deliveries = %under_way(&self.house),
                "connections or deliveries were still under way; what was answered 250 is kept, and each message of deliveries is tried again and may arrive twice"
            );
        }
        if let Err(fault) = self.house.queue.fill().await {
            tracing::error!(%fault, "the queue can't be used at the end: what it has kept may not be where the next start looks for it");
        }
        self.house.queue.close().await;
        // Politeness only: an upstream that does not answer must not hold the shutdown.
        let _ = tokio::time::timeout(GOODBYE, self.house.courier.close()).await;
        tracing::info!("stopped");
    }
}

/// The messages of which deliveries are under way: who is on duty must know what may arrive twice.
fn under_way(house: &House) -> String {
    let ids = house.active.ids();
    let named: Vec<String> = ids.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match ids.len().saturating_sub(named.len()) {
        0 => named.join(" "),
        more => format!("{} and {more} more", named.join(" ")),
    }
}

/// Says while a stop lasts what it waits for.
async fn tell_awaited(house: &House, grace: Duration) -> Infallible {
    let (began, (first, again)) = (house.now().mono, AWAITED_TOLD);
    tokio::time::sleep(first).await;
    loop {
        let (sessions, deliveries) = (house.tasks.at_work_as("connection"), house.tasks.at_work_as("delivery"));
        let others = house.tasks.at_work().saturating_sub(sessions).saturating_sub(deliveries);
        let seconds = seconds_left(grace.saturating_add(LAST_OUTCOMES), house.now().mono.since(began));
        tracing::info!(
            sessions, deliveries, others, tried = %under_way(house), at_most = %format_args!("{seconds}s"),
            "stopping: waiting for what is under way; a second signal ends it at once"
        );
        tokio::time::sleep(again).await;
    }
}

/// From its signal on, but for what the disk takes: sessions and deliveries, the last outcomes, a word to upstreams.
fn stop_lasts(grace: Duration) -> Duration {
    grace.saturating_add(LAST_OUTCOMES).saturating_add(GOODBYE)
}

/// How long a stop lasts yet, at the most: with less than a second to go it is not over.
fn seconds_left(grace: Duration, gone: Duration) -> u128 {
    grace.saturating_sub(gone).as_nanos().div_ceil(1_000_000_000)
}

/// What the queue found when it was opened.
fn tell_recovery(recovery: &Recovery, data_dir: &Path, house: &House) {
    let totals = recovery.totals;
    tracing::info!(
        data_dir = %data_dir.display(), queued = totals.queued.count, held = totals.held.count, dead = totals.dead.count,
        after_crash = recovery.after_crash, leftovers = recovery.leftovers,
        "the queue is open"
    );
    for id in &recovery.mended {
        tracing::warn!(%id, "what store.redb says of a message was damaged; it has been written anew, and nothing is lost");
    }
    if let Some(lost) = &recovery.lost {
        tracing::error!("{lost}");
        for id in &lost.kept {
            audit::dead(*id, "", LostCommit::OF_ONE);
            house.counts.dead();
        }
    }
    for (id, reason) in &recovery.set_aside {
        tracing::error!(%id, reason, "a message was damaged; it is set aside as dead");
        audit::dead(*id, "", reason);
        house.counts.dead();
    }
}

/// Counts what is found damaged while the queue is open, and writes it into the audit.
async fn count_damaged(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    loop {
        let damaged = tokio::select! {
            damaged = house.queue.damaged() => damaged,
            () = drain.wait() => return,
        };
        for (id, reason) in damaged {
            let whose = match house.queue.show(id).await {
                Ok(Listed::Message(record)) => record.custodian.identity,
                // Nobody can tell any more.
                Ok(Listed::Unreadable(..)) | Err(_) => String::new(),
            };
            audit::dead(id, &whose, &reason);
            house.counts.dead();
        }
    }
}

fn on(kind: SignalKind) -> Result<Signal, DaemonFault> {
    signal(kind).map_err(DaemonFault::Signals)
}

fn listen_on_all(settings: &Settings) -> Result<Vec<(TcpListener, SocketAddr)>, DaemonFault> {
    settings
        .listeners
        .iter()
        .map(|listener| {
            listen(listener.address).map_err(|fault| DaemonFault::Listen { address: listener.address, fault })
        })
        .collect()
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart does not wait for the old connections' last packets; two daemons on one port still collide.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` is IPv6 alone, so that `0.0.0.0` can stand beside it.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Accepts clients at one door until the drain begins.
pub async fn accept(listener: TcpListener, door: usize, house: Arc<House>) {
    let mut drain = house.tasks.drain();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => admit(stream, client, door, &house),
            Err(fault) => {
                tracing::error!(%fault, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, client: SocketAddr, door: usize, house: &Arc<House>) {
    let snapshot = house.snapshot();
    let Some(entered) = snapshot.doors.get(door) else { return };
    // Nagle and delayed ACK together cost 40 ms for each reply.
    let _ = stream.set_nodelay(true);
    let (serving, now) = (Arc::clone(house), house.now().mono);
    if !entered.takes_from(client.ip()) {
        return turn_away_stranger(client, entered.address, house);
    }
    if entered.mode == Mode::ProxiedTls {
        return admit_voucher(stream, client, door, house);
    }
    if entered.balancers.is_some() {
        return admit_balancer(stream, client, door, house);
    }
    match house.doors.enter(client.ip(), snapshot.door_limits, now) {
        Ok(place) => house.tasks.spawn("connection", Box::pin(intake::serve(stream, client, door, serving, place))),
        Err(full) => {
            tell_full(client, full, house);
            turn_away(&stream, entered);
        }
    }
}

/// A connection that a load balancer passes on: it is nobody's until its header is there, and nothing is said before.
fn admit_balancer(mut stream: TcpStream, balancer: SocketAddr, door: usize, house: &Arc<House>) {
    let mut place = match house.doors.enter_behind_balancer(house.snapshot().door_limits, house.now().mono) {
        Ok(place) => place,
        Err(full) => return tell_full(balancer, full, house),
    };
    let serving = Arc::clone(house);
    house.tasks.spawn("connection", async move {
        let client = match intake::introduced(&mut stream, balancer, &serving, &place).await {
            None => return,
            // Who looks every two seconds must not use up a client's limits: the total alone bounds balancers.
            Some(Introduced::Probe) => return Box::pin(intake::serve(stream, balancer, door, serving, place)).await,
            Some(Introduced::Client(client)) => client,
        };
        let snapshot = serving.snapshot();
        match place.belongs_to(client.ip(), snapshot.door_limits, serving.now().mono) {
            Ok(()) => {
                drop(snapshot);
                Box::pin(intake::serve(stream, client, door, serving, place)).await;
            }
            Err(full) => {
                tell_full(client, full, &serving);
                if let Some(entered) = snapshot.doors.get(door) {
                    turn_away(&stream, entered);
                }
            }
        }
    });
}

/// A connection of a load balancer that vouches for its clients: it shows who it is first, and whose connection it passes on inside that.
fn admit_voucher(stream: TcpStream, balancer: SocketAddr, door: usize, house: &Arc<House>) {
    let mut place = match house.doors.enter_behind_balancer(house.snapshot().door_limits, house.now().mono) {
        Ok(place) => place,
        Err(full) => return tell_full(balancer, full, house),
    };
    let serving = Arc::clone(house);
    house.tasks.spawn("connection", async move {
        let Some(arrived) = Box::pin(intake::by_balancer(stream, balancer, door, &serving, &place)).await else {
            return;
        };
        if let Introduced::Client(client) = arrived.introduced() {
            let limits = serving.snapshot().door_limits;
            if let Err(full) = place.belongs_to(client.ip(), limits, serving.now().mono) {
                tell_full(client, full, &serving);
                return Box::pin(arrived.turn_away()).await;
            }
        }
        Box::pin(arrived.serve(serving, place)).await;
    });
}

/// Who is none of the load balancers hears nothing: the address that it would claim can't be believed.
fn turn_away_stranger(client: SocketAddr, listener: SocketAddr, house: &House) {
    if let Some(unsaid) = house.doors.strangers.say(house.now().mono) {
        tracing::warn!(
            %client, %listener, unsaid,
            "not an address of the listener's proxy networks: turned away (name the load balancer in proxy, or have clients come by way of it)"
        );
    }
}

fn tell_full(client: SocketAddr, full: Full, house: &House) {
    if let Some(unsaid) = house.doors.turned_away.say(house.now().mono) {
        tracing::warn!(%client, limit = full.key(), unsaid, "too many connections: turned away");
    }
}

/// Says so in one write that never waits; before TLS only, for inside TLS nobody would read it.
fn turn_away(stream: &TcpStream, door: &Door) {
    if door.mode == Mode::StartTls {
        let mut wire = Vec::new();
        replies::from_here(&door.session.hostname, replies::too_many_connections()).write_to(&mut wire);
        let _ = stream.try_write(&wire);
    }
}

/// Ends when the queue can't keep anything any more, though nobody closed it.
async fn watch_queue(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    tokio::select! {
        () = house.queue.ended() => {}
        () = house.queue.watch() => {}
        () = drain.wait() => {}
    }
}

async fn tend(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    tokio::select! {
        () = house.courier.tend() => {}
        () = drain.wait() => {}
    }
}

/// Says early what ends soon.
async fn watch_expiry(house: Arc<House>) {
    let mut drain = house.tasks.drain();
    loop {
        let now = house.now().wall;
        let snapshot = house.snapshot();
        for end in snapshot.ending_soon(now) {
            match now >= end.at {
                true => tracing::error!("{}", end.notice(now)),
                false => tracing::warn!("{}", end.notice(now)),
            }
        }
        drop(snapshot);
        tokio::select! {
            () = tokio::time::sleep(EXPIRY_LOOK) => {}
            () = drain.wait() => return,
        }
    }
}

/// Says early that disk or queue get full, before anybody is refused; and that the queue can't be used, also when nobody brings mail.
async fn watch_room(house: Arc<House>) {
    let (mut drain, mut watch) = (house.tasks.drain(), Watch::default());
    loop {
        let looked = house.queue.fill().await;
        let now = house.now().mono;
        let notices = match looked {
            Ok(fill) => watch.look(&fill, now),
            Err(fault) => watch.look_failed(&fault.to_string(), now).into_iter().collect(),
        };
        for notice in notices {
            match notice {
                Notice::Broken(fault) => tracing::error!(fault, "the queue can't be used: no mail is taken"),
                Notice::Mended => tracing::info!("the queue can be used again"),
                Notice::Low(what) => tracing::warn!(what, "there is little room left for mail"),
                Notice::Over(what) => tracing::info!(what, "there is room for mail again"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(ROOM_LOOK) => {}
            () = drain.wait() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_that_is_not_over_has_a_second_left() {
        for (gone, left) in [(0, 30), (1, 30), (10_000, 20), (29_001, 1), (29_999, 1), (30_000, 0), (31_000, 0)] {
            assert_eq!(seconds_left(Duration::from_secs(30), Duration::from_millis(gone)), left, "{gone}");
        }
    }
}
