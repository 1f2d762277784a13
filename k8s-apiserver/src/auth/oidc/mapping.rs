//! [`Mapping`]: what is made of the claims of a token.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_model::cel::{self, Program, Val};
use serde_json::{Map, Value, json};

use crate::auth::Identity;

type Claims = Map<String, Value>;

/// An expression in CEL that was checked.
#[derive(Clone)]
pub(in crate::auth) struct Expression(Arc<(String, Program)>);

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.0, f)
    }
}

impl Expression {
    pub(in crate::auth) fn new(source: &str, program: Program) -> Self {
        Expression(Arc::new((source.to_owned(), program)))
    }

    /// Whether it names that field of a variable.
    pub(in crate::auth) fn speaks_of(&self, variable: &str, field: &str) -> bool {
        self.0.1.fields_of(variable).contains(&field)
    }

    fn source(&self) -> &str {
        &self.0.0
    }

    /// What it makes of one variable.
    fn evaluate<'v>(&self, name: &'static str, value: &'v Value) -> Result<Val<'v>, String> {
        let variables = [(name, cel::value(value, None))];
        let mut budget = cel::CALL_LIMIT;
        self.0
            .1
            .evaluate(&variables, &mut budget)
            .map_err(|e| format!("expression '{}' resulted in error: {e}", self.source()))
    }
}

/// Where a part of an identity comes from.
#[derive(Clone, Debug)]
pub(in crate::auth) enum Source {
    /// From a claim, with something before it.
    Claim { claim: String, prefix: String },
    /// From an expression over `claims`.
    Expression(Expression),
}

/// An expression that must be true.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Rule {
    pub(in crate::auth) expression: Expression,
    pub(in crate::auth) message: String,
}

/// What is made of the claims of a token, and what must be true of them and of the identity.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Mapping {
    pub(in crate::auth) username: Source,
    pub(in crate::auth) groups: Option<Source>,
    /// A claim here has no prefix.
    pub(in crate::auth) uid: Option<Source>,
    pub(in crate::auth) extra: Vec<(String, Expression)>,
    /// Claims that must be there, with that value.
    pub(in crate::auth) required: BTreeMap<String, String>,
    /// Expressions over `claims`.
    pub(in crate::auth) claim_rules: Vec<Rule>,
    /// Expressions over `user`.
    pub(in crate::auth) user_rules: Vec<Rule>,
}

impl Mapping {
    /// Who the bearer of a token with these claims is.
    ///
    /// # Errors
    /// Why they say nothing, or may not say it; in upstream's words.
    pub(super) fn identity(&self, claims: Claims) -> Result<Identity, String> {
        let claims = Value::Object(claims);
        let mut identity = Identity::user(self.username(&claims)?);
        for group in self.groups(&claims)? {
            identity = identity.group(group);
        }
        identity.uid = self.uid(&claims)?;
        for (key, expression) in &self.extra {
            let values = expression.evaluate("claims", &claims)?;
            let values = texts(&values).map_err(|e| {
                let source = expression.source();
                format!("error evaluating extra claim expression: {source}: {e}")
            })?;
            if !values.is_empty() {
                identity.extra.insert(key.clone(), values);
            }
        }
        for (claim, wanted) in &self.required {
            let Some(found) = claims.get(claim) else {
                return Err(format!("required claim {claim} not present in ID token"));
            };
            // Only texts can be what is wanted.
            let got = found
                .as_str()
                .ok_or_else(|| format!("parse claim {claim}: not a text"))?;
            if got != wanted {
                return Err(format!(
                    "required claim {claim} value does not match. Got = {got}, want = {wanted}"
                ));
            }
        }
        judge(&self.claim_rules, "claims", &claims)
            .map_err(|e| format!("error evaluating claim validation expression: {e}"))?;
        if !self.user_rules.is_empty() {
            judge(&self.user_rules, "user", &user(&identity))
                .map_err(|e| format!("error evaluating user info validation rule: {e}"))?;
        }
        Ok(identity)
    }

    fn username(&self, claims: &Value) -> Result<String, String> {
        let (claim, prefix) = match &self.username {
            Source::Claim { claim, prefix } => (claim, prefix),
            Source::Expression(expression) => {
                return one(expression, claims, "username claim expression");
            }
        };
        let name = claims
            .get(claim)
            .and_then(Value::as_str)
            .ok_or_else(|| format!("parse username claims {claim:?}: claim not present"))?;
        if claim == "email" && claims.get("email_verified").is_some_and(|v| *v != true) {
            return Err("email not verified".to_owned());
        }
        Ok(format!("{prefix}{name}"))
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Claim { claim, prefix }) => {
                let bad = || format!("parse groups claim {claim:?}: neither text nor a list of it");
                let named = |group: &str| format!("{prefix}{group}");
                match claims.get(claim) {
                    // Go reads null as an empty list.
                    None | Some(Value::Null) => Ok(Vec::new()),
                    Some(Value::String(group)) => Ok(vec![named(group)]),
                    Some(Value::Array(groups)) => groups
                        .iter()
                        .map(|group| group.as_str().map(named).ok_or_else(bad))
                        .collect(),
                    Some(_) => Err(bad()),
                }
            }
            Some(Source::Expression(expression)) => expression
                .evaluate("claims", claims)
                .and_then(|found| texts(&found))
                .map_err(|e| format!("error evaluating group claim expression: {e}")),
        }
    }

    fn uid(&self, claims: &Value) -> Result<String, String> {
        match &self.uid {
            None => Ok(String::new()),
            Some(Source::Claim { claim, .. }) => claims
                .get(claim)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| format!("parse uid claim {claim:?}: claim not present")),
            Some(Source::Expression(expression)) => one(expression, claims, "uid claim expression"),
        }
    }
}

/// The one text that an expression gives.
fn one(expression: &Expression, claims: &Value, what: &str) -> Result<String, String> {
    match expression.evaluate("claims", claims) {
        Ok(Val::String(text)) => Ok(text.as_ref().to_owned()),
        Ok(_) => Err(format!(
            "error evaluating {what}: {what} must return a string"
        )),
        Err(e) => Err(format!("error evaluating {what}: {e}")),
    }
}

/// The texts that are in a value, without those that are empty: of a text, of a list of texts, of null.
fn texts(value: &Val<'_>) -> Result<Vec<String>, String> {
    let bad = || "expression must return a string or a list of strings".to_owned();
    let all: Vec<Option<String>> = match value {
        Val::Null => Vec::new(),
        Val::String(text) => vec![Some(text.as_ref().to_owned())],
        Val::Json(Value::Array(list), _) => list
            .iter()
            .map(|element| element.as_str().map(str::to_owned))
            .collect(),
        Val::List(list) => list
            .iter()
            .map(|element| match element {
                Val::String(text) => Some(text.as_ref().to_owned()),
                _ => None,
            })
            .collect(),
        _ => return Err(bad()),
    };
    let all: Option<Vec<String>> = all.into_iter().collect();
    let mut all = all.ok_or_else(bad)?;
    all.retain(|text| !text.is_empty());
    Ok(all)
}

/// Whether all the rules are true.
fn judge(rules: &[Rule], name: &'static str, value: &Value) -> Result<(), String> {
    for Rule {
        expression,
        message,
    } in rules
    {
        match expression.evaluate(name, value)? {
            Val::Bool(true) => {}
            Val::Bool(false) => {
                let source = expression.source();
                return Err(format!(
                    "validation expression '{source}' failed: {message}"
                ));
            }
            _ => {
                let source = expression.source();
                return Err(format!(
                    "validation expression must return a boolean: {source}"
                ));
            }
        }
    }
    Ok(())
}

/// An identity as expressions see it: a `UserInfo`, with what is empty too.
fn user(identity: &Identity) -> Value {
    json!({
        "username": identity.name,
        "uid": identity.uid,
        "groups": identity.groups,
        "extra": identity.extra,
    })
}
