//! `/configz`: how the kubelet is configured, in the terms of upstream's `KubeletConfiguration`. What has no meaning
//! here is not told.

use http::{HeaderValue, Response, header};
use k8s_model::duration::print_std;
use serde_json::{Value, json};

use super::{access, answer, service::Body};
use crate::{context::Context, driver, logs::rotation, node};

pub(super) fn answer(cx: &Context) -> Response<Body> {
    let mut response = answer::json(&json!({"kubeletconfig": configuration(cx)}));
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn configuration(cx: &Context) -> Value {
    let settings = &cx.settings;
    let mut told = json!({
        "enableServer": settings.listens.is_some(),
        "syncFrequency": print_std(driver::RELIST),
        "authentication": {
            "x509": {},
            "webhook": {"enabled": true, "cacheTTL": print_std(access::KNOWN)},
            "anonymous": {"enabled": false},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": print_std(access::ALLOWED),
                "cacheUnauthorizedTTL": print_std(access::REFUSED),
            },
        },
        "enableDebuggingHandlers": true,
        "healthzPort": 0,
        "clusterDomain": settings.cluster_domain,
        "clusterDNS": settings.cluster_dns,
        "nodeStatusUpdateFrequency": print_std(node::LOOK),
        "nodeStatusReportFrequency": format!("{}m0s", node::REPORT_SECONDS / 60),
        "nodeLeaseDurationSeconds": node::DURATION_SECONDS,
        "cgroupDriver": "cgroupfs",
        "cpuManagerPolicy": "none",
        "memoryManagerPolicy": "None",
        "topologyManagerPolicy": "none",
        "topologyManagerScope": "container",
        "maxPods": settings.max_pods,
        "podPidsLimit": -1,
        "resolvConf": "/etc/resolv.conf",
        "cpuCFSQuota": true,
        "cpuCFSQuotaPeriod": "100ms",
        "nodeStatusMaxImages": node::MAX_IMAGES,
        "contentType": "application/json",
        "serializeImagePulls": false,
        "enableControllerAttachDetach": true,
        "failSwapOn": false,
        "containerLogMaxSize": format!("{}Mi", rotation::MAX_BYTES >> 20),
        "containerLogMaxFiles": rotation::MAX_FILES,
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "enableSystemLogHandler": settings.system_logs.is_some(),
        "enableProfilingHandler": false,
        "enableDebugFlagsHandler": false,
        "seccompDefault": true,
        "registerNode": true,
        "localStorageCapacityIsolation": true,
    });
    if let Some(listens) = settings.listens {
        told["address"] = json!(listens.ip());
        told["port"] = json!(listens.port());
    }
    if !settings.unsafe_sysctls.is_empty() {
        told["allowedUnsafeSysctls"] = json!(settings.unsafe_sysctls);
    }
    if !settings.taints.is_empty() {
        told["registerWithTaints"] = json!(settings.taints);
    }
    told
}
