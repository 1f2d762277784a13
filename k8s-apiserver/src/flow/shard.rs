//! Shuffle sharding: a flow's hand of queues, so that a flow that floods its own queues leaves others theirs.
//!
//! See <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#queuing>.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// The most queues in a hand.
pub(super) const MOST: usize = 10;

/// What tells flows apart: the schema's name and the distinguisher.
pub(super) fn flow(schema: &str, distinguisher: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one((schema, distinguisher))
}

/// Deals `hand` different numbers below `deck`, always the same for a flow.
pub(super) fn deal(mut flow: u64, deck: usize, hand: usize) -> ([usize; MOST], usize) {
    let hand = hand.clamp(1, MOST).min(deck.max(1));
    let mut dealt = [0; MOST];
    for at in 0..hand {
        let left = (deck - at).max(1) as u64;
        // The remainder of a division by a `usize`.
        let mut card = (flow % left) as usize;
        flow /= left;
        // Cards are counted among those that are left: skip the ones before it that are gone.
        let mut gone = [0; MOST];
        gone[..at].copy_from_slice(&dealt[..at]);
        gone[..at].sort_unstable();
        for taken in &gone[..at] {
            if card >= *taken {
                card += 1;
            }
        }
        dealt[at] = card;
    }
    (dealt, hand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_has_different_queues_and_is_the_same_each_time() {
        for n in 0..5000_u64 {
            let flow = flow("schema", &n.to_string());
            let (dealt, hand) = deal(flow, 16, 6);
            let mut sorted = dealt[..hand].to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 6);
            assert!(sorted.iter().all(|card| *card < 16));
            assert_eq!(deal(flow, 16, 6), (dealt, hand));
        }
    }

    #[test]
    fn every_queue_is_dealt_about_as_often() {
        let mut seen = [0_u32; 8];
        for n in 0..8000_u64 {
            let (dealt, hand) = deal(flow("schema", &n.to_string()), 8, 2);
            for card in &dealt[..hand] {
                seen[*card] += 1;
            }
        }
        assert!(seen.iter().all(|n| (1800..2200).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_hand_is_never_larger_than_the_deck() {
        assert_eq!(deal(7, 1, 1), ([0; MOST], 1));
        let (dealt, hand) = deal(u64::MAX, 3, 8);
        let mut sorted = dealt[..hand].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2]);
    }
}
