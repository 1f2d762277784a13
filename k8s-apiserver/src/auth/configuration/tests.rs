use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::auth::{Authenticator, oidc::tests::provider};

const GOOD: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
jwt:
- issuer:
    url: https://one.example.com
    discoveryURL: https://elsewhere.example.com/description
    audiences: [kubernetes, other]
    audienceMatchPolicy: MatchAny
  claimValidationRules:
  - claim: hd
    requiredValue: example.com
  - expression: claims.email_verified
      == true
    message: the address must be verified
  claimMappings:
    username: {expression: claims.email}
    groups: {claim: groups, prefix: 'one:'}
    uid: {claim: sub}
    extra:
    - {key: example.com/tenant, valueExpression: claims.tenant}
  userValidationRules:
  - expression: \"!user.username.startsWith('system:')\"
    message: username cannot be reserved
- issuer: {url: 'https://two.example.com', audiences: [kubernetes]}
  claimMappings:
    username: {claim: sub, prefix: 'two:'}
";

#[test]
fn a_configuration_has_issuers_and_who_may_come_without_a_token() {
    let read = AuthenticationConfiguration::parse(GOOD, &["https://own"]).unwrap();
    let urls: Vec<&str> = read.jwt.iter().map(JwtIssuer::url).collect();
    assert_eq!(urls, ["https://one.example.com", "https://two.example.com"]);
    let anonymous = Anonymous {
        enabled: true,
        paths: vec!["/livez".to_owned()],
    };
    assert_eq!(read.anonymous, Some(anonymous));
    let empty = "{apiVersion: apiserver.config.k8s.io/v1beta1, kind: AuthenticationConfiguration}";
    let empty = AuthenticationConfiguration::parse(empty, &[]).unwrap();
    assert!(empty.jwt.is_empty() && empty.anonymous.is_none());
}

#[test]
fn what_is_wrong_is_told_with_its_place_in_upstreams_words() {
    for (change, to, said) in [
        (
            "https://two.",
            "https://one.",
            r#"jwt[1].issuer.url: Duplicate value: "https://one.example.com""#,
        ),
        (
            "https://two",
            "http://two",
            r#"jwt[1].issuer.url: Invalid value: "http://two.example.com": URL scheme must be https"#,
        ),
        (
            "https://two",
            "https://me@two",
            r#"jwt[1].issuer.url: Invalid value: "https://me@two.example.com": URL must not contain a username or password"#,
        ),
        (
            "https://two.example.com",
            "https://two.example.com?a=b",
            r#"jwt[1].issuer.url: Invalid value: "https://two.example.com?a=b": URL must not contain a query"#,
        ),
        (
            "https://two.example.com",
            "https://own",
            r#"jwt[1].issuer.url: Invalid value: "https://own": URL must not overlap with disallowed issuers: [https://own]"#,
        ),
        (
            "elsewhere.example.com/description",
            "one.example.com/",
            r#"jwt[0].issuer.discoveryURL: Invalid value: "https://one.example.com/": discoveryURL must be different from URL"#,
        ),
        (
            "audiences: [kubernetes]",
            "audiences: []",
            "jwt[1].issuer.audiences: Required value: at least one jwt[1].issuer.audiences is required",
        ),
        (
            "    audienceMatchPolicy: MatchAny\n",
            "",
            r#"jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences"#,
        ),
        (
            "[kubernetes, other]",
            "[other, other]",
            r#"jwt[0].issuer.audiences[1]: Duplicate value: "other""#,
        ),
        (
            "  - claim: hd\n",
            "  - expression: 'true'\n",
            r#"jwt[0].claimValidationRules[0].requiredValue: Invalid value: "example.com": may not be specified when expression is set"#,
        ),
        (
            "  - claim: hd\n    requiredValue: example.com",
            "  - message: x",
            "jwt[0].claimValidationRules[0]: Required value: claim or expression is required",
        ),
        (
            "claims.email_verified\n      == true",
            "claims.verified == true",
            r#"jwt[0].claimMappings.username.expression: Invalid value: "claims.email": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression"#,
        ),
        (
            "claims.email_verified\n      == true",
            "claims.email_verified",
            r#"[jwt[0].claimValidationRules[1].expression: Invalid value: "claims.email_verified": must evaluate to bool"#,
        ),
        (
            "username: {expression: claims.email}",
            "username: {}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        ),
        (
            "{claim: groups, prefix: 'one:'}",
            "{claim: groups}",
            "jwt[0].claimMappings.groups.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        ),
        (
            "uid: {claim: sub}",
            "uid: {claim: sub, expression: claims.sub}",
            r#"jwt[0].claimMappings.uid: Invalid value: "": claim and expression can't both be set"#,
        ),
        (
            "example.com/tenant",
            "tenant",
            r#"jwt[0].claimMappings.extra[0].key: Invalid value: "tenant": must be a domain-prefixed path (such as "acme.io/foo")"#,
        ),
        (
            "example.com/tenant",
            "a.k8s.io/tenant",
            r#"jwt[0].claimMappings.extra[0].key: Invalid value: "a.k8s.io/tenant": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"#,
        ),
        (
            "example.com/tenant",
            "example.com/Tenant",
            r#"jwt[0].claimMappings.extra[0].key: Invalid value: "example.com/Tenant": must be lowercase"#,
        ),
        (
            "valueExpression: claims.tenant",
            "valueExpression: ''",
            "jwt[0].claimMappings.extra[0].valueExpression: Required value",
        ),
        (
            "!user.username",
            "!user.name",
            "jwt[0].userValidationRules[0].expression: Invalid value: \"!user.name.startsWith('system:')\": compilation failed: ERROR: <input>:1:",
        ),
        (
            "enabled: true",
            "enabled: false",
            r#"anonymous.conditions: Invalid value: [{"path":"/livez"}]: enabled should be set to true when conditions are defined"#,
        ),
        (
            "audienceMatchPolicy: MatchAny",
            "certificateAuthority: nonsense",
            "[jwt[0].issuer.audienceMatchPolicy: ",
        ),
        (
            "kind: Auth",
            "kind: Other",
            "authentication configuration cannot be decoded: ",
        ),
        (
            "claimMappings",
            "claimMapping",
            "authentication configuration cannot be decoded: ",
        ),
    ] {
        assert!(GOOD.contains(change), "{change}");
        let error =
            AuthenticationConfiguration::parse(&GOOD.replacen(change, to, 1), &["https://own"]);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}\n is not\n{said}");
    }
}

#[tokio::test]
async fn claims_become_a_user_as_the_expressions_say() {
    let provider = provider().await;
    let text = format!(
        "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: {url}
    discoveryURL: {elsewhere}
    audiences: [kubernetes, other]
    audienceMatchPolicy: MatchAny
    certificateAuthority: {ca}
  claimValidationRules:
  - expression: claims.exp - claims.iat <= 3600
    message: total lifetime must be an hour
  claimMappings:
    username: {{expression: \"claims.sub + ':user'\"}}
    groups: {{expression: \"claims.groups + ['all', '']\"}}
    uid: {{expression: claims.jti}}
    extra:
    - {{key: example.com/tenant, valueExpression: 'has(claims.tenant) ? claims.tenant : []'}}
  userValidationRules:
  - expression: \"!user.groups.exists(g, g.startsWith('system:'))\"
    message: groups cannot be reserved
",
        url = provider.issuer,
        elsewhere = provider.issuer.replace("/oidc", "/elsewhere"),
        ca = json!(provider.pki.ca_pem()),
    );
    let read = AuthenticationConfiguration::parse(&text, &[]).unwrap();
    let tokens = crate::auth::OidcTokens::new(read.jwt[0].clone()).unwrap();
    let now = jsonwebtoken::get_current_timestamp();
    let base = json!({"aud": ["somebody", "other"], "iat": now, "jti": "7"});
    let with = |change: Value| {
        let mut claims = base.clone();
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        provider.token(claims)
    };
    let jane = tokens
        .verify(&with(json!({"tenant": "acme"})))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(jane.name, "jane:user");
    assert_eq!(jane.groups, ["dev", "ops", "all"]);
    assert_eq!(jane.uid, "7");
    assert_eq!(jane.extra["example.com/tenant"], ["acme"]);
    let plain = tokens.verify(&with(json!({}))).await.unwrap().unwrap();
    assert!(plain.extra.is_empty());
    for (bad, said) in [
        (
            json!({"iat": now - 4000}),
            "validation expression 'claims.exp - claims.iat <= 3600' failed: total lifetime must be an hour",
        ),
        (
            json!({"groups": ["system:masters"]}),
            "groups cannot be reserved",
        ),
        (
            json!({"jti": 7}),
            "uid claim expression must return a string",
        ),
        (
            json!({"tenant": 7}),
            "expression must return a string or a list of strings",
        ),
        (
            json!({"sub": null}),
            "error evaluating username claim expression",
        ),
        (json!({"aud": "somebody"}), "verify token"),
        (json!({"aud": null}), "verify token"),
    ] {
        let error = tokens.verify(&with(bad)).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error} is not {said}");
    }
}

#[tokio::test]
async fn a_changed_file_counts_once_it_is_good() {
    let provider = provider().await;
    let file = |prefix: &str, anonymous: bool| {
        format!(
            "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {{enabled: {anonymous}}}
jwt:
- issuer:
    url: {}
    audiences: [kubernetes]
    certificateAuthority: {}
  claimMappings:
    username: {{claim: sub, prefix: '{prefix}'}}
",
            provider.issuer,
            json!(provider.pki.ca_pem())
        )
    };
    let name = format!("authentication-{}.yaml", uuid::Uuid::new_v4());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, file("a:", false)).unwrap();
    let tokens = ConfiguredTokens::looking_every(Duration::from_millis(10), &path, &[]).unwrap();
    let (parts, ()) = http::Request::get("/")
        .header(
            "authorization",
            format!("Bearer {}", provider.token(json!({}))),
        )
        .body(())
        .unwrap()
        .into_parts();
    let metrics = tokens.metrics();
    let total = |status: &str| {
        let sample = format!(
            "apiserver_authentication_config_controller_automatic_reloads_total{{apiserver_id_hash=\"{}\",status=\"{status}\"}} ",
            crate::metrics::server_hash()
        );
        let text = metrics();
        let mut lines = text.lines();
        lines.find_map(|l| l.strip_prefix(&sample)?.parse::<u32>().ok())
    };
    let name = async || tokens.authenticate(&parts).await.unwrap().unwrap().name;
    let becomes = async |wanted: &str, failures: u32| {
        let wait = async {
            while name().await != wanted || total("failure").unwrap_or(0) < failures {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, wait).await.expect(wanted);
    };
    assert_eq!(name().await, "a:jane");
    std::fs::write(&path, file("b:", false)).unwrap();
    becomes("b:jane", 0).await;
    assert_eq!(total("success"), Some(1));
    for (n, bad) in [file("c:", true), file("c:", false).replace("sub", "")]
        .iter()
        .enumerate()
    {
        std::fs::write(&path, bad).unwrap();
        becomes("b:jane", u32::try_from(n).unwrap() + 1).await;
    }
    std::fs::write(&path, file("d:", false)).unwrap();
    becomes("d:jane", 0).await;
    std::fs::remove_file(&path).unwrap();
}
