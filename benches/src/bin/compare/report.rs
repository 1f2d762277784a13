//! [`Report`]: the table at the end.

use crate::workload::Figures;

#[derive(Default)]
pub(crate) struct Report {
    /// Seconds from nothing to the first answer, in process.
    pub(crate) boot: f64,
    pub(crate) ours: Figures,
    pub(crate) peer: Option<Figures>,
}

/// A row: what it is, its unit, how to read it off, and whether less is better.
type Row = (&'static str, &'static str, fn(&Figures) -> f64, bool);

const ROWS: &[Row] = &[
    ("start to /readyz", "ms", |f| f.ready * 1e3, true),
    ("idle memory", "MB", |f| f.idle_memory / 1e6, true),
    (
        "create ConfigMaps",
        "/s",
        |f| f.create_config_maps.per_second,
        false,
    ),
    (
        "  server CPU each",
        "us",
        |f| f.create_config_maps.cpu * 1e6,
        true,
    ),
    ("create Pods", "/s", |f| f.create_pods.per_second, false),
    ("  server CPU each", "us", |f| f.create_pods.cpu * 1e6, true),
    ("GET a Pod", "/s", |f| f.get_pod.per_second, false),
    ("  server CPU each", "us", |f| f.get_pod.cpu * 1e6, true),
    ("LIST Pods", "MB/s", |f| f.list_pods.per_second / 1e6, false),
    ("  server CPU a MB", "us", |f| f.list_pods.cpu * 1e12, true),
    (
        "watch events delivered",
        "/s",
        |f| f.watch_events.per_second,
        false,
    ),
    (
        "  server CPU each",
        "us",
        |f| f.watch_events.cpu * 1e6,
        true,
    ),
    (
        "memory with all objects",
        "MB",
        |f| f.full_memory / 1e6,
        true,
    ),
];

impl Report {
    #[expect(clippy::print_stdout, reason = "what the program is for")]
    pub(crate) fn print(&self) {
        println!(
            "boot to first answer, in process: {:.1} ms",
            self.boot * 1e3
        );
        match &self.peer {
            None => println!("{:26} {:>12}", "", "ours"),
            Some(_) => println!("{:26} {:>12} {:>12} {:>8}", "", "ours", "upstream", "ratio"),
        }
        for (what, unit, read, less_is_better) in ROWS {
            let what = format!("{what}, {unit}");
            let ours = read(&self.ours);
            match &self.peer {
                None => println!("{what:26} {ours:12.1}"),
                Some(peer) => {
                    let peer = read(peer);
                    let ratio = if *less_is_better {
                        peer / ours
                    } else {
                        ours / peer
                    };
                    println!("{what:26} {ours:12.1} {peer:12.1} {ratio:7.1}x");
                }
            }
        }
    }
}
