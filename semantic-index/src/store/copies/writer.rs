//! Writes one segment, and decides which segments a build writes.

use std::io;
use std::path::Path;

use super::{Light, files, lights, vectors, words};

/// A segment on its way to disk: its three files, row by row.
#[derive(Debug)]
pub struct Segment {
    words: words::Writer,
    words_path: std::path::PathBuf,
    lights: lights::Writer,
    vectors: Option<(vectors::Writer, usize, Vec<i8>)>,
}

impl Segment {
    pub fn create(db: &Path, number: u64, rows: usize, dims: usize) -> io::Result<Self> {
        let [words_path, lights, vectors] = files(db, number);
        let vectors = if dims > 0 {
            Some((vectors::Writer::create(&vectors, dims, rows)?, dims, Vec::new()))
        } else {
            None
        };
        let lights = lights::Writer::create(&lights, rows)?;
        Ok(Self { words: words::Writer::default(), words_path, lights, vectors })
    }

    pub fn push(
        &mut self,
        light: &Light<'_>,
        tokens: &str,
        vector: Option<&[i8]>,
    ) -> io::Result<()> {
        self.words.push(tokens);
        self.lights.push(light)?;
        if let Some((_, dims, values)) = &mut self.vectors {
            match vector.filter(|v| v.len() == *dims) {
                Some(vector) => values.extend_from_slice(vector),
                None => values.resize(values.len() + *dims, 0),
            }
        }
        Ok(())
    }

    /// Writes out what need not wait for the end.
    pub fn flush(&mut self) -> io::Result<()> {
        self.lights.flush()?;
        if let Some((writer, _, values)) = &mut self.vectors {
            writer.push(values)?;
            values.clear();
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.words.finish(&self.words_path)?;
        self.lights.finish()?;
        self.vectors.map_or(Ok(()), |(writer, ..)| writer.finish())
    }
}

/// Which of the segments with these live rows (and all rows) are written anew, when rows
/// that no segment has are `more`: those that lost half of their rows, and the small ones
/// up to the first that is larger than all that is written. Each row is thus written again
/// only when its segment doubles. None that holds more than `most` is written again.
pub fn fold(segments: &[(u64, u64)], more: u64, most: u64) -> Vec<bool> {
    let hollow = |(live, all): &(u64, u64)| live * 2 < *all && *live <= most;
    let mut folded: Vec<bool> = segments.iter().map(hollow).collect();
    let mut sum: u64 =
        more + segments.iter().zip(&folded).filter(|(_, f)| **f).map(|(s, _)| s.0).sum::<u64>();
    if sum == 0 {
        return folded;
    }
    let mut order: Vec<usize> = (0..segments.len()).filter(|at| !folded[*at]).collect();
    order.sort_by_key(|at| segments[*at].0);
    for at in order {
        let live = segments[at].0;
        if live > sum || live + sum > most {
            break;
        }
        folded[at] = true;
        sum += live;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_updates_keep_the_number_of_segments_and_the_work_small() {
        let mut segments = vec![(100_000_u64, 100_000_u64)];
        let (mut written, mut most) = (0, 0);
        for _ in 0..1000 {
            let folded = fold(&segments, 5, 131_072);
            let mut sum = 5;
            let mut left = Vec::new();
            for (segment, folded) in segments.iter().zip(folded) {
                if folded { sum += segment.0 } else { left.push(*segment) }
            }
            left.push((sum, sum));
            segments = left;
            written += sum;
            most = most.max(segments.len());
        }
        assert_eq!(segments.iter().map(|s| s.0).sum::<u64>(), 105_000);
        assert!(most <= 12, "{most} segments");
        assert!(written < 5000 * 12, "{written} rows written for 5000");
    }

    #[test]
    fn full_segments_stay_and_hollow_ones_go() {
        assert_eq!(fold(&[(131_000, 131_000), (100, 100)], 200, 131_072), [false, true]);
        assert_eq!(fold(&[(40, 100), (60, 100)], 0, 1000), [true, false]);
        assert_eq!(fold(&[(10, 10), (20, 20)], 0, 1000), [false, false]);
        assert_eq!(fold(&[(400, 1000), (10, 10), (70, 300)], 5, 80), [false, false, true]);
    }
}
