//! Runs fuzz targets for as long as one likes; see the library's front page.

use std::{
    io::Write,
    panic,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use k8s_fuzz::{TARGETS, Target, mutate::Mutator, target};

/// Looks for inputs that break readers.
#[derive(Debug, Parser)]
struct Args {
    /// Which targets; all of them if none is named.
    targets: Vec<String>,
    /// For how long, in all.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs one input alone.
    #[arg(long)]
    input: Option<PathBuf>,
    /// Writes the input of this number to the file given by `--input`, and runs nothing.
    #[arg(long)]
    number: Option<u64>,
    /// What counts as slow, in milliseconds.
    #[arg(long, default_value_t = 250)]
    slow: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let chosen: Vec<&Target> = if args.targets.is_empty() {
        TARGETS.iter().collect()
    } else {
        let find = |name: &String| target(name).with_context(|| format!("no target {name}"));
        args.targets.iter().map(find).collect::<Result<_, _>>()?
    };
    let mutator = |target: &Target| Mutator::new(target.seeds(), target.dictionary);
    if let (Some(path), Some(number), [target]) = (&args.input, args.number, &*chosen) {
        return Ok(std::fs::write(
            path,
            mutator(target).input(args.seed, number),
        )?);
    }
    if let Some(path) = &args.input {
        let input = std::fs::read(path)?;
        for target in chosen {
            (target.run)(&input);
        }
        return Ok(());
    }
    let share = Duration::from_secs(args.seconds) / chosen.len() as u32;
    let mut failed = 0;
    for target in chosen {
        failed += look(target, &mutator(target), &args, share)?;
    }
    if failed > 0 {
        bail!("{failed} inputs broke something");
    }
    Ok(())
}

/// Runs a target over and over. An input that ends the program is the last number in its progress file.
fn look(target: &Target, mutator: &Mutator, args: &Args, share: Duration) -> anyhow::Result<u32> {
    let progress = std::env::temp_dir().join(format!("fuzz-{}.number", target.name));
    let (start, mut number, mut failed, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
    while start.elapsed() < share {
        if number % 64 == 0 {
            std::fs::write(&progress, number.to_string())?;
        }
        let input = mutator.input(args.seed, number);
        let before = Instant::now();
        let ended = panic::catch_unwind(|| (target.run)(&input));
        let took = before.elapsed();
        slowest = slowest.max(took);
        if ended.is_err() {
            writeln!(
                std::io::stderr(),
                "{} --seed {} --number {number}: broke",
                target.name,
                args.seed
            )?;
            failed += 1;
        } else if took > Duration::from_millis(args.slow) {
            writeln!(
                std::io::stderr(),
                "{} --seed {} --number {number}: took {took:?}",
                target.name,
                args.seed
            )?;
        }
        number += 1;
    }
    writeln!(
        std::io::stderr(),
        "{}: {number} inputs, {failed} broke, the slowest took {slowest:?}",
        target.name
    )?;
    Ok(failed)
}
