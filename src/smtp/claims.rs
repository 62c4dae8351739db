//! What must hold for any octets whatever.
