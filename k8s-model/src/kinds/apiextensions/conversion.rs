//! How objects become those of other versions: `spec.conversion`.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, WebhookClientConfig,
};

use crate::{
    certificates,
    field::{self, ErrorList, Path},
    kinds::checks,
    names,
};

const ACCEPTED: [&str; 2] = ["v1", "v1beta1"];
const FORM: &str = "; desired format: https://host[/path]";

pub(super) fn validate(
    conversion: &CustomResourceConversion,
    old: Option<&CustomResourceConversion>,
    is_new: bool,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    let strategy = conversion.strategy.as_str();
    if strategy.is_empty() {
        out.push(field::required(path.child("strategy"), ""));
    } else if !matches!(strategy, "None" | "Webhook") {
        let path = path.child("strategy");
        out.push(field::not_supported(path, strategy, &["None", "Webhook"]));
    }
    let client_path = path.child("webhookClientConfig");
    let versions_path = path.child("conversionReviewVersions");
    let webhook = conversion.webhook.as_ref();
    let config = webhook.and_then(|webhook| webhook.client_config.as_ref());
    let versions = webhook.map_or(&[][..], |webhook| &webhook.conversion_review_versions);
    if strategy == "Webhook" {
        match config {
            None => out.push(field::required(
                client_path,
                "required when strategy is set to Webhook",
            )),
            Some(config) => {
                out.extend(client_config(config, &client_path));
                let excused = is_new || old.is_some_and(|old| ca_fault(old).is_some());
                if let Some(fault) = ca_fault(conversion).filter(|_| !excused) {
                    let bundle = checks::json(&config.ca_bundle);
                    out.push(field::invalid(client_path.child("caBundle"), bundle, fault));
                }
            }
        }
        let recognized = |versions: &[String]| {
            versions.is_empty() || versions.iter().any(|v| ACCEPTED.contains(&v.as_str()))
        };
        let lenient = old
            .and_then(|old| old.webhook.as_ref())
            .is_some_and(|old| !recognized(&old.conversion_review_versions));
        out.extend(review_versions(versions, !lenient, &versions_path));
    } else {
        let text = "should not be set when strategy is not set to Webhook";
        if config.is_some() {
            out.push(field::forbidden(client_path, text));
        }
        if !versions.is_empty() {
            out.push(field::forbidden(versions_path, text));
        }
    }
    out
}

/// What is wrong with the certificates that a webhook is to be trusted for.
pub(crate) fn ca_fault(conversion: &CustomResourceConversion) -> Option<String> {
    let config = conversion.webhook.as_ref()?.client_config.as_ref()?;
    let bundle = config.ca_bundle.as_ref()?.0.as_slice();
    match bundle {
        [] => None,
        bundle => certificates::check_authorities(bundle).err(),
    }
}

fn review_versions(versions: &[String], recognized: bool, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if versions.is_empty() {
        out.push(field::required(path.clone(), ""));
        return out;
    }
    let repeats = checks::repeats(versions);
    for (at, version) in versions.iter().enumerate() {
        if repeats[at] {
            out.push(field::invalid(
                path.index(at),
                version.as_str(),
                "duplicate version",
            ));
            continue;
        }
        out.extend(checks::messages(
            &path.index(at),
            version.as_str(),
            names::dns1035(version, false),
        ));
    }
    if recognized && !versions.iter().any(|v| ACCEPTED.contains(&v.as_str())) {
        let text = format!("must include at least one of {}", ACCEPTED.join(", "));
        out.push(field::invalid(path.clone(), versions.to_vec(), text));
    }
    out
}

fn client_config(config: &WebhookClientConfig, path: &Path) -> ErrorList {
    match (&config.url, &config.service) {
        (Some(url), None) => webhook_url(url, &path.child("url")),
        (None, Some(service)) => webhook_service(
            &service.namespace,
            &service.name,
            service.path.as_deref(),
            service.port,
            &path.child("service"),
        ),
        _ => vec![field::required(
            path.clone(),
            "exactly one of url or service is required",
        )],
    }
}

/// Upstream's `webhook.ValidateWebhookURL`.
pub(crate) fn webhook_url(url: &str, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    if url.chars().any(|c| c.is_ascii_control()) {
        let shown: String = url.chars().flat_map(go_escape).collect();
        let text = format!(
            "url must be a valid URL: parse \"{shown}\": net/url: invalid control character in URL{FORM}"
        );
        out.push(field::required(path.clone(), text));
        return out;
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let text = format!("'https' is the only allowed URL scheme{FORM}");
        out.push(field::invalid(path.clone(), scheme, text));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, tail) = if scheme.is_empty() {
        ("", rest)
    } else {
        rest.split_at(end)
    };
    let (user, host) = host
        .rsplit_once('@')
        .map_or((None, host), |(u, h)| (Some(u), h));
    if host.is_empty() {
        out.push(field::invalid(
            path.clone(),
            host,
            format!("host must be specified{FORM}"),
        ));
    }
    if let Some(user) = user {
        let text = "user information is not permitted in the URL";
        out.push(field::invalid(path.clone(), user, text));
    }
    let (tail, fragment) = tail.split_once('#').unwrap_or((tail, ""));
    if !fragment.is_empty() {
        let text = "fragments are not permitted in the URL";
        out.push(field::invalid(path.clone(), fragment, text));
    }
    if let Some((_, query)) = tail.split_once('?').filter(|(_, query)| !query.is_empty()) {
        let text = "query parameters are not permitted in the URL";
        out.push(field::invalid(path.clone(), query, text));
    }
    out
}

/// A character as Go's `%q` writes it.
fn go_escape(c: char) -> Vec<char> {
    match c {
        '\n' | '\t' | '\r' | '"' | '\\' => c.escape_default().collect(),
        '\u{7}' => vec!['\\', 'a'],
        '\u{8}' => vec!['\\', 'b'],
        '\u{b}' => vec!['\\', 'v'],
        '\u{c}' => vec!['\\', 'f'],
        c if c.is_ascii_control() => format!("\\x{:02x}", c as u32).chars().collect(),
        c => vec![c],
    }
}

/// Upstream's `webhook.ValidateWebhookService`.
pub(crate) fn webhook_service(
    namespace: &str,
    name: &str,
    url_path: Option<&str>,
    port: Option<i32>,
    path: &Path,
) -> ErrorList {
    let mut out = ErrorList::new();
    // Upstream calls this with the two the other way round.
    if namespace.is_empty() {
        out.push(field::required(path.child("name"), ""));
    }
    if name.is_empty() {
        out.push(field::required(path.child("namespace"), ""));
    }
    let port = port.unwrap_or(443);
    let texts = names::port_number(port.into());
    if !texts.is_empty() {
        let text = format!("port is not valid: {}", texts.join(", "));
        out.push(field::invalid(path.child("port"), port, text));
    }
    let Some(url_path) = url_path.filter(|p| !matches!(*p, "" | "/")) else {
        return out;
    };
    let path = path.child("path");
    if url_path == "//" {
        out.push(field::invalid(
            path,
            url_path,
            "segment[0] may not be empty",
        ));
        return out;
    }
    if !url_path.starts_with('/') {
        out.push(field::invalid(
            path.clone(),
            url_path,
            "must start with a '/'",
        ));
    }
    // Upstream drops a byte, not a character.
    let steps = String::from_utf8_lossy(&url_path.as_bytes()[1..]);
    let steps = steps.strip_suffix('/').unwrap_or(&steps);
    for (at, step) in steps.split('/').enumerate() {
        if step.is_empty() {
            let text = format!("segment[{at}] may not be empty");
            out.push(field::invalid(path.clone(), url_path, text));
            continue;
        }
        for text in names::dns_subdomain(step, false) {
            let text = format!("segment[{at}]: {text}");
            out.push(field::invalid(path.clone(), url_path, text));
        }
    }
    out
}
