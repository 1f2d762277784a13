//! Micro-benchmarks and the side-by-side comparison with upstream.
