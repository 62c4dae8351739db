//! The disk seam. (Owned by the queue's author.)
