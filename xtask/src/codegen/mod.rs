//! `cargo xtask codegen`: what the API machinery must know beyond the Rust types, written into
//! `k8s-model/src/generated`.
//!
//! The facts come from the sources of the `k8s-openapi` crate ([`source`]); what they do not hold
//! (short names, verbs, patch strategies) is in the tables of [`facts`]. The table of [`protobuf`] is
//! written only if the command is told where upstream's Go modules are.

mod facts;
mod protobuf;
mod resources;
mod schema;
mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Writes the generated files, or (`check`) fails if the ones that are there are not what would be
/// written.
pub(crate) fn run(check: bool, upstream: Option<&Path>) -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s-model/src/generated");
    let mut stale = Vec::new();
    for (name, text) in generate(upstream)? {
        let path = folder.join(name);
        if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
    }
    if !stale.is_empty() {
        bail!(
            "stale generated files: {}; run `cargo xtask codegen`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The generated files: their names and their text.
fn generate(upstream: Option<&Path>) -> Result<Vec<(&'static str, String)>> {
    let folder = sources("k8s-openapi")?;
    let newest = source::read(&folder, source::NEWEST)?;
    let since = source::since(&folder)?;
    let (fields, descriptions) = schema::write(&newest, &since)?;
    let mut files = vec![(
        "resources.rs",
        rustfmt(&resources::write(&newest, &since)?)?,
    )];
    if let Some(upstream) = upstream {
        files.push(("protobuf.txt", protobuf::write(upstream, &fields)?));
    }
    files.push(("schema.txt", fields));
    files.push(("descriptions.txt", descriptions));
    Ok(files)
}

/// Where cargo keeps the sources of a crate that the workspace depends on, if only by a feature.
fn sources(crate_name: &str) -> Result<PathBuf> {
    let output = std::process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["metadata", "--format-version", "1", "--all-features"])
        // Packages for other platforms need not be there.
        .args([
            "--filter-platform",
            &format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
        ])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let package = packages
        .iter()
        .find(|package| package["name"] == crate_name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest =
        Path::new(manifest.with_context(|| format!("{crate_name} is not a dependency"))?);
    Ok(manifest.with_file_name("src"))
}

fn rustfmt(text: &str) -> Result<String> {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run rustfmt")?;
    child
        .stdin
        .take()
        .context("rustfmt has no standard input")?
        .write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("rustfmt does not take the generated code");
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_files_are_current() {
        super::run(true, None).unwrap();
    }
}
