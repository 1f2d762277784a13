//! [`Cidr`]: a range that cluster addresses come from. [`Family`]: what they are of.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
    str::FromStr,
};

/// A range of addresses of one family, as in `10.96.0.0/16` or `fd00:10:96::/112`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    bits: u32,
}

/// A text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range such as 10.96.0.0/16 (/8 to /30) or fd00:10:96::/112 (/64 to /126)")]
pub struct ParseCidrError(String);

/// The families of addresses, as Services spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|family| family.name() == text)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// How many bits its addresses have.
    fn width(self) -> u32 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// An address from its number.
    pub(crate) fn address(self, number: u128) -> IpAddr {
        match self {
            // Ranges end where addresses do.
            Self::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Self::V6 => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

impl Cidr {
    /// The first address after the network's own: upstream's choice for the `kubernetes` Service.
    pub fn first_host(&self) -> IpAddr {
        self.family().address(self.first() + 1)
    }

    /// An address by its position in the range; DNS is usually the tenth.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        (u128::from(n) < self.size()).then(|| self.family().address(self.first() + u128::from(n)))
    }

    /// Whether the address is in the range and not the first (the network's), nor, of IPv4, the last (its broadcast).
    pub fn contains_host(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && self.hosts().contains(&number(address))
    }

    /// A range of a ServiceCIDR: as small or large as it likes, but for the 64 bits that upstream hands out of IPv6 at most.
    pub(crate) fn of_any_size(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let family = Family::of(address);
        let shortest = match family {
            Family::V4 => 0,
            Family::V6 => 64,
        };
        let bits = bits.parse().ok();
        let bits: u32 = bits.filter(|bits| (shortest..=family.width()).contains(bits))?;
        let mask = u128::MAX.checked_shl(family.width() - bits).unwrap_or(0);
        Some(Cidr {
            network: family.address(number(address) & mask),
            bits,
        })
    }

    pub(crate) fn family(&self) -> Family {
        Family::of(self.network)
    }

    fn first(&self) -> u128 {
        number(self.network)
    }

    fn size(&self) -> u128 {
        1 << (self.family().width() - self.bits)
    }

    /// All but the first and, of IPv4, the last; none in a range of one or two.
    pub(crate) fn hosts(&self) -> Range<u128> {
        let first = self.first() + 1;
        let last = match self.family() {
            Family::V4 => self.first() + self.size() - 1,
            Family::V6 => self.first().saturating_add(self.size()),
        };
        first..last.max(first)
    }

    /// The hosts in two parts: those that are handed out, and those that are for whoever chooses an address himself and
    /// are handed out last (KEP-3070). Upstream's `calculateRangeOffset`: a sixteenth of the range, between 16 and 256
    /// addresses; nothing of a range of 16 or fewer.
    pub(crate) fn parts(&self) -> [Range<u128>; 2] {
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
            network: Ipv4Addr::new(10, 96, 0, 0).into(),
            bits: 16,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = ParseCidrError;

    fn from_str(text: &str) -> Result<Self, ParseCidrError> {
        let cidr = Cidr::of_any_size(text).filter(|cidr| match cidr.family() {
            Family::V4 => (8..=30).contains(&cidr.bits),
            Family::V6 => cidr.bits <= 126,
        });
        cidr.ok_or_else(|| ParseCidrError(text.to_owned()))
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
        let cidr: Cidr = "fd00:10:96::5/124".parse().unwrap();
        assert_eq!(cidr.to_string(), "fd00:10:96::/124");
        assert_eq!(cidr.first_host().to_string(), "fd00:10:96::1");
        assert_eq!(cidr.nth(15).unwrap().to_string(), "fd00:10:96::f");
        assert_eq!(cidr.nth(16), None);
        assert!(!cidr.contains_host("fd00:10:96::".parse().unwrap()));
        assert!(cidr.contains_host("fd00:10:96::f".parse().unwrap()));
        assert!(!cidr.contains_host("fd00:10:96::10".parse().unwrap()));
        // Numbers alone say nothing of the family.
        let low: Cidr = "::a60:0/112".parse().unwrap();
        assert!(!low.contains_host("10.96.0.1".parse().unwrap()));
        for bad in [
            "10.0.0.0",
            "10.0.0.0/31",
            "x/8",
            "::/63",
            "::/127",
            "10.0.0.0/0",
            "::ffff:10.0.0.0/8",
            "fd00::%1/64",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_of_service_cidrs_may_be_of_any_size() {
        let hosts = |text: &str| {
            let [upper, lower] = Cidr::of_any_size(text).unwrap().parts();
            let count = |part: &Range<u128>| part.end - part.start;
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
            ("fd00::/128", (0, 0)),
            ("fd00::/127", (1, 0)),
            ("fd00::/124", (15, 0)),
            ("fd00::/123", (15, 16)),
            ("fd00::/112", (65_279, 256)),
            ("fd00::/64", ((1 << 64) - 257, 256)),
            ("ffff:ffff:ffff:ffff::/64", ((1 << 64) - 258, 256)),
        ] {
            assert_eq!(hosts(text), expected, "{text}");
        }
        let whole = Cidr::of_any_size("0.0.0.0/0").unwrap();
        assert!(whole.contains_host("255.255.255.254".parse().unwrap()));
        assert!(!whole.contains_host("255.255.255.255".parse().unwrap()));
        assert!(!whole.contains_host("0.0.0.0".parse().unwrap()));
        for other in ["fd00::/63", "fd00::/129", "10.0.0.0", "10.0.0.0/33", "x/8"] {
            assert_eq!(Cidr::of_any_size(other), None, "{other}");
        }
    }
}
