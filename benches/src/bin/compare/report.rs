//! [`Report`]: the table at the end.

use crate::figures::{Better, Figures};

/// What was measured, round by round.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) ours: Vec<Figures>,
    pub(crate) peer: Vec<Figures>,
}

impl Report {
    /// Prints the median of all rounds, and that of the rounds' ratios.
    #[expect(clippy::print_stdout, reason = "what the program is for")]
    pub(crate) fn print(&self) {
        let Some(first) = self.ours.first() else {
            return;
        };
        if self.peer.is_empty() {
            println!("{:50} {:>12}", "", "ours");
        } else {
            println!("{:50} {:>12} {:>12} {:>8}", "", "ours", "upstream", "ratio");
        }
        for figure in &first.0 {
            let all = |rounds: &[Figures]| -> Vec<f64> {
                rounds.iter().filter_map(|r| r.of(&figure.what)).collect()
            };
            let (ours, peer) = (all(&self.ours), all(&self.peer));
            let what = format!("{}, {}", figure.what, figure.unit);
            let ratios = ours
                .iter()
                .zip(&peer)
                .map(|(ours, peer)| match figure.better {
                    Better::More => ours / peer,
                    Better::Less => peer / ours,
                });
            let ours = median(ours.clone()).unwrap_or_default();
            match (median(peer.clone()), median(ratios.collect())) {
                (Some(peer), Some(ratio)) if ratio.is_finite() => {
                    println!("{what:50} {ours:12.1} {peer:12.1} {ratio:7.1}x");
                }
                // Of nothing there is no ratio.
                (Some(peer), _) => println!("{what:50} {ours:12.1} {peer:12.1}"),
                (None, _) => println!("{what:50} {ours:12.1}"),
            }
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
