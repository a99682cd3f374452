//! The profile for Seatbelt, word for word. After an intended change run with `UPDATE_GOLDEN=1`
//! and read the diff.

use std::path::PathBuf;

use lapce_ai_fence::policy::{Network, Policy};
use lapce_ai_fence::seatbelt::profile;

fn check(name: &str, policy: &Policy) {
    let text = profile(policy).unwrap();
    let path = std::env::current_dir().unwrap().join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(want == text, "{name} differs from tests/golden/{name}; what it is now:\n{text}");
}

fn paths(list: &[&str]) -> Vec<PathBuf> {
    list.iter().map(PathBuf::from).collect()
}

fn command() -> Policy {
    Policy {
        read: paths(&["/Users/ann/.cargo/bin"]),
        write: paths(&["/Users/ann/code/my \"app\"", "/private/tmp/call-1"]),
        protected: paths(&["/Users/ann/code/my \"app\"/.git/hooks"]),
        hidden: paths(&["/Users/ann/code/my \"app\"/.env"]),
        ..Policy::default()
    }
}

#[test]
fn a_command_without_network() {
    check("command.sb", &command());
}

#[test]
fn a_command_with_the_proxy_and_a_port_to_listen_on() {
    let network = Network::Local { connect: vec![18080], listen: vec![3000] };
    check("online.sb", &Policy { network, ..command() });
}

#[test]
fn a_tool_that_reads() {
    check("read.sb", &Policy { read: paths(&["/w"]), ..Policy::default() });
}

/// Nothing in a path ends its rule or adds another.
#[test]
fn hostile_names_are_held_or_refused() {
    for bad in ["/w/a\nb", "relative", "/w/../etc", "/w/\u{7}"] {
        for list in 0..4 {
            let mut policy = Policy::default();
            let lists =
                [&mut policy.read, &mut policy.write, &mut policy.protected, &mut policy.hidden];
            lists.into_iter().nth(list).unwrap().push(bad.into());
            assert!(profile(&policy).is_err(), "{bad:?} in list {list}");
        }
    }
    let name = r#"/w/x")) (allow default) ("y\"#;
    let policy = Policy {
        read: paths(&[name]),
        write: paths(&[name]),
        protected: paths(&[name]),
        hidden: paths(&[name]),
        ..Policy::default()
    };
    for line in profile(&policy).unwrap().lines() {
        let mut depth = 0;
        let (mut quoted, mut escaped) = (false, false);
        for (at, c) in line.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '(' if !quoted => depth += 1,
                ')' if !quoted => {
                    depth -= 1;
                    assert!(depth > 0 || at + 1 == line.len(), "one rule a line: {line}");
                }
                _ => {}
            }
        }
        assert!(depth == 0 && !quoted, "{line}");
    }
}
