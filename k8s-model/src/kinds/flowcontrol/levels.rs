//! The rules of PriorityLevelConfigurations.

use k8s_openapi::api::flowcontrol::v1::{
    ExemptPriorityLevelConfiguration, LimitResponse, LimitedPriorityLevelConfiguration,
    PriorityLevelConfiguration, PriorityLevelConfigurationSpec, QueuingConfiguration,
};

use super::{
    condition_types,
    mandatory::{self, EXEMPT},
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{list, one_of, same, slot, slot_mut, text},
        declared::Declared,
        difference::spelled,
        typed::KindRules,
    },
    metadata,
};

/// The rules of PriorityLevelConfigurations.
pub(crate) struct PriorityLevelConfigurationRules;

const SHARES: i32 = 30;
const QUEUES: i32 = 64;
const HAND_SIZE: i32 = 8;
const QUEUE_LENGTH: i32 = 50;
const MOST_QUEUES: i32 = 10_000_000;
/// How much of a hash the choice of queues may use up.
const HASH_BITS: u32 = 60;

/// How many bits it takes to deal a hand of so many cards.
fn entropy(deck: i32, hand: i32) -> u32 {
    (f64::from(deck).log2() * f64::from(hand)).ceil() as u32
}

fn queuing(queuing: &QueuingConfiguration, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let (length, queues, hand) = (
        queuing.queue_length_limit.unwrap_or(0),
        queuing.queues.unwrap_or(0),
        queuing.hand_size.unwrap_or(0),
    );
    let positive = |value: i32, name: &str| {
        (value <= 0).then(|| field::invalid(path.child(name), value, "must be positive"))
    };
    errors.extend(positive(length, "queueLengthLimit"));
    errors.extend(positive(queues, "queues"));
    if queues > MOST_QUEUES {
        let text = format!("must not be greater than {MOST_QUEUES}");
        errors.push(field::invalid(path.child("queues"), queues, text));
    }
    errors.extend(positive(hand, "handSize"));
    let at = path.child("handSize");
    if hand > queues {
        let text = format!("should not be greater than queues ({queues})");
        errors.push(field::invalid(at, hand, text));
    } else if hand > 0 && entropy(queues, hand) > HASH_BITS {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.push(field::invalid(at, hand, text));
    }
    errors
}

/// The shares of a level, which are not below none.
fn nominal(shares: Option<i32>, path: &Path) -> Option<field::Error> {
    let shares = shares.filter(|shares| *shares < 0)?;
    let path = path.child("nominalConcurrencyShares");
    let text = "must be a non-negative integer";
    Some(field::invalid(path, shares, text))
}

/// How much of its shares a level lends.
fn lendable(percent: Option<i32>, path: &Path) -> Option<field::Error> {
    let percent = percent.filter(|percent| !(0..=100).contains(percent))?;
    let path = path.child("lendablePercent");
    let text = "must be between 0 and 100, inclusive";
    Some(field::invalid(path, percent, text))
}

fn exempt(exempt: &ExemptPriorityLevelConfiguration, path: &Path) -> ErrorList {
    let shares = nominal(exempt.nominal_concurrency_shares, path);
    let percent = lendable(exempt.lendable_percent, path);
    shares.into_iter().chain(percent).collect()
}

/// That a level which every cluster has is as it must be.
fn fixed(name: &str, spec: &PriorityLevelConfigurationSpec, path: Path) -> ErrorList {
    let Some(mut fixed) = mandatory::level(name) else {
        return ErrorList::new();
    };
    let tunable = match name {
        EXEMPT => {
            fixed.exempt.clone_from(&spec.exempt);
            " except the 'spec.exempt' field"
        }
        _ => "",
    };
    if same(&fixed, spec) {
        return ErrorList::new();
    }
    let text = format!("spec of '{name}'{tunable} must equal the fixed value");
    let spelled = spelled("PriorityLevelConfigurationSpec", spec);
    vec![field::invalid_spelled(path, &spelled, &text)]
}

fn limited(limited: &LimitedPriorityLevelConfiguration, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    errors.extend(nominal(limited.nominal_concurrency_shares, path));
    let response = response(limited);
    let at = path.child("limitResponse");
    match (response.type_.as_str(), &response.queuing) {
        ("Reject", None) => {}
        ("Reject", Some(_)) => errors.push(field::forbidden(
            at.child("queuing"),
            "must be nil if limited.limitResponse.type is not Limited",
        )),
        ("Queue", None) => errors.push(field::required(
            at.child("queuing"),
            "must not be empty if limited.limitResponse.type is Limited",
        )),
        ("Queue", Some(config)) => errors.extend(queuing(config, &at.child("queuing"))),
        (other, _) => errors.extend(one_of(other, &["Queue", "Reject"], at.child("type"))),
    }
    errors.extend(lendable(limited.lendable_percent, path));
    if let Some(percent) = limited.borrowing_limit_percent.filter(|p| *p < 0) {
        errors.push(field::invalid(
            path.child("borrowingLimitPercent"),
            percent,
            "if specified, must be a non-negative integer",
        ));
    }
    errors
}

fn spec(level: &PriorityLevelConfiguration) -> PriorityLevelConfigurationSpec {
    let spec: Option<&PriorityLevelConfigurationSpec> = slot(&level.spec);
    spec.cloned().unwrap_or_default()
}

fn response(limited: &LimitedPriorityLevelConfiguration) -> LimitResponse {
    let response: Option<&LimitResponse> = slot(&limited.limit_response);
    response.cloned().unwrap_or_default()
}

/// What is declared of a level: which of its parts it has for its type.
fn declared_level(
    new: &PriorityLevelConfigurationSpec,
    old: Option<&PriorityLevelConfigurationSpec>,
    path: &Path,
) -> ErrorList {
    let before = old.map(|old| (&old.type_, &old.exempt));
    let exempt = (&new.type_, &new.exempt);
    let exempt = Declared::of(&exempt, before.as_ref(), path.child("exempt"));
    let mut errors = exempt.then(|(sort, exempt), path| match exempt {
        Some(_) if *sort != "Exempt" => vec![field::forbidden(path, "")],
        _ => ErrorList::new(),
    });
    let before = old.map(|old| (&old.type_, &old.limited));
    let limited = (&new.type_, &new.limited);
    let limited = Declared::of(&limited, before.as_ref(), path.child("limited"));
    errors.extend(limited.then(|(sort, limited), path| match limited {
        Some(_) if *sort != "Limited" => vec![field::forbidden(path, "")],
        None if *sort == "Limited" => vec![field::required(path, "")],
        _ => ErrorList::new(),
    }));
    let before = old.map(|old| &old.type_);
    let sort = Declared::of(&new.type_, before, path.child("type"));
    errors.extend(sort.required(String::is_empty).found());
    if let Some(limited) = &new.limited {
        let before = old.and_then(|old| old.limited.as_ref()).map(response);
        let path = path.child("limited").child("limitResponse");
        errors.extend(declared_response(
            &response(limited),
            before.as_ref(),
            &path,
        ));
    }
    errors
}

fn declared_response(new: &LimitResponse, old: Option<&LimitResponse>, path: &Path) -> ErrorList {
    let before = old.map(|old| (&old.type_, &old.queuing));
    let queuing = (&new.type_, &new.queuing);
    let queuing = Declared::of(&queuing, before.as_ref(), path.child("queuing"));
    let mut errors = queuing.then(|(sort, queuing), path| match queuing {
        Some(_) if *sort != "Queue" => vec![field::forbidden(path, "")],
        None if *sort == "Queue" => vec![field::required(path, "")],
        _ => ErrorList::new(),
    });
    let before = old.map(|old| &old.type_);
    let sort = Declared::of(&new.type_, before, path.child("type"));
    errors.extend(sort.required(String::is_empty).found());
    errors
}

impl KindRules for PriorityLevelConfigurationRules {
    type Kind = PriorityLevelConfiguration;

    const METADATA: (usize, usize) = (1, 0);

    const GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(&self, level: &mut PriorityLevelConfiguration) {
        let spec: Option<&mut PriorityLevelConfigurationSpec> = slot_mut(&mut level.spec);
        let Some(spec) = spec else { return };
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
        let Some(limited) = &mut spec.limited else {
            return;
        };
        limited.nominal_concurrency_shares.get_or_insert(SHARES);
        limited.lendable_percent.get_or_insert(0);
        let response: Option<&mut LimitResponse> = slot_mut(&mut limited.limit_response);
        if let Some(queuing) = response.and_then(|response| response.queuing.as_mut()) {
            for (value, default) in [
                (&mut queuing.hand_size, HAND_SIZE),
                (&mut queuing.queues, QUEUES),
                (&mut queuing.queue_length_limit, QUEUE_LENGTH),
            ] {
                if value.unwrap_or(0) == 0 {
                    *value = Some(default);
                }
            }
        }
    }

    fn spec_changed(
        &self,
        new: &PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) -> bool {
        !same(&new.spec, &old.spec)
    }

    fn prepare_for_create(&self, level: &mut PriorityLevelConfiguration) {
        level.status = Some(Default::default());
    }

    fn validate(&self, level: &PriorityLevelConfiguration) -> ErrorList {
        let path = Path::new("spec");
        let spec = spec(level);
        let sort = spec.type_.as_str();
        let mut errors = ErrorList::new();
        let name = text(&level.metadata.name);
        if (name == EXEMPT) != (sort == "Exempt") {
            errors.push(field::invalid(
                path.child("type"),
                sort,
                "type must be 'Exempt' if and only if name is 'exempt'",
            ));
        }
        match sort {
            "Exempt" => {
                if spec.limited.is_some() {
                    let text = "must be nil if the type is not Limited";
                    errors.push(field::forbidden(path.child("limited"), text));
                }
                if let Some(config) = &spec.exempt {
                    errors.extend(exempt(config, &path.child("exempt")));
                }
            }
            "Limited" => {
                if spec.exempt.is_some() {
                    let text = "must be nil if the type is Limited";
                    errors.push(field::forbidden(path.child("exempt"), text));
                }
                let at = path.child("limited");
                match &spec.limited {
                    Some(config) => errors.extend(limited(config, &at)),
                    None => {
                        let text = "must not be empty when type is Limited";
                        errors.push(field::required(at, text));
                    }
                }
            }
            other => errors.extend(one_of(other, &["Exempt", "Limited"], path.child("type"))),
        }
        errors.extend(fixed(name, &spec, path));
        errors
    }

    fn declared(
        &self,
        new: &PriorityLevelConfiguration,
        old: Option<&PriorityLevelConfiguration>,
    ) -> ErrorList {
        declared_level(&spec(new), old.map(spec).as_ref(), &Path::new("spec"))
    }

    fn prepare_for_update(
        &self,
        new: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(
        &self,
        new: &mut PriorityLevelConfiguration,
        old: &PriorityLevelConfiguration,
    ) {
        new.spec = old.spec.clone();
        metadata::keep(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(
        &self,
        new: &PriorityLevelConfiguration,
        _old: &PriorityLevelConfiguration,
    ) -> ErrorList {
        let conditions = new.status.as_ref().map(|status| list(&status.conditions));
        condition_types(
            conditions
                .unwrap_or_default()
                .iter()
                .map(|condition| slot(&condition.type_)),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kinds::checks::json;

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_level_is_limited_within_reason() {
        let level = |name: &str, spec: Value| -> PriorityLevelConfiguration {
            let value = json!({"metadata": {"name": name}, "spec": spec});
            let mut level = serde_json::from_value(value).unwrap();
            PriorityLevelConfigurationRules.default(&mut level);
            level
        };
        let queue = |queuing: Value| json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}});
        let check = |name: &str, spec: Value| {
            texts(PriorityLevelConfigurationRules.validate(&level(name, spec)))
        };
        assert!(check("p", queue(json!({}))).is_empty());
        assert_eq!(
            check("p", json!({"type": "Exempt"})),
            [
                r#"spec.type: Invalid value: "Exempt": type must be 'Exempt' if and only if name is 'exempt'"#
            ]
        );
        assert_eq!(
            check("p", json!({"type": "Limited"})),
            ["spec.limited: Required value: must not be empty when type is Limited"]
        );
        assert_eq!(
            check("p", queue(json!({"queues": 4}))),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: should not be greater than queues (4)"
            ]
        );
        assert_eq!(
            check("p", queue(json!({"queues": 1024, "handSize": 8}))),
            [
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 8: required entropy bits of deckSize 1024 and handSize 8 should not be greater than 60"
            ]
        );
        let mut percent = queue(json!({}));
        percent["limited"]["lendablePercent"] = json!(101);
        assert_eq!(
            check("p", percent),
            [
                "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive"
            ]
        );
    }

    fn level(name: &str, spec: Value) -> PriorityLevelConfiguration {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_every_cluster_has_stays_as_it_is() {
        let rules = PriorityLevelConfigurationRules;
        let catch_all = level("catch-all", json(&mandatory::level("catch-all").unwrap()));
        assert_eq!(texts(rules.validate(&catch_all)), [""; 0]);
        let reject = json!({"type": "Reject"});
        let changed = json!({"limited": {"limitResponse": reject, "nominalConcurrencyShares": 42}, "type": "Limited"});
        assert_eq!(
            texts(rules.validate_update(&level("catch-all", changed.clone()), &catch_all)),
            [
                r#"spec: Invalid value: {"Type":"Limited","Limited":{"NominalConcurrencyShares":42,"LimitResponse":{"Type":"Reject","Queuing":null},"LendablePercent":null,"BorrowingLimitPercent":null},"Exempt":null}: spec of 'catch-all' must equal the fixed value"#
            ]
        );
        let found = texts(rules.validate(&level("exempt", changed)));
        assert_eq!(
            found[0],
            r#"spec.type: Invalid value: "Limited": type must be 'Exempt' if and only if name is 'exempt'"#
        );
        assert!(
            found[1].ends_with(
                "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value"
            ),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_exempt_may_be_tuned() {
        let found = |shares: i32, percent: i32| {
            let exempt = json!({"nominalConcurrencyShares": shares, "lendablePercent": percent});
            let level = level("exempt", json!({"type": "Exempt", "exempt": exempt}));
            texts(PriorityLevelConfigurationRules.validate(&level))
        };
        assert_eq!(found(10, 100), [""; 0]);
        assert_eq!(
            found(-1, 101),
            [
                "spec.exempt.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
                "spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ]
        );
    }

    #[test]
    fn conditions_are_each_of_another_type() {
        let mut level = level("p", json!({"type": "Limited"}));
        let status = json!({"conditions": [{"type": "A"}, {"type": "A"}, {"type": ""}]});
        level.status = Some(serde_json::from_value(status).unwrap());
        assert_eq!(
            texts(PriorityLevelConfigurationRules.validate_status_update(&level, &level)),
            [
                r#"status.conditions[1].type: Duplicate value: "A""#,
                "status.conditions[2].type: Required value: must not be empty",
            ]
        );
    }
}
