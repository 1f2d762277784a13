//! Which capabilities a container gets.

use std::{collections::HashSet, fs, str::FromStr};

use oci_spec::runtime::Capability;

use crate::{Error, SecurityContext};

/// The number of `CAP_SYS_RESOURCE`.
pub(super) const SYS_RESOURCE: u32 = 24;

/// What a container gets unless it says otherwise, as with Docker and containerd.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// All capabilities by their number.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn effective() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    line.and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
        .unwrap_or(0)
}

/// Whether this process has the capability of this number.
pub(super) fn has(number: u32) -> bool {
    effective() & (1 << number) != 0
}

/// What this process has, and so may give.
fn ours() -> HashSet<Capability> {
    let bits = effective();
    ALL.into_iter()
        .enumerate()
        .filter(|(number, _)| bits & (1 << number) != 0)
        .map(|(_, c)| c)
        .collect()
}

/// The capabilities of a container, in a fixed order.
pub(super) fn of(security: &SecurityContext) -> Result<Vec<Capability>, Error> {
    let ours = ours();
    let chosen = if security.privileged {
        ours.clone()
    } else {
        choose(security)?
    };
    // Asking for one that this process does not have would fail the start altogether.
    Ok(ALL
        .into_iter()
        .filter(|c| chosen.contains(c) && ours.contains(c))
        .collect())
}

fn choose(security: &SecurityContext) -> Result<HashSet<Capability>, Error> {
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut chosen: HashSet<Capability> = if security.drop_capabilities.iter().any(is_all) {
        HashSet::new()
    } else if security.add_capabilities.iter().any(is_all) {
        ALL.into()
    } else {
        DEFAULT.into()
    };
    // With ALL on one side, names on the other are exceptions to it.
    if security.drop_capabilities.iter().any(is_all) && security.add_capabilities.iter().any(is_all)
    {
        chosen = ALL.into();
    }
    for name in security.drop_capabilities.iter().filter(|n| !is_all(n)) {
        chosen.remove(&parse(name)?);
    }
    for name in security.add_capabilities.iter().filter(|n| !is_all(n)) {
        chosen.insert(parse(name)?);
    }
    Ok(chosen)
}

fn parse(name: &str) -> Result<Capability, Error> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(bare)
        .map_err(|_| Error::InvalidConfig(format!("unknown capability {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(add: &[&str], drop: &[&str]) -> HashSet<Capability> {
        let own = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        choose(&SecurityContext {
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn additions_and_removals_apply_to_the_default() {
        assert_eq!(chosen(&[], &[]), DEFAULT.into());
        assert_eq!(
            chosen(&["NET_BIND_SERVICE"], &["ALL"]),
            [Capability::NetBindService].into()
        );
        assert!(chosen(&["CAP_SYS_ADMIN"], &[]).contains(&Capability::SysAdmin));
        assert!(!chosen(&["ALL"], &["sys_admin"]).contains(&Capability::SysAdmin));
        assert_eq!(chosen(&["ALL"], &[]).len(), ALL.len());
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let security = SecurityContext {
            add_capabilities: vec!["NO_SUCH".to_owned()],
            ..Default::default()
        };
        assert!(matches!(choose(&security), Err(Error::InvalidConfig(_))));
    }
}
