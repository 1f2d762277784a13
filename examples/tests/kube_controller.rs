//! An unmodified kube-rs controller works in-process.

use examples::programs::kube_controller::{controller, provoke};
use futures::StreamExt;
use k8s_apiserver::{ApiServer, auth::Identity};

#[tokio::test]
async fn an_unmodified_kube_controller_runs_in_process() {
    let server = ApiServer::builder()
        .build()
        .await
        .expect("a server in memory needs nothing");
    let client = server.client(Identity::system_masters());
    let running = tokio::spawn(controller(client.clone()).for_each(|_| async {}));
    let config_map = provoke(client, "garden")
        .await
        .expect("the controller puts everything right");
    assert_eq!(
        config_map.data.expect("it has data")["text"],
        "welcome to garden"
    );
    running.abort();
}
