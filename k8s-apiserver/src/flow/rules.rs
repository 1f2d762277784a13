//! Which requests a FlowSchema is about.

use k8s_openapi::api::flowcontrol::v1::{
    FlowSchemaSpec, NonResourcePolicyRule, PolicyRulesWithSubjects, ResourcePolicyRule, Subject,
};

use crate::{auth::Identity, http::RequestInfo};

/// Whether the schema is about the request.
pub(super) fn fits(spec: &FlowSchemaSpec, user: &Identity, info: &RequestInfo) -> bool {
    let mut rules = spec.rules.iter().flatten();
    rules.any(|rule| rule_fits(rule, user, info))
}

fn rule_fits(rule: &PolicyRulesWithSubjects, user: &Identity, info: &RequestInfo) -> bool {
    let about = |subject: &Subject| subject_fits(subject, user);
    if !rule.subjects.iter().any(about) {
        return false;
    }
    if info.is_resource {
        let mut rules = rule.resource_rules.iter().flatten();
        rules.any(|rule| resource_fits(rule, info))
    } else {
        let mut rules = rule.non_resource_rules.iter().flatten();
        rules.any(|rule| path_fits(rule, info))
    }
}

fn subject_fits(subject: &Subject, user: &Identity) -> bool {
    match subject.kind.as_str() {
        "User" => (subject.user.as_ref()).is_some_and(|u| u.name == "*" || u.name == user.name),
        "Group" => {
            (subject.group.as_ref()).is_some_and(|g| g.name == "*" || user.in_group(&g.name))
        }
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|wanted| {
            user.as_service_account().is_some_and(|(namespace, name)| {
                namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name)
            })
        }),
        _ => false,
    }
}

/// A `*` stands alone, which validation sees to.
fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == "*" || one == value)
}

fn resource_fits(rule: &ResourcePolicyRule, info: &RequestInfo) -> bool {
    let resource = |wanted: &String| {
        wanted == "*"
            || match info.subresource.as_str() {
                "" => *wanted == info.resource,
                subresource => wanted
                    .split_once('/')
                    .is_some_and(|(r, s)| r == info.resource && s == subresource),
            }
    };
    if !has(&rule.verbs, &info.verb)
        || !rule.resources.iter().any(resource)
        || !has(&rule.api_groups, &info.group)
    {
        return false;
    }
    match info.namespace.as_str() {
        "" => rule.cluster_scope == Some(true),
        namespace => (rule.namespaces.as_deref()).is_some_and(|all| has(all, namespace)),
    }
}

fn path_fits(rule: &NonResourcePolicyRule, info: &RequestInfo) -> bool {
    has(&rule.verbs, &info.verb)
        && rule.non_resource_urls.iter().any(|wanted| {
            if wanted == "*" || *wanted == info.path {
                return true;
            }
            // What is below the path, whether it ends in `/*`, in `/`, or in neither.
            let folder = wanted.trim_end_matches('*').trim_end_matches('/');
            info.path
                .strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(rule: Value, user: &Identity, method: &str, uri: &str) -> bool {
        let spec = json!({"priorityLevelConfiguration": {"name": "x"}, "rules": [rule]});
        let spec: FlowSchemaSpec = serde_json::from_value(spec).unwrap();
        let info = RequestInfo::new(&method.parse().unwrap(), &uri.parse().unwrap());
        fits(&spec, user, &info)
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let rules = [json!({"verbs": ["*"], "nonResourceURLs": ["*"]})];
        let of = |subject: Value, user: &Identity| {
            let rule = json!({"subjects": [subject], "nonResourceRules": rules});
            check(rule, user, "GET", "/version")
        };
        let alice = Identity::user("alice").group("dev");
        let robot = Identity::service_account("ns", "robot", "");
        let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
        let account = |namespace: &str, name: &str| {
            let account = json!({"namespace": namespace, "name": name});
            json!({"kind": "ServiceAccount", "serviceAccount": account})
        };
        assert!(of(user("alice"), &alice) && of(user("*"), &alice));
        assert!(!of(user("bob"), &alice));
        assert!(of(group("dev"), &alice) && !of(group("ops"), &alice));
        assert!(of(account("ns", "robot"), &robot) && of(account("ns", "*"), &robot));
        assert!(!of(account("ns", "other"), &robot) && !of(account("n", "*"), &robot));
        assert!(!of(account("ns", "*"), &alice));
        assert!(!of(json!({"kind": "User"}), &alice));
    }

    #[test]
    fn resources_are_told_by_verb_group_subresource_and_scope() {
        let all = Identity::user("x");
        let of = |resources: &[&str], scope: bool, namespaces: &[&str], method: &str, uri: &str| {
            let rule = json!({
                "subjects": [{"kind": "User", "user": {"name": "*"}}],
                "resourceRules": [{
                    "verbs": ["get", "list"], "apiGroups": ["", "apps"], "resources": resources,
                    "clusterScope": scope, "namespaces": namespaces,
                }],
            });
            check(rule, &all, method, uri)
        };
        let pod = "/api/v1/namespaces/a/pods/x";
        assert!(of(&["pods"], false, &["*"], "GET", pod));
        assert!(of(&["pods"], false, &["a"], "GET", pod));
        assert!(!of(&["pods"], false, &["b"], "GET", pod));
        assert!(!of(&["pods"], false, &["a"], "DELETE", pod));
        assert!(!of(
            &["pods"],
            false,
            &["a"],
            "GET",
            &format!("{pod}/status")
        ));
        assert!(of(
            &["pods/status"],
            false,
            &["a"],
            "GET",
            &format!("{pod}/status")
        ));
        assert!(!of(&["pods"], false, &["*"], "GET", "/api/v1/pods"));
        assert!(of(&["pods"], true, &[], "GET", "/api/v1/pods"));
        assert!(!of(&["*"], true, &["*"], "GET", "/apis/batch/v1/jobs"));
        assert!(!of(&["*"], true, &["*"], "GET", "/version"));
    }

    #[test]
    fn a_path_stands_for_what_is_below_it() {
        let all = Identity::user("x");
        let of = |url: &str, path: &str| {
            let rule = json!({
                "subjects": [{"kind": "User", "user": {"name": "*"}}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": [url]}],
            });
            check(rule, &all, "GET", path)
        };
        assert!(of("/healthz", "/healthz") && of("/healthz", "/healthz/ping"));
        assert!(!of("/healthz", "/healthzz"));
        assert!(of("/a/*", "/a/b/c") && !of("/a/*", "/b"));
        assert!(of("*", "/anything"));
    }
}
