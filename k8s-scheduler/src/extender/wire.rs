//! What goes over the wire: `k8s.io/kube-scheduler/extender/v1`. Names of fields are as Go writes them; answers are
//! read as Go reads them, whatever the case of the names.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{
    framework::{Filtered, VictimIds, Victims},
    snapshot::{NodeInfo, PodInfo},
};

/// The object with the names of its fields in lower case.
fn folded(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v));
            Value::Object(fields.collect())
        }
        other => other,
    }
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(folded(value)).map_err(|e| e.to_string())
}

/// A field that may be null.
fn list<T>(field: Option<T>) -> T
where
    T: Default,
{
    field.unwrap_or_default()
}

/// The pod as it was read, or what is known of one that has its node.
fn whole(pod: &PodInfo) -> Value {
    if let Some(pod) = pod.pod() {
        return json!(**pod);
    }
    let mut made = Pod::default();
    made.metadata.name = Some(pod.name().to_owned());
    made.metadata.namespace = Some(pod.namespace().to_owned());
    made.metadata.uid = Some(pod.uid().to_owned());
    made.metadata.labels = Some(pod.labels().clone()).filter(|l| !l.is_empty());
    let spec = made.spec.get_or_insert_default();
    spec.node_name = pod.node_name().map(str::to_owned);
    spec.priority = Some(pod.priority());
    json!(made)
}

pub(super) fn arguments(pod: &PodInfo, nodes: &[&NodeInfo], by_name: bool) -> Value {
    let (nodes, names) = if by_name {
        let names: Vec<&str> = nodes.iter().map(|n| n.name()).collect();
        (Value::Null, json!(names))
    } else {
        let items = nodes.iter().filter_map(|n| n.packed());
        let items: Vec<Value> = items
            .filter_map(|node| serde_json::from_slice(node).ok())
            .collect();
        (json!({"metadata": {}, "items": items}), Value::Null)
    };
    json!({"Pod": whole(pod), "Nodes": nodes, "NodeNames": names})
}

pub(super) fn filtered(answer: Value) -> Result<Filtered, String> {
    #[derive(Deserialize)]
    struct Answer {
        nodes: Option<Nodes>,
        nodenames: Option<Vec<String>>,
        failednodes: Option<BTreeMap<String, String>>,
        failedandunresolvablenodes: Option<BTreeMap<String, String>>,
        error: Option<String>,
    }
    #[derive(Deserialize)]
    struct Nodes {
        items: Option<Vec<Item>>,
    }
    #[derive(Deserialize)]
    struct Item {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    let answer: Answer = read(answer)?;
    if let Some(error) = answer.error.filter(|e| !e.is_empty()) {
        return Err(error);
    }
    let names = answer.nodenames.unwrap_or_else(|| {
        let items = answer.nodes.and_then(|n| n.items);
        list(items).into_iter().map(|n| n.metadata.name).collect()
    });
    Ok(Filtered {
        nodes: names,
        failed: list(answer.failednodes),
        unresolvable: list(answer.failedandunresolvablenodes),
    })
}

pub(super) fn priorities(answer: Value) -> Result<Vec<(String, i64)>, String> {
    #[derive(Deserialize)]
    struct Priority {
        host: String,
        score: i64,
    }
    let list: Option<Vec<Value>> = serde_json::from_value(answer).map_err(|e| e.to_string())?;
    let list = list.unwrap_or_default().into_iter();
    list.map(|value| read(value).map(|p: Priority| (p.host, p.score)))
        .collect()
}

pub(super) fn preemption(
    pod: &PodInfo,
    victims: &BTreeMap<String, Victims>,
    by_uid: bool,
) -> Value {
    let node = |(node, victims): (&String, &Victims)| {
        let pods = victims.pods.iter().map(|pod| {
            if by_uid {
                json!({"UID": pod.uid()})
            } else {
                whole(pod)
            }
        });
        let pods: Vec<Value> = pods.collect();
        let victims = json!({"Pods": pods, "NumPDBViolations": victims.violations});
        (node.clone(), victims)
    };
    let nodes: Map<String, Value> = victims.iter().map(node).collect();
    let (whole_victims, ids) = if by_uid {
        (Value::Null, Value::Object(nodes))
    } else {
        (Value::Object(nodes), Value::Null)
    };
    json!({"Pod": whole(pod), "NodeNameToVictims": whole_victims, "NodeNameToMetaVictims": ids})
}

pub(super) fn victims(answer: Value) -> Result<BTreeMap<String, VictimIds>, String> {
    #[derive(Deserialize)]
    struct Answer {
        nodenametometavictims: Option<BTreeMap<String, Value>>,
    }
    #[derive(Deserialize)]
    struct Node {
        pods: Option<Vec<Value>>,
        numpdbviolations: Option<i64>,
    }
    #[derive(Deserialize)]
    struct Victim {
        uid: String,
    }
    let answer: Answer = read(answer)?;
    let mut nodes = BTreeMap::new();
    for (name, node) in list(answer.nodenametometavictims) {
        let node: Option<Node> = match node {
            Value::Null => None,
            node => Some(read(node)?),
        };
        let mut ids = VictimIds::default();
        if let Some(node) = node {
            ids.violations = node.numpdbviolations.unwrap_or(0);
            for pod in list(node.pods) {
                ids.uids.push(read::<Victim>(pod)?.uid);
            }
        }
        nodes.insert(name, ids);
    }
    Ok(nodes)
}

pub(super) fn binding(pod: &PodInfo, node: &str) -> Value {
    json!({"PodName": pod.name(), "PodNamespace": pod.namespace(), "PodUID": pod.uid(), "Node": node})
}

pub(super) fn bound(answer: Value) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<String>,
    }
    let answer: Answer = read(answer)?;
    match answer.error.filter(|e| !e.is_empty()) {
        Some(error) => Err(error),
        None => Ok(()),
    }
}
