//! Names by which upstream's plugins ask for nothing: their client refuses to put them into a path.

use k8s_model::names;

/// Why nothing can be asked for by that name, in the client's words.
pub(super) fn refusal(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("resource name may not be empty".to_owned());
    }
    let wrong = names::path_segment(name, false);
    let told = || format!("invalid resource name {name:?}: [{}]", wrong.join(" "));
    (!wrong.is_empty()).then(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_into_a_path() {
        assert_eq!(refusal("a.b"), None);
        let told = |name| refusal(name).unwrap();
        assert_eq!(told(""), "resource name may not be empty");
        assert_eq!(
            told(".."),
            r#"invalid resource name "..": [may not be '..']"#
        );
        assert_eq!(
            told("a/%"),
            r#"invalid resource name "a/%": [may not contain '/' may not contain '%']"#
        );
    }
}
