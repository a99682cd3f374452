//! A real Chromium for tests: the headless build that the npm package holds, packed with
//! brotli. Nothing is installed: it is unpacked into the cache folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::ctx::{Ctx, on_path, run};

const PACKAGE: &str = "@sparticuz/chromium@153.0.0";
/// Unpacks one file; node has brotli built in.
const UNPACK: &str = "const z=require('zlib'),f=require('fs');const [,i,o]=process.argv;\
                      require('stream').pipeline(f.createReadStream(i),z.createBrotliDecompress(),\
                      f.createWriteStream(o),e=>{if(e){console.error(e.message);process.exit(1)}})";

/// What a test needs.
pub struct Chromium {
    pub program: PathBuf,
    /// Libraries it needs, where the system has none.
    pub libraries: PathBuf,
}

/// Fetches it once; later calls only look.
pub fn fetch(ctx: &Ctx) -> Result<Chromium> {
    let dir = ctx.cache.join("chromium");
    let found = Chromium { program: dir.join("chromium"), libraries: dir.join("lib") };
    if found.program.is_file() && found.libraries.is_dir() {
        return Ok(found);
    }
    ensure!(
        on_path("npm") && on_path("node"),
        "npm is missing; `apt-get install nodejs npm` brings it"
    );
    let fresh = crate::fetch::beside(ctx, "chromium")?;
    let at = |name: &str| fresh.path().join(name);
    let archive = crate::fetch::npm_pack(PACKAGE, fresh.path())?;
    run(Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(fresh.path()))?;
    fs::remove_file(archive)?;
    for (packed, name) in [("chromium.br", "chromium"), ("al2023.tar.br", "libraries.tar")] {
        let packed = at("package/bin").join(packed);
        run(Command::new("node").args(["-e", UNPACK]).arg(packed).arg(at(name)))
            .with_context(|| format!("{PACKAGE} does not hold {name} as it used to"))?;
    }
    run(Command::new("tar").arg("xf").arg(at("libraries.tar")).arg("-C").arg(fresh.path()))?;
    run(Command::new("chmod").arg("+x").arg(at("chromium")))?;
    ensure!(at("lib").is_dir(), "{PACKAGE} brought no libraries");
    fs::remove_dir_all(at("package"))?;
    fs::remove_file(at("libraries.tar"))?;
    crate::fetch::place(fresh, &dir)?;
    Ok(found)
}
