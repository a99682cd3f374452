//! `outline`: the definitions of files that are handed over on standard input.
//!
//! Started by `lapce-ai-tool` inside its fence for `list_code_definition_names`: it opens no
//! file and no index. Input is a row of `path length, text length` (four bytes each, little
//! endian), path, text; output is the text a model is given, written when the input has
//! ended, so that neither side waits for the other.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};

use lapce_ai_index::chunk::outline;
use lapce_ai_index::limits::{OUTLINE_BYTES, OUTLINE_FILE_BYTES, OUTLINE_PATH_BYTES};

pub(crate) fn run() -> anyhow::Result<()> {
    let text = read(&mut io::stdin().lock())?;
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn read(input: &mut impl Read) -> anyhow::Result<String> {
    let mut parser = tree_sitter::Parser::new();
    let mut out = String::new();
    let mut left_out = 0;
    while let Some((path, text)) = next(input)? {
        if out.len() >= OUTLINE_BYTES {
            left_out += 1;
            continue;
        }
        let Ok(text) = String::from_utf8(text) else { continue };
        let Some(items) = outline::outline(&mut parser, &path, &text) else { continue };
        if items.is_empty() {
            continue;
        }
        let _ = writeln!(out, "# {path}");
        for item in items {
            let _ = writeln!(out, "{}--{} | {}", item.start_line, item.end_line, item.head);
        }
        out.push('\n');
    }
    if left_out > 0 {
        let _ = writeln!(out, "[… {left_out} more files; name one of them, or a folder below]");
    }
    Ok(out)
}

/// The next file, or `None` at the end of the input.
fn next(input: &mut impl Read) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    let mut head = [0; 8];
    match input.read_exact(&mut head[..1]) {
        Ok(()) => input.read_exact(&mut head[1..])?,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let [path, text] = [0, 4].map(|at| {
        let number = head[at..at + 4].iter().rev();
        number.fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
    });
    anyhow::ensure!(path <= OUTLINE_PATH_BYTES, "a path of {path} bytes");
    anyhow::ensure!(text <= OUTLINE_FILE_BYTES, "a file of {text} bytes");
    let (mut name, mut content) = (vec![0; path], vec![0; text]);
    input.read_exact(&mut name)?;
    input.read_exact(&mut content)?;
    Ok(Some((String::from_utf8_lossy(&name).into_owned(), content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(path: &str, text: &[u8]) -> Vec<u8> {
        let mut frame = (path.len() as u32).to_le_bytes().to_vec();
        frame.extend((text.len() as u32).to_le_bytes());
        frame.extend(path.as_bytes());
        frame.extend(text);
        frame
    }

    #[test]
    fn files_in_their_order() {
        let input = [
            frame("b.py", b"def f():\n  pass\n"),
            frame("a.txt", b"x"),
            frame("a.rs", b"fn a() {}"),
        ];
        let text = read(&mut input.concat().as_slice()).unwrap();
        assert_eq!(text, "# b.py\n1--2 | def f():\n\n# a.rs\n1--1 | fn a() {}\n\n");
        assert_eq!(read(&mut [].as_slice()).unwrap(), "");
    }

    #[test]
    fn broken_input_is_an_error() {
        let whole = frame("a.rs", b"fn a() {}");
        for cut in 1..whole.len() {
            assert!(read(&mut &whole[..cut]).is_err(), "{cut}");
        }
        assert!(read(&mut [0xff; 8].as_slice()).is_err());
        assert_eq!(read(&mut frame("a.rs", b"fn \xff() {}").as_slice()).unwrap(), "");
    }

    #[test]
    fn the_output_is_bounded() {
        let long = frame("a.rs", "fn f() {}\n".repeat(4_000).as_bytes());
        let text = read(&mut long.repeat(12).as_slice()).unwrap();
        assert!(text.len() < 2 * OUTLINE_BYTES && text.contains("more files"));
    }
}
