use super::*;
use crate::config::Config;

fn server(text: &str) -> ServerConfig {
    let text = format!("[mcp.servers.s]\n{text}\n");
    Config::parse(&text).unwrap().mcp.remove("s").unwrap()
}

fn problem(text: &str) -> String {
    Config::parse(text).unwrap_err().message
}

#[test]
fn a_program_with_its_fence() {
    let config = server(
        "command = \"mcp-server-git\"\nargs = [\"-r\", \"${workspace}\"]\nworkspace = \"write\"\nread = [\"/srv/data\"]\n\
         env = { A = \"literal\", TOKEN = { env = \"GH\", prefix = \"x \" } }\nallow = [\"git_*\"]\ndeny = [\"git_reset\"]\n\
         timeout_s = 5\ntools.git_log.timeout_s = 7\n",
    );
    assert!(config.allows("git_log") && !config.allows("git_reset") && !config.allows("other"));
    assert_eq!(config.tool_timeout("git_log"), Duration::from_secs(7));
    assert_eq!(config.tool_timeout("git_show"), Duration::from_secs(5));
    assert_eq!(config.shown(), "mcp-server-git -r ${workspace}");
    assert_eq!(config.network(), "no network");
    let named = server("command = \"x\"\nnetwork = [\"api.github.com\"]");
    assert!(named.network().starts_with("reaches api.github.com"), "{}", named.network());
    assert!(server("command = \"x\"\nnetwork = true").network().contains("every address"));
    let Transport::Stdio(stdio) = &config.transport else { panic!() };
    assert_eq!(stdio.workspace, Access::Write);
    assert_eq!(stdio.read, [PathBuf::from("/srv/data")]);
    assert_eq!(config.secrets().count(), 1);
    assert_ne!(config.fingerprint(), server("command = \"other\"").fingerprint());
    assert!(server("command = \"x\"").allows("anything"));
}

#[test]
fn an_address_with_its_headers() {
    let config = server(
        "url = \"https://example.org/mcp\"\nheaders = { Authorization = { keyring = \"k\", prefix = \"Bearer \" } }",
    );
    assert_eq!(config.network(), "asked over the network");
    assert_eq!(config.shown(), "https://example.org/mcp");
    assert!(server("url = \"http://127.0.0.1:3845/mcp\"").network().contains("this machine"));
}

#[test]
fn mistakes_are_named_and_values_are_not_printed() {
    for (text, words) in [
        ("[mcp.servers.s]\n", "either a command or a url"),
        ("[mcp.servers.s]\ncommand = \"a\"\nurl = \"https://x\"", "either a command or a url"),
        ("[mcp.servers.\"a/b\"]\ncommand = \"a\"", "a server's name is"),
        ("[mcp.servers.s]\ncommand = \"./a\"", "absolute path"),
        ("[mcp.servers.s]\ncommand = \"a\"\nfoo = 1", "unknown field `foo`"),
        ("[mcp.servers.s]\ncommand = \"a\"\nallow = [\"[\"]", "is no pattern"),
        ("[mcp.servers.s]\ncommand = \"a\"\nread = [\"/\"]", "is not an absolute folder"),
        ("[mcp.servers.s]\ncommand = \"a\"\nread = [\"x\"]", "is not an absolute folder"),
        ("[mcp.servers.s]\ncommand = \"a\"\nenv = { LD_PRELOAD = \"x\" }", "no name of a variable"),
        ("[mcp.servers.s]\ncommand = \"a\"\nenv = { A = { file = \"sk-secret\" } }", "a value is"),
        ("[mcp.servers.s]\ncommand = \"a\"\ncalls_per_minute = 0", "at least 1"),
        ("[mcp.servers.s]\ncommand = \"a\"\nnetwork = [\"a b\"]", "cannot be granted"),
        ("[mcp.servers.s]\ncommand = \"a\"\nnetwork = \"x\"", "a list of hosts"),
        ("[mcp.servers.s]\nurl = \"http://example.org/\"", "unencrypted"),
        ("[mcp.servers.s]\nurl = \"https://u:p@example.org/\"", "user name or password"),
        (
            "[mcp.servers.s]\nurl = \"https://x/\"\nargs = [\"a\"]",
            "belong to a server with a command",
        ),
        (
            "[mcp.servers.s]\ncommand = \"a\"\nheaders = { A = \"b\" }",
            "belong to a server with a url",
        ),
    ] {
        let problem = problem(text);
        assert!(problem.contains(words), "{text}: {problem}");
        assert!(!problem.contains("sk-secret"), "{problem}");
    }
}
