//! The sections of `extenders`.

use std::{collections::BTreeSet, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_model::names;
use serde::Deserialize;

use super::{ConfigError, file::duration, invalid};
use crate::{
    extender::{ExtenderTls, HttpExtender, HttpExtenderConfig, data_or_file},
    framework::Extender,
};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ExtenderSection {
    url_prefix: String,
    filter_verb: String,
    preempt_verb: String,
    prioritize_verb: String,
    weight: i64,
    bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    enable_https: bool,
    tls_config: Option<TlsSection>,
    #[serde(rename = "httpTimeout")]
    http_timeout: Option<String>,
    node_cache_capable: bool,
    managed_resources: Vec<ManagedResource>,
    ignorable: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ManagedResource {
    name: String,
    #[serde(default)]
    ignored_by_scheduler: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct TlsSection {
    insecure: bool,
    server_name: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    ca_file: Option<String>,
    cert_data: Option<String>,
    key_data: Option<String>,
    ca_data: Option<String>,
}

impl ExtenderSection {
    /// The resources that NodeResourcesFit leaves to this extender.
    pub(super) fn ignored(&self) -> impl Iterator<Item = &str> {
        let managed = self.managed_resources.iter();
        managed
            .filter(|r| r.ignored_by_scheduler)
            .map(|r| r.name.as_str())
    }

    fn tls(&self, path: &str) -> Result<ExtenderTls, ConfigError> {
        let section = self.tls_config.clone().unwrap_or_default();
        let pem = |field: &str, data: Option<String>, file: Option<String>| {
            let error = |text: String| invalid(format!("{path}.tlsConfig.{field}"), text);
            let data = data.map(|d| BASE64_STANDARD.decode(d)).transpose();
            let data = data.map_err(|e| error(e.to_string()))?;
            data_or_file(data, file).map_err(|e| error(e.to_string()))
        };
        let ca = pem("ca", section.ca_data, section.ca_file)?;
        Ok(ExtenderTls {
            // As upstream: HTTPS that nobody vouches for, unless there is an authority to trust.
            insecure: section.insecure || (self.enable_https && ca.is_none()),
            server_name: section.server_name,
            ca,
            certificate: pem("cert", section.cert_data, section.cert_file)?,
            key: pem("key", section.key_data, section.key_file)?,
        })
    }

    fn make(&self, path: &str) -> Result<HttpExtender, ConfigError> {
        let timeout = match self.http_timeout.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let error = || invalid(format!("{path}.httpTimeout"), "must be a duration");
                Some(duration(text).ok_or_else(error)?).filter(|d| !d.is_zero())
            }
        };
        let config = HttpExtenderConfig {
            url_prefix: self.url_prefix.clone(),
            filter_verb: self.filter_verb.clone(),
            prioritize_verb: self.prioritize_verb.clone(),
            preempt_verb: self.preempt_verb.clone(),
            bind_verb: self.bind_verb.clone(),
            weight: self.weight,
            timeout,
            knows_nodes: self.node_cache_capable,
            managed_resources: self
                .managed_resources
                .iter()
                .map(|r| r.name.clone())
                .collect(),
            ignorable: self.ignorable,
            tls: self.tls(path)?,
        };
        HttpExtender::try_new(config)
            .map_err(|e| invalid(format!("{path}.tlsConfig"), e.to_string()))
    }
}

/// Whether a resource's name is one of an extended resource: qualified, and not Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let Some((prefix, _)) = name.split_once('/') else {
        return false;
    };
    !prefix.ends_with("kubernetes.io")
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Extenders from their sections.
pub(super) fn extenders(
    sections: &[ExtenderSection],
) -> Result<Vec<Arc<dyn Extender>>, ConfigError> {
    let mut managed: BTreeSet<&str> = BTreeSet::new();
    let binders = sections.iter().filter(|s| !s.bind_verb.is_empty()).count();
    if binders > 1 {
        let text = format!(
            "found {binders} extenders implementing bind: only one extender can implement bind"
        );
        return Err(invalid("extenders", text));
    }
    let mut extenders: Vec<Arc<dyn Extender>> = Vec::new();
    for (i, section) in sections.iter().enumerate() {
        let path = format!("extenders[{i}]");
        if !section.prioritize_verb.is_empty() && section.weight <= 0 {
            let text = "must have a positive weight applied to it";
            return Err(invalid(format!("{path}.weight"), text));
        }
        if section.url_prefix.parse::<http::Uri>().is_err() || section.url_prefix.is_empty() {
            return Err(invalid(format!("{path}.urlPrefix"), "must be a URL"));
        }
        for (j, resource) in section.managed_resources.iter().enumerate() {
            let field = format!("{path}.managedResources[{j}].name");
            if !is_extended(&resource.name) {
                return Err(invalid(field, "is an invalid extended resource name"));
            }
            if !managed.insert(&resource.name) {
                return Err(invalid(field, "duplicate extender managed resource name"));
            }
        }
        extenders.push(Arc::new(section.make(&path)?));
    }
    Ok(extenders)
}
