use super::*;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

fn parse(rest: &str) -> Result<Configuration, String> {
    Configuration::parse(&format!("{HEAD}{rest}"), &Registry::default()).map_err(|e| e.to_string())
}

fn names(profile: &Profile) -> (Vec<&str>, Vec<(&str, i64)>) {
    let filters = profile.filter.iter().map(|p| p.name()).collect();
    let scores = profile.score.iter().map(|(p, w)| (p.name(), *w)).collect();
    (filters, scores)
}

#[test]
fn an_empty_configuration_is_the_default_profile() {
    let configuration = parse("").unwrap();
    let (filters, mut scores) = names(configuration.profiles.first());
    let default = Profile::default();
    let (expected, mut weights) = names(&default);
    assert_eq!(filters, expected);
    scores.sort();
    weights.sort();
    assert_eq!(scores, weights);
}

#[test]
fn points_and_multi_point_are_merged_as_upstream_does() {
    let configuration = parse(
        "profiles:\n- schedulerName: mine\n  plugins:\n    multiPoint:\n      disabled: [{name: ImageLocality}]\n\
         \x20     enabled: [{name: NodeAffinity, weight: 9}]\n    score:\n      enabled: [{name: TaintToleration, weight: 7}]\n\
         \x20     disabled: [{name: '*'}]\n",
    )
    .unwrap();
    let (filters, scores) = names(configuration.profiles.get("mine").unwrap());
    assert_eq!(scores, [("TaintToleration", 7)]);
    assert!(filters.contains(&"TaintToleration"));
}

#[test]
fn what_makes_no_sense_is_named() {
    for (text, part) in [
        ("surprise: 1\n", "malformed"),
        (
            "podInitialBackoffSeconds: 20\npodMaxBackoffSeconds: 5\n",
            "podMaxBackoffSeconds",
        ),
        (
            "profiles: [{plugins: {filter: {enabled: [{name: Nothing}]}}}]\n",
            "\"Nothing\" does not exist",
        ),
        (
            "profiles: [{plugins: {bind: {enabled: [{name: NodeName}]}}}]\n",
            "does not extend bind",
        ),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]\n",
            "Duplicate value",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]\n",
            "hardPodAffinityWeight",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: RequestedToCapacityRatio}}}]}]\n",
            "at least one point",
        ),
        ("extenders: [{urlPrefix: ''}]\n", "extenders[0].urlPrefix"),
        (
            "extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]\n",
            "extenders[0].weight: must have a positive weight",
        ),
        (
            "extenders: [{urlPrefix: 'http://x', bindVerb: b}, {urlPrefix: 'http://y', bindVerb: b}]\n",
            "only one extender can implement bind",
        ),
        (
            "extenders: [{urlPrefix: 'http://x', managedResources: [{name: cpu}]}]\n",
            "managedResources[0].name: is an invalid extended resource name",
        ),
        (
            "extenders: [{urlPrefix: 'https://x', tlsConfig: {caFile: /nowhere}}]\n",
            "extenders[0].tlsConfig.ca: /nowhere",
        ),
        (
            "extenders: [{urlPrefix: 'https://x', tlsConfig: {caData: '%%%'}}]\n",
            "extenders[0].tlsConfig.ca",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_plugin_of_ones_own_is_found_by_name() {
    let registry = Registry::default().with(
        "Mine",
        Arc::new(|arguments: &Value| {
            let fit = plugins::NodeResourcesFit::most_allocated();
            match arguments.get("works") {
                Some(Value::Bool(true)) => Ok(Bundle::default().score(Arc::new(fit))),
                _ => Err("works: must be true".into()),
            }
        }),
    );
    let text = |works: bool| {
        format!(
            "{HEAD}profiles: [{{plugins: {{score: {{enabled: [{{name: Mine, weight: 4}}]}}}}, \
             pluginConfig: [{{name: Mine, args: {{works: {works}}}}}]}}]\n"
        )
    };
    let configuration = Configuration::parse(&text(true), &registry).unwrap();
    let (_, scores) = names(configuration.profiles.first());
    assert_eq!(scores[0], ("NodeResourcesFit", 4));
    let error = Configuration::parse(&text(false), &registry).unwrap_err();
    assert_eq!(error.to_string(), "pluginConfig[Mine]: works: must be true");
}

#[test]
fn the_leader_is_elected_only_if_the_file_says_so() {
    let on = parse("leaderElection: {leaderElect: true, leaseDuration: 1m30s}\n").unwrap();
    let election = on.with_identity("me").driver.leader_election.unwrap();
    assert_eq!(
        (election.identity.as_str(), election.lease_duration),
        ("me", Duration::from_secs(90))
    );
    assert_eq!(parse("").unwrap().driver.leader_election, None);
}
