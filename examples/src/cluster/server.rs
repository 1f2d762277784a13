//! `cluster server`: the control plane alone.

use std::{fs, time::Instant};

use anyhow::Context;

use super::{
    arguments::ServerOptions, control_plane::ControlPlane, layout::Layout, node, stop::Stop, up,
};

pub(super) async fn run(options: ServerOptions) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut stop = Stop::new()?;
    fs::create_dir_all(&options.data_dir).with_context(|| {
        format!(
            "cannot make the data directory {}",
            options.data_dir.display()
        )
    })?;
    let layout = Layout::new(&fs::canonicalize(&options.data_dir)?);
    let _claim = layout.claim()?;
    let machine = node::machine_ip(&options)?;
    let starting = ControlPlane::start(&options, &layout, machine, false);
    let control_plane = tokio::select! {
        started = starting => started?,
        () = stop.signal() => return Ok(()),
    };
    up::announce(started, &options);
    stop.signal().await;
    stop.unless_again(control_plane.stop()).await
}
