//! Makes a large repository from a small real one, for `index-scale`.
//!
//! The files of the source are copied again and again. In copy `k` the parts of identifiers
//! (`parse`, `Http`, `request`) change places with parts about as common in the source:
//! parts are ranked by how often they occur and permuted within bands of equal rank, by a
//! permutation of the copy's own. Words so keep their distribution, files their shape, and
//! no two copies have the same text. The 300 most common parts, which hold the keywords,
//! stay, so that grammars still parse; one identifier in fifty gets a number of its copy, as
//! vocabulary grows with a real repository. Only letters and digits of ASCII are touched.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// Larger files of the source are left out: they would be most of the bytes.
const MAX_SOURCE_BYTES: u64 = 64 << 10;
/// The most common parts stay.
const KEPT: usize = 300;
/// Parts that change places lie this near in rank.
const BAND: usize = 64;
/// What makes a file source text here.
const EXTENSIONS: [&str; 24] = [
    "rs", "py", "ts", "tsx", "js", "jsx", "go", "c", "h", "cc", "cpp", "hpp", "java", "kt", "rb",
    "php", "cs", "swift", "scala", "lua", "sh", "md", "toml", "yml",
];

pub struct Generator {
    files: Vec<(PathBuf, String)>,
    /// Parts by rank, the common ones first.
    ranks: HashMap<String, usize>,
    parts: Vec<String>,
}

impl Generator {
    /// Reads the source repository.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        collect(root, root, &mut files)?;
        ensure!(!files.is_empty(), "{} holds no source files", root.display());
        files.sort();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (_, text) in &files {
            pieces(text, |piece| {
                if let Piece::Part(part) = piece {
                    *counts.entry(part.to_ascii_lowercase()).or_default() += 1;
                }
            });
        }
        let mut parts: Vec<(String, usize)> = counts.into_iter().collect();
        parts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let parts: Vec<String> = parts.into_iter().map(|(part, _)| part).collect();
        let ranks = parts.iter().cloned().enumerate().map(|(rank, part)| (part, rank)).collect();
        Ok(Self { files, ranks, parts })
    }

    /// Writes `count` files below `to` and returns their bytes.
    pub fn write(&self, to: &Path, count: usize) -> Result<u64> {
        let mut bytes = 0;
        for n in 0..count {
            let (copy, at) = (n / self.files.len(), n % self.files.len());
            let (path, text) = &self.files[at];
            let text = self.renamed(text, copy as u64);
            let path = to.join(format!("group_{}/copy_{copy}", copy / 20)).join(path);
            fs::create_dir_all(path.parent().context("no folder")?)?;
            fs::write(&path, &text)
                .with_context(|| format!("failed to write {}", path.display()))?;
            bytes += text.len() as u64;
        }
        Ok(bytes)
    }

    pub fn source_files(&self) -> usize {
        self.files.len()
    }

    fn renamed(&self, text: &str, copy: u64) -> String {
        let mut out = String::with_capacity(text.len() + text.len() / 16);
        let mut last_word = 0_u64;
        pieces(text, |piece| match piece {
            Piece::Other(text) => {
                if last_word.is_multiple_of(50) && last_word != 0 && copy > 0 {
                    out.push('_');
                    out.push_str(&copy.to_string());
                }
                last_word = 0;
                out.push_str(text);
            }
            Piece::Part(part) => {
                let (other, hash) = self.other(part, copy);
                last_word = last_word.rotate_left(7) ^ hash | 1 << 63;
                // Keywords and other common words never get a number.
                if hash == 0 {
                    last_word = 0;
                }
                if part.bytes().next().is_some_and(|b| b.is_ascii_uppercase()) {
                    let capitals = part.len() > 1 && part.bytes().all(|b| !b.is_ascii_lowercase());
                    for (n, c) in other.chars().enumerate() {
                        out.push(if n == 0 || capitals { c.to_ascii_uppercase() } else { c });
                    }
                } else {
                    out.push_str(other);
                }
            }
        });
        out
    }

    /// The part that stands here in this copy, and a number of its own (0: it stays).
    fn other<'a>(&'a self, part: &'a str, copy: u64) -> (&'a str, u64) {
        let lower = part.to_ascii_lowercase();
        let Some(rank) = self.ranks.get(&lower).copied().filter(|rank| *rank >= KEPT) else {
            return (part_lower(&self.parts, &self.ranks, part), 0);
        };
        if copy == 0 {
            return (&self.parts[rank], mix(rank as u64));
        }
        // An affine permutation of the band: an odd factor has an inverse modulo 64.
        let band = (rank - KEPT) / BAND;
        let start = KEPT + band * BAND;
        let size = BAND.min(self.parts.len() - start);
        let seed = mix(copy ^ (band as u64) << 32);
        let at = if size == BAND {
            ((rank - start) as u64).wrapping_mul(seed | 1).wrapping_add(seed >> 32) as usize % BAND
        } else {
            (rank - start + seed as usize % size) % size
        };
        (&self.parts[start + at], mix(seed ^ rank as u64))
    }
}

fn part_lower<'a>(parts: &'a [String], ranks: &HashMap<String, usize>, part: &'a str) -> &'a str {
    ranks.get(&part.to_ascii_lowercase()).map_or(part, |rank| &parts[*rank])
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

enum Piece<'a> {
    /// One part of an identifier, of one case but for its first letter.
    Part(&'a str),
    Other(&'a str),
}

/// Cuts a text into parts of identifiers and what lies between.
fn pieces<'a>(text: &'a str, mut each: impl FnMut(Piece<'a>)) {
    let bytes = text.as_bytes();
    let (mut at, mut other) = (0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        if other < at {
            each(Piece::Other(&text[other..at]));
        }
        let start = at;
        at += 1;
        if bytes[start].is_ascii_uppercase() {
            // `HTTPServer`: the run of capitals, without the one that begins the next part.
            while at < bytes.len() && bytes[at].is_ascii_uppercase() {
                at += 1;
            }
            if at - start > 1 && at < bytes.len() && bytes[at].is_ascii_lowercase() {
                at -= 1;
            }
        }
        if at - start == 1 {
            while at < bytes.len() && bytes[at].is_ascii_lowercase() {
                at += 1;
            }
        }
        each(Piece::Part(&text[start..at]));
        other = at;
    }
    if other < bytes.len() {
        each(Piece::Other(&text[other..]));
    }
}

fn collect(root: &Path, folder: &Path, out: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() && name != "target" && name != "node_modules" && name != ".git" {
            collect(root, &path, out)?;
        }
        let source = path.extension().is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known));
        if kind.is_file() && source && entry.metadata()?.len() <= MAX_SOURCE_BYTES {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            out.push((path.strip_prefix(root)?.to_path_buf(), text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_differ_and_keep_their_shape() {
        let dir = tempfile::tempdir().unwrap();
        let letter = |n: u8| char::from(b'a' + n % 26);
        let words: Vec<String> = (0..700_u16)
            .map(|n| format!("w{}{}", letter((n / 26) as u8), letter((n % 26) as u8)))
            .collect();
        let lines: Vec<String> =
            words.iter().map(|w| format!("let {w}Value = HTTPServer_{w}(1);\n")).collect();
        let body = lines.concat();
        fs::write(dir.path().join("a.rs"), &body).unwrap();
        let generator = Generator::read(dir.path()).unwrap();
        assert_eq!(generator.source_files(), 1);
        let texts: Vec<String> = (0..3).map(|copy| generator.renamed(&body, copy)).collect();
        assert_eq!(texts[0], body, "the first copy is the source");
        assert_ne!(texts[1], texts[2]);
        for text in &texts {
            assert_eq!(text.lines().count(), body.lines().count());
            assert!(text.lines().all(|line| line.starts_with("let ") && line.ends_with("(1);")));
        }
    }

    #[test]
    fn texts_are_cut_without_loss() {
        for text in ["", "HTTPServer2 größe_ÄndernX\n  aB", "x", "__init__ ABC"] {
            let mut joined = String::new();
            pieces(text, |piece| match piece {
                Piece::Part(t) | Piece::Other(t) => joined.push_str(t),
            });
            assert_eq!(joined, text);
        }
    }
}
