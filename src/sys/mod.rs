//! The seams to the world: time, disk, randomness. Each has a real and a simulated form.
//!
//! Everything else takes these as arguments, so that expiry, retry, crash and power-cut tests need no waiting and a
//! seed replays. Never: decides anything about mail.

pub mod backlog;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod receive;
pub mod steps;
pub mod tasks;
pub mod throttle;

pub use backlog::Backlog;
pub use clock::{Clock, ManualClock, MonoTime, Now, SystemClock, WallTime};
pub use disk::{Disk, DiskFile, SimulatedDisk, SystemDisk};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use steps::{Step, Steps};
pub use tasks::{Drain, Tasks};
pub use throttle::Throttle;
