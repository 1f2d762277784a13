//! A container's environment.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::core::v1::{ConfigMap, Container, Secret, Service};

use super::{PodView, expansion::expand, fields, fields::NodeFacts};

/// The objects a container's environment refers to, as they were read just before. `None` for one
/// that does not exist.
#[derive(Debug, Default)]
pub(crate) struct EnvSources {
    pub(crate) config_maps: BTreeMap<String, Option<ConfigMap>>,
    pub(crate) secrets: BTreeMap<String, Option<Secret>>,
}

/// The names of ConfigMaps and Secrets that an environment refers to.
pub(crate) fn references(container: &Container) -> (Vec<String>, Vec<String>) {
    let (mut config_maps, mut secrets) = (Vec::new(), Vec::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.value_from.as_ref())
    {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    for list in [&mut config_maps, &mut secrets] {
        list.sort_unstable();
        list.dedup();
    }
    (config_maps, secrets)
}

/// What an environment is made from.
pub(crate) struct EnvInput<'a> {
    pub(crate) pod: &'a PodView,
    pub(crate) container: &'a Container,
    pub(crate) sources: &'a EnvSources,
    pub(crate) services: BTreeMap<String, String>,
    pub(crate) node: &'a NodeFacts,
    pub(crate) pod_ips: &'a [IpAddr],
}

/// A finished environment, and what to tell about it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Env {
    pub(crate) vars: Vec<(String, String)>,
    /// Messages for `InvalidEnvironmentVariableNames` events.
    pub(crate) skipped: Vec<String>,
}

impl Env {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.vars
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    }
}

/// Resolves a container's environment.
///
/// # Errors
///
/// A message in upstream's words when something it refers to is missing.
pub(crate) fn resolve(input: EnvInput<'_>) -> Result<Env, String> {
    let EnvInput {
        pod,
        container,
        sources,
        services,
        node,
        pod_ips,
    } = input;
    let ns = pod.namespace();
    let mut skipped = Vec::new();
    let mut order: Vec<String> = Vec::new();
    let mut vars: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |vars: &mut BTreeMap<String, String>, name: String, value: String| {
        if vars.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    };
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, entries) = if let Some(r) = &from.config_map_ref {
            match config_map(sources, &r.name, r.optional)? {
                Some(map) => {
                    let data = map
                        .data
                        .iter()
                        .flatten()
                        .map(|(k, v)| (k.clone(), v.clone()));
                    ("configMap", &r.name, data.collect::<Vec<_>>())
                }
                None => continue,
            }
        } else if let Some(r) = &from.secret_ref {
            match secret(sources, &r.name, r.optional)? {
                Some(s) => {
                    let data = s.data.iter().flatten();
                    let data =
                        data.map(|(k, v)| (k.clone(), String::from_utf8_lossy(&v.0).into_owned()));
                    ("secret", &r.name, data.collect())
                }
                None => continue,
            }
        } else {
            continue;
        };
        let mut invalid = Vec::new();
        for (key, value) in entries {
            let key = format!("{prefix}{key}");
            if is_env_name(&key) {
                set(&mut vars, key, value)
            } else {
                invalid.push(key)
            }
        }
        if !invalid.is_empty() {
            skipped.push(format!(
                "Keys [{}] from the EnvFrom {kind} {ns}/{name} were skipped since they are considered invalid environment variable names.",
                invalid.join(", ")
            ));
        }
    }
    for var in container.env.iter().flatten() {
        let value = if let Some(value) = var.value.as_deref().filter(|v| !v.is_empty()) {
            expand(value, |name| {
                vars.get(name).or_else(|| services.get(name)).cloned()
            })
        } else if let Some(source) = &var.value_from {
            if let Some(r) = &source.field_ref {
                fields::field(pod, &r.field_path, node, pod_ips)?
            } else if let Some(r) = &source.resource_field_ref {
                fields::resource(pod, Some(container), r, node)?
            } else if let Some(r) = &source.config_map_key_ref {
                let map = config_map(sources, &r.name, r.optional)?;
                let Some(map) = map else { continue };
                match map.data.as_ref().and_then(|d| d.get(&r.key)) {
                    Some(value) => value.clone(),
                    None if r.optional == Some(true) => continue,
                    None => {
                        return Err(format!(
                            "couldn't find key {} in ConfigMap {ns}/{}",
                            r.key, r.name
                        ));
                    }
                }
            } else if let Some(r) = &source.secret_key_ref {
                let secret = secret(sources, &r.name, r.optional)?;
                let Some(secret) = secret else { continue };
                match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
                    Some(value) => String::from_utf8_lossy(&value.0).into_owned(),
                    None if r.optional == Some(true) => continue,
                    None => {
                        return Err(format!(
                            "couldn't find key {} in Secret {ns}/{}",
                            r.key, r.name
                        ));
                    }
                }
            } else {
                String::new()
            }
        } else {
            String::new()
        };
        set(&mut vars, var.name.clone(), value);
    }
    let mut out: Vec<(String, String)> = order
        .into_iter()
        .map(|name| {
            let value = vars.get(&name).cloned().unwrap_or_default();
            (name, value)
        })
        .collect();
    out.extend(
        services
            .into_iter()
            .filter(|(name, _)| !vars.contains_key(name)),
    );
    Ok(Env { vars: out, skipped })
}

fn config_map<'a>(
    sources: &'a EnvSources,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a ConfigMap>, String> {
    match sources.config_maps.get(name).and_then(Option::as_ref) {
        None if optional != Some(true) => Err(format!("configmap {name:?} not found")),
        found => Ok(found),
    }
}

fn secret<'a>(
    sources: &'a EnvSources,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<&'a Secret>, String> {
    match sources.secrets.get(name).and_then(Option::as_ref) {
        None if optional != Some(true) => Err(format!("secret {name:?} not found")),
        found => Ok(found),
    }
}

fn is_env_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '-' | '.'))
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && name != "."
        && !name.starts_with("..")
}

/// Docker-compatible variables for the services of a namespace, and always for the API server's.
pub(crate) fn service_env<'a>(
    services: impl Iterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(ns)) = (
            service.metadata.name.as_deref(),
            service.metadata.namespace.as_deref(),
        ) else {
            continue;
        };
        let ip = service
            .spec
            .as_ref()
            .and_then(|s| s.cluster_ip.as_deref())
            .unwrap_or_default();
        if ip.is_empty() || ip == "None" {
            continue;
        }
        if ns == "default" && name == "kubernetes" {
            chosen.entry(name).or_insert(service);
        } else if ns == namespace && links {
            chosen.insert(name, service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        let Some(spec) = &service.spec else { continue };
        let (Some(ip), Some(ports)) = (&spec.cluster_ip, &spec.ports) else {
            continue;
        };
        let prefix = env_name(name);
        let bracketed = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.clone()
        };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.clone());
        for (i, port) in ports.iter().enumerate() {
            let number = port.port.to_string();
            if i == 0 {
                out.insert(format!("{prefix}_SERVICE_PORT"), number.clone());
            }
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(
                    format!("{prefix}_SERVICE_PORT_{}", env_name(port_name)),
                    number.clone(),
                );
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let lower = protocol.to_lowercase();
            let url = format!("{lower}://{bracketed}:{number}");
            if i == 0 {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            let port_prefix = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
            out.insert(format!("{port_prefix}_PROTO"), lower);
            out.insert(format!("{port_prefix}_PORT"), number);
            out.insert(format!("{port_prefix}_ADDR"), ip.clone());
            out.insert(port_prefix, url);
        }
    }
    out
}

fn env_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        ByteString,
        api::core::v1::{
            ConfigMapEnvSource, ConfigMapKeySelector, EnvFromSource, EnvVar, EnvVarSource, Pod,
            SecretKeySelector, ServicePort, ServiceSpec,
        },
    };

    use super::*;

    fn run(
        container: &Container,
        sources: &EnvSources,
        services: BTreeMap<String, String>,
    ) -> Result<Env, String> {
        let mut pod = Pod::default();
        pod.metadata.namespace = Some("ns".to_owned());
        resolve(EnvInput {
            pod: &PodView::new(pod),
            container,
            sources,
            services,
            node: &NodeFacts::default(),
            pod_ips: &[],
        })
    }

    fn var(name: &str, value: &str) -> EnvVar {
        EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..Default::default()
        }
    }

    fn key_ref(name: &str, map: &str, key: &str, optional: bool) -> EnvVar {
        let config_map_key_ref = Some(ConfigMapKeySelector {
            name: map.to_owned(),
            key: key.to_owned(),
            optional: Some(optional),
        });
        let value_from = Some(EnvVarSource {
            config_map_key_ref,
            ..Default::default()
        });
        EnvVar {
            name: name.to_owned(),
            value_from,
            ..Default::default()
        }
    }

    #[test]
    fn variables_compose_in_order() {
        let container = Container {
            env: Some(vec![
                var("A", "1"),
                var("B", "$(A)$(HOST)$(C)"),
                var("C", "3"),
            ]),
            ..Default::default()
        };
        let services = BTreeMap::from([("HOST".to_owned(), "h".to_owned())]);
        let env = run(&container, &EnvSources::default(), services).unwrap();
        assert_eq!(env.get("B").unwrap(), "1h$(C)");
        assert_eq!(env.get("HOST").unwrap(), "h");
    }

    #[test]
    fn missing_references_are_errors_unless_optional() {
        let missing = |e: EnvVar| Container {
            env: Some(vec![e]),
            ..Default::default()
        };
        let mut sources = EnvSources::default();
        let error = run(
            &missing(key_ref("A", "x", "k", false)),
            &sources,
            BTreeMap::new(),
        )
        .unwrap_err();
        assert_eq!(error, "configmap \"x\" not found");
        assert_eq!(
            run(
                &missing(key_ref("A", "x", "k", true)),
                &sources,
                BTreeMap::new()
            )
            .unwrap(),
            Env::default()
        );
        sources
            .config_maps
            .insert("x".to_owned(), Some(ConfigMap::default()));
        let error = run(
            &missing(key_ref("A", "x", "k", false)),
            &sources,
            BTreeMap::new(),
        )
        .unwrap_err();
        assert_eq!(error, "couldn't find key k in ConfigMap ns/x");
        let secret_key_ref = Some(SecretKeySelector {
            name: "s".to_owned(),
            key: "k".to_owned(),
            optional: None,
        });
        let value_from = Some(EnvVarSource {
            secret_key_ref,
            ..Default::default()
        });
        let container = missing(EnvVar {
            name: "A".to_owned(),
            value_from,
            ..Default::default()
        });
        assert_eq!(
            run(&container, &sources, BTreeMap::new()).unwrap_err(),
            "secret \"s\" not found"
        );
        let secret = Secret {
            data: Some([("k".to_owned(), ByteString(b"v".to_vec()))].into()),
            ..Default::default()
        };
        sources.secrets.insert("s".to_owned(), Some(secret));
        assert_eq!(
            run(&container, &sources, BTreeMap::new())
                .unwrap()
                .get("A")
                .unwrap(),
            "v"
        );
    }

    #[test]
    fn whole_config_maps_are_taken_with_a_prefix() {
        let data = [("good", "1"), ("not good", "2")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let map = ConfigMap {
            data: Some(data.into()),
            ..Default::default()
        };
        let sources = EnvSources {
            config_maps: [("m".to_owned(), Some(map))].into(),
            ..Default::default()
        };
        let from = EnvFromSource {
            prefix: Some("P_".to_owned()),
            config_map_ref: Some(ConfigMapEnvSource {
                name: "m".to_owned(),
                optional: None,
            }),
            ..Default::default()
        };
        let container = Container {
            env_from: Some(vec![from]),
            ..Default::default()
        };
        let env = run(&container, &sources, BTreeMap::new()).unwrap();
        assert_eq!(env.vars, [("P_good".to_owned(), "1".to_owned())]);
        assert!(
            env.skipped[0]
                .starts_with("Keys [P_not good] from the EnvFrom configMap ns/m were skipped")
        );
    }

    #[test]
    fn services_become_variables() {
        let service = |ns: &str, name: &str| {
            let mut s = Service {
                spec: Some(ServiceSpec {
                    cluster_ip: Some("10.0.0.9".to_owned()),
                    ports: Some(vec![ServicePort {
                        port: 443,
                        name: Some("https".to_owned()),
                        ..Default::default()
                    }]),
                    ..Default::default()
                }),
                ..Default::default()
            };
            s.metadata.name = Some(name.to_owned());
            s.metadata.namespace = Some(ns.to_owned());
            s
        };
        let all = [
            service("default", "kubernetes"),
            service("ns", "my-db"),
            service("other", "x"),
        ];
        let env = service_env(all.iter(), "ns", true);
        assert_eq!(env["KUBERNETES_SERVICE_HOST"], "10.0.0.9");
        assert_eq!(env["MY_DB_PORT_443_TCP"], "tcp://10.0.0.9:443");
        assert_eq!(env["MY_DB_SERVICE_PORT_HTTPS"], "443");
        assert!(!env.keys().any(|k| k.starts_with("X_")));
        assert!(!service_env(all.iter(), "ns", false).contains_key("MY_DB_PORT"));
    }
}
