//! [`DeviceAdminAccess`]: who may use devices that others have.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_model::{
    Object,
    field::{self, Path},
    status::{self, GroupResource},
};
use k8s_openapi::api::core::v1::Namespace;

use crate::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
};

/// The label of namespaces whose claims may ask for such access.
const LABEL: &str = "resource.kubernetes.io/admin-access";

/// Refuses claims, and templates of claims, that ask for devices which others may have at the same time, unless the
/// namespace is labelled for that (KEP-5018). Upstream's server has the rule among those of the kinds.
#[derive(Debug)]
pub struct DeviceAdminAccess(Arc<dyn ObjectReader>);

impl DeviceAdminAccess {
    /// Looks namespaces up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        DeviceAdminAccess(reader)
    }
}

fn refusal() -> String {
    format!(
        "admin access to devices requires the `{LABEL}: true` label on the containing namespace"
    )
}

impl DeviceAdminAccess {
    async fn is_allowed(&self, namespace: &str) -> Result<bool, AdmissionError> {
        let namespace = self.0.get::<Namespace>("", namespace).await?;
        let labels = namespace.and_then(|namespace| namespace.metadata.labels);
        Ok(labels.is_some_and(|labels| labels.get(LABEL).is_some_and(|value| value == "true")))
    }

    /// Nobody is given such access who could not have asked for it.
    async fn of_status(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let (Some(new), Some(old)) = (&request.object, request.old) else {
            return Ok(());
        };
        if request.resource.resource != "resourceclaims" || request.subresource != "status" {
            return Ok(());
        }
        let given = |object: &dyn Object| {
            let value = object.to_value();
            let results = value["status"]["allocation"]["devices"]["results"].as_array();
            let mut results = results.into_iter().flatten();
            results.position(|result| result["adminAccess"] == true)
        };
        let Some(at) = given(&**new).filter(|_| given(old).is_none()) else {
            return Ok(());
        };
        if self.is_allowed(request.namespace).await? {
            return Ok(());
        }
        let results = Path::new("status").child("allocation").child("devices");
        let path = results.child("results").index(at).child("adminAccess");
        let errors = vec![field::forbidden(path, refusal())];
        let kind = GroupResource::new("resource.k8s.io", "ResourceClaim");
        let status = status::invalid(kind, request.name, &errors);
        Err(AdmissionError::Status(Box::new(status)))
    }
}

#[async_trait]
impl AdmissionPlugin for DeviceAdminAccess {
    fn name(&self) -> &str {
        "DeviceAdminAccess"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    fn steps(&self) -> &[Step] {
        &[Step::Validate]
    }

    fn concerns(&self, group: &str, _resource: &str) -> bool {
        group == "resource.k8s.io"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if request.operation == Operation::Update {
            // What a claim asks for never changes; what it gets does once.
            return self.of_status(request).await;
        }
        let path = Path::new("spec");
        let (kind, path) = if request.is("resource.k8s.io", "resourceclaims") {
            ("ResourceClaim", path)
        } else if request.is("resource.k8s.io", "resourceclaimtemplates") {
            ("ResourceClaimTemplate", path.child("spec"))
        } else {
            return Ok(());
        };
        let Some(object) = &request.object else {
            return Ok(());
        };
        let value = object.to_value();
        let spec = match kind {
            "ResourceClaim" => &value["spec"],
            _ => &value["spec"]["spec"],
        };
        let requests = spec["devices"]["requests"].as_array();
        let path = path.child("devices").child("requests");
        let errors: field::ErrorList = requests
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, request)| request["exactly"]["adminAccess"] == true)
            .map(|(i, _)| {
                let path = path.index(i).child("exactly").child("adminAccess");
                field::forbidden(path, refusal())
            })
            .collect();
        if errors.is_empty() {
            return Ok(());
        }
        if self.is_allowed(request.namespace).await? {
            return Ok(());
        }
        let kind = GroupResource::new("resource.k8s.io", kind);
        let status = status::invalid(kind, request.name, &errors);
        Err(AdmissionError::Status(Box::new(status)))
    }
}
