//! [`IpCidr`]: a network prefix.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use crate::Error;

/// A network prefix such as `10.244.0.0/24`, with the bits behind the prefix cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpCidr {
    network: IpAddr,
    prefix: u8,
}

impl IpCidr {
    /// The prefix of this length that holds the address.
    ///
    /// # Errors
    /// If the length is larger than the address.
    pub fn new(addr: IpAddr, prefix: u8) -> Result<Self, Error> {
        let width = width(addr);
        if prefix > width {
            return Err(Error::InvalidConfig(format!(
                "invalid prefix length in {addr}/{prefix}"
            )));
        }
        let network = from_bits(to_bits(addr) & !host_mask(width, prefix), addr.is_ipv4());
        Ok(Self { network, prefix })
    }

    /// Its first address, which names the network.
    pub fn network(&self) -> IpAddr {
        self.network
    }

    /// The length of the prefix in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.network.is_ipv4()
            && to_bits(addr) & !host_mask(width(addr), self.prefix) == to_bits(self.network)
    }

    /// The address at an offset from the first; `None` beyond the end.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset <= host_mask(width(self.network), self.prefix))
            .then(|| from_bits(to_bits(self.network) + offset, self.network.is_ipv4()))
    }

    /// The offset of an address from the first; `None` if it lies elsewhere.
    pub fn offset(&self, addr: IpAddr) -> Option<u128> {
        self.contains(addr)
            .then(|| to_bits(addr) - to_bits(self.network))
    }

    /// The offset of the last address.
    pub fn last_offset(&self) -> u128 {
        host_mask(width(self.network), self.prefix)
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn host_mask(width: u8, prefix: u8) -> u128 {
    let bits = u32::from(width - prefix);
    if bits == 128 {
        u128::MAX
    } else {
        (1u128 << bits) - 1
    }
}

fn to_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a v4 address was widened from 32 bits"
)]
fn from_bits(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
    } else {
        IpAddr::V6(Ipv6Addr::from_bits(bits))
    }
}

impl fmt::Display for IpCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for IpCidr {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidConfig(format!("invalid CIDR address: {s}"));
        let (addr, prefix) = s.split_once('/').ok_or_else(invalid)?;
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        Self::new(addr, prefix.parse().map_err(|_| invalid())?).map_err(|_| invalid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing_clears_host_bits_and_refuses_nonsense() {
        assert_eq!(
            "10.244.3.7/24".parse::<IpCidr>().unwrap().to_string(),
            "10.244.3.0/24"
        );
        assert_eq!(
            "fd00::1/64".parse::<IpCidr>().unwrap().to_string(),
            "fd00::/64"
        );
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "x/8",
            "fd00::/129",
            "10.0.0.0/-1",
        ] {
            assert!(bad.parse::<IpCidr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn offsets_and_addresses_are_inverse() {
        let cidr: IpCidr = "10.1.0.0/16".parse().unwrap();
        assert_eq!(cidr.nth(257).unwrap().to_string(), "10.1.1.1");
        assert_eq!(cidr.offset("10.1.1.1".parse().unwrap()), Some(257));
        assert_eq!(cidr.offset("10.2.0.0".parse().unwrap()), None);
        assert_eq!(cidr.nth(65536), None);
        assert_eq!("::/0".parse::<IpCidr>().unwrap().last_offset(), u128::MAX);
    }
}
