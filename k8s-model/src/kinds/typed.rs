//! [`KindRules`] and [`Typed`]: a strategy that is written against its concrete type.

use k8s_openapi::jiff::Timestamp;

use crate::{
    Object, Strategy,
    field::{self, ErrorList, Path},
    kinds::reserved_names,
    metadata,
};

/// The rules of one kind, in its own type. [`Typed`] makes a [`Strategy`] of them.
///
/// The methods are those of [`Strategy`], with the same meaning.
pub(crate) trait KindRules: Send + Sync + 'static {
    /// The kind's type.
    type Kind: Object;

    /// Whether `metadata.generation` counts spec changes.
    const GENERATION: bool = false;
    /// Whether an object without a name gets a random one.
    const UNNAMED: bool = false;
    /// Whether an update to a name that does not exist creates it.
    const CREATE_ON_UPDATE: bool = false;
    /// Whether an update without a `resourceVersion` is taken as it is.
    const UNCONDITIONAL_UPDATE: bool = true;
    /// Whether finalizers must have a domain in their names.
    const QUALIFIED_FINALIZERS: bool = true;
    /// Whether new objects may have names that are reserved for what manifests configure, see [`reserved_names`].
    const STATIC_NAMES: bool = true;
    /// How often updates have metadata looked at once more, see [`Strategy::metadata_repeats`].
    const METADATA: (usize, usize) = (1, 1);
    /// The names of the selectable fields.
    const SELECTABLE: &'static [&'static str] = &[];

    fn default(&self, _object: &mut Self::Kind) {}

    fn spec_changed(&self, _new: &Self::Kind, _old: &Self::Kind) -> bool {
        false
    }

    fn prepare_for_create(&self, _object: &mut Self::Kind) {}

    fn validate(&self, _object: &Self::Kind) -> ErrorList {
        ErrorList::new()
    }

    fn prepare_for_update(&self, _new: &mut Self::Kind, _old: &Self::Kind) {}

    /// By default, the checks of a new object.
    fn validate_update(&self, new: &Self::Kind, _old: &Self::Kind) -> ErrorList {
        self.validate(new)
    }

    /// What upstream declares of fields and enforces. It takes the place of what is found by hand of the same sort about the
    /// same field, and comes last; `old` is there on updates, through subresources too.
    fn declared(&self, _new: &Self::Kind, _old: Option<&Self::Kind>) -> ErrorList {
        ErrorList::new()
    }

    fn prepare_for_status_update(&self, _new: &mut Self::Kind, _old: &Self::Kind) {}

    fn stamp(
        &self,
        _subresource: &str,
        _new: &mut Self::Kind,
        _old: Option<&Self::Kind>,
        _now: Timestamp,
    ) {
    }

    fn validate_status_update(&self, _new: &Self::Kind, _old: &Self::Kind) -> ErrorList {
        ErrorList::new()
    }

    fn prepare_for_subresource_update(
        &self,
        _subresource: &str,
        new: &mut Self::Kind,
        old: &Self::Kind,
    ) {
        self.prepare_for_status_update(new, old);
    }

    fn validate_subresource_update(
        &self,
        _subresource: &str,
        new: &Self::Kind,
        old: &Self::Kind,
    ) -> ErrorList {
        self.validate_status_update(new, old)
    }

    fn early_warnings(&self, _object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }

    fn warnings(&self, _object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }

    fn update_warnings(&self, new: &Self::Kind, _old: &Self::Kind) -> Vec<String> {
        self.warnings(new)
    }

    fn status_warnings(&self, _new: &Self::Kind, _old: &Self::Kind) -> Vec<String> {
        Vec::new()
    }

    fn grace_period(&self, _object: &Self::Kind, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// The values of [`KindRules::SELECTABLE`], in the same order.
    fn selectable(&self, _object: &Self::Kind) -> Vec<String> {
        Vec::new()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::dns_subdomain(name, prefix)
    }

    fn validate_new_name(&self, _object: &Self::Kind, name: &str, prefix: bool) -> Vec<String> {
        self.validate_name(name, prefix)
    }
}

/// The [`Strategy`] of a kind's [`KindRules`]. An object of another type passes through it
/// untouched.
#[derive(Debug)]
pub(crate) struct Typed<R>(pub(crate) R);

fn finalizers<R: KindRules>(object: &dyn Object) -> ErrorList {
    match &object.metadata().finalizers {
        Some(finalizers) if R::QUALIFIED_FINALIZERS => {
            let path = Path::new("metadata").child("finalizers");
            metadata::validate_finalizer_domains(finalizers, &path)
        }
        _ => ErrorList::new(),
    }
}

impl<R: KindRules> Strategy for Typed<R> {
    fn default(&self, object: &mut dyn Object) {
        if let Some(object) = object.downcast_mut() {
            self.0.default(object);
        }
    }

    fn has_generation(&self) -> bool {
        R::GENERATION
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        match (new.downcast_ref(), old.downcast_ref()) {
            (Some(new), Some(old)) => self.0.spec_changed(new, old),
            _ => false,
        }
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        if let Some(object) = object.downcast_mut() {
            self.0.prepare_for_create(object);
        }
    }

    fn validate(&self, object: &dyn Object) -> ErrorList {
        let mut errors = finalizers::<R>(object);
        if let Some(object) = object.downcast_ref() {
            errors.extend(self.0.validate(object));
            if !R::STATIC_NAMES {
                errors.extend(reserved_names::refusals(object.metadata()));
            }
            field::supersede(&mut errors, self.0.declared(object, None));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        if let (Some(new), Some(old)) = (new.downcast_mut(), old.downcast_ref()) {
            self.0.prepare_for_update(new, old);
        }
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        let times = R::METADATA.0 + R::METADATA.1;
        let again = std::iter::repeat_n(finalizers::<R>(new), times);
        let mut errors: ErrorList = again.flatten().collect();
        if let (Some(new), Some(old)) = (new.downcast_ref(), old.downcast_ref()) {
            errors.extend(self.0.validate_update(new, old));
            field::supersede(&mut errors, self.0.declared(new, Some(old)));
        }
        errors
    }

    fn metadata_repeats(&self) -> (usize, usize) {
        R::METADATA
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        if let (Some(new), Some(old)) = (new.downcast_mut(), old.downcast_ref()) {
            self.0.prepare_for_status_update(new, old);
        }
    }

    fn stamp(
        &self,
        subresource: &str,
        new: &mut dyn Object,
        old: Option<&dyn Object>,
        now: Timestamp,
    ) {
        if let Some(new) = new.downcast_mut() {
            let old = old.and_then(|old| old.downcast_ref());
            self.0.stamp(subresource, new, old, now);
        }
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        let (Some(new), Some(old)) = (new.downcast_ref(), old.downcast_ref()) else {
            return ErrorList::new();
        };
        let mut errors = self.0.validate_status_update(new, old);
        field::supersede(&mut errors, self.0.declared(new, Some(old)));
        errors
    }

    fn prepare_for_subresource_update(
        &self,
        subresource: &str,
        new: &mut dyn Object,
        old: &dyn Object,
    ) {
        if let (Some(new), Some(old)) = (new.downcast_mut(), old.downcast_ref()) {
            self.0.prepare_for_subresource_update(subresource, new, old);
        }
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
    ) -> ErrorList {
        let (Some(new), Some(old)) = (new.downcast_ref(), old.downcast_ref()) else {
            return ErrorList::new();
        };
        let mut errors = self.0.validate_subresource_update(subresource, new, old);
        field::supersede(&mut errors, self.0.declared(new, Some(old)));
        errors
    }

    fn early_warnings(&self, object: &dyn Object) -> Vec<String> {
        object
            .downcast_ref()
            .map(|object| self.0.early_warnings(object))
            .unwrap_or_default()
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        let Some(typed) = object.downcast_ref() else {
            return Vec::new();
        };
        let mut out = self.0.warnings(typed);
        if !R::STATIC_NAMES {
            out.extend(reserved_names::advice(object.metadata()));
        }
        out
    }

    fn update_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        let (Some(typed), Some(old)) = (new.downcast_ref(), old.downcast_ref()) else {
            return Vec::new();
        };
        let mut out = self.0.update_warnings(typed, old);
        if !R::STATIC_NAMES {
            out.extend(reserved_names::update_advice(new.metadata()));
        }
        out
    }

    fn status_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        match (new.downcast_ref(), old.downcast_ref()) {
            (Some(new), Some(old)) => self.0.status_warnings(new, old),
            _ => Vec::new(),
        }
    }

    fn grace_period(&self, object: &dyn Object, requested: Option<i64>) -> Option<i64> {
        object
            .downcast_ref()
            .and_then(|object| self.0.grace_period(object, requested))
    }

    fn may_be_unnamed(&self) -> bool {
        R::UNNAMED
    }

    fn allow_create_on_update(&self) -> bool {
        R::CREATE_ON_UPDATE
    }

    fn allow_unconditional_update(&self) -> bool {
        R::UNCONDITIONAL_UPDATE
    }

    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        let values = object
            .downcast_ref()
            .map(|object| self.0.selectable(object))
            .unwrap_or_default();
        R::SELECTABLE.iter().copied().zip(values).collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        R::SELECTABLE
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        self.0.validate_name(name, prefix)
    }

    fn validate_new_name(&self, object: &dyn Object, name: &str, prefix: bool) -> Vec<String> {
        match object.downcast_ref() {
            Some(object) => self.0.validate_new_name(object, name, prefix),
            None => self.0.validate_name(name, prefix),
        }
    }
}

/// The rules of a kind whose versions are different Rust types: those of `A` or those of `B`, as
/// the object is. What does not depend on an object is as `A` says.
#[derive(Debug)]
pub(crate) struct Either<A, B>(pub(crate) Typed<A>, pub(crate) Typed<B>);

impl<A: KindRules, B: KindRules> Either<A, B> {
    fn of(&self, object: &dyn Object) -> &dyn Strategy {
        if object.downcast_ref::<B::Kind>().is_some() {
            &self.1
        } else {
            &self.0
        }
    }
}

impl<A: KindRules, B: KindRules> Strategy for Either<A, B> {
    fn default(&self, object: &mut dyn Object) {
        self.of(object).default(object);
    }

    fn has_generation(&self) -> bool {
        A::GENERATION
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        self.of(new).spec_changed(new, old)
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        self.of(object).prepare_for_create(object);
    }

    fn validate(&self, object: &dyn Object) -> ErrorList {
        self.of(object).validate(object)
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.of(new).prepare_for_update(new, old);
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.of(new).validate_update(new, old)
    }

    fn metadata_repeats(&self) -> (usize, usize) {
        A::METADATA
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.of(new).prepare_for_status_update(new, old);
    }

    fn stamp(
        &self,
        subresource: &str,
        new: &mut dyn Object,
        old: Option<&dyn Object>,
        now: Timestamp,
    ) {
        self.of(new).stamp(subresource, new, old, now);
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.of(new).validate_status_update(new, old)
    }

    fn prepare_for_subresource_update(
        &self,
        subresource: &str,
        new: &mut dyn Object,
        old: &dyn Object,
    ) {
        self.of(new)
            .prepare_for_subresource_update(subresource, new, old);
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
    ) -> ErrorList {
        self.of(new)
            .validate_subresource_update(subresource, new, old)
    }

    fn early_warnings(&self, object: &dyn Object) -> Vec<String> {
        self.of(object).early_warnings(object)
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        self.of(object).warnings(object)
    }

    fn update_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        self.of(new).update_warnings(new, old)
    }

    fn status_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        self.of(new).status_warnings(new, old)
    }

    fn may_be_unnamed(&self) -> bool {
        A::UNNAMED
    }

    fn allow_create_on_update(&self) -> bool {
        A::CREATE_ON_UPDATE
    }

    fn allow_unconditional_update(&self) -> bool {
        A::UNCONDITIONAL_UPDATE
    }

    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        self.of(object).selectable_fields(object)
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        A::SELECTABLE
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        self.0.validate_name(name, prefix)
    }

    fn validate_new_name(&self, object: &dyn Object, name: &str, prefix: bool) -> Vec<String> {
        self.of(object).validate_new_name(object, name, prefix)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{ResourceTable, field::ErrorList};

    #[test]
    fn some_updates_say_which_version_they_are_of() {
        let table = ResourceTable::builtin();
        for (group, resource, may_be_any) in [
            ("certificates.k8s.io", "clustertrustbundles", false),
            ("certificates.k8s.io", "podcertificaterequests", false),
            ("storagemigration.k8s.io", "storageversionmigrations", false),
            ("networking.k8s.io", "servicecidrs", true),
        ] {
            let row = table.resource(group, "v1", resource).unwrap();
            let found = row.strategy.allow_unconditional_update();
            assert_eq!(found, may_be_any, "{resource}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_update_is_told_once_but_of_volumes() {
        let subject = json!({"kind": "Robot", "name": "a"});
        let role =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "a"});
        let binding = json!({"roleRef": role, "subjects": [subject]});
        let rules = json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": []}]});
        let spec = |spec| json!({"spec": spec});
        let claim = json!({"accessModes": ["All"], "resources": {"requests": {"storage": "1Gi"}}});
        let attached = json!({"attacher": "a", "nodeName": "n", "source": {}});
        let volume = json!({"accessModes": ["All"], "capacity": {"storage": "1Gi"}, "csi":
            {"driver": "d", "volumeHandle": "v"}});
        const RBAC: &str = "rbac.authorization.k8s.io";
        let table = ResourceTable::builtin();
        for (group, resource, what, at, count) in [
            (RBAC, "roles", &rules, "rules[0].verbs", 1),
            (RBAC, "clusterroles", &rules, "rules[0].verbs", 1),
            (RBAC, "rolebindings", &binding, "subjects[0].kind", 1),
            (RBAC, "clusterrolebindings", &binding, "subjects[0].kind", 1),
            (
                "networking.k8s.io",
                "networkpolicies",
                &spec(json!({"podSelector": {}, "policyTypes": ["a"]})),
                "spec.policyTypes[0]",
                1,
            ),
            (
                "storage.k8s.io",
                "csinodes",
                &spec(json!({"drivers": [{"name": "d", "nodeID": ""}]})),
                "spec.drivers[0].nodeID",
                1,
            ),
            (
                "storage.k8s.io",
                "volumeattachments",
                &spec(attached),
                "spec.source",
                1,
            ),
            (
                "",
                "persistentvolumeclaims",
                &spec(claim),
                "spec.accessModes",
                1,
            ),
            (
                "",
                "persistentvolumes",
                &spec(volume),
                "spec.accessModes",
                2,
            ),
        ] {
            let row = table.resource(group, "v1", resource).unwrap();
            let mut value = what.clone();
            value["metadata"] = json!({"name": "a"});
            let mut object = (row.codec.from_value)(value, &mut |_| {}).unwrap();
            row.strategy.default(&mut *object);
            let found = |errors: ErrorList| {
                let mut fields = errors.iter().map(|error| error.field.to_string());
                fields.by_ref().filter(|field| field == at).count()
            };
            let new = row.strategy.validate(&*object);
            assert_eq!(found(new.clone()), 1, "{resource}: {new:?}");
            let update = row.strategy.validate_update(&*object, &*object);
            assert_eq!(found(update.clone()), count, "{resource}: {update:?}");
        }
    }

    #[test]
    fn some_statuses_bring_no_labels() {
        let table = ResourceTable::builtin();
        for (group, resource) in [
            (
                "admissionregistration.k8s.io",
                "validatingadmissionpolicies",
            ),
            ("certificates.k8s.io", "podcertificaterequests"),
            ("networking.k8s.io", "servicecidrs"),
            ("storagemigration.k8s.io", "storageversionmigrations"),
        ] {
            let row = table.resource(group, "v1", resource).unwrap();
            let object = |label: &str| {
                let spec = json!({"signerName": "", "podName": "", "podUID": "", "serviceAccountName": "",
                    "serviceAccountUID": "", "nodeName": "", "nodeUID": "", "stubPKCS10Request": "",
                    "resource": {"group": "", "resource": ""}});
                let metadata = json!({"name": "a", "labels": {label: ""}, "finalizers": [label]});
                let object = json!({"metadata": metadata, "spec": spec});
                (row.codec.from_value)(object, &mut |_| {}).unwrap()
            };
            let (mut new, old) = (object("new"), object("old"));
            row.strategy.prepare_for_status_update(&mut *new, &*old);
            assert_eq!(new.metadata(), old.metadata(), "{resource}");
        }
    }
}
