//! The shim's settings, from `initializationOptions`.
//!
//! The volt sends them checked; another editor sends what its user wrote, nested or flat. A
//! value of the wrong kind is the default. Nothing here can name a program, a host, a model
//! or a permission: in Lapce a repository's settings override the user's.

use serde_json::Value;

use super::limits;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) index_auto: bool,
    pub(super) search: bool,
    pub(super) search_limit: u32,
    pub(super) references_limit: u32,
    pub(super) ask: bool,
    pub(super) actions: bool,
    pub(super) completion: bool,
}

impl Settings {
    pub(super) fn read(options: Option<&Value>) -> Self {
        let get = |key: &str| {
            let options = options?;
            options.get(key).or_else(|| key.split('.').try_fold(options, |at, part| at.get(part)))
        };
        let switch = |key| get(key).and_then(Value::as_bool).unwrap_or(true);
        let number = |key, default| {
            get(key)
                .and_then(Value::as_u64)
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| (1..=limits::HITS).contains(n))
                .unwrap_or(default)
        };
        Self {
            index_auto: switch("index.auto"),
            search: switch("search.enabled"),
            search_limit: number("search.limit", 20),
            references_limit: number("references.limit", 12),
            ask: switch("ask.enabled"),
            actions: switch("actions.enabled"),
            completion: switch("completion.enabled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_flat_and_nonsense() {
        let defaults = Settings::read(None);
        assert!(defaults.index_auto && defaults.completion);
        assert_eq!((defaults.search_limit, defaults.references_limit), (20, 12));
        for odd in [
            json!([]),
            json!("x"),
            json!({ "search": 3, "index.auto": "no", "references.limit": 51 }),
        ] {
            assert_eq!(Settings::read(Some(&odd)), defaults, "{odd}");
        }
        let read = Settings::read(Some(&json!({ "search.limit": 5, "index": { "auto": false } })));
        assert_eq!((read.search_limit, read.index_auto), (5, false));
    }
}
