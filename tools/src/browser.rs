//! What `browser_action` may open, and with which program. Pure but for the look at PATH;
//! used by policy and host.

use std::path::{Path, PathBuf};

use crate::sandbox::network::{Network, split};

/// Names of Chromium and its relatives.
const NAMES: &[&str] = &[
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome-headless-shell",
    "microsoft-edge",
    "brave-browser",
];

/// The program to start: the one from the user's settings, or the first on PATH.
pub(crate) fn find(configured: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = configured {
        return path.canonicalize().map_err(|e| {
            format!("the browser {} from sandbox.browser in config.toml: {e}", path.display())
        });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|d| d.is_absolute()).collect();
    NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        // Not what a snap puts on PATH: that starts a service of the system instead.
        .filter(|file| !file.starts_with("/snap"))
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
        .ok_or_else(|| {
            "no browser was found on PATH; install chromium, or name one with sandbox.browser in \
             config.toml"
                .to_owned()
        })
}

/// What opening an address needs of the network. The error says why it cannot be opened.
pub(crate) fn address(url: &str, root: &Path) -> Result<Network, String> {
    if url.is_empty() {
        return Err("launch needs a url".into());
    }
    if let Some(path) = url.strip_prefix("file://") {
        let inside = root
            .to_str()
            .is_some_and(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/')));
        let plain = !path.contains("/../") && !path.ends_with("/..") && !path.contains('%');
        return if inside && plain {
            Ok(Network::default())
        } else {
            Err(format!("{url} is no file of the workspace; write file://{}/…", root.display()))
        };
    }
    let (rest, default) = match url.split_once("://") {
        Some(("http", rest)) => (rest, 80),
        Some(("https", rest)) => (rest, 443),
        _ => return Err("the url must begin with http://, https:// or file://".into()),
    };
    let authority = &rest[..rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len())];
    let (host, port) = split(authority).ok_or_else(|| format!("{url} names no host"))?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Network::parse([format!("{shown}:{}", port.unwrap_or(default))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_their_host_and_port() {
        let root = Path::new("/w/s");
        let need = |url: &str| address(url, root).map(|n| n.to_string());
        assert_eq!(need("https://a.com/x?y").unwrap(), "a.com:443");
        assert_eq!(need("http://localhost:3000").unwrap(), "localhost:3000");
        assert_eq!(need("http://127.0.0.1/").unwrap(), "localhost:80");
        assert_eq!(need("http://[::1]:8080/").unwrap(), "localhost:8080");
        assert_eq!(need("file:///w/s/index.html").unwrap(), "no network");
        // A browser takes a backslash for a slash.
        assert_eq!(need("http://a.com\\@b.com/").unwrap(), "a.com:80");
        for bad in [
            "",
            "a.com",
            "javascript:alert(1)",
            "data:text/html,x",
            "chrome://settings",
            "file:///etc/passwd",
            "file:///w/s/../x",
            "file:///w/sx/y",
            "file:///w/s/%2e%2e/x",
            "http://",
            "http://u:p@a.com/",
            "http://169.254.169.254/",
        ] {
            assert!(need(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_configured_browser_that_is_not_there_is_named() {
        let why = find(Some(Path::new("/none/chrome"))).unwrap_err();
        assert!(why.contains("/none/chrome") && why.contains("sandbox.browser"), "{why}");
    }
}
