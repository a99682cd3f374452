//! Okapi BM25 in memory, with LanceDB's constants.
//!
//! The evaluation uses it to try ranking without a store; a test holds it against LanceDB.
//! The product searches mapped segments (`store::copies`).

use std::collections::HashMap;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// An inverted index over documents given as words separated by spaces.
#[derive(Debug, Default)]
pub struct Bm25 {
    postings: HashMap<String, Vec<(u32, u32)>>,
    lengths: Vec<u32>,
}

impl Bm25 {
    pub fn add(&mut self, document: &str) {
        let id = self.lengths.len() as u32;
        let mut length = 0;
        let mut counts: HashMap<&str, u32> = HashMap::new();
        for word in document.split_ascii_whitespace() {
            *counts.entry(word).or_default() += 1;
            length += 1;
        }
        for (word, count) in counts {
            match self.postings.get_mut(word) {
                Some(list) => list.push((id, count)),
                None => {
                    self.postings.insert(word.to_string(), vec![(id, count)]);
                }
            }
        }
        self.lengths.push(length);
    }

    /// The share of these words, each by its weight, that stand in a document.
    pub fn cover(&self, terms: &[String], id: u32) -> f32 {
        let (mut all, mut here) = (0.0, 0.0);
        for term in terms {
            let list = self.postings.get(term).map_or(&[][..], Vec::as_slice);
            let weight = self.idf(list.len());
            all += weight;
            if list.binary_search_by_key(&id, |(id, _)| *id).is_ok() {
                here += weight;
            }
        }
        here / all.max(f32::MIN_POSITIVE)
    }

    fn idf(&self, documents: usize) -> f32 {
        let (n, df) = (self.lengths.len() as f32, documents as f32);
        ((n - df + 0.5) / (df + 0.5) + 1.0).ln()
    }

    /// The best `limit` documents with their scores, best first.
    pub fn search(&self, terms: &[String], limit: usize) -> Vec<(u32, f32)> {
        let n = self.lengths.len() as f32;
        let mean = self.lengths.iter().map(|l| *l as f32).sum::<f32>() / n.max(1.0);
        let mut scores: HashMap<u32, f32> = HashMap::new();
        for term in terms {
            let Some(list) = self.postings.get(term) else { continue };
            let idf = self.idf(list.len());
            for &(id, tf) in list {
                let tf = tf as f32;
                let norm = K1 * (1.0 - B + B * self.lengths[id as usize] as f32 / mean);
                *scores.entry(id).or_default() += idf * tf * (K1 + 1.0) / (tf + norm);
            }
        }
        let mut out: Vec<_> = scores.into_iter().collect();
        out.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        out.truncate(limit);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_and_short_documents_win() {
        let mut index = Bm25::default();
        for document in
            ["open file read file", "open socket", "open door and window and wall and roof"]
        {
            index.add(document);
        }
        let ids = |terms: &[&str]| {
            let terms: Vec<_> = terms.iter().map(ToString::to_string).collect();
            index.search(&terms, 10).into_iter().map(|(id, _)| id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&["open"]), [1, 0, 2]);
        assert_eq!(ids(&["file", "open"])[0], 0);
        assert_eq!(ids(&["absent"]), [0_u32; 0]);
        let cover = |terms: &[&str], id| {
            let terms: Vec<_> = terms.iter().map(ToString::to_string).collect();
            index.cover(&terms, id)
        };
        assert!((cover(&["open", "socket"], 1) - 1.0).abs() < 1e-6);
        assert!(cover(&["open", "socket"], 0) < 0.3, "the common word is worth less");
        assert!(cover(&["absent"], 0) < 1e-6);
    }
}
