//! Whether a definition may have the names that it asks for.
//!
//! As upstream's `apiextensions-apiserver/pkg/controller/status`: within a group, no two
//! definitions have a plural, singular or short name in common, nor a kind.

use std::collections::BTreeSet;

use k8s_model::{
    Resource,
    custom::{is_established, set_condition, trusts_its_webhook},
};
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionNames,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// The names that other definitions of a group have.
#[derive(Debug, Default)]
pub(super) struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    pub(super) fn of<'d>(others: impl Iterator<Item = &'d CustomResourceDefinition>) -> Self {
        let mut taken = Taken::default();
        for other in others {
            let Some(names) = other.status.as_ref().and_then(|s| s.accepted_names.clone()) else {
                continue;
            };
            taken.resources.insert(names.plural);
            taken.resources.extend(names.singular);
            taken
                .resources
                .extend(names.short_names.into_iter().flatten());
            taken.kinds.insert(names.kind);
            taken.kinds.extend(names.list_kind);
        }
        taken
    }

    /// Those of resources that are served whatever is defined, too.
    pub(super) fn and_of_rows<'r>(mut self, rows: impl Iterator<Item = &'r Resource>) -> Self {
        for row in rows {
            let names = [row.resource, row.singular].into_iter();
            let names = names.chain(row.short_names.iter().copied());
            self.resources.extend(names.map(str::to_owned));
            self.kinds
                .extend([row.kind, row.list_kind].map(str::to_owned));
        }
        self
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

/// Writes into a definition's status which of its names are accepted, and whether it is established.
pub(super) fn judge(definition: &mut CustomResourceDefinition, taken: &Taken, now: Time) {
    let asked = definition.spec.names.clone();
    let status = definition.status.get_or_insert_default();
    let accepted = status.accepted_names.clone().unwrap_or_default();
    let mut conflict: Option<(&str, String)> = None;
    let mut names = CustomResourceDefinitionNames {
        categories: asked.categories.clone(),
        ..accepted.clone()
    };
    let free =
        |name: &str, had: &str, taken: &BTreeSet<String>| name == had || !taken.contains(name);
    if free(&asked.plural, &accepted.plural, &taken.resources) {
        names.plural.clone_from(&asked.plural);
    } else {
        conflict = Some(("PluralConflict", in_use(&asked.plural)));
    }
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    if free(
        &text(&asked.singular),
        &text(&accepted.singular),
        &taken.resources,
    ) {
        names.singular.clone_from(&asked.singular);
    } else {
        conflict = Some(("SingularConflict", in_use(&text(&asked.singular))));
    }
    let had = accepted.short_names.as_deref().unwrap_or_default();
    let clashes: Vec<String> = (asked.short_names.iter().flatten())
        .filter(|name| !had.contains(name) && taken.resources.contains(*name))
        .map(|name| in_use(name))
        .collect();
    match clashes.as_slice() {
        [] => names.short_names.clone_from(&asked.short_names),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        all => conflict = Some(("ShortNamesConflict", format!("[{}]", all.join(", ")))),
    }
    if free(&asked.kind, &accepted.kind, &taken.kinds) {
        names.kind.clone_from(&asked.kind);
    } else {
        conflict = Some(("KindConflict", in_use(&asked.kind)));
    }
    if free(
        &text(&asked.list_kind),
        &text(&accepted.list_kind),
        &taken.kinds,
    ) {
        names.list_kind.clone_from(&asked.list_kind);
    } else {
        conflict = Some(("ListKindConflict", in_use(&text(&asked.list_kind))));
    }
    status.accepted_names = Some(names);
    match conflict {
        Some((reason, message)) => {
            set_condition(
                definition,
                "NamesAccepted",
                false,
                (reason, &message),
                now.clone(),
            );
            if !is_established(definition) {
                let why = ("NotAccepted", "not all names are accepted");
                set_condition(definition, "Established", false, why, now);
            }
        }
        None => {
            let why = ("NoConflicts", "no conflicts found");
            set_condition(definition, "NamesAccepted", true, why, now.clone());
            if !is_established(definition) && !trusts_its_webhook(definition) {
                let why = (
                    "InvalidCABundle",
                    "The conversion webhook CABundle is invalid",
                );
                set_condition(definition, "Established", false, why, now);
            } else if !is_established(definition) {
                let why = (
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                );
                set_condition(definition, "Established", true, why, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_model::custom::condition;
    use serde_json::json;

    use super::*;

    fn definition(kind: &str) -> CustomResourceDefinition {
        let lower = kind.to_lowercase();
        serde_json::from_value(json!({
            "metadata": {"name": format!("{lower}s.example.com")},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "versions": [],
                "names": {"plural": format!("{lower}s"), "singular": lower, "kind": kind,
                          "listKind": format!("{kind}List"), "shortNames": ["x"]},
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_first_gets_a_name_and_the_next_hears_who_has_it() {
        let now = || Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut first = definition("A");
        judge(&mut first, &Taken::default(), now());
        assert!(is_established(&first));

        let mut second = definition("B");
        judge(&mut second, &Taken::of([&first].into_iter()), now());
        let names = condition(&second, "NamesAccepted").unwrap();
        assert_eq!(names.status, "False");
        assert_eq!(names.reason.as_deref(), Some("ShortNamesConflict"));
        assert_eq!(names.message.as_deref(), Some("\"x\" is already in use"));
        assert!(!is_established(&second));

        judge(&mut second, &Taken::default(), now());
        assert!(is_established(&second));
        // Once more changes nothing.
        let before = second.clone();
        judge(&mut second, &Taken::default(), now());
        assert_eq!(second, before);
    }

    #[test]
    fn whoever_asks_for_no_more_than_it_has_is_accepted() {
        let now = || Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut first = definition("A");
        judge(&mut first, &Taken::default(), now());
        let taken = Taken::of([&first].into_iter());
        let mut second = definition("B");
        judge(&mut second, &taken, now());
        assert!(!is_established(&second));
        // It gives up the name that is taken, and has all others already.
        second.spec.names.short_names = None;
        judge(&mut second, &taken, now());
        assert_eq!(condition(&second, "NamesAccepted").unwrap().status, "True");
        assert!(is_established(&second));
    }

    #[test]
    fn a_webhook_that_cannot_be_trusted_serves_nothing() {
        let now = || Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut asked = definition("A");
        let conversion = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a.example.com", "caBundle": "bm8gY2VydGlmaWNhdGU="}}});
        asked.spec.conversion = Some(serde_json::from_value(conversion).unwrap());
        judge(&mut asked, &Taken::default(), now());
        let established = condition(&asked, "Established").unwrap();
        assert_eq!(established.status, "False");
        assert_eq!(established.reason.as_deref(), Some("InvalidCABundle"));
        asked.spec.conversion = None;
        judge(&mut asked, &Taken::default(), now());
        assert!(is_established(&asked));
    }
}
