//! The search against one that tries everything, on small random clusters.

use super::*;

struct Device {
    model: Option<i64>,
    slices: i64,
    is_taken: bool,
}

struct Request {
    model: Option<i64>,
    count: usize,
    is_admin: bool,
}

struct Claim {
    /// Of each request: what is as good, the best first.
    requests: Vec<Vec<Request>>,
    /// The requests whose devices must be of one model, or of different ones.
    constraint: Option<(bool, Vec<usize>)>,
}

struct Case {
    devices: Vec<Device>,
    slices: i64,
    claims: Vec<Claim>,
}

fn case(random: &mut fastrand::Rng) -> Case {
    let model = |random: &mut fastrand::Rng| random.bool().then(|| random.i64(0..3));
    let devices = (0..random.usize(1..6)).map(|_| Device {
        model: (random.u8(..5) > 0).then(|| random.i64(0..3)),
        slices: random.i64(0..3),
        is_taken: random.u8(..6) == 0,
    });
    let devices = devices.collect();
    let claims = (0..random.usize(1..3)).map(|_| {
        let requests = (0..random.usize(1..4)).map(|_| {
            let alternatives = if random.u8(..3) == 0 { 2 } else { 1 };
            let parts = (0..alternatives).map(|_| Request {
                model: model(random),
                count: random.usize(1..3),
                is_admin: alternatives == 1 && random.u8(..8) == 0,
            });
            parts.collect()
        });
        let requests: Vec<Vec<Request>> = requests.collect();
        let constraint = random.bool().then(|| {
            let about = (0..requests.len()).filter(|_| random.bool()).collect();
            (random.bool(), about)
        });
        Claim {
            requests,
            constraint,
        }
    });
    Case {
        claims: claims.collect(),
        devices,
        slices: random.i64(3..8),
    }
}

fn device(i: usize, device: &Device) -> Value {
    let mut attributes = json!({});
    if let Some(model) = device.model {
        attributes["model"] = json!({"int": model});
    }
    let counters = json!({"slices": {"value": device.slices.to_string()}});
    json!({"name": i.to_string(), "attributes": attributes,
        "consumesCounters": [{"counterSet": "all", "counters": counters}]})
}

fn request(name: &str, request: &Request) -> Value {
    let selectors = request.model.map(|model| {
        let domain = "device.attributes[\"d\"]";
        let expression = format!("has({domain}.model) && {domain}.model == {model}");
        json!([{"cel": {"expression": expression}}])
    });
    json!({"name": name, "deviceClassName": "any", "allocationMode": "ExactCount", "count": request.count,
        "adminAccess": request.is_admin.then_some(true), "selectors": selectors.unwrap_or(json!([]))})
}

fn objects(case: &Case) -> (Snapshot, Vec<ResourceClaim>) {
    let mut snapshot = cluster(&["n"]);
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 2});
    let devices: Vec<Value> = case
        .devices
        .iter()
        .enumerate()
        .map(|(i, d)| device(i, d))
        .collect();
    let counters =
        json!([{"name": "all", "counters": {"slices": {"value": case.slices.to_string()}}}]);
    for (name, field, value) in [
        ("0", "devices", json!(devices)),
        ("1", "sharedCounters", counters),
    ] {
        let mut spec = json!({"driver": "d", "pool": pool, "allNodes": true});
        spec[field] = value;
        let slice = json!({"metadata": {"name": name}, "spec": spec});
        snapshot.set(Object::ResourceSlice(from(slice)));
    }
    let taken = case.devices.iter().enumerate().filter(|(_, d)| d.is_taken);
    let taken = taken
        .map(|(i, _)| json!({"request": "r", "driver": "d", "pool": "p", "device": i.to_string()}));
    let status = json!({"allocation": {"devices": {"results": taken.collect::<Vec<_>>()}}});
    snapshot.set(Object::ResourceClaim(claim("held", json!({}), status)));
    let claims = case.claims.iter().enumerate().map(|(c, wanted)| {
        let requests = wanted.requests.iter().enumerate().map(|(r, parts)| {
            let name = format!("r{r}");
            match parts.as_slice() {
                [only] => json!({"name": name, "exactly": request("", only)}),
                parts => {
                    let parts = parts.iter().enumerate();
                    let parts = parts.map(|(a, part)| request(&format!("a{a}"), part));
                    json!({"name": name, "firstAvailable": parts.collect::<Vec<_>>()})
                }
            }
        });
        let mut devices = json!({"requests": requests.collect::<Vec<_>>()});
        if let Some((is_same, about)) = &wanted.constraint {
            let kind = match is_same {
                true => "matchAttribute",
                false => "distinctAttribute",
            };
            let names: Vec<String> = about.iter().map(|r| format!("r{r}")).collect();
            devices["constraints"] = json!([{"requests": names, kind: "d/model"}]);
        }
        claim(&c.to_string(), devices, json!({}))
    });
    let claims = claims.collect();
    (snapshot, claims)
}

/// A device for a request of a claim.
type Pick = (usize, usize, usize, usize);

/// Whether these picks can be, in this order.
fn holds(case: &Case, picks: &[Pick]) -> bool {
    let admin = |(c, r, a, _): &Pick| case.claims[*c].requests[*r][*a].is_admin;
    let mut slices: i64 = case
        .devices
        .iter()
        .filter(|d| d.is_taken)
        .map(|d| d.slices)
        .sum();
    for (i, pick) in picks.iter().enumerate() {
        let (c, r, a, d) = *pick;
        let device = &case.devices[d];
        let wanted = &case.claims[c].requests[r][a];
        if wanted.model.is_some() && wanted.model != device.model {
            return false;
        }
        let mut before = picks[..i].iter().filter(|p| p.3 == d);
        let is_free = match admin(pick) {
            true => before.all(|p| p.0 != c),
            false => !device.is_taken && before.next().is_none(),
        };
        slices += device.slices;
        if !is_free || slices > case.slices {
            return false;
        }
    }
    case.claims.iter().enumerate().all(|(c, claim)| {
        let Some((is_same, about)) = &claim.constraint else {
            return true;
        };
        let is_about = |p: &&Pick| p.0 == c && (about.is_empty() || about.contains(&p.1));
        let models: Vec<Option<i64>> = picks
            .iter()
            .filter(is_about)
            .map(|p| case.devices[p.3].model)
            .collect();
        models.iter().all(Option::is_some)
            && models.iter().enumerate().all(|(i, model)| match is_same {
                true => *model == models[0],
                false => !models[..i].contains(model),
            })
    })
}

/// Whether there is a way to give every claim its devices: tries all.
fn exists(case: &Case, claim: usize, request: usize, picks: &mut Vec<Pick>) -> bool {
    let Some(wanted) = case.claims.get(claim) else {
        return holds(case, picks);
    };
    let Some(parts) = wanted.requests.get(request) else {
        return exists(case, claim + 1, 0, picks);
    };
    parts.iter().enumerate().any(|(a, part)| {
        // All sets of so many devices.
        (0_u32..1 << case.devices.len()).any(|set| {
            if set.count_ones() as usize != part.count {
                return false;
            }
            let length = picks.len();
            let chosen = (0..case.devices.len()).filter(|d| set & (1 << d) != 0);
            picks.extend(chosen.map(|d| (claim, request, a, d)));
            let found = holds(case, picks) && exists(case, claim, request + 1, picks);
            picks.truncate(length);
            found
        })
    })
}

/// What the search found, as picks.
fn picks(case: &Case, found: &[Allocation]) -> Vec<Pick> {
    let mut picks = Vec::new();
    for (c, allocation) in found.iter().enumerate() {
        for given in &allocation.devices.results {
            let (name, part) = given
                .request
                .split_once('/')
                .unwrap_or((&given.request, "a0"));
            let number = |text: &str| text[1..].parse::<usize>().unwrap();
            let (r, a) = (number(name), number(part));
            let is_admin = case.claims[c].requests[r][a].is_admin;
            assert_eq!(given.admin_access, is_admin.then_some(true));
            picks.push((c, r, a, given.device.parse().unwrap()));
        }
    }
    picks
}

#[test]
fn the_search_finds_devices_exactly_where_there_are_some() {
    let (mut found_some, mut found_none) = (0, 0);
    for seed in 0..1500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let case = case(&mut random);
        let (snapshot, claims) = objects(&case);
        let found = allocate(&snapshot, claims, "n");
        let expected = exists(&case, 0, 0, &mut Vec::new());
        assert_eq!(found.is_ok(), expected, "seed {seed}: {found:?}");
        let Ok(found) = found else {
            found_none += 1;
            continue;
        };
        found_some += 1;
        let picks = picks(&case, &found);
        assert!(holds(&case, &picks), "seed {seed}: {picks:?}");
        for (c, claim) in case.claims.iter().enumerate() {
            for (r, parts) in claim.requests.iter().enumerate() {
                let given: Vec<&Pick> = picks.iter().filter(|p| (p.0, p.1) == (c, r)).collect();
                let chosen = given[0].2;
                assert!(given.iter().all(|p| p.2 == chosen), "seed {seed}");
                assert_eq!(given.len(), parts[chosen].count, "seed {seed}");
            }
        }
    }
    assert!(
        found_some > 200 && found_none > 200,
        "{found_some} {found_none}"
    );
}
