//! [`Strategy`]: one resource's own rules, and nothing else of its handling.

use k8s_openapi::jiff::Timestamp;

use crate::{
    Object,
    field::{self, ErrorList},
};

/// What a resource adds to the generic path of an object.
///
/// All methods are pure: no I/O, no clock (who needs the time is told it), no randomness. The machinery calls them
/// in the order of the methods here, and has already checked the metadata
/// (names, namespaces, labels, annotations, owner references) by its own rules.
/// An object handed to a strategy is always of the kind that the strategy is
/// registered for.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in the defaults of the fields that are unset. Must be idempotent.
    fn default(&self, _object: &mut dyn Object) {}

    /// Whether `metadata.generation` counts this kind's spec changes. If so the machinery sets it
    /// to 1 on create and adds one whenever [`Strategy::spec_changed`] says so.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether an update changes what the generation counts.
    fn spec_changed(&self, _new: &dyn Object, _old: &dyn Object) -> bool {
        false
    }

    /// Drops or sets what a client may not choose on create, such as the status.
    fn prepare_for_create(&self, _object: &mut dyn Object) {}

    /// Checks a new object.
    fn validate(&self, _object: &dyn Object) -> ErrorList {
        Vec::new()
    }

    /// Drops or sets what a client may not change on update, such as the status.
    fn prepare_for_update(&self, _new: &mut dyn Object, _old: &dyn Object) {}

    /// Checks an update. An implementation that wants the checks of a new object too calls
    /// [`Strategy::validate`] itself.
    fn validate_update(&self, _new: &dyn Object, _old: &dyn Object) -> ErrorList {
        Vec::new()
    }

    /// How often an update's findings about metadata are told once more: those about metadata as any object may have it, and
    /// those about what may not change. Upstream's own kinds look at it again, each as often as it came to be.
    fn metadata_repeats(&self) -> (usize, usize) {
        (0, 0)
    }

    /// For an update through the `status` subresource: takes everything except the status (and
    /// the metadata that a status update may change) from `old`.
    fn prepare_for_status_update(&self, _new: &mut dyn Object, _old: &dyn Object) {}

    /// Fills in since when something is so, where the server says that unless the client does: since when a taint is there,
    /// a condition holds, a volume is in its phase. A new object is stamped before its admission, an update after it; `old`
    /// is what it takes the place of, and `subresource` the way on which it does, empty for the object itself.
    fn stamp(
        &self,
        _subresource: &str,
        _new: &mut dyn Object,
        _old: Option<&dyn Object>,
        _now: Timestamp,
    ) {
    }

    /// Checks an update through the `status` subresource.
    fn validate_status_update(&self, _new: &dyn Object, _old: &dyn Object) -> ErrorList {
        Vec::new()
    }

    /// For an update through another subresource with the object's own kind, such as `approval`;
    /// by default as through `status`.
    fn prepare_for_subresource_update(
        &self,
        _subresource: &str,
        new: &mut dyn Object,
        old: &dyn Object,
    ) {
        self.prepare_for_status_update(new, old);
    }

    /// Checks an update through another subresource; by default as through `status`.
    fn validate_subresource_update(
        &self,
        _subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
    ) -> ErrorList {
        self.validate_status_update(new, old)
    }

    /// The same check of an update, through a subresource if one is named. What is wrong and goes all the same, as it was
    /// like that before, is added to `excused`: the client is warned of it.
    fn check_update(
        &self,
        subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
        _excused: &mut Vec<String>,
    ) -> ErrorList {
        match subresource {
            "" => self.validate_update(new, old),
            subresource => self.validate_subresource_update(subresource, new, old),
        }
    }

    /// Advice on a new object as it came, on what [`Strategy::prepare_for_create`] makes something else of: whoever sent it
    /// hears of that even if the object is refused.
    fn early_warnings(&self, _object: &dyn Object) -> Vec<String> {
        Vec::new()
    }

    /// Advice for the client: each becomes a `Warning` header.
    fn warnings(&self, _object: &dyn Object) -> Vec<String> {
        Vec::new()
    }

    /// Advice on an update; by default as on a new object.
    fn update_warnings(&self, new: &dyn Object, _old: &dyn Object) -> Vec<String> {
        self.warnings(new)
    }

    /// Advice on an object whose status has been updated.
    fn status_warnings(&self, _new: &dyn Object, _old: &dyn Object) -> Vec<String> {
        Vec::new()
    }

    /// How long after a delete the object stays, to be finished off by its owner: the seconds
    /// that a client asked for, or the kind's own default. `None` is a kind that is
    /// deleted at once. Only pods are graceful upstream.
    fn grace_period(&self, _object: &dyn Object, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether an object can be created without a name, and gets a random one then.
    fn may_be_unnamed(&self) -> bool {
        false
    }

    /// Whether an update to a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without `metadata.resourceVersion` is taken as it is.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// The fields besides `metadata.name` and `metadata.namespace` that a field
    /// selector may name, with this object's values.
    fn selectable_fields(&self, _object: &dyn Object) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The names in [`Strategy::selectable_fields`].
    fn selectable_field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether [`Strategy::selectable_fields`] finds any at all. A custom resource has those of all its versions: one may be
    /// selected by what another calls selectable.
    fn has_selectable_fields(&self) -> bool {
        !self.selectable_field_names().is_empty()
    }

    /// What server-side apply must know of the kind, where it is not a built-in type: a custom
    /// resource's comes from its schema, see [`Shape::from_structural`](crate::apply::Shape).
    fn shape(&self) -> Option<crate::apply::Shape> {
        None
    }

    /// The version of a custom resource that this is the strategy of, if it is one.
    fn custom(&self) -> Option<&crate::custom::Version> {
        None
    }

    /// How a name is checked; upstream's `NameIsDNSSubdomain` unless the kind has its own.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::dns_subdomain(name, prefix)
    }

    /// How the name of a new object is checked, or what its name is to begin with: as
    /// [`Strategy::validate_name`] says, unless the object itself says what its name must be.
    fn validate_new_name(&self, _object: &dyn Object, name: &str, prefix: bool) -> Vec<String> {
        self.validate_name(name, prefix)
    }
}

/// The strategy of a kind without rules of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRules;

impl Strategy for NoRules {}

const _: fn(&dyn Strategy, &field::Error) = |_, _| {};
