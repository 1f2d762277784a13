//! Small programs, one idea each.

pub mod kube_controller;
pub mod scheduler_plugin;
pub mod typed_resource;
