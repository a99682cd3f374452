//! From files to rows: threads read, cut and tokenise, the build's task commits batches.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lapce_ai_ipc::wire::index::Phase;
use tokio::sync::mpsc;

use super::Build;
use super::file::{Done, Outcome, process};
use super::progress::disk_bytes;
use crate::chunk::Chunker;
use crate::error::Error;
use crate::fault::fault;
use crate::limits::{BATCH_BYTES, CHECKPOINT_EVERY, INDEX_ROWS, PIPELINE_FILES};
use crate::manifest::{IN_SHARED, Record};
use crate::spool::{Item, Items, Spool};
use crate::store::{Rows, Store};

type ChunkerThread = std::thread::JoinHandle<std::io::Result<()>>;

impl Build {
    pub(super) async fn pipeline(
        &mut self,
        store: &mut Option<Store>,
        mut todo: Spool,
        walked: u64,
        dirty: bool,
    ) -> Result<(), Error> {
        let total = todo.len();
        let base = walked - total;
        let db = self.state.db_path(&self.options.dir);
        self.announce(&todo).await;
        if let Some(store) = store.as_ref().filter(|_| dirty) {
            todo = self.sweep(store, todo).await?;
        }
        let (sender, mut receiver) = mpsc::channel::<Done>(PIPELINE_FILES);
        let items = todo.items().map_err(self.spooling())?;
        let workers = self.start_chunkers(items, &sender);
        // The threads hold the others: the channel ends with the last of them.
        drop(sender);
        let mut rows = Rows::default();
        let mut pending: Vec<(String, Record)> = Vec::new();
        let mut replaced: Vec<String> = Vec::new();
        let (mut done, mut commits, mut saved) = (0_u64, 0_u32, Instant::now());
        let mut committed = self.files.chunks();
        let mut searchable = store.is_some();
        // Rows that no index has yet; their words are in memory while one is made.
        let mut bare = 0;
        while let Some(file) = receiver.recv().await {
            if self.cancel.load(Ordering::Relaxed) {
                break;
            }
            done += 1;
            let Item { entry, old, stale } = file.item;
            let path = entry.path;
            let chunks = committed + rows.len() as u64;
            self.progress.maybe(Phase::Chunk, base + done, walked, chunks, &path);
            let mut record = Record {
                size: entry.size,
                mtime: entry.mtime,
                hash: file.hash,
                chunks: 0,
                skip: 0,
            };
            match file.outcome {
                Outcome::Touched if self.in_shared(&path, &file.hash) => {
                    record.skip = IN_SHARED;
                    if old.is_none_or(|old| old.chunks == 0) && !stale {
                        self.files.insert(path, record);
                        continue;
                    }
                }
                Outcome::Touched => {
                    record =
                        Record { size: record.size, mtime: record.mtime, ..old.unwrap_or(record) };
                    self.files.insert(path, record);
                    continue;
                }
                Outcome::Skipped(reason) => {
                    self.skips.add(reason, &path);
                    record.skip = reason.code();
                }
                Outcome::Rows { rows: new, reused, kept } => {
                    record.chunks = new.len() as u32;
                    self.report.bytes += record.size;
                    self.report.files_reused += u64::from(reused);
                    if let Some(kept) = kept {
                        self.keeper.add(&kept);
                    }
                    for row in new {
                        rows.push(row);
                    }
                }
            }
            match old {
                Some(_) => self.report.files_changed += 1,
                None if record.skip == 0 => self.report.files_added += 1,
                None => {}
            }
            if old.is_some() || stale {
                replaced.push(path.clone());
            }
            pending.push((path, record));
            if rows.len() >= self.batch_rows() || rows.bytes() >= BATCH_BYTES {
                bare += rows.len();
                self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
                commits += 1;
                committed = self.files.chunks();
                // Partial results while a long build runs: index at 1, 2, 4, 8, … commits, as
                // long as most is yet to come. What a provider was paid for is recorded at once.
                let early = done * 2 <= total || self.remote().is_some();
                let index =
                    early && commits.is_power_of_two() && !self.replaces || bare >= INDEX_ROWS;
                let late = saved.elapsed() > CHECKPOINT_EVERY;
                if let Some(store) = store.as_ref().filter(|_| index || late) {
                    if index || !searchable && !self.replaces {
                        self.progress.now(Phase::Commit, base + done, walked, committed, "");
                        store.index(self.options.threads).await?;
                        searchable = true;
                        bare = 0;
                    }
                    self.checkpoint(&db)?;
                    saved = Instant::now();
                }
            }
        }
        drop(receiver);
        let chunks = committed + rows.len() as u64;
        self.progress.now(Phase::Commit, base + done, walked, chunks, "");
        self.commit(store, &mut rows, &mut pending, &mut replaced, &db).await?;
        for worker in workers {
            let ended =
                worker.join().map_err(|_| Error::Internal("a chunker thread died".into()))?;
            ended.map_err(self.spooling())?;
        }
        if self.cancel.load(Ordering::Relaxed) {
            if let Some(store) = store.as_ref().filter(|_| !self.replaces) {
                if !searchable {
                    store.index(self.options.threads).await?;
                }
                self.checkpoint(&db)?;
            }
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        store: &mut Option<Store>,
        rows: &mut Rows,
        pending: &mut Vec<(String, Record)>,
        replaced: &mut Vec<String>,
        db: &Path,
    ) -> Result<(), Error> {
        if pending.is_empty() {
            return Ok(());
        }
        self.changed |= !rows.is_empty() || !replaced.is_empty();
        self.check_room(db, rows.bytes())?;
        if let Err(error) = self.fill(rows).await {
            if store.is_some() {
                self.checkpoint(db)?;
            }
            return Err(error);
        }
        let generation = self.next_generation();
        if store.is_none() {
            *store = Some(self.create_table(db).await?);
        }
        let table = store.as_ref().ok_or_else(|| Error::Internal("no table".into()))?;
        if !rows.is_empty() {
            table.add(rows, generation, self.dims()).await?;
            fault("rows-added");
        }
        self.delete_older(table, replaced, generation).await?;
        fault("rows-deleted");
        replaced.clear();
        for (path, record) in pending.drain(..) {
            self.files.insert(path, record);
        }
        *rows = Rows::default();
        Ok(())
    }

    /// Deletes what older builds wrote of these files.
    pub(super) async fn delete_older(
        &self,
        table: &Store,
        paths: &[String],
        generation: u64,
    ) -> Result<(), Error> {
        let Some(before) = &self.before else {
            return Ok(table.delete_older(paths, generation).await?);
        };
        let rows: Vec<u64> = paths.iter().flat_map(|path| before.rows_of(path)).collect();
        Ok(table.delete_rows(&rows).await?)
    }

    /// An index never grows past its bound; what is committed stays.
    fn check_room(&self, db: &Path, more: usize) -> Result<(), Error> {
        let most = self.options.max_bytes;
        if most > 0 && more > 0 && disk_bytes(db) + more as u64 > most {
            return Err(Error::DiskCap(most));
        }
        Ok(())
    }

    fn start_chunkers(&self, todo: Items, sender: &mpsc::Sender<Done>) -> Vec<ChunkerThread> {
        let todo = Arc::new(Mutex::new(todo));
        (0..self.options.threads.max(1))
            .map(|_| {
                let (root, layer) = (self.options.root.clone(), self.options.layer.clone());
                let (todo, sender) = (Arc::clone(&todo), sender.clone());
                let (embedder, cache) = (self.embedder.clone(), Arc::clone(&self.cache));
                std::thread::spawn(move || {
                    let mut chunker = Chunker::new();
                    loop {
                        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).take()?;
                        let Some(item) = next else { break };
                        let shared = layer.as_ref().and_then(|l| l.hashes.get(&item.entry.path));
                        let own = item.old.filter(|r| r.skip == 0);
                        let known = shared.copied().or_else(|| own.map(|r| r.hash));
                        let embedder = embedder.as_deref();
                        let done = process(&root, item, known, &mut chunker, embedder, &cache);
                        if sender.blocking_send(done).is_err() {
                            break;
                        }
                    }
                    Ok(())
                })
            })
            .collect()
    }
}
