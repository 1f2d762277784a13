//! What `/metrics` tells.

use http::StatusCode;
use k8s_apiserver::{ApiServer, http::Body};
use serde_json::{Value, json};

use crate::common::{MAPS, call, config_map, get, send, server};

async fn page(server: &ApiServer) -> String {
    let (code, page) = get(server, "/metrics").await;
    assert_eq!(code, StatusCode::OK);
    page.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_page_is_well_formed_and_says_each_thing_once() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("a")).await;
    get(&server, MAPS).await;
    let page = page(&server).await;
    let mut families = Vec::new();
    let mut samples = std::collections::HashSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(name.to_owned()), "twice: {line}");
            let family = families.last().unwrap();
            assert!(name.starts_with(family.as_str()), "{line} in {family}");
        }
    }
    let all = families.len();
    families.sort();
    families.dedup();
    assert_eq!(families.len(), all, "a family comes once");
    for wanted in [
        "apiserver_request_total",
        "apiserver_request_duration_seconds",
        "apiserver_current_inflight_requests",
        "apiserver_longrunning_requests",
        "apiserver_storage_objects",
        "apiserver_resource_objects",
        "apiserver_flowcontrol_dispatched_requests_total",
        "apiserver_flowcontrol_current_limit_seats",
        "apiserver_admission_controller_admission_duration_seconds",
        "apiserver_admission_step_admission_duration_seconds",
        "authentication_attempts",
        "authorization_attempts_total",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
        "kubernetes_build_info",
    ] {
        assert!(families.iter().any(|f| f == wanted), "{wanted}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_verb_resource_and_code() {
    let server = server().await;
    call(&server, "POST", MAPS, config_map("a")).await;
    call(&server, "POST", MAPS, config_map("a")).await;
    call(
        &server,
        "POST",
        &format!("{MAPS}?dryRun=All"),
        config_map("b"),
    )
    .await;
    get(&server, &format!("{MAPS}/a")).await;
    get(&server, "/api/v1/configmaps").await;
    call(&server, "DELETE", MAPS, Value::Null).await;
    let apply = [("content-type", "application/apply-patch+yaml")];
    let uri = format!("{MAPS}/c?fieldManager=me");
    let body = Body::from(config_map("c").to_string());
    send(&server, "PATCH", &uri, &apply, body).await;
    get(&server, "/api/v1/nothing").await;
    let page = page(&server).await;
    let rest = |scope: &str, verb: &str| {
        format!(
            "component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}} 1\n"
        )
    };
    for (code, dry_run, scope, verb) in [
        (201, "", "namespace", "POST"),
        (409, "", "namespace", "POST"),
        (201, "All", "namespace", "POST"),
        (200, "", "resource", "GET"),
        (200, "", "cluster", "LIST"),
        (200, "", "namespace", "DELETECOLLECTION"),
        (201, "", "resource", "APPLY"),
    ] {
        let wanted = format!(
            "apiserver_request_total{{code=\"{code}\",dry_run=\"{dry_run}\",{}",
            rest(scope, verb)
        );
        assert!(page.contains(&wanted), "{wanted}: {page}");
    }
    // What is not served has no label of its own.
    assert!(!page.contains("nothing"));
    // One is the server's own.
    assert!(page.contains("apiserver_storage_objects{resource=\"configmaps\"} 2\n"));
    assert!(page.contains(
        "apiserver_storage_objects{resource=\"clusterroles.rbac.authorization.k8s.io\"} "
    ));
    let admitted = "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\",operation=\"CREATE\",rejected=\"false\",type=\"admit\"}";
    assert!(page.contains(admitted), "{page}");
}

#[tokio::test]
async fn what_was_counted_of_a_custom_resource_goes_with_its_definition() {
    let server = server().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
    });
    let things = "/apis/example.com/v1/namespaces/default/things";
    let counted = "resource=\"things\",scope=\"namespace\",subresource=\"\",verb=\"LIST\"";
    for _ in 0..2 {
        let (code, _) = call(&server, "POST", definitions, definition.clone()).await;
        assert_eq!(code, StatusCode::CREATED);
        while get(&server, things).await.0 != StatusCode::OK {
            tokio::task::yield_now().await;
        }
        assert!(page(&server).await.contains(counted));
        let name = format!("{definitions}/things.example.com");
        call(&server, "DELETE", &name, Value::Null).await;
        while get(&server, things).await.0 != StatusCode::NOT_FOUND
            || get(&server, &name).await.0 != StatusCode::NOT_FOUND
        {
            tokio::task::yield_now().await;
        }
        let page = page(&server).await;
        assert!(!page.contains(counted), "{page}");
        assert!(page.contains("resource=\"customresourcedefinitions\""));
    }
}

#[tokio::test]
async fn others_may_add_to_it() {
    let server = ApiServer::builder().metrics(|| "# TYPE mine counter\nmine 7\n".to_owned());
    let server = server.build().await.unwrap();
    assert!(
        page(&server)
            .await
            .ends_with("# TYPE mine counter\nmine 7\n")
    );
}
