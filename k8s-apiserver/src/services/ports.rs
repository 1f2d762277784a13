//! [`NodePortRange`]: the range that node ports come from.

use std::{fmt, ops::RangeInclusive};

/// The range that node ports come from; 30000-32767 by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortRange(RangeInclusive<u16>);

impl NodePortRange {
    /// The ports of a range. An empty one hands out nothing.
    pub fn new(ports: RangeInclusive<u16>) -> Self {
        NodePortRange(ports)
    }

    pub(crate) fn size(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn contains(&self, port: i32) -> bool {
        u16::try_from(port).is_ok_and(|p| self.0.contains(&p))
    }

    /// How many ports at the start are for those that somebody chooses (KEP-3668): upstream's `calculateRangeOffset`, a
    /// thirty-second of the range, between 16 and 128.
    fn lower(&self) -> i32 {
        match i32::try_from(self.0.len()).unwrap_or(0) {
            ..=16 => 0,
            size => (size / 32).clamp(16, 128),
        }
    }

    /// A random port that is free, if there is one: from the lower part only when the upper one is full.
    pub(crate) fn pick(
        &self,
        random: &mut fastrand::Rng,
        free: impl Fn(i32) -> bool,
    ) -> Option<i32> {
        if self.0.is_empty() {
            return None;
        }
        let (first, last) = (i32::from(*self.0.start()), i32::from(*self.0.end()));
        let upper = first + self.lower();
        let mut from = |first: i32, last: i32| {
            let start = random.i32(first..=last);
            (start..=last).chain(first..start).find(|port| free(*port))
        };
        let found = from(upper, last);
        found.or_else(|| (upper > first).then(|| from(first, upper - 1)).flatten())
    }
}

impl Default for NodePortRange {
    fn default() -> Self {
        NodePortRange(30000..=32767)
    }
}

impl fmt::Display for NodePortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.start(), self.0.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_free_port_is_found() {
        let range = NodePortRange::new(30000..=30003);
        let mut random = fastrand::Rng::with_seed(3);
        let mut taken = Vec::new();
        while let Some(port) = range.pick(&mut random, |p| !taken.contains(&p)) {
            taken.push(port);
        }
        taken.sort_unstable();
        assert_eq!(taken, [30000, 30001, 30002, 30003]);
        assert_eq!(range.to_string(), "30000-30003");
    }

    #[test]
    fn the_lower_ports_are_left_to_those_who_choose() {
        for (range, lower) in [
            (30000..=30015, 0),
            (30000..=30016, 16),
            (30000..=31023, 32),
            (30000..=32767, 86),
            (20000..=32767, 128),
        ] {
            assert_eq!(NodePortRange::new(range).lower(), lower);
        }
        let range = NodePortRange::new(30000..=30019);
        let mut random = fastrand::Rng::with_seed(3);
        let mut taken = Vec::new();
        while let Some(port) = range.pick(&mut random, |p| !taken.contains(&p)) {
            taken.push(port);
        }
        let (upper, lower) = taken.split_at(4);
        assert!(upper.iter().all(|port| *port >= 30016), "{upper:?}");
        assert!(lower.iter().all(|port| *port < 30016), "{lower:?}");
        assert_eq!(taken.len(), 20);
    }
}
