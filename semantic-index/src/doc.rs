//! What the full-text index holds for a chunk.
//!
//! One string of words separated by spaces: the chunk's own words, then the words of its
//! place (file name twice, folders, names of enclosing definitions) so that a chunk is
//! found by where it lies, too. Pure; the query side is `rank::Query::terms`.

use crate::chunk::Chunk;
use crate::tokens;

/// The words of one chunk. `code` is the chunk's text.
pub fn index_text(path: &str, chunk: &Chunk, code: &str) -> String {
    let mut out = String::with_capacity(code.len() + code.len() / 2 + 128);
    add(&mut out, code);
    place(path, chunk, &mut out);
    out
}

fn place(path: &str, chunk: &Chunk, out: &mut String) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = name.split('.').next().unwrap_or(name);
    add(out, stem);
    add(out, stem);
    // The last folders say what the file is about; the first ones are the same for all.
    let near = folder.rsplit('/').take(3).collect::<Vec<_>>();
    for part in near {
        add(out, part);
    }
    add(out, &chunk.symbol);
    add(out, &chunk.crumb);
}

fn add(out: &mut String, text: &str) {
    tokens::for_each(text, |word| {
        out.push_str(tokens::stem(word));
        out.push(' ');
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_found_by_its_place() {
        let chunk = Chunk {
            start: 0,
            end: 0,
            start_line: 1,
            end_line: 1,
            symbol: "open".into(),
            kind: "function",
            crumb: "TcpListener".into(),
        };
        let text = index_text("src/net/tcp_listener.rs", &chunk, "bind()");
        let words: Vec<_> = text.split(' ').collect();
        for wanted in ["bind", "net", "listen", "tcp", "open", "tcplisten"] {
            assert!(words.contains(&wanted), "{wanted} in {words:?}");
        }
    }
}
