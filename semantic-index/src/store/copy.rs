//! Brings the mapped copies up to date with the table, for `builder`.

use std::collections::HashMap;
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, UInt64Type};
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;

use super::copies::{self, Light, Lights, Part, SegmentWriter, View};
use super::{LIGHT, Result, Store, column, light};
use crate::limits::{COPY_BATCH_ROWS, SEGMENT_ROWS, UPDATE_ROWS};
use crate::rank::Candidate;

impl Store {
    /// Writes segments for the fragments that no segment copies yet, folding small ones in,
    /// and gives the view of all. `next` numbers new files. The view's version is that of
    /// the table now. A small update leaves large segments to the next tidying (`all`), so
    /// that its cost follows what changed.
    pub async fn copy(
        &self,
        db: &Path,
        old: Option<View>,
        dims: usize,
        all: bool,
        next: &mut (dyn FnMut() -> u64 + Send),
    ) -> Result<View> {
        let failed = |source: std::io::Error| lancedb::Error::Runtime {
            message: format!("cannot write into {}: {source}", db.display()),
        };
        let dataset = snapshot!(self);
        let mut fragments = HashMap::new();
        for fragment in dataset.get_fragments() {
            fragments.insert(fragment.id() as u64, fragment);
        }
        // What the segments there are still hold.
        let mut kept = Vec::new();
        for mut part in old.map(|view| view.segments).unwrap_or_default() {
            let Some(lights) = Lights::open(&copies::files(db, part.number)[1]) else { continue };
            part.dead.clear();
            let mut has = Vec::new();
            for run in lights.runs() {
                let Some(fragment) = fragments.get(&run.fragment) else {
                    (run.first..run.first.saturating_add(run.rows).min(lights.len()))
                        .for_each(|row| part.bury(lights.len(), row));
                    continue;
                };
                has.push(run.fragment);
                if fragment.metadata().deletion_file.is_none() {
                    continue;
                }
                if let Some(deleted) = fragment.get_deletion_vector().await? {
                    for offset in deleted.iter() {
                        if let Some(row) = lights.find(run, run.fragment << 32 | u64::from(offset))
                        {
                            part.bury(lights.len(), row);
                        }
                    }
                }
            }
            let live = u64::from(lights.len() - part.dead_rows());
            kept.push((part, has, (live, u64::from(lights.len()))));
        }
        let covered = |kept: &[(Part, Vec<u64>, _)]| {
            kept.iter().flat_map(|k| k.1.iter().copied()).collect::<std::collections::HashSet<_>>()
        };
        let (mut more, has) = (0, covered(&kept));
        for (id, fragment) in &fragments {
            if !has.contains(id) {
                more += fragment.count_rows(None).await? as u64;
            }
        }
        let sizes: Vec<_> = kept.iter().map(|k| k.2).collect();
        let small = !all && more <= UPDATE_ROWS && !kept.is_empty();
        let most = if small { UPDATE_ROWS * 2 } else { SEGMENT_ROWS };
        let mut folded = copies::fold(&sizes, more, most).into_iter();
        kept.retain(|_| !folded.next().unwrap_or(false));
        let has = covered(&kept);
        let mut rest: Vec<_> = fragments.into_iter().filter(|(id, _)| !has.contains(id)).collect();
        rest.sort_unstable_by_key(|(id, _)| *id);
        let mut parts: Vec<Part> = kept.into_iter().map(|k| k.0).collect();

        let mut group = Vec::new();
        let mut rows = 0;
        let mut rest = rest.into_iter().peekable();
        while let Some((_, fragment)) = rest.next() {
            rows += fragment.count_rows(None).await?;
            group.push(fragment.metadata().clone());
            if let Some((_, after)) = rest.peek()
                && (rows + after.count_rows(None).await?) as u64 <= SEGMENT_ROWS
            {
                continue;
            }
            let number = next();
            let mut segment = SegmentWriter::create(db, number, rows, dims).map_err(failed)?;
            let mut columns = [LIGHT, &["tokens"]].concat();
            if dims > 0 {
                columns.push("vector");
            }
            let mut scan = dataset.scan();
            scan.with_fragments(std::mem::take(&mut group));
            scan.batch_size(COPY_BATCH_ROWS).project(&columns)?.with_row_id();
            let mut stream = scan.try_into_stream().await?;
            while let Some(batch) = stream.try_next().await? {
                push(&mut segment, &batch, dims)?.map_err(failed)?;
            }
            segment.finish().map_err(failed)?;
            parts.push(Part { number, dead: Vec::new() });
            rows = 0;
        }
        Ok(View { version: dataset.version().version, segments: parts })
    }
}

fn push(
    segment: &mut SegmentWriter,
    batch: &RecordBatch,
    dims: usize,
) -> Result<std::io::Result<()>> {
    let ids = column(batch, "_rowid")?.as_primitive::<UInt64Type>().values();
    let tokens = column(batch, "tokens")?.as_string::<i32>();
    let vectors = if dims > 0 { Some(column(batch, "vector")?.as_fixed_size_list()) } else { None };
    let mut rows: Vec<Candidate> = Vec::with_capacity(batch.num_rows());
    light(batch, &mut rows, |_, _| {})?;
    for (at, row) in rows.iter().enumerate() {
        let vector = vectors.filter(|v| v.is_valid(at)).map(|v| v.value(at));
        let light = Light {
            row: ids[at],
            start_line: row.start_line,
            end_line: row.end_line,
            flags: row.flags,
            path: &row.path,
            symbol: &row.symbol,
            kind: &row.kind,
            crumb: &row.crumb,
        };
        let vector = vector.as_ref().map(|v| &v.as_primitive::<Int8Type>().values()[..]);
        if let Err(error) = segment.push(&light, tokens.value(at), vector) {
            return Ok(Err(error));
        }
    }
    Ok(segment.flush())
}
