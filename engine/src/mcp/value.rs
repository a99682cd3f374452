//! Values of variables and headers in the user's `config.toml`: literal, or the place of a
//! secret, as keys of providers are.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};

use crate::config::KeySource;

/// A value as it stands, or the place of a secret, with what stands before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Plain(String),
    Secret { source: KeySource, prefix: String },
}

/// Written by hand, as for `KeySource`: an error must not print what stands there.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "a value is \"text\", { env = \"VARIABLE\" } or { keyring = \"NAME\" }, the last two with prefix = \"text\" if need be";
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"text\", { env = \"VARIABLE\" } or { keyring = \"NAME\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                if text.contains('\0') {
                    return Err(E::custom(FORM));
                }
                Ok(Value::Plain(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let (mut source, mut prefix) = (None, String::new());
                while let Some(name) = map.next_key::<String>()? {
                    let value: String = map.next_value()?;
                    match name.as_str() {
                        "prefix" => prefix = value,
                        "env" | "keyring" if source.is_none() => {
                            source = KeySource::named(&name, value);
                            if source.is_none() {
                                return Err(de::Error::custom(FORM));
                            }
                        }
                        _ => return Err(de::Error::custom(FORM)),
                    }
                }
                let source = source.ok_or_else(|| de::Error::custom(FORM))?;
                Ok(Value::Secret { source, prefix })
            }
        }
        deserializer.deserialize_any(Form)
    }
}
