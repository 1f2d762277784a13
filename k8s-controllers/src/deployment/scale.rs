//! Scaling: one set at a time during a rollout, all in proportion when the Deployment is scaled.

use super::{
    DESIRED_REPLICAS, MAX_REPLICAS, history, limits,
    plan::{Set, Step},
};

impl Step {
    /// Gives a set another size. Says whether that is a change.
    pub(super) fn resize(&mut self, index: usize, replicas: i32) -> bool {
        if self.sets[index].replicas() == replicas {
            return false;
        }
        self.resize_and_annotate(index, replicas);
        true
    }

    fn resize_and_annotate(&mut self, index: usize, replicas: i32) {
        let mut annotations = self.sets[index]
            .object
            .metadata
            .annotations
            .clone()
            .unwrap_or_default();
        let annotated = history::annotate_size(&mut annotations, &self.deployment);
        if annotated || self.sets[index].replicas() != replicas {
            let set = self.edit(index);
            set.metadata.annotations = Some(annotations);
            history::set_replicas(set, replicas);
        }
    }

    /// Brings the sets to the Deployment's new size without hastening a rollout: upstream's
    /// `scale`.
    pub(super) fn scale(&mut self) {
        let active = self.active();
        if active.len() <= 1 {
            // The only one with pods; without any, the newest.
            let index = active
                .first()
                .copied()
                .or(self.new)
                .or_else(|| self.old().last().copied());
            if let Some(index) = index {
                self.resize(index, self.wanted());
            }
            return;
        }
        if self.is_saturated() {
            for index in self.old() {
                self.resize(index, 0);
            }
            return;
        }
        if limits::is_rolling(&self.deployment) {
            self.scale_in_proportion(active);
        }
    }

    /// Whether the set with the present template alone has all that is wanted.
    fn is_saturated(&self) -> bool {
        self.new_set().is_some_and(|set| {
            let desired = set
                .annotation(DESIRED_REPLICAS)
                .and_then(|text| text.parse::<i32>().ok());
            let wanted = self.wanted();
            set.replicas() == wanted && desired == Some(wanted) && set.available() == wanted
        })
    }

    /// Spreads what is to be added or removed over the sets by their size, the leftover to the
    /// largest.
    fn scale_in_proportion(&mut self, mut active: Vec<usize>) {
        let wanted = self.wanted();
        let allowed = if wanted > 0 {
            wanted + limits::max_surge(&self.deployment)
        } else {
            0
        };
        let to_add = allowed - self.total();
        // Largest first; among equals the newer grows first and the older shrinks first.
        active.sort_by(|a, b| {
            let by_size = self.sets[*b].replicas().cmp(&self.sets[*a].replicas());
            by_size.then_with(|| if to_add > 0 { b.cmp(a) } else { a.cmp(b) })
        });
        let mut added = 0;
        let mut sizes: Vec<(usize, i32)> = Vec::new();
        for index in active {
            let share = self.share(&self.sets[index], to_add, added);
            added += share;
            sizes.push((index, self.sets[index].replicas() + share));
        }
        if let Some((_, largest)) = sizes.first_mut() {
            *largest = (*largest + to_add - added).max(0);
        }
        for (index, size) in sizes {
            self.resize_and_annotate(index, size);
        }
    }

    /// A set's share of `to_add`, of which `added` is already given away: upstream's
    /// `GetProportion`.
    fn share(&self, set: &Set, to_add: i32, added: i32) -> i32 {
        if set.replicas() == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let (fraction, left) = (self.fraction(set), to_add - added);
        if to_add > 0 {
            fraction.min(left)
        } else {
            fraction.max(left)
        }
    }

    /// How much a set changes when it keeps its part of the whole.
    fn fraction(&self, set: &Set) -> i32 {
        let wanted = self.wanted();
        if wanted == 0 {
            return -set.replicas();
        }
        let max = f64::from(wanted + limits::max_surge(&self.deployment));
        let annotated = set
            .annotation(MAX_REPLICAS)
            .and_then(|text| text.parse::<i32>().ok());
        let former_max = annotated.unwrap_or_else(|| self.before.replicas.unwrap_or(0));
        if former_max <= 0 {
            return 0;
        }
        let size = f64::from(set.replicas()) * max / f64::from(former_max);
        size.round() as i32 - set.replicas()
    }
}
