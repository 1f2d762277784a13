//! The defaults of custom resource definitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition,
};

use crate::kinds::checks;

pub(super) fn fill(definition: &mut CustomResourceDefinition) {
    let spec = &mut definition.spec;
    let kind = spec.names.kind.clone();
    checks::fill(&mut spec.names.singular, &kind.to_lowercase());
    if !kind.is_empty() {
        checks::fill(&mut spec.names.list_kind, &format!("{kind}List"));
    }
    let conversion = spec
        .conversion
        .get_or_insert_with(|| CustomResourceConversion {
            strategy: "None".to_owned(),
            ..CustomResourceConversion::default()
        });
    let service = (conversion.webhook.as_mut())
        .and_then(|webhook| webhook.client_config.as_mut()?.service.as_mut());
    if let Some(service) = service {
        service.port.get_or_insert(443);
    }
    // Whoever says that nothing is stored is told what is.
    if let Some(status) = &mut definition.status
        && checks::list(&status.stored_versions).is_empty()
    {
        let storage = definition.spec.versions.iter().find(|v| v.storage);
        status.stored_versions = storage.map(|version| vec![version.name.clone()]);
    }
}
