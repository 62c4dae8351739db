//! Notices that files have changed, and says so once they are quiet.
//!
//! inotify tells of changes at once where the system has it; what it told is only a reason to look. Whether a file has changed, its look from
//! outside says ([`Stamps`]), at each such reason and at a slow beat besides, so that network disks and lost events cost time, not safety.
//!
//! Writers differ: in pieces, by rename, by swapping a link to a directory (Kubernetes, certbot). So directories are listened to, never files:
//! each path's own, that of every link on the way, and that of what it leads to; and after the first event one waits for quiet.
//!
//! Never: reads what is in a file; decides what a change means.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::{Notify, mpsc, watch};

use super::aside::aside;
use super::stamps::Stamps;
use crate::sys::Drain;

/// So long nothing may happen before files count as written.
const QUIET: Duration = Duration::from_millis(200);
/// After so long they are looked at all the same.
const RESTLESS: Duration = Duration::from_secs(2);
/// Links on the way to one file that are followed; Linux itself follows 40.
const LINKS_MAX: usize = 40;

/// What is to be watched, and how it looked when it was read.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) paths: Arc<[PathBuf]>,
    pub(super) as_read: Stamps,
    pub(super) poll: Duration,
}

/// Watches by the newest orders; `changed` is told when files look different from how they were read.
pub(super) async fn run(orders: watch::Receiver<Orders>, changed: Arc<Notify>, drain: Drain) {
    by(Ears::new, orders, changed, drain).await;
}

/// Watches with what `ears` makes: anew when they are lost.
async fn by(
    ears: impl Fn(mpsc::Sender<()>) -> Ears,
    mut orders: watch::Receiver<Orders>,
    changed: Arc<Notify>,
    mut drain: Drain,
) {
    // One word that waits is as good as many.
    let (told, mut heard) = mpsc::channel(1);
    let mut order = orders.borrow_and_update().clone();
    let mut at_hand = None;
    loop {
        let listening = at_hand.take().unwrap_or_else(|| ears(told.clone()));
        // Lost to a panic or for want of a thread, which is logged: the slow beat tries again, with new ears.
        if let Some((same_ears, looks)) = look(listening, &order.paths).await {
            at_hand = Some(same_ears);
            if looks != order.as_read {
                tracing::debug!("files have changed");
                order.as_read = looks;
                changed.notify_one();
            }
        }
        tokio::select! {
            () = drain.wait() => return,
            ordered = orders.changed() => match ordered {
                Ok(()) => order = orders.borrow_and_update().clone(),
                Err(_) => return,
            },
            // Always somebody might say something: the sender is at hand.
            Some(()) = heard.recv() => settle(&mut heard).await,
            () = tokio::time::sleep(order.poll) => {}
        }
    }
}

/// Listens, then looks: what changes behind this look is heard.
async fn look(mut ears: Ears, paths: &Arc<[PathBuf]>) -> Option<(Ears, Stamps)> {
    let paths = Arc::clone(paths);
    aside("watch", move || {
        ears.listen_at(&paths);
        (ears, Stamps::of(&paths))
    })
    .await
}

/// Waits until writers are quiet.
async fn settle(heard: &mut mpsc::Receiver<()>) {
    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, heard.recv()).await {} };
    let _ = tokio::time::timeout(RESTLESS, quiet).await;
}

/// What listens to directories.
struct Ears {
    watcher: Option<RecommendedWatcher>,
    places: BTreeSet<PathBuf>,
    deaf: BTreeSet<PathBuf>,
    /// Panics at the first look.
    #[cfg(test)]
    trap: bool,
}

impl Ears {
    fn new(told: mpsc::Sender<()>) -> Self {
        let hear = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_news(event.kind)) {
                // Full: the word is waiting already.
                let _ = told.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(hear);
        if let Err(fault) = &watcher {
            tracing::warn!(%fault, "the system does not tell of changed files; their dates are looked at from time to time");
        }
        Self::with(watcher.ok())
    }

    /// Ears that hear by this; by none, they are deaf, and only the slow beat is left.
    const fn with(watcher: Option<RecommendedWatcher>) -> Self {
        Self {
            watcher,
            places: BTreeSet::new(),
            deaf: BTreeSet::new(),
            #[cfg(test)]
            trap: false,
        }
    }

    /// Listens to the directories that these paths lead through, and to no others.
    fn listen_at(&mut self, paths: &[PathBuf]) {
        #[cfg(test)]
        assert!(!self.trap, "injected");
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = paths.iter().flat_map(|path| directories(path)).collect();
        for gone in self.places.difference(&wanted) {
            // It may be gone from the disk as well.
            let _ = watcher.unwatch(gone);
        }
        for place in &wanted {
            // Asked again each time: a directory that was made anew under its name is another one.
            match watcher.watch(place, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.deaf.remove(place)),
                Err(fault) if self.deaf.insert(place.clone()) => {
                    tracing::warn!(place = %place.display(), %fault, "changes here are noticed late: the system does not tell of them");
                }
                Err(_) => {}
            }
        }
        self.places = wanted;
    }
}

/// Whether something was changed; being read, by ourselves too, is no news.
fn is_news(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

/// The directories that must be listened to for a change of what `path` leads to: where each link on the way lies, where the end lies, and the
/// end itself when it is a directory. Of what is not there, the nearest that is.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else { return found };
    let mut left: Vec<PathBuf> = components(&absolute);
    let (mut at, mut links) = (PathBuf::from("/"), 0_usize);
    while let Some(next) = left.pop() {
        if next == Path::new("..") {
            at.pop();
            continue;
        }
        let here = at.join(&next);
        match std::fs::symlink_metadata(&here) {
            Ok(facts) if facts.is_symlink() && links < LINKS_MAX => {
                links = links.saturating_add(1);
                found.insert(at.clone());
                let Ok(target) = std::fs::read_link(&here) else { return found };
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(components(&target));
            }
            Ok(facts) => {
                if left.is_empty() {
                    found.insert(at.clone());
                    if facts.is_dir() {
                        found.insert(here.clone());
                    }
                }
                at = here;
            }
            Err(_) => {
                found.insert(at);
                return found;
            }
        }
    }
    found
}

/// The names of a path, the last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.rev().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "tests furnish a folder of files")]

    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn each_link_on_the_way_and_its_end_are_listened_to() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        // As Kubernetes mounts a secret, and as certbot lays out a certificate.
        for directory in ["mount/..2026", "live/mail", "archive/mail", "crls"] {
            fs::create_dir_all(top.join(directory)).unwrap();
        }
        for file in ["mount/..2026/tls.crt", "archive/mail/cert7.pem", "crls/a.crl", "plain.pem"] {
            fs::write(top.join(file), "x").unwrap();
        }
        symlink("..2026", top.join("mount/..data")).unwrap();
        symlink("..data/tls.crt", top.join("mount/tls.crt")).unwrap();
        symlink("../../archive/mail/cert7.pem", top.join("live/mail/cert.pem")).unwrap();
        symlink(top.join("crls"), top.join("linked")).unwrap();
        symlink("round", top.join("round")).unwrap();
        let table: [(&str, &[&str]); 7] = [
            ("plain.pem", &[""]),
            ("crls", &["", "crls"]),
            ("crls/a.crl", &["crls"]),
            ("mount/tls.crt", &["mount", "mount/..2026"]),
            ("live/mail/cert.pem", &["live/mail", "archive/mail"]),
            ("linked", &["", "crls"]),
            ("not/there/yet.pem", &[""]),
        ];
        for (path, wanted) in table {
            let wanted: BTreeSet<PathBuf> =
                wanted.iter().map(|one| if one.is_empty() { top.clone() } else { top.join(one) }).collect();
            assert_eq!(directories(&top.join(path)), wanted, "{path}");
        }
        assert_eq!(directories(&top.join("round")), BTreeSet::from([top]), "a link that leads to itself");
    }

    /// Ears without a watcher, made so, hear of a change all the same.
    async fn check(ears: impl Fn(mpsc::Sender<()>) -> Ears + Send + 'static) {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("ca.crl")];
        fs::write(&paths[0], "first").unwrap();
        let order =
            Orders { as_read: Stamps::of(&paths), paths: paths.to_vec().into(), poll: Duration::from_millis(10) };
        let (_order, ordered) = watch::channel(order);
        let (changed, tasks) = (Arc::new(Notify::new()), crate::sys::Tasks::default());
        let watching = tokio::spawn(by(ears, ordered, Arc::clone(&changed), tasks.drain()));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!watching.is_finished(), "nothing is watched any more");
        fs::write(&paths[0], "another").unwrap();
        tokio::time::timeout(Duration::from_secs(60), changed.notified()).await.unwrap();
        tasks.begin_drain();
        watching.await.unwrap();
    }

    #[tokio::test]
    async fn where_the_system_tells_nothing_the_slow_beat_goes_on() {
        check(|_| Ears::with(None)).await;
    }

    #[tokio::test]
    async fn ears_that_are_lost_are_replaced() {
        let first = std::sync::atomic::AtomicBool::new(true);
        check(move |_| Ears { trap: first.swap(false, std::sync::atomic::Ordering::Relaxed), ..Ears::with(None) })
            .await;
    }

    #[test]
    fn reading_is_no_news() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind};
        for (kind, news) in [
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), false),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), true),
            (EventKind::Create(CreateKind::File), true),
            (EventKind::Modify(ModifyKind::Any), true),
            (EventKind::Remove(RemoveKind::File), true),
            // The kernel's queue ran over: anything may have happened.
            (EventKind::Other, true),
        ] {
            assert_eq!(is_news(kind), news, "{kind:?}");
        }
    }
}
