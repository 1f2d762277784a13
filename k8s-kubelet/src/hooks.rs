//! Lifecycle hooks: `postStart` and `preStop`.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use k8s_runtime::ContainerId;

use crate::{
    context::Context,
    pod::PodView,
    probe::{http, resolve_port},
};

/// No hook may hang for ever on a server that does not answer.
const HTTP_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Runs a hook to its end; the error is upstream's message.
pub(crate) async fn run(
    cx: &Context,
    pod: &PodView,
    container: &Container,
    id: &ContainerId,
    ips: &[IpAddr],
    handler: &LifecycleHandler,
) -> Result<(), String> {
    let whose = || {
        format!(
            "for Container {:?} in Pod {:?} failed",
            container.name,
            pod.describe()
        )
    };
    if let Some(exec) = &handler.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = format!("[{}]", command.join(" "));
        let output = cx.runtime.exec_sync(id, &command, None).await;
        return match output {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                let text = String::from_utf8_lossy(&text);
                let error = format!(
                    "command '{}' exited with {}: {text}",
                    command.join(" "),
                    output.exit_code
                );
                Err(format!(
                    "Exec lifecycle hook ({shown}) {} - error: {error}, message: {text:?}",
                    whose()
                ))
            }
            Err(error) => Err(format!(
                "Exec lifecycle hook ({shown}) {} - error: {error}, message: \"\"",
                whose()
            )),
        };
    }
    if let Some(action) = &handler.http_get {
        let path = action.path.clone().unwrap_or_default();
        let fail =
            |error: String| format!("HTTP lifecycle hook ({path}) {} - error: {error}", whose());
        let port = resolve_port(&action.port, container).map_err(fail)?;
        let host = ips.first().map(ToString::to_string).unwrap_or_default();
        let target = http::Target::new(action, &host, port, "lifecycle");
        // Any answer will do: upstream does not look at the status.
        return http::get(&target, HTTP_LIMIT)
            .await
            .map(|_| ())
            .map_err(fail);
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(
            u64::try_from(sleep.seconds).unwrap_or(0),
        ))
        .await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".to_owned())
}
