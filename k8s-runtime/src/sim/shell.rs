//! What commands say in a simulated container, where nobody scripted them: the handful that tests and
//! tutorials run, and no more. They see the container's environment and their standard input; there is
//! no file system and no other process.

use std::{collections::BTreeMap, time::Duration};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// What a command can see.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) hostname: String,
    pub(super) working_dir: String,
    pub(super) env: BTreeMap<String, String>,
    /// The time, as `date` tells it.
    pub(super) date: String,
}

/// A command's streams. One that nobody asked for is empty or swallows what it is given.
pub(super) struct Io {
    pub(super) stdin: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    pub(super) stdout: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) stderr: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With an exit code.
    Code(i32),
    /// There is no such program.
    Unknown,
}

const NOT_FOUND: i32 = 127;

/// The longest line of input that is read.
const LINE: u64 = 64 * 1024;

/// Runs a program with its arguments.
pub(super) async fn run(world: &World, command: &[String], io: &mut Io) -> End {
    let Some((program, arguments)) = command.split_first() else {
        return End::Unknown;
    };
    let program = program.rsplit('/').next().unwrap_or(program);
    if !matches!(program, "sh" | "bash" | "ash" | "dash") {
        return one(world, program, arguments, io, Target::Out).await;
    }
    let script = arguments
        .iter()
        .position(|argument| argument.starts_with('-') && argument.ends_with('c'));
    let code = match script.and_then(|at| arguments.get(at + 1)) {
        Some(script) => lines(world, script, io).await,
        None => interactive(world, io).await,
    };
    End::Code(code.code())
}

/// Whether all of a command is known here, a script to its last word, and it needs no input: so it can be the whole
/// program of a container.
pub(super) fn knows(command: &[String]) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let program = program.rsplit('/').next().unwrap_or(program);
    if !matches!(program, "sh" | "bash" | "ash" | "dash") {
        return program != "exit" && knows_one(program, arguments);
    }
    let [flag, script] = arguments else {
        return false;
    };
    if !matches!(flag.as_str(), "-c" | "-ec" | "-ce") || !is_plain(script) {
        return false;
    }
    let world = World::default();
    let commands = split(script);
    let mut all = commands.iter().map(|(command, _)| words(&world, command));
    all.all(|mut words| {
        redirected(&mut words);
        match words.split_first() {
            None => true,
            Some((program, _)) if program.contains(['=', '>']) => false,
            Some((program, arguments)) => {
                let program = program.rsplit('/').next().unwrap_or(program);
                !arguments.iter().any(|word| word.contains('>')) && knows_one(program, arguments)
            }
        }
    })
}

fn knows_one(program: &str, arguments: &[String]) -> bool {
    match program {
        "true" | ":" | "false" | "echo" | "printenv" => true,
        "hostname" | "whoami" | "date" | "pwd" | "env" => arguments.is_empty(),
        "sleep" => pause(arguments).is_some(),
        "exit" => match arguments {
            [] => true,
            [code] => code.parse::<u8>().is_ok(),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a script has nothing but commands, quotes, and variables by their names. What is in doubt is not plain.
fn is_plain(script: &str) -> bool {
    let mut chars = script.chars().peekable();
    let mut last = ' ';
    while let Some(c) = chars.next() {
        match c {
            '`' | '<' | '(' | ')' | '*' | '?' | '[' | '~' | '#' | '{' | '}' => return false,
            '|' if chars.next_if_eq(&'|').is_none() => return false,
            '&' if last != '>' && chars.next_if_eq(&'&').is_none() => return false,
            '$' => {
                let braces = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                let named = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                if !named || name == "RANDOM" || (braces && chars.next_if_eq(&'}').is_none()) {
                    return false;
                }
            }
            _ => {}
        }
        last = c;
    }
    true
}

/// Whether the shell goes on.
#[derive(Clone, Copy, Debug)]
enum Flow {
    On(i32),
    Exit(i32),
}

impl Flow {
    fn code(self) -> i32 {
        match self {
            Flow::On(code) | Flow::Exit(code) => code,
        }
    }
}

/// A shell that reads its commands from standard input.
async fn interactive(world: &World, io: &mut Io) -> Flow {
    let mut last = Flow::On(0);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut io.stdin).take(LINE);
        match limited.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return last,
            Ok(_) => last = lines(world, String::from_utf8_lossy(&line).trim(), io).await,
        }
        if let Flow::Exit(_) = last {
            return last;
        }
    }
}

/// Commands after each other: `;` and new lines, `&&`, `||`.
async fn lines(world: &World, script: &str, io: &mut Io) -> Flow {
    let mut code = 0;
    let mut skip = false;
    for (command, then) in split(script) {
        if !skip && !command.trim().is_empty() {
            match simple(world, &command, io).await {
                Flow::On(now) => code = now,
                exit => return exit,
            }
        }
        skip = match then {
            Then::Always => false,
            Then::IfGood => code != 0,
            Then::IfBad => code == 0,
        };
    }
    Flow::On(code)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Always,
    IfGood,
    IfBad,
}

/// A script's commands, and what decides over the next one.
fn split(script: &str) -> Vec<(String, Then)> {
    let mut out = Vec::new();
    let mut now = String::new();
    let mut quote = None;
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), _) => {
                if c == q {
                    quote = None;
                }
                now.push(c);
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                now.push(c);
            }
            (None, '\\') => {
                now.push(c);
                now.extend(chars.next());
            }
            (None, ';' | '\n') => out.push((std::mem::take(&mut now), Then::Always)),
            (None, '&' | '|') if chars.peek() == Some(&c) => {
                chars.next();
                let then = if c == '&' { Then::IfGood } else { Then::IfBad };
                out.push((std::mem::take(&mut now), then));
            }
            _ => now.push(c),
        }
    }
    out.push((now, Then::Always));
    out
}

/// Where a command's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Out,
    Err,
    Nowhere,
}

async fn simple(world: &World, command: &str, io: &mut Io) -> Flow {
    let mut words = words(world, command);
    let target = redirected(&mut words);
    let Some((program, arguments)) = words.split_first() else {
        return Flow::On(0);
    };
    if program == "exit" {
        let code = arguments
            .first()
            .map_or(0, |code| code.parse().unwrap_or(2));
        return Flow::Exit(code);
    }
    let program = program.rsplit('/').next().unwrap_or(program);
    match one(world, program, arguments, io, target).await {
        End::Code(code) => Flow::On(code),
        End::Unknown => {
            let text = format!("sh: {program}: not found\n");
            let _ = io.stderr.write_all(text.as_bytes()).await;
            Flow::On(NOT_FOUND)
        }
    }
}

/// Takes the redirections that are known out of a command's words: where its output goes.
fn redirected(words: &mut Vec<String>) -> Target {
    let mut target = Target::Out;
    words.retain(|word| {
        match word.as_str() {
            ">&2" | "1>&2" => target = Target::Err,
            ">/dev/null" | "1>/dev/null" => target = Target::Nowhere,
            "2>&1" | "2>/dev/null" => {}
            _ => return true,
        }
        false
    });
    // As one word or as two.
    if let Some(at) = words.iter().position(|word| word == ">")
        && words.get(at + 1).is_some_and(|file| file == "/dev/null")
    {
        words.drain(at..at + 2);
        target = Target::Nowhere;
    }
    target
}

/// How long `sleep` sleeps: the sum of its arguments, if they are times. Without end is a very long time.
fn pause(arguments: &[String]) -> Option<Duration> {
    if arguments.is_empty() {
        return None;
    }
    arguments.iter().try_fold(Duration::ZERO, |sum, text| {
        if matches!(text.as_str(), "infinity" | "inf") {
            return Some(Duration::MAX);
        }
        let number = text.trim_end_matches(['s', 'm', 'h', 'd']);
        let unit = match &text[number.len()..] {
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        let seconds: f64 = number.parse().ok()?;
        let time = Duration::try_from_secs_f64(seconds * unit).ok()?;
        Some(sum.saturating_add(time))
    })
}

/// The words of a command, without quotes, with the values of variables.
fn words(world: &World, command: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => out.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(q), c) if c == q => quote = None,
            (None | Some('"'), '\\') => {
                word.get_or_insert_default().extend(chars.next());
            }
            (None | Some('"'), '$') => {
                let braces = chars.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
                    name.push(c);
                }
                if braces {
                    chars.next_if_eq(&'}');
                }
                let word = word.get_or_insert_default();
                match name.as_str() {
                    "" => word.push('$'),
                    name => word.push_str(world.env.get(name).map_or("", String::as_str)),
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

/// One program.
async fn one(
    world: &World,
    program: &str,
    arguments: &[String],
    io: &mut Io,
    target: Target,
) -> End {
    let mut text = match program {
        "true" | ":" => return End::Code(0),
        "false" => return End::Code(1),
        "echo" => match arguments.split_first() {
            Some((flag, rest)) if flag == "-n" => rest.join(" "),
            _ => arguments.join(" ") + "\n",
        },
        "hostname" => format!("{}\n", world.hostname),
        "whoami" => "root\n".to_owned(),
        "date" => format!("{}\n", world.date),
        "pwd" => match world.working_dir.as_str() {
            "" => "/\n".to_owned(),
            folder => format!("{folder}\n"),
        },
        "env" | "printenv" if arguments.is_empty() => {
            let pairs = world
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            pairs.collect()
        }
        "printenv" => {
            let values: Option<Vec<&String>> =
                arguments.iter().map(|name| world.env.get(name)).collect();
            match values {
                Some(values) => values
                    .into_iter()
                    .map(|value| format!("{value}\n"))
                    .collect(),
                None => return End::Code(1),
            }
        }
        "sleep" => {
            let Some(time) = pause(arguments) else {
                let text = format!("sleep: invalid time interval '{}'\n", arguments.join(" "));
                let _ = io.stderr.write_all(text.as_bytes()).await;
                return End::Code(1);
            };
            tokio::time::sleep(time).await;
            return End::Code(0);
        }
        "cat" if arguments.iter().all(|name| name == "-") => return copy(io, target).await,
        _ => return End::Unknown,
    };
    if program == "echo" && arguments.first().is_some_and(|flag| flag == "-e") {
        text = text.trim_start_matches("-e ").replace("\\n", "\n");
    }
    write(io, target, text.as_bytes()).await
}

/// Output goes to where it belongs; nobody reads it any more if that fails.
async fn write(io: &mut Io, target: Target, bytes: &[u8]) -> End {
    let stream = match target {
        Target::Out => &mut io.stdout,
        Target::Err => &mut io.stderr,
        Target::Nowhere => return End::Code(0),
    };
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    End::Code(if written.await.is_ok() { 0 } else { 1 })
}

/// Standard input to the output, until it ends.
async fn copy(io: &mut Io, target: Target) -> End {
    let mut buffer = vec![0; 8192];
    loop {
        match io.stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => return End::Code(0),
            Ok(n) => {
                let chunk = buffer[..n].to_vec();
                if write(io, target, &chunk).await != End::Code(0) {
                    return End::Code(1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command says on both streams, and its end.
    async fn said(command: &[&str], input: &'static str) -> (String, String, End) {
        let world = World {
            hostname: "web-0".to_owned(),
            env: [("COLOUR".to_owned(), "deep blue".to_owned())].into(),
            ..World::default()
        };
        let (out, mut read_out) = tokio::io::duplex(4096);
        let (err, mut read_err) = tokio::io::duplex(4096);
        let stdin: Box<dyn AsyncRead + Send + Unpin> = Box::new(input.as_bytes());
        let mut io = Io {
            stdin: BufReader::new(stdin),
            stdout: Box::new(out),
            stderr: Box::new(err),
        };
        let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
        let end = run(&world, &command, &mut io).await;
        drop(io);
        let (mut out, mut err) = (String::new(), String::new());
        read_out.read_to_string(&mut out).await.unwrap();
        read_err.read_to_string(&mut err).await.unwrap();
        (out, err, end)
    }

    #[tokio::test]
    async fn a_script_writes_to_both_streams_and_says_how_it_ended() {
        let script = "echo This message goes to stderr >&2; echo \"to  stdout\" $COLOUR 'and $COLOUR'; exit 3";
        let (out, err, end) = said(&["/bin/sh", "-c", script], "").await;
        assert_eq!(out, "to  stdout deep blue and $COLOUR\n");
        assert_eq!(err, "This message goes to stderr\n");
        assert_eq!(end, End::Code(3));
        let (out, _, end) = said(
            &["sh", "-c", "false && echo a || echo b; true && hostname"],
            "",
        )
        .await;
        assert_eq!((out.as_str(), end), ("b\nweb-0\n", End::Code(0)));
    }

    #[tokio::test]
    async fn a_shell_reads_commands_and_cat_copies() {
        let (out, err, end) = said(&["sh"], "echo one\nfrobnicate\nexit 4\necho never\n").await;
        assert_eq!((out.as_str(), end), ("one\n", End::Code(4)));
        assert_eq!(err, "sh: frobnicate: not found\n");
        assert_eq!(
            said(&["cat"], "as it is").await,
            ("as it is".into(), String::new(), End::Code(0))
        );
    }

    #[tokio::test]
    async fn what_is_not_known_is_not_made_up() {
        assert_eq!(said(&["ls", "/"], "").await.2, End::Unknown);
        assert_eq!(said(&["cat", "/etc/passwd"], "").await.2, End::Unknown);
        assert_eq!(said(&["printenv", "NOPE"], "").await.2, End::Code(1));
    }
}
