//! How a thread of its own waits for what tasks hand it: without end, or for a while.
//!
//! Never: belongs to a runtime; busies the processor while it waits.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::mpsc;

/// Wakes a thread that is parked.
struct Bell(Thread);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The next message. None when nobody can send one any more, or none has come within `most`.
#[expect(clippy::disallowed_methods, reason = "a wait of the machine's, which is none of the program's time")]
pub fn receive<T>(from: &mut mpsc::Receiver<T>, most: Option<Duration>) -> Option<T> {
    let Some(most) = most else { return from.blocking_recv() };
    let began = std::time::Instant::now();
    let bell = Waker::from(Arc::new(Bell(std::thread::current())));
    let mut context = Context::from_waker(&bell);
    loop {
        if let Poll::Ready(message) = from.poll_recv(&mut context) {
            return message;
        }
        let left = most.saturating_sub(began.elapsed());
        if left.is_zero() {
            return None;
        }
        // Also ends when it was rung before, or for no reason.
        std::thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_WHILE: Option<Duration> = Some(Duration::from_millis(2));
    const LONG: Option<Duration> = Some(Duration::from_secs(600));

    #[test]
    fn a_wait_ends_with_a_message_with_its_time_or_with_the_last_sender() {
        let (sender, mut receiver) = mpsc::channel(4);
        assert_eq!(receive::<u8>(&mut receiver, A_WHILE), None);
        sender.blocking_send(1).unwrap();
        sender.blocking_send(2).unwrap();
        assert_eq!((receive(&mut receiver, LONG), receive(&mut receiver, None)), (Some(1), Some(2)));
        let sending = std::thread::Builder::new().spawn(move || {
            sender.blocking_send(3).unwrap();
            sender.blocking_send(4).unwrap();
        });
        let got = [LONG, LONG, LONG].map(|most| receive(&mut receiver, most));
        assert_eq!(got, [Some(3), Some(4), None]);
        sending.unwrap().join().unwrap();
        assert_eq!(receive(&mut receiver, None), None);
    }
}
