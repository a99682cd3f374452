//! Decides from a file's name and bytes whether it belongs in the index.
//!
//! Pure; called by the build for each file it reads. What is skipped is counted by
//! reason, so that "why is this file not found" has an answer.

use crate::limits::{MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_MEAN_LINE_BYTES, SNIFF_BYTES};

/// Why a file is not in the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    TooLarge,
    Binary,
    Minified,
    Lockfile,
    Secret,
    Unreadable,
    NotAFile,
    Name,
}

impl Skip {
    const ALL: [Self; 8] = [
        Self::TooLarge,
        Self::Binary,
        Self::Minified,
        Self::Lockfile,
        Self::Secret,
        Self::Unreadable,
        Self::NotAFile,
        Self::Name,
    ];

    /// As stored beside a file, never 0.
    pub fn code(self) -> u8 {
        Self::ALL.iter().position(|s| *s == self).map_or(0, |at| at as u8 + 1)
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "too large",
            Self::Binary => "binary",
            Self::Minified => "minified or data",
            Self::Lockfile => "lock file or source map",
            Self::Secret => "may hold secrets",
            Self::Unreadable => "unreadable",
            Self::NotAFile => "not a regular file",
            Self::Name => "name is not UTF-8",
        }
    }
}

/// What the name and size alone say.
pub fn by_name(path: &str, size: u64) -> Option<Skip> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if is_secret(path, name) {
        return Some(Skip::Secret);
    }
    if is_lockfile(name) {
        return Some(Skip::Lockfile);
    }
    if size > MAX_FILE_BYTES {
        return Some(Skip::TooLarge);
    }
    let lower = name.to_ascii_lowercase();
    if BINARY_EXTENSIONS.contains(&lower.rsplit_once('.').map_or("", |(_, ext)| ext)) {
        return Some(Skip::Binary);
    }
    if lower.ends_with(".min.js") || lower.ends_with(".min.css") || lower.ends_with(".bundle.js") {
        return Some(Skip::Minified);
    }
    None
}

const BINARY_EXTENSIONS: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "gif",
    "webp",
    "ico",
    "bmp",
    "tiff",
    "svg",
    "pdf",
    "zip",
    "gz",
    "bz2",
    "xz",
    "zst",
    "tar",
    "7z",
    "rar",
    "jar",
    "class",
    "o",
    "a",
    "so",
    "dylib",
    "dll",
    "exe",
    "wasm",
    "pyc",
    "woff",
    "woff2",
    "ttf",
    "otf",
    "eot",
    "mp3",
    "mp4",
    "ogg",
    "webm",
    "mov",
    "avi",
    "sqlite",
    "db",
    "parquet",
    "onnx",
    "safetensors",
    "bin",
    "dat",
    "snap.png",
];

fn is_lockfile(name: &str) -> bool {
    matches!(
        name,
        "Cargo.lock"
            | "package-lock.json"
            | "yarn.lock"
            | "pnpm-lock.yaml"
            | "go.sum"
            | "poetry.lock"
            | "uv.lock"
            | "Gemfile.lock"
            | "composer.lock"
            | "Pipfile.lock"
            | "flake.lock"
            | "bun.lockb"
            | "npm-shrinkwrap.json"
    ) || name.rsplit('.').next() == Some("map")
}

fn is_secret(path: &str, name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let extension = lower.rsplit_once('.').map_or("", |(_, ext)| ext);
    let example = ["example", "sample", "template", "dist"].iter().any(|e| lower.contains(e));
    (lower == ".env" || lower.starts_with(".env.")) && !example
        || matches!(
            extension,
            "pem" | "key" | "p12" | "pfx" | "keystore" | "jks" | "kdbx" | "ppk" | "asc" | "gpg"
        )
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].iter().any(|k| lower == *k)
        || matches!(
            lower.as_str(),
            ".netrc" | ".pypirc" | ".npmrc" | ".htpasswd" | ".git-credentials" | ".pgpass"
        )
        || matches!(
            lower.as_str(),
            "secrets.yml" | "secrets.yaml" | "secrets.json" | "secrets.toml" | "credentials.json"
        )
        || lower == "credentials" && path.contains(".aws/")
}

/// The text of a file, or why it has none.
pub fn text_of(bytes: Vec<u8>) -> Result<String, Skip> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Skip::TooLarge);
    }
    let text = match bytes.get(..2) {
        Some([0xff, 0xfe]) => utf16(&bytes[2..], u16::from_le_bytes)?,
        Some([0xfe, 0xff]) => utf16(&bytes[2..], u16::from_be_bytes)?,
        _ => {
            if bytes[..bytes.len().min(SNIFF_BYTES)].contains(&0) {
                return Err(Skip::Binary);
            }
            match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => {
                    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                    let broken = text.chars().filter(|c| *c == char::REPLACEMENT_CHARACTER).count();
                    if broken * 10 > text.len() {
                        return Err(Skip::Binary);
                    }
                    text
                }
            }
        }
    };
    let (mut longest, mut start, mut lines) = (0, 0, 1);
    for (at, byte) in text.bytes().enumerate() {
        if byte == b'\n' {
            longest = longest.max(at - start);
            start = at + 1;
            lines += 1;
        }
    }
    longest = longest.max(text.len() - start);
    if longest > MAX_LINE_BYTES || (longest > 2_000 && text.len() / lines > MAX_MEAN_LINE_BYTES) {
        return Err(Skip::Minified);
    }
    Ok(text)
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Result<String, Skip> {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).collect::<Result<_, _>>().map_err(|_| Skip::Binary)
}

/// What ranking should know about a file beyond its path.
pub mod flags {
    pub const TEST: u8 = 1;
    pub const GENERATED: u8 = 2;
    /// Examples, fixtures, benches, documentation samples.
    pub const AUXILIARY: u8 = 4;
    pub const VENDORED: u8 = 8;
    /// Prose and configuration, not code.
    pub const PROSE: u8 = 16;
    /// Re-exports and declarations only: `__init__.py`, `mod.rs` of a few lines, `.d.ts`.
    pub const BARREL: u8 = 32;
}

/// The flags of a file.
pub fn flags_of(path: &str, text: &str) -> u8 {
    let mut out = 0;
    let lower = path.to_ascii_lowercase();
    let (dirs, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let stem = name.split('.').next().unwrap_or(name);
    let in_dir = |wanted: &[&str]| dirs.split('/').any(|d| wanted.contains(&d));
    if in_dir(&[
        "test",
        "tests",
        "__tests__",
        "spec",
        "specs",
        "e2e",
        "testdata",
        "test-d",
        "typetests",
    ]) || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || stem.ends_with("_spec")
        || (stem.len() > 4
            && lower.rsplit('.').next() == Some("java")
            && (stem.ends_with("test") || stem.ends_with("tests")))
        || stem == "tests"
        || stem == "test"
        || stem == "conftest"
        || name.contains(".test.")
        || name.contains(".spec.")
        || name.contains(".test-d.")
    {
        out |= flags::TEST;
    }
    if in_dir(&[
        "example",
        "examples",
        "samples",
        "sample",
        "fixtures",
        "bench",
        "benches",
        "benchmarks",
        "demo",
        "demos",
        "docs_src",
        "docs",
        "playground",
        "_examples",
        "__mocks__",
        "mocks",
        "__fixtures__",
    ]) {
        out |= flags::AUXILIARY;
    }
    if in_dir(&[
        "vendor",
        "third_party",
        "thirdparty",
        "node_modules",
        "deps",
        "external",
        "legacy",
        "compat",
        "_compat",
        "deprecated",
    ]) {
        out |= flags::VENDORED;
    }
    let head = crate::chunk::cut(text, 1_000);
    if [
        "@generated",
        "DO NOT EDIT",
        "Code generated by",
        "automatically generated",
        "Autogenerated",
        "auto-generated",
    ]
    .iter()
    .any(|m| head.contains(m))
        || name.ends_with(".pb.go")
        || name.ends_with("_pb2.py")
        || name.ends_with(".g.dart")
        || in_dir(&["generated", "__generated__"])
    {
        out |= flags::GENERATED;
    }
    if !matches!(crate::lang::format_of(path), crate::lang::Format::Code(_)) {
        out |= flags::PROSE;
    }
    if name.ends_with(".d.ts")
        || matches!(name, "__init__.py" | "package-info.java")
        || (stem == "index" && is_barrel(text))
    {
        out |= flags::BARREL;
    }
    out
}

/// Most lines only pass names on.
fn is_barrel(text: &str) -> bool {
    let mut exports = 0;
    let mut lines = 0;
    for line in
        text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")).take(200)
    {
        lines += 1;
        exports += usize::from(
            line.starts_with("export *")
                || line.starts_with("export {")
                || line.starts_with("export type {")
                || line.starts_with("import "),
        );
    }
    lines > 0 && exports * 2 > lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_enter() {
        for path in [
            ".env",
            "a/.env.production",
            "keys/id_rsa",
            "x/server.pem",
            ".aws/credentials",
            "tls.key",
            ".netrc",
        ] {
            assert_eq!(by_name(path, 10), Some(Skip::Secret), "{path}");
        }
        for path in [".env.example", "src/keys.rs", "src/credentials.rs", "environment.py"] {
            assert_eq!(by_name(path, 10), None, "{path}");
        }
    }

    #[test]
    fn names_and_sizes() {
        assert_eq!(by_name("a.bin.txt", MAX_FILE_BYTES + 1), Some(Skip::TooLarge));
        assert_eq!(by_name("Cargo.lock", 1), Some(Skip::Lockfile));
        assert_eq!(by_name("logo.PNG", 1), Some(Skip::Binary));
        assert_eq!(by_name("jquery.min.js", 1), Some(Skip::Minified));
    }

    #[test]
    fn bytes_become_text_or_a_reason() {
        assert_eq!(text_of(b"fn main() {}".to_vec()).as_deref(), Ok("fn main() {}"));
        assert_eq!(text_of(b"\x7fELF\0\0".to_vec()), Err(Skip::Binary));
        assert_eq!(text_of(vec![0xe9; 100]), Err(Skip::Binary));
        assert!(
            text_of([b"caf\xe9 ", &b"plain words ".repeat(9)[..]].concat())
                .unwrap()
                .contains("plain")
        );
        assert_eq!(text_of(vec![b'x'; MAX_LINE_BYTES + 1]), Err(Skip::Minified));
        assert_eq!(text_of(vec![0xff, 0xfe, b'h', 0, b'i', 0]).as_deref(), Ok("hi"));
        assert_eq!(text_of(Vec::new()).as_deref(), Ok(""));
    }

    #[test]
    fn tests_and_generated_code_are_flagged() {
        for path in [
            "tests/a.rs",
            "src/a_test.go",
            "test_app.py",
            "src/x.spec.ts",
            "FooTest.java",
            "src/tests.rs",
        ] {
            assert_eq!(flags_of(path, "") & flags::TEST, flags::TEST, "{path}");
        }
        for path in ["src/testing.rs", "src/latest.rs", "contest.py"] {
            assert_eq!(flags_of(path, "") & flags::TEST, 0, "{path}");
        }
        assert_eq!(
            flags_of("a.go", "// Code generated by protoc. DO NOT EDIT.") & flags::GENERATED,
            flags::GENERATED
        );
    }
}
