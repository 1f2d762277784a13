//! What runtime and shim say to each other on the shim's socket.
//!
//! A client sends one line. `kill N` and `reopen` are answered with `ok` or `error …` and done.
//! `watch` is answered with `ok`, and with the exit as JSON when the container ended. `attach IOE`,
//! each letter `0` or `1` for standard input, output and error, is answered with `ok` and then
//! frames go both ways: a byte for the kind, four bytes big-endian for the length, the content.

/// Content for standard input. From the client.
pub(crate) const STDIN: u8 = 0;
/// Content of standard output. From the shim.
pub(crate) const STDOUT: u8 = 1;
/// Content of standard error. From the shim.
pub(crate) const STDERR: u8 = 2;
/// The terminal's width and height, two bytes each. From the client.
pub(crate) const RESIZE: u8 = 3;
/// The exit code, four bytes. From the shim, at the end; 0 for a client whose input has ended while the container goes on.
pub(crate) const EXIT: u8 = 4;
/// No more standard input will come. From the client.
pub(crate) const STDIN_END: u8 = 5;

/// The longest content of a frame.
pub(crate) const MAX_FRAME: usize = 64 << 10;

/// The length of a frame's head.
pub(crate) const HEAD: usize = 5;

/// A frame's head.
pub(crate) fn head(kind: u8, length: usize) -> [u8; HEAD] {
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [kind, a, b, c, d]
}

/// Reads a frame's head: kind and length.
pub(crate) fn parse_head(head: [u8; HEAD]) -> (u8, usize) {
    let [kind, a, b, c, d] = head;
    (
        kind,
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX),
    )
}
