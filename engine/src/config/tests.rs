use std::fs;
use std::sync::Arc;

use lapce_ai_ipc::wire::ErrorKind;

use super::*;
use crate::limits::CONFIG_BYTES;

const FULL: &str = r#"
[models]
chat = "local/smollm2"
complete = "mistral/codestral-latest"
image = "mistral/codestral-latest"
detect_local = false

[providers.local]
kind = "llamacpp"
base_url = "http://127.0.0.1:8080/v1/"
key = { env = "OPENAI_API_KEY" }
auth = "bearer"
plain_http = false

[providers.local.models.smollm2]
context = 8192
max_output = 512
tools = "xml"
fim = "infill"
temperature = 0.2
images = true

[providers.mistral]
kind = "mistral"
key = { keyring = "mistral" }

[network]
ca_file = "/etc/corp.pem"
proxy = "http://proxy:3128"
connect_timeout_s = 5
first_byte_timeout_s = 6
idle_timeout_s = 7

[limits]
run_tokens = 1000
run_turns = 3

[sandbox]
show = [".env.test"]
browser = "/opt/chromium/chrome"
read = ["~/.aws", "/srv/data"]
env = ["AWS_PROFILE"]
ignored = "hidden"
unprotect = [".github/workflows"]
off = ["landlock"]

[index]
disk_mb = 500
embedder = "mistral/codestral-embed"
requests_per_minute = 60
price_per_million_tokens = 0.15

[index.shared]
"/home/me/monorepo" = "s3://team-index/monorepo"

[mcp.servers.git]
command = "mcp-server-git"
args = ["${workspace}"]
env = { A = "b" }
read = ["/srv/a"]
write = ["/srv/b"]
workspace = "none"
network = true
memory_mb = 512
processes = 10
enabled = false
allow = ["git_*"]
deny = ["git_reset"]
calls_per_minute = 10
timeout_s = 5
start_timeout_s = 6
output_bytes = 2000

[mcp.servers.git.tools.git_log]
calls_per_minute = 1
timeout_s = 2

[mcp.servers.far]
url = "http://example.org/mcp"
headers = { Authorization = { env = "TOKEN", prefix = "Bearer " } }
plain_http = true

[mcp.servers.easy]
url = "https://example.org/mcp"
oauth = true

[mcp.servers.login]
url = "https://example.com/mcp"

[mcp.servers.login.oauth]
client_id = "ours"
client_secret = { keyring = "mcp/ours" }
callback_port = 8123
scopes = ["read"]
issuer = "https://login.example.com"

[modes.review]
summary = "Reads changes"
prompt = "Review."
allow = ["read", "execute"]
files = "**/*.md"
"#;

fn problem(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn everything_at_once() {
    let config = Config::parse(FULL).unwrap();
    assert_eq!(config.chat, "local/smollm2");
    assert!(!config.detect_local);
    let local = &config.providers["local"];
    assert_eq!(local.base_url, "http://127.0.0.1:8080/v1");
    assert_eq!(local.key, Some(KeySource::Env("OPENAI_API_KEY".into())));
    assert_eq!(local.models["smollm2"].tools, Some(ToolForm::Xml));
    assert_eq!(config.providers["mistral"].base_url, "https://api.mistral.ai/v1");
    assert_eq!(config.providers["mistral"].key, Some(KeySource::Keyring("mistral".into())));
    assert_eq!(config.limits, Limits { run_tokens: 1000, run_turns: 3 });
    assert_eq!(Config::parse("").unwrap(), Config::default());
}

/// `FULL` uses every key of the structures; the reference must name exactly those.
#[test]
fn the_reference_is_complete() {
    fn walk(value: &toml::Value, path: &str, out: &mut Vec<String>) {
        // Names in these tables are the user's, not keys of ours.
        const FREE: [&str; 4] = [
            "providers.NAME.key",
            "mcp.servers.NAME.env",
            "mcp.servers.NAME.headers",
            "mcp.servers.NAME.oauth.client_secret",
        ];
        match value {
            toml::Value::Table(table) if !FREE.contains(&path) => {
                for (name, value) in table {
                    let name = match path {
                        "providers" | "mcp.servers" | "modes" => "NAME",
                        "mcp.servers.NAME.tools" => "TOOL",
                        "providers.NAME.models" => "MODEL",
                        "index.shared" => "FOLDER",
                        _ => name,
                    };
                    walk(
                        value,
                        &if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") },
                        out,
                    );
                }
            }
            _ => out.push(path.to_owned()),
        }
    }
    let mut used = Vec::new();
    walk(&toml::Value::Table(FULL.parse().unwrap()), "", &mut used);
    used.sort();
    used.dedup();
    let mut listed: Vec<String> = REFERENCE.iter().map(|(key, ..)| (*key).to_owned()).collect();
    listed.sort();
    assert_eq!(used, listed);
    assert!(reference_markdown().contains("| `limits.run_turns` | 25 |"));
}

#[test]
fn problems_name_the_place() {
    assert_eq!(
        problem("[models]\nchatt = \"a/b\"\n"),
        "line 2, column 1: unknown field `chatt`, expected one of `chat`, `complete`, `image`, `detect_local`"
    );
    assert!(problem("[models]\nchat = \n").starts_with("line 2, column 8: "));
    assert_eq!(
        problem("[models]\nchat = \"x/y\"\n"),
        "line 2, column 8: there is no [providers.x] (known: none)"
    );
    assert_eq!(
        problem("[models]\nchat = \"xy\"\n"),
        "line 2, column 8: \"xy\" is not of the form provider/model"
    );
    assert!(
        problem("[providers.a]\nkind = \"telnet\"\n")
            .contains("line 2, column 8: unknown variant `telnet`, expected one of `openai`")
    );
    assert!(problem("[limits]\nrun_turns = -1\n").starts_with("line 2, column 13: "));
    assert!(
        problem("[providers.a]\nkind = \"openai\"\nbase_url = \"ftp://x\"\n")
            .contains("line 3, column 12: base_url must begin with http")
    );
    assert!(problem("[providers.a]\n").contains("missing field `kind`"));
}

#[test]
fn a_key_in_the_file_is_refused_and_not_repeated() {
    for key in [
        "\"sk-very-secret\"",
        "{ value = \"sk-very-secret\" }",
        "{ env = \"sk-very:secret\" }",
        "{ env = \"A\", keyring = \"sk-very-secret\" }",
        "[\"sk-very-secret\"]",
        "{ sk-very-secret = 1 }",
    ] {
        let said = problem(&format!("[providers.a]\nkind = \"openai\"\nkey = {key}\n"));
        assert!(said.starts_with("line 3, column"), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let said =
        problem("[providers.a]\nkind = \"openai\"\nbase_url = \"https://me:hunter2@host/v1\"\n");
    assert!(
        said.contains("must not hold a user name or password") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn keys_do_not_travel_unencrypted_unless_told_to() {
    let text = |extra: &str| {
        format!(
            "[providers.a]\nkind = \"openai\"\nbase_url = \"http://10.0.0.1/v1\"\nkey = {{ env = \"K\" }}\n{extra}"
        )
    };
    assert!(problem(&text("")).contains("line 4, column 7: the key of a would travel unencrypted"));
    assert!(Config::parse(&text("plain_http = true\n")).is_ok());
    assert!(
        is_loopback("http://localhost:1/v1")
            && is_loopback("http://[::1]:1")
            && is_loopback("http://127.3.2.1")
    );
    assert!(!is_loopback("http://127.0.0.1.evil.org") && !is_loopback("http://localhost.evil.org"));
}

#[test]
fn the_store_follows_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let store = ConfigStore::new(file.clone());
    assert_eq!(*store.get().unwrap(), Config::default());
    fs::write(&file, "[limits]\nrun_turns = 7\n").unwrap();
    assert_eq!(store.get().unwrap().limits.run_turns, 7);
    assert!(Arc::ptr_eq(&store.get().unwrap(), &store.get().unwrap()));
    fs::write(&file, "[limit]\nrun_turns = 77\n").unwrap();
    let error = store.get().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(
        error.message.contains("config.toml, line 1, column 2: unknown field `limit`"),
        "{}",
        error.message
    );
    assert!(error.hint.contains("correct line 1"));
    fs::write(&file, vec![b'#'; CONFIG_BYTES as usize + 1]).unwrap();
    assert!(store.get().unwrap_err().message.contains("longer than"));
    fs::write(&file, b"\xff").unwrap();
    assert!(store.get().is_err());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(store.get().unwrap_err().message.contains("not a regular file"));
}

#[test]
fn what_commands_may_read_is_absolute_or_below_the_home_folder() {
    let sandbox = Config::parse(FULL).unwrap().sandbox;
    let home = std::path::Path::new("/home/ada");
    let paths = sandbox.readable(Some(home)).unwrap();
    assert_eq!(paths, ["/home/ada/.aws", "/srv/data"].map(std::path::PathBuf::from));
    assert!(sandbox.readable(None).unwrap_err().contains("~/.aws"));
    for bad in ["off = [\"selinux\"]", "unprotect = [\".git/hooks\"]", "unprotect = [\"src\"]"] {
        let problem = Config::parse(&format!("[sandbox]\n{bad}\n")).unwrap_err().to_string();
        assert!(problem.contains("sandbox."), "{problem}");
    }
    let config = Config::parse("[sandbox]\nread = [\"../x\"]\n").unwrap();
    assert!(config.sandbox.readable(Some(home)).unwrap_err().contains("../x"));
}
