//! What the kernel knows of this process: the `process_*` metrics that every Prometheus client has.

use std::fs;

use super::Writer;

/// Ticks in a second, in `/proc/PID/stat`: Linux has had no other for user space since 2.4.
const TICKS: f64 = 100.0;
/// Bytes in a page, as `/proc/PID/stat` counts memory. Where pages are larger, the kernel says so in `smaps` alone.
const PAGE: f64 = 4096.0;

/// What the kernel knows of this process.
#[derive(Debug, PartialEq)]
pub(super) struct Process {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_seconds: f64,
    open_files: f64,
    max_files: Option<f64>,
}

impl Process {
    /// Reads it; nothing where there is no `/proc`.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let system = fs::read_to_string("/proc/stat").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let open = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count());
        parse(&stat, &system, &limits, open)
    }

    pub(super) fn write(&self, out: &mut Writer) {
        let mut one = |name: &str, kind: &str, help: &str, value: f64| {
            out.family(name, kind, help);
            out.sample("", "", value);
        };
        one(
            "process_cpu_seconds_total",
            "counter",
            "Total user and system CPU time spent in seconds.",
            self.cpu_seconds,
        );
        if let Some(most) = self.max_files {
            one(
                "process_max_fds",
                "gauge",
                "Maximum number of open file descriptors.",
                most,
            );
        }
        one(
            "process_open_fds",
            "gauge",
            "Number of open file descriptors.",
            self.open_files,
        );
        one(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            self.resident_bytes,
        );
        one(
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            self.start_seconds,
        );
        one(
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            self.virtual_bytes,
        );
    }
}

fn parse(stat: &str, system: &str, limits: &str, open: usize) -> Option<Process> {
    // The name, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    // Counted from the third field on, as proc(5) numbers them.
    let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
    let boot: f64 = (system.lines())
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    let max_files = (limits.lines())
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        resident_bytes: field(24)? * PAGE,
        virtual_bytes: field(23)?,
        start_seconds: boot + field(22)? / TICKS,
        // One of them is the folder itself.
        open_files: open.saturating_sub(1) as f64,
        max_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_become_seconds_and_bytes() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 9 0 0 0 250 50 0 0 20 0 8 0 3000 1048576 100 18446744073709551615";
        let process = parse(
            stat,
            "cpu 1\nbtime 1700000000\n",
            "Max open files            1024                 4096                 files\n",
            9,
        );
        assert_eq!(
            process,
            Some(Process {
                cpu_seconds: 3.0,
                resident_bytes: 409_600.0,
                virtual_bytes: 1_048_576.0,
                start_seconds: 1_700_000_030.0,
                open_files: 8.0,
                max_files: Some(1024.0),
            })
        );
        assert_eq!(parse("nonsense", "", "", 0), None);
    }
}
