//! Work that is dropped at its nth poll, as by whoever does not wait for it any more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Ends at the latest with so many polls; says whether the work was done.
pub(crate) struct Polled<F> {
    pub(crate) work: Pin<Box<F>>,
    pub(crate) left: usize,
}

impl<F: Future<Output = ()>> Future for Polled<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        if self.left == 0 {
            return Poll::Ready(false);
        }
        self.left -= 1;
        match self.work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            // The last poll was had: now, and not when something happens.
            Poll::Pending if self.left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    }
}
