//! Rust types as resources.

use futures::StreamExt;
use http::StatusCode;
use k8s_apiserver::{ApiServer, BuildError, TypedResource, TypedResourceError, resources};
use k8s_model::{
    custom::KindStrategy,
    field::{self, ErrorList, Path},
};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, CustomResource, CustomResourceExt, api::WatchParams, core::WatchEvent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{call, client, get, send, text};

#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[kube(group = "example.com", version = "v1", kind = "Fountain", namespaced)]
#[kube(status = "FountainStatus")]
struct FountainSpec {
    /// How high it springs, in metres.
    height: i64,
    #[serde(default)]
    jets: i32,
    colour: Option<String>,
    /// Parsed by the type, a string to the schema.
    #[schemars(with = "Option<String>")]
    since: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
struct FountainStatus {
    jets: i32,
    selector: Option<String>,
}

struct Rules;

impl KindStrategy<Fountain> for Rules {
    fn default(&self, fountain: &mut Fountain) {
        fountain
            .spec
            .colour
            .get_or_insert_with(|| "clear".to_owned());
    }

    fn prepare_for_create(&self, fountain: &mut Fountain) {
        let labels = fountain.metadata.labels.get_or_insert_default();
        labels.insert("new".to_owned(), "yes".to_owned());
    }

    fn validate(&self, fountain: &Fountain) -> ErrorList {
        let path = Path::new("spec").child("height");
        match fountain.spec.height {
            ..=0 => vec![field::invalid(path, fountain.spec.height, "must spring up")],
            _ => ErrorList::new(),
        }
    }

    fn validate_update(&self, new: &Fountain, old: &Fountain) -> ErrorList {
        if new.spec.colour != old.spec.colour {
            let path = Path::new("spec").child("colour");
            return vec![field::forbidden(path, "may not be changed")];
        }
        self.validate(new)
    }

    fn validate_status_update(&self, new: &Fountain, _old: &Fountain) -> ErrorList {
        match &new.status {
            Some(status) if status.jets > new.spec.jets => {
                let path = Path::new("status").child("jets");
                vec![field::invalid(path, status.jets, "more than there are")]
            }
            _ => ErrorList::new(),
        }
    }

    fn warnings(&self, fountain: &Fountain) -> Vec<String> {
        (fountain.spec.height > 100)
            .then(|| "that is high".to_owned())
            .into_iter()
            .collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        &["tall"]
    }

    fn selectable_fields(&self, fountain: &Fountain) -> Vec<String> {
        vec![(fountain.spec.height > 10).to_string()]
    }
}

const FOUNTAINS: &str = "/apis/example.com/v1/namespaces/default/fountains";

fn resource() -> TypedResource<Fountain> {
    TypedResource::<Fountain>::new()
        .strategy(Rules)
        .short_names(["fo"])
        .categories(["all"])
        .status()
        .scale(".spec.jets", ".status.jets", Some(".status.selector"))
        .selectable_field(".spec.colour")
        .computed("Tall", "boolean", |f, _| (f.spec.height > 10).into())
}

async fn server() -> ApiServer {
    let builder = ApiServer::builder().seed(1);
    let builder = builder.resources(resources::for_custom_resources());
    builder.typed(resource()).build().await.unwrap()
}

fn fountain(name: &str, height: i64) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Fountain",
        "metadata": {"name": name}, "spec": {"height": height}})
}

#[tokio::test]
async fn the_rules_of_a_typed_resource_hold_on_every_write() {
    let server = server().await;
    let (code, made) = call(&server, "POST", FOUNTAINS, fountain("trevi", 26)).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    assert_eq!(
        made["spec"],
        json!({"height": 26, "jets": 0, "colour": "clear"})
    );
    assert_eq!(made["metadata"]["labels"]["new"], "yes");
    assert_eq!(made["metadata"]["generation"], 1);

    let (code, refused) = call(&server, "POST", FOUNTAINS, fountain("dry", 0)).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        refused["message"],
        "Fountain.example.com \"dry\" is invalid: spec.height: Invalid value: 0: must spring up"
    );
    let one = format!("{FOUNTAINS}/trevi");
    let (code, refused) = call(&server, "PATCH", &one, json!({"spec": {"colour": "red"}})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.colour");
    let (_, higher) = call(
        &server,
        "PATCH",
        &one,
        json!({"spec": {"height": 27, "jets": 3}}),
    )
    .await;
    assert_eq!(higher["metadata"]["generation"], 2);

    let status = format!("{one}/status");
    let change = json!({"spec": {"height": 1}, "status": {"jets": 2}});
    let (code, lit) = call(&server, "PATCH", &status, change).await;
    assert_eq!(code, StatusCode::OK, "{lit}");
    assert_eq!(
        (&lit["spec"]["height"], &lit["status"]["jets"]),
        (&json!(27), &json!(2))
    );
    assert_eq!(lit["metadata"]["generation"], 2);
    let (code, _) = call(&server, "PATCH", &status, json!({"status": {"jets": 9}})).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);

    let made = send(
        &server,
        "POST",
        FOUNTAINS,
        &[],
        fountain("geneva", 140).to_string(),
    )
    .await;
    let warning = made.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.contains("that is high"), "{warning}");
}

#[tokio::test]
async fn what_the_schema_or_the_type_does_not_take_is_refused() {
    let server = server().await;
    let mut wrong = fountain("x", 1);
    wrong["spec"]["height"] = json!("tall");
    let (code, refused) = call(&server, "POST", FOUNTAINS, wrong).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("must be of type integer"),
        "{refused}"
    );

    let mut wrong = fountain("x", 1);
    wrong["spec"]["since"] = json!("yesterday");
    let (code, refused) = call(&server, "POST", FOUNTAINS, wrong).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("spec.since: Invalid value: \"yesterday\": does not fit Fountain"),
        "{message}"
    );

    let mut odd = fountain("x", 1);
    odd["spec"]["hieght"] = json!(2);
    let strict = format!("{FOUNTAINS}?fieldValidation=Strict");
    let (code, refused) = call(&server, "POST", &strict, odd.clone()).await;
    assert_eq!(code, StatusCode::BAD_REQUEST);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("unknown field \"spec.hieght\""),
        "{refused}"
    );
    let (code, made) = call(&server, "POST", FOUNTAINS, odd).await;
    assert_eq!(code, StatusCode::CREATED);
    assert!(made["spec"]["hieght"].is_null());
}

#[tokio::test]
async fn a_typed_resource_is_discovered_and_published_without_a_definition() {
    let server = server().await;
    let (_, list) = get(&server, "/apis/example.com/v1").await;
    let own = &list["resources"][0];
    assert_eq!(own["kind"], "Fountain");
    assert_eq!(
        (&own["shortNames"], &own["categories"]),
        (&json!(["fo"]), &json!(["all"]))
    );
    let names: Vec<&Value> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    assert_eq!(names, ["fountains", "fountains/status", "fountains/scale"]);

    let (_, v3) = get(&server, "/openapi/v3/apis/example.com/v1").await;
    let schema = &v3["components"]["schemas"]["com.example.v1.Fountain"];
    let height = &schema["properties"]["spec"]["properties"]["height"];
    assert_eq!(height["description"], "How high it springs, in metres.");
    assert_eq!(
        schema["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Fountain"}])
    );
    let (_, v2) = get(&server, "/openapi/v2").await;
    assert!(v2["definitions"]["com.example.v1.Fountain"].is_object());
    let (_, definitions) = get(
        &server,
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    )
    .await;
    assert_eq!(definitions["items"], json!([]));
}

#[tokio::test]
async fn a_typed_resource_has_tables_scale_selectors_apply_and_watches() {
    let server = server().await;
    let api: Api<Fountain> = Api::default_namespaced(client(&server));
    let changes = WatchParams::default().disable_bookmarks();
    let mut watch = api.watch(&changes, "0").await.unwrap().boxed();
    for (name, height) in [("low", 3), ("high", 30)] {
        call(&server, "POST", FOUNTAINS, fountain(name, height)).await;
        let Some(Ok(WatchEvent::Added(seen))) = watch.next().await else {
            panic!("no event for {name}");
        };
        assert_eq!(seen.metadata.name.as_deref(), Some(name));
    }

    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let (_, table) = text(send(&server, "GET", FOUNTAINS, &accept, "").await).await;
    let table: Value = serde_json::from_str(&table).unwrap();
    let columns: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(columns, ["Name", "Tall", "Age"]);
    assert_eq!(table["rows"][0]["cells"][1], true);

    for (selector, names) in [
        ("tall=true", vec!["high"]),
        ("spec.colour=clear", vec!["high", "low"]),
    ] {
        let (_, found) = get(&server, &format!("{FOUNTAINS}?fieldSelector={selector}")).await;
        let found: Vec<&Value> = found["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| &i["metadata"]["name"])
            .collect();
        assert_eq!(found, names, "{selector}");
    }

    let scale = format!("{FOUNTAINS}/low/scale");
    let (code, _) = call(&server, "PATCH", &scale, json!({"spec": {"replicas": 5}})).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(get(&server, &scale).await.1["spec"]["replicas"], 5);

    let apply = |manager: &str, jets: i32| {
        let uri = format!("{FOUNTAINS}/low?fieldManager={manager}");
        let body =
            json!({"apiVersion": "example.com/v1", "kind": "Fountain", "spec": {"jets": jets}});
        let server = &server;
        async move {
            let headers = [("content-type", "application/apply-patch+yaml")];
            text(send(server, "PATCH", &uri, &headers, body.to_string()).await).await
        }
    };
    assert_eq!(apply("a", 5).await.0, StatusCode::OK);
    let (code, conflict) = apply("b", 6).await;
    assert_eq!(code, StatusCode::CONFLICT);
    assert!(
        conflict.contains("conflict with \\\"a\\\": .spec.jets") || conflict.contains(".spec.jets"),
        "{conflict}"
    );
}

#[tokio::test]
async fn a_definition_cannot_take_the_names_of_a_typed_resource() {
    let server = server().await;
    call(&server, "POST", FOUNTAINS, fountain("trevi", 26)).await;
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = serde_json::to_value(Fountain::crd()).unwrap();
    let (code, _) = call(&server, "POST", DEFINITIONS, definition).await;
    assert_eq!(code, StatusCode::CREATED);
    let uri = format!("{DEFINITIONS}/fountains.example.com");
    let refused = async {
        loop {
            let (_, definition) = get(&server, &uri).await;
            let conditions = definition["status"]["conditions"].as_array().cloned();
            let accepted = conditions
                .into_iter()
                .flatten()
                .find(|c| c["type"] == "NamesAccepted");
            if let Some(accepted) = accepted {
                return accepted;
            }
            tokio::task::yield_now().await;
        }
    };
    let accepted = tokio::time::timeout(std::time::Duration::from_secs(30), refused)
        .await
        .unwrap();
    assert_eq!(accepted["status"], "False");
    assert_eq!(
        get(&server, &format!("{FOUNTAINS}/trevi")).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_type_whose_schema_is_not_structural_fails_the_build() {
    let wrong = resource().define(|definition| {
        let version = &mut definition.spec.versions[0];
        let schema = version.schema.as_mut().unwrap();
        schema.open_api_v3_schema.as_mut().unwrap().type_ = Some("string".to_owned());
    });
    let failed = ApiServer::builder().typed(wrong).build().await;
    let Err(BuildError::Typed(error @ TypedResourceError::Invalid { .. })) = failed else {
        panic!("{failed:?}");
    };
    assert!(error.to_string().contains("openAPIV3Schema"), "{error}");
}

/// The same fountains, in a version that counts in centimetres.
mod centimetres {
    use super::*;

    #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
    #[kube(group = "example.com", version = "v0", kind = "Fountain", namespaced)]
    pub(super) struct FountainSpec {
        pub(super) centimetres: i64,
        pub(super) note: Option<String>,
    }
}

async fn in_two_versions() -> ApiServer {
    let old = TypedResource::<centimetres::Fountain>::derived().column(
        "Cm",
        "integer",
        ".spec.centimetres",
    );
    let fountains = resource().served_as(
        old,
        |old| {
            let spec = json!({"height": old.spec.centimetres / 100, "colour": old.spec.note.as_deref().unwrap_or("clear")});
            Fountain::new("", serde_json::from_value(spec).unwrap())
        },
        |new| {
            let (centimetres, note) = (new.spec.height * 100, new.spec.colour);
            centimetres::Fountain::new("", centimetres::FountainSpec { centimetres, note })
        },
    );
    let all = ApiServer::builder().resources(resources::for_custom_resources());
    all.typed(fountains).build().await.unwrap()
}

#[tokio::test]
async fn a_typed_resource_is_converted_between_its_versions() {
    let server = in_two_versions().await;
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/fountains");
    let old = json!({"apiVersion": "example.com/v0", "kind": "Fountain",
        "metadata": {"name": "a", "labels": {"x": "y"}}, "spec": {"centimetres": 250}});
    let (code, made) = call(&server, "POST", &path("v0"), old).await;
    assert_eq!(code, StatusCode::CREATED, "{made}");
    // What the stored version has no place for is gone, as it is with a webhook, once it is read again.
    let new = get(&server, &format!("{}/a", path("v1"))).await.1;
    assert_eq!(
        (&new["apiVersion"], &new["spec"]["height"]),
        (&json!("example.com/v1"), &json!(2))
    );
    assert_eq!(new["metadata"]["labels"]["x"], "y");
    let listed = get(&server, &path("v0")).await.1;
    assert_eq!(listed["items"][0]["spec"]["centimetres"], 200);

    // Who owns what is told in the owner's version.
    let config = json!({"apiVersion": "example.com/v1", "kind": "Fountain",
        "metadata": {"name": "a"}, "spec": {"height": 3}});
    let uri = format!("{}/a?fieldManager=other", path("v1"));
    let apply = |uri: String| {
        let (server, config) = (&server, config.to_string());
        async move {
            let headers = [("content-type", "application/apply-patch+yaml")];
            let (code, body) = text(send(server, "PATCH", &uri, &headers, config).await).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            (code, body)
        }
    };
    let (code, refused) = apply(uri.clone()).await;
    assert_eq!(code, StatusCode::CONFLICT, "{refused}");
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with("using example.com/v0: .spec.centimetres"),
        "{message}"
    );
    let (code, forced) = apply(format!("{uri}&force=true")).await;
    assert_eq!(code, StatusCode::OK, "{forced}");
    let old = get(&server, &format!("{}/a", path("v0"))).await.1;
    assert_eq!(old["spec"]["centimetres"], 300);
    let versions = get(&server, "/apis/example.com").await.1["versions"].clone();
    assert_eq!(versions.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn versions_of_a_typed_resource_must_have_its_names() {
    #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
    #[kube(group = "example.com", version = "v0", kind = "Well", namespaced)]
    struct WellSpec {
        height: i64,
    }

    let other = TypedResource::<Well>::derived();
    let to_stored =
        |_: Well| Fountain::new("", serde_json::from_value(json!({"height": 1})).unwrap());
    let fountains =
        resource().served_as(other, to_stored, |_| Well::new("", WellSpec { height: 1 }));
    let built = ApiServer::builder().typed(fountains).build().await;
    let Err(BuildError::Typed(TypedResourceError::Invalid { findings, .. })) = built else {
        panic!("{built:?}");
    };
    assert_eq!(
        findings[0].to_string(),
        "spec.names: Invalid value: \"wells\": must be the same in all versions"
    );
}
