//! `file:` URIs and paths. No I/O; anything else than a local file is `None`.

use std::path::{Path, PathBuf};

pub(super) fn from_path(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    let mut uri = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

pub(super) fn to_path(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return None;
    }
    let end = path.find(['?', '#']).unwrap_or(path.len());
    // A path that is no UTF-8 cannot be named to the engine.
    let decoded = String::from_utf8(decode(&path[..end])).ok()?;
    (!decoded.contains('\0')).then(|| PathBuf::from(decoded))
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .filter(|hex| hex.iter().all(u8::is_ascii_hexdigit))
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_a_round_trip() {
        for path in ["/a/b.rs", "/a b/ü#?%41", "/", "/%", "/日本"] {
            assert_eq!(to_path(&from_path(Path::new(path))).as_deref(), Some(Path::new(path)));
        }
        assert_eq!(from_path(Path::new("/a b/ü")), "file:///a%20b/%C3%BC");
    }

    #[test]
    fn only_local_files() {
        assert_eq!(to_path("file://localhost/x"), Some("/x".into()));
        assert_eq!(to_path("file:///x%2g%"), Some("/x%2g%".into()));
        for other in [
            "",
            "http://a/b",
            "untitled:1",
            "file://host/x",
            "file:x",
            "file:///%ff",
            "file:///%00",
        ] {
            assert_eq!(to_path(other), None, "{other}");
        }
    }
}
