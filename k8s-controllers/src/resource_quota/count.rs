//! What a quota's namespace uses: the pure core.

use std::collections::BTreeSet;

use k8s_model::quota::{self, Amounts, Counted, Meter};
use k8s_openapi::{api::core::v1::ResourceQuota, jiff::Timestamp};

/// What the quota limits.
pub(super) fn hard(quota: &ResourceQuota) -> Amounts {
    quota::amounts(quota.spec.as_ref().and_then(|spec| spec.hard.as_ref()))
}

/// The sum of what the objects that are in the quota's scopes count as; zero for what the meter measures
/// and nobody uses.
pub(super) fn measured<'a>(
    quota: &ResourceQuota,
    meter: &Meter,
    objects: impl IntoIterator<Item = Counted<'a>>,
    now: Timestamp,
) -> Amounts {
    let mut used: Amounts = hard(quota)
        .into_keys()
        .filter(|name| meter.measures(name))
        .map(|name| (name, Default::default()))
        .collect();
    let scopes = quota::scopes(quota);
    for object in objects {
        if quota::in_scope(&scopes, object) {
            let mut usage = meter.usage(object, now);
            usage.retain(|name, _| used.contains_key(name));
            quota::add(&mut used, &usage);
        }
    }
    used
}

/// The resources whose objects are counted for the quota and that not every cluster serves, as group and
/// plural name.
pub(super) fn counted(quota: &ResourceQuota) -> BTreeSet<(String, String)> {
    hard(quota)
        .keys()
        .filter_map(|name| quota::counted_resource(name))
        .map(|(group, resource)| (group.to_owned(), resource.to_owned()))
        .collect()
}

/// The quota with its status as it should be; `None` if it is.
pub(super) fn updated(quota: &ResourceQuota, measured: Amounts) -> Option<ResourceQuota> {
    let hard = hard(quota);
    let status = quota.status.clone().unwrap_or_default();
    let mut used = quota::amounts(status.used.as_ref());
    used.extend(measured);
    used.retain(|name, _| hard.contains_key(name));
    let same = status.hard.is_some()
        && status.used.is_some()
        && quota::amounts(status.hard.as_ref()) == hard
        && quota::amounts(status.used.as_ref()) == used;
    if same {
        return None;
    }
    let mut quota = quota.clone();
    let status = quota.status.get_or_insert_default();
    status.hard = Some(quota::quantities(&hard));
    status.used = Some(quota::quantities(&used));
    Some(quota)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(scopes: serde_json::Value) -> ResourceQuota {
        serde_json::from_value(json!({
            "metadata": {"name": "q", "namespace": "n"},
            "spec": {"hard": {"pods": "5", "secrets": "2", "count/jobs.batch": "1"}, "scopes": scopes},
        }))
        .unwrap()
    }

    #[test]
    fn a_new_quota_gets_its_limits_and_what_is_used() {
        let pod = crate::common::fixture::pod("n", "p").build();
        let quota = quota(json!([]));
        let now = Timestamp::UNIX_EPOCH;
        let mut used = measured(&quota, &Meter::Pods, [Counted::Pod(&pod)], now);
        let secrets = Meter::of("", "secrets").unwrap();
        used.extend(measured(&quota, &secrets, [Counted::Other; 2], now));
        let updated = updated(&quota, used).unwrap();
        let status = updated.status.clone().unwrap();
        assert_eq!(status.hard, updated.spec.as_ref().unwrap().hard);
        let used = status.used.unwrap();
        assert_eq!(
            (used["pods"].0.as_str(), used["secrets"].0.as_str()),
            ("1", "2")
        );
        assert!(!used.contains_key("count/jobs.batch"));
        let again = quota::amounts(Some(&used));
        assert!(super::updated(&updated, again).is_none());
    }

    #[test]
    fn what_is_in_no_scope_does_not_count() {
        let quota = quota(json!(["Terminating"]));
        let pod = crate::common::fixture::pod("n", "p").build();
        let now = Timestamp::UNIX_EPOCH;
        let used = measured(&quota, &Meter::Pods, [Counted::Pod(&pod)], now);
        assert!(used["pods"].is_zero());
    }

    #[test]
    fn only_resources_that_are_merely_counted_are_named() {
        let names: Vec<_> = counted(&quota(json!([]))).into_iter().collect();
        assert_eq!(
            names,
            [
                (String::new(), "secrets".to_owned()),
                ("batch".to_owned(), "jobs".to_owned())
            ]
        );
    }
}
