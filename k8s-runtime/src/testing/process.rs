//! What a container runtime promises that runs processes.

use std::{path::PathBuf, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Fixture,
    fixture::{eventually, records},
};
use crate::{
    ContainerId, ContainerState, DnsConfig, Error, ExecOutput, Mount, NamespaceMode, SandboxConfig,
    Streams, TerminalSize,
};

fn own(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| (*w).to_owned()).collect()
}

async fn sh(f: &Fixture, id: &ContainerId, script: &str) -> ExecOutput {
    f.runtime
        .exec_sync(
            id,
            &own(&["sh", "-c", script]),
            Some(Duration::from_secs(30)),
        )
        .await
        .expect("an exec")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a script says on standard output when it is a container's main process.
async fn said(f: &Fixture, id: &ContainerId) -> String {
    f.exited(id).await;
    let stdout = f
        .log(id)
        .await
        .into_iter()
        .filter(|(s, _)| s == "stdout")
        .map(|(_, t)| t);
    stdout.collect::<Vec<_>>().join("\n")
}

pub async fn an_exit_code_is_kept(f: &Fixture) {
    for (code, reason) in [(0, "Completed"), (3, "Error")] {
        let id = f.script(&format!("exit {code}")).await;
        let status = f.exited(&id).await;
        assert_eq!(
            (status.exit_code, status.signal, status.reason.as_str()),
            (Some(code), None, reason)
        );
        assert!(status.finished_at >= status.started_at);
    }
}

pub async fn a_signals_number_is_added_to_128(f: &Fixture) {
    let id = f.script("").await;
    let pid = f
        .runtime
        .container(&id)
        .await
        .expect("a status")
        .pid
        .expect("a process ID");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a process ID"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("a signal");
    let status = f.exited(&id).await;
    assert_eq!((status.exit_code, status.signal), (Some(137), Some(9)));
}

pub async fn output_goes_to_the_log_in_cri_format(f: &Fixture) {
    let id = f
        .script("echo one; echo two >&2; sleep 0.05; printf three")
        .await;
    f.exited(&id).await;
    let mut log = f.log(&id).await;
    log[..2].sort();
    let line = |s: &str, t: &str| (s.to_owned(), t.to_owned());
    assert_eq!(
        log,
        [
            line("stderr", "two"),
            line("stdout", "one"),
            line("stdout", "three")
        ]
    );
}

pub async fn a_log_that_was_moved_away_is_started_anew(f: &Fixture) {
    let id = f.script("echo one; echo two; exec sleep 1000").await;
    let path = f.runtime.container(&id).await.expect("a status").log_path;
    let old = path.with_extension("old");
    let read = || std::fs::read_to_string(&path).ok();
    eventually("the second line", async || {
        read().filter(|t| t.ends_with("two\n"))
    })
    .await;
    std::fs::rename(&path, &old).expect("a rename");
    f.runtime.reopen_log(&id).await.expect("a new log");
    assert!(path.exists());
    assert_eq!(
        records(&std::fs::read_to_string(&old).expect("the old log")).len(),
        2
    );
    let said = sh(f, &id, "echo three > /proc/1/fd/1").await;
    assert_eq!(said.exit_code, 0);
    let log = eventually("the third line", async || {
        std::fs::read_to_string(&path)
            .ok()
            .filter(|t| !t.is_empty())
    })
    .await;
    assert_eq!(records(&log), [("stdout".to_owned(), "three".to_owned())]);
}

pub async fn a_log_stays_when_its_container_is_removed(f: &Fixture) {
    let id = f.script("echo one").await;
    let path = f.exited(&id).await.log_path;
    f.runtime.remove_container(&id).await.expect("a removal");
    assert!(
        std::fs::read_to_string(path)
            .expect("the log")
            .ends_with("one\n")
    );
}

pub async fn asking_to_end_comes_before_killing(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    for (signal, config) in [("TERM", None), ("USR1", Some("SIGUSR1".to_owned()))] {
        let mut container = f.container(
            signal,
            &format!("trap 'exit 7' {signal}; echo up; while :; do sleep 0.01; done"),
        );
        container.stop_signal = config;
        let id = f.start(&sandbox, container).await;
        eventually("the trap", async || {
            (!f.log(&id).await.is_empty()).then_some(())
        })
        .await;
        f.runtime
            .stop_container(&id, Duration::from_secs(30))
            .await
            .expect("a stop");
        let status = f.runtime.container(&id).await.expect("a status");
        assert_eq!(
            (status.state, status.exit_code),
            (ContainerState::Exited, Some(7)),
            "{signal}"
        );
    }
}

pub async fn a_deaf_container_is_killed_after_its_grace(f: &Fixture) {
    let id = f
        .script("trap '' TERM; echo up; while :; do sleep 1; done")
        .await;
    eventually("the trap", async || {
        (!f.log(&id).await.is_empty()).then_some(())
    })
    .await;
    f.runtime
        .stop_container(&id, Duration::from_millis(100))
        .await
        .expect("a stop");
    assert_eq!(
        f.runtime.container(&id).await.expect("a status").exit_code,
        Some(137)
    );
}

pub async fn a_command_that_is_not_there_fails_the_start(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "");
    config.command = own(&["/no/such/command"]);
    let id = f
        .runtime
        .create_container(&sandbox, config)
        .await
        .expect("a container");
    match f.runtime.start_container(&id).await {
        Err(Error::RuntimeFailed { message, .. }) => {
            assert!(message.contains("no such file"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let status = f.runtime.container(&id).await.expect("a status");
    assert_eq!(
        (status.state, status.exit_code, status.reason.as_str()),
        (ContainerState::Exited, Some(128), "StartError")
    );
    assert!(status.message.contains("no such file"));
}

pub async fn the_environment_arguments_and_directory_arrive(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "echo $FROM_IMAGE $MINE $HOSTNAME $PWD $0 $1");
    config.args = own(&["zero", "one two"]);
    config.env = vec![("MINE".to_owned(), "a=b c".to_owned())];
    config.working_dir = "/tmp/new".to_owned();
    let id = f.start(&sandbox, config).await;
    assert_eq!(said(f, &id).await, "1 a=b c a /tmp/new zero one two");
}

pub async fn the_user_is_the_one_that_was_asked_for(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut named = f.container("named", "id -u; id -g; id -G");
    named.security.run_as_username = Some("nobody".to_owned());
    let mut numbered = f.container("numbered", "id -u; id -g; id -G");
    numbered.security.run_as_user = Some(1234);
    numbered.security.run_as_group = Some(5678);
    numbered.security.supplemental_groups = vec![77];
    let (named, numbered) = (
        f.start(&sandbox, named).await,
        f.start(&sandbox, numbered).await,
    );
    assert_eq!(said(f, &named).await, "65534\n65534\n65534 4000");
    assert_eq!(said(f, &numbered).await, "1234\n5678\n5678 77");
    let mut unknown = f.container("unknown", "");
    unknown.security.run_as_username = Some("who".to_owned());
    let refused = f.runtime.create_container(&sandbox, unknown).await;
    assert!(
        matches!(refused, Err(Error::InvalidConfig(_))),
        "{refused:?}"
    );
}

pub async fn a_read_only_mount_can_not_be_written(f: &Fixture) {
    let host = f
        .logs
        .join(format!("mount-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir_all(&host).expect("a directory");
    std::fs::write(host.join("file"), "content").expect("a file");
    let mount = |at: &str, read_only| Mount {
        container_path: PathBuf::from(at),
        host_path: host.clone(),
        read_only,
        ..Mount::default()
    };
    let sandbox = f.sandbox("a").await;
    let mut config = f.container(
        "main",
        "cat /ro/file; echo; echo x > /ro/no || echo refused; echo yes > /rw/new",
    );
    config.mounts = vec![mount("/ro", true), mount("/rw", false)];
    let id = f.start(&sandbox, config).await;
    assert_eq!(said(f, &id).await, "content\nrefused");
    assert_eq!(
        std::fs::read_to_string(host.join("new")).expect("the new file"),
        "yes\n"
    );
}

pub async fn host_name_and_resolver_are_the_pods(f: &Fixture) {
    let dns = DnsConfig {
        servers: own(&["10.0.0.10"]),
        searches: own(&["a.b"]),
        options: own(&["ndots:5"]),
    };
    let config = SandboxConfig {
        hostname: "web-0".to_owned(),
        dns,
        ..f.pod("a")
    };
    let sandbox = f.runtime.run_sandbox(config).await.expect("a sandbox");
    let id = f
        .start(
            &sandbox,
            f.container("main", "hostname; cat /etc/hostname /etc/resolv.conf"),
        )
        .await;
    let expected = "web-0\nweb-0\nsearch a.b\nnameserver 10.0.0.10\noptions ndots:5";
    assert_eq!(said(f, &id).await, expected);
}

pub async fn containers_of_a_pod_share_network_but_not_processes(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let a = f.start(&sandbox, f.container("one", "")).await;
    let b = f.start(&sandbox, f.container("two", "")).await;
    let namespaces = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done";
    let (a, b) = (
        text(&sh(f, &a, namespaces).await.stdout),
        text(&sh(f, &b, namespaces).await.stdout),
    );
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    assert_eq!(a[..3], b[..3]);
    assert!(a[3] != b[3] && a[4] != b[4]);
}

pub async fn a_shared_process_namespace_is_shared(f: &Fixture) {
    let config = SandboxConfig {
        pid: NamespaceMode::Pod,
        ..f.pod("a")
    };
    let sandbox = f.runtime.run_sandbox(config).await.expect("a sandbox");
    let a = f
        .start(&sandbox, f.container("one", "exec sleep 987"))
        .await;
    let b = f
        .start(&sandbox, f.container("two", "sleep 876 & exec sleep 765"))
        .await;
    let seen = eventually("all processes", async || {
        let seen = text(&sh(f, &a, "ps -o args").await.stdout);
        ["987", "876", "765"]
            .iter()
            .all(|n| seen.contains(&format!("sleep {n}")))
            .then_some(seen)
    })
    .await;
    assert!(!seen.is_empty());
    f.runtime
        .stop_container(&b, Duration::ZERO)
        .await
        .expect("a stop");
    let left = text(&sh(f, &a, "ps -o args").await.stdout);
    assert!(
        left.contains("sleep 987") && !left.contains("sleep 876") && !left.contains("sleep 765"),
        "{left}"
    );
}

pub async fn pods_reach_each_other(f: &Fixture) {
    let (server, client) = (f.sandbox("server").await, f.sandbox("client").await);
    let address = f.runtime.sandbox(&server).await.expect("a status").ips[0];
    f.start(
        &server,
        f.container("main", "while :; do echo hello | nc -l -p 8080; done"),
    )
    .await;
    let client = f.start(&client, f.container("main", "")).await;
    eventually("an answer", async || {
        let said = sh(f, &client, &format!("nc -w 2 {address} 8080 < /dev/null")).await;
        (said.stdout == "hello\n").then_some(())
    })
    .await;
}

pub async fn privileges_are_limited_by_default(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let script = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status | tr -s '\\t ' ' '; \
                  mount -t tmpfs x /tmp && echo mounted; unshare -n true && echo unshared; \
                  echo 1 > /proc/sys/kernel/panic && echo written; cat /proc/kcore | head -c 1";
    let mut config = f.container("main", script);
    config.security.no_new_privs = true;
    let id = f.start(&sandbox, config).await;
    assert_eq!(
        said(f, &id).await,
        "CapEff: 00000000a80425fb\nNoNewPrivs: 1\nSeccomp: 2"
    );
}

pub async fn too_much_memory_is_punished(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "exec tail -c 64000000 /dev/zero");
    config.resources.memory_limit_bytes = Some(32 << 20);
    let id = f.start(&sandbox, config).await;
    let status = f.exited(&id).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (Some(137), "OOMKilled")
    );
}

pub async fn exec_sync_gives_output_and_code(f: &Fixture) {
    let id = f.script("").await;
    let output = sh(f, &id, "echo out; echo err >&2; exit 5").await;
    assert_eq!(
        (text(&output.stdout), text(&output.stderr), output.exit_code),
        ("out\n".into(), "err\n".into(), 5)
    );
}

pub async fn exec_sync_ends_at_its_timeout(f: &Fixture) {
    let id = f.script("").await;
    let command = own(&["sleep", "4321"]);
    let result = f
        .runtime
        .exec_sync(&id, &command, Some(Duration::from_millis(300)))
        .await;
    assert!(matches!(result, Err(Error::Timeout { .. })), "{result:?}");
    eventually("the end of the command", async || {
        (!text(&sh(f, &id, "ps -o args").await.stdout).contains("sleep 4321")).then_some(())
    })
    .await;
}

pub async fn exec_of_a_missing_command_is_an_error(f: &Fixture) {
    let id = f.script("").await;
    match f
        .runtime
        .exec_sync(&id, &own(&["no-such-command"]), None)
        .await
    {
        Err(Error::RuntimeFailed { message, .. }) => {
            assert!(message.contains("not found"), "{message}")
        }
        other => panic!("{other:?}"),
    }
}

pub async fn exec_streams_input_and_output(f: &Fixture) {
    let id = f.script("").await;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let command = own(&["sh", "-c", "tr a-z A-Z; echo done >&2; exit 9"]);
    let mut session = f
        .runtime
        .exec(&id, &command, streams)
        .await
        .expect("an exec");
    let big = "lower\n".repeat(50_000);
    let mut stdin = session.stdin.take().expect("standard input");
    let input = big.clone();
    let writing = tokio::spawn(async move {
        stdin.write_all(input.as_bytes()).await.expect("a write");
        stdin.shutdown().await.expect("an end");
    });
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (
        session.stdout.take().expect("output"),
        session.stderr.take().expect("errors"),
    );
    let (a, b) = tokio::join!(
        stdout.read_to_string(&mut out),
        stderr.read_to_string(&mut err)
    );
    a.and(b).expect("reads");
    writing.await.expect("a write");
    assert_eq!((out == big.to_uppercase(), err.as_str()), (true, "done\n"));
    assert_eq!(session.exit.await.expect("an exit"), 9);
}

pub async fn exec_with_a_terminal_has_one(f: &Fixture) {
    let id = f.script("").await;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: true,
    };
    let command = own(&[
        "sh",
        "-c",
        "stty -echo; tty && read x && stty size && exit 4",
    ]);
    let mut session = f
        .runtime
        .exec(&id, &command, streams)
        .await
        .expect("an exec");
    assert!(session.stderr.is_none());
    let mut stdout = session.stdout.take().expect("output");
    let mut seen = String::new();
    let mut buf = [0; 1024];
    while !seen.contains("/dev/pts/") {
        let n = stdout.read(&mut buf).await.expect("a read");
        assert!(n > 0, "{seen}");
        seen.push_str(&text(&buf[..n]));
    }
    let resize = session.resize.take().expect("a size");
    resize
        .send(TerminalSize {
            width: 123,
            height: 45,
        })
        .await
        .expect("a resize");
    let mut stdin = session.stdin.take().expect("input");
    // The size goes its own way, so the answer may be a step behind: ask until it is there.
    let pid_file = own(&[
        "sh",
        "-c",
        "for i in $(seq 200); do for t in /dev/pts/0 /dev/pts/1; do \
        [ \"$(stty size -F $t 2>/dev/null)\" = '45 123' ] && exit 0; done; sleep 0.02; done; exit 1",
    ]);
    let sized = f
        .runtime
        .exec_sync(&id, &pid_file, Some(Duration::from_secs(20)))
        .await
        .expect("an exec");
    assert_eq!(sized.exit_code, 0, "the terminal did not get its size");
    stdin.write_all(b"go\n").await.expect("a write");
    stdout.read_to_string(&mut seen).await.expect("a read");
    assert!(seen.contains("45 123\r\n"), "{seen:?}");
    assert_eq!(session.exit.await.expect("an exit"), 4);
}

pub async fn dropping_an_exec_kills_it(f: &Fixture) {
    let id = f.script("").await;
    let streams = Streams {
        stdout: true,
        ..Streams::default()
    };
    let command = own(&["sh", "-c", "echo up; exec sleep 5432"]);
    let mut session = f
        .runtime
        .exec(&id, &command, streams)
        .await
        .expect("an exec");
    let mut up = [0; 3];
    session
        .stdout
        .take()
        .expect("output")
        .read_exact(&mut up)
        .await
        .expect("a read");
    drop(session);
    eventually("the end of the command", async || {
        (!text(&sh(f, &id, "ps -o args").await.stdout).contains("sleep 5432")).then_some(())
    })
    .await;
    assert_eq!(
        f.runtime.container(&id).await.expect("a status").state,
        ContainerState::Running
    );
}

pub async fn a_stop_right_after_the_start_is_not_the_end_of_the_runtime(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    for turn in 0..10 {
        let mut config = f.container("main", "exec sleep 1000");
        config.attempt = turn;
        let id = f.start(&sandbox, config).await;
        let grace = Duration::from_millis(50);
        f.runtime.stop_container(&id, grace).await.expect("a stop");
        let code = f.exited(&id).await.exit_code;
        assert!(matches!(code, Some(137 | 143)), "{code:?}");
    }
}

pub async fn attach_joins_the_streams(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container(
        "main",
        "while read x; do echo got $x; echo err $x >&2; done; exit 6",
    );
    config.stdin = true;
    config.stdin_once = true;
    let id = f.start(&sandbox, config).await;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let mut session = f.runtime.attach(&id, streams).await.expect("an attach");
    let mut stdin = session.stdin.take().expect("input");
    stdin.write_all(b"one\ntwo\n").await.expect("a write");
    stdin.shutdown().await.expect("an end");
    let (mut out, mut err) = (String::new(), String::new());
    let (mut stdout, mut stderr) = (
        session.stdout.take().expect("output"),
        session.stderr.take().expect("errors"),
    );
    let (a, b) = tokio::join!(
        stdout.read_to_string(&mut out),
        stderr.read_to_string(&mut err)
    );
    a.and(b).expect("reads");
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("got one\ngot two\n", "err one\nerr two\n")
    );
    assert_eq!(session.exit.await.expect("an exit"), 6);
    assert_eq!(f.exited(&id).await.exit_code, Some(6));
}

pub async fn an_attached_session_ends_with_its_input_where_others_may_follow(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "read a; read b; echo $a and $b; exit 5");
    config.stdin = true;
    let id = f.start(&sandbox, config).await;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: false,
        tty: false,
    };
    let mut first = f.runtime.attach(&id, streams).await.expect("an attach");
    let mut stdin = first.stdin.take().expect("input");
    stdin.write_all(b"one\n").await.expect("a write");
    stdin.shutdown().await.expect("an end");
    drop(stdin);
    assert_eq!(first.exit.await.expect("an exit"), 0);
    let status = f.runtime.container(&id).await.expect("a status");
    assert_eq!(status.state, ContainerState::Running);
    let mut second = f.runtime.attach(&id, streams).await.expect("an attach");
    let mut stdin = second.stdin.take().expect("input");
    stdin.write_all(b"two\n").await.expect("a write");
    let mut out = String::new();
    let mut stdout = second.stdout.take().expect("output");
    stdout.read_to_string(&mut out).await.expect("a read");
    assert_eq!(out, "one and two\n");
    assert_eq!(second.exit.await.expect("an exit"), 5);
    f.exited(&id).await;
}

pub async fn attach_to_a_terminal_reaches_it(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    let mut config = f.container("main", "tty; read x; echo got $x; exit 2");
    config.stdin = true;
    config.tty = true;
    let id = f.start(&sandbox, config).await;
    let streams = Streams {
        stdin: true,
        stdout: true,
        stderr: true,
        tty: true,
    };
    let mut session = f.runtime.attach(&id, streams).await.expect("an attach");
    session
        .stdin
        .as_mut()
        .expect("input")
        .write_all(b"hello\n")
        .await
        .expect("a write");
    let mut out = String::new();
    session
        .stdout
        .take()
        .expect("output")
        .read_to_string(&mut out)
        .await
        .expect("a read");
    assert!(out.contains("got hello\r\n"), "{out:?}");
    assert_eq!(session.exit.await.expect("an exit"), 2);
    f.exited(&id).await;
    assert!(f.log(&id).await.iter().any(|(_, t)| t.starts_with("/dev/")));
}

pub async fn a_port_of_a_pod_can_be_reached(f: &Fixture) {
    let sandbox = f.sandbox("a").await;
    f.start(
        &sandbox,
        f.container("main", "while :; do nc -l -p 8080 -e cat; done"),
    )
    .await;
    eventually("a connection", async || {
        let mut stream = f.runtime.port_forward(&sandbox, 8080).await.ok()?;
        stream.write_all(b"ping").await.ok()?;
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.ok()?;
        (&back == b"ping").then_some(())
    })
    .await;
    let refused = f.runtime.port_forward(&sandbox, 9999).await.err();
    assert!(matches!(refused, Some(Error::Io { .. })), "{refused:?}");
}

pub async fn stats_show_use(f: &Fixture) {
    let id = f
        .script("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 1000")
        .await;
    eventually("use", async || {
        let stats = f.runtime.container_stats(&id).await.expect("stats");
        let used =
            stats.cpu_usage_nanos > 0 && stats.memory_working_set_bytes > 0 && stats.pids == 1;
        (used && stats.id == id).then_some(())
    })
    .await;
}

pub async fn what_is_written_outside_of_mounts_is_counted(f: &Fixture) {
    let id = f
        .script("dd if=/dev/zero of=/file bs=1024 count=2048; exec sleep 1000")
        .await;
    eventually("two megabytes", async || {
        let written = f.runtime.written_bytes(&id).await.expect("bytes");
        assert!(written < 16 << 20, "{written}");
        (written >= 2 << 20).then_some(())
    })
    .await;
}
