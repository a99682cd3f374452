//! Clients that recover by themselves: eight of them send traffic while the server is
//! killed and replaced, again and again. Nobody reconnects for them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use lapce_ai_ipc::engine::Followed;
use lapce_ai_ipc::launch::LaunchError;
use lapce_ai_ipc::wire::engine::{Ask, Event};
use lapce_ai_ipc::{CallError, Client, Engine, Ident};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, LocalSet};

use crate::peers::{Child, bounded, listen, open_fds, rss_kib, until};

const CLIENTS: usize = 8;
const ROUNDS: usize = 6;

/// Where the server is, whoever it is; "starting" one means waiting for it.
fn engine(path: PathBuf) -> Engine {
    Engine::with(move |_| {
        let path = path.clone();
        Box::pin(async move {
            for _ in 0..12_000 {
                if let Ok(stream) = UnixStream::connect(&path).await
                    && let Ok(client) = Client::over(stream, Ident::new("loyal", "1")).await
                {
                    return Ok(client);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(LaunchError::NotRunning)
        })
    })
}

#[derive(Default)]
struct Seen {
    /// Process that answered last.
    pid: AtomicU32,
    /// Process that was followed last, and how often following ended.
    followed: AtomicU32,
    ended: AtomicU64,
    replies: AtomicU64,
    /// Calls with effects, and streams, that the server died under.
    lost: AtomicU64,
    streams: AtomicU64,
}

/// All that one front end does at a time.
fn traffic(engine: &Engine, seen: &Arc<Seen>) -> Vec<JoinHandle<()>> {
    let (e, s) = (engine.clone(), Arc::clone(seen));
    let asking = tokio::task::spawn_local(async move {
        loop {
            // Has no effects, so it is repeated; a row of deaths may still be seen.
            match e.status().await {
                Ok(status) => {
                    s.pid.store(status.pid, Ordering::SeqCst);
                    s.replies.fetch_add(1, Ordering::SeqCst);
                }
                Err(CallError::EngineLost(_)) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::task::yield_now().await;
        }
    });
    let (e, s) = (engine.clone(), Arc::clone(seen));
    let doing = tokio::task::spawn_local(async move {
        loop {
            match e.cancel_run("x").await {
                // Of another kind, for this server echoes it.
                Err(CallError::Unexpected(_)) => {}
                Err(error @ CallError::EngineLost(_)) => {
                    assert!(error.to_string().contains("run it again"), "{error}");
                    s.lost.fetch_add(1, Ordering::SeqCst);
                }
                other => panic!("{other:?}"),
            }
            tokio::task::yield_now().await;
        }
    });
    let (e, s) = (engine.clone(), Arc::clone(seen));
    let streaming = tokio::task::spawn_local(async move {
        loop {
            let mut call = e.ask(Ask::default()).await.unwrap();
            while call.next().await.is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let error = call.finish().await.unwrap_err();
            assert!(matches!(error, CallError::EngineLost(_)), "{error}");
            s.streams.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (mut following, s) = (engine.follow(""), Arc::clone(seen));
    let following = tokio::task::spawn_local(async move {
        loop {
            match following.next().await {
                Followed::Began(_) => {}
                Followed::Event(Event::Notice(pid)) => {
                    s.followed.store(pid.parse().unwrap(), Ordering::SeqCst);
                }
                Followed::Event(other) => panic!("{other:?}"),
                Followed::Ended => {
                    s.ended.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    vec![asking, doing, streaming, following]
}

pub(crate) fn clients_recover() {
    let work = async {
        let (path, _dir, listener) = listen();
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let mut child = Child::start("serve", &path, &[]);
        let engines: Vec<Engine> = (0..CLIENTS).map(|_| engine(path.clone())).collect();
        let seen: Vec<Arc<Seen>> = (0..CLIENTS).map(|_| Arc::default()).collect();
        let tasks: Vec<_> = engines.iter().zip(&seen).flat_map(|(e, s)| traffic(e, s)).collect();
        let (mut fds, mut rss) = (0, 0);
        for round in 0..ROUNDS {
            let pid = child.id();
            until("every client is answered by this server and follows it", || {
                let here = |s: &Arc<Seen>| {
                    s.pid.load(Ordering::SeqCst) == pid && s.followed.load(Ordering::SeqCst) == pid
                };
                tasks.iter().any(JoinHandle::is_finished) || seen.iter().all(here)
            })
            .await;
            assert!(!tasks.iter().any(JoinHandle::is_finished), "a client has given up");
            if round == 1 {
                (fds, rss) = (open_fds(), rss_kib());
            }
            if round == ROUNDS - 1 {
                break;
            }
            if round == 2 {
                // What had come is read after a death, so a slow reader may miss a server.
                until("every stream has ended once, and begun anew", || {
                    seen.iter().all(|s| s.streams.load(Ordering::SeqCst) > 0)
                })
                .await;
            }
            child.signal(libc::SIGKILL);
            child.expect_killed();
            std::fs::remove_file(&path).unwrap();
            child = Child::start("serve", &path, &[]);
        }
        for seen in &seen {
            let count = |n: &AtomicU64| n.load(Ordering::SeqCst);
            assert!(count(&seen.replies) >= ROUNDS as u64);
            assert_eq!(count(&seen.ended), ROUNDS as u64 - 1);
            assert!(count(&seen.lost) >= 1, "no call was ever under way");
        }
        // Of the dead servers nothing is left here: one connection each, as in round 1.
        until("descriptors are back", || open_fds() <= fds).await;
        let grown = rss_kib().saturating_sub(rss);
        assert!(grown < 8192, "RSS grew by {grown} KiB over {} restarts", ROUNDS - 2);
        for task in tasks {
            task.abort();
        }
    };
    bounded(LocalSet::new().run_until(work));
}
