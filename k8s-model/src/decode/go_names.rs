//! The Go types of fields that have names of their own: upstream's refusals tell them.
//!
//! `go_names.txt` has a type a line, with those of its fields whose Go type is more than the schema
//! tells: strings with a name (`v1.PodPhase`), maps whose keys have one, and the like.

static NAMES: &str = include_str!("go_names.txt");

/// The Go type of a field, if it has a name: `[]v1.IPFamily`. The owner is a schema's name without `io.k8s.`.
pub(super) fn of_field(owner: &str, field: &str) -> Option<&'static str> {
    let line = |line: &'static str| line.strip_prefix(owner)?.strip_prefix(' ');
    let fields = NAMES.lines().find_map(line)?;
    fields
        .split(' ')
        .find_map(|text| text.strip_prefix(field)?.strip_prefix(':'))
}

/// The Go type of what a list or a map holds, if its own type tells.
pub(super) fn element(of: &'static str) -> Option<&'static str> {
    match of.strip_prefix("map[") {
        Some(rest) => rest.split_once(']').map(|(_, element)| element),
        None => of.strip_prefix("[]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{MINOR, Type};

    #[test]
    fn every_name_is_of_a_field_that_there_is() {
        for line in NAMES.lines().skip(1) {
            let (owner, fields) = line.split_once(' ').unwrap();
            let Some(ty) = Type::named(owner) else {
                panic!("no type is called {owner}");
            };
            for field in fields.split(' ') {
                let (name, _) = field.split_once(':').unwrap();
                let is_there = ty.field(name).is_some() || MINOR < 37;
                assert!(is_there, "{owner}.{name}");
            }
        }
    }

    #[test]
    fn names_of_elements_are_in_those_of_lists_and_maps() {
        let families = of_field("api.core.v1.ServiceSpec", "ipFamilies").unwrap();
        assert_eq!(families, "[]v1.IPFamily");
        assert_eq!(element(families), Some("v1.IPFamily"));
        assert_eq!(element("map[v1.ResourceName]v1.X"), Some("v1.X"));
        assert_eq!(element("v1.PodPhase"), None);
        assert_eq!(of_field("api.core.v1.PodSpec", "nodeName"), None);
        assert_eq!(of_field("api.core.v1.PodStatus", "phas"), None);
    }
}
