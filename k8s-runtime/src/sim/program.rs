//! A container's own program, where the simulated shell knows all of it: it writes to the log and ends with its code.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::shell::{self, End, Io, World};
use crate::ContainerConfig;

/// The longest line of output that is one line of the log, in bytes.
const LINE: u64 = 16 * 1024;
/// Bytes of output that wait for the log.
const PIPE: usize = 64 * 1024;

/// The streams of a program, as the log names them.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The program that a container starts, if it is known: its command line must be given, since there is no image to
/// tell of another, and be one that the shell understands to the last word.
pub(super) fn of(container: &ContainerConfig) -> Option<Vec<String>> {
    if container.command.is_empty() {
        return None;
    }
    let program = [&container.command[..], &container.args].concat();
    shell::knows(&program).then_some(program)
}

/// Runs it; the exit code. Each line goes to `log`, with its stream's name.
pub(super) async fn run(
    world: Arc<World>,
    program: Vec<String>,
    log: impl Fn(&'static str, &str),
) -> i32 {
    let (out, read_out) = tokio::io::duplex(PIPE);
    let (err, read_err) = tokio::io::duplex(PIPE);
    let running = async move {
        let mut io = Io {
            stdin: BufReader::new(Box::new(tokio::io::empty())),
            stdout: Box::new(out),
            stderr: Box::new(err),
        };
        match shell::run(&world, &program, &mut io).await {
            End::Code(code) => code,
            End::Unknown => 0,
        }
    };
    let (code, (), ()) = tokio::join!(
        running,
        lines(read_out, STREAMS[0], &log),
        lines(read_err, STREAMS[1], &log),
    );
    code
}

async fn lines(
    stream: impl AsyncRead + Unpin,
    name: &'static str,
    log: &impl Fn(&'static str, &str),
) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match (&mut stream).take(LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => log(name, String::from_utf8_lossy(&line).trim_end_matches('\n')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(command: &[&str], args: &[&str]) -> ContainerConfig {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        ContainerConfig {
            command: words(command),
            args: words(args),
            ..ContainerConfig::default()
        }
    }

    #[test]
    fn programs_are_known_to_the_last_word_or_not_at_all() {
        for known in [
            &["true"][..],
            &["/bin/false"],
            &["sleep", "infinity"],
            &["sh", "-c", "exit 3"],
            &[
                "/bin/sh",
                "-ec",
                "echo one > /dev/null; sleep 1 && false || exit 1",
            ],
            &["sh", "-c", "echo \"$NAME\" ${OTHER} >&2"],
        ] {
            assert!(of(&container(known, &[])).is_some(), "{known:?}");
        }
        for unknown in [
            &[][..],
            &["nginx"],
            &["sh"],
            &["cat"],
            &["date", "+%s"],
            &["sh", "-c", "exit $(( $RANDOM / 16384 ))"],
            &["sh", "-c", "echo $RANDOM"],
            &["sh", "-c", "echo ${NAME:-none}"],
            &["sh", "-c", "while true; do sleep 1; done"],
            &["sh", "-c", "echo one | grep one"],
            &["sh", "-c", "sleep 1 &"],
            &["sh", "-c", "echo one > /file"],
            &["sh", "-c", "echo *"],
            &["sh", "-c", "echo $1", "sh", "one"],
            &["sh", "-c", "trap 'exit 0' TERM; sleep 9"],
        ] {
            assert!(of(&container(unknown, &[])).is_none(), "{unknown:?}");
        }
        assert!(of(&container(&["sh", "-c"], &["true"])).is_some());
        assert!(
            of(&container(&[], &["true"])).is_none(),
            "the image may say what runs"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_writes_is_told_line_by_line_and_its_code() {
        let said = std::sync::Mutex::new(Vec::new());
        let world = Arc::new(World::default());
        let program = of(&container(
            &["sh", "-c"],
            &["echo one; sleep 1h; echo two >&2; exit 7"],
        ));
        let log = |stream: &'static str, line: &str| {
            said.lock().unwrap().push((stream, line.to_owned()));
        };
        let code = run(world, program.unwrap(), log).await;
        let said = said.into_inner().unwrap();
        assert_eq!(code, 7);
        assert_eq!(
            said,
            [("stdout", "one".to_owned()), ("stderr", "two".to_owned())]
        );
    }
}
