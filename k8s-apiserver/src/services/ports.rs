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

    pub(crate) fn contains(&self, port: i32) -> bool {
        u16::try_from(port).is_ok_and(|p| self.0.contains(&p))
    }

    /// A random port that is free, if there is one.
    pub(crate) fn pick(
        &self,
        random: &mut fastrand::Rng,
        free: impl Fn(i32) -> bool,
    ) -> Option<i32> {
        if self.0.is_empty() {
            return None;
        }
        let (first, last) = (i32::from(*self.0.start()), i32::from(*self.0.end()));
        let start = random.i32(first..=last);
        (start..=last).chain(first..start).find(|port| free(*port))
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
}
