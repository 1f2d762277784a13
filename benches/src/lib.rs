//! Micro-benchmarks and the side-by-side comparison with upstream.
//!
//! - `cargo bench -p benches` runs the micro-benchmarks, one for each hot path.
//! - `cargo run --profile dist -p benches --bin compare` drives an API server with the same requests as upstream's, and
//!   prints both and the ratio where `--peer-apiserver` and `--peer-etcd` are given: single requests, watch fan-out,
//!   memory of idle watches and of many objects, writes beside more objects and watchers, requests in process. `--part` chooses some.
