//! [`Cidr`]: the range that cluster addresses come from.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// A range of IPv4 addresses, as in `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        (n < self.size()).then(|| Ipv4Addr::from(self.network + n))
    }

    /// Whether the address is in the range and neither the first (the network's) nor the last (its
    /// broadcast).
    pub fn contains_host(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        address > self.network && address < self.network + (self.size() - 1)
    }

    fn size(&self) -> u32 {
        1 << (32 - self.bits).min(31)
    }

    /// Upstream's `calculateRangeOffset`: a sixteenth of the range, between 16 and 256 addresses.
    fn lower(&self) -> u32 {
        let hosts = self.size() - 2;
        if hosts <= 16 {
            0
        } else {
            (hosts / 16).clamp(16, 256)
        }
    }

    pub(crate) fn random_upper(&self, random: &mut fastrand::Rng) -> Ipv4Addr {
        Ipv4Addr::from(self.network + 1 + random.u32(self.lower()..self.size() - 2))
    }

    /// All addresses, those above the lower part first.
    pub(crate) fn hosts_from_upper(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let (network, lower, hosts) = (self.network, self.lower(), self.size() - 2);
        (lower..hosts)
            .chain(0..lower)
            .map(move |n| Ipv4Addr::from(network + 1 + n))
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
        assert_eq!(cidr.hosts_from_upper().count(), 14);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            assert!(cidr.contains_host(cidr.random_upper(&mut random)));
        }
        for bad in ["10.0.0.0", "10.0.0.0/31", "x/8", "::/64", "10.0.0.0/0"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
