//! The two strategies.

use super::{limits, plan::Step};

impl Step {
    /// `RollingUpdate`: the new set grows as far as the surge allows, then the old ones shrink as
    /// far as availability allows. One of the two a step, so that each is decided on fresh counts.
    pub(super) fn roll(&mut self) {
        if self.new.is_none() {
            self.create_new();
        }
        let Some(new) = self.new else { return };
        if self.grow_new(new) || self.shrink_old(new) {
            return;
        }
        if self.is_complete(&self.before.clone()) {
            self.clean_up();
        }
    }

    fn grow_new(&mut self, new: usize) -> bool {
        let (has, wanted) = (self.sets[new].replicas(), self.wanted());
        if has == wanted {
            return false;
        }
        let size = if has > wanted {
            wanted
        } else {
            self.new_replicas(new)
        };
        self.resize(new, size)
    }

    /// How large the new set may be now: upstream's `NewRSNewReplicas`.
    pub(super) fn new_replicas(&self, new: usize) -> i32 {
        let (has, wanted) = (self.sets[new].replicas(), self.wanted());
        if !limits::is_rolling(&self.deployment) {
            return wanted;
        }
        let room = wanted + limits::max_surge(&self.deployment) - self.total();
        if room <= 0 {
            has
        } else {
            has + room.min(wanted - has)
        }
    }

    fn shrink_old(&mut self, new: usize) -> bool {
        let mut old = self.old();
        old.retain(|index| self.sets[*index].replicas() > 0);
        if old.is_empty() {
            return false;
        }
        let min_available = self.wanted() - limits::max_unavailable(&self.deployment);
        let new_unavailable = self.sets[new].replicas() - self.sets[new].available();
        let room = self.total() - min_available - new_unavailable;
        if room <= 0 {
            return false;
        }
        let unhealthy = self.shrink_unhealthy(&old, room);
        let healthy = self.shrink_healthy(&old, min_available);
        unhealthy + healthy > 0
    }

    /// Pods that do not serve go first: they would block the rollout, and nobody misses them.
    fn shrink_unhealthy(&mut self, old: &[usize], room: i32) -> i32 {
        let mut removed = 0;
        for &index in old {
            let (has, available) = (self.sets[index].replicas(), self.sets[index].available());
            if removed >= room {
                break;
            }
            if has == 0 || has == available {
                continue;
            }
            let count = (room - removed).min(has - available);
            if count > 0 {
                self.resize(index, has - count);
                removed += count;
            }
        }
        removed
    }

    /// Then pods that serve, as long as enough others do.
    fn shrink_healthy(&mut self, old: &[usize], min_available: i32) -> i32 {
        let available: i32 = old
            .iter()
            .chain(&self.new)
            .map(|index| self.sets[*index].available())
            .sum();
        let room = available - min_available;
        let mut removed = 0;
        for &index in old {
            let has = self.sets[index].replicas();
            if removed >= room {
                break;
            }
            let count = has.min(room - removed);
            if count > 0 {
                self.resize(index, has - count);
                removed += count;
            }
        }
        removed
    }

    /// `Recreate`: all old pods go, and only then do new ones come.
    pub(super) fn recreate(&mut self) {
        let mut shrunk = false;
        for index in self.old() {
            shrunk |= self.resize(index, 0);
        }
        if shrunk || self.old_pods_run() {
            return;
        }
        if self.new.is_none() {
            self.create_new();
        }
        if let Some(new) = self.new {
            self.resize(new, self.wanted());
        }
        if self.is_complete(&self.before.clone()) {
            self.clean_up();
        }
    }

    fn old_pods_run(&self) -> bool {
        self.old().into_iter().any(|index| {
            let set = &self.sets[index];
            let uid = set.object.metadata.uid.as_deref().unwrap_or_default();
            set.actual() > 0 || self.running.contains(uid)
        })
    }
}
