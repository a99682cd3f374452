//! Joins what updates have left in pieces, and drops old versions.

use std::path::Path;
use std::sync::Arc;

use lancedb::Session;
use lapce_ai_ipc::wire::index::Tidied;

use super::disk_bytes;
use super::progress::unix_micros;
use super::save::remove_old_copies;
use super::start::remove_others;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::LIST_CHANGES_TIDY;
use crate::manifest::{Files, Lock, State};
use crate::store::{Copies, Store};

/// Compacts the index in `dir`. Rows move by it, so that the copies of the rows are written
/// anew; readers see the old version until the new one is whole.
pub async fn tidy(dir: &Path, session: Arc<Session>) -> Result<Tidied, Error> {
    let mut state = State::load(dir).ok_or_else(|| Error::NoIndex(dir.display().to_string()))?;
    let Some(_lock) = Lock::acquire(dir).map_err(Error::io("cannot lock", dir))? else {
        return Err(Error::Busy);
    };
    let bytes_before = disk_bytes(dir);
    remove_others(dir, &state.db);
    let db = state.db_path(dir);
    let store = Store::open(&db, &session).await?;
    let dims = store.dims().await?.unwrap_or(0);
    let old = Copies::intact(&db, &state.view, dims).map(|copies| copies.view());
    let generation = &mut state.generation;
    let mut next = || {
        *generation = unix_micros().max(*generation + 1);
        *generation
    };
    // A damaged list is the next build's to replace.
    let mut files = Files::load(&db).filter(|files| files.is_whole(None)).unwrap_or_default();
    if files.has_grown(LIST_CHANGES_TIDY.0, LIST_CHANGES_TIDY.1) {
        let merged = files.merge(&db, next()).and_then(|()| files.save(&db));
        merged.map_err(Error::io("cannot write into", &db))?;
    }
    store.compact().await?;
    fault("compacted");
    let view = store.copy(&db, old, dims, true, &mut next).await?;
    state.view = format!("view-{}", next());
    view.save(&db.join(&state.view)).map_err(Error::io("cannot write into", &db))?;
    fault("tidy-copies");
    let save = |state: &State| state.save(dir).map_err(Error::io("cannot write into", dir));
    save(&state)?;
    fault("tidy-saved");
    remove_old_copies(&db, &view, &state, &files);
    store.prune().await?;
    state.disk_bytes = disk_bytes(dir);
    save(&state)?;
    Ok(Tidied { bytes_before, bytes_after: state.disk_bytes })
}
