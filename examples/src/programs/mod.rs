//! Small programs, one idea each.

pub mod kube_controller;
pub mod scheduler;
pub mod scheduler_plugin;
pub mod typed_resource;
