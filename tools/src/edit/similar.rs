//! How alike two pieces of text are, by edit distance, within bounds.

/// Characters of a line compared; what is beyond counts as equal only when it is.
const MAX_LINE: usize = 400;

/// Likeness of two blocks with the same number of lines, 0 to 1, weighted by length.
/// Gives up with 0 once it cannot reach `floor`.
pub(super) fn lines(a: &[&str], b: &[&str], floor: f64) -> f64 {
    let weight = |x: &str, y: &str| x.chars().count().max(y.chars().count()).max(1);
    let total: usize = a.iter().zip(b).map(|(x, y)| weight(x, y)).sum();
    let mut lost = 0usize;
    for (x, y) in a.iter().zip(b) {
        if x == y {
            continue;
        }
        lost +=
            if x.len() > MAX_LINE || y.len() > MAX_LINE { weight(x, y) } else { distance(x, y) };
        if 1.0 - (lost as f64 / total as f64) < floor {
            return 0.0;
        }
    }
    1.0 - lost as f64 / total.max(1) as f64
}

/// Levenshtein distance in characters.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
        assert_eq!(distance("é", "e"), 1);
        assert!((lines(&["abcd", "x"], &["abce", "x"], 0.0) - 0.8).abs() < 1e-9);
        assert!(lines(&["abcd"], &["wxyz"], 0.5) < f64::EPSILON);
    }
}
