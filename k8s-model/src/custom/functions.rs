//! [`Functions`]: conversion between versions that are Rust types of a program.

use std::{fmt, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::typed::drop_new_nulls;

/// What makes an object of one version one of another.
type Function = dyn Fn(Value) -> Result<Value, serde_json::Error> + Send + Sync;

/// Functions between the stored version of a resource and each of the others.
///
/// An object's metadata goes along by itself: what a function makes of it counts for nothing.
///
/// ```
/// use k8s_model::custom::Functions;
/// use serde_json::json;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Old { watts: u32 }
/// # #[derive(serde::Serialize, serde::Deserialize)] struct New { milliwatts: u32 }
///
/// let functions = Functions::new("example.com/v2").with(
///     "example.com/v1",
///     |old: Old| New { milliwatts: old.watts * 1000 },
///     |new: New| Old { watts: new.milliwatts / 1000 },
/// );
/// let lamp = json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": "desk"}, "watts": 7});
/// let stored = functions.convert(&lamp, "example.com/v2").unwrap();
/// assert_eq!(stored["milliwatts"], 7000);
/// assert_eq!(stored["metadata"], lamp["metadata"]);
/// assert_eq!(functions.convert(&stored, "example.com/v1").unwrap(), lamp);
/// ```
#[derive(Clone)]
pub struct Functions {
    storage: String,
    others: Vec<Other>,
}

/// A version that is not the stored one.
#[derive(Clone)]
struct Other {
    api_version: String,
    to_stored: Arc<Function>,
    from_stored: Arc<Function>,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others: Vec<&str> = self.others.iter().map(|o| o.api_version.as_str()).collect();
        f.debug_struct("Functions")
            .field("storage", &self.storage)
            .field("others", &others)
            .finish()
    }
}

impl Functions {
    /// None yet, to and from that `apiVersion`.
    pub fn new(storage: impl Into<String>) -> Self {
        Functions {
            storage: storage.into(),
            others: Vec::new(),
        }
    }

    /// With those between the stored version and another `apiVersion`.
    #[must_use]
    pub fn with<V, K>(
        mut self,
        api_version: impl Into<String>,
        to_stored: impl Fn(V) -> K + Send + Sync + 'static,
        from_stored: impl Fn(K) -> V + Send + Sync + 'static,
    ) -> Self
    where
        V: Serialize + DeserializeOwned,
        K: Serialize + DeserializeOwned,
    {
        self.others.push(Other {
            api_version: api_version.into(),
            to_stored: Arc::new(move |v| {
                serde_json::to_value(to_stored(serde_json::from_value(v)?))
            }),
            from_stored: Arc::new(move |v| {
                serde_json::to_value(from_stored(serde_json::from_value(v)?))
            }),
        });
        self
    }

    /// An object in another version.
    ///
    /// # Errors
    /// Says why not, if the object does not fit the type of its version, or there is no such version.
    pub fn convert(&self, object: &Value, to: &str) -> Result<Value, String> {
        let from = object["apiVersion"].as_str().unwrap_or_default();
        if from == to {
            return Ok(object.clone());
        }
        let failed = |why: &dyn fmt::Display| format!("{from} cannot be converted to {to}: {why}");
        let other = |version: &str| {
            let found = self
                .others
                .iter()
                .find(|other| other.api_version == version);
            found.ok_or_else(|| failed(&format_args!("there is no {version}")))
        };
        let mut value = object.clone();
        if from != self.storage {
            value = (other(from)?.to_stored)(value).map_err(|e| failed(&e))?;
        }
        if to != self.storage {
            value = (other(to)?.from_stored)(value).map_err(|e| failed(&e))?;
        }
        let Value::Object(mut fields) = value else {
            return Err(failed(&"it is no object then"));
        };
        // What a type writes as null, it has not.
        drop_new_nulls(&mut fields, None);
        fields.insert("apiVersion".to_owned(), to.into());
        for name in ["kind", "metadata"] {
            if let Some(same) = object.get(name) {
                fields.insert(name.to_owned(), same.clone());
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_go_by_way_of_the_stored_one_and_faults_are_told() {
        let functions = Functions::new("a/v1")
            .with("a/v2", |v: Value| v, |v: Value| v)
            .with("a/v3", |n: u8| n, |n: u8| n);
        let object = json!({"apiVersion": "a/v2", "kind": "A", "x": null, "y": 1});
        let same = functions.convert(&object, "a/v1").unwrap();
        assert_eq!(same, json!({"apiVersion": "a/v1", "kind": "A", "y": 1}));
        let refused = functions.convert(&object, "a/v3").unwrap_err();
        assert!(
            refused.starts_with("a/v2 cannot be converted to a/v3: invalid type: map"),
            "{refused}"
        );
        let refused = functions.convert(&object, "a/v4").unwrap_err();
        assert_eq!(
            refused,
            "a/v2 cannot be converted to a/v4: there is no a/v4"
        );
    }
}
