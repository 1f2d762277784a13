//! The Common Expression Language, as Kubernetes has it: for validation rules of custom resources.
//!
//! Expressions are parsed by the `cel` crate and evaluated here, over JSON as its schema types it,
//! with a bound on the cost of each evaluation. The functions are those of CEL's standard library
//! and of Kubernetes' own (<https://kubernetes.io/docs/reference/using-api/cel/>).

mod addresses;
mod calls;
mod check;
mod depth;
mod eval;
mod faults;
mod formats;
mod host;
mod json;
mod list_types;
mod lists;
mod macros;
mod members;
mod operators;
mod plan;
mod prices;
mod references;
mod semver;
mod strings;
mod templates;
mod times;
mod value;

use serde_json::Value as Json;

pub(crate) use self::{check::max_cardinality, operators::double_text};
pub use self::{
    check::{Estimate, Fields, Scope, ValueType},
    formats::Format,
    host::Host,
    list_types::Merged,
    semver::Semver,
    value::{Url, Val},
};
use crate::structural::Schema;

/// What one evaluation may cost; upstream's `PerCallLimit`.
pub const CALL_LIMIT: u64 = 1_000_000;

/// What all evaluations for one object may cost; upstream's `RuntimeCELCostBudget`.
pub const OBJECT_LIMIT: u64 = 10_000_000;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CelError {
    /// It is no expression.
    #[error("{0}")]
    Syntax(String),
    /// A function or operator does not take such values.
    #[error("no such overload")]
    NoOverload,
    /// It costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
    /// What it needs to know is not known yet: a [`Host`] has noted it, and whoever evaluates finds it out and
    /// evaluates again.
    #[error("not known yet")]
    Pending,
    /// Anything else: a key that is not there, an overflow, a division by zero.
    #[error("{0}")]
    Failed(String),
}

/// Which macros an expression may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Those of all expressions.
    #[default]
    Common,
    /// Those of selectors of devices: `cel.bind` as well.
    Devices,
}

/// A parsed expression.
#[derive(Debug)]
pub struct Program {
    root: cel::IdedExpr,
    source: cel::common::ast::SourceInfo,
    /// How deep it nests.
    levels: usize,
    plan: plan::Plan,
}

impl Program {
    /// Parses an expression.
    ///
    /// # Errors
    /// With the text of the first thing that is wrong.
    pub fn parse(source: &str) -> Result<Self, CelError> {
        Self::parse_as(source, Dialect::default())
    }

    /// Parses an expression of a dialect.
    ///
    /// # Errors
    /// With the text of the first thing that is wrong.
    pub fn parse_as(source: &str, dialect: Dialect) -> Result<Self, CelError> {
        if source.len() > MAX_SOURCE {
            return Err(CelError::Syntax("expression is too long".to_owned()));
        }
        let (read, unread) = faults::without_unread(source);
        let depth = match depth::check(&read) {
            Ok(depth) => depth,
            Err(depth::Fault::TooDeep) => {
                return Err(CelError::Syntax(format!(
                    "ERROR: <input>:-1:0: expression recursion limit exceeded: {}",
                    depth::MAX
                )));
            }
            Err(depth::Fault::Text(_)) => {
                return Err(CelError::Syntax(faults::told(unread, source, &read)));
            }
        };
        let parser = macros::parser(dialect)
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true);
        let parsed = depth::with_stack(depth.of_nonsense, || parser.parse_with_source_info(&read));
        match parsed {
            Ok((root, source)) if unread.is_empty() => Ok(Program {
                plan: depth::with_stack(depth.levels, || plan::Plan::of(&root)),
                root,
                source,
                levels: depth.levels,
            }),
            Ok(_) => Err(CelError::Syntax(faults::told(unread, source, &read))),
            Err(errors) => {
                let found = errors.errors.into_iter().map(faults::Fault::from);
                let all = unread.into_iter().chain(found).collect();
                Err(CelError::Syntax(faults::told(all, source, &read)))
            }
        }
    }

    /// The fields of a variable that it speaks of by their names, each once.
    pub fn fields_of(&self, variable: &str) -> Vec<&str> {
        depth::with_stack(self.levels, || references::fields_of(&self.root, variable))
    }

    /// Whether it speaks of a variable.
    pub fn mentions(&self, name: &str) -> bool {
        depth::with_stack(self.levels, || check::mentions(&self.root, name))
    }

    /// What it makes of the variables, for at most `budget`. What that costs is taken off the budget.
    ///
    /// # Errors
    /// See [`CelError`].
    pub fn evaluate<'v>(
        &self,
        variables: &[(&'static str, Val<'v>)],
        budget: &mut u64,
    ) -> Result<Val<'v>, CelError> {
        let (found, cost) = self.run(variables, *budget);
        *budget = budget.saturating_sub(cost);
        found
    }

    /// What it makes of the variables, for at most `limit`, and what that costs, call by call as upstream prices it.
    /// It is more than the limit if it fails for that ([`CelError::Cost`]).
    ///
    /// Some calls are priced by what [`typed`](Self::typed) found out of their arguments.
    pub fn run<'v>(
        &self,
        variables: &[(&'static str, Val<'v>)],
        limit: u64,
    ) -> (Result<Val<'v>, CelError>, u64) {
        depth::with_stack(self.levels, || {
            eval::evaluate(&self.root, &self.plan, variables, limit)
        })
    }

    /// What is wrong with it before it is ever evaluated, and what it may cost at most.
    ///
    /// # Errors
    /// With the text of the first thing that is wrong.
    pub fn check(&self, scope: &Scope<'_>) -> Result<Estimate, String> {
        depth::with_stack(self.levels, || {
            check::check(&self.root, &self.source, scope)
        })
    }

    /// What is known of what comes out, for other expressions that speak of it as a field.
    ///
    /// # Errors
    /// As those of [`check`](Self::check).
    pub fn value_type(&self, scope: &Scope<'_>) -> Result<ValueType, String> {
        depth::with_stack(self.levels, || {
            check::value_type(&self.root, &self.source, scope)
        })
    }

    /// Itself, with what its types tell of the calls in it: where it is known before which overload of a function is
    /// called, the size of the arguments counts, and else it costs one, as upstream has it.
    ///
    /// # Errors
    /// As those of [`check`](Self::check).
    pub fn typed(mut self, scope: &Scope<'_>) -> Result<Self, String> {
        let resolved = depth::with_stack(self.levels, || {
            check::resolved(&self.root, &self.source, scope)
        })?;
        self.plan.resolve(resolved);
        Ok(self)
    }
}

/// The longest expression that is parsed, in bytes.
const MAX_SOURCE: usize = 64 * 1024;

/// A value of an object as expressions see it.
pub fn value<'v>(json: &'v Json, schema: Option<&'v Schema>) -> Val<'v> {
    Val::of(json, schema)
}

#[cfg(test)]
mod tests;
