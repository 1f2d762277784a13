//! The table of targets.

mod configs;
mod files;
mod objects;
mod patches;
mod schemas;
mod server;
mod text;

/// Something that reads what others wrote.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Reads an input. Panics if something is wrong that no input may cause.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mean something to it.
    pub dictionary: &'static [&'static str],
    /// How much longer one run takes than the usual one.
    pub weight: u64,
}

impl Target {
    /// Inputs to begin with.
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

const fn new(
    name: &'static str,
    run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
    dictionary: &'static [&'static str],
    weight: u64,
) -> Target {
    Target {
        name,
        run,
        seeds,
        dictionary,
        weight,
    }
}

/// All targets.
pub const TARGETS: &[Target] = &[
    new(
        "json",
        objects::json,
        objects::json_seeds,
        objects::WORDS,
        1,
    ),
    new(
        "protobuf",
        objects::protobuf,
        objects::protobuf_seeds,
        &["k8s\0"],
        1,
    ),
    new(
        "quantity",
        text::quantity,
        text::quantity_seeds,
        &["m", "Ki", "E", "e-3"],
        1,
    ),
    new(
        "selector",
        text::selector,
        text::selector_seeds,
        &[" in ", " notin ", "!"],
        1,
    ),
    new(
        "json-path",
        text::json_path,
        text::json_path_seeds,
        &["['", "[*]", "..", "[-1]"],
        1,
    ),
    new(
        "names",
        text::names,
        text::names_seeds,
        &["::ffff:", "/33", "*."],
        1,
    ),
    new(
        "certificate",
        text::certificate,
        text::certificate_seeds,
        &[],
        1,
    ),
    new(
        "json-patch",
        patches::json,
        patches::json_seeds,
        patches::JSON_WORDS,
        1,
    ),
    new("merge-patch", patches::merge, patches::merge_seeds, &[], 1),
    new(
        "strategic-patch",
        patches::strategic,
        patches::strategic_seeds,
        patches::STRATEGIC_WORDS,
        1,
    ),
    new(
        "fields",
        patches::fields,
        patches::fields_seeds,
        &["f:", "k:{", "v:", "i:", "\".\":{}"],
        1,
    ),
    new(
        "apply",
        patches::apply,
        patches::apply_seeds,
        &["apply", "update", "create", "v1"],
        2,
    ),
    new(
        "schema",
        schemas::schema,
        schemas::schema_seeds,
        schemas::SCHEMA_WORDS,
        4,
    ),
    new(
        "cel",
        schemas::cel,
        schemas::cel_seeds,
        schemas::CEL_WORDS,
        2,
    ),
    new(
        "pattern",
        schemas::pattern,
        schemas::pattern_seeds,
        &["(?", "[:", ":]", "\\p{", "\\Q", "\\E", "{2,3}", "\\x{"],
        1,
    ),
    new(
        "request",
        server::request,
        server::request_seeds,
        server::WORDS,
        2,
    ),
    new(
        "yaml",
        server::yaml,
        server::yaml_seeds,
        &["&a ", "*a", "<<: ", "!!", "? ", "- ", "|\n", ">\n"],
        40,
    ),
    new("store", files::store, files::store_seeds, &[], 15),
    new(
        "image",
        files::image,
        files::image_seeds,
        &["manifest.json", "../", "sha256:"],
        15,
    ),
    new(
        "scheduler-config",
        files::scheduler,
        files::scheduler_seeds,
        &["profiles", "plugins", "*"],
        1,
    ),
    new("spdy", files::spdy, files::spdy_seeds, &["\u{80}\u{3}"], 1),
    new(
        "websocket",
        files::websocket,
        files::websocket_seeds,
        &["\u{81}\u{82}", "\u{88}\u{80}", "\u{89}\u{80}"],
        2,
    ),
    new(
        "audit-policy",
        configs::audit,
        configs::audit_seeds,
        &["level: ", "resources", "RequestReceived", "*"],
        1,
    ),
    new(
        "encryption-config",
        configs::encryption,
        configs::encryption_seeds,
        &[
            "providers",
            "aesgcm",
            "aescbc",
            "secretbox",
            "kms",
            "identity",
            "*.",
        ],
        1,
    ),
    new(
        "authorization-config",
        configs::authorization,
        configs::authorization_seeds,
        &["type: ", "Webhook", "expression", "request."],
        1,
    ),
    new(
        "kubeconfig",
        configs::kubeconfig,
        configs::kubeconfig_seeds,
        &["name: ", "cluster", "exec: {command: x}", "auth-provider"],
        1,
    ),
    new(
        "admission-review",
        k8s_apiserver::fuzz::admission_answer,
        configs::admission_seeds,
        &["uid", "allowed", "patch", "patchType"],
        1,
    ),
    new(
        "conversion-review",
        k8s_apiserver::fuzz::conversion_answer,
        configs::conversion_seeds,
        &["convertedObjects", "metadata", "labels", "ownerReferences"],
        1,
    ),
];
