//! [`Host`]: values that the program around an expression answers for.

use std::fmt::Debug;

use super::{CelError, Val};

/// A value whose fields and methods are somebody else's: computed when they are looked at, as the variables of a
/// policy, or asked for outside, as Kubernetes' `authorizer`.
pub trait Host<'v>: Debug {
    /// The name of its type.
    fn type_name(&self) -> &'static str;

    /// Its field of that name, if it has one. What that costs is taken off the budget.
    ///
    /// # Errors
    /// As those of an expression.
    fn field(&self, name: &str, budget: &mut u64) -> Result<Option<Val<'v>>, CelError>;

    /// Its entry of that key, where it is a map: `host["key"]`.
    ///
    /// # Errors
    /// [`CelError::NoOverload`] if it is none, as most are not.
    fn entry(&self, _key: &str) -> Result<Option<Val<'v>>, CelError> {
        Err(CelError::NoOverload)
    }

    /// What its method of that name gives for these arguments. What that costs is taken off the budget.
    ///
    /// # Errors
    /// [`CelError::NoOverload`] if it has no such method; [`CelError::Pending`] if the answer is not known yet.
    fn call(
        &self,
        method: &str,
        arguments: &[Val<'v>],
        budget: &mut u64,
    ) -> Result<Val<'v>, CelError>;
}
