//! A text in the user's own editor: what a call is to write or run, before it is allowed.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lapce_ai_ipc::env;
use lapce_ai_ipc::paths::{self, Paths};

use super::exit::{Code, Failure, Outcome};

/// Longest text taken back; the engine takes no longer one.
const MAX_BYTES: u64 = 256 << 10;

/// What is there is removed however the edit ends.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Opens `text` in the user's editor and gives what they left.
pub fn edit(text: &str, name: &str) -> Outcome<String> {
    let failed = |what: &str, e: std::io::Error| {
        Failure::new(Code::Failed, format!("{what}: {e}"), "answer without --edit")
    };
    let folder = Paths::from_env().runtime;
    paths::private_dir(&folder).map_err(|e| failed("no folder for the text", e))?;
    let draft = Draft(folder.join(format!("edit-{}-{name}", std::process::id())));
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&draft.0);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| failed("the text cannot be written for the editor", e))?;
    run(&program(), &draft.0)?;
    read(&draft.0).map_err(|e| failed("the text cannot be read back", e))
}

/// `$VISUAL`, else `$EDITOR`, else `vi`; may have arguments.
fn program() -> String {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    set(env::VISUAL).or_else(|| set(env::EDITOR)).unwrap_or_else(|| "vi".to_owned())
}

fn run(program: &str, file: &Path) -> Outcome {
    // Through the shell, as git does it: the variable may hold arguments.
    let status =
        Command::new("sh").args(["-c", &format!("{program} \"$1\""), "sh"]).arg(file).status();
    let why = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => {
            format!("the editor `{program}` ended with {status}, so nothing was answered")
        }
        Err(e) => format!("the editor `{program}` cannot be started: {e}"),
    };
    Err(Failure::new(Code::Failed, why, "set VISUAL or EDITOR, or answer without --edit"))
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!("it is longer than {MAX_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_editor_with_arguments_changes_the_text_and_one_that_fails_answers_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a b");
        fs::write(&file, "one\n").unwrap();
        run("sed -i s/one/two/", &file).unwrap();
        assert_eq!(read(&file).unwrap(), "two\n");
        assert!(run("false", &file).is_err());
        fs::write(&file, "x".repeat(MAX_BYTES as usize + 1)).unwrap();
        assert!(read(&file).is_err());
    }
}
