//! What a rule allows, and whether rules cover other rules.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::authz::Attributes;

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

/// Whether the rule allows what the request asks.
pub(crate) fn allows(rule: &PolicyRule, a: &Attributes<'_>) -> bool {
    if !rule.verbs.iter().any(|v| v == "*" || v == a.verb) {
        return false;
    }
    if !a.resource_request {
        return list(&rule.non_resource_urls)
            .iter()
            .any(|url| url == "*" || path_covers(url, a.path));
    }
    list(&rule.api_groups)
        .iter()
        .any(|g| g == "*" || g == a.group)
        && list(&rule.resources)
            .iter()
            .any(|r| resource_covers(r, a.resource, a.subresource))
        && (list(&rule.resource_names).is_empty() || has(list(&rule.resource_names), a.name))
}

/// `pods`, `pods/log`, `*/scale` or `*` against a resource and its subresource. Reviews may ask for `pods/log` as a
/// resource: as upstream, it is the whole that counts.
fn resource_covers(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == "*" {
        return true;
    }
    if subresource.is_empty() {
        return rule == resource;
    }
    let parent = rule.strip_suffix(subresource);
    let parent = parent.and_then(|parent| parent.strip_suffix('/'));
    parent.is_some_and(|parent| parent == resource || parent == "*")
}

/// A path, or a prefix that ends in a star, against a path.
fn path_covers(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

/// How many parts of rules are looked at one by one. A rule of a few kilobytes can have billions of them.
const PARTS: usize = 1 << 17;

/// The parts of `wanted` that `held` doesn't cover, each with one verb, one group, one resource and at
/// most one name; or one verb and one path. Of what has more parts than anybody writes down, whole rules.
pub(crate) fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let (mut missing, mut room) = (Vec::new(), PARTS);
    let is_held = |part: &PolicyRule| held.iter().any(|rule| covers(rule, part));
    for rule in wanted.iter().filter(|rule| !is_held(rule)) {
        match room.checked_sub(parts(rule)) {
            Some(left) => {
                room = left;
                missing.extend(atoms(rule).into_iter().filter(|atom| !is_held(atom)));
            }
            None => missing.push(rule.clone()),
        }
    }
    missing
}

/// How many [`atoms`] there are.
fn parts(rule: &PolicyRule) -> usize {
    let verbs = rule.verbs.len();
    let names = list(&rule.resource_names).len().max(1);
    let resources = [&rule.api_groups, &rule.resources].map(|all| list(all).len());
    let resources = resources
        .iter()
        .fold(names, |product, length| product.saturating_mul(*length));
    resources
        .saturating_add(list(&rule.non_resource_urls).len())
        .saturating_mul(verbs)
}

fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let one = |text: &String| Some(vec![text.clone()]);
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    api_groups: one(group),
                    resources: one(resource),
                    verbs: vec![verb.clone()],
                    ..PolicyRule::default()
                };
                match list(&rule.resource_names) {
                    [] => out.push(atom),
                    names => out.extend(names.iter().map(|name| PolicyRule {
                        resource_names: one(name),
                        ..atom.clone()
                    })),
                }
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        for verb in &rule.verbs {
            out.push(PolicyRule {
                non_resource_urls: one(url),
                verbs: vec![verb.clone()],
                ..PolicyRule::default()
            });
        }
    }
    out
}

/// Whether the rule covers all of the atom.
fn covers(rule: &PolicyRule, atom: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        has(held, "*") || wanted.iter().all(|item| has(held, item))
    };
    let resources = list(&rule.resources);
    let resource_covered = |wanted: &String| {
        has(resources, "*")
            || has(resources, wanted)
            || wanted
                .split_once('/')
                .is_some_and(|(_, child)| has(resources, &format!("*/{child}")))
    };
    let names = list(&rule.resource_names);
    all(&rule.verbs, &atom.verbs)
        && all(list(&rule.api_groups), list(&atom.api_groups))
        && list(&atom.resources).iter().all(resource_covered)
        && list(&atom.non_resource_urls).iter().all(|path| {
            list(&rule.non_resource_urls)
                .iter()
                .any(|url| path_covers(url, path))
        })
        && (names.is_empty()
            || !list(&atom.resource_names).is_empty()
                && list(&atom.resource_names).iter().all(|n| has(names, n)))
}

/// The rules with the verbs of those that differ in nothing else put together.
pub(crate) fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut out = Vec::new();
    let mut simple: BTreeMap<(String, String, Option<String>), PolicyRule> = BTreeMap::new();
    for rule in rules {
        let key = match (
            list(&rule.api_groups),
            list(&rule.resources),
            list(&rule.resource_names),
            list(&rule.non_resource_urls),
        ) {
            ([group], [resource], [], []) => Some((group.clone(), resource.clone(), None)),
            ([group], [resource], [name], []) => {
                Some((group.clone(), resource.clone(), Some(name.clone())))
            }
            _ => None,
        };
        match key {
            None => out.push(rule),
            Some(key) => match simple.entry(key) {
                std::collections::btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(rule);
                }
                std::collections::btree_map::Entry::Occupied(mut held) => {
                    held.get_mut().verbs.extend(rule.verbs);
                }
            },
        }
    }
    out.extend(simple.into_values());
    out
}

/// A list of strings as Go's `%q` writes it.
pub(crate) fn go_quoted(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// The rule on one line, for messages.
pub(crate) fn describe(rule: &PolicyRule) -> String {
    let parts: Vec<String> = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", &rule.verbs),
    ]
    .into_iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(name, items)| format!("{name}:{}", go_quoted(items)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_covered_as_a_whole() {
        for (rule, resource, subresource, covered) in [
            ("pods/log", "pods", "log", true),
            ("pods/log", "pods/log", "", true),
            ("*/log", "pods", "log", true),
            ("*", "pods", "log", true),
            ("*", "pods/log", "", true),
            ("pods", "pods", "", true),
            ("pods", "pods", "log", false),
            ("pods/log", "pods", "", false),
            ("*/log", "pods/log", "", false),
            ("pods/log", "nodes", "log", false),
            ("pods/catalog", "pods", "log", false),
        ] {
            let found = resource_covers(rule, resource, subresource);
            assert_eq!(found, covered, "{rule} {resource} {subresource}");
        }
    }
}
