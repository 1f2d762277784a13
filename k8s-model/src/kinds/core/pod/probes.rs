//! Validation of probes and lifecycle hooks.

use k8s_openapi::{
    api::core::v1::{
        Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, PodSpec, Probe,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{
        blank, list, messages, non_negative, port_number, port_number_or_name, supported, text,
    },
    names,
};

/// What is done to a container while it runs.
pub(super) fn hooks_and_probes(container: &Container, spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(lifecycle) = &container.lifecycle {
        errors.extend(self::lifecycle(lifecycle, spec, &path.child("lifecycle")));
    }
    let once = |probe: &Probe, path: &Path| {
        let threshold = probe.success_threshold.unwrap_or_default();
        (threshold != 1)
            .then(|| field::invalid(path.child("successThreshold"), threshold, "must be 1"))
    };
    if let Some(probe) = &container.liveness_probe {
        let path = path.child("livenessProbe");
        errors.extend(self::probe(probe, &path));
        errors.extend(once(probe, &path));
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        errors.extend(self::probe(probe, &path));
        if let Some(seconds) = probe.termination_grace_period_seconds {
            errors.push(field::invalid(
                path.child("terminationGracePeriodSeconds"),
                seconds,
                "must not be set for readinessProbes",
            ));
        }
    }
    if let Some(probe) = &container.startup_probe {
        let path = path.child("startupProbe");
        errors.extend(self::probe(probe, &path));
        errors.extend(once(probe, &path));
    }
    errors
}

fn probe(probe: &Probe, path: &Path) -> ErrorList {
    let mut errors = handler(
        &Handler {
            exec: probe.exec.as_ref(),
            http_get: probe.http_get.as_ref(),
            tcp_port: probe.tcp_socket.as_ref().map(|socket| &socket.port),
            grpc_port: probe.grpc.as_ref().map(|grpc| grpc.port),
            sleep: None,
        },
        path,
        0,
    );
    for (value, name) in [
        (probe.initial_delay_seconds, "initialDelaySeconds"),
        (probe.timeout_seconds, "timeoutSeconds"),
        (probe.period_seconds, "periodSeconds"),
        (probe.success_threshold, "successThreshold"),
        (probe.failure_threshold, "failureThreshold"),
    ] {
        errors.extend(non_negative(value.unwrap_or_default(), path.child(name)));
    }
    if let Some(seconds) = probe.termination_grace_period_seconds
        && seconds <= 0
    {
        errors.push(field::invalid(
            path.child("terminationGracePeriodSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    errors
}

fn lifecycle(lifecycle: &Lifecycle, spec: &PodSpec, path: &Path) -> ErrorList {
    let grace = spec.termination_grace_period_seconds.unwrap_or_default();
    let mut errors = ErrorList::new();
    for (hook, name) in [
        (&lifecycle.post_start, "postStart"),
        (&lifecycle.pre_stop, "preStop"),
    ] {
        if let Some(hook) = hook {
            errors.extend(handler(&Handler::of_hook(hook), &path.child(name), grace));
        }
    }
    errors
}

/// What a probe or a hook does; exactly one of these.
struct Handler<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_port: Option<&'a IntOrString>,
    grpc_port: Option<i32>,
    sleep: Option<i64>,
}

impl<'a> Handler<'a> {
    fn of_hook(hook: &'a LifecycleHandler) -> Self {
        Handler {
            exec: hook.exec.as_ref(),
            http_get: hook.http_get.as_ref(),
            tcp_port: hook.tcp_socket.as_ref().map(|socket| &socket.port),
            grpc_port: None,
            sleep: hook.sleep.as_ref().map(|sleep| sleep.seconds),
        }
    }
}

fn handler(handler: &Handler<'_>, path: &Path, grace: i64) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut count = 0;
    let mut check = |set: bool, name: &str, check: &dyn Fn(&Path) -> ErrorList| {
        if !set {
            return;
        }
        if count > 0 {
            errors.push(field::forbidden(
                path.child(name),
                "may not specify more than 1 handler type",
            ));
        } else {
            count += 1;
            errors.extend(check(&path.child(name)));
        }
    };
    check(
        handler.exec.is_some(),
        "exec",
        &|path| match handler.exec.map(|exec| list(&exec.command)) {
            Some([]) => vec![field::required(path.child("command"), "")],
            _ => ErrorList::new(),
        },
    );
    check(handler.http_get.is_some(), "httpGet", &|path| {
        handler
            .http_get
            .map(|get| http_get(get, path))
            .unwrap_or_default()
    });
    check(handler.tcp_port.is_some(), "tcpSocket", &|path| {
        handler
            .tcp_port
            .map(|port| port_number_or_name(port, path.child("port")))
            .unwrap_or_default()
    });
    check(handler.grpc_port.is_some(), "grpc", &|path| {
        handler
            .grpc_port
            .map(|port| port_number(port, path.child("port")))
            .unwrap_or_default()
    });
    check(
        handler.sleep.is_some(),
        "sleep",
        &|path| match handler.sleep {
            Some(seconds) if seconds < 0 || seconds > grace => vec![field::invalid(
                path.clone(),
                seconds,
                format!(
                    "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                ),
            )],
            _ => ErrorList::new(),
        },
    );
    if count == 0 {
        errors.push(field::required(path.clone(), "must specify a handler type"));
    }
    errors
}

fn http_get(get: &HTTPGetAction, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if blank(&get.path) {
        errors.push(field::required(path.child("path"), ""));
    }
    errors.extend(port_number_or_name(&get.port, path.child("port")));
    errors.extend(supported(
        text(&get.scheme),
        &["HTTP", "HTTPS"],
        path.child("scheme"),
    ));
    for header in list(&get.http_headers) {
        errors.extend(messages(
            &path.child("httpHeaders"),
            header.name.as_str(),
            names::http_header_name(&header.name),
        ));
    }
    errors
}
