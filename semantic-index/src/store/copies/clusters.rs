//! Groups vectors by direction, so that a question need look at the rows of near groups only.
//!
//! Spherical k-means over a sample, for `vectors`. Pure, and the same for the same vectors.

/// Vectors of the sample for each group.
pub(super) const SAMPLE: usize = 32;
const ROUNDS: usize = 5;
/// Times as long as its mean that a number of a centre can be.
const PEAK: f32 = 4.0;

/// The middles of the groups, all of one length, so that products with them compare.
#[derive(Debug)]
pub(super) struct Centres {
    dims: usize,
    bytes: Vec<i8>,
}

impl Centres {
    /// At most `count` groups of these vectors; zeros count for nothing.
    pub(super) fn train(sample: &[i8], dims: usize, count: usize) -> Self {
        let rows: Vec<&[i8]> =
            sample.chunks_exact(dims).filter(|row| row.iter().any(|v| *v != 0)).collect();
        let count = count.min(rows.len()).max(1);
        let mut centres = Self { dims, bytes: vec![0; count * dims] };
        for at in 0..rows.len().min(count) {
            let row: Vec<f32> =
                rows[at * rows.len() / count].iter().map(|v| f32::from(*v)).collect();
            centres.set(at, &row);
        }
        let mut sums = vec![0.0_f32; count * dims];
        for round in 0..ROUNDS {
            sums.fill(0.0);
            let mut sizes = vec![0_usize; count];
            for row in &rows {
                let at = centres.nearest(row);
                sizes[at] += 1;
                let scale = 1.0 / (dot(row, row) as f32).sqrt();
                for (sum, v) in sums[at * dims..][..dims].iter_mut().zip(*row) {
                    *sum += f32::from(*v) * scale;
                }
            }
            for (at, size) in sizes.iter().enumerate() {
                if *size > 0 {
                    let sum = sums[at * dims..][..dims].to_vec();
                    centres.set(at, &sum);
                } else if let Some(row) = rows.get((at * 7 + round * 13) * 31 % rows.len().max(1)) {
                    let row: Vec<f32> = row.iter().map(|v| f32::from(*v)).collect();
                    centres.set(at, &row);
                }
            }
        }
        centres
    }

    fn set(&mut self, at: usize, direction: &[f32]) {
        let square: f32 = direction.iter().map(|v| v * v).sum();
        let mean = (square / self.dims as f32).sqrt().max(f32::MIN_POSITIVE);
        for (to, v) in self.bytes[at * self.dims..][..self.dims].iter_mut().zip(direction) {
            *to = (v / mean * (127.0 / PEAK)).round().clamp(-127.0, 127.0) as i8;
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.bytes.len() / self.dims
    }

    pub(super) fn bytes(&self) -> &[i8] {
        &self.bytes
    }

    /// The group that the vector belongs to.
    pub(super) fn nearest(&self, vector: &[i8]) -> usize {
        let mut best = (i32::MIN, 0);
        products(&self.bytes, vector, |at, product| {
            if product > best.0 {
                best = (product, at);
            }
        });
        best.1
    }
}

/// The product of a vector with each of these.
pub(super) fn products(rows: &[i8], vector: &[i8], mut each: impl FnMut(usize, i32)) {
    const AT_ONCE: usize = 64;
    let mut out = [0; AT_ONCE];
    for (block, rows) in rows.chunks(AT_ONCE * vector.len().max(1)).enumerate() {
        let count = rows.len() / vector.len().max(1);
        some_products(rows, vector, &mut out[..count]);
        for (at, product) in out[..count].iter().enumerate() {
            each(block * AT_ONCE + at, *product);
        }
    }
}

fn some_products(rows: &[i8], vector: &[i8], out: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions, as just asked.
        unsafe { products_avx2(rows, vector, out) };
        return;
    }
    for (row, out) in rows.chunks_exact(vector.len()).zip(out) {
        *out = dot(row, vector);
    }
}

/// The same with wider registers, which not every x86-64 has.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn products_avx2(rows: &[i8], vector: &[i8], out: &mut [i32]) {
    for (row, out) in rows.chunks_exact(vector.len()).zip(out) {
        *out = dot(row, vector);
    }
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each instruction set")]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `groups` directions with a little noise, round robin.
    fn rows(count: usize, groups: usize, dims: usize) -> Vec<i8> {
        let mut state = 99_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as i8
        };
        let middles: Vec<i8> = (0..groups * dims).map(|_| next()).collect();
        let row = |n: usize| middles[n % groups * dims..][..dims].to_vec();
        (0..count).flat_map(row).map(|v| (v / 2).saturating_add(next() / 8)).collect()
    }

    #[test]
    fn rows_of_one_direction_come_into_one_group() {
        let (dims, groups) = (64, 8);
        let rows = rows(800, groups, dims);
        let centres = Centres::train(&rows, dims, 40);
        assert_eq!(centres.count(), 40);
        let of: Vec<usize> = rows.chunks_exact(dims).map(|row| centres.nearest(row)).collect();
        let mut seen = std::collections::HashMap::new();
        for (n, group) in of.iter().enumerate() {
            assert_eq!(*seen.entry(*group).or_insert(n % groups), n % groups, "row {n}");
        }
        assert!(seen.len() >= groups);
    }

    #[test]
    fn nothing_and_zeros_are_one_group() {
        for sample in [&[][..], &[0; 160]] {
            let centres = Centres::train(sample, 16, 5);
            assert_eq!((centres.count(), centres.nearest(&[3; 16])), (1, 0));
        }
    }

    #[test]
    fn products_are_the_same_with_every_instruction_set() {
        let rows = rows(130, 3, 100);
        let vector = &rows[700..800];
        let mut seen = 0;
        products(&rows, vector, |at, product| {
            assert_eq!(product, dot(&rows[at * 100..][..100], vector));
            seen += 1;
        });
        assert_eq!(seen, 130);
    }
}
