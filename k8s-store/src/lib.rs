//! A revisioned key-value store with watch: bytes in, bytes out.
mod store;
