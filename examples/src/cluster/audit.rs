//! The audit log, as the flags have it.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::Context;
use k8s_apiserver::{
    ApiServerBuilder,
    audit::{AuditSink, Event, LogFile, Policy, Rotation},
};

use super::arguments::AuditOptions;

/// Records what the options ask for.
pub(super) fn audit(
    builder: ApiServerBuilder,
    options: &AuditOptions,
) -> anyhow::Result<ApiServerBuilder> {
    let (Some(policy), Some(log)) = (&options.audit_policy_file, &options.audit_log_path) else {
        return Ok(builder);
    };
    let text =
        fs::read_to_string(policy).with_context(|| format!("cannot read {}", policy.display()))?;
    let policy = Policy::parse(&text).with_context(|| policy.display().to_string())?;
    if log == Path::new("-") {
        return Ok(builder.audit(policy, StandardOutput));
    }
    let default = Rotation::default();
    let rotation = Rotation {
        max_bytes: match options.audit_log_maxsize {
            0 => default.max_bytes,
            megabytes => megabytes.saturating_mul(1 << 20),
        },
        max_backups: options.audit_log_maxbackup,
        max_age: (options.audit_log_maxage > 0)
            .then(|| Duration::from_secs(u64::from(options.audit_log_maxage) * 24 * 60 * 60)),
    };
    let file = LogFile::open(log, rotation)
        .with_context(|| format!("cannot write to {}", log.display()))?;
    Ok(builder.audit(policy, file))
}

/// Events on the standard output.
#[derive(Debug)]
struct StandardOutput;

impl AuditSink for StandardOutput {
    fn write(&mut self, events: &[Event]) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        io::stdout().write_all(&lines)
    }
}
