//! Mapped copies of what a question reads of the table.
//!
//! LanceDB's table is the store of record: every row, its code, its full-text index. But a
//! question answered from it alone costs megabytes of caches and milliseconds of planning.
//! So each build also writes *segments*: the words turned round (`words`), the light columns
//! (`lights`) and the vectors (`vectors`) of some fragments of the table, files that are
//! mapped and never change; and a *view* that names the segments and marks the rows that
//! are gone. A small update writes a small segment; small segments are folded into larger
//! ones so that their number grows with the logarithm of the table. All of it can be made
//! again from the table, and is trusted only with the version of the table it copies.

mod clusters;
mod cursor;
mod lights;
mod vectors;
mod view;
mod words;
mod writer;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::path::{Path, PathBuf};

pub use view::{Part, View};
pub use writer::{Segment as SegmentWriter, fold};

pub(super) use lights::{Light, Lights};
use vectors::{At, Vectors};
use words::{Best, Desk, Search, Term, Totals, Words};

use crate::limits::{EXACT_VECTORS, LOOK_PART, LOOK_ROWS};
use crate::rank::Candidate;

/// So many windows of rows are searched first, at least, and this part of all.
const FIRST_WINDOWS: (usize, usize) = (8, 16);

/// The files of one segment.
pub(super) fn files(db: &Path, number: u64) -> [PathBuf; 3] {
    ["words", "lights", "vectors"].map(|kind| db.join(format!("{kind}-{number}")))
}

/// Whether a file of a database folder is a copy.
pub fn is_copy(name: &str) -> bool {
    ["words-", "lights-", "vectors-", "view-"].iter().any(|kind| name.starts_with(kind))
}

/// Whether a view still needs this copy.
pub fn is_needed(view: &View, view_name: &str, name: &str) -> bool {
    let number = name.rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok());
    name == view_name
        || (!name.starts_with("view-") && view.segments.iter().any(|s| Some(s.number) == number))
}

/// Words of a question, looked up.
#[derive(Debug)]
pub struct Asked {
    /// Segment by segment.
    found: Vec<Vec<Option<Term>>>,
    weights: Vec<f64>,
}

/// A row in the copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    segment: u32,
    row: u32,
}

impl Place {
    /// Where [`Copies::candidate`] found it.
    pub fn of(candidate: &Candidate) -> Self {
        Self { segment: (candidate.place >> 32) as u32, row: candidate.place as u32 }
    }
}

#[derive(Debug)]
struct Segment {
    part: Part,
    words: Words,
    lights: Lights,
    vectors: Option<Vectors>,
    /// Of the shared index.
    shared: bool,
}

/// In `Candidate::row`: the row is one of the shared index. Fragments are numbered from 0
/// upwards, so that no row of a table has this bit.
pub const SHARED_ROW: u64 = 1 << 63;

/// All segments of an index, mapped.
#[derive(Debug)]
pub struct Copies {
    version: u64,
    totals: Totals,
    segments: Vec<Segment>,
}

impl Copies {
    /// None when a file is missing or damaged.
    pub fn open(db: &Path, view: &str) -> Option<Self> {
        let mut copies =
            Self { version: 0, totals: Totals { rows: 0, length: 0 }, segments: Vec::new() };
        copies.version = copies.add(db, view, false)?;
        Some(copies)
    }

    /// Adds the copies of a shared index, in which the rows of `hidden` files do not count.
    /// Their candidates carry [`SHARED_ROW`].
    pub fn add_shared(&mut self, db: &Path, view: &str, hidden: &HashSet<String>) -> Option<()> {
        let own = self.segments.len();
        self.add(db, view, true)?;
        for segment in &mut self.segments[own..] {
            let rows = segment.lights.len();
            segment.lights.each_path(|row, path| {
                if hidden.contains(path) {
                    segment.part.bury(rows, row);
                }
            });
        }
        Some(())
    }

    fn add(&mut self, db: &Path, view: &str, shared: bool) -> Option<u64> {
        let View { version, segments } = View::load(&db.join(view))?;
        let (totals, open) = (&mut self.totals, &mut self.segments);
        for part in segments {
            let [words, lights, vectors] = files(db, part.number);
            let (words, lights) = (Words::open(&words)?, Lights::open(&lights)?);
            let own = words.totals();
            // A shared view comes from elsewhere: its sum says that it is whole, no more.
            if own.rows != u64::from(lights.len()) || !part.fits(lights.len()) {
                return None;
            }
            totals.rows += own.rows;
            totals.length += own.length;
            open.push(Segment { part, words, lights, vectors: Vectors::open(&vectors), shared });
        }
        Some(version)
    }

    /// What a build may go on from: None when a copy is missing or damaged.
    pub fn intact(db: &Path, view: &str, dims: usize) -> Option<Self> {
        let copies = Self::open(db, view)?;
        let with = |s: &Segment| s.vectors.as_ref().is_some_and(|v| v.dims() == dims);
        (dims == 0 || copies.segments.iter().all(with)).then_some(copies)
    }

    /// The segments and what is gone of them.
    pub fn view(&self) -> View {
        let segments = self.segments.iter().map(|s| s.part.clone()).collect();
        View { version: self.version, segments }
    }

    /// The ids of a file's rows in the table.
    pub fn rows_of(&self, path: &str) -> Vec<u64> {
        let own = self.segments.iter().filter(|s| !s.shared);
        let live = own.flat_map(|s| {
            let places = s.lights.rows_of(path).into_iter().filter(|at| !s.part.is_dead(*at));
            places.filter_map(|at| s.lights.row(at))
        });
        live.collect()
    }

    /// The version of the table that this copies.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Rows that are there.
    pub fn rows(&self) -> u64 {
        let dead: u64 = self.segments.iter().map(|s| u64::from(s.part.dead_rows())).sum();
        self.totals.rows - dead
    }

    /// There are vectors of this many dimensions.
    pub fn has_vectors(&self, dims: usize) -> bool {
        self.segments.iter().any(|s| s.vectors.as_ref().is_some_and(|v| v.dims() == dims))
    }

    /// Looks words up.
    pub fn ask(&self, terms: &[String]) -> Asked {
        let found: Vec<Vec<_>> = self
            .segments
            .iter()
            .map(|segment| terms.iter().map(|term| segment.words.term(term)).collect())
            .collect();
        let weights: Vec<f64> = (0..terms.len())
            .map(|at| {
                let rows = found.iter().filter_map(|terms| terms[at].as_ref());
                self.totals.weight(rows.map(|term| u64::from(term.rows)).sum())
            })
            .collect();
        Asked { found, weights }
    }

    /// The share of the words, each by its weight, that stand in a row.
    pub fn cover(&self, asked: &Asked, place: Place) -> f32 {
        let at = place.segment as usize;
        let (Some(segment), Some(found)) = (self.segments.get(at), asked.found.get(at)) else {
            return 0.0;
        };
        let has = |term: &Option<Term>| {
            term.as_ref().is_some_and(|term| segment.words.has(term, place.row))
        };
        let here = found.iter().zip(&asked.weights).filter(|(term, _)| has(term));
        let here: f64 = here.map(|(_, weight)| weight).sum();
        (here / asked.weights.iter().sum::<f64>().max(f64::MIN_POSITIVE)) as f32
    }

    /// The best rows by BM25, best first.
    pub fn scores(&self, asked: &Asked, limit: usize) -> Vec<(Place, f32)> {
        let mut top = Top { limit, best: BinaryHeap::new() };
        let (mut searches, mut windows) = (Vec::new(), Vec::new());
        for (segment, found) in self.segments.iter().zip(&asked.found) {
            let terms: Vec<_> = found
                .iter()
                .zip(&asked.weights)
                .filter_map(|(term, weight)| Some((term.clone()?, *weight)))
                .collect();
            let search = Search::new(&segment.words, &terms, self.totals);
            search.windows(|window, bound| {
                if bound > 0.0 {
                    windows.push((bound, searches.len(), window));
                }
            });
            searches.push(search);
        }
        // A few that promise most set the bar; the rest in order, since what is unpacked for
        // one window serves the next.
        let few = (windows.len() / FIRST_WINDOWS.1).max(FIRST_WINDOWS.0).min(windows.len());
        windows.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        windows[few..].sort_unstable_by_key(|(_, segment, window)| (*segment, *window));
        let mut desk = Desk::new(self.totals);
        for (bound, at, window) in windows {
            let part = &self.segments[at].part;
            let mut offers = Offers { top: &mut top, segment: at as u32, part };
            if bound >= offers.threshold() {
                searches[at].window(window, &mut desk, &mut offers);
            }
        }
        let best = top.best.into_sorted_vec();
        best.into_iter().map(|Reverse(Scored(score, place))| (place, score as f32)).collect()
    }

    /// The rows with the highest cosine, best first.
    pub fn nearest(&self, query: &[i8], limit: usize) -> Vec<(Place, f32)> {
        self.nearest_of(query, limit, LOOK_ROWS, LOOK_PART)
    }

    /// The same over the groups near the question: a part of all rows, at least `least`.
    pub fn nearest_of(
        &self,
        query: &[i8],
        limit: usize,
        least: usize,
        part: usize,
    ) -> Vec<(Place, f32)> {
        let signs = Vectors::signs(query);
        let exact = self.totals.rows <= EXACT_VECTORS as u64;
        let mut few = Fewest::new(if exact { EXACT_VECTORS } else { limit * 4 }, query.len());
        let (mut groups, mut grouped) = (Vec::new(), 0);
        for (at, segment) in self.segments.iter().enumerate() {
            let Some(vectors) = segment.vectors.as_ref().filter(|v| v.dims() == query.len()) else {
                continue;
            };
            let any = vectors.groups(query, |group, near, rows| {
                groups.push((near, at, group, rows));
            });
            if any {
                grouped += vectors.len();
                continue;
            }
            vectors.differing(&signs, |row, distance| few.look(at, &segment.part, row, distance));
        }
        groups.sort_unstable_by(|a, b| b.cmp(a));
        let mut room = least.max(grouped / part);
        for (_, at, group, rows) in groups {
            let segment = &self.segments[at];
            let Some(vectors) = segment.vectors.as_ref().filter(|_| room > 0) else { break };
            room = room.saturating_sub(rows);
            vectors.differing_in(group, &signs, |row, distance| {
                few.look(at, &segment.part, row, distance);
            });
        }
        few.shrink();
        let mut found: Vec<(Place, f32)> = few
            .found
            .into_iter()
            .map(|(_, place)| (place, self.cosine(place, query)))
            .filter(|(_, cosine)| *cosine > 0.0)
            .collect();
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(limit);
        found
    }

    /// The cosine of a row to the question, 0 if it has no vector.
    pub fn cosine(&self, place: Place, query: &[i8]) -> f32 {
        let vectors = self.segments.get(place.segment as usize).and_then(|s| s.vectors.as_ref());
        vectors.map_or(0.0, |v| v.cosine(place.row, query))
    }

    /// What ranking needs of a row.
    pub fn candidate(&self, place: Place) -> Option<Candidate> {
        let segment = self.segments.get(place.segment as usize)?;
        let mut candidate = segment.lights.get(place.row)?;
        candidate.place = u64::from(place.segment) << 32 | u64::from(place.row);
        if segment.shared {
            candidate.row |= SHARED_ROW;
        }
        Some(candidate)
    }

    /// Drops the files' pages from this process; the next question maps them again.
    pub fn let_go(&self) {
        for segment in &self.segments {
            segment.words.let_go();
            segment.lights.let_go();
            if let Some(vectors) = &segment.vectors {
                vectors.let_go();
            }
        }
    }
}

/// A scored row; among equals the first is better.
#[derive(Debug, PartialEq)]
struct Scored(f64, Place);

impl Eq for Scored {}
impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scored {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(other.1.cmp(&self.1))
    }
}

/// The best rows over all segments; the worst of them is at hand.
struct Top {
    limit: usize,
    best: BinaryHeap<Reverse<Scored>>,
}

/// What one segment offers.
struct Offers<'a> {
    top: &'a mut Top,
    segment: u32,
    part: &'a Part,
}

impl Best for Offers<'_> {
    fn threshold(&self) -> f64 {
        if self.top.best.len() < self.top.limit {
            return 0.0;
        }
        self.top.best.peek().map_or(f64::INFINITY, |Reverse(worst)| worst.0)
    }

    fn offer(&mut self, row: u32, score: f64) {
        if self.part.is_dead(row) {
            return;
        }
        self.top.best.push(Reverse(Scored(score, Place { segment: self.segment, row })));
        if self.top.best.len() > self.top.limit {
            self.top.best.pop();
        }
    }
}

/// The rows that differ from the question in the fewest signs: at least `wanted` of them.
struct Fewest {
    wanted: usize,
    /// Rows that differ more are not looked at.
    limit: u16,
    found: Vec<(u16, Place)>,
    /// So many are gathered before the farthest are dropped again.
    room: usize,
}

impl Fewest {
    fn new(wanted: usize, dims: usize) -> Self {
        Self { wanted, limit: dims as u16 + 8, found: Vec::new(), room: wanted * 4 }
    }

    fn look(&mut self, segment: usize, part: &Part, at: At<'_>, distance: u16) {
        if distance <= self.limit
            && let Some(row) = at.row().filter(|row| !part.is_dead(*row))
        {
            self.offer(distance, Place { segment: segment as u32, row });
        }
    }

    fn offer(&mut self, distance: u16, place: Place) {
        self.found.push((distance, place));
        if self.found.len() >= self.room {
            self.shrink();
            self.room = self.room.max(self.found.len() * 2);
        }
    }

    /// Keeps the nearest, and all that are as near as the last of them.
    fn shrink(&mut self) {
        if self.found.len() <= self.wanted {
            return;
        }
        let mut counts = vec![0_usize; usize::from(self.limit) + 1];
        for (distance, _) in &self.found {
            counts[usize::from(*distance)] += 1;
        }
        let mut sum = 0;
        let enough = counts.iter().position(|count| {
            sum += count;
            sum >= self.wanted
        });
        self.limit = enough.map_or(self.limit, |limit| limit as u16);
        self.found.retain(|(distance, _)| *distance <= self.limit);
    }
}
