//! [`User`]: who a client is.

use std::collections::BTreeMap;

use k8s_model::certificates::{CREDENTIAL_ID, ClientCertificate};
use serde::{Deserialize, Serialize};

/// Who a client is: read from the status of a `TokenReview`, written into the spec of a
/// `SubjectAccessReview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct User {
    #[serde(rename(serialize = "user"))]
    pub(super) username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl From<ClientCertificate> for User {
    fn from(certificate: ClientCertificate) -> Self {
        let mut groups = certificate.groups;
        let all = "system:authenticated";
        if !groups.iter().any(|group| group == all) {
            groups.push(all.to_owned());
        }
        Self {
            username: certificate.name,
            uid: certificate.uid,
            groups,
            extra: [(CREDENTIAL_ID.to_owned(), vec![certificate.credential_id])].into(),
        }
    }
}
