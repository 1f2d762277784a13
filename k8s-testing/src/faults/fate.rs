//! [`Fates`]: what a seed decides.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Fault;

/// Something that was made to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Injected {
    /// What.
    pub fault: Fault,
    /// The method and path of the request.
    pub request: String,
    /// The how many-eth such request it was, from 0.
    pub turn: u64,
    /// The how many-eth event of the watch, from 0; nothing where it was no event.
    pub event: Option<u64>,
}

/// What a seed decides, and what it has decided.
#[derive(Debug)]
pub(super) struct Fates {
    seed: u64,
    state: Mutex<State>,
    /// Whether nothing gets through, seed or no seed.
    cut: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// How many times each request was made.
    turns: HashMap<String, u64>,
    /// How many times each fault has hit each request.
    hits: HashMap<(Fault, String), u64>,
    injected: Vec<Injected>,
}

impl Fates {
    pub(super) fn new(seed: u64) -> Self {
        Fates {
            seed,
            state: Mutex::default(),
            cut: watch::Sender::new(false),
        }
    }

    pub(super) fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub(super) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Waits until nothing gets through. The future does not borrow this.
    pub(super) fn until_cut(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut cut = self.cut.subscribe();
        async move {
            if cut.wait_for(|cut| *cut).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counts a request, and says which one of its kind it is.
    pub(super) fn turn(&self, request: &str) -> u64 {
        let mut state = self.state.lock();
        let turn = state.turns.entry(request.to_owned()).or_default();
        *turn += 1;
        *turn - 1
    }

    /// Whether a fault hits.
    pub(super) fn hits(
        &self,
        fault: Fault,
        chance: f64,
        at_most: u64,
        request: &str,
        turn: u64,
        event: Option<u64>,
    ) -> bool {
        if chance <= 0.0 || self.roll(fault, request, turn, event) >= chance {
            return false;
        }
        let mut state = self.state.lock();
        let hits = state.hits.entry((fault, request.to_owned())).or_default();
        if *hits >= at_most {
            return false;
        }
        *hits += 1;
        tracing::debug!(?fault, request, turn, "a fault is injected");
        state.injected.push(Injected {
            fault,
            request: request.to_owned(),
            turn,
            event,
        });
        true
    }

    /// A number between 0 and 1 that is the same in every run: FNV-1a over what it depends on, mixed as
    /// splitmix64 does.
    fn roll(&self, fault: Fault, request: &str, turn: u64, event: Option<u64>) -> f64 {
        let numbers = [
            self.seed,
            fault as u64,
            turn,
            event.map_or(0, |event| event + 1),
        ];
        let bytes = numbers.iter().flat_map(|n| n.to_le_bytes());
        let hash = bytes
            .chain(request.bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let mut mixed = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn injected(&self) -> Vec<Injected> {
        self.state.lock().injected.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_same_in_every_run_and_hits_as_often_as_it_should() {
        let hits = |seed| -> Vec<bool> {
            let fates = Fates::new(seed);
            (0..2000)
                .map(|turn| fates.hits(Fault::Conflict, 0.25, u64::MAX, "PUT /x", turn, None))
                .collect()
        };
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
        let count = hits(7).iter().filter(|hit| **hit).count();
        assert!((400..600).contains(&count), "{count}");
        // Pinned: a seed from an old report must replay.
        let all = hits(7);
        let first: Vec<usize> = (0..40).filter(|at| all[*at]).collect();
        assert_eq!(first, PINNED);
    }

    const PINNED: [usize; 12] = [2, 4, 5, 7, 9, 11, 16, 21, 26, 28, 35, 37];

    #[test]
    fn a_path_is_hit_no_more_often_than_allowed() {
        let fates = Fates::new(1);
        let hit = |request| fates.hits(Fault::Conflict, 1.0, 2, request, fates.turn(request), None);
        assert_eq!([hit("a"), hit("a"), hit("a")], [true, true, false]);
        assert!(hit("b"));
        assert_eq!(fates.injected().len(), 3);
        assert_eq!(fates.injected()[1].turn, 1);
    }
}
