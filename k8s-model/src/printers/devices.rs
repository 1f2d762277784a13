//! Devices and claims on them.

use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, text as column},
    view::View,
};

pub(super) const NAME_AND_AGE: &[Column] = &[NAME, AGE];

pub(super) fn name_and_age(view: &View) -> Vec<Value> {
    vec![view.name(), view.age()]
}

pub(super) const CLAIM: &[Column] = &[
    NAME,
    column("State", "Whether it is allocated and reserved."),
    AGE,
];

pub(super) fn claim(view: &View) -> Vec<Value> {
    let mut states = Vec::new();
    if view.is_deleted() {
        states.push("deleted");
    }
    if view.get("status.allocation").is_null() {
        if !view.is_deleted() {
            states.push("pending");
        }
    } else {
        states.push("allocated");
        if view.len("status.reservedFor") > 0 {
            states.push("reserved");
        }
    }
    vec![view.name(), states.join(",").into(), view.age()]
}

pub(super) const SLICE: &[Column] = &[
    NAME,
    column("Node", "The node that has the devices, if it is one."),
    column("Driver", "The driver of the devices."),
    column("Pool", "The pool that they are in."),
    AGE,
];

pub(super) fn slice(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.text_or("spec.nodeName", "<unset>").into(),
        view.text("spec.driver").into(),
        view.text("spec.pool.name").into(),
        view.age(),
    ]
}
