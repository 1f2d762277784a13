//! What a configuration may say; upstream's `ValidateAuthenticationConfiguration`.

use std::{collections::BTreeSet, sync::LazyLock};

use k8s_model::{
    cel::{Program, Scope},
    field::{self, Error, ErrorList, Path},
    names,
    structural::Schema,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::{Value, json};

use super::{Anonymous, AuthenticationConfiguration, Extra, File, Issuer, Jwt, Mapped};
use crate::auth::{
    SigningAlgorithm,
    oidc::{
        JwtIssuer,
        mapping::{Expression, Mapping, Rule, Source},
        provider::trusted,
    },
};

/// How many issuers there may be.
const MOST: usize = 64;

/// The configuration that a file is, or all that is wrong with it.
pub(super) fn configuration(
    file: &File,
    disallowed: &[&str],
) -> Result<AuthenticationConfiguration, ErrorList> {
    let root = Path::new("jwt");
    if file.jwt.len() > MOST {
        return Err(vec![field::too_many(root, file.jwt.len(), MOST)]);
    }
    let mut found = ErrorList::new();
    let mut issuers = Vec::new();
    let (mut urls, mut discoveries) = (BTreeSet::new(), BTreeSet::new());
    for (n, jwt) in file.jwt.iter().enumerate() {
        let path = root.index(n);
        issuers.extend(authenticator(jwt, &path, disallowed, &mut found));
        let path = path.child("issuer");
        let issuer = &jwt.issuer;
        if !urls.insert(&issuer.url) {
            found.push(field::duplicate(path.child("url"), issuer.url.as_str()));
        }
        if !issuer.discovery_url.is_empty() && !discoveries.insert(&issuer.discovery_url) {
            let path = path.child("discoveryURL");
            found.push(field::duplicate(path, issuer.discovery_url.as_str()));
        }
    }
    let anonymous = file.anonymous.as_ref().map(|anonymous| Anonymous {
        enabled: anonymous.enabled,
        paths: (anonymous.conditions.iter())
            .map(|condition| condition.path.clone())
            .collect(),
    });
    if let Some(anonymous) = &anonymous
        && !anonymous.enabled
        && !anonymous.paths.is_empty()
    {
        let conditions: Value = (anonymous.paths.iter())
            .map(|path| json!({ "path": path }))
            .collect();
        found.push(field::invalid(
            Path::new("anonymous").child("conditions"),
            conditions,
            "enabled should be set to true when conditions are defined",
        ));
    }
    if found.is_empty() {
        Ok(AuthenticationConfiguration {
            jwt: issuers,
            anonymous,
        })
    } else {
        Err(found)
    }
}

/// One issuer; what is made of it counts only if nothing was found.
fn authenticator(
    jwt: &Jwt,
    path: &Path,
    disallowed: &[&str],
    found: &mut ErrorList,
) -> Option<JwtIssuer> {
    issuer(&jwt.issuer, &path.child("issuer"), disallowed, found);
    let (required, claim_rules) = claim_rules(jwt, &path.child("claimValidationRules"), found);
    let mappings = path.child("claimMappings");
    let username = mapped(
        &jwt.claim_mappings.username,
        &mappings.child("username"),
        true,
        found,
    );
    let groups = mapped(
        &jwt.claim_mappings.groups,
        &mappings.child("groups"),
        false,
        found,
    );
    let uid = uid(&jwt.claim_mappings.uid, &mappings.child("uid"), found);
    let extra = extra(&jwt.claim_mappings.extra, &mappings.child("extra"), found);
    if let Some(Source::Expression(name)) = &username {
        let verified = |e: &Expression| e.speaks_of("claims", "email_verified");
        let is_verified = verified(name)
            || extra.iter().any(|(_, value)| verified(value))
            || claim_rules.iter().any(|rule| verified(&rule.expression));
        if name.speaks_of("claims", "email") && !is_verified {
            found.push(field::invalid(
                mappings.child("username").child("expression"),
                jwt.claim_mappings.username.expression.as_str(),
                "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            ));
        }
    }
    let user_rules = user_rules(jwt, &path.child("userValidationRules"), found);
    Some(JwtIssuer {
        url: jwt.issuer.url.clone(),
        discovery_url: jwt.issuer.discovery_url.clone(),
        audiences: jwt.issuer.audiences.clone(),
        ca: jwt.issuer.certificate_authority.clone(),
        algorithms: SigningAlgorithm::ALL.to_vec(),
        mapping: Mapping {
            username: username?,
            groups,
            uid,
            extra,
            required,
            claim_rules,
            user_rules,
        },
    })
}

fn issuer(issuer: &Issuer, path: &Path, disallowed: &[&str], found: &mut ErrorList) {
    let place = path.child("url");
    match issuer.url.as_str() {
        "" => found.push(field::required(place, "")),
        address => url(address, disallowed, &place, found),
    }
    let discovery = issuer.discovery_url.as_str();
    if !discovery.is_empty() {
        let place = path.child("discoveryURL");
        let bare = |url: &str| url.trim_end_matches('/').to_owned();
        if !issuer.url.is_empty() && bare(&issuer.url) == bare(discovery) {
            let text = "discoveryURL must be different from URL";
            found.push(field::invalid(place.clone(), discovery, text));
        }
        url(discovery, &[], &place, found);
    }
    audiences(issuer, path, found);
    if !issuer.certificate_authority.is_empty()
        && let Err(error) = trusted(&issuer.certificate_authority)
    {
        found.push(field::invalid(
            path.child("certificateAuthority"),
            "<omitted>",
            error.to_string(),
        ));
    }
    if !issuer.egress_selector_type.is_empty() {
        found.push(field::invalid(
            path.child("egressSelectorType"),
            issuer.egress_selector_type.as_str(),
            "egress selector is not supported when StructuredAuthenticationConfigurationEgressSelector feature gate is disabled",
        ));
    }
}

fn url(url: &str, disallowed: &[&str], path: &Path, found: &mut ErrorList) {
    let mut wrong = |text: String| found.push(field::invalid(path.clone(), url, text));
    if disallowed.contains(&url) {
        let list = disallowed.join(" ");
        wrong(format!(
            "URL must not overlap with disallowed issuers: [{list}]"
        ));
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let uri: http::Uri = match rest.parse() {
        Ok(uri) => uri,
        Err(error) => return wrong(format!("parse {url:?}: {error}")),
    };
    if uri.scheme_str() != Some("https") {
        wrong("URL scheme must be https".to_owned());
    }
    if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
        wrong("URL must not contain a username or password".to_owned());
    }
    if uri.query().is_some_and(|query| !query.is_empty()) {
        wrong("URL must not contain a query".to_owned());
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment".to_owned());
    }
}

fn audiences(issuer: &Issuer, path: &Path, found: &mut ErrorList) {
    const ANY: &str = "MatchAny";
    let place = path.child("audiences");
    if issuer.audiences.is_empty() {
        let text = format!("at least one {place} is required");
        found.push(field::required(place, text));
        return;
    }
    let mut seen = BTreeSet::new();
    for (n, audience) in issuer.audiences.iter().enumerate() {
        if audience.is_empty() {
            found.push(field::required(place.index(n), ""));
        }
        if !seen.insert(audience) {
            found.push(field::duplicate(place.index(n), audience.as_str()));
        }
    }
    let policy = issuer.audience_match_policy.as_str();
    let text = match issuer.audiences.len() {
        1 if policy.is_empty() => return,
        1 => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    if policy != ANY {
        found.push(field::invalid(
            path.child("audienceMatchPolicy"),
            policy,
            text,
        ));
    }
}

type Required = std::collections::BTreeMap<String, String>;

fn claim_rules(jwt: &Jwt, path: &Path, found: &mut ErrorList) -> (Required, Vec<Rule>) {
    let (mut required, mut rules) = (Required::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (n, rule) in jwt.claim_validation_rules.iter().enumerate() {
        let path = path.index(n);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => found.push(field::required(path, "claim or expression is required")),
            (claim, "") => {
                if !rule.message.is_empty() {
                    found.push(field::invalid(
                        path.child("message"),
                        rule.message.as_str(),
                        "may not be specified when claim is set",
                    ));
                }
                let value = rule.required_value.clone();
                if required.insert(claim.to_owned(), value).is_some() {
                    found.push(field::duplicate(path.child("claim"), claim));
                }
            }
            ("", expression) => {
                if !rule.required_value.is_empty() {
                    found.push(field::invalid(
                        path.child("requiredValue"),
                        rule.required_value.as_str(),
                        "may not be specified when expression is set",
                    ));
                }
                let place = path.child("expression");
                if !seen.insert(expression) {
                    found.push(field::duplicate(place, expression));
                    continue;
                }
                match compile(expression, &Over::Claims, true, place) {
                    Ok(compiled) => rules.push(Rule {
                        expression: compiled,
                        message: rule.message.clone(),
                    }),
                    Err(error) => found.push(error),
                }
            }
            (claim, _) => {
                let text = "claim and expression can't both be set";
                found.push(field::invalid(path, claim, text));
            }
        }
    }
    (required, rules)
}

fn user_rules(jwt: &Jwt, path: &Path, found: &mut ErrorList) -> Vec<Rule> {
    let mut rules = Vec::new();
    let mut seen = BTreeSet::new();
    for (n, rule) in jwt.user_validation_rules.iter().enumerate() {
        let place = path.index(n).child("expression");
        if rule.expression.is_empty() {
            found.push(field::required(place, ""));
        } else if !seen.insert(&rule.expression) {
            found.push(field::duplicate(place, rule.expression.as_str()));
        } else {
            match compile(&rule.expression, &Over::User, true, place) {
                Ok(expression) => rules.push(Rule {
                    expression,
                    message: rule.message.clone(),
                }),
                Err(error) => found.push(error),
            }
        }
    }
    rules
}

fn mapped(mapped: &Mapped, path: &Path, needed: bool, found: &mut ErrorList) -> Option<Source> {
    match (mapped.claim.as_str(), mapped.expression.as_str()) {
        ("", "") => {
            if needed {
                let text = "claim or expression is required";
                found.push(field::required(path.clone(), text));
            }
            None
        }
        (claim, "") => {
            if mapped.prefix.is_none() {
                found.push(field::required(
                    path.child("prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                ));
            }
            Some(Source::Claim {
                claim: claim.to_owned(),
                prefix: mapped.prefix.clone().unwrap_or_default(),
            })
        }
        ("", expression) => {
            if let Some(prefix) = &mapped.prefix {
                found.push(field::invalid(
                    path.child("prefix"),
                    prefix.as_str(),
                    "may not be specified when expression is set",
                ));
            }
            let compiled = compile(expression, &Over::Claims, false, path.child("expression"));
            compiled
                .map(Source::Expression)
                .map_err(|error| found.push(error))
                .ok()
        }
        _ => {
            let text = "claim and expression can't both be set";
            found.push(field::invalid(path.clone(), "", text));
            None
        }
    }
}

fn uid(uid: &Mapped, path: &Path, found: &mut ErrorList) -> Option<Source> {
    if let Some(prefix) = &uid.prefix {
        // There is no such field in a UID.
        found.push(field::invalid(
            path.child("prefix"),
            prefix.as_str(),
            "unknown field",
        ));
    }
    let unprefixed = Mapped {
        claim: uid.claim.clone(),
        prefix: uid.expression.is_empty().then(String::new),
        expression: uid.expression.clone(),
    };
    mapped(&unprefixed, path, false, found)
}

fn extra(extra: &[Extra], path: &Path, found: &mut ErrorList) -> Vec<(String, Expression)> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for (n, mapping) in extra.iter().enumerate() {
        let path = path.index(n);
        let place = path.child("key");
        let key = mapping.key.as_str();
        domain_prefixed(key, &place, found);
        if key.to_lowercase() != key {
            found.push(field::invalid(place.clone(), key, "must be lowercase"));
        }
        let domain = key.split_once('/').map_or("", |(domain, _)| domain);
        let reserved = |own: &str| {
            domain
                .strip_suffix(own)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if reserved("kubernetes.io") || reserved("k8s.io") {
            let text = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
            found.push(field::invalid(place.clone(), key, text));
        }
        if !seen.insert(key) {
            found.push(field::duplicate(place, key));
            continue;
        }
        let place = path.child("valueExpression");
        if mapping.value_expression.is_empty() {
            found.push(field::required(place, ""));
            continue;
        }
        match compile(&mapping.value_expression, &Over::Claims, false, place) {
            Ok(expression) => out.push((mapping.key.clone(), expression)),
            Err(error) => found.push(error),
        }
    }
    out
}

/// Upstream's `IsDomainPrefixedPath`.
pub(in crate::auth) fn domain_prefixed(key: &str, path: &Path, found: &mut ErrorList) {
    if key.is_empty() {
        found.push(field::required(path.clone(), ""));
        return;
    }
    let Some((domain, rest)) = key
        .split_once('/')
        .filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        found.push(field::invalid(path.clone(), key, text));
        return;
    };
    for text in names::dns_subdomain(domain, false) {
        found.push(field::invalid(path.clone(), domain, text));
    }
    let fine = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !rest.chars().all(fine) {
        found.push(field::invalid(
            path.clone(),
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        ));
    }
}

/// What an expression is over.
enum Over {
    /// `claims`, of which nothing is known.
    Claims,
    /// `user`, a `UserInfo`.
    User,
}

/// What `user` has.
static USER: LazyLock<Schema> = LazyLock::new(|| {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let user = json!({"type": "object", "properties": {
        "username": {"type": "string"},
        "uid": {"type": "string"},
        "groups": texts,
        "extra": {"type": "object", "additionalProperties": texts},
    }});
    let user: JSONSchemaProps = serde_json::from_value(user).unwrap_or_default();
    Schema::new(&user)
});

/// An expression that was checked; one that must be true or false, or anything.
fn compile(source: &str, over: &Over, boolean: bool, path: Path) -> Result<Expression, Error> {
    let wrong = |text: String| field::invalid(path.clone(), source, text);
    let program = Program::parse(source).map_err(|e| wrong(format!("compilation failed: {e}")))?;
    let scope = match over {
        Over::Claims => Scope::new().with("claims", None),
        Over::User => Scope::new().with("user", Some(&USER)),
    };
    let estimate = program
        .check(&scope)
        .map_err(|e| wrong(format!("compilation failed: {e}")))?;
    if boolean && estimate.result != "bool" {
        return Err(wrong("must evaluate to bool".to_owned()));
    }
    let program = program
        .typed(&scope)
        .map_err(|e| wrong(format!("compilation failed: {e}")))?;
    Ok(Expression::new(source, program))
}
