//! The seccomp profile `RuntimeDefault`: what Docker's and containerd's default profiles allow, as
//! data.

use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::Error;

/// Calls that everybody may make.
const ALWAYS: &str = "
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync
    fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups
    getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit get_robust_list getrusage getsid getsockname getsockopt
    get_thread_area gettid gettimeofday getuid getuid32 getxattr inotify_add_watch inotify_init
    inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents io_pgetevents
    io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listxattr
    llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at
    nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
    process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat
    readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr rename renameat
    renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity
    sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send
    sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area
    set_tid_address setuid setuid32 setxattr shmat shmctl shmdt shmget shutdown sigaltstack signalfd
    signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
    ugetrlimit umask uname unlink unlinkat utime utimensat utimensat_time64 utimes vfork vmsplice wait4
    waitid waitpid write writev process_vm_readv process_vm_writev ptrace";

/// Calls that come with a capability.
const WITH_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr \
         move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (
        Capability::SysModule,
        "delete_module init_module finit_module",
    ),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (
        Capability::SysTime,
        "settimeofday stime clock_settime clock_settime64",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// The personalities that may be asked for: Linux, 32 bits, both with UNAME26, and the query.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// All flags of `clone` that make a namespace.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The address family of virtual machines' sockets, which leads past the network namespace.
const AF_VSOCK: u64 = 40;

#[cfg(target_arch = "x86_64")]
const EXTRA: &str = "arch_prctl modify_ldt";
#[cfg(target_arch = "aarch64")]
const EXTRA: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";
#[cfg(target_arch = "riscv64")]
const EXTRA: &str = "riscv_flush_icache";
#[cfg(not(any(
    target_arch = "x86_64",
    target_arch = "aarch64",
    target_arch = "riscv64"
)))]
const EXTRA: &str = "";

fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => Vec::new(),
    }
}

/// The default profile for a container with these capabilities.
pub(super) fn default_profile(capabilities: &[Capability]) -> Result<LinuxSeccomp, Error> {
    let build = || -> Result<LinuxSeccomp, oci_spec::OciSpecError> {
        let mut rules = vec![rule(ALWAYS, LinuxSeccompAction::ScmpActAllow, None, None)?];
        if !EXTRA.is_empty() {
            rules.push(rule(EXTRA, LinuxSeccompAction::ScmpActAllow, None, None)?);
        }
        let socket = argument(0, AF_VSOCK, LinuxSeccompOperator::ScmpCmpNe, None)?;
        rules.push(rule(
            "socket",
            LinuxSeccompAction::ScmpActAllow,
            Some(socket),
            None,
        )?);
        for value in PERSONALITIES {
            let value = argument(0, value, LinuxSeccompOperator::ScmpCmpEq, None)?;
            rules.push(rule(
                "personality",
                LinuxSeccompAction::ScmpActAllow,
                Some(value),
                None,
            )?);
        }
        for (capability, calls) in WITH_CAPABILITY {
            if capabilities.contains(capability) {
                rules.push(rule(calls, LinuxSeccompAction::ScmpActAllow, None, None)?);
            }
        }
        if !capabilities.contains(&Capability::SysAdmin) {
            let index = usize::from(cfg!(target_arch = "s390x"));
            let flags = argument(
                index,
                NEW_NAMESPACES,
                LinuxSeccompOperator::ScmpCmpMaskedEq,
                Some(0),
            )?;
            rules.push(rule(
                "clone",
                LinuxSeccompAction::ScmpActAllow,
                Some(flags),
                None,
            )?);
            // Its flags are out of a filter's sight. "No such call" makes libc fall back to clone.
            let missing = nix::libc::ENOSYS.unsigned_abs();
            rules.push(rule(
                "clone3",
                LinuxSeccompAction::ScmpActErrno,
                None,
                Some(missing),
            )?);
        }
        LinuxSeccompBuilder::default()
            .default_action(LinuxSeccompAction::ScmpActErrno)
            .default_errno_ret(nix::libc::EPERM.unsigned_abs())
            .architectures(architectures())
            .syscalls(rules)
            .build()
    };
    build().map_err(|e| Error::InvalidConfig(format!("seccomp: {e}")))
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    argument: Option<LinuxSeccompArg>,
    errno: Option<u32>,
) -> Result<LinuxSyscall, oci_spec::OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let mut builder = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(argument) = argument {
        builder = builder.args(vec![argument]);
    }
    if let Some(errno) = errno {
        builder = builder.errno_ret(errno);
    }
    builder.build()
}

fn argument(
    index: usize,
    value: u64,
    op: LinuxSeccompOperator,
    second: Option<u64>,
) -> Result<LinuxSeccompArg, oci_spec::OciSpecError> {
    let builder = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(op);
    match second {
        Some(second) => builder.value_two(second).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, call: &str) -> bool {
        profile.syscalls().iter().flatten().any(|s| {
            s.action() == LinuxSeccompAction::ScmpActAllow
                && s.args().is_none()
                && s.names().iter().any(|n| n == call)
        })
    }

    #[test]
    fn calls_follow_capabilities() {
        let plain = default_profile(&[]).unwrap();
        assert!(allowed(&plain, "openat"));
        for call in [
            "mount",
            "bpf",
            "reboot",
            "unshare",
            "keyctl",
            "kexec_load",
            "clone3",
            "io_uring_setup",
        ] {
            assert!(!allowed(&plain, call), "{call}");
        }
        let admin = default_profile(&[Capability::SysAdmin]).unwrap();
        assert!(
            allowed(&admin, "mount") && allowed(&admin, "clone3") && !allowed(&admin, "reboot")
        );
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut names: Vec<&str> = ALWAYS.split_whitespace().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
