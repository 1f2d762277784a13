//! The task that keeps flow control and its objects in step: it follows FlowSchemas and PriorityLevelConfigurations,
//! makes those that every cluster has, writes conditions, and shares seats out anew.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{StreamExt, future::try_join_all, stream::BoxStream};
use k8s_model::{Object, status::GroupResource};
use k8s_openapi::{
    api::flowcontrol::v1::{
        FlowSchema, FlowSchemaCondition, FlowSchemaSpec, FlowSchemaStatus,
        PriorityLevelConfiguration, PriorityLevelConfigurationSpec,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use k8s_store::List;
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{FlowControl, defaults};
use crate::{
    Error, Result,
    admission::reader::{ObjectReader, RawEvent},
    bootstrap, compat,
    registry::{Internal, Registry, Target, update::Rules},
    retry::Retry,
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";
/// Whose the conditions are, as upstream names it.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
/// How often seats are shared out anew; as upstream.
const REBALANCE: Duration = Duration::from_secs(10);
/// How often missing objects are made, and objects counted; as upstream.
const LOOK_AFTER: Duration = Duration::from_secs(60);

/// Makes the objects that every cluster has, where they are missing.
pub(crate) async fn make(registry: &Registry) -> Result<()> {
    if registry.stored_row(GROUP, SCHEMAS).is_none() || registry.stored_row(GROUP, LEVELS).is_none()
    {
        return Ok(());
    }
    let levels = defaults::levels();
    let mut schemas = defaults::schemas();
    for schema in &mut schemas {
        schema.status = Some(FlowSchemaStatus {
            conditions: Some(vec![dangling(schema, true, registry.now())]),
        });
    }
    let mut objects: Vec<(&'static str, Box<dyn Object>)> = Vec::new();
    objects.extend(levels.iter().map(|l| (LEVELS, l.boxed_clone())));
    objects.extend(schemas.iter().map(|s| (SCHEMAS, s.boxed_clone())));
    for (_, object) in &mut objects {
        object.metadata_mut().generation = Some(1);
    }
    if bootstrap::fresh(registry, GROUP, objects).await? {
        return Ok(());
    }
    let levels = levels.iter().map(|level| {
        look_after(registry, LEVELS, level, |stored, own| {
            let same = is_as_made(stored, own);
            stored.spec.clone_from(&own.spec);
            same
        })
    });
    let schemas = schemas.iter().map(|schema| {
        look_after(registry, SCHEMAS, schema, |stored, own| {
            let same = stored.spec == own.spec;
            stored.spec.clone_from(&own.spec);
            same
        })
    });
    let (levels, schemas) = (try_join_all(levels), try_join_all(schemas));
    futures::try_join!(levels, schemas)?;
    Ok(())
}

/// Whether a priority level is as it was made. What is exempt can be tuned.
fn is_as_made(stored: &PriorityLevelConfiguration, own: &PriorityLevelConfiguration) -> bool {
    let (Some(stored_spec), Some(mut spec)) = (
        compat::get::<PriorityLevelConfigurationSpec>(&stored.spec),
        compat::get::<PriorityLevelConfigurationSpec>(&own.spec).cloned(),
    ) else {
        return false;
    };
    if own.metadata.name.as_deref() == Some(defaults::EXEMPT) && stored_spec.exempt.is_some() {
        spec.exempt.clone_from(&stored_spec.exempt);
    }
    *stored_spec == spec
}

/// Makes the object if it is missing, and gives it its spec again where that is the server's to say: always, of a
/// mandatory object; of another one, as long as nobody has changed it or its annotation says so.
async fn look_after<K: Object + Clone + 'static>(
    registry: &Registry,
    resource: &str,
    own: &K,
    update: fn(&mut K, &K) -> bool,
) -> Result<()> {
    let name = own.metadata().name.clone().unwrap_or_default();
    let Some(row) = registry.stored_row(GROUP, resource) else {
        return Ok(());
    };
    let internal = Internal::new();
    let target = internal.target(&row, "", &name);
    let Some(stored) = registry.read(&target).await? else {
        let mut object = own.boxed_clone();
        row.resource.strategy.default(&mut *object);
        return match registry.create(&target, object).await {
            // Another server on the same store was faster.
            Err(error) if error.code() == 409 => Ok(()),
            other => other.map(drop),
        };
    };
    let wanted = |object: &dyn Object| -> Option<K> {
        let mut object = object.downcast_ref::<K>()?.clone();
        let meta = object.metadata();
        let annotation = (meta.annotations.as_ref())
            .and_then(|all| all.get(defaults::AUTO_UPDATE))
            .map(String::as_str);
        let ours = defaults::MANDATORY.contains(&name.as_str())
            || match annotation {
                Some(says) => says == "true",
                None => meta.generation == Some(1),
            };
        (ours && !update(&mut object, own)).then_some(object)
    };
    if wanted(&*row.decode_entry(&stored)?).is_none() {
        return Ok(());
    }
    let updated = registry
        .update(&target, Rules::Object, |live| {
            Ok(wanted(live).map_or_else(|| live.boxed_clone(), |object| object.boxed_clone()))
        })
        .await;
    match updated {
        Err(error) if matches!(error.code(), 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// The condition that says whether a schema's priority level is there.
fn dangling(schema: &FlowSchema, found: bool, now: Timestamp) -> FlowSchemaCondition {
    let spec: Option<&FlowSchemaSpec> = compat::get(&schema.spec);
    let level = spec.map_or("", |spec| spec.priority_level_configuration.name.as_str());
    let (status, reason, rest) = match found {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    FlowSchemaCondition {
        type_: compat::field("Dangling".to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {rest}"
        )),
        last_transition_time: Some(Time(now)),
    }
}

fn is_dangling(condition: &FlowSchemaCondition) -> bool {
    let kind: Option<&String> = compat::get(&condition.type_);
    kind.is_some_and(|kind| kind == "Dangling")
}

/// Whether the schema says of its priority level what is so.
fn says(schema: &FlowSchema, condition: &FlowSchemaCondition) -> bool {
    let conditions = schema
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| {
        is_dangling(c)
            && (&c.status, &c.reason, &c.message)
                == (&condition.status, &condition.reason, &condition.message)
    })
}

/// Objects of a kind, by name.
type Known<K> = BTreeMap<String, K>;

fn take<K: Object + DeserializeOwned>(known: &mut Known<K>, event: RawEvent) {
    let decode = |json: &[u8]| match serde_json::from_slice::<K>(json) {
        Ok(object) => Some((object.metadata().name.clone()?, object)),
        Err(error) => {
            tracing::error!(%error, "a stored object of flow control cannot be decoded");
            None
        }
    };
    match event {
        RawEvent::Snapshot(objects) => {
            *known = objects.iter().filter_map(|json| decode(json)).collect();
        }
        RawEvent::Applied(object) => known.extend(decode(&object)),
        RawEvent::Deleted(object) => {
            if let Some((name, _)) = decode(&object) {
                known.remove(&name);
            }
        }
    }
}

struct Upkeep {
    flow: Arc<FlowControl>,
    registry: Weak<Registry>,
    levels: Known<PriorityLevelConfiguration>,
    schemas: Known<FlowSchema>,
    /// Whether missing objects are made.
    makes: bool,
}

/// Starts the task; it ends with `stop`. What is given back becomes true once the stored objects are in effect.
pub(crate) fn start(
    flow: &Arc<FlowControl>,
    registry: &Arc<Registry>,
    reader: &dyn ObjectReader,
    makes: bool,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> watch::Receiver<bool> {
    let (synced, receiver) = watch::channel(false);
    let events = (
        reader.watch_raw(GROUP, LEVELS),
        reader.watch_raw(GROUP, SCHEMAS),
    );
    let upkeep = Upkeep {
        flow: flow.clone(),
        registry: Arc::downgrade(registry),
        levels: Known::new(),
        schemas: Known::new(),
        makes,
    };
    let stop = stop.clone();
    tasks.spawn(async move {
        stop.run_until_cancelled(upkeep.run(events.0, events.1, synced))
            .await;
    });
    receiver
}

type Events = BoxStream<'static, RawEvent>;

impl Upkeep {
    async fn run(mut self, mut levels: Events, mut schemas: Events, synced: watch::Sender<bool>) {
        let (Some(first), Some(second)) = (levels.next().await, schemas.next().await) else {
            return;
        };
        take(&mut self.levels, first);
        take(&mut self.schemas, second);
        self.digest();
        synced.send_replace(true);
        let mut retry = Retry::default();
        retry.after(self.say().await);
        let every = |period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (mut rebalance, mut look_after) = (every(REBALANCE), every(LOOK_AFTER));
        rebalance.reset();
        let mut first = true;
        loop {
            tokio::select! {
                event = levels.next() => match event {
                    Some(event) => {
                        take(&mut self.levels, event);
                        self.digest();
                        retry.after(self.say().await);
                    }
                    None => return,
                },
                event = schemas.next() => match event {
                    Some(event) => {
                        take(&mut self.schemas, event);
                        self.digest();
                        retry.after(self.say().await);
                    }
                    None => return,
                },
                () = retry.due() => retry.after(self.say().await),
                _ = rebalance.tick() => self.flow.levels.lock().rebalance(),
                _ = look_after.tick() => {
                    let Some(registry) = self.registry.upgrade() else {
                        return;
                    };
                    let counts = count(&registry).await;
                    let before = self.flow.stored.load();
                    // Where nobody knows, what was there is the best guess.
                    let known = counts.into_iter().filter_map(|(prefix, count)| {
                        let count = count.or_else(|| before.get(&prefix).copied())?;
                        Some((prefix, count))
                    });
                    self.flow.stored.store(Arc::new(known.collect()));
                    // They were made before the server was built.
                    if self.makes && !std::mem::take(&mut first) && let Err(error) = make(&registry).await {
                        tracing::warn!(%error, "the objects of flow control cannot be looked after");
                    }
                }
            }
        }
    }

    fn digest(&self) {
        if let Some(table) = &self.flow.fairness {
            let mut levels = self.flow.levels.lock();
            let made = levels.digest(self.levels.values(), self.schemas.values());
            table.store(Arc::new(made));
        }
    }

    /// Writes into the schemas whether their priority levels are there. Whether that went well.
    async fn say(&self) -> bool {
        let Some(registry) = self.registry.upgrade() else {
            return true;
        };
        let mut fine = true;
        for (name, schema) in &self.schemas {
            let spec: Option<&FlowSchemaSpec> = compat::get(&schema.spec);
            let found = spec.is_some_and(|spec| {
                let level = &spec.priority_level_configuration.name;
                self.levels.contains_key(level) || defaults::MANDATORY.contains(&level.as_str())
            });
            if says(schema, &dangling(schema, found, registry.now())) {
                continue;
            }
            match write_condition(&registry, name, found).await {
                Ok(()) => {}
                Err(error) if matches!(error.code(), 404 | 409) => {}
                Err(error) => {
                    tracing::warn!(schema = name, %error, "the status of a FlowSchema cannot be written");
                    fine = false;
                }
            }
        }
        fine
    }
}

async fn write_condition(registry: &Registry, name: &str, found: bool) -> Result<()> {
    let row = registry.stored_row(GROUP, SCHEMAS);
    let row = row.ok_or_else(|| {
        Error::internal(format!(
            "no resource {}",
            GroupResource::new(GROUP, SCHEMAS)
        ))
    })?;
    let internal = Internal::new();
    let target = Target {
        manager: Some(MANAGER),
        ..internal.status(&row, name)
    };
    let now = registry.now();
    registry
        .update(&target, Rules::Status, |live| {
            let schema = live.downcast_ref::<FlowSchema>();
            let mut schema = schema
                .cloned()
                .ok_or_else(|| Error::internal("not a FlowSchema"))?;
            let condition = dangling(&schema, found, now);
            if !says(&schema, &condition) {
                let status = schema.status.get_or_insert_default();
                let conditions = status.conditions.get_or_insert_default();
                conditions.retain(|c| !is_dangling(c));
                conditions.push(condition);
            }
            Ok(Box::new(schema))
        })
        .await
        .map(drop)
}

/// How many objects there are of each resource that is stored, by its prefix; nothing where that cannot be known.
pub(crate) async fn count(registry: &Registry) -> HashMap<String, Option<usize>> {
    let mut counts = HashMap::new();
    let mut is_away = false;
    for row in registry.served.load_full().rows() {
        if !row.resource.is_stored() || counts.contains_key(&row.prefix) {
            continue;
        }
        if is_away {
            counts.insert(row.prefix.clone(), None);
            continue;
        }
        let list = List {
            prefix: row.prefix.clone().into(),
            limit: Some(1),
            ..List::default()
        };
        let page = registry.store.list(list).await;
        // The others would wait as long for as little.
        is_away = matches!(page, Err(k8s_store::Error::Unavailable { .. }));
        let count = page.map(|page| page.entries.len() + page.remaining);
        counts.insert(row.prefix.clone(), count.ok());
    }
    counts
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_exempt_may_be_tuned_and_nothing_else() {
        let level = |name: &str, at: &str, value: &Value| {
            let levels = defaults::levels();
            let named =
                |level: &&PriorityLevelConfiguration| level.metadata.name.as_deref() == Some(name);
            let own = levels.iter().find(named).unwrap();
            let mut stored = serde_json::to_value(own).unwrap();
            *stored.pointer_mut(at).unwrap() = value.clone();
            is_as_made(&serde_json::from_value(stored).unwrap(), own)
        };
        for (name, at, value, is_as_made) in [
            ("exempt", "/spec/type", json!("Exempt"), true),
            ("exempt", "/spec/exempt/lendablePercent", json!(7), true),
            ("exempt", "/spec/exempt", json!(null), false),
            ("exempt", "/spec/type", json!("Limited"), false),
            ("catch-all", "/spec/type", json!("Limited"), true),
            (
                "catch-all",
                "/spec/limited/lendablePercent",
                json!(7),
                false,
            ),
            ("system", "/spec/limited/lendablePercent", json!(7), false),
        ] {
            assert_eq!(level(name, at, &value), is_as_made, "{name} {at} {value}");
        }
    }
}
