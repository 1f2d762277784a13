//! A resource that is a Rust type, with rules in Rust, served by an API server without pods.

use k8s_apiserver::{ApiServer, TypedResource, auth::Identity, resources};
use k8s_model::{
    custom::KindStrategy,
    field::{self, ErrorList, Path},
};
use kube::{
    Api, CustomResource,
    api::{Patch, PatchParams, PostParams},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a lamp is to be.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Lamp", namespaced)]
#[kube(status = "LampStatus", shortname = "lp")]
#[serde(rename_all = "camelCase")]
pub struct LampSpec {
    /// Its colour; white if nothing is said.
    pub colour: Option<String>,
    /// What it takes.
    pub watts: u32,
}

/// How a lamp is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct LampStatus {
    /// Whether it is lit.
    pub lit: bool,
}

/// What the schema of a lamp cannot say.
#[derive(Debug)]
pub struct LampRules;

impl KindStrategy<Lamp> for LampRules {
    fn default(&self, lamp: &mut Lamp) {
        lamp.spec.colour.get_or_insert_with(|| "white".to_owned());
    }

    fn validate(&self, lamp: &Lamp) -> ErrorList {
        let path = Path::new("spec").child("watts");
        match lamp.spec.watts {
            0 => vec![field::invalid(path, 0, "a lamp without power is dark")],
            _ => ErrorList::new(),
        }
    }

    fn validate_update(&self, new: &Lamp, old: &Lamp) -> ErrorList {
        if new.spec.colour != old.spec.colour {
            let path = Path::new("spec").child("colour");
            return vec![field::forbidden(path, "lamps keep their colour")];
        }
        self.validate(new)
    }
}

/// The server: lamps, and what operators keep beside their own kinds.
///
/// # Errors
///
/// If it cannot be built.
pub async fn server() -> anyhow::Result<ApiServer> {
    let lamps = TypedResource::<Lamp>::derived()
        .strategy(LampRules)
        .column("Colour", "string", ".spec.colour")
        .computed("Bright", "boolean", |lamp, _| (lamp.spec.watts > 10).into());
    let server = ApiServer::builder()
        .resources(resources::for_custom_resources())
        .typed(lamps);
    Ok(server.build().await?)
}

/// Makes a lamp, lights it, and gives back what the API says of it and of an attempt to paint it.
///
/// # Errors
///
/// Whatever the API answers.
pub async fn try_it(server: &ApiServer) -> anyhow::Result<(Lamp, String)> {
    let lamps: Api<Lamp> = Api::default_namespaced(server.client(Identity::system_masters()));
    let spec = LampSpec {
        colour: None,
        watts: 7,
    };
    lamps
        .create(&PostParams::default(), &Lamp::new("desk", spec))
        .await?;
    let lit = serde_json::json!({"status": {"lit": true}});
    let lamp = lamps
        .patch_status("desk", &PatchParams::default(), &Patch::Merge(lit))
        .await?;
    let paint = serde_json::json!({"spec": {"colour": "red"}});
    let painted = lamps
        .patch("desk", &PatchParams::default(), &Patch::Merge(paint))
        .await;
    Ok((
        lamp,
        painted.map_or_else(|e| e.to_string(), |_| "painted".to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_rules_hold() {
        let server = super::server().await.unwrap();
        let (lamp, refusal) = super::try_it(&server).await.unwrap();
        assert_eq!(lamp.spec.colour.as_deref(), Some("white"));
        assert!(lamp.status.unwrap().lit);
        assert!(
            refusal.contains("spec.colour: Forbidden: lamps keep their colour"),
            "{refusal}"
        );
    }
}
