//! What selectors of devices know of a device: its type, and how large its parts are at most, as upstream declares them
//! (`k8s.io/dynamic-resource-allocation/cel`).

use std::sync::LazyLock;

use super::{requests::fields, types::Type};

const NAME: &str = "kubernetes.DRADevice";
/// How long a domain is at most: as long as the name of a driver.
const DOMAIN: u64 = 63;
/// How long a name within a domain is at most.
const IDENTIFIER: u64 = 32;
/// How many attributes and capacities a device has at most.
const COUNT: u64 = 32;
/// How long the value of an attribute is at most.
const VALUE: u64 = 64;

/// The type of `device`.
pub(super) static DEVICE: LazyLock<Type<'static>> = LazyLock::new(|| {
    let by_domain = |value| Type::map(Type::String, Type::map(Type::String, value));
    let all = [
        ("driver", Type::String),
        ("allowMultipleAllocations", Type::Bool),
        ("attributes", by_domain(Type::Dyn)),
        ("capacity", by_domain(Type::Own("kubernetes.Quantity"))),
    ];
    fields(NAME, all)
});

/// A part of a device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Device,
    Driver,
    /// All attributes, by domain.
    AllAttributes,
    /// Those of a domain.
    Attributes,
    Attribute,
    AllCapacities,
    Capacities,
    Capacity,
    Domain,
    Identifier,
}

/// The device itself, if that is what is of this type.
pub(super) fn part(ty: &Type<'_>) -> Option<Part> {
    matches!(ty, Type::Fields(fields) if fields.name == NAME).then_some(Part::Device)
}

impl Part {
    /// What a field of that name is.
    pub(super) fn field(self, name: &str) -> Option<Part> {
        match (self, name) {
            (Part::Device, "driver") => Some(Part::Driver),
            (Part::Device, "attributes") => Some(Part::AllAttributes),
            (Part::Device, "capacity") => Some(Part::AllCapacities),
            (
                Part::AllAttributes | Part::Attributes | Part::AllCapacities | Part::Capacities,
                _,
            ) => self.element(),
            _ => None,
        }
    }

    /// What its values are, if it is a map.
    pub(super) fn element(self) -> Option<Part> {
        match self {
            Part::AllAttributes => Some(Part::Attributes),
            Part::Attributes => Some(Part::Attribute),
            Part::AllCapacities => Some(Part::Capacities),
            Part::Capacities => Some(Part::Capacity),
            _ => None,
        }
    }

    /// What its keys are, if it is a map.
    pub(super) fn key(self) -> Option<Part> {
        match self {
            Part::AllAttributes | Part::AllCapacities => Some(Part::Domain),
            Part::Attributes | Part::Capacities => Some(Part::Identifier),
            _ => None,
        }
    }

    /// How large it is at most: characters of a text, entries of a map.
    pub(super) fn max_size(self) -> u64 {
        match self {
            Part::Driver | Part::Domain => DOMAIN,
            Part::Identifier => IDENTIFIER,
            Part::AllAttributes | Part::Attributes | Part::AllCapacities | Part::Capacities => {
                COUNT
            }
            Part::Attribute => VALUE,
            Part::Device | Part::Capacity => 0,
        }
    }
}
