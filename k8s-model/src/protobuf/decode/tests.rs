use super::*;

/// Upstream's own encodings of fully populated objects (kubernetes/api, Apache-2.0).
macro_rules! golden {
    ($($name:ident $file:literal;)*) => {
        $(#[test]
        fn $name() {
            let protobuf = include_bytes!(concat!("../fixtures/", $file, ".pb"));
            let json: Json = serde_json::from_str(include_str!(concat!("../fixtures/", $file, ".json"))).unwrap();
            let differences = differences("", &decode(protobuf).unwrap(), &json);
            let wrong: Vec<_> = differences.iter().filter(|d| !is_newer(d)).collect();
            assert_eq!(wrong, [""; 0]);
        }

        )*
    };
}

/// Fields that the generated table's source does not have yet: they are passed over.
const NEWER: &[&str] = &[
    "bindMountOptions",
    "evictionResponders",
    "grpc.mode",
    "httpGet.protocol",
    "nodeAllocatableResourceClaimStatuses",
    "schedulingGroup",
    "volumeHealth",
    "volumeStatus",
    ".defaultUser",
    ".user",
    "emptyDir.mode",
    "grpc.mode",
    "resources[0].message",
];

fn is_newer(difference: &str) -> bool {
    let path = difference.split(": null instead of ").next().unwrap();
    path.len() < difference.len() && NEWER.iter().any(|newer| path.ends_with(newer))
}

/// Where two values differ, and how.
fn differences(path: &str, left: &Json, right: &Json) -> Vec<String> {
    match (left, right) {
        (Json::Object(left), Json::Object(right)) => {
            let keys: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let null = &Json::Null;
            let value =
                |map: &Map<String, Json>, key: &String| map.get(key).unwrap_or(null).clone();
            keys.iter()
                .flat_map(|k| {
                    differences(&format!("{path}.{k}"), &value(left, k), &value(right, k))
                })
                .collect()
        }
        (Json::Array(left), Json::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs
                .flat_map(|(n, (l, r))| differences(&format!("{path}[{n}]"), l, r))
                .collect()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left} instead of {right}")],
    }
}

golden! {
    a_pod_is_what_its_json_is "core.v1.Pod";
    a_config_map_is_what_its_json_is "core.v1.ConfigMap";
    a_secret_is_what_its_json_is "core.v1.Secret";
    a_service_is_what_its_json_is "core.v1.Service";
    a_deployment_is_what_its_json_is "apps.v1.Deployment";
    an_access_review_is_what_its_json_is "authorization.k8s.io.v1.SubjectAccessReview";
}

#[test]
fn broken_bytes_are_refused_and_nothing_panics() {
    let good = include_bytes!("../fixtures/core.v1.Service.pb");
    assert_eq!(decode(b"{}"), Err(DecodeError::NotProtobuf));
    for length in 4..good.len() {
        // Cut anywhere: an error, or the fields before the cut.
        let _ = decode(&good[..length]);
    }
    for at in 4..good.len() {
        let mut broken = good.to_vec();
        broken[at] ^= 0xff;
        let _ = decode(&broken);
    }
}

#[test]
fn an_unknown_kind_is_named() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend([
        0x0a, 0x0a, 0x0a, 0x02, b'v', b'1', 0x12, 0x04, b'N', b'o', b'n', b'e',
    ]);
    assert_eq!(
        decode(&bytes).unwrap_err().to_string(),
        "no kind \"None\" is registered for version \"v1\""
    );
}
