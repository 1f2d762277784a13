//! Time zones as Go loads them (`time.LoadLocation`).

/// Whether there is a time zone of that name; where there is none, what Go says.
///
/// No name is that of UTC, and `Local` the zone of the machine.
pub(super) fn load(name: &str) -> Result<(), String> {
    match name {
        "" | "UTC" | "Local" => Ok(()),
        _ if name.contains("..") || name.starts_with(['/', '\\']) => {
            Err("time: invalid location name".to_owned())
        }
        _ if is_known(name) => Ok(()),
        _ => Err(unknown(name)),
    }
}

/// What is said of a name that no time zone has.
pub(super) fn unknown(name: &str) -> String {
    format!("unknown time zone {name}")
}

/// Names are those of files, in the same case. A machine that knows no time zones can't say.
fn is_known(name: &str) -> bool {
    let zones = jiff::tz::db();
    let found = zones.get(name);
    found.is_ok_and(|zone| zone.iana_name() == Some(name)) || zones.is_definitively_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for name in ["", "UTC", "Local", "Europe/Vienna", "Etc/UTC"] {
            assert_eq!(load(name), Ok(()), "{name}");
        }
        for name in ["../Vienna", "/Vienna", "\\Vienna"] {
            assert_eq!(load(name), Err("time: invalid location name".to_owned()));
        }
        if jiff::tz::db().is_definitively_empty() {
            return;
        }
        for name in [
            "utc",
            "local",
            "europe/vienna",
            "Etc/Unknown",
            "Europe/Atlantis",
        ] {
            assert_eq!(load(name), Err(unknown(name)));
        }
    }
}
