//! What a build writes beside the table: the list of files, the state that names the
//! current table, and what of older ones goes.

use std::path::Path;

use super::Build;
use super::progress::unix_micros;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::LIST_CHANGES;
use crate::manifest::{Files, IN_SHARED, State};
use crate::shared::Layer;
use crate::store::copies::{View, is_copy, is_needed};

/// Removes copies that no view needs any more; a reader keeps what it has mapped.
pub(super) fn remove_old_copies(db: &Path, view: &View, state: &State, files: &Files) {
    for entry in std::fs::read_dir(db).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let file = file.to_string_lossy();
        let old_shadow = file.starts_with("shadow-") && *file != state.shadow;
        if old_shadow
            || files.is_old_base(&file)
            || is_copy(&file) && !is_needed(view, &state.view, &file)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl Build {
    /// Notes which files of the shared index below are hidden: those that differ here.
    pub(super) fn cover(&mut self, layer: &Layer, db: &Path) -> Result<(), Error> {
        let hidden: Vec<&str> = layer
            .hashes
            .keys()
            .filter(|path| self.files.get(path).is_none_or(|r| r.skip != IN_SHARED))
            .map(String::as_str)
            .collect();
        let text = serde_json::to_vec(&hidden).map_err(|e| Error::Internal(e.to_string()))?;
        let name = format!("shadow-{}", self.next_generation());
        crate::manifest::replace(&db.join(&name), &text)
            .map_err(Error::io("cannot write into", db))?;
        self.state.shadow = name;
        self.state.below = Some(layer.below.clone());
        Ok(())
    }

    /// Nothing has changed: only the time of this look is news.
    pub(super) fn seen(&mut self) -> Result<(), Error> {
        self.state.built_at = unix_micros() / 1_000_000;
        self.save_state()
    }

    /// Makes what is committed known to readers and to the next build.
    pub(super) fn checkpoint(&mut self, db: &Path) -> Result<(), Error> {
        if self.replaces {
            return self.shed_list(db);
        }
        self.files.dirty = true;
        self.save(db)?;
        self.files.dirty = false;
        Ok(())
    }

    /// Writes the list of files: what has changed of it, or now and then all.
    pub(super) fn save_list(&mut self, db: &Path) -> Result<(), Error> {
        let (least, part) = LIST_CHANGES;
        if self.files.has_grown(least, part) {
            let number = self.next_generation();
            self.files.merge(db, number).map_err(Error::io("cannot write into", db))?;
        }
        self.files.save(db).map_err(Error::io("cannot write into", db))?;
        // Only builds read the list, one at a time.
        for entry in std::fs::read_dir(db).into_iter().flatten().flatten() {
            if self.files.is_old_base(&entry.file_name().to_string_lossy()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// Writes the list when it has more changes than memory should hold.
    pub(super) fn shed_list(&mut self, db: &Path) -> Result<(), Error> {
        let (least, part) = LIST_CHANGES;
        if self.files.has_grown(least, part) { self.save_list(db) } else { Ok(()) }
    }

    pub(super) fn save(&mut self, db: &Path) -> Result<(), Error> {
        self.save_list(db)?;
        fault("list-saved");
        self.state.files = self.files.count();
        self.state.chunks = self.files.chunks();
        self.save_state()?;
        fault("meta-saved");
        Ok(())
    }

    pub(super) fn save_state(&self) -> Result<(), Error> {
        self.state
            .save(&self.options.dir)
            .map_err(Error::io("cannot write into", &self.options.dir))
    }
}
