//! Every key of `config.toml`, for `docs/reference/config.md`.

use std::fmt::Write as _;

/// Every key, for the generated reference; a test keeps it complete.
pub const REFERENCE: &[(&str, &str, &str)] = &[
    ("models.chat", "\"\"", "`provider/model` for `ask` and `run`"),
    ("models.complete", "\"\"", "`provider/model` for ghost text"),
    (
        "models.image",
        "\"\"",
        "`provider/model` for `generate_image`: a provider with an OpenAI-compatible `/images/generations`",
    ),
    (
        "models.detect_local",
        "true",
        "when `chat` is empty, look for llama-server (8080), Ollama (11434) and LM Studio (1234) on this machine",
    ),
    (
        "providers.NAME.kind",
        "required",
        "wire format: `openai`, `responses`, `anthropic`, `gemini`, `ollama`, `llamacpp`, `mistral`",
    ),
    (
        "providers.NAME.base_url",
        "the kind's own",
        "address up to and with the version, as in `https://api.openai.com/v1`",
    ),
    (
        "providers.NAME.key",
        "no key",
        "`{ env = \"NAME\" }` (a variable of the engine's environment) or `{ keyring = \"NAME\" }` (the desktop's keyring, through `secret-tool`)",
    ),
    ("providers.NAME.auth", "\"auto\"", "how the key is sent: `auto`, `bearer`, `api-key` (Azure)"),
    ("providers.NAME.plain_http", "false", "send the key over http to another machine"),
    ("providers.NAME.models.MODEL.context", "by name", "context window in tokens"),
    ("providers.NAME.models.MODEL.max_output", "4096", "longest answer in tokens"),
    ("providers.NAME.models.MODEL.tools", "by kind", "`native` (function calls) or `xml`"),
    (
        "providers.NAME.models.MODEL.fim",
        "by kind",
        "ghost text: `infill`, `suffix`, `mistral`, `ollama`, or marks of a family: `qwen`, `starcoder`, `codellama`, `deepseek`, `codestral`, `codegemma`",
    ),
    ("providers.NAME.models.MODEL.temperature", "the provider's", "sampling temperature"),
    (
        "providers.NAME.models.MODEL.images",
        "by name",
        "whether the model takes pictures: screenshots of the browser, images that it reads",
    ),
    ("network.ca_file", "none", "PEM file with more certificates to trust"),
    ("network.proxy", "environment", "`http://host:port` for all providers, or `none`"),
    ("network.connect_timeout_s", "10", "seconds for TCP and TLS"),
    ("network.first_byte_timeout_s", "120 (local 600)", "seconds until an answer begins"),
    ("network.idle_timeout_s", "60 (local 300)", "seconds of silence within an answer"),
    ("limits.run_tokens", "500000", "most tokens, in and out, of one agent run"),
    ("limits.run_turns", "25", "most model turns of one agent run"),
    (
        "sandbox.show",
        "[]",
        "files that git ignores and that look like secrets (`.env`, `*.pem`, …) which commands may see all the same; lines as in a `.gitignore`",
    ),
    (
        "sandbox.read",
        "[]",
        "files and folders that commands may read beside the workspace, such as `~/.aws`; what a command reads, a model may see",
    ),
    (
        "sandbox.env",
        "[]",
        "names of variables of the engine's environment that commands get, such as `AWS_PROFILE`; never a key that you would not show a model",
    ),
    (
        "sandbox.ignored",
        "\"build\"",
        "what commands see of the files that git ignores: `build` (all but those that look like secrets), or `hidden` (nothing but what `sandbox.show` names, as in `[\"/target/\"]`)",
    ),
    (
        "sandbox.unprotect",
        "[]",
        "protected paths of a workspace that tools may write all the same, as in `[\".github/workflows\"]`; never git's own",
    ),
    (
        "sandbox.off",
        "[]",
        "layers of the sandbox to do without, as `lapce-ai doctor sandbox` names them; a call on a system without them is refused otherwise",
    ),
    ("sandbox.browser", "by name on PATH", "the Chromium that `browser_action` starts"),
    ("index.disk_mb", "20000", "most that all indexes together take on disk, in MB"),
    (
        "index.shared.FOLDER",
        "none",
        "the team's index of the workspace FOLDER: `s3://bucket/prefix` or `file:///folder`; see docs/team-index.md",
    ),
    (
        "mcp.servers.NAME.command",
        "this or `url`",
        "an MCP server to start in the sandbox: a program's name or absolute path",
    ),
    (
        "mcp.servers.NAME.args",
        "none",
        "its arguments; `${workspace}` stands for the workspace's folder",
    ),
    (
        "mcp.servers.NAME.env",
        "none",
        "its variables: `\"text\"`, `{ env = \"NAME\" }` or `{ keyring = \"NAME\" }`, the last two with `prefix = \"text\"` if need be",
    ),
    ("mcp.servers.NAME.read", "none", "more folders it may read, and run programs from"),
    ("mcp.servers.NAME.write", "none", "more folders it may write"),
    (
        "mcp.servers.NAME.workspace",
        "\"read\"",
        "the workspace for it: `none`, `read`, or `write` (below what is there when it starts; protected paths never)",
    ),
    (
        "mcp.servers.NAME.network",
        "false",
        "hosts it may reach, as in `[\"api.github.com\", \"localhost:5432\"]`, through a proxy that its program must use; `true` gives it the host's network, every address and port",
    ),
    ("mcp.servers.NAME.memory_mb", "2048", "memory of the server and all it starts"),
    ("mcp.servers.NAME.processes", "128", "processes of the server"),
    (
        "mcp.servers.NAME.url",
        "this or `command`",
        "address of a server that speaks streamable HTTP",
    ),
    ("mcp.servers.NAME.headers", "none", "headers of each request, values as for `env`"),
    (
        "mcp.servers.NAME.oauth",
        "false",
        "`true`: it wants a login, made with `lapce-ai mcp login NAME`; the following say what discovery cannot",
    ),
    (
        "mcp.servers.NAME.oauth.client_id",
        "registered at the login",
        "a client that was registered by hand, for a service that registers none itself",
    ),
    ("mcp.servers.NAME.oauth.client_secret", "none", "its secret, written as `key` of a provider"),
    (
        "mcp.servers.NAME.oauth.callback_port",
        "any",
        "port of the redirect `http://127.0.0.1:PORT/callback` that such a client was registered with",
    ),
    ("mcp.servers.NAME.oauth.scopes", "those it asks for", "what a token is to allow"),
    (
        "mcp.servers.NAME.oauth.issuer",
        "the first it names",
        "the one authorization server to be used; it may be on a private network",
    ),
    ("mcp.servers.NAME.plain_http", "false", "ask another machine over http"),
    ("mcp.servers.NAME.enabled", "true", "`false` switches the server off"),
    ("mcp.servers.NAME.allow", "all", "patterns of tools that may be called, as in `[\"git_*\"]`"),
    ("mcp.servers.NAME.deny", "none", "patterns of tools that may not; stronger than `allow`"),
    ("mcp.servers.NAME.calls_per_minute", "120", "calls of all its tools in a minute"),
    ("mcp.servers.NAME.timeout_s", "60", "seconds one call may take"),
    (
        "mcp.servers.NAME.start_timeout_s",
        "30",
        "seconds until the server must have said what it is",
    ),
    ("mcp.servers.NAME.output_bytes", "102400", "text of one result that a model is given"),
    (
        "mcp.servers.NAME.tools.TOOL.calls_per_minute",
        "the server's",
        "calls of one tool in a minute",
    ),
    (
        "mcp.servers.NAME.tools.TOOL.timeout_s",
        "the server's",
        "seconds one call of this tool may take",
    ),
    (
        "index.embedder",
        "\"\"",
        "`provider/model` that makes the index's vectors, through `/embeddings` or Ollama's `/api/embed`; all indexed text is sent to it. `onnx:/FOLDER`: the local model whose `model.onnx` and `tokenizer.json` lie there, offline. Empty: the built-in table, offline",
    ),
    (
        "index.requests_per_minute",
        "0",
        "most requests to the embedder; 0: no limit but the provider's",
    ),
    ("index.price_per_million_tokens", "none", "shown as an estimate before a first index"),
    (
        "modes.NAME.summary",
        "required",
        "a mode of your own: one line on what it is for. `code`, `architect`, `ask` and `debug` are built in; the same name replaces one",
    ),
    ("modes.NAME.prompt", "required", "what the mode adds to the system prompt"),
    ("modes.NAME.allow", "required", "classes of tools: any of `read`, `write`, `execute`, `mcp`"),
    ("modes.NAME.files", "all", "glob of the files that writing tools may change in this mode"),
];

/// The reference as Markdown.
pub fn reference_markdown() -> String {
    let mut out = String::from(
        "# config.toml\n\nThe user's own file (`$XDG_CONFIG_HOME/lapce-ai/config.toml`); a repository cannot set any of this.\n\n\
         ```toml\n[models]\nchat = \"local/smollm2\"\n\n[providers.local]\nkind = \"llamacpp\"\nbase_url = \"http://127.0.0.1:8080/v1\"\n```\n\n\
         | key | default | meaning |\n|---|---|---|\n",
    );
    for (key, default, meaning) in REFERENCE {
        let _ = writeln!(out, "| `{key}` | {default} | {meaning} |");
    }
    out
}
