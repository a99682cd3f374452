//! What a reader and the writer of a shared index do before and after a build.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use lancedb::Session;
use lapce_ai_ipc::wire::index::BuildReport;

use super::{HEAD_FILE, Head, Layer, Lease, Location, SHARED_FOLDER};
use crate::builder;
use crate::embed::Embedder;
use crate::error::Error;
use crate::manifest::State;
use crate::store::{Store, copies};

/// Fetches what is published, for a build on top of it; without a connection, what was
/// fetched before serves.
pub async fn read(location: &Location, dir: &Path) -> Result<Layer, Error> {
    lapce_ai_ipc::paths::private_dir(dir).map_err(Error::io("cannot create", dir))?;
    let folder = dir.join(SHARED_FOLDER);
    let head = match location.head().await {
        Ok(Some(head)) => {
            location.fetch(&head, &folder).await?;
            let text = serde_json::to_vec(&(location.uri(), &head))?;
            crate::manifest::replace(&folder.join(HEAD_FILE), &text)
                .map_err(Error::io("cannot write into", &folder))?;
            head
        }
        Ok(None) => {
            let why = "nothing is published there yet; CI does it with `--publish`".to_owned();
            return Err(Error::Location { uri: location.uri.clone(), why });
        }
        Err(error) => {
            tracing::warn!("{error}; what was fetched before serves");
            fetched(location, &folder).ok_or(error)?
        }
    };
    let layer = head.layer(location, &folder)?;
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let needed = name == HEAD_FILE || head.objects.iter().any(|o| name == *o.name);
        // A reader keeps what it has mapped.
        if !needed {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(layer)
}

/// What was fetched before, for an update after a change here: it must not wait for a network.
pub fn read_fetched(location: &Location, dir: &Path) -> Option<Layer> {
    let folder = dir.join(SHARED_FOLDER);
    fetched(location, &folder)?.layer(location, &folder).ok()
}

/// The head that was fetched last from this location.
fn fetched(location: &Location, folder: &Path) -> Option<Head> {
    let text = std::fs::read(folder.join(HEAD_FILE)).ok()?;
    let (uri, head): (String, Head) = serde_json::from_slice(&text).ok()?;
    (uri == location.uri).then_some(head)
}

/// Builds or updates the shared index and publishes it.
pub async fn write(
    location: Location,
    options: builder::Options,
    session: Arc<Session>,
    embedder: Option<Arc<dyn Embedder>>,
    progress: builder::OnProgress,
    cancel: Arc<AtomicBool>,
) -> Result<BuildReport, Error> {
    let lease = Lease::take(&location).await?;
    let written = async {
        let dir = options.dir.clone();
        lapce_ai_ipc::paths::private_dir(&dir).map_err(Error::io("cannot create", &dir))?;
        let name = embedder.as_ref().map(|e| e.name().to_owned()).unwrap_or_default();
        let head = location.head().await?;
        // What lies in the folder may be of another time: what is published counts.
        let _ = std::fs::remove_file(dir.join("meta.json"));
        if let Some(head) = head.as_ref().filter(|h| h.state.embedder == name && !options.force) {
            let root =
                options.root.canonicalize().map_err(Error::io("cannot open", &options.root))?;
            let folder = dir.join(SHARED_FOLDER);
            location.fetch(head, &folder).await?;
            head.unpack(&dir, &root.to_string_lossy(), &folder)?;
            let table = location.table(&head.state.db);
            Store::open(&table, &session).await?.go_back_to(head.version).await?;
        }
        let options = builder::Options { location: Some(location.clone()), ..options };
        let report =
            builder::build(options, Arc::clone(&session), embedder, progress, cancel).await?;
        let state =
            State::load(&dir).ok_or_else(|| Error::Internal("no index to publish".into()))?;
        let db = state.db_path(&dir);
        let store = Store::open(&location.table(&state.db), &session).await?;
        let copied = copies::View::load(&db.join(&state.view)).map(|view| view.version);
        // Someone else's rows would be among ours.
        if Some(store.version().await?) != copied || store.count().await? != state.chunks {
            return Err(Error::OtherWriter(location.uri.clone()));
        }
        location.publish(head.as_ref(), &state, store.version().await?, &db, &lease).await?;
        Ok(report)
    };
    let written = written.await;
    lease.give_back(&location).await;
    written
}
