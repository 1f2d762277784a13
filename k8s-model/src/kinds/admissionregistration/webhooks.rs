//! ValidatingWebhookConfigurations and MutatingWebhookConfigurations.

use k8s_openapi::{
    api::admissionregistration::v1::{
        MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations,
        ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::{
    FAILURE_POLICIES, REINVOCATION_POLICIES,
    expressions::Variables,
    matching::{self, Rule},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        apiextensions::{webhook_service, webhook_url},
        checks::{list, messages, one_of, repeats, same, supported},
        typed::KindRules,
    },
    labels, names,
};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const SIDE_EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];

/// The rules of ValidatingWebhookConfigurations.
pub(crate) struct ValidatingWebhookConfigurationRules;

/// The rules of MutatingWebhookConfigurations.
pub(crate) struct MutatingWebhookConfigurationRules;

/// A webhook of either sort.
struct Hook<'a> {
    name: &'a str,
    review_versions: &'a [String],
    client_config: &'a WebhookClientConfig,
    failure_policy: Option<&'a str>,
    conditions: &'a [MatchCondition],
    match_policy: Option<&'a str>,
    selectors: [(&'static str, Option<&'a LabelSelector>); 2],
    reinvocation_policy: Option<&'a str>,
    rules: &'a [RuleWithOperations],
    side_effects: &'a str,
    timeout_seconds: Option<i32>,
}

macro_rules! hook {
    ($hook:expr, $reinvocation:expr) => {
        Hook {
            name: &$hook.name,
            review_versions: &$hook.admission_review_versions,
            client_config: &$hook.client_config,
            failure_policy: $hook.failure_policy.as_deref(),
            conditions: list(&$hook.match_conditions),
            match_policy: $hook.match_policy.as_deref(),
            selectors: [
                ("namespaceSelector", $hook.namespace_selector.as_ref()),
                ("objectSelector", $hook.object_selector.as_ref()),
            ],
            reinvocation_policy: $reinvocation,
            rules: list(&$hook.rules),
            side_effects: &$hook.side_effects,
            timeout_seconds: $hook.timeout_seconds,
        }
    };
}

impl<'a> From<&'a ValidatingWebhook> for Hook<'a> {
    fn from(hook: &'a ValidatingWebhook) -> Self {
        hook!(hook, None)
    }
}

impl<'a> From<&'a MutatingWebhook> for Hook<'a> {
    fn from(hook: &'a MutatingWebhook) -> Self {
        hook!(hook, hook.reinvocation_policy.as_deref())
    }
}

/// What an old configuration may go on with.
#[derive(Clone, Copy)]
struct Lenient {
    side_effects: bool,
    review_versions: bool,
    names: bool,
}

const STRICT: Lenient = Lenient {
    side_effects: false,
    review_versions: false,
    names: false,
};

fn lenient(old: &[Hook<'_>]) -> Lenient {
    let names = old.iter().map(|hook| hook.name);
    Lenient {
        side_effects: old
            .iter()
            .any(|hook| !NO_SIDE_EFFECTS.contains(&hook.side_effects)),
        review_versions: old
            .iter()
            .any(|hook| !hook.review_versions.is_empty() && !recognized(hook.review_versions)),
        names: repeats(names).contains(&true),
    }
}

fn recognized(versions: &[String]) -> bool {
    versions
        .iter()
        .any(|v| REVIEW_VERSIONS.contains(&v.as_str()))
}

fn validate(hooks: &[Hook<'_>], lenient: Lenient) -> ErrorList {
    let mut out = ErrorList::new();
    let names = repeats(hooks.iter().map(|hook| hook.name));
    for (i, hook) in hooks.iter().enumerate() {
        let path = Path::new("webhooks").index(i);
        out.extend(validate_hook(hook, lenient, &path));
        let versions = path.child("admissionReviewVersions");
        out.extend(review_versions(hook.review_versions, lenient, &versions));
        if names[i] && !lenient.names && !hook.name.is_empty() {
            out.push(field::duplicate(path.child("name"), hook.name));
        }
    }
    out
}

fn validate_hook(hook: &Hook<'_>, lenient: Lenient, path: &Path) -> ErrorList {
    let mut out = fully_qualified(hook.name, &path.child("name"));
    for (i, rule) in hook.rules.iter().enumerate() {
        out.extend(matching::rule(
            &Rule::from(rule),
            &path.child("rules").index(i),
        ));
    }
    if let Some(policy) = hook.failure_policy {
        out.extend(supported(
            policy,
            &FAILURE_POLICIES,
            path.child("failurePolicy"),
        ));
    }
    out.extend(matching::match_policy(hook.match_policy, path));
    let allowed = match lenient.side_effects {
        true => &SIDE_EFFECTS[..],
        false => &NO_SIDE_EFFECTS[..],
    };
    let side_effects = path.child("sideEffects");
    if hook.side_effects.is_empty() {
        let text = format!("must specify one of {}", allowed.join(", "));
        out.push(field::required(side_effects, text));
    } else {
        out.extend(one_of(hook.side_effects, allowed, side_effects));
    }
    if let Some(seconds) = hook.timeout_seconds.filter(|s| !(1..=30).contains(s)) {
        let text = "the timeout value must be between 1 and 30 seconds";
        out.push(field::invalid(path.child("timeoutSeconds"), seconds, text));
    }
    for (name, selector) in hook.selectors {
        if let Some(selector) = selector {
            out.extend(labels::validate(selector, &path.child(name)));
        }
    }
    if let Some(policy) = hook.reinvocation_policy {
        out.extend(supported(
            policy,
            &REINVOCATION_POLICIES,
            path.child("reinvocationPolicy"),
        ));
    }
    let config = path.child("clientConfig");
    match (&hook.client_config.url, &hook.client_config.service) {
        (Some(url), None) => out.extend(webhook_url(url, &config.child("url"))),
        (None, Some(service)) => out.extend(webhook_service(
            &service.namespace,
            &service.name,
            service.path.as_deref(),
            service.port,
            &config.child("service"),
        )),
        _ => out.push(field::required(
            config,
            "exactly one of url or service is required",
        )),
    }
    out.extend(matching::conditions(
        hook.conditions,
        &Variables::default(),
        path,
    ));
    out
}

fn fully_qualified(name: &str, path: &Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path.clone(), "")];
    }
    let problems = names::dns_subdomain(name, false);
    if !problems.is_empty() {
        return vec![field::invalid(path.clone(), name, problems.join(","))];
    }
    if name.split('.').count() < 3 {
        let text = "should be a domain with at least three segments separated by dots";
        return vec![field::invalid(path.clone(), name, text)];
    }
    ErrorList::new()
}

fn review_versions(versions: &[String], lenient: Lenient, path: &Path) -> ErrorList {
    let known = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        let text = format!("must specify one of {known}");
        return vec![field::required(path.clone(), text)];
    }
    let mut out = ErrorList::new();
    let repeats = repeats(versions);
    for (i, version) in versions.iter().enumerate() {
        let path = path.index(i);
        if repeats[i] {
            let text = "duplicate version";
            out.push(field::invalid(path, version.as_str(), text));
            continue;
        }
        let texts = names::dns1035(version, false);
        out.extend(messages(&path, version.as_str(), texts));
    }
    if !lenient.review_versions && !recognized(versions) {
        let text = format!("must include at least one of {known}");
        out.push(field::invalid(path.clone(), versions.to_vec(), text));
    }
    out
}

macro_rules! default_hook {
    ($hook:expr) => {
        $hook
            .failure_policy
            .get_or_insert_with(|| "Fail".to_owned());
        $hook
            .match_policy
            .get_or_insert_with(|| "Equivalent".to_owned());
        $hook.namespace_selector.get_or_insert_default();
        $hook.object_selector.get_or_insert_default();
        $hook.timeout_seconds.get_or_insert(10);
        if let Some(service) = &mut $hook.client_config.service {
            service.port.get_or_insert(443);
        }
        for rule in $hook.rules.iter_mut().flatten() {
            matching::default_scope(&mut rule.scope);
        }
    };
}

impl KindRules for ValidatingWebhookConfigurationRules {
    type Kind = ValidatingWebhookConfiguration;

    const METADATA: (usize, usize) = (1, 0);
    const QUALIFIED_FINALIZERS: bool = false;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const STATIC_NAMES: bool = false;

    fn default(&self, configuration: &mut Self::Kind) {
        for hook in configuration.webhooks.iter_mut().flatten() {
            default_hook!(hook);
        }
    }

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        !same(&new.webhooks, &old.webhooks)
    }

    fn validate(&self, configuration: &Self::Kind) -> ErrorList {
        let hooks = list(&configuration.webhooks).iter().map(Hook::from);
        validate(&hooks.collect::<Vec<_>>(), STRICT)
    }

    fn validate_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        let old: Vec<_> = list(&old.webhooks).iter().map(Hook::from).collect();
        let hooks = list(&new.webhooks).iter().map(Hook::from);
        validate(&hooks.collect::<Vec<_>>(), lenient(&old))
    }
}

impl KindRules for MutatingWebhookConfigurationRules {
    type Kind = MutatingWebhookConfiguration;

    const METADATA: (usize, usize) = (1, 0);
    const QUALIFIED_FINALIZERS: bool = false;

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;
    const STATIC_NAMES: bool = false;

    fn default(&self, configuration: &mut Self::Kind) {
        for hook in configuration.webhooks.iter_mut().flatten() {
            default_hook!(hook);
            hook.reinvocation_policy
                .get_or_insert_with(|| "Never".to_owned());
        }
    }

    fn spec_changed(&self, new: &Self::Kind, old: &Self::Kind) -> bool {
        !same(&new.webhooks, &old.webhooks)
    }

    fn validate(&self, configuration: &Self::Kind) -> ErrorList {
        let hooks = list(&configuration.webhooks).iter().map(Hook::from);
        validate(&hooks.collect::<Vec<_>>(), STRICT)
    }

    fn validate_update(&self, new: &Self::Kind, old: &Self::Kind) -> ErrorList {
        let old: Vec<_> = list(&old.webhooks).iter().map(Hook::from).collect();
        let hooks = list(&new.webhooks).iter().map(Hook::from);
        validate(&hooks.collect::<Vec<_>>(), lenient(&old))
    }
}
