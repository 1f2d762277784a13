//! [`Cidr`]: the range that cluster addresses come from.

use std::{fmt, net::Ipv4Addr, ops::Range, str::FromStr};

/// A range of IPv4 addresses, as in `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    network: u32,
    bits: u32,
}

/// A text that is no range of IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.96.0.0/16 with at least 4 addresses")]
pub struct ParseCidrError(String);

impl Cidr {
    /// The first address after the network's own: upstream's choice for the `kubernetes` Service.
    pub fn first_host(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1)
    }

    /// An address by its position in the range; DNS is usually the tenth.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        (u64::from(n) < self.size()).then(|| Ipv4Addr::from(self.network + n))
    }

    /// Whether the address is in the range and neither the first (the network's) nor the last (its
    /// broadcast).
    pub fn contains_host(&self, address: Ipv4Addr) -> bool {
        self.hosts().contains(&u64::from(u32::from(address)))
    }

    /// A range of a ServiceCIDR: as small or large as it likes, and none if it is of the other family.
    pub(crate) fn of_any_size(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
        Some(Cidr {
            network: u32::from(address) & mask,
            bits,
        })
    }

    fn size(&self) -> u64 {
        1 << (32 - self.bits)
    }

    /// All but the first and the last; none in a range of one or two.
    pub(crate) fn hosts(&self) -> Range<u64> {
        let first = u64::from(self.network) + 1;
        first..(first + self.size()).saturating_sub(2).max(first)
    }

    /// The hosts in two parts: those that are handed out, and those that are for whoever chooses an address himself and
    /// are handed out last (KEP-3070). Upstream's `calculateRangeOffset`: a sixteenth of the range, between 16 and 256
    /// addresses; nothing of a range of 16 or fewer.
    pub(crate) fn parts(&self) -> [Range<u64>; 2] {
        let hosts = self.hosts();
        let lower = match self.size() {
            ..=16 => 0,
            size => (size / 16).clamp(16, 256),
        };
        let middle = hosts.start + lower;
        [middle..hosts.end, hosts.start..middle]
    }
}

impl Default for Cidr {
    /// `10.96.0.0/16`.
    fn default() -> Self {
        Cidr {
            network: u32::from(Ipv4Addr::new(10, 96, 0, 0)),
            bits: 16,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.bits)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let bad = || ParseCidrError(text.to_owned());
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let bits: u32 = bits.parse().map_err(|_| bad())?;
        if !(8..=30).contains(&bits) {
            return Err(bad());
        }
        let mask = u32::MAX << (32 - bits);
        Ok(Cidr {
            network: u32::from(address) & mask,
            bits,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_its_hosts() {
        let cidr: Cidr = "10.96.0.5/28".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.96.0.0/28");
        assert_eq!(cidr.first_host().to_string(), "10.96.0.1");
        assert!(!cidr.contains_host("10.96.0.0".parse().unwrap()));
        assert!(cidr.contains_host("10.96.0.14".parse().unwrap()));
        assert!(!cidr.contains_host("10.96.0.15".parse().unwrap()));
        for bad in ["10.0.0.0", "10.0.0.0/31", "x/8", "::/64", "10.0.0.0/0"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_of_service_cidrs_may_be_of_any_size() {
        let hosts = |text: &str| {
            let [upper, lower] = Cidr::of_any_size(text).unwrap().parts();
            let count = |part: &Range<u64>| part.end - part.start;
            (count(&upper), count(&lower))
        };
        for (text, expected) in [
            ("10.0.0.0/32", (0, 0)),
            ("10.0.0.0/31", (0, 0)),
            ("10.0.0.0/30", (2, 0)),
            ("10.0.0.0/28", (14, 0)),
            ("10.0.0.0/27", (14, 16)),
            ("10.0.0.0/24", (238, 16)),
            ("10.0.0.0/22", (958, 64)),
            ("10.0.0.0/20", (3838, 256)),
            ("255.255.255.0/24", (238, 16)),
            ("0.0.0.0/0", (4_294_967_038, 256)),
        ] {
            assert_eq!(hosts(text), expected, "{text}");
        }
        let whole = Cidr::of_any_size("0.0.0.0/0").unwrap();
        assert!(whole.contains_host("255.255.255.254".parse().unwrap()));
        assert!(!whole.contains_host("255.255.255.255".parse().unwrap()));
        assert!(!whole.contains_host("0.0.0.0".parse().unwrap()));
        for other in ["::/64", "2001:db8::/108", "10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert_eq!(Cidr::of_any_size(other), None, "{other}");
        }
    }
}
