//! Which layers of a fence stand.

use std::io;

/// Which layers stand, and which do not and why.
#[derive(Debug, Default, Clone)]
pub struct Layers {
    /// By name, some with a version: `landlock-v7`.
    pub active: Vec<String>,
    pub absent: Vec<(String, String)>,
}

impl Layers {
    pub fn has(&self, name: &str) -> bool {
        self.active
            .iter()
            .any(|l| l == name || l.strip_prefix(name).is_some_and(|r| r.starts_with("-v")))
    }

    pub fn note(&mut self, name: &str, result: io::Result<()>) {
        match result {
            Ok(()) => self.active.push(name.into()),
            Err(e) => self.absent.push((name.into(), e.to_string())),
        }
    }

    pub fn off(&mut self, name: &str) {
        self.absent.push((name.into(), "switched off in the user's settings".into()));
    }
}
