//! An index that a team shares: one writer (CI) builds it in an object store, everyone reads.
//!
//! Below the location, `s3://bucket/prefix` (feature `s3`) or `file:///folder`, lie the
//! table (`db-N/chunks.lance`, written by LanceDB's own object store), the mapped copies and
//! the list of files as objects that never change, and numbered *heads*: each names the
//! version of the table, the copies and their hashes. A head is put only where none of its
//! number is (a conditional write), so of two writers one wins and the other is told; and a
//! numbered *lease*, made the same way, keeps a second writer from starting. What a writer
//! that lost or died left in the table is undone by the next: it goes back to the version
//! of the head before it adds anything.
//!
//! A reader fetches the copies once, checks their hashes, and indexes locally only the files
//! of its working tree that differ ([`Layer`], used by `builder`); a question then is
//! answered from both, without a request (`search`). Credentials come from the environment
//! of this process (`AWS_*`), which the engine sets only when the user configured a location.

mod lease;
mod roles;

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};

pub use lease::Lease;
pub use roles::{read, read_fetched, write};

use crate::error::Error;
use crate::limits::{
    MAX_HEAD_BYTES, MAX_SHARED_BYTES, MAX_SHARED_OBJECTS, SHARED_HEADS, SHARED_PARALLEL,
};
use crate::manifest::{Files, State};
use crate::store::copies;

/// Folder of a local index that holds the fetched objects of the shared one below it.
pub const SHARED_FOLDER: &str = "shared";
/// The head whose objects those are.
const HEAD_FILE: &str = "head.json";

/// Where a shared index is.
#[derive(Debug, Clone)]
pub struct Location {
    uri: String,
    store: Arc<dyn ObjectStore>,
    base: Key,
}

/// One published state of a shared index.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Head {
    pub number: u64,
    /// The version of the table.
    pub version: u64,
    pub state: State,
    /// The list of files, the view and the copies that it names.
    pub objects: Vec<Object>,
}

/// An object that never changes, and becomes a file of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub name: String,
    pub len: u64,
    /// blake3, in hexadecimal.
    pub hash: String,
}

/// What a local index keeps of the shared one below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Below {
    pub location: String,
    pub db: String,
    pub version: u64,
    pub view: String,
    /// Who made its vectors; those of another embedder cannot be compared with them.
    #[serde(default)]
    pub embedder: String,
}

/// The list of the files of a shared index, for a build on top of it.
#[derive(Debug, Clone)]
pub struct Layer {
    pub below: Below,
    /// Hash of each file that is indexed there.
    pub hashes: HashMap<String, [u8; 16]>,
}

impl Location {
    pub fn parse(uri: &str) -> Result<Self, Error> {
        let uri = uri.trim_end_matches('/').to_owned();
        let bad = |why: &str| Error::Location { uri: uri.clone(), why: why.to_owned() };
        if let Some(folder) = uri.strip_prefix("file://") {
            let folder = Path::new(folder);
            if !folder.is_absolute() {
                return Err(bad("a file:// location is file:/// and an absolute path"));
            }
            std::fs::create_dir_all(folder).map_err(Error::io("cannot create", folder))?;
            let local = object_store::local::LocalFileSystem::new_with_prefix(folder)
                .map_err(|e| bad(&e.to_string()))?;
            return Ok(Self { store: Arc::new(local), base: Key::default(), uri });
        }
        let Some(rest) = uri.strip_prefix("s3://") else {
            return Err(bad("a location begins with s3:// or file://"));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(bad("it names no bucket: s3://bucket/prefix"));
        }
        let base = Key::parse(prefix).map_err(|e| bad(&e.to_string()))?;
        Ok(Self { store: s3(bucket).map_err(|why| bad(&why))?, base, uri })
    }

    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// What LanceDB opens for this database.
    pub fn table(&self, db: &str) -> PathBuf {
        PathBuf::from(format!("{}/{db}", self.uri))
    }

    fn key(&self, name: &str) -> Key {
        name.split('/').fold(self.base.clone(), Key::join)
    }

    fn failed(&self, what: &str, error: &object_store::Error) -> Error {
        Error::Location { uri: self.uri.clone(), why: format!("cannot {what}: {error}") }
    }

    async fn numbers(&self, kind: &str) -> Result<Vec<u64>, Error> {
        let prefix = self.key(kind);
        let list: Vec<_> = self
            .store
            .list(Some(&prefix))
            .try_collect()
            .await
            .map_err(|e| self.failed("list", &e))?;
        let mut numbers: Vec<u64> =
            list.iter().filter_map(|o| o.location.filename()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn get(&self, name: &str, most: u64) -> Result<Vec<u8>, Error> {
        let what = format!("read {name}");
        let found = self.store.get(&self.key(name)).await.map_err(|e| self.failed(&what, &e))?;
        if found.meta.size > most {
            let why = format!("{name} is larger than {most} bytes");
            return Err(Error::Location { uri: self.uri.clone(), why });
        }
        Ok(found.bytes().await.map_err(|e| self.failed(&what, &e))?.to_vec())
    }

    /// Puts an object where none is; false when there is one.
    async fn create(&self, name: &str, bytes: Vec<u8>) -> Result<bool, Error> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&self.key(name), PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(self.failed(&format!("write {name}"), &error)),
        }
    }

    /// The newest published state, if there is one.
    pub async fn head(&self) -> Result<Option<Head>, Error> {
        let Some(number) = self.numbers("heads").await?.pop() else { return Ok(None) };
        let bytes = self.get(&format!("heads/{number:020}"), MAX_HEAD_BYTES).await?;
        let bad = |why: String| Error::Location { uri: self.uri.clone(), why };
        let head: Head = serde_json::from_slice(&bytes)
            .map_err(|e| bad(format!("head {number} is damaged: {e}")))?;
        let sane = head.number == number
            && head.state.is_plain()
            && head.objects.len() <= MAX_SHARED_OBJECTS
            && head.objects.iter().all(Object::is_plain)
            && head.objects.iter().map(|o| o.len).fold(0, u64::saturating_add) <= MAX_SHARED_BYTES;
        if sane {
            Ok(Some(head))
        } else {
            Err(bad(format!("head {number} is of another version of lapce-ai, or too large")))
        }
    }

    /// Fetches the objects of a head that are not yet in the folder; their hashes are checked.
    pub async fn fetch(&self, head: &Head, to: &Path) -> Result<(), Error> {
        lapce_ai_ipc::paths::private_dir(to).map_err(Error::io("cannot create", to))?;
        let missing: Vec<&Object> = head
            .objects
            .iter()
            .filter(|o| std::fs::metadata(to.join(&o.name)).map_or(true, |m| m.len() != o.len))
            .collect();
        futures::stream::iter(missing.into_iter().map(Ok::<_, Error>))
            .try_for_each_concurrent(SHARED_PARALLEL, |object| self.fetch_one(object, to))
            .await
    }

    async fn fetch_one(&self, object: &Object, to: &Path) -> Result<(), Error> {
        let what = format!("read {}", object.name);
        let found = self.store.get(&self.key(&object.name)).await;
        let mut stream = found.map_err(|e| self.failed(&what, &e))?.into_stream();
        let (file, partial) = (to.join(&object.name), to.join(format!("{}.part", object.name)));
        let io = |path: &Path| Error::io("cannot write", path.to_path_buf());
        let mut out = std::fs::File::create(&partial).map_err(io(&partial))?;
        let (mut hash, mut len) = (blake3::Hasher::new(), 0);
        while let Some(bytes) = stream.try_next().await.map_err(|e| self.failed(&what, &e))? {
            len += bytes.len() as u64;
            hash.update(&bytes);
            if len > object.len {
                break;
            }
            out.write_all(&bytes).map_err(io(&partial))?;
        }
        if len != object.len || hash.finalize().to_hex().as_str() != object.hash {
            let _ = std::fs::remove_file(&partial);
            let why = format!("{} is not what its head says", object.name);
            return Err(Error::Location { uri: self.uri.clone(), why });
        }
        out.sync_data().map_err(io(&partial))?;
        std::fs::rename(&partial, &file).map_err(io(&file))
    }

    /// Publishes what a writer built in `db` as the head after `before`.
    pub async fn publish(
        &self,
        before: Option<&Head>,
        state: &State,
        version: u64,
        db: &Path,
        lease: &Lease,
    ) -> Result<Head, Error> {
        let list = format!("files-{}", state.generation);
        Files::load(db)
            .filter(|files| files.is_whole(None))
            .ok_or_else(|| Error::Internal("no list of files to publish".into()))?
            .save_flat(&db.join(&list))
            .map_err(Error::io("cannot write into", db))?;
        let view = copies::View::load(&db.join(&state.view))
            .ok_or_else(|| Error::Internal("no view to publish".into()))?;
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(db).map_err(Error::io("cannot read", db))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = name == list
                || copies::is_copy(&name) && copies::is_needed(&view, &state.view, &name);
            if !wanted {
                continue;
            }
            let known = before.and_then(|h| h.objects.iter().find(|o| o.name == name));
            objects.push(match known {
                Some(object) => object.clone(),
                None => self.upload(&entry.path(), name).await?,
            });
        }
        let _ = std::fs::remove_file(db.join(&list));
        lease.check(self).await?;
        let number = before.map_or(1, |h| h.number + 1);
        let head = Head { number, version, state: state.clone(), objects };
        if !self.create(&format!("heads/{number:020}"), serde_json::to_vec(&head)?).await? {
            return Err(Error::OtherWriter(self.uri.clone()));
        }
        self.tidy(&head).await;
        Ok(head)
    }

    async fn upload(&self, file: &Path, name: String) -> Result<Object, Error> {
        // At most one segment's file, some 40 MB.
        let bytes = std::fs::read(file).map_err(Error::io("cannot read", file))?;
        let (len, hash) = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
        self.store
            .put(&self.key(&name), PutPayload::from(bytes))
            .await
            .map_err(|e| self.failed(&format!("write {name}"), &e))?;
        Ok(Object { name, len, hash })
    }

    /// Removes old heads, and the objects that only they named. What fails stays, for the
    /// next time.
    async fn tidy(&self, head: &Head) {
        let Ok(numbers) = self.numbers("heads").await else { return };
        for number in numbers.into_iter().filter(|n| n + SHARED_HEADS <= head.number) {
            let name = format!("heads/{number:020}");
            let old: Option<Head> = self
                .get(&name, MAX_HEAD_BYTES)
                .await
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok());
            for object in old.iter().flat_map(|h| &h.objects) {
                // Objects live on from head to head: what the newest has not, none after has.
                if !head.objects.contains(object) {
                    let _ = self.store.delete(&self.key(&object.name)).await;
                }
            }
            let _ = self.store.delete(&self.key(&name)).await;
        }
    }
}

#[cfg(feature = "s3")]
fn s3(bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    let retry = object_store::RetryConfig {
        max_retries: 3,
        retry_timeout: crate::limits::SHARED_RETRY,
        ..object_store::RetryConfig::default()
    };
    let store = object_store::aws::AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_retry(retry)
        .build()
        .map_err(|e| e.to_string())?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "s3"))]
fn s3(_bucket: &str) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this lapce-ai-index was built without s3; build it with `--features s3` \
         (docs/team-index.md)"
        .into())
}

impl Object {
    /// The name is one of ours, and of nothing else.
    fn is_plain(&self) -> bool {
        self.name.split_once('-').is_some_and(|(kind, number)| {
            ["words", "lights", "vectors", "view", "files"].contains(&kind)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    }
}

impl Head {
    fn list(&self) -> Option<&Object> {
        self.objects.iter().find(|o| o.name.starts_with("files-"))
    }

    /// The layer that a local index lies on; the objects are in `folder`.
    pub fn layer(&self, location: &Location, folder: &Path) -> Result<Layer, Error> {
        let why = "the list of files is damaged".to_owned();
        let files = self
            .list()
            .and_then(|object| Files::load_flat(&folder.join(&object.name)))
            .ok_or(Error::Location { uri: location.uri.clone(), why })?;
        let below = Below {
            embedder: self.state.embedder.clone(),
            location: location.uri.clone(),
            db: self.state.db.clone(),
            version: self.version,
            view: self.state.view.clone(),
        };
        let indexed = files.iter().filter(|(_, r)| r.skip == 0);
        Ok(Layer { below, hashes: indexed.map(|(path, r)| (path.to_owned(), r.hash)).collect() })
    }

    /// Makes a writer's folder what it was when this head was published.
    pub fn unpack(&self, dir: &Path, root: &str, fetched: &Path) -> Result<(), Error> {
        let db = self.state.db_path(dir);
        std::fs::create_dir_all(&db).map_err(Error::io("cannot create", &db))?;
        for object in &self.objects {
            let name = if object.name.starts_with("files-") { "files.bin" } else { &object.name };
            let to = db.join(name);
            let _ = std::fs::remove_file(&to);
            std::fs::hard_link(fetched.join(&object.name), &to)
                .map_err(Error::io("cannot link", &to))?;
        }
        let state = State { root: root.to_owned(), ..self.state.clone() };
        state.save(dir).map_err(Error::io("cannot write into", dir))
    }
}
