//! The profile for macOS's Seatbelt: a policy as a text, and nothing else, so that it is tested
//! on any system. In a profile the last rule that fits decides.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::policy::{Network, Policy};

/// What programs need of the system: libraries, frameworks, time zones, certificates.
const SYSTEM: [&str; 9] = [
    "/System",
    "/Library/Apple",
    "/Library/Developer/CommandLineTools",
    "/usr",
    "/bin",
    "/sbin",
    "/private/etc/ssl",
    "/private/var/db/timezone",
    "/private/var/select",
];

/// Devices that hold no state.
const DEVICES: [&str; 5] = ["null", "zero", "random", "urandom", "dtracehelper"];

/// The profile of `policy`. An error names a path that cannot stand in one.
pub fn profile(policy: &Policy) -> Result<String, String> {
    let mut text = String::from(
        "(version 1)\n(deny default)\n(allow process-fork)\n(allow process-info* (target same-sandbox))\n\
         (allow signal (target same-sandbox))\n(allow sysctl-read)\n\
         (allow mach-lookup (global-name \"com.apple.system.opendirectoryd.libinfo\"))\n",
    );
    let system: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
    for path in system.iter().chain(&policy.read).chain(&policy.write) {
        let path = quoted(path)?;
        let _ = writeln!(text, "(allow file-read* process-exec* (subpath {path}))");
    }
    for path in &policy.write {
        let _ = writeln!(text, "(allow file-write* (subpath {}))", quoted(path)?);
    }
    for name in DEVICES {
        let _ = writeln!(text, "(allow file-read* file-write-data (literal \"/dev/{name}\"))");
    }
    // The folders on the way to what may be read are looked through, not listed.
    for path in ways(system.iter().chain(&policy.read).chain(&policy.write)) {
        let _ = writeln!(text, "(allow file-read-metadata (literal {}))", quoted(&path)?);
    }
    network(&policy.network, &mut text);
    for path in &policy.protected {
        let _ = writeln!(text, "(deny file-write* (regex {}))", any_case(path, true)?);
        // Moved away with the folder that holds it, it would be writable.
        let folders = path.ancestors().skip(1);
        for folder in folders.take_while(|f| policy.write.iter().any(|w| f.starts_with(w))) {
            let _ = writeln!(text, "(deny file-write-unlink (regex {}))", any_case(folder, false)?);
        }
    }
    for path in &policy.hidden {
        let _ = writeln!(text, "(deny file-read* file-write* (regex {}))", any_case(path, true)?);
    }
    Ok(text)
}

fn network(network: &Network, text: &mut String) {
    match network {
        Network::Off => {}
        Network::Host => text.push_str("(allow network*)\n(allow system-socket)\n"),
        Network::Local { connect, listen } => {
            for port in connect {
                let _ =
                    writeln!(text, "(allow network-outbound (remote tcp \"localhost:{port}\"))");
            }
            for port in listen {
                let at = format!("(local tcp \"localhost:{port}\")");
                let _ = writeln!(text, "(allow network-bind {at})\n(allow network-inbound {at})");
            }
        }
    }
}

/// Every folder above these, once.
fn ways<'p>(paths: impl Iterator<Item = &'p PathBuf>) -> Vec<PathBuf> {
    let mut ways: Vec<PathBuf> =
        paths.flat_map(|path| path.ancestors().skip(1)).map(Path::to_owned).collect();
    ways.sort();
    ways.dedup();
    ways
}

/// An absolute path's text, when nothing in it could end the rule it stands in.
fn plain(path: &Path) -> Result<&str, String> {
    let refused = || format!("'{}' cannot be named in a sandbox profile", path.display());
    let text = path.to_str().ok_or_else(refused)?;
    let clean = text.starts_with('/')
        && !text.chars().any(char::is_control)
        && !text.split('/').any(|part| part == "..");
    if clean { Ok(text) } else { Err(refused()) }
}

fn quoted(path: &Path) -> Result<String, String> {
    let text = plain(path)?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// A regular expression for a path in any case, since most volumes ignore it, and for what is
/// below.
fn any_case(path: &Path, below: bool) -> Result<String, String> {
    let mut pattern = String::from("#\"^");
    for c in plain(path)?.chars() {
        match c {
            'a'..='z' | 'A'..='Z' => {
                let _ = write!(pattern, "[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase());
            }
            // A quote ends the text even when it is escaped in a pattern: any character fits.
            '"' | '\\' => pattern.push('.'),
            '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => {
                let _ =
                    write!(pattern, "[{}]", if c == '^' { "\\^".into() } else { c.to_string() });
            }
            // Its other spellings are not known here, so any will do.
            c if !c.is_ascii() => pattern.push_str(".+"),
            c => pattern.push(c),
        }
    }
    pattern.push_str(if below { "(/|$)\"" } else { "$\"" });
    Ok(pattern)
}
