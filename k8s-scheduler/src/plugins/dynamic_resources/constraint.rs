//! What the devices of a claim must have in common, or must not.

use crate::snapshot::devices::{
    DeviceId,
    wire::{self, Attribute, Device},
};

/// A constraint, with the devices that were chosen so far.
#[derive(Clone, Debug)]
pub(super) struct Constraint<'a> {
    requests: &'a [String],
    attribute: &'a str,
    /// Whether all devices must have the same value; otherwise each has its own.
    is_same: bool,
    /// Of each device.
    values: Vec<&'a Attribute>,
}

impl<'a> Constraint<'a> {
    /// `None` for one of a kind that is not known here.
    pub(super) fn new(constraint: &'a wire::Constraint) -> Option<Self> {
        let (attribute, is_same) =
            match (&constraint.match_attribute, &constraint.distinct_attribute) {
                (Some(attribute), _) => (attribute, true),
                (None, Some(attribute)) => (attribute, false),
                (None, None) => return None,
            };
        Some(Self {
            requests: &constraint.requests,
            attribute,
            is_same,
            values: Vec::new(),
        })
    }

    /// Whether it is about a request: by its name, or by that of the chosen alternative.
    fn is_about(&self, request: &str, alternative: Option<&str>) -> bool {
        self.requests.is_empty()
            || self.requests.iter().any(|name| {
                let part = name.strip_prefix(request);
                match part.map(|part| part.strip_prefix('/')) {
                    Some(None) => part == Some(""),
                    Some(part) => part == alternative,
                    None => false,
                }
            })
    }

    /// Adds a device, if it holds with it.
    pub(super) fn add(
        &mut self,
        request: &str,
        alternative: Option<&str>,
        id: &DeviceId,
        device: &'a Device,
    ) -> bool {
        if !self.is_about(request, alternative) {
            return true;
        }
        let Some(value) = lookup(self.attribute, id, device) else {
            return false;
        };
        let is_known = value.bool.is_some()
            || value.int.is_some()
            || value.string.is_some()
            || value.version.is_some();
        let holds = match self.is_same {
            true => self.values.first().is_none_or(|first| *first == value),
            false => !self.values.contains(&value),
        };
        let holds = holds && is_known;
        if holds {
            self.values.push(value);
        }
        holds
    }

    /// Takes back the device that was added last.
    pub(super) fn remove(&mut self, request: &str, alternative: Option<&str>) {
        if self.is_about(request, alternative) {
            self.values.pop();
        }
    }
}

/// An attribute by its full name; without a domain it is in the driver's.
fn lookup<'a>(name: &str, id: &DeviceId, device: &'a Device) -> Option<&'a Attribute> {
    device.attributes.get(name).or_else(|| {
        let (domain, name) = name.split_once('/')?;
        (domain == &*id.driver)
            .then(|| device.attributes.get(name))
            .flatten()
    })
}
