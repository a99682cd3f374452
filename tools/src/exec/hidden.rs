//! What a command must not see: every path that an `.aiignore` names, and what git ignores
//! and by its name holds secrets. Found before the fence goes up, since the view is built
//! from it. Fails closed.
//!
//! Other files that git ignores stay: builds write and read them. Folders known to be made
//! by builds are not searched.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::{ignored, secrets};
use crate::limits::{HIDDEN_MAX_ENTRIES, HIDDEN_MAX_PATHS, HIDDEN_NAMED};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Hidden {
    /// The topmost paths to hide, absolute.
    pub(crate) paths: Vec<PathBuf>,
    /// How many of them only git's rules name.
    pub(crate) by_git: usize,
    /// Files below the workspace's own folder whose rules stay as they are, absolute.
    pub(crate) rules: Vec<PathBuf>,
    /// What git ignores no more, since a command changed its rules; among the paths.
    pub(crate) sealed: Vec<PathBuf>,
    /// Whether that is all that git ignores.
    all: bool,
}

impl Hidden {
    /// What git's rules hide, relative to the workspace.
    pub(crate) fn by_rules(&self, root: &Path) -> Vec<String> {
        let first = self.paths.len() - self.by_git - self.sealed.len();
        let by_git = self.paths[first..first + self.by_git].iter();
        by_git.filter_map(|p| Some(p.strip_prefix(root).ok()?.to_str()?.to_owned())).collect()
    }

    /// What of that git ignores no more.
    pub(crate) fn opened(&self, root: &Path) -> Vec<String> {
        let mut all = self.by_rules(root);
        all.retain(|path| matches!(ignored::Ignored::check(root, Path::new(path)), Ok(None)));
        all
    }

    /// For the reader of a command that failed: it may have missed one of these.
    pub(crate) fn note(&self, root: &Path) -> String {
        let first = self.paths.len() - self.by_git - self.sealed.len();
        let some = self.paths[first..].iter().take(HIDDEN_NAMED);
        let mut names: Vec<String> =
            some.map(|p| p.strip_prefix(root).unwrap_or(p).display().to_string()).collect();
        if self.by_git > HIDDEN_NAMED {
            names.push(format!("{} more", self.by_git - HIDDEN_NAMED));
        }
        let why = if self.all { "" } else { " and their names say that they hold secrets" };
        format!(
            "commands see these as empty, since git ignores them{why}: {}; the user can show them \
             with sandbox.show in config.toml",
            names.join(", ")
        )
    }
}

/// `show`: what the user's own settings keep visible, in the form of a `.gitignore`. `all`:
/// whether they hide the rest of what git ignores, secret or not.
/// `sealed`: what git ignored until a command changed its rules.
pub(crate) fn find(
    root: &Path,
    show: &[String],
    all: bool,
    sealed: &[String],
) -> Result<Hidden, String> {
    let sealed = still_sealed(root, show, sealed)?;
    let shown = shown(root, show)?;
    let mut search = Search {
        root,
        shown,
        all,
        left: HIDDEN_MAX_ENTRIES,
        git: Vec::new(),
        ai_folders: Vec::new(),
        secret: Vec::new(),
    };
    search.git.extend(ignored::load(root, &root.join(".git/info/exclude"))?);
    search.walk(root, false)?;
    // One that git itself ignores still counts at the top.
    if root.join(".aiignore").symlink_metadata().is_ok() {
        search.ai_folders.push(root.to_owned());
    }
    let Search { mut left, mut ai_folders, mut secret, .. } = search;
    ai_folders.sort();
    let below = ai_folders.iter().filter(|folder| *folder != root);
    let rules: Vec<PathBuf> = below.map(|folder| folder.join(".aiignore")).collect();
    if rules.len() > HIDDEN_MAX_PATHS {
        return Err(format!(
            "the command was not run: {} folders have an .aiignore of their own, at most \
             {HIDDEN_MAX_PATHS} can be guarded. Name what they hide in the workspace's own",
            rules.len()
        ));
    }
    let mut paths = Vec::new();
    let mut done: Vec<PathBuf> = Vec::new();
    for folder in ai_folders {
        // A folder below one that was walked already was judged there.
        if done.iter().any(|d| folder.starts_with(d)) {
            continue;
        }
        judge(root, &folder, &mut Vec::new(), &mut paths, &mut left)?;
        done.push(folder);
    }
    secret.retain(|path| !paths.iter().any(|p| path.starts_with(p)));
    let by_git = secret.len();
    paths.append(&mut secret);
    let sealed = sealed.iter().map(|path| root.join(path)).filter(|path| {
        path.symlink_metadata().is_ok() && !paths.iter().any(|p| path.starts_with(p))
    });
    let sealed: Vec<PathBuf> = sealed.collect();
    paths.extend(sealed.iter().cloned());
    if paths.len() > HIDDEN_MAX_PATHS {
        return Err(format!(
            "the command was not run: {} paths would have to be hidden from it, at most \
             {HIDDEN_MAX_PATHS} can be. Name the folders that hold them in .aiignore, or show \
             them with sandbox.show in config.toml",
            paths.len()
        ));
    }
    Ok(Hidden { paths, by_git, rules, sealed, all })
}

fn shown(root: &Path, show: &[String]) -> Result<Gitignore, String> {
    let failed = |e: ignore::Error| format!("the setting sandbox.show: {e}");
    let mut shown = GitignoreBuilder::new(root);
    for line in show {
        shown.add_line(None, line).map_err(failed)?;
    }
    shown.build().map_err(failed)
}

/// What of `sealed` the user's own settings do not show.
pub(crate) fn still_sealed(
    root: &Path,
    show: &[String],
    sealed: &[String],
) -> Result<Vec<String>, String> {
    if sealed.is_empty() {
        return Ok(Vec::new());
    }
    let shown = shown(root, show)?;
    let is_shown = |path: &String| {
        let path = root.join(path);
        let is_dir = path.is_dir();
        shown.matched_path_or_any_parents(path, is_dir).is_ignore()
    };
    Ok(sealed.iter().filter(|path| !is_shown(path)).cloned().collect())
}

/// For the reader: what stays hidden although git ignores it no more.
pub(crate) fn sealed_note(root: &Path, paths: &[PathBuf]) -> String {
    let some = paths.iter().take(HIDDEN_NAMED);
    let mut names: Vec<String> =
        some.map(|p| p.strip_prefix(root).unwrap_or(p).display().to_string()).collect();
    if paths.len() > HIDDEN_NAMED {
        names.push(format!("{} more", paths.len() - HIDDEN_NAMED));
    }
    format!(
        "git ignored these until a command changed its rules, and tools see nothing of them still: \
         {}; the user can show them with sandbox.show in config.toml",
        names.join(", ")
    )
}

fn too_many() -> String {
    format!(
        "the workspace has more than {HIDDEN_MAX_ENTRIES} entries to check against .aiignore and \
         .gitignore, so commands are not run in it; open a smaller folder"
    )
}

fn entries(folder: &Path, left: &mut usize) -> Result<Vec<DirEntry>, String> {
    let failed = |e: std::io::Error| {
        format!("{} cannot be checked against the ignore rules: {e}", folder.display())
    };
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        all.push(entry.map_err(failed)?);
    }
    Ok(all)
}

type Rules = Vec<Gitignore>;

fn verdict(rules: &Rules, path: &Path, is_dir: bool) -> bool {
    let mut verdicts = rules.iter().rev().map(|rule| rule.matched(path, is_dir));
    verdicts.find(|m| !m.is_none()).unwrap_or(Match::None).is_ignore()
}

/// One walk: folders with an `.aiignore` of their own, and secrets that git ignores.
struct Search<'a> {
    root: &'a Path,
    shown: Gitignore,
    all: bool,
    left: usize,
    git: Rules,
    ai_folders: Vec<PathBuf>,
    secret: Vec<PathBuf>,
}

impl Search<'_> {
    /// `ignored`: git ignores the folder, and so all that is in it.
    fn walk(&mut self, folder: &Path, ignored: bool) -> Result<(), String> {
        let entries = entries(folder, &mut self.left)?;
        let depth = self.git.len();
        if !ignored && entries.iter().any(|e| e.file_name() == ".gitignore") {
            self.git.extend(ignored::load(folder, &folder.join(".gitignore"))?);
        }
        for entry in entries {
            let name = entry.file_name();
            if name == ".git" {
                continue;
            }
            // Rules in folders that git ignores are not looked for; those found apply there.
            if name == ".aiignore" && !ignored {
                self.ai_folders.push(folder.to_owned());
                continue;
            }
            let name = name.to_string_lossy().to_lowercase();
            let kind = entry.file_type().map_err(|e| format!("{}: {e}", entry.path().display()))?;
            let secret =
                if kind.is_dir() { secrets::is_folder(&name) } else { secrets::is_file(&name) };
            // Most files are no secret, whatever the rules say of them.
            if !(secret || self.all || kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let here = ignored || verdict(&self.git, &path, kind.is_dir());
            if here && (secret || self.all) {
                self.hide(&path, kind.is_dir(), kind.is_symlink());
            } else if kind.is_dir() && !(here && secrets::is_build_folder(&name)) {
                self.walk(&path, here)?;
            }
        }
        self.git.truncate(depth);
        Ok(())
    }

    fn hide(&mut self, path: &Path, is_dir: bool, is_link: bool) {
        // With a folder all that is in it is shown.
        if self.shown.matched_path_or_any_parents(path, is_dir).is_ignore() {
            return;
        }
        if !is_link {
            self.secret.push(path.to_owned());
        } else if let Ok(real) = path.canonicalize()
            && real.starts_with(self.root)
            && real.is_file()
        {
            // A link cannot be covered; what it leads to can.
            self.secret.push(real);
        }
    }
}

fn judge(
    root: &Path,
    folder: &Path,
    rules: &mut Rules,
    hidden: &mut Vec<PathBuf>,
    left: &mut usize,
) -> Result<(), String> {
    let own = ignored::load(folder, &folder.join(".aiignore"))?;
    let depth = rules.len();
    rules.extend(own);
    for entry in entries(folder, left)? {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|k| k.is_dir());
        if folder == root && entry.file_name() == ".git" {
            continue;
        }
        if verdict(rules, &path, is_dir) {
            hidden.push(path);
        } else if is_dir {
            judge(root, &path, rules, hidden, left)?;
        }
    }
    rules.truncate(depth);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn found(root: &Path, show: &[&str]) -> Vec<String> {
        let show: Vec<String> = show.iter().map(|s| (*s).to_owned()).collect();
        let found = find(root, &show, false, &[]).unwrap();
        let relative = |p: &PathBuf| p.strip_prefix(root).unwrap().display().to_string();
        let mut list: Vec<String> = found.paths.iter().map(relative).collect();
        list.sort();
        list
    }

    #[test]
    fn the_topmost_named_paths_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("private/deep")).unwrap();
        fs::create_dir_all(root.join("sub/keys")).unwrap();
        fs::write(root.join(".gitignore"), ".env\n").unwrap();
        fs::write(root.join(".aiignore"), ".env\n/private/\n*.pem\n").unwrap();
        fs::write(root.join("sub/.aiignore"), "keys\n!ok.pem\n").unwrap();
        for file in [".env", "private/deep/x", "a.pem", "sub/ok.pem", "sub/keys/k", "sub/free"] {
            fs::write(root.join(file), "x").unwrap();
        }
        assert_eq!(found(root, &[]), [".env", "a.pem", "private", "sub/keys"]);
    }

    /// Those beyond the bound would be open to a command without a word.
    #[test]
    fn rules_that_cannot_all_be_guarded_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for n in 0..=HIDDEN_MAX_PATHS {
            let folder = root.join(format!("f{n}"));
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(".aiignore"), "").unwrap();
        }
        let Err(why) = find(root, &[], false, &[]) else { panic!("too many are taken") };
        assert!(why.contains("have an .aiignore of their own"), "{why}");
        fs::remove_file(root.join("f0/.aiignore")).unwrap();
        assert_eq!(find(root, &[], false, &[]).unwrap().rules.len(), HIDDEN_MAX_PATHS);
    }

    #[test]
    fn secrets_that_git_ignores_are_found_and_builds_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for folder in ["target/debug", "local/deep", "src", "secrets/a", "node_modules/x"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let rules =
            "*.o\n.env*\n!.env.example\n/target\nlocal/\nsecrets\nnode_modules\n*.pem\n*.lock\n";
        fs::write(root.join(".gitignore"), rules).unwrap();
        fs::write(root.join("src/.gitignore"), "!tracked.pem\n").unwrap();
        for file in [
            ".env",
            ".env.local",
            ".env.example",
            "a.o",
            "x.lock",
            "target/debug/key.pem",
            "src/tracked.pem",
            "src/k.pem",
            "local/deep/id_rsa",
            "local/notes",
            "secrets/a/x",
            "node_modules/x/.npmrc",
            "free.key",
        ] {
            fs::write(root.join(file), "x").unwrap();
        }
        let all = [".env", ".env.local", "local/deep/id_rsa", "secrets", "src/k.pem"];
        assert_eq!(found(root, &[]), all);
        assert_eq!(find(root, &[], false, &[]).unwrap().by_git, 5);
        let shown = found(root, &[".env.local", "/local/"]);
        assert_eq!(shown, [".env", "secrets", "src/k.pem"]);
        fs::create_dir(root.join("src/sub")).unwrap();
        fs::create_dir(root.join("src/sub/.gitignore")).unwrap();
        assert!(
            find(root, &[], false, &[]).unwrap_err().contains("off limits"),
            "rules that cannot be read close"
        );
    }

    #[test]
    fn all_that_git_ignores_is_hidden_when_the_user_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("target/debug")).unwrap();
        fs::create_dir_all(root.join("local")).unwrap();
        fs::write(root.join(".gitignore"), "/target\nlocal/\n*.o\n").unwrap();
        for file in ["target/debug/x", "local/notes", "local/id_rsa", "a.o", "a.c"] {
            fs::write(root.join(file), "x").unwrap();
        }
        let hidden = |show: &[&str]| {
            let show: Vec<String> = show.iter().map(|s| (*s).to_owned()).collect();
            let found = find(root, &show, true, &[]).unwrap();
            let relative = |p: &PathBuf| p.strip_prefix(root).unwrap().display().to_string();
            let mut list: Vec<String> = found.paths.iter().map(relative).collect();
            list.sort();
            list
        };
        assert_eq!(hidden(&[]), ["a.o", "local", "target"]);
        assert_eq!(hidden(&["/target/"]), ["a.o", "local"]);
        assert_eq!(hidden(&["/local/", "*.o"]), ["target"], "shown with all that is in it");
    }

    #[test]
    fn what_a_link_leads_to_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::write(root.join(".gitignore"), ".env\n").unwrap();
        fs::write(root.join("real"), "x").unwrap();
        std::os::unix::fs::symlink("real", root.join(".env")).unwrap();
        assert_eq!(found(&root, &[]), ["real"]);
    }

    #[test]
    fn without_rules_nothing_is_hidden() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".env"), "x").unwrap();
        assert!(find(dir.path(), &[], false, &[]).unwrap().paths.is_empty());
    }

    #[test]
    fn too_many_to_hide_is_a_refusal() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".gitignore"), "*.pem\n").unwrap();
        for n in 0..=HIDDEN_MAX_PATHS {
            fs::write(dir.path().join(format!("{n}.pem")), "").unwrap();
        }
        assert!(find(dir.path(), &[], false, &[]).unwrap_err().contains("sandbox.show"));
    }
}
