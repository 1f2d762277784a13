//! The rules of RoleBindings and ClusterRoleBindings.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{Slot, blank, dns_subdomain, list, messages, slot, supported, text},
        declared::Declared,
        difference::spelled,
        typed::KindRules,
    },
    names,
};

const GROUP: &str = "rbac.authorization.k8s.io";

fn role_group(role: &RoleRef) -> &str {
    let group: Option<&String> = slot(&role.api_group);
    group.map_or("", String::as_str)
}

fn defaults(role: &mut RoleRef, subjects: &mut Option<Vec<Subject>>) {
    if role_group(role).is_empty() {
        role.api_group.put(GROUP.to_owned());
    }
    for subject in subjects.iter_mut().flatten() {
        if blank(&subject.api_group) && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn validate(role: &RoleRef, kinds: &[&str], subjects: &[Subject], namespaced: bool) -> ErrorList {
    let path = Path::new("roleRef");
    let mut errors = supported(role_group(role), &[GROUP], path.child("apiGroup"));
    errors.extend(supported(&role.kind, kinds, path.child("kind")));
    if role.name.is_empty() {
        errors.push(field::required(path.child("name"), ""));
    } else {
        errors.extend(messages(
            &path.child("name"),
            role.name.as_str(),
            names::path_segment(&role.name, false),
        ));
    }
    for (index, subject) in subjects.iter().enumerate() {
        errors.extend(validate_subject(
            subject,
            namespaced,
            &Path::new("subjects").index(index),
        ));
    }
    errors
}

fn validate_subject(subject: &Subject, namespaced: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if subject.name.is_empty() {
        errors.push(field::required(path.child("name"), ""));
    }
    let group = text(&subject.api_group);
    match subject.kind.as_str() {
        "ServiceAccount" => {
            if !subject.name.is_empty() {
                errors.extend(dns_subdomain(&subject.name, path.child("name")));
            }
            if !group.is_empty() {
                errors.push(field::not_supported(path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && blank(&subject.namespace) {
                errors.push(field::required(path.child("namespace"), ""));
            }
        }
        "User" | "Group" => errors.extend(supported(group, &[GROUP], path.child("apiGroup"))),
        other => errors.extend(supported(
            other,
            &["ServiceAccount", "User", "Group"],
            path.child("kind"),
        )),
    }
    errors
}

fn same_role(new: &RoleRef, old: &RoleRef) -> ErrorList {
    if new == old {
        return ErrorList::new();
    }
    vec![field::invalid_spelled(
        Path::new("roleRef"),
        &spelled("RoleRef", new),
        "cannot change roleRef",
    )]
}

/// The subjects and the role of a binding.
type Bound<'a> = (&'a Option<Vec<Subject>>, &'a RoleRef);

/// What is declared of bindings.
fn declared(new: Bound<'_>, old: Option<Bound<'_>>) -> ErrorList {
    let before = old.map(|(subjects, _)| subjects);
    let mut errors = Declared::of(new.0, before, Path::new("subjects")).then(|subjects, path| {
        let subjects = list(subjects).iter().enumerate();
        let empty = subjects.filter(|(_, subject)| subject.name.is_empty());
        empty
            .map(|(index, _)| field::required(path.index(index).child("name"), ""))
            .collect()
    });
    let before = old.map(|(_, role)| &role.name);
    let path = Path::new("roleRef").child("name");
    let name = Declared::of(&new.1.name, before, path);
    errors.extend(name.required(String::is_empty).found());
    errors
}

/// The rules of RoleBindings.
pub(crate) struct RoleBindingRules;

impl KindRules for RoleBindingRules {
    type Kind = RoleBinding;

    const CREATE_ON_UPDATE: bool = true;

    fn default(&self, binding: &mut RoleBinding) {
        defaults(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(&self, binding: &RoleBinding) -> ErrorList {
        let subjects = list(&binding.subjects);
        validate(&binding.role_ref, &["Role", "ClusterRole"], subjects, true)
    }

    fn validate_update(&self, new: &RoleBinding, old: &RoleBinding) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(same_role(&new.role_ref, &old.role_ref));
        errors
    }

    fn declared(&self, new: &RoleBinding, old: Option<&RoleBinding>) -> ErrorList {
        let old = old.map(|old| (&old.subjects, &old.role_ref));
        declared((&new.subjects, &new.role_ref), old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}

/// The rules of ClusterRoleBindings.
pub(crate) struct ClusterRoleBindingRules;

impl KindRules for ClusterRoleBindingRules {
    type Kind = ClusterRoleBinding;

    const CREATE_ON_UPDATE: bool = true;

    fn default(&self, binding: &mut ClusterRoleBinding) {
        defaults(&mut binding.role_ref, &mut binding.subjects);
    }

    fn validate(&self, binding: &ClusterRoleBinding) -> ErrorList {
        validate(
            &binding.role_ref,
            &["ClusterRole"],
            list(&binding.subjects),
            false,
        )
    }

    fn validate_update(&self, new: &ClusterRoleBinding, old: &ClusterRoleBinding) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(same_role(&new.role_ref, &old.role_ref));
        errors
    }

    fn declared(&self, new: &ClusterRoleBinding, old: Option<&ClusterRoleBinding>) -> ErrorList {
        let old = old.map(|old| (&old.subjects, &old.role_ref));
        declared((&new.subjects, &new.role_ref), old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::path_segment(name, prefix)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn binding(role: &str) -> RoleBinding {
        let mut binding = serde_json::from_value(json!({"metadata": {"name": "a"},
            "roleRef": {"kind": "Role", "name": role, "apiGroup": ""},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}))
        .unwrap();
        RoleBindingRules.default(&mut binding);
        binding
    }

    #[test]
    fn groups_are_filled_in() {
        let binding = binding("r");
        assert!(RoleBindingRules.validate(&binding).is_empty());
        assert_eq!(role_group(&binding.role_ref), GROUP);
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects[0].api_group.as_deref(), Some(GROUP));
        assert_eq!(subjects[1].api_group, None);
    }

    #[test]
    fn the_role_may_not_change() {
        let errors = RoleBindingRules.validate_update(&binding("b"), &binding("a"));
        assert!(
            errors[0].to_string().ends_with(": cannot change roleRef"),
            "{}",
            errors[0]
        );
    }
}
