//! Fetching keys: from the engine's environment, or from the desktop's keyring.
//!
//! The keyring is asked through `secret-tool` (libsecret's own program): no D-Bus code in
//! the engine, no cost until a configuration names a keyring entry. A key that was found is
//! kept for a while in a [`Secret`].

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::error::{Fault, ProviderError};
use crate::config::{Config, KeySource};
use crate::secret::Secret;

/// Named in errors where there is no provider.
const KEYRING: &str = "keyring";
/// A locked keyring asks the user for the password first.
const KEYRING_TIMEOUT: Duration = Duration::from_mins(1);
const KEPT_FOR: Duration = Duration::from_mins(10);
const KEY_BYTES: u64 = 16 * 1024;
/// Shorter values are no keys, and taking them out would garble texts.
const REDACTED_FROM: usize = 8;
/// Entries remembered; a configuration has a handful.
const ENTRIES: usize = 64;

#[derive(Debug, Default)]
pub struct Keys {
    kept: Mutex<HashMap<String, (Instant, Secret)>>,
}

impl Keys {
    pub async fn get(
        &self,
        provider: &str,
        source: Option<&KeySource>,
    ) -> Result<Option<Secret>, ProviderError> {
        match source {
            None => Ok(None),
            Some(KeySource::Env(name)) => match std::env::var(name) {
                Ok(value) if !value.trim().is_empty() => Ok(Some(Secret::new(value.trim()))),
                _ => Err(ProviderError::new(Fault::Auth, provider, format!("the environment variable {name} is not set in the engine"))
                    .hint(format!("set {name}, then restart the engine: `lapce-ai stop` (the next command starts it again)"))),
            },
            Some(KeySource::Keyring(name)) => {
                {
                    let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some((at, key)) = kept.get(name)
                        && at.elapsed() < KEPT_FOR
                    {
                        return Ok(Some(key.clone()));
                    }
                }
                let key = keyring(provider, name, std::env::var_os("PATH")).await?;
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.retain(|_, (at, _)| at.elapsed() < KEPT_FOR);
                if kept.len() < ENTRIES {
                    kept.insert(name.clone(), (Instant::now(), key.clone()));
                }
                Ok(Some(key))
            }
        }
    }

    /// Every key of the configuration that is at hand, to be taken out of texts.
    pub fn at_hand(&self, config: &Config) -> Vec<Secret> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = config.providers.values().filter_map(|p| p.key.as_ref());
        sources
            .filter_map(|source| match source {
                KeySource::Env(name) => std::env::var(name).ok().map(|v| Secret::new(v.trim())),
                KeySource::Keyring(name) => kept.get(name).map(|(_, key)| key.clone()),
            })
            .filter(|key| key.expose().len() >= REDACTED_FROM)
            .collect()
    }

    /// What the keyring holds under `name`, if anything; asked anew each time.
    pub async fn lookup(&self, name: &str) -> Result<Option<Secret>, ProviderError> {
        secret_tool(KEYRING, "lookup", name, None, std::env::var_os("PATH")).await
    }

    /// Puts a secret under `name`, in place of what is there.
    pub async fn store(&self, name: &str, secret: &Secret) -> Result<(), ProviderError> {
        if secret.expose().len() as u64 > KEY_BYTES {
            let long = format!("what is to be kept is longer than {KEY_BYTES} bytes");
            return Err(ProviderError::new(Fault::Auth, KEYRING, long));
        }
        let stored =
            secret_tool(KEYRING, "store", name, Some(secret), std::env::var_os("PATH")).await?;
        stored.map(drop).ok_or_else(|| {
            ProviderError::new(Fault::Auth, KEYRING, format!("the keyring does not keep {name:?}"))
                .hint("unlock the keyring and try again")
        })
    }

    /// Takes what is under `name` away.
    pub async fn clear(&self, name: &str) -> Result<(), ProviderError> {
        secret_tool(KEYRING, "clear", name, None, std::env::var_os("PATH")).await.map(drop)
    }

    /// Forgets what was kept: the provider did not take the key.
    pub fn forget(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// `text` without the keys, wherever it came from (a file, a command's output).
pub fn redact(text: String, keys: &[Secret]) -> String {
    keys.iter().fold(text, |text, key| {
        if text.contains(key.expose()) { text.replace(key.expose(), "[key]") } else { text }
    })
}

async fn keyring(
    provider: &str,
    name: &str,
    path: Option<OsString>,
) -> Result<Secret, ProviderError> {
    let found = secret_tool(provider, "lookup", name, None, path).await?;
    found.ok_or_else(|| {
        ProviderError::new(Fault::Auth, provider, format!("the keyring has no entry {name:?}")).hint(
            format!(
                "store it with: secret-tool store --label=\"Lapce AI {name}\" service lapce-ai account {name}"
            ),
        )
    })
}

/// Runs `secret-tool` for one entry, with `secret` on its standard input: nothing secret
/// stands on a command line. Gives what it printed, or nothing when it failed.
async fn secret_tool(
    provider: &str,
    order: &str,
    name: &str,
    secret: Option<&Secret>,
    path: Option<OsString>,
) -> Result<Option<Secret>, ProviderError> {
    let error = |message: String, hint: String| {
        ProviderError::new(Fault::Auth, provider, message).hint(hint)
    };
    let program = find_secret_tool(path).ok_or_else(|| {
        error(
            "the program secret-tool, which reads the keyring, was not found".to_owned(),
            "install libsecret-tools (Debian, Ubuntu) or libsecret (Fedora, Arch), or name an environment variable: key = { env = … }".to_owned(),
        )
    })?;
    let failed =
        |e: std::io::Error| error(format!("secret-tool cannot be run: {e}"), String::new());
    let mut command = Command::new(program);
    command.arg(order);
    if secret.is_some() {
        command.arg(format!("--label=Lapce AI {name}"));
    }
    let mut child = command
        .args(["service", "lapce-ai", "account", name])
        .stdin(if secret.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut text = String::new();
    let talk = async {
        if let (Some(mut stdin), Some(secret)) = (child.stdin.take(), secret) {
            stdin.write_all(secret.expose().as_bytes()).await?;
        }
        if let Some(stdout) = child.stdout.take() {
            stdout.take(KEY_BYTES).read_to_string(&mut text).await?;
        }
        child.wait().await
    };
    let status = tokio::time::timeout(KEYRING_TIMEOUT, talk)
        .await
        .map_err(|_| {
            error(
                "the keyring did not answer within a minute".to_owned(),
                "unlock the keyring and ask again".to_owned(),
            )
        })?
        .map_err(failed)?;
    let found = Secret::new(text.trim());
    let whole = status.success() && (secret.is_some() || !found.is_empty());
    Ok(whole.then_some(found))
}

fn find_secret_tool(path: Option<OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("secret-tool"))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let keys = Keys::default();
        let source = KeySource::Env("LAPCE_AI_TEST_NO_SUCH_KEY".into());
        let error = keys.get("p", Some(&source)).await.unwrap_err();
        assert_eq!(error.fault, Fault::Auth);
        assert!(
            error.message.contains("LAPCE_AI_TEST_NO_SUCH_KEY")
                && error.hint.contains("lapce-ai stop")
        );
        assert_eq!(keys.get("p", None).await.unwrap(), None);
        // Set in every environment, so no test has to change it.
        let key = keys.get("p", Some(&KeySource::Env("PATH".into()))).await.unwrap().unwrap();
        assert!(!key.is_empty());
    }

    /// A stand-in for `secret-tool` in a folder of its own.
    fn keyring_with(script: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret-tool");
        lapce_ai_tests::programs::script(&file, &format!("#!/bin/sh\n{script}\n"));
        dir
    }

    #[tokio::test]
    async fn the_keyring_is_asked_through_secret_tool() {
        let path = |dir: &tempfile::TempDir| Some(dir.path().as_os_str().to_owned());
        let dir = keyring_with(
            r#"[ "$*" = "lookup service lapce-ai account openai" ] && echo sk-from-keyring"#,
        );
        let key = keyring("p", "openai", path(&dir)).await.unwrap();
        assert_eq!(key.expose(), "sk-from-keyring");
        let missing = keyring("p", "other", path(&dir)).await.unwrap_err();
        assert!(missing.hint.contains("secret-tool store"), "{}", missing.hint);
        let empty = tempfile::tempdir().unwrap();
        let absent = keyring("p", "openai", path(&empty)).await.unwrap_err();
        assert!(absent.hint.contains("libsecret"), "{}", absent.hint);
        assert!(keyring("p", "openai", None).await.is_err());
    }

    #[tokio::test]
    async fn a_secret_goes_in_through_a_pipe_and_comes_out_again() {
        let dir = keyring_with(
            r#"f="${0%/*}/kept"; case $1 in
            store) [ "$*" = "store --label=Lapce AI a service lapce-ai account a" ] && cat >"$f" ;;
            lookup) cat "$f" ;;
            clear) rm "$f" ;;
            esac"#,
        );
        let path = || {
            Some(std::env::join_paths([dir.path(), "/bin".as_ref(), "/usr/bin".as_ref()]).unwrap())
        };
        let secret = Secret::new("{\"a\":\"tok-1\"}");
        assert!(secret_tool("p", "store", "a", Some(&secret), path()).await.unwrap().is_some());
        let found = secret_tool("p", "lookup", "a", None, path()).await.unwrap();
        assert_eq!(found, Some(secret));
        secret_tool("p", "clear", "a", None, path()).await.unwrap();
        assert_eq!(secret_tool("p", "lookup", "a", None, path()).await.unwrap(), None);
        assert!(Keys::default().store("a", &Secret::new("x".repeat(20_000))).await.is_err());
    }

    #[test]
    fn keys_are_taken_out_of_texts() {
        let keys = [Secret::new("sk-one-11"), Secret::new("sk-two-22")];
        assert_eq!(
            redact("a sk-two-22 b sk-one-11sk-one-11".into(), &keys),
            "a [key] b [key][key]"
        );
        let config = Config::parse("[providers.a]\nkind = \"openai\"\nkey = { env = \"PATH\" }\n[providers.b]\nkind = \"openai\"\nkey = { env = \"LAPCE_AI_TEST_NO_SUCH_KEY\" }\n").unwrap();
        assert_eq!(Keys::default().at_hand(&config).len(), 1);
    }
}
