//! What lies between the store and the disk: a file as redb wants it, and what a fault of either means for whoever waits.

use std::io;

use super::QueueError;
use super::tables::DiskFault;
use crate::sys::DiskFile;

impl From<DiskFault> for QueueError {
    fn from(DiskFault(fault): DiskFault) -> Self {
        if let redb::Error::Io(fault) = &fault {
            return Self::from_io(fault);
        }
        Self::Broken(fault.to_string())
    }
}

impl QueueError {
    /// Want of space is for the client to wait out; anything else is for the operator.
    pub(super) fn from_io(fault: &io::Error) -> Self {
        if matches!(fault.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::Full(format!("no room is left on the disk of data_dir ({fault})"));
        }
        Self::Broken(fault.to_string())
    }
}

/// A disk file as redb wants it.
#[derive(Debug)]
pub(super) struct Storage(pub(super) Box<dyn DiskFile>);

impl redb::StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_length(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, octets)
    }
}
