//! Which devices an expression selects.

use std::{
    collections::BTreeMap,
    rc::Rc,
    sync::atomic::{AtomicU8, Ordering},
};

use k8s_model::cel::{CALL_LIMIT, CelError, Dialect, Host, Program, Semver, Val};

use super::wire::{Attribute, Device};

const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// An expression, with what it said of each device: the same as long as the device does not change.
#[derive(Debug)]
pub(crate) struct Expression {
    program: Result<Program, String>,
    /// By the device's position.
    verdicts: Box<[AtomicU8]>,
}

impl Expression {
    pub(super) fn new(source: &str, devices: usize) -> Self {
        let program = Program::parse_as(source, Dialect::Devices);
        Self {
            program: program
                .map_err(|error| format!("CEL compile error: compilation failed: {error}")),
            verdicts: (0..devices).map(|_| AtomicU8::new(UNKNOWN)).collect(),
        }
    }

    /// Whether it selects a device.
    ///
    /// # Errors
    ///
    /// With upstream's text if it is no expression, or has no value for this device.
    pub(crate) fn selects(
        &self,
        position: usize,
        driver: &str,
        device: &Device,
    ) -> Result<bool, String> {
        let known = self.verdicts.get(position);
        match known.map(|verdict| verdict.load(Ordering::Relaxed)) {
            Some(YES) => return Ok(true),
            Some(NO) => return Ok(false),
            _ => {}
        }
        let program = self.program.as_ref().map_err(String::clone)?;
        let selects = evaluate(program, driver, device)
            .map_err(|error| format!("CEL runtime error: {error}"))?;
        if let Some(known) = known {
            known.store(if selects { YES } else { NO }, Ordering::Relaxed);
        }
        Ok(selects)
    }

    /// Whether it can be evaluated at all.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.program.as_ref().map(drop).map_err(String::clone)
    }
}

fn evaluate(program: &Program, driver: &str, device: &Device) -> Result<bool, CelError> {
    let mut attributes = Domains::default();
    for (name, attribute) in &device.attributes {
        if let Some(value) = value(attribute)? {
            attributes.put(driver, name, value);
        }
    }
    let mut capacity = Domains::default();
    for (name, size) in &device.capacity {
        capacity.put(driver, name, Val::Quantity(size.value.0));
    }
    let many = device.allow_multiple_allocations.unwrap_or(false);
    let device = Val::Map(Rc::new(vec![
        ("driver".into(), driver.into()),
        ("attributes".into(), Val::Host(Rc::new(attributes))),
        ("capacity".into(), Val::Host(Rc::new(capacity))),
        ("allowMultipleAllocations".into(), many.into()),
    ]));
    let mut budget = CALL_LIMIT;
    match program.evaluate(&[("device", device)], &mut budget)? {
        Val::Bool(selects) => Ok(selects),
        _ => Err(CelError::NoOverload),
    }
}

fn value<'v>(attribute: &Attribute) -> Result<Option<Val<'v>>, CelError> {
    Ok(if let Some(value) = attribute.int {
        Some(value.into())
    } else if let Some(value) = attribute.bool {
        Some(value.into())
    } else if let Some(value) = &attribute.string {
        Some(value.as_str().into())
    } else if let Some(text) = &attribute.version {
        let version = Semver::parse(text)
            .map_err(|text| CelError::Failed(format!("parse semantic version: {text}")))?;
        Some(Val::Semver(Rc::new(version)))
    } else {
        None
    })
}

/// Values by domain and name. A domain that is not there is empty, so that
/// `has(device.attributes["a.example.com"].b)` has a value for every device.
#[derive(Debug, Default)]
struct Domains<'v>(BTreeMap<String, Vec<(Val<'v>, Val<'v>)>>);

impl<'v> Domains<'v> {
    /// A name without a domain is the driver's.
    fn put(&mut self, driver: &str, name: &str, value: Val<'v>) {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        let values = self.0.entry(domain.to_owned()).or_default();
        values.push((name.into(), value));
    }
}

impl<'v> Host<'v> for Domains<'v> {
    fn type_name(&self) -> &'static str {
        "map"
    }

    fn field(&self, name: &str, _: &mut u64) -> Result<Option<Val<'v>>, CelError> {
        self.entry(name)
    }

    fn entry(&self, key: &str) -> Result<Option<Val<'v>>, CelError> {
        let values = self.0.get(key).cloned().unwrap_or_default();
        Ok(Some(Val::Map(Rc::new(values))))
    }

    fn call(&self, _: &str, _: &[Val<'v>], _: &mut u64) -> Result<Val<'v>, CelError> {
        Err(CelError::NoOverload)
    }
}
