//! An index that a team shares: published by one writer, read below a local layer. Over a
//! folder always; with the feature `s3`, over a real S3 server (`LAPCE_AI_TEST_S3_SERVER`,
//! which `cargo xtask test s3` fetches).

#![cfg(feature = "lance")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lancedb::Session;
use lapce_ai_index::builder::{self, OnProgress, Options};
use lapce_ai_index::embed::default_embedder;
use lapce_ai_index::error::Error;
use lapce_ai_index::manifest::State;
use lapce_ai_index::rank::Weights;
use lapce_ai_index::search::{Arm, Index};
use lapce_ai_index::shared::{self, Lease, Location};
use lapce_ai_index::store;
use lapce_ai_ipc::wire::index::{BuildReport, Hit};

/// Someone's work tree, and their index of it.
struct Desk {
    home: tempfile::TempDir,
    session: Arc<Session>,
}

impl Desk {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("repo")).unwrap();
        Self { home, session: store::session(1 << 20, 1 << 20) }
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("repo")
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("index")
    }

    fn code(&self, path: &str, name: &str) {
        let file = self.root().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text =
            format!("/// About {name}.\npub fn {name}() -> u32 {{\n    compute_{name}(1)\n}}\n");
        fs::write(file, text).unwrap();
    }

    fn options(&self) -> Options {
        Options {
            root: self.root(),
            dir: self.dir(),
            force: false,
            threads: 2,
            batch_rows: 8,
            only: None,
            cache: None,
            max_bytes: 0,
            location: None,
            layer: None,
        }
    }

    async fn publish_with(
        &self,
        uri: &str,
        progress: OnProgress,
        cancel: Arc<AtomicBool>,
    ) -> Result<BuildReport, Error> {
        let (location, session) = (Location::parse(uri)?, Arc::clone(&self.session));
        shared::write(location, self.options(), session, default_embedder(), progress, cancel).await
    }

    async fn publish(&self, uri: &str) -> Result<BuildReport, Error> {
        self.publish_with(uri, Arc::new(|_| {}), Arc::default()).await
    }

    async fn pull(&self, uri: &str) -> Result<BuildReport, Error> {
        let location = Location::parse(uri)?;
        let layer = Some(Arc::new(shared::read(&location, &self.dir()).await?));
        let options = Options { layer, ..self.options() };
        let session = Arc::clone(&self.session);
        builder::build(options, session, default_embedder(), Arc::new(|_| {}), Arc::default()).await
    }

    async fn search(&self, query: &str) -> Vec<Hit> {
        let index = Index::open(&self.dir(), "x", &self.session).await.unwrap();
        let embedder = default_embedder();
        let found = index
            .search(query, 10, false, embedder.as_deref(), &Weights::default(), Arm::Hybrid)
            .await
            .unwrap();
        found.hits
    }

    async fn best(&self, query: &str) -> (String, String) {
        let hit = self.search(query).await.swap_remove(0);
        (hit.path, hit.code)
    }

    /// Chunks that are indexed here, above the shared index.
    fn own_chunks(&self) -> u64 {
        State::load(&self.dir()).unwrap().chunks
    }
}

fn names(from: usize, to: usize) -> impl Iterator<Item = (String, String)> {
    (from..to).map(|n| (format!("src/f{n}.rs"), format!("function_{n}")))
}

async fn one_writes_and_everyone_reads(uri: &str) {
    let (ci, dev) = (Desk::new(), Desk::new());
    for (path, name) in names(0, 30) {
        ci.code(&path, &name);
        dev.code(&path, &name);
    }
    let error = dev.pull(uri).await.unwrap_err().to_string();
    assert!(error.contains("nothing is published there yet"), "{error}");
    assert_eq!(ci.publish(uri).await.unwrap().files, 30);

    // The same files: nothing is indexed here, everything is found.
    let report = dev.pull(uri).await.unwrap();
    assert_eq!((report.files, dev.own_chunks()), (30, 0));
    let (path, code) = dev.best("function_7").await;
    assert_eq!(path, "src/f7.rs");
    assert!(code.contains("compute_function_7(1)"), "{code}");

    // What differs here hides what is shared: changed, new and deleted files.
    dev.code("src/f7.rs", "renamed_zebra");
    dev.code("src/new.rs", "brand_new_quagga");
    fs::remove_file(dev.root().join("src/f8.rs")).unwrap();
    dev.pull(uri).await.unwrap();
    assert_eq!(dev.own_chunks(), 2);
    assert_eq!(dev.best("renamed_zebra").await.0, "src/f7.rs");
    assert_eq!(dev.best("brand_new_quagga").await.0, "src/new.rs");
    for gone in ["function_7", "function_8"] {
        let hits = dev.search(gone).await;
        assert!(hits.iter().all(|h| h.symbol != gone), "{hits:?}");
    }

    // A file that vanished since: its code comes from the shared table.
    fs::remove_file(dev.root().join("src/f9.rs")).unwrap();
    let (path, code) = dev.best("function_9").await;
    assert_eq!(path, "src/f9.rs");
    assert!(code.contains("compute_function_9(1)"), "{code}");

    // CI publishes the same changes: they need not be held here any more.
    ci.code("src/f7.rs", "renamed_zebra");
    ci.code("src/new.rs", "brand_new_quagga");
    fs::remove_file(ci.root().join("src/f8.rs")).unwrap();
    let report = ci.publish(uri).await.unwrap();
    assert_eq!((report.files_added, report.files_changed, report.files_removed), (1, 1, 1));
    dev.code("src/f9.rs", "function_9");
    dev.pull(uri).await.unwrap();
    assert_eq!(dev.own_chunks(), 0);
    assert_eq!(dev.best("renamed_zebra").await.0, "src/f7.rs");

    // A machine that never saw it, with an empty folder, goes on where the last one ended.
    let other = Desk::new();
    for (path, name) in names(0, 30).filter(|(path, _)| path != "src/f7.rs" && path != "src/f8.rs")
    {
        other.code(&path, &name);
    }
    other.code("src/f7.rs", "renamed_zebra");
    other.code("src/new.rs", "brand_new_quagga");
    let report = other.publish(uri).await.unwrap();
    assert_eq!((report.files, report.files_added, report.files_changed), (30, 0, 0));
}

async fn two_writers_do_not_corrupt_it(uri: &str) {
    let desks: Vec<Desk> = (0..4)
        .map(|n| {
            let desk = Desk::new();
            names(n * 3, n * 3 + 20).for_each(|(path, name)| desk.code(&path, &name));
            desk
        })
        .collect();
    let results = futures::future::join_all(desks.iter().map(|desk| desk.publish(uri))).await;
    let won = results.iter().filter(|r| r.is_ok()).count();
    assert!(won >= 1);
    for error in results.iter().filter_map(|r| r.as_ref().err()) {
        assert!(matches!(error, Error::OtherWriter(_)), "{error}");
    }

    // A writer that dies after it added rows: cancelled in the middle, nothing published.
    let dying = Desk::new();
    names(100, 160).for_each(|(path, name)| dying.code(&path, &name));
    let cancel = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&cancel);
    let progress: OnProgress = Arc::new(move |p| {
        if p.chunks > 8 {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let ended = dying.publish_with(uri, progress, cancel).await;
    assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");

    // While one holds the lease, no other starts.
    let location = Location::parse(uri).unwrap();
    let lease = Lease::take(&location).await.unwrap();
    let refused = desks[0].publish(uri).await.unwrap_err().to_string();
    assert!(refused.contains("another writer is at work"), "{refused}");
    lease.give_back(&location).await;

    // The next writer undoes what is half done; readers see its files and no others.
    assert_eq!(desks[3].publish(uri).await.unwrap().files, 20);
    let reader = Desk::new();
    names(9, 29).for_each(|(path, name)| reader.code(&path, &name));
    assert_eq!(reader.pull(uri).await.unwrap().files, 20);
    assert_eq!(reader.own_chunks(), 0);
    assert_eq!(reader.best("function_28").await.0, "src/f28.rs");
    assert!(reader.search("function_120").await.iter().all(|h| h.symbol != "function_120"));

    // Two that publish at the same moment: the second is told.
    let head = location.head().await.unwrap().unwrap();
    let state = State::load(&desks[3].dir()).unwrap();
    let db = state.db_path(&desks[3].dir());
    let lease = Lease::take(&location).await.unwrap();
    location.publish(Some(&head), &state, head.version, &db, &lease).await.unwrap();
    let second = location.publish(Some(&head), &state, head.version, &db, &lease).await;
    assert!(matches!(second, Err(Error::OtherWriter(_))), "{second:?}");
}

#[tokio::test]
async fn a_folder_one_writes_and_everyone_reads() {
    let folder = tempfile::tempdir().unwrap();
    one_writes_and_everyone_reads(&format!("file://{}", folder.path().display())).await;
}

#[tokio::test]
async fn a_folder_two_writers_do_not_corrupt_it() {
    let folder = tempfile::tempdir().unwrap();
    two_writers_do_not_corrupt_it(&format!("file://{}", folder.path().display())).await;
}

#[tokio::test]
async fn objects_that_are_not_what_their_head_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("file://{}", folder.path().display());
    let (ci, dev) = (Desk::new(), Desk::new());
    names(0, 5).for_each(|(path, name)| ci.code(&path, &name));
    ci.publish(&uri).await.unwrap();
    let objects = |kind: &str| -> PathBuf {
        let files = fs::read_dir(folder.path()).unwrap().flatten().map(|f| f.path());
        let named = |p: &PathBuf| p.file_name().unwrap().to_string_lossy().starts_with(kind);
        files.into_iter().find(named).unwrap()
    };
    let words = objects("words-");
    let good = fs::read(&words).unwrap();
    let mut bad = good.clone();
    bad[70] ^= 1;
    fs::write(&words, bad).unwrap();
    let error = dev.pull(&uri).await.unwrap_err().to_string();
    assert!(error.contains("is not what its head says"), "{error}");
    fs::write(&words, good).unwrap();
    dev.pull(&uri).await.unwrap();

    // A head whose objects would be files elsewhere.
    let head = folder.path().join("heads/00000000000000000001");
    let text = fs::read_to_string(&head).unwrap();
    let name = words.file_name().unwrap().to_string_lossy().into_owned();
    fs::write(&head, text.replace(&name, "../../words-1")).unwrap();
    let error = Desk::new().pull(&uri).await.unwrap_err().to_string();
    assert!(error.contains("of another version of lapce-ai, or too large"), "{error}");

    // One whose sizes sum up to little only because the sum runs over.
    let mut sizes: serde_json::Value = serde_json::from_str(&text).unwrap();
    for object in sizes["objects"].as_array_mut().unwrap() {
        object["len"] = (1_u64 << 63).into();
    }
    fs::write(&head, sizes.to_string()).unwrap();
    let error = Desk::new().pull(&uri).await.unwrap_err().to_string();
    assert!(error.contains("or too large"), "{error}");
    fs::write(&head, text.replace(&name, "../../words-1")).unwrap();

    // While the head cannot be read, what was fetched before serves.
    let location = Location::parse(&uri).unwrap();
    assert_eq!(shared::read_fetched(&location, &dev.dir()).unwrap().hashes.len(), 5);
    let elsewhere = Location::parse(&format!("{uri}/other")).unwrap();
    assert!(shared::read_fetched(&elsewhere, &dev.dir()).is_none());
    names(0, 5).for_each(|(path, name)| dev.code(&path, &name));
    dev.pull(&uri).await.unwrap();
    assert_eq!(dev.best("function_3").await.0, "src/f3.rs");
}

#[test]
fn locations_are_checked() {
    for (uri, why) in [
        ("https://example.com/x", "begins with s3:// or file://"),
        ("s3:///x", "names no bucket"),
        ("file://relative", "an absolute path"),
    ] {
        let error = Location::parse(uri).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    #[cfg(not(feature = "s3"))]
    assert!(Location::parse("s3://bucket/x").unwrap_err().to_string().contains("--features s3"));
}

#[cfg(feature = "s3")]
mod s3 {
    use std::net::{TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    /// s3s-fs on a free port, with one bucket; ended on drop.
    struct Server {
        child: Child,
        _folder: tempfile::TempDir,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn server() -> Server {
        let program = std::env::var_os("LAPCE_AI_TEST_S3_SERVER")
            .expect("LAPCE_AI_TEST_S3_SERVER names s3s-fs; `cargo xtask test s3` sets it");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bucket")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(["--host", "127.0.0.1", "--port", &port.to_string()])
            .args(["--access-key", "reader", "--secret-key", "not-a-secret"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for (name, value) in [
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{port}")),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "reader".into()),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret".into()),
        ] {
            // SAFETY: the only test of this module runs alone in its process: the step gives
            // its name to the harness, and no other thread reads the environment yet.
            unsafe { std::env::set_var(name, value) };
        }
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { child, _folder: folder }
    }

    #[test]
    fn over_s3_one_writes_everyone_reads_and_two_writers_do_no_harm() {
        let server = server();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            one_writes_and_everyone_reads("s3://bucket/team/one").await;
            two_writers_do_not_corrupt_it("s3://bucket/team/two").await;
        });
        let reader = Desk::new();
        names(9, 29).for_each(|(path, name)| reader.code(&path, &name));
        runtime.block_on(reader.pull("s3://bucket/team/two")).unwrap();
        // A server that is gone is an error with a name, not a hang.
        drop(server);
        let error = runtime.block_on(Desk::new().pull("s3://bucket/team/one")).unwrap_err();
        assert!(error.to_string().contains("s3://bucket/team/one"), "{error}");
        // What was fetched before serves without it.
        reader.code("src/f9.rs", "offline_okapi");
        runtime.block_on(async {
            reader.pull("s3://bucket/team/two").await.unwrap();
            assert_eq!(reader.best("offline_okapi").await.0, "src/f9.rs");
            assert_eq!(reader.best("function_28").await.0, "src/f28.rs");
        });
    }
}
