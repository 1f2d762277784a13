//! Fuzz targets for whatever reads what others wrote: requests, objects, patches, schemas, expressions, files.
//!
//! A target is a plain function of bytes that panics when something is wrong: a [`Target`]. The tests run all of
//! them over their seeds and a few thousand seeded mutations each. To look for longer:
//!
//! ```text
//! cargo run --release -p k8s-fuzz -- --seconds 600            # all of them, in turns
//! cargo run --release -p k8s-fuzz -- json-patch cel --seed 7  # some
//! cargo run --release -p k8s-fuzz -- cel --input crash.bin    # one input again
//! ```
//!
//! `fuzz/libfuzzer` has the same targets for `cargo fuzz`, which finds its way by coverage.

#![forbid(unsafe_code)]

pub mod mutate;
mod targets;

pub use self::targets::{TARGETS, Target, target};

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as the tests can bear; see `main.rs` for more.
    const ROUNDS: u64 = 1500;

    fn run(name: &str) {
        let target = target(name).unwrap();
        let mutator = mutate::Mutator::new(target.seeds(), target.dictionary);
        for seed in target.seeds() {
            (target.run)(&seed);
        }
        for round in 0..ROUNDS / target.weight {
            (target.run)(&mutator.input(1, round));
        }
    }

    macro_rules! survive {
        ($($test:ident: $name:literal,)*) => {
            $(#[test]
            fn $test() {
                run($name);
            })*

            #[test]
            fn every_target_is_run() {
                let run = [$($name),*];
                for target in TARGETS {
                    assert!(run.contains(&target.name), "{}", target.name);
                }
            }
        };
    }

    survive! {
        json_of_any_kind_is_read_or_refused: "json",
        protobuf_is_read_or_refused_and_written_as_it_was: "protobuf",
        quantities_are_read_or_refused: "quantity",
        selectors_are_read_or_refused: "selector",
        json_paths_are_read_or_refused: "json-path",
        names_and_addresses_are_judged: "names",
        json_patches_apply_or_do_not: "json-patch",
        merge_patches_apply: "merge-patch",
        strategic_patches_apply_or_do_not: "strategic-patch",
        sets_of_fields_are_read_or_refused: "fields",
        whatever_is_applied_is_owned: "apply",
        definitions_and_their_objects_are_judged: "schema",
        expressions_end_within_their_budget: "cel",
        patterns_are_read_as_go_reads_them_or_refused: "pattern",
        certificates_are_read_or_refused: "certificate",
        requests_are_answered: "request",
        bodies_in_yaml_are_read_or_refused: "yaml",
        stores_open_or_say_why_not: "store",
        archives_of_images_are_read_or_refused: "image",
        scheduler_configurations_are_read_or_refused: "scheduler-config",
        frames_of_spdy_are_read_or_refused: "spdy",
        messages_of_websockets_are_read_or_refused: "websocket",
        audit_policies_are_read_or_refused: "audit-policy",
        encryption_configurations_are_read_or_refused: "encryption-config",
        authorization_configurations_are_read_or_refused: "authorization-config",
        kubeconfigs_are_read_or_refused: "kubeconfig",
        answers_of_admission_webhooks_are_read_or_refused: "admission-review",
        answers_of_conversion_webhooks_are_read_or_refused: "conversion-review",
    }
}
