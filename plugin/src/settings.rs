//! The volt's settings: known keys, their defaults, and nothing else.
//!
//! Lapce sends the user's table un-flattened (`{"index": {"auto": false}}`), without the
//! defaults of `volt.toml`, and merged with the repository's own settings. So every value
//! is checked, unknown keys are dropped, and no key can name a program, a host, a model
//! or a permission. The result goes to the shim as its `initializationOptions`.

use serde_json::{Map, Value};

/// Key, and what it may hold. `volt.toml` describes the same keys; a test compares.
pub(crate) const KEYS: &[(&str, Kind)] = &[
    ("index.auto", Kind::Switch { default: true }),
    ("search.enabled", Kind::Switch { default: true }),
    ("search.limit", Kind::Number { default: 20, min: 1, max: 50 }),
    ("references.limit", Kind::Number { default: 12, min: 1, max: 50 }),
    ("ask.enabled", Kind::Switch { default: true }),
    ("actions.enabled", Kind::Switch { default: true }),
    ("completion.enabled", Kind::Switch { default: true }),
];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Switch { default: bool },
    Number { default: u64, min: u64, max: u64 },
}

impl Kind {
    pub(crate) fn default(self) -> Value {
        match self {
            Self::Switch { default } => Value::from(default),
            Self::Number { default, .. } => Value::from(default),
        }
    }

    /// The value to use, or why `given` cannot be it.
    fn check(self, given: &Value) -> Result<Value, String> {
        match self {
            Self::Switch { .. } => {
                given.as_bool().map(Value::from).ok_or_else(|| "must be true or false".into())
            }
            Self::Number { min, max, .. } => given
                .as_u64()
                .filter(|n| (min..=max).contains(n))
                .map(Value::from)
                .ok_or_else(|| format!("must be a whole number from {min} to {max}")),
        }
    }
}

/// Every key with a valid value, flat, and one line for each value that was not usable.
pub(crate) fn read(given: Option<&Value>) -> (Value, Vec<String>) {
    let mut settings = Map::new();
    let mut complaints = Vec::new();
    let given = match given {
        None | Some(Value::Null) => None,
        Some(object @ Value::Object(_)) => Some(object),
        Some(_) => {
            complaints.push("the [lapce-ai] settings are not a table; using the defaults".into());
            None
        }
    };
    for &(key, kind) in KEYS {
        let value = match given.and_then(|given| lookup(given, key)).map(|v| kind.check(v)) {
            None => kind.default(),
            Some(Ok(value)) => value,
            Some(Err(why)) => {
                complaints.push(format!("setting {key} {why}; using {}", kind.default()));
                kind.default()
            }
        };
        settings.insert(key.into(), value);
    }
    (Value::Object(settings), complaints)
}

/// `a.b` as `{"a": {"b": …}}` or as `{"a.b": …}`.
fn lookup<'a>(given: &'a Value, key: &str) -> Option<&'a Value> {
    given.get(key).or_else(|| key.split('.').try_fold(given, |at, part| at.get(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_given_means_the_defaults() {
        let (settings, complaints) = read(None);
        assert_eq!(settings["index.auto"], true);
        assert_eq!(settings["search.limit"], 20);
        assert_eq!(settings.as_object().unwrap().len(), KEYS.len());
        assert!(complaints.is_empty());
    }

    #[test]
    fn nested_and_flat_keys_are_read_and_unknown_ones_dropped() {
        let (settings, complaints) = read(Some(&json!({
            "index": { "auto": false, "server": "/tmp/evil" },
            "search.limit": 5,
            "lsp": { "path": "/tmp/evil" },
        })));
        assert_eq!(settings["index.auto"], false);
        assert_eq!(settings["search.limit"], 5);
        assert!(!settings.to_string().contains("evil"));
        assert!(complaints.is_empty());
    }

    #[test]
    fn bad_values_give_the_default_and_a_reason() {
        for bad in
            [json!("yes"), json!(null), json!([]), json!({}), json!(-1), json!(1e300), json!(51)]
        {
            let (settings, complaints) = read(Some(&json!({ "search": { "limit": bad } })));
            assert_eq!(settings["search.limit"], 20, "{bad}");
            assert_eq!(complaints.len(), 1, "{bad}");
            assert!(complaints[0].contains("search.limit must be a whole number from 1 to 50"));
        }
        for bad in [json!([1]), json!("x"), json!(3), json!(true)] {
            let (settings, complaints) = read(Some(&bad));
            assert_eq!(settings["index.auto"], true);
            assert_eq!(complaints.len(), 1);
        }
        // `search` itself of the wrong kind.
        let (settings, _) = read(Some(&json!({ "search": 7 })));
        assert_eq!(settings["search.limit"], 20);
    }

    /// The manifest and the code describe the same keys with the same defaults.
    #[test]
    fn the_manifest_matches() {
        let manifest = include_str!("../volt.toml");
        let described: Vec<&str> = manifest
            .lines()
            .filter_map(|line| line.strip_prefix("[config.\"")?.strip_suffix("\"]"))
            .collect();
        let known: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
        assert_eq!(described, known);
        for (key, kind) in KEYS {
            let section = manifest.split(&format!("[config.\"{key}\"]")).nth(1).unwrap();
            let default = section.lines().find_map(|l| l.strip_prefix("default = ")).unwrap();
            assert_eq!(default, kind.default().to_string(), "{key}");
        }
        assert!(manifest.contains(&format!("version = \"{}\"", env!("CARGO_PKG_VERSION"))));
    }
}
