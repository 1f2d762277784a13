//! `/containerLogs`.

use std::{path::PathBuf, sync::Arc};

use futures::{StreamExt, TryStreamExt};
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8s_openapi::api::core::v1::PodStatus;
use k8s_runtime::ContainerId;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use super::{answer::Refusal, pods::container_status, query::Query, service::Body};
use crate::{
    context::Context,
    logs::read::{self, LogOptions},
};

/// Chunks of a log on their way to a reader that is slower than the disk.
const CHUNKS: usize = 8;

/// Answers with a container's log.
pub(crate) async fn answer(
    cx: &Arc<Context>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let options = options(cx, query)?;
    let known = cx
        .known(namespace, pod)
        .ok_or_else(|| Refusal::not_found(format!("pod {pod:?} does not exist")))?;
    if known.view.find(container).is_none() {
        return Err(Refusal::not_found(format!(
            "container {container:?} not found in pod {pod:?}"
        )));
    }
    let id =
        which(&known.status, pod, container, options.previous).map_err(Refusal::bad_request)?;
    let status = cx.runtime.container(&id).await;
    let (path, id) = match status {
        Ok(status) => (status.log_path, id),
        Err(error) if error.is_not_found() => {
            let message = format!(
                "unable to retrieve container logs for {}://{}",
                cx.runtime.name(),
                id.0
            );
            return Err(Refusal::bad_request(message));
        }
        Err(error) => return Err(error.into()),
    };
    let body = open(cx, path, id, options)?;
    let mut response = Response::new(body);
    let plain = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    Ok(response)
}

fn open(
    cx: &Arc<Context>,
    path: PathBuf,
    id: ContainerId,
    options: LogOptions,
) -> Result<Body, Refusal> {
    if !path.exists() {
        let message = format!(
            "failed to try resolving symlinks in path {:?}: lstat {}: no such file or directory",
            path.display().to_string(),
            path.display()
        );
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
    }
    let (sink, chunks) = mpsc::channel(CHUNKS);
    let runtime = cx.runtime.clone();
    let task = tokio::spawn(async move {
        if let Err(error) = read::stream(runtime, id, path, options, sink.clone()).await {
            let _ = sink.send(Err(error)).await;
        }
    });
    // The reader ends with the body that shows what it reads.
    let task = AbortOnDropHandle::new(task);
    let stream = ReceiverStream::new(chunks).map(move |chunk| {
        let _ = &task;
        chunk
    });
    Ok(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync())
}

fn options(cx: &Context, query: &Query) -> Result<LogOptions, Refusal> {
    let number = |key: &str, least: i64| match query.get(key) {
        None => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(n) if n >= least => Ok(Some(n)),
            Ok(_) => Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                r#"{"message": "Invalid request."}"#,
            )),
            Err(_) => Err(Refusal::bad_request(
                r#"{"message": "Unable to decode query."}"#,
            )),
        },
    };
    let since = match (number("sinceSeconds", 1)?, query.get("sinceTime")) {
        (Some(seconds), _) => cx
            .clock
            .now()
            .saturating_sub(jiff::SignedDuration::from_secs(seconds))
            .ok(),
        (None, Some(time)) => Some(
            time.parse()
                .map_err(|_| Refusal::bad_request(r#"{"message": "Unable to decode query."}"#))?,
        ),
        (None, None) => None,
    };
    let positive = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        since,
        tail_lines: positive(number("tailLines", 0)?).and_then(|n| usize::try_from(n).ok()),
        limit_bytes: positive(number("limitBytes", 1)?),
        stream: query
            .get("stream")
            .map(str::to_lowercase)
            .filter(|s| s != "all"),
    })
}

/// The container whose log is meant, or why there is none, in upstream's words.
fn which(status: &PodStatus, pod: &str, name: &str, previous: bool) -> Result<ContainerId, String> {
    let place = format!("container {name:?} in pod {pod:?}");
    let status =
        container_status(status, name).ok_or_else(|| format!("{place} is not available"))?;
    let now = status.state.clone().unwrap_or_default();
    let last = status.last_state.clone().unwrap_or_default().terminated;
    let last_id = last
        .as_ref()
        .and_then(|t| t.container_id.clone())
        .filter(|id| !id.is_empty());
    let id = if previous {
        last_id.ok_or_else(|| format!("previous terminated {place} not found"))?
    } else if now.running.is_some() {
        status.container_id.clone().unwrap_or_default()
    } else if let Some(terminated) = now.terminated {
        let own = terminated.container_id.filter(|id| !id.is_empty());
        own.or(last_id)
            .ok_or_else(|| format!("{place} is terminated"))?
    } else if last.is_some() {
        last_id.ok_or_else(|| format!("{place} is terminated"))?
    } else if let Some(waiting) = now.waiting {
        return Err(match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull" => format!("{place} is waiting to start: image can't be pulled"),
            "ImagePullBackOff" => {
                format!("{place} is waiting to start: trying and failing to pull image")
            }
            reason => format!("{place} is waiting to start: {reason}"),
        });
    } else {
        return Err(format!("{place} is waiting to start - no logs yet"));
    };
    Ok(ContainerId(
        id.split_once("://")
            .map_or(id.as_str(), |(_, id)| id)
            .to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus,
    };

    use super::*;

    fn status(state: ContainerState, last: Option<&str>) -> PodStatus {
        let last_state = last.map(|id| ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(id.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        });
        let container = ContainerStatus {
            name: "c".to_owned(),
            container_id: Some("runc://now".to_owned()),
            state: Some(state),
            last_state,
            ..Default::default()
        };
        PodStatus {
            container_statuses: Some(vec![container]),
            ..Default::default()
        }
    }

    #[test]
    fn the_right_container_is_found_or_the_reason_told() {
        let waiting = |reason: &str| ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let running = ContainerState {
            running: Some(ContainerStateRunning::default()),
            ..Default::default()
        };
        let id = |s: &PodStatus, previous| which(s, "p", "c", previous).map(|id| id.0);
        assert_eq!(id(&status(running.clone(), None), false).unwrap(), "now");
        assert_eq!(
            id(&status(running.clone(), Some("runc://old")), true).unwrap(),
            "old"
        );
        assert_eq!(
            id(&status(running, None), true).unwrap_err(),
            "previous terminated container \"c\" in pod \"p\" not found"
        );
        assert_eq!(
            id(&status(waiting("ContainerCreating"), None), false).unwrap_err(),
            "container \"c\" in pod \"p\" is waiting to start: ContainerCreating"
        );
        assert_eq!(
            id(
                &status(waiting("CrashLoopBackOff"), Some("runc://old")),
                false
            )
            .unwrap(),
            "old"
        );
        assert_eq!(
            which(&PodStatus::default(), "p", "c", false).unwrap_err(),
            "container \"c\" in pod \"p\" is not available"
        );
    }
}
