//! Ranges of addresses: the pure core.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses in CIDR notation, such as `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The first address, as a number; an IPv4 address uses the low 32 bits.
    first: u128,
    prefix: u8,
    ipv4: bool,
}

/// Why a text is not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct ParseCidrError(String);

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let invalid = || ParseCidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let (number, ipv4) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        let cidr = Cidr {
            first: number,
            prefix,
            ipv4,
        };
        if prefix > cidr.bits() {
            return Err(invalid());
        }
        Ok(Cidr {
            first: number & !(cidr.size(prefix) - 1),
            ..cidr
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = if self.ipv4 {
            IpAddr::V4(Ipv4Addr::from(
                u32::try_from(self.first).unwrap_or(u32::MAX),
            ))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.first))
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

impl Cidr {
    fn bits(&self) -> u8 {
        if self.ipv4 { 32 } else { 128 }
    }

    /// How many addresses a range with that prefix has; the largest power of two for a prefix of
    /// zero in IPv6, where the true number does not fit.
    fn size(&self, prefix: u8) -> u128 {
        1u128
            .checked_shl(u32::from(self.bits() - prefix))
            .unwrap_or(1 << 127)
    }

    /// Whether any address is in both.
    pub(crate) fn overlaps(&self, other: &Cidr) -> bool {
        let prefix = self.prefix.min(other.prefix);
        let mask = !(self.size(prefix) - 1);
        self.ipv4 == other.ipv4 && (prefix == 0 || self.first & mask == other.first & mask)
    }

    /// Whether all addresses of the other are in this one.
    pub(crate) fn covers(&self, other: &Cidr) -> bool {
        self.prefix <= other.prefix && self.overlaps(other)
    }

    /// Whether the address is in the range and neither its first nor, in IPv4, its last.
    pub(crate) fn contains_host(&self, address: IpAddr) -> bool {
        let (number, ipv4) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), true),
            IpAddr::V6(address) => (u128::from(address), false),
        };
        let only = Cidr {
            first: number,
            prefix: if ipv4 { 32 } else { 128 },
            ipv4,
        };
        let is_last = || ipv4 && number == self.first + (self.size(self.prefix) - 1);
        self.covers(&only) && number != self.first && !is_last()
    }

    /// The first part of that prefix length that overlaps with none of `used`.
    pub(crate) fn first_free(&self, mask: u8, used: &HashSet<Cidr>) -> Option<Cidr> {
        if mask < self.prefix || mask > self.bits() {
            return None;
        }
        let step = self.size(mask);
        // More than 2^16 parts is more than upstream allows.
        let parts = 1u32 << u32::from(mask - self.prefix).min(16);
        let inside: Vec<&Cidr> = used.iter().filter(|used| used.overlaps(self)).collect();
        (0..parts)
            .map(|part| Cidr {
                first: self.first + step * u128::from(part),
                prefix: mask,
                ipv4: self.ipv4,
            })
            .find(|part| !used.contains(part) && !inside.iter().any(|used| used.overlaps(part)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_cover_ranges_and_hosts() {
        for (range, other, expected) in [
            ("10.0.0.0/16", "10.0.1.0/24", true),
            ("10.0.1.0/24", "10.0.0.0/16", false),
            ("10.0.0.0/16", "10.0.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "fd00::/64", true),
            ("::/0", "10.0.0.0/8", false),
        ] {
            assert_eq!(
                cidr(range).covers(&cidr(other)),
                expected,
                "{range} {other}"
            );
        }
        for (range, address, expected) in [
            ("10.0.0.0/24", "10.0.0.0", false),
            ("10.0.0.0/24", "10.0.0.1", true),
            ("10.0.0.0/24", "10.0.0.255", false),
            ("10.0.0.0/24", "10.0.1.1", false),
            ("10.0.0.0/32", "10.0.0.0", false),
            ("fd00::/64", "fd00::", false),
            ("fd00::/64", "fd00::ffff:ffff:ffff:ffff", true),
            ("fd00::/64", "10.0.0.1", false),
        ] {
            let address = address.parse().unwrap();
            assert_eq!(
                cidr(range).contains_host(address),
                expected,
                "{range} {address}"
            );
        }
    }

    #[test]
    fn text_is_read_and_written() {
        for text in [
            "10.244.0.0/16",
            "0.0.0.0/0",
            "fd00::/48",
            "::/0",
            "10.0.0.1/32",
        ] {
            assert_eq!(cidr(text).to_string(), text);
        }
        assert_eq!(cidr("10.244.3.7/16").to_string(), "10.244.0.0/16");
        for text in ["", "10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_given_out_in_order_until_none_is_left() {
        let cluster = cidr("10.244.0.0/22");
        let mut used = HashSet::new();
        let mut given = Vec::new();
        while let Some(part) = cluster.first_free(24, &used) {
            used.insert(part);
            given.push(part.to_string());
        }
        assert_eq!(
            given,
            [
                "10.244.0.0/24",
                "10.244.1.0/24",
                "10.244.2.0/24",
                "10.244.3.0/24"
            ]
        );
        used.remove(&cidr("10.244.1.0/24"));
        assert_eq!(cluster.first_free(24, &used), Some(cidr("10.244.1.0/24")));
        assert_eq!(
            cluster.first_free(24, &HashSet::from([cidr("10.244.0.0/23")])),
            Some(cidr("10.244.2.0/24"))
        );
        assert_eq!(
            cidr("fd00::/48").first_free(64, &HashSet::new()),
            Some(cidr("fd00::/64"))
        );
    }

    proptest! {
        #[test]
        fn no_address_is_ever_given_out_twice(frees in proptest::collection::vec(0usize..16, 0..60)) {
            let cluster = cidr("10.244.0.0/20");
            let mut used = Vec::new();
            for free in frees {
                match cluster.first_free(24, &used.iter().copied().collect()) {
                    Some(part) => {
                        prop_assert!(used.iter().all(|known: &Cidr| !known.overlaps(&part)));
                        prop_assert!(part.overlaps(&cluster));
                        used.push(part);
                    }
                    None => prop_assert_eq!(used.len(), 16),
                }
                if free < used.len() && free % 3 == 0 {
                    used.remove(free);
                }
            }
        }
    }
}
