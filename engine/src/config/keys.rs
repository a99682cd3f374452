//! Where a key comes from. The key itself never stands in the file.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// An environment variable of the engine.
    Env(String),
    /// An entry of the desktop's keyring.
    Keyring(String),
}

impl KeySource {
    /// The place `env` or `keyring` of this name; `None` when that cannot be one.
    pub(crate) fn named(kind: &str, name: String) -> Option<Self> {
        let plain = !name.is_empty()
            && name.len() <= 128
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. /@".contains(&b));
        match kind {
            "env" if plain => Some(Self::Env(name)),
            "keyring" if plain => Some(Self::Keyring(name)),
            _ => None,
        }
    }
}

/// Written by hand: the derived one would print what stands there, and that may be a key.
impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a key is never written into this file; name its place: { env = \"VARIABLE\" } or { keyring = \"NAME\" }";
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = KeySource;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{ env = \"VARIABLE\" } or { keyring = \"NAME\" }")
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<KeySource, E> {
                Err(E::custom(FORM))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySource, A::Error> {
                let mut source = None;
                while let Some(name) = map.next_key::<String>()? {
                    let value: String = map.next_value()?;
                    let found = KeySource::named(&name, value);
                    if source.is_some() || found.is_none() {
                        return Err(de::Error::custom(FORM));
                    }
                    source = found;
                }
                source.ok_or_else(|| de::Error::custom(FORM))
            }
        }
        deserializer.deserialize_any(Form)
    }
}
