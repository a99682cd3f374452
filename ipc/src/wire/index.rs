//! What the engine says to `lapce-ai-index`, and what it answers.
//!
//! A worker answers `Search` and `Stats` over any number of indexes; a build process
//! answers one `Build` or `Tidy` and ends.

use rkyv::{Archive, Deserialize, Serialize};

wire! {
    pub enum Request {
        Ping,
        Build(Build),
        Search(Search),
        Stats { dir: String },
        /// The answer to `Event::Embed`, in the order of its texts.
        Vectors(Vectors),
        Shutdown,
        Tidy(Tidy),
    }
}

wire! {
    /// Join small fragments, drop old versions.
    pub struct Tidy {
        /// Absolute path of the index folder.
        pub dir: String,
    }
}

wire! {
    /// An embedder that the engine asks: index processes have no network.
    pub struct Remote {
        /// Names the provider, the model and the number of dimensions.
        pub name: String,
        pub dims: u32,
        /// What a million tokens cost, in the user's own words, or empty.
        pub price: String,
    }
}

wire! {
    pub struct Embed { pub batch: u64, pub texts: Vec<String> }
}

wire! {
    pub struct Vectors {
        pub batch: u64,
        pub vectors: Vec<Vec<i8>>,
        /// Why there are none.
        pub error: Option<super::WireError>,
    }
}

wire! {
    /// A question's vector, made by the engine.
    pub struct Given { pub embedder: String, pub vector: Vec<i8> }
}

wire! {
    #[derive(Default)]
    pub struct Build {
        /// Absolute path of the workspace.
        pub root: String,
        /// Absolute path of the index folder, outside the workspace.
        pub dir: String,
        pub force: bool,
        /// Workspace-relative files and folders that changed: nothing else is looked at.
        /// Empty: everything is.
        pub only: Vec<String>,
        /// Say which folders were looked into (`Event::Folders`).
        pub folders: bool,
        /// Absolute path of the folder with the chunks of earlier contents, or empty.
        pub cache: String,
        /// What the index may take on disk; 0 for no limit.
        pub max_bytes: u64,
        /// The shared index that this one lies on (`s3://…`, `file://…`), or empty.
        pub location: String,
        /// Who makes the vectors; `None` is the table of the index process.
        pub embedder: Option<Remote>,
    }
}

wire! {
    pub struct Search {
        pub root: String,
        pub dir: String,
        pub query: String,
        pub limit: u32,
        pub explain: bool,
        /// For an index whose vectors the engine had made.
        pub given: Option<Given>,
    }
}

wire! {
    pub enum Event {
        Progress(Progress),
        Notice(String),
        /// Folders that hold, or may come to hold, files of the index; the root is "".
        Folders(Vec<String>),
        /// Of `Build::only`: files that are there and are left out.
        Ignored(Vec<String>),
        Embed(Embed),
    }
}

wire! {
    pub enum Phase { Walk, Chunk, Commit, Optimize }
}

wire! {
    pub struct Progress {
        pub phase: Phase,
        pub files_done: u64,
        /// 0 while it is not known.
        pub files_total: u64,
        pub chunks: u64,
        /// Workspace-relative path of the file at work, or empty.
        pub current: String,
    }
}

wire! {
    pub enum Reply {
        Pong,
        Done,
        Built(BuildReport),
        Found(Found),
        Stats(Stats),
        Tidied(Tidied),
    }
}

wire! {
    /// Size of the index folder.
    pub struct Tidied { pub bytes_before: u64, pub bytes_after: u64 }
}

wire! {
    pub struct Skipped { pub reason: String, pub files: u64, pub example: String }
}

wire! {
    #[derive(Default)]
    pub struct BuildReport {
        pub files: u64,
        pub chunks: u64,
        pub files_added: u64,
        pub files_changed: u64,
        pub files_removed: u64,
        pub bytes: u64,
        pub took_ms: u64,
        pub skipped: Vec<Skipped>,
        /// Largest resident size of the build process, KiB.
        pub peak_rss_kib: u64,
        /// Files whose chunks were known from an earlier time or another work tree: they
        /// were not cut again.
        pub files_reused: u64,
        /// The table has grown ragged: `Tidy` is due.
        pub tidy: bool,
    }
}

wire! {
    pub struct Stats {
        pub files: u64,
        pub chunks: u64,
        pub built_at: u64,
        pub disk_bytes: u64,
        pub embedder: String,
    }
}

wire! {
    pub struct Hit {
        /// Workspace-relative, `/` separated.
        pub path: String,
        /// One-based, inclusive.
        pub start_line: u32,
        pub end_line: u32,
        /// Name of the definition, or empty.
        pub symbol: String,
        /// `function`, `struct`, `class`, `module`, `text`, …
        pub kind: String,
        pub score: f32,
        pub code: String,
        /// Why it ranks here, when asked for.
        pub why: String,
    }
}

wire! {
    pub struct Found {
        pub hits: Vec<Hit>,
        /// Whether vectors took part.
        pub hybrid: bool,
        pub indexed_files: u64,
        pub took_us: u64,
    }
}
