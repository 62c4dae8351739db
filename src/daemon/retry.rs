//! When what was found wrong is tried again: soon at first, then less and less often; pure.
//!
//! Only a try lengthens the wait. A file that changes is read for itself, and somebody who writes to one again and again puts nothing off.
//! Never: waits.

use std::time::Duration;

use super::reload::Cause;

/// How long after files were found wrong they are tried again; each time twice as long, up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_secs(3);
/// The longest pause between two tries.
const RETRY_MOST: Duration = Duration::from_secs(300);

/// How long until the next try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retry(Option<Duration>);

impl Retry {
    /// None when nothing is wrong.
    pub(super) fn wait(self) -> Option<Duration> {
        self.0
    }

    /// Something was wrong, or was left as it was.
    pub(super) fn was_wrong(&mut self, cause: Cause) {
        let next = match (self.0, cause) {
            (None, _) => RETRY_FIRST,
            (Some(last), Cause::Again) => last.saturating_mul(2).min(RETRY_MOST),
            (Some(last), Cause::Asked | Cause::Files) => last,
        };
        self.0 = Some(next);
    }

    /// Nothing is wrong.
    pub(super) fn is_right(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_try_lengthens_the_wait_and_what_is_right_ends_it() {
        let mut retry = Retry::default();
        assert_eq!(retry.wait(), None);
        let mut waits = Vec::new();
        for cause in [Cause::Files, Cause::Files, Cause::Again, Cause::Files, Cause::Asked, Cause::Again] {
            retry.was_wrong(cause);
            waits.extend(retry.wait().map(|wait| wait.as_secs()));
        }
        assert_eq!(waits, [3, 3, 6, 6, 6, 12]);
        for _ in 0..10 {
            retry.was_wrong(Cause::Again);
        }
        assert_eq!(retry.wait(), Some(RETRY_MOST));
        retry.is_right();
        assert_eq!(retry.wait(), None);
        retry.was_wrong(Cause::Again);
        assert_eq!(retry.wait(), Some(RETRY_FIRST));
    }
}
