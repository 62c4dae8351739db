//! Recipients to upstream groups.
