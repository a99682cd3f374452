//! Changes of the user's own files, `config.toml` and `rules.toml`: read within a limit, and
//! replaced at once, for this user alone. Used by `mcp`, `index` and
//! `rules`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use lapce_ai_ipc::launch::ENGINE_PROGRAM;
use lapce_ai_ipc::paths::{self, Paths};
use toml_edit::DocumentMut;

use super::exit::{Code, Failure, Outcome};

/// Largest file that is changed; the engine reads no larger one.
const FILE_BYTES: u64 = 256 << 10;

/// Replaces `path` by what `change` makes of its text (empty when there is no file), once
/// `check` has no objection to a file with the new one.
pub fn change(
    path: &Path,
    change: impl FnOnce(&str) -> Outcome<String>,
    check: impl FnOnce(&Path) -> Outcome,
) -> Outcome {
    let failed = |error: io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new(Code::Failed, message, "check its folder's permissions and free space")
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    paths::private_dir(dir).map_err(failed)?;
    let text = change(&read(path).map_err(failed)?)?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let new = dir.join(format!(".{stem}-{}.toml", std::process::id()));
    let written = write(&new, &text)
        .map_err(failed)
        .and_then(|()| check(&new))
        .and_then(|()| fs::rename(&new, path).map_err(failed));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Changes `config.toml`: format and comments stay, and the engine checks the new text.
pub fn config(edit: impl FnOnce(&mut DocumentMut) -> Outcome) -> Outcome {
    let path = Paths::from_env().config_file();
    let edited = |old: &str| {
        let mut document: DocumentMut = old.parse().map_err(|error: toml_edit::TomlError| {
            let message = format!("{} is no TOML: {}", path.display(), error.message());
            Failure::new(Code::Usage, message, "correct the file first")
        })?;
        edit(&mut document)?;
        Ok(document.to_string())
    };
    change(&path, edited, accepted)
}

/// Asks the engine's program whether it would take the file: it alone knows every key.
fn accepted(file: &Path) -> Outcome {
    let missing = |what: String| Failure::new(Code::Unavailable, what, "run `lapce-ai doctor`");
    let program = paths::find_program(ENGINE_PROGRAM)
        .ok_or_else(|| missing(format!("the program {ENGINE_PROGRAM} was not found")))?;
    let checked = std::process::Command::new(&program)
        .arg("--check-config")
        .arg(file)
        .output()
        .map_err(|error| missing(format!("{}: {error}", program.display())))?;
    if checked.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&checked.stderr).trim().to_owned();
    let said = said.replace(&format!("{}, ", file.display()), "");
    let message = said.strip_prefix("lapce-ai-engine: ").unwrap_or(&said).to_owned();
    Err(Failure::new(Code::Usage, message, "the file is as it was"))
}

fn read(path: &Path) -> io::Result<String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // Left by one that was killed, with our process id by chance.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn message(outcome: Outcome) -> String {
        match outcome.unwrap_err() {
            Failure::Said { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c/rules.toml");
        change(&file, |old| Ok(format!("{old}a")), |_| Ok(())).unwrap();
        change(&file, |old| Ok(format!("{old}b")), |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "ab");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let no = |new: &Path| {
            assert_eq!(fs::read_to_string(new).unwrap(), "x");
            Err(Failure::new(Code::Usage, "no", ""))
        };
        assert_eq!(message(change(&file, |_| Ok("x".into()), no)), "no");
        assert_eq!(fs::read_to_string(&file).unwrap(), "ab");
        assert_eq!(fs::read_dir(dir.path().join("c")).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn what_is_no_file_of_a_bearable_size_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let keep = |old: &str| Ok(old.to_owned());
        assert!(
            message(change(&dir.path().join("a/.."), keep, |_| Ok(())))
                .contains("not a regular file")
        );
        let long = dir.path().join("long.toml");
        fs::write(&long, "x".repeat(FILE_BYTES as usize + 1)).unwrap();
        assert!(message(change(&long, keep, |_| Ok(()))).contains("longer than"));
    }
}
