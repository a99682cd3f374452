//! What programs are known to do, by their first words. Used by [`super::commands`].

/// Programs that only look, whatever their arguments (the sandbox keeps them inside).
pub(super) const LOOKERS: &[&str] = &[
    "ls",
    "pwd",
    "cat",
    "head",
    "tail",
    "wc",
    "echo",
    "printf",
    "true",
    "false",
    "test",
    "[",
    "file",
    "stat",
    "du",
    "df",
    "basename",
    "dirname",
    "realpath",
    "cut",
    "tr",
    "uniq",
    "sort",
    "diff",
    "cmp",
    "grep",
    "egrep",
    "fgrep",
    "which",
    "uname",
    "date",
    "id",
    "tree",
    "nl",
    "cksum",
    "sha256sum",
    "cd",
];
/// The same, by their first two words.
pub(super) const LOOKING: &[[&str; 2]] = &[
    ["git", "status"],
    ["git", "log"],
    ["git", "diff"],
    ["git", "show"],
    ["git", "blame"],
    ["git", "ls-files"],
    ["git", "rev-parse"],
    ["git", "describe"],
    ["git", "shortlog"],
];
/// Options with which a looker writes or runs something; their beginnings too, since programs
/// take those for the whole.
pub(super) const NOT_LOOKING: &[&str] =
    &["--output", "--ext-diff", "--compress-program", "--compile", "--set"];
/// Letters of short options with which each looker does.
const NOT_LOOKING_SHORT: &[(&str, &str)] =
    &[("sort", "o"), ("tree", "oR"), ("file", "C"), ("date", "s"), ("git", "oO")];

/// Whether the arguments of a looker make it write or run something.
pub(super) fn writes_or_runs(program: &str, arguments: &[&str]) -> bool {
    let long = |argument: &str| {
        let name = argument.split('=').next().unwrap_or_default();
        name.len() > 2 && NOT_LOOKING.iter().any(|option| option.starts_with(name))
    };
    let letters = NOT_LOOKING_SHORT.iter().find(|(name, _)| *name == program).map(|l| l.1);
    let short = |argument: &str| {
        argument.strip_prefix('-').is_some_and(|options| {
            !options.starts_with('-')
                && letters.is_some_and(|letters| options.contains(|c| letters.contains(c)))
        })
    };
    match program {
        // `-v NAME` sets or asks about a variable, whose index the shell evaluates.
        "test" | "[" | "printf" => arguments.iter().any(|argument| {
            argument.starts_with("-v") || *argument == "-R" || is_evaluated(argument)
        }),
        // The second file is written.
        "uniq" => arguments.iter().filter(|a| !a.starts_with('-') || **a == "-").count() > 1,
        _ => arguments.iter().any(|argument| long(argument) || short(argument)),
    }
}

/// An index of an array with something in it that the shell would run.
fn is_evaluated(argument: &str) -> bool {
    argument.contains('[') && argument.contains(['$', '`'])
}

/// Programs whose arguments are, or may be, text that is run in another form than it is written.
pub(super) const OPAQUE: &[&str] = &[
    "script",
    "trap",
    "alias",
    "enable",
    "hash",
    "mapfile",
    "readarray",
    "let",
    "complete",
    "compgen",
    "bind",
];
/// Programs that run the program named by their arguments, and are judged themselves too.
pub(super) const RUNNERS: &[&str] = &[
    "sudo",
    "doas",
    "pkexec",
    "watch",
    "flock",
    "parallel",
    "chroot",
    "unshare",
    "setpriv",
    "runuser",
    "systemd-run",
    "entr",
    "npx",
    "bunx",
    "pnpx",
    "uvx",
];

/// What is always asked about unless a turbo rule covers it.
pub(super) const GRAVE: &[(&str, &[&str])] = &[
    (
        "changes the system",
        &[
            "sudo",
            "doas",
            "su",
            "pkexec",
            "systemctl",
            "service",
            "shutdown",
            "reboot",
            "halt",
            "poweroff",
            "mount",
            "umount",
            "mkfs",
            "fdisk",
            "parted",
            "dd",
            "insmod",
            "modprobe",
            "iptables",
            "nft",
            "useradd",
            "usermod",
            "userdel",
            "passwd",
            "chown",
            "crontab",
            "apt",
            "apt-get",
            "dpkg",
            "dnf",
            "yum",
            "pacman",
            "apk",
            "zypper",
            "brew",
            "snap",
            "flatpak",
        ],
    ),
    (
        "deploys or publishes",
        &[
            "kubectl",
            "helm",
            "terraform",
            "tofu",
            "pulumi",
            "ansible",
            "ansible-playbook",
            "serverless",
            "vercel",
            "netlify",
            "fly",
            "flyctl",
            "heroku",
            "docker",
            "podman",
            "git push",
            "cargo publish",
            "npm publish",
            "yarn publish",
            "pnpm publish",
            "twine",
            "gem push",
            "gh",
        ],
    ),
    ("may spend money", &["aws", "gcloud", "az", "doctl", "linode-cli", "stripe"]),
    (
        "uses the network",
        &[
            "curl",
            "wget",
            "ssh",
            "scp",
            "sftp",
            "rsync",
            "nc",
            "ncat",
            "socat",
            "telnet",
            "ftp",
            "git fetch",
            "git pull",
            "git clone",
            "npm install",
            "npm i",
            "npm ci",
            "yarn add",
            "pnpm add",
            "pip install",
            "pip3 install",
            "cargo install",
            "go get",
            "go install",
        ],
    ),
];

/// Programs that run the program named by their arguments.
pub(super) const WRAPPERS: &[&str] = &[
    "env", "command", "exec", "nohup", "nice", "ionice", "time", "timeout", "stdbuf", "setsid",
    "xargs", "busybox", "builtin", "chrt", "taskset", "unbuffer", "strace", "ltrace",
];
/// Programs that run text.
pub(super) const SHELLS: &[&str] =
    &["sh", "bash", "dash", "zsh", "ksh", "fish", "eval", "source", "."];
