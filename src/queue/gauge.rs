//! How much the disk can still take, as it was measured a moment ago, less what was written since: so that not each message has the disk asked.
//!
//! What is told here may let somebody in, and never turns anybody away: who would be refused has the disk asked anew. And whatever was told, the writer asks the
//! disk before each commit that brings mail. So what others write meanwhile on the same disk costs nobody's mail; its client hears 452 a moment later.
//!
//! Never: counts too little of what was written through it; asks a clock.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::{DiskFile, MonoTime};

/// How long a measure is good for.
const GOOD_FOR: Duration = Duration::from_millis(200);

/// The last measure. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Octets written so far, whether the disk has less room by them or not.
    written: AtomicU64,
    last: Mutex<Option<Measure>>,
}

#[derive(Clone, Copy, Debug)]
struct Measure {
    at: MonoTime,
    free: u64,
    written: u64,
}

impl Gauge {
    /// Measures.
    ///
    /// # Errors
    /// Those of `measure`; nothing is known then.
    pub(super) fn measured<E>(&self, now: MonoTime, measure: impl FnOnce() -> Result<u64, E>) -> Result<u64, E> {
        // Before the disk is asked: what is written meanwhile counts twice rather than not at all.
        let written = self.inner.written.load(Ordering::Acquire);
        let measured = measure();
        let last = measured.as_ref().ok().map(|&free| Measure { at: now, free, written });
        *self.inner.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        measured
    }

    /// Octets that the disk can take for certain, but for what others write; none when that was measured too long ago.
    pub(super) fn told(&self, now: MonoTime) -> Option<u64> {
        let last = *self.inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Measure { free, written, .. } = last.filter(|last| now.since(last.at) < GOOD_FOR)?;
        Some(free.saturating_sub(self.inner.written.load(Ordering::Acquire).saturating_sub(written)))
    }

    /// The same file; what is written to it is counted.
    pub(super) fn over(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(Counted { file, gauge: self.clone() })
    }
}

#[derive(Debug)]
struct Counted {
    file: Box<dyn DiskFile>,
    gauge: Gauge,
}

impl DiskFile for Counted {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        let count = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        self.gauge.inner.written.fetch_add(count, Ordering::AcqRel);
        self.file.write_at(offset, octets)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::disk::Open;
    use crate::sys::{Disk as _, SimulatedDisk};

    #[test]
    fn a_measure_counts_for_a_while_less_what_was_written_since() {
        let at = |millis| MonoTime::from_start(Duration::from_millis(millis));
        let (gauge, disk) = (Gauge::default(), SimulatedDisk::new(1));
        let file = gauge.over(disk.open(Path::new("/file"), Open::New).unwrap());
        assert_eq!(gauge.told(at(0)), None);
        file.write_at(0, &[0; 10]).unwrap();
        assert_eq!(gauge.measured(at(0), || Ok::<_, ()>(1000)), Ok(1000));
        assert_eq!(gauge.told(at(199)), Some(1000));
        file.write_at(0, &[0; 10]).unwrap();
        assert_eq!(gauge.told(at(199)), Some(990));
        file.write_at(0, &[0; 2000]).unwrap();
        assert_eq!((gauge.told(at(199)), gauge.told(at(200))), (Some(0), None));
        assert_eq!(gauge.measured(at(100), || Err::<u64, _>(())), Err(()));
        assert_eq!(gauge.told(at(100)), None, "nobody knows");
    }
}
