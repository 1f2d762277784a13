//! Links the programs with packed relocations where the C library can read them.
//!
//! A program of this size has tens of thousands of addresses to fill in at start.
//! The list of them takes 9 kB packed (`DT_RELR`), and more than a megabyte
//! otherwise, all of which stays in an idle server's memory. glibc reads it
//! since 2.36.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-env-changed=TARGET");
    let (host, target) = (env::var("HOST"), env::var("TARGET"));
    if host == target
        && target.as_deref() == Ok("x86_64-unknown-linux-gnu")
        && c_library() >= Some((2, 36))
    {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, where the programs are going to run.
fn c_library() -> Option<(u32, u32)> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, rest) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = rest.split('.').next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
