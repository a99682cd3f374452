//! The folder a call may work in, and what is fenced off inside and around it.
//!
//! Built by the host from the user's own environment and configuration; nothing in the
//! repository can change it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::closed::Closed;
use crate::policy::Policy;
use crate::protocol::SandboxSpec;
use crate::spec::ToolSpec;

/// Paths of a workspace that tools may not write: what runs code on the user's behalf
/// outside the sandbox, or steers an editor or an agent.
pub const PROTECTED: &[&str] = &[
    ".git/hooks",
    ".git/config",
    ".git/info/attributes",
    ".git/modules",
    ".lapce",
    ".vscode",
    ".idea",
    ".zed",
    ".fleet",
    ".cursor",
    ".claude",
    ".codex",
    ".roo",
    ".roomodes",
    ".cline",
    ".clinerules",
    ".windsurf",
    ".continue",
    ".gemini",
    ".mcp.json",
    ".aiignore",
    ".envrc",
    ".devcontainer",
    ".github/workflows",
    ".github/actions",
    ".gitlab-ci.yml",
    ".circleci",
    ".travis.yml",
    ".drone.yml",
    ".buildkite",
    ".woodpecker",
    ".woodpecker.yml",
    "azure-pipelines.yml",
    "Jenkinsfile",
    "bitbucket-pipelines.yml",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".config/fish",
    ".config/autostart",
    ".config/systemd",
    ".ssh",
    ".gitconfig",
];

/// Toolchains below the home folder, readable by commands where they exist. Only what
/// holds programs and sources: the files beside them may hold tokens.
const TOOLCHAINS: &[&str] = &[
    ".cargo/bin",
    ".cargo/registry",
    ".cargo/git",
    ".rustup",
    ".pyenv",
    ".rbenv",
    ".nodenv",
    ".goenv",
    ".asdf",
    ".nvm",
    ".volta",
    ".bun/bin",
    ".deno/bin",
    ".sdkman/candidates",
    ".jdks",
    ".m2/repository",
    ".gradle/wrapper",
    ".ghcup",
    ".opam",
    ".elan",
    ".juliaup",
    ".local/bin",
    ".local/lib",
    ".local/share/mise",
    ".local/share/uv",
    ".local/share/pnpm",
    ".nix-profile",
    "go/bin",
    "go/pkg",
];

/// Variables of the host that a command gets too, when they are set: where toolchains
/// lie, and the user's language. Nothing that can hold a key.
const PASSED: &[&str] = &[
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOPATH",
    "GOROOT",
    "JAVA_HOME",
    "PYENV_ROOT",
    "NVM_DIR",
    "NODE_PATH",
    "VIRTUAL_ENV",
    "USER",
    "LOGNAME",
];

/// Where tools work.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    /// Every call under way has a copy of this.
    sandbox: Arc<SandboxSpec>,
}

impl Workspace {
    /// `root` must be an existing folder that is not the whole disk.
    pub fn new(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize().map_err(|e| {
            io::Error::new(e.kind(), format!("the workspace {}: {e}", root.display()))
        })?;
        if !root.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!("{} is not a folder", root.display()),
            ));
        }
        if root.parent().is_none() || root.to_str().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} cannot be a workspace; open the project's folder", root.display()),
            ));
        }
        let sandbox = Arc::new(fence(|name| std::env::var_os(name)));
        Ok(Self { root, sandbox })
    }

    /// Absolute, without symlinks.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Adds folders that commands may read, from the user's configuration.
    #[must_use]
    pub fn readable(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Self {
        self.fence().read.extend(paths);
        self
    }

    /// Sets an environment variable for commands, from the user's configuration.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.fence().env.push((name.into(), value.into()));
        self
    }

    /// Lifts the protection of a path, from the user's configuration.
    #[must_use]
    pub fn unprotect(mut self, path: &str) -> Self {
        self.fence().protected.retain(|p| p != path);
        self
    }

    /// Shows commands files that git ignores and whose names say that they hold secrets;
    /// lines as in a `.gitignore`, from the user's configuration.
    #[must_use]
    pub fn show(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.fence().show.extend(lines);
        self
    }

    /// Hides from commands whatever git ignores, but for what [`Self::show`] names; from the
    /// user's configuration.
    #[must_use]
    pub fn hide_ignored(mut self) -> Self {
        self.fence().hide_ignored = true;
        self
    }

    /// The program of `browser_action`, from the user's configuration; otherwise it is
    /// looked for on PATH.
    #[must_use]
    pub fn browser(mut self, program: PathBuf) -> Self {
        self.fence().browser = Some(program);
        self
    }

    /// Switches a sandbox layer off ([`crate::sandbox::layer`]), from the user's own
    /// settings. Results name it as absent.
    #[must_use]
    pub fn without_layer(mut self, layer: &str) -> Self {
        self.fence().off.push(layer.into());
        self
    }

    /// The same folder with the paths closed that the user's rules deny to this tool.
    #[must_use]
    pub fn under(&self, policy: &Policy, spec: &ToolSpec) -> Self {
        self.clone().closed(policy.closed(Some(spec), &self.root))
    }

    /// Closes paths, in place of those that were closed before.
    #[must_use]
    pub fn closed(mut self, closed: Closed) -> Self {
        if self.sandbox.closed != closed {
            self.fence().closed = closed;
        }
        self
    }

    /// Lets one more folder be written; for the host's own orders.
    pub(crate) fn writable(mut self, path: &Path) -> Self {
        self.fence().write.push(path.to_owned());
        self
    }

    pub(crate) fn sandbox(&self) -> SandboxSpec {
        SandboxSpec::clone(&self.sandbox)
    }

    fn fence(&mut self) -> &mut SandboxSpec {
        Arc::make_mut(&mut self.sandbox)
    }

    /// Makes a private folder for one call.
    pub(crate) fn scratch() -> io::Result<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos());
        let name = format!("lapce-ai-call-{}-{n}-{time:x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        path.canonicalize()
    }
}

/// The fence for this user.
fn fence(var: impl Fn(&str) -> Option<OsString>) -> SandboxSpec {
    let absolute = |name: &str| var(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let home =
        absolute("HOME").and_then(|h| h.canonicalize().ok()).filter(|h| h.parent().is_some());
    let mut read: Vec<PathBuf> = Vec::new();
    if let Some(home) = &home {
        read.extend(TOOLCHAINS.iter().map(|t| home.join(t)));
    }
    for (name, parts) in [
        ("CARGO_HOME", &["bin", "registry", "git"][..]),
        ("RUSTUP_HOME", &[""]),
        ("GOROOT", &[""]),
        ("JAVA_HOME", &[""]),
        ("PYENV_ROOT", &[""]),
        ("NVM_DIR", &[""]),
    ] {
        let given = absolute(name).into_iter();
        // A variable may not open the home folder itself, nor the whole disk.
        let given = given.filter(|dir| {
            dir.parent().is_some() && home.as_deref().is_none_or(|home| !home.starts_with(dir))
        });
        read.extend(given.flat_map(|dir| parts.iter().map(move |p| dir.join(p))));
    }
    read.retain(|path| path.exists());
    read.sort();
    read.dedup();

    let system = crate::sandbox::view::SYSTEM.iter().map(Path::new);
    let allowed: Vec<&Path> = system.chain(read.iter().map(PathBuf::as_path)).collect();
    let path = var("PATH").unwrap_or_default();
    let mut folders: Vec<String> = std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute() && allowed.iter().any(|a| dir.starts_with(a)))
        .filter_map(|dir| dir.to_str().map(str::to_owned))
        .collect();
    let mut known = std::collections::HashSet::new();
    folders.retain(|folder| known.insert(folder.clone()));
    for usual in ["/usr/local/bin", "/usr/bin", "/bin"] {
        if !folders.iter().any(|f| f == usual) {
            folders.push(usual.into());
        }
    }
    let mut env = vec![
        ("PATH".to_owned(), folders.join(":")),
        ("TERM".into(), "dumb".into()),
        ("NO_COLOR".into(), "1".into()),
        ("PAGER".into(), "cat".into()),
        ("GIT_PAGER".into(), "cat".into()),
        ("GIT_TERMINAL_PROMPT".into(), "0".into()),
        ("DEBIAN_FRONTEND".into(), "noninteractive".into()),
    ];
    // A folder that a repository brings along is not taken for a repository, whose configuration
    // could name programs to run; and to look at files git asks no program.
    let git = [("safe.bareRepository", "explicit"), ("core.fsmonitor", "false")];
    env.push(("GIT_CONFIG_COUNT".into(), git.len().to_string()));
    for (n, (key, value)) in git.into_iter().enumerate() {
        env.push((format!("GIT_CONFIG_KEY_{n}"), key.into()));
        env.push((format!("GIT_CONFIG_VALUE_{n}"), value.into()));
    }
    for name in PASSED {
        if let Some(value) = var(name).and_then(|v| v.into_string().ok()) {
            env.push(((*name).into(), value));
        }
    }
    SandboxSpec {
        read,
        protected: PROTECTED.iter().map(|p| (*p).to_owned()).collect(),
        env,
        write: Vec::new(),
        home,
        scratch: None,
        show: Vec::new(),
        hide_ignored: false,
        browser: None,
        network: crate::sandbox::network::Network::default(),
        closed: Closed::default(),
        sealed: Vec::new(),
        host_network: false,
        off: Vec::new(),
    }
}
