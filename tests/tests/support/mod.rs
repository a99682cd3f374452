//! A small repository that the end-to-end tests work on.

use std::path::{Path, PathBuf};
use std::process::Command;

use lapce_ai_tests::TestHome;
use serde_json::Value;

/// Files in four languages; each holds one thing that a query can mean.
pub const FILES: &[(&str, &str)] = &[
    (
        "src/retry.rs",
        "//! Waiting between attempts.\n\n/// Doubles the delay after each failed attempt, up to a ceiling.\n\
         pub fn exponential_backoff(attempt: u32) -> u64 {\n    let base = 100_u64;\n    base.saturating_mul(1 << attempt.min(6))\n}\n",
    ),
    (
        "src/config.rs",
        "use std::path::Path;\n\npub struct Settings {\n    pub port: u16,\n}\n\n\
         /// Reads the settings file and falls back to defaults.\npub fn parse_settings_file(path: &Path) -> Settings {\n    \
         let text = std::fs::read_to_string(path).unwrap_or_default();\n    Settings { port: text.trim().parse().unwrap_or(8080) }\n}\n",
    ),
    (
        "lib/mailer.py",
        "class Mailer:\n    \"\"\"Sends messages over SMTP.\"\"\"\n\n    def deliver_message(self, recipient, body):\n        \
         connection = self.open_connection()\n        connection.sendmail(recipient, body)\n",
    ),
    (
        "web/cart.ts",
        "export function totalPriceWithTax(items: { price: number }[], rate: number): number {\n  \
         const net = items.reduce((sum, item) => sum + item.price, 0);\n  return net * (1 + rate);\n}\n",
    ),
    (
        "README.md",
        "# Shop\n\nA small shop.\n\n## Deployment\n\nCopy the binary to the server and restart it.\n",
    ),
    ("secret/key.rs", "pub fn forbidden_by_aiignore() {}\n"),
    ("build/out.rs", "pub fn ignored_by_git() {}\n"),
    (".aiignore", "secret/\n"),
    (".gitignore", "build/\n"),
];

/// The repository, with a first commit.
pub fn repository(home: &TestHome, name: &str) -> PathBuf {
    let root = home.workspace(name, FILES);
    git(&root, &["init", "--quiet"]);
    git(&root, &["add", "."]);
    git(
        &root,
        &[
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.invalid",
            "commit",
            "--quiet",
            "-m",
            "first",
        ],
    );
    root
}

pub fn git(root: &Path, args: &[&str]) {
    let status =
        Command::new("git").arg("-C").arg(root).args(args).status().expect("git is installed");
    assert!(status.success(), "git {args:?} ended with {status}");
}

/// Indexes and returns the build report.
#[track_caller]
pub fn index(home: &TestHome, root: &Path) -> Value {
    let lines = home
        .cli([std::ffi::OsStr::new("index"), root.as_os_str(), "--json".as_ref()])
        .ok()
        .json_lines();
    lines.last().expect("a report")["reply"].clone()
}

/// Searches and returns the hits.
#[track_caller]
pub fn search(home: &TestHome, root: &Path, words: &str) -> Vec<Value> {
    let reply = home.cli_in(root, ["search", words, "--json"]).ok().json();
    reply["hits"].as_array().expect("hits").clone()
}

/// Path of the best hit, or nothing.
#[track_caller]
pub fn best(home: &TestHome, root: &Path, words: &str) -> String {
    let hits = search(home, root, words);
    hits.first().map(|hit| hit["path"].as_str().expect("a path").to_owned()).unwrap_or_default()
}
