//! Names of files and folders that hold secrets, and of folders that builds make. Tools ask
//! about what git ignores, the engine about every text that an editor sends; names come in
//! lower case.

/// Endings of keys, key stores, states and password files.
const ENDINGS: &[&str] = &[
    ".pem",
    ".key",
    ".p8",
    ".p12",
    ".pfx",
    ".jks",
    ".keystore",
    ".kdbx",
    ".ppk",
    ".ovpn",
    ".gpg",
    ".age",
    ".asc",
    ".env",
    ".tfvars",
    ".tfvars.json",
    ".tfstate",
    ".tfstate.backup",
    ".mobileprovision",
    ".htpasswd",
];

const NAMES: &[&str] = &[
    ".netrc",
    "_netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".yarnrc",
    ".pypirc",
    ".git-credentials",
    ".dockercfg",
    ".dockerconfigjson",
    ".boto",
    ".s3cfg",
    ".vault-token",
    ".terraformrc",
    ".htpasswd",
    ".envrc",
    "kubeconfig",
    "auth.json",
    "google-services.json",
    "local.settings.json",
    "master.key",
];

/// Names before the first dot, whatever kind of data follows.
const STEMS: &[&str] = &[
    "secret",
    "secrets",
    "credential",
    "credentials",
    "token",
    "tokens",
    "password",
    "passwords",
    "passwd",
    "apikey",
    "apikeys",
    "api_key",
    "api_keys",
    "api-key",
    "api-keys",
    "private_key",
    "private-key",
    "service-account",
    "service_account",
    "serviceaccount",
    "client_secret",
    "client_secrets",
    "client-secret",
];

/// Kinds of data that a stem may have; source code with such a name is no secret.
const DATA: &[&str] = &[
    "",
    "json",
    "yml",
    "yaml",
    "toml",
    "ini",
    "txt",
    "conf",
    "cfg",
    "properties",
    "xml",
    "enc",
    "csv",
    "plist",
];

/// Copies that are there to be read.
const SAMPLES: &[&str] = &[".example", ".sample", ".template", ".dist", ".pub"];

const FOLDERS: &[&str] = &[
    "secret",
    "secrets",
    ".secrets",
    "credentials",
    ".credentials",
    ".aws",
    ".azure",
    ".gcloud",
    ".ssh",
    ".gnupg",
    ".kube",
    ".docker",
];

const BUILD_FOLDERS: &[&str] = &[
    "target",
    "node_modules",
    "bower_components",
    "vendor",
    "build",
    ".build",
    "_build",
    "dist",
    "dist-newstyle",
    ".stack-work",
    "out",
    "bin",
    "obj",
    ".venv",
    "venv",
    "__pycache__",
    ".tox",
    ".nox",
    ".eggs",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".gradle",
    ".next",
    ".nuxt",
    ".svelte-kit",
    ".output",
    ".turbo",
    ".cache",
    ".parcel-cache",
    "coverage",
    "htmlcov",
    ".dart_tool",
    "deriveddata",
    "pods",
    "elm-stuff",
    "deps",
    "zig-cache",
    ".zig-cache",
    "zig-out",
];

/// Whether a file of that name (lower case) holds secrets.
pub fn is_file(name: &str) -> bool {
    if SAMPLES.iter().any(|s| name.ends_with(s)) {
        return false;
    }
    let (stem, rest) = name.split_once('.').unwrap_or((name, ""));
    name == ".env"
        || name.starts_with(".env.")
        || NAMES.contains(&name)
        || ENDINGS.iter().any(|e| name.ends_with(e))
        || ["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"].contains(&stem)
        || (STEMS.contains(&stem) && DATA.contains(&rest.rsplit('.').next().unwrap_or_default()))
        || (stem.contains("service-account") && rest == "json")
}

pub(super) fn is_folder(name: &str) -> bool {
    FOLDERS.contains(&name)
}

pub(super) fn is_build_folder(name: &str) -> bool {
    BUILD_FOLDERS.contains(&name) || name.starts_with("cmake-build-") || name.ends_with(".egg-info")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets() {
        for name in [
            ".env",
            ".env.production",
            "prod.env",
            "server.pem",
            "id_ed25519",
            "credentials",
            "secrets.yml",
            "secrets.prod.json",
            "my-service-account-1.json",
            "terraform.tfstate",
            "x.auto.tfvars",
            ".npmrc",
            "token",
            "token.txt",
        ] {
            assert!(is_file(name), "{name}");
        }
        for name in [
            ".env.example",
            "id_rsa.pub",
            "main.o",
            "cargo.lock",
            "secrets.rs",
            "token.go",
            "environment.ts",
            "keys.rs",
            "tokenizer.json",
            "config.h",
            ".eslintcache",
        ] {
            assert!(!is_file(name), "{name}");
        }
        assert!(is_folder(".aws") && !is_folder("src"));
        assert!(is_build_folder("target") && is_build_folder("cmake-build-debug"));
        assert!(!is_build_folder("local"));
    }
}
