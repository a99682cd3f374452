//! Which `lapce-ai-lsp` to start, and how.
//!
//! Each place is probed with `--version` through the host before anything is started:
//! Lapce never answers `startLspServer` for a program that cannot be spawned. The places
//! are fixed; no setting takes part, since a repository's settings override the user's.

use std::fmt::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use crate::psp::Host;

const PROGRAM: &str = "lapce-ai-lsp";
/// What the shim is started with; it takes no other arguments from here.
const ARGS: &[&str] = &["--stdio"];
/// Folders under `HOME` where a user's own installs go and which a desktop's `PATH` may lack.
const HOME_FOLDERS: &[&str] = &[".cargo/bin", ".local/bin"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the search depends on, taken from the environment that Lapce hands on.
#[derive(Debug, Default)]
pub(crate) struct Env {
    /// The volt's folder as a `file:` URI that ends in `/`.
    pub(crate) volt_uri: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) home: Option<String>,
    /// Whether the volt's folder holds the program, at `bin/`.
    pub(crate) bundled: bool,
}

impl Env {
    pub(crate) fn from_process() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            volt_uri: var("VOLT_URI"),
            path: var("PATH"),
            home: var("HOME"),
            // The volt's folder is the root of our file system.
            bundled: Path::new("/bin").join(PROGRAM).exists(),
        }
    }
}

/// One place to look: what to execute for the probe, and the same thing as a server URI.
#[derive(Debug, Clone, PartialEq)]
struct Candidate {
    program: String,
    uri: String,
}

impl Candidate {
    fn file(path: String) -> Self {
        Self { uri: format!("file://{}", percent_encode(&path)), program: path }
    }
}

/// A program that answered the probe and fits.
#[derive(Debug, PartialEq)]
pub(crate) struct Server {
    pub(crate) program: String,
    pub(crate) version: String,
    uri: String,
}

/// Why there is nothing to start. `Display` is what the user reads.
#[derive(Debug, PartialEq)]
pub(crate) enum Missing {
    NotFound,
    WrongVersion { program: String, found: String },
    Broken { program: String, why: String },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => write!(
                f,
                "{PROGRAM} was not found in the plugin's bin folder, on PATH, in ~/.cargo/bin or in \
                 ~/.local/bin. Run `cargo xtask volt` in a clone of the Lapce AI repository and \
                 install the folder it makes, or put the programs of release {VERSION} on PATH; \
                 then reload the plugin."
            ),
            Self::WrongVersion { program, found } => write!(
                f,
                "{program} is version {found}, but this plugin is {VERSION}. Install the programs \
                 of release {VERSION} (`cargo xtask volt` lays out both together), or update the \
                 plugin; then reload it."
            ),
            Self::Broken { program, why } => write!(
                f,
                "{program} does not run: {why}. Install the programs of release {VERSION} again, \
                 then reload the plugin."
            ),
        }
    }
}

/// The first place whose program answers with a fitting version. If none does, the most
/// telling of the reasons.
pub(crate) fn find(host: &mut impl Host, env: &Env) -> Result<Server, Missing> {
    let mut reason = Missing::NotFound;
    for Candidate { program, uri } in candidates(env) {
        let probe = host
            .request("host/executeProcess", json!({ "program": program, "args": ["--version"] }));
        let why = match probe {
            // Not there, which is the usual case, or not executable.
            Err(_) => continue,
            Ok(result) => match version_of(&result) {
                Ok(version) if fits(&version) => return Ok(Server { program, version, uri }),
                Ok(found) => Missing::WrongVersion { program, found },
                Err(why) => Missing::Broken { program, why },
            },
        };
        if !matches!(reason, Missing::WrongVersion { .. }) {
            reason = why;
        }
    }
    Err(reason)
}

/// Makes Lapce start the server for every file. Returns once the server has initialised.
pub(crate) fn start(host: &mut impl Host, server: &Server, options: &Value) -> Result<(), String> {
    host.request(
        "host/startLspServer",
        json!({
            "serverUri": server.uri,
            "serverArgs": ARGS,
            // No language: every file. Lapce ignores the scheme.
            "documentSelector": [{ "scheme": "file", "pattern": "**/*" }],
            "options": options,
        }),
    )
    .map(drop)
}

fn candidates(env: &Env) -> Vec<Candidate> {
    let mut list = Vec::new();
    if env.bundled
        && let Some(folder) = env.volt_uri.as_deref().and_then(|uri| uri.strip_prefix("file://"))
    {
        list.push(Candidate::file(format!(
            "{}/bin/{PROGRAM}",
            percent_decode(folder).trim_end_matches('/')
        )));
    }
    let path = env.path.as_deref().unwrap_or("");
    let folders = || path.split(':');
    if folders().all(|folder| folder.starts_with('/')) {
        list.push(Candidate { program: PROGRAM.into(), uri: format!("urn:{PROGRAM}") });
    } else {
        // An empty or relative entry means the current folder, which for the server is the
        // workspace: a cloned repository could bring its own program. Only fixed places.
        let fixed = folders().filter(|folder| folder.starts_with('/'));
        list.extend(fixed.map(|folder| Candidate::file(format!("{folder}/{PROGRAM}"))));
    }
    if let Some(home) = env.home.as_deref().filter(|home| home.starts_with('/')) {
        list.extend(HOME_FOLDERS.iter().map(|f| Candidate::file(format!("{home}/{f}/{PROGRAM}"))));
    }
    list
}

/// The version in the probe's output, `lapce-ai-lsp 0.1.0`.
fn version_of(result: &Value) -> Result<String, String> {
    let text = |key: &str| match result.get(key) {
        // Lapce sends the bytes as numbers.
        Some(Value::Array(bytes)) => {
            let bytes: Vec<u8> =
                bytes.iter().take(400).filter_map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes).trim().to_owned()
        }
        Some(Value::String(text)) => text.chars().take(400).collect(),
        _ => String::new(),
    };
    let stdout = text("stdout");
    let mut words = stdout.split_whitespace();
    match (words.next(), words.next()) {
        (Some(PROGRAM), Some(version)) if result["success"] == true => Ok(version.to_owned()),
        _ => {
            let stderr = text("stderr");
            let line = stderr.lines().chain(stdout.lines()).next().unwrap_or("it printed nothing");
            Err(format!("`{PROGRAM} --version` failed with \"{line}\""))
        }
    }
}

/// Same release line: equal major version, and equal minor version below 1.0.
fn fits(version: &str) -> bool {
    fn line(version: &str) -> Option<(u64, u64)> {
        let mut parts = version.split(['.', '-', '+']);
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        Some((major, if major == 0 { minor } else { 0 }))
    }
    line(version).is_some_and(|found| Some(found) == line(VERSION))
}

/// A path for a `file:` URI: everything but the unreserved characters and `/` escaped.
fn percent_encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with some programs: name, and what the probe gives.
    #[derive(Default)]
    struct FakeHost {
        programs: Vec<(&'static str, Value)>,
        log: Vec<(String, Value)>,
    }

    impl Host for FakeHost {
        fn request(&mut self, method: &str, params: Value) -> Result<Value, String> {
            let program = params["program"].as_str().unwrap_or_default().to_owned();
            self.log.push((method.into(), params));
            match self.programs.iter().find(|(name, _)| *name == program) {
                Some((_, result)) => Ok(result.clone()),
                None if method == "host/startLspServer" => Ok(json!({ "id": 4 })),
                None => Err("No such file or directory (os error 2)".into()),
            }
        }
        fn notify(&mut self, method: &str, params: Value) {
            self.log.push((method.into(), params));
        }
        fn reply(&mut self, _: &Value, _: Result<Value, String>) {}
    }

    fn prints(text: &str) -> Value {
        json!({ "success": true, "stdout": text.as_bytes(), "stderr": [] })
    }

    fn env() -> Env {
        Env {
            volt_uri: Some("file:///home/u/my%20volts/lapce-ai/".into()),
            path: Some("/usr/local/bin:/usr/bin".into()),
            home: Some("/home/u".into()),
            bundled: true,
        }
    }

    fn programs(env: &Env) -> Vec<String> {
        candidates(env).into_iter().map(|c| c.program).collect()
    }

    #[test]
    fn own_folder_then_path_then_home() {
        assert_eq!(
            programs(&env()),
            [
                "/home/u/my volts/lapce-ai/bin/lapce-ai-lsp",
                "lapce-ai-lsp",
                "/home/u/.cargo/bin/lapce-ai-lsp",
                "/home/u/.local/bin/lapce-ai-lsp",
            ]
        );
        assert_eq!(
            candidates(&env())[0].uri,
            "file:///home/u/my%20volts/lapce-ai/bin/lapce-ai-lsp"
        );
        assert_eq!(candidates(&env())[1].uri, "urn:lapce-ai-lsp");
    }

    #[test]
    fn a_path_with_the_current_folder_in_it_is_taken_apart() {
        for path in [".:/usr/bin", "/usr/bin:", "bin:/usr/bin", "/usr/bin::"] {
            let env = Env { path: Some(path.into()), ..Env::default() };
            assert_eq!(programs(&env), ["/usr/bin/lapce-ai-lsp"], "{path}");
        }
        assert!(programs(&Env::default()).is_empty());
    }

    #[test]
    fn the_first_that_fits_is_started() {
        let mut host = FakeHost {
            programs: vec![("lapce-ai-lsp", prints(&format!("lapce-ai-lsp {VERSION} (x)\n")))],
            ..FakeHost::default()
        };
        let server = find(&mut host, &env()).unwrap();
        assert_eq!(server.uri, "urn:lapce-ai-lsp");
        start(&mut host, &server, &json!({ "index.auto": true })).unwrap();
        let (method, params) = host.log.last().unwrap();
        assert_eq!(method, "host/startLspServer");
        assert_eq!(
            params,
            &json!({
                "serverUri": "urn:lapce-ai-lsp",
                "serverArgs": ["--stdio"],
                "documentSelector": [{ "scheme": "file", "pattern": "**/*" }],
                "options": { "index.auto": true },
            })
        );
    }

    #[test]
    fn an_old_program_is_passed_over_for_a_fitting_one() {
        let mut host = FakeHost {
            programs: vec![
                ("lapce-ai-lsp", prints("lapce-ai-lsp 9.9.9")),
                ("/home/u/.cargo/bin/lapce-ai-lsp", prints(&format!("lapce-ai-lsp {VERSION}"))),
            ],
            ..FakeHost::default()
        };
        assert_eq!(find(&mut host, &env()).unwrap().program, "/home/u/.cargo/bin/lapce-ai-lsp");
    }

    #[test]
    fn what_the_user_reads_names_the_program_and_the_next_step() {
        let mut host = FakeHost::default();
        let text = find(&mut host, &env()).unwrap_err().to_string();
        assert!(text.contains("was not found") && text.contains("cargo xtask volt"), "{text}");

        let mut host = FakeHost {
            programs: vec![
                ("lapce-ai-lsp", prints("lapce-ai-lsp 9.9.9")),
                ("/home/u/.cargo/bin/lapce-ai-lsp", prints("")),
            ],
            ..FakeHost::default()
        };
        let text = find(&mut host, &env()).unwrap_err().to_string();
        assert!(text.contains("lapce-ai-lsp is version 9.9.9") && text.contains(VERSION), "{text}");

        let mut host = FakeHost {
            programs: vec![(
                "lapce-ai-lsp",
                json!({ "success": false, "stdout": null, "stderr": b"GLIBC_2.39 not found\n".to_vec() }),
            )],
            ..FakeHost::default()
        };
        let text = find(&mut host, &env()).unwrap_err().to_string();
        assert!(text.contains("does not run") && text.contains("GLIBC_2.39 not found"), "{text}");
    }

    #[test]
    fn a_probe_may_return_anything() {
        for odd in [
            json!(null),
            json!([]),
            json!("x"),
            json!({}),
            json!({ "success": true, "stdout": [300, -1, "x"] }),
        ] {
            assert!(version_of(&odd).is_err(), "{odd}");
        }
        for other in ["", "bash: command not found", "lapce-ai-lsp", "other 0.1.0"] {
            assert!(version_of(&prints(other)).is_err(), "{other}");
        }
    }

    #[test]
    fn versions_of_one_line_fit() {
        let (major, minor) =
            VERSION.split_once('.').map(|(a, b)| (a, b.split('.').next().unwrap())).unwrap();
        assert!(fits(VERSION));
        assert!(fits(&format!("{major}.{minor}.99")));
        assert!(fits(&format!("{major}.{minor}.0-dev+abc")));
        for other in ["0.0.1", "9.0.0", "0.99.0", "", "x.y.z", "0", "99999999999999999999.1"] {
            assert!(!fits(other), "{other}");
        }
    }

    #[test]
    fn escapes_survive_a_round_trip() {
        for path in ["/a b/ü/100%/#?", "/plain", "/%41", "/tail%", "/tail%4"] {
            assert_eq!(percent_decode(&percent_encode(path)), path);
        }
        assert_eq!(percent_decode("/%zz%4"), "/%zz%4");
        assert_eq!(percent_decode("/é%"), "/é%");
    }
}
