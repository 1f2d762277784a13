//! Which tokens of service accounts a node may ask for.

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume},
    storage::v1::CSIDriver,
};

use crate::{
    admission::{AdmissionError, AdmissionRequest, reader::ObjectReader},
    authz::{Attributes, Authorizer},
};

/// Refuses a token for whom none of the pod's volumes has anything to do with, unless the node has the verb
/// `request-serviceaccounts-token-audience` for that audience (KEP-4412).
pub(super) async fn check_audience(
    reader: &dyn ObjectReader,
    authorizer: Option<&dyn Authorizer>,
    audiences: &[&str],
    pod: &Pod,
    request: &AdmissionRequest<'_>,
) -> Result<(), AdmissionError> {
    let audience = match audiences {
        [] => "",
        [one] => one,
        _ => {
            let text = "node may only request 0 or 1 audiences";
            return Err(AdmissionError::forbidden(text));
        }
    };
    let spec = pod.spec.as_ref();
    for volume in spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        if mentions(reader, volume, audience, pod).await? {
            return Ok(());
        }
    }
    let account = spec.and_then(|s| s.service_account_name.as_deref());
    if let Some(authorizer) = authorizer {
        let attributes = Attributes {
            user: request.user,
            verb: "request-serviceaccounts-token-audience",
            group: "",
            version: "",
            resource: audience,
            subresource: "",
            namespace: request.namespace,
            name: account.unwrap_or_default(),
            path: "",
            resource_request: true,
            selectors: None,
        };
        if authorizer.authorize(&attributes).await.is_allowed() {
            return Ok(());
        }
    }
    Err(AdmissionError::forbidden(format!(
        "audience {audience:?} not found in pod spec volume, {} is not authorized to request tokens for this audience",
        request.user.name
    )))
}

/// Whether a volume of the pod is made with tokens for that audience.
async fn mentions(
    reader: &dyn ObjectReader,
    volume: &Volume,
    audience: &str,
    pod: &Pod,
) -> Result<bool, AdmissionError> {
    if projects(volume, audience) {
        return Ok(true);
    }
    let driver = match (&volume.csi, &volume.persistent_volume_claim) {
        (Some(csi), _) => Some(csi.driver.clone()),
        (None, Some(claim)) => driver_of(reader, &claim.claim_name, pod).await?,
        (None, None) if volume.ephemeral.is_some() => {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            driver_of(reader, &format!("{name}-{}", volume.name), pod).await?
        }
        _ => None,
    };
    let Some(driver) = driver else {
        return Ok(false);
    };
    let driver: Option<CSIDriver> = reader.get("", &driver).await?;
    let requests = driver.and_then(|driver| driver.spec.token_requests);
    let mut requests = requests.iter().flatten();
    Ok(requests.any(|request| request.audience == audience))
}

/// Whether a token for that audience is projected into a volume.
fn projects(volume: &Volume, audience: &str) -> bool {
    let projected = volume.projected.iter();
    let sources = projected.flat_map(|p| p.sources.iter().flatten());
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    tokens.any(|token| token.audience.as_deref().unwrap_or_default() == audience)
}

/// The CSI driver behind a claim, if it is bound to a volume of one.
async fn driver_of(
    reader: &dyn ObjectReader,
    claim: &str,
    pod: &Pod,
) -> Result<Option<String>, AdmissionError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claim: Option<PersistentVolumeClaim> = reader.get(namespace, claim).await?;
    let Some(name) = claim
        .and_then(|claim| claim.spec?.volume_name)
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let volume: Option<PersistentVolume> = reader.get("", &name).await?;
    Ok(volume.and_then(|volume| Some(volume.spec?.csi?.driver)))
}
