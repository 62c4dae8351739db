//! Work that may take long and cannot wait (files of a slow disk, a roster of a million lines, a CRL of 64 MiB), on a thread of its own.
//!
//! The runtime's threads go on serving meanwhile, and a shutdown does not wait for it: the thread ends with the process. Never: more than one
//! thread for each caller that waits.

use std::panic::AssertUnwindSafe;

use tokio::sync::oneshot;

/// What `work` gives; `None` when it panicked or no thread was to be had, which is logged.
pub(super) async fn aside<T, F>(name: &'static str, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            // Nobody waits any more: the daemon is stopping.
            Ok(value) => drop(done.send(value)),
            Err(_) => {
                tracing::error!(task = name, "a task panicked: this is a defect of sealpost, please report it");
            }
        }
    });
    if let Err(fault) = thread {
        tracing::error!(task = name, %fault, "no thread can be had");
        return None;
    }
    result.await.ok()
}
