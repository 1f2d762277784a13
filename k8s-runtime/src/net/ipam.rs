//! [`AddressPool`]: which sandbox has which address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::IpCidr;
use crate::Error;

/// The addresses of one prefix and who holds them.
///
/// The first address names the network, the second is the gateway's, and the last one of a v4
/// prefix is for broadcast; none of them is handed out. An address that was given back is used
/// again only when all later ones had their turn, so that a peer's stale connection does not meet
/// a new pod.
#[derive(Clone, Debug)]
pub struct AddressPool {
    cidr: IpCidr,
    next: u128,
    taken: BTreeSet<u128>,
    by_owner: BTreeMap<String, IpAddr>,
}

impl AddressPool {
    /// A pool with nothing taken.
    ///
    /// # Errors
    /// If the prefix is too small to hold a gateway and one more address.
    pub fn new(cidr: IpCidr) -> Result<Self, Error> {
        let pool = Self {
            cidr,
            next: 2,
            taken: BTreeSet::new(),
            by_owner: BTreeMap::new(),
        };
        if cidr.last_offset() < 2 || pool.last() < 2 {
            return Err(Error::InvalidConfig(format!(
                "pod CIDR {cidr} has no room for pods"
            )));
        }
        Ok(pool)
    }

    /// The prefix.
    pub fn cidr(&self) -> IpCidr {
        self.cidr
    }

    /// The gateway's address: the first one after the network's.
    pub fn gateway(&self) -> IpAddr {
        self.cidr.nth(1).unwrap_or(self.cidr.network())
    }

    /// The address that an owner holds.
    pub fn address(&self, owner: &str) -> Option<IpAddr> {
        self.by_owner.get(owner).copied()
    }

    /// Gives an owner an address; the same one if it has one already.
    ///
    /// # Errors
    /// When all are taken.
    pub fn allocate(&mut self, owner: &str) -> Result<IpAddr, Error> {
        if let Some(addr) = self.address(owner) {
            return Ok(addr);
        }
        let offset = (self.next..=self.last())
            .chain(2..self.next)
            .find(|o| !self.taken.contains(o))
            .ok_or_else(|| Error::Network(format!("no address left in {}", self.cidr)))?;
        let addr = self
            .cidr
            .nth(offset)
            .ok_or_else(|| Error::Network(format!("no address left in {}", self.cidr)))?;
        self.next = if offset >= self.last() { 2 } else { offset + 1 };
        self.taken.insert(offset);
        self.by_owner.insert(owner.to_owned(), addr);
        Ok(addr)
    }

    /// Notes that an owner holds an address already, as found after a restart.
    ///
    /// # Errors
    /// If it lies elsewhere or somebody else has it.
    pub fn reserve(&mut self, owner: &str, addr: IpAddr) -> Result<(), Error> {
        let offset = self
            .cidr
            .offset(addr)
            .filter(|o| (2..=self.last()).contains(o))
            .ok_or_else(|| {
                Error::Network(format!("{addr} can't be handed out from {}", self.cidr))
            })?;
        match self.by_owner.get(owner) {
            Some(a) if *a == addr => return Ok(()),
            Some(a) => return Err(Error::Network(format!("{owner} holds {a} already"))),
            None => {}
        }
        if !self.taken.insert(offset) {
            return Err(Error::Network(format!("{addr} is taken")));
        }
        self.by_owner.insert(owner.to_owned(), addr);
        if offset >= self.next {
            self.next = if offset >= self.last() { 2 } else { offset + 1 };
        }
        Ok(())
    }

    /// Who holds an address.
    pub(super) fn owners(&self) -> impl Iterator<Item = &str> {
        self.by_owner.keys().map(String::as_str)
    }

    /// Takes an owner's address back.
    pub fn release(&mut self, owner: &str) {
        if let Some(offset) = self
            .by_owner
            .remove(owner)
            .and_then(|a| self.cidr.offset(a))
        {
            self.taken.remove(&offset);
        }
    }

    fn last(&self) -> u128 {
        let last = self.cidr.last_offset();
        if self.cidr.network().is_ipv4() {
            last - 1
        } else {
            last
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn pool(cidr: &str) -> AddressPool {
        AddressPool::new(cidr.parse().unwrap()).unwrap()
    }

    #[test]
    fn an_owner_keeps_its_address_and_a_released_one_rests() {
        let mut pool = pool("10.0.0.0/29");
        let a = pool.allocate("a").unwrap();
        assert_eq!(a.to_string(), "10.0.0.2");
        assert_eq!(pool.allocate("a").unwrap(), a);
        pool.release("a");
        assert_eq!(pool.allocate("b").unwrap().to_string(), "10.0.0.3");
    }

    #[test]
    fn a_prefix_without_room_is_refused() {
        for cidr in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128", "fd00::/127"] {
            assert!(AddressPool::new(cidr.parse().unwrap()).is_err(), "{cidr}");
        }
        assert!(AddressPool::new("10.0.0.0/30".parse().unwrap()).is_ok());
    }

    proptest! {
        #[test]
        fn nobody_shares_an_address(steps in prop::collection::vec((any::<bool>(), 0u8..12), 1..200)) {
            let mut pool = pool("10.0.0.0/29");
            let mut model: HashMap<u8, IpAddr> = HashMap::new();
            for (take, who) in steps {
                if take {
                    match pool.allocate(&who.to_string()) {
                        Ok(addr) => {
                            prop_assert!(model.iter().all(|(w, a)| *w == who || *a != addr));
                            prop_assert!(addr != pool.gateway());
                            if let Some(old) = model.insert(who, addr) { prop_assert_eq!(old, addr); }
                        }
                        Err(_) => prop_assert_eq!(model.len(), 5),
                    }
                } else {
                    pool.release(&who.to_string());
                    model.remove(&who);
                }
            }
        }
    }
}
