//! What the machine says about itself.

use std::{fs, net::IpAddr, path::Path};

use k8s_openapi::api::core::v1::NodeSystemInfo;

/// What a machine offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: u64,
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

impl Machine {
    pub(crate) fn this() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Self {
            cpus,
            memory_bytes: meminfo("MemTotal").unwrap_or(1 << 30),
        }
    }
}

/// A line of `/proc/meminfo`, in bytes.
pub(crate) fn meminfo(name: &str) -> Option<u64> {
    let text = read("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The CPU time that all of the machine's processors have worked, in nanoseconds.
pub(crate) fn cpu_nanos() -> Option<u64> {
    busy(read("/proc/stat").lines().next()?)
}

/// Of the first line of `/proc/stat`: all but idling, waiting for disks and what other machines took
/// of the processors. What guests took is in
/// the time of users already. The unit is a hundredth of a second wherever Linux runs.
fn busy(line: &str) -> Option<u64> {
    let fields = line.strip_prefix("cpu ")?.split_whitespace().take(7);
    let ticks: Vec<u64> = fields.map_while(|f| f.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some((ticks.iter().sum::<u64>() - idle) * 10_000_000)
}

/// The memory of the machine that cannot be had without taking it from somebody, in bytes.
pub(crate) fn working_set() -> Option<u64> {
    Some(meminfo("MemTotal")?.saturating_sub(meminfo("MemAvailable")?))
}

/// How many processes there are and can be.
pub(crate) fn pids() -> Option<(u64, u64)> {
    let running = read("/proc/loadavg")
        .split(' ')
        .nth(3)?
        .split('/')
        .nth(1)?
        .parse()
        .ok()?;
    let max = read("/proc/sys/kernel/pid_max").parse().ok()?;
    Some((running, max))
}

/// The architecture in Go's words, as labels have it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The machine's own address: the one that its traffic to elsewhere comes from.
pub(crate) fn address() -> Option<IpAddr> {
    // Nothing is sent: connecting a datagram socket only chooses a route.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The size of the file system that holds this path, in bytes.
pub(crate) fn disk_bytes(path: &Path) -> Option<u64> {
    let fs = nix::sys::statvfs::statvfs(path).ok()?;
    Some(fs.blocks() * fs.fragment_size())
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    read("/proc/sys/kernel/hostname").to_lowercase()
}

/// `nodeInfo` of a node's status.
pub(crate) fn system_info(runtime_name: &str, runtime_version: &str) -> NodeSystemInfo {
    let os_release = read("/etc/os-release");
    let os_image = os_release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .unwrap_or("Linux")
        .trim_matches('"');
    let version = format!("v1.37.0+rust-{}", env!("CARGO_PKG_VERSION"));
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{runtime_name}://{runtime_version}"),
        kernel_version: read("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: version,
        machine_id: read("/etc/machine-id"),
        operating_system: "linux".to_owned(),
        os_image: os_image.to_owned(),
        system_uuid: read("/sys/class/dmi/id/product_uuid"),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idling_and_waiting_for_disks_is_no_work() {
        let line = "cpu  100 20 30 4000 500 6 7 8 90 0";
        assert_eq!(busy(line), Some(163 * 10_000_000));
        assert_eq!((busy("cpu0 1 2 3 4 5"), busy("cpu 1 2 3")), (None, None));
        assert!(cpu_nanos().is_some() && working_set().is_some());
    }
}
