//! `cluster image`: the images of the nodes.

use std::path::Path;

use anyhow::{Context, bail};
use k8s_runtime::{
    ImageService,
    images::{ImageStore, ImageStoreOptions},
};

use super::{
    arguments::{ImageCommand, ImageOptions},
    layout::Layout,
};

pub(super) async fn run(options: ImageOptions) -> anyhow::Result<()> {
    match options.command {
        ImageCommand::Import { data_dir, files } => {
            let store = open(&data_dir)?;
            for file in files {
                let images = store
                    .import(&file)
                    .await
                    .with_context(|| format!("cannot import {}", file.display()))?;
                for image in images {
                    let name = image.repo_tags.first().unwrap_or(&image.id);
                    print(&format!("imported {name}"));
                }
            }
        }
        ImageCommand::Ls { data_dir } => {
            let mut rows: Vec<[String; 3]> = Vec::new();
            for image in open(&data_dir)?
                .images()
                .await
                .context("cannot list images")?
            {
                let id: String = image
                    .id
                    .trim_start_matches("sha256:")
                    .chars()
                    .take(12)
                    .collect();
                let size = format!("{:.1} MB", image.size_bytes as f64 / 1e6);
                let names = if image.repo_tags.is_empty() {
                    &image.repo_digests
                } else {
                    &image.repo_tags
                };
                match names.as_slice() {
                    [] => rows.push(["<none>".into(), id, size]),
                    names => {
                        rows.extend(names.iter().map(|n| [n.clone(), id.clone(), size.clone()]))
                    }
                }
            }
            rows.sort();
            let width = rows
                .iter()
                .map(|r| r[0].len())
                .max()
                .unwrap_or(0)
                .max("IMAGE".len());
            print(&format!("{:width$}  {:12}  SIZE", "IMAGE", "ID"));
            for [name, id, size] in rows {
                print(&format!("{name:width$}  {id:12}  {size}"));
            }
        }
    }
    Ok(())
}

fn open(data_dir: &Path) -> anyhow::Result<ImageStore> {
    if !data_dir.exists() {
        bail!(
            "{} is not there: `cluster up --data-dir {0}` makes it",
            data_dir.display()
        );
    }
    let options = ImageStoreOptions::new(Layout::new(data_dir).images());
    ImageStore::open(options).context("cannot open the image store")
}

#[expect(clippy::print_stdout, reason = "what the command was asked for")]
fn print(line: &str) {
    println!("{line}");
}
