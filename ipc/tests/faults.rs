//! Faults with real processes: death at every step of a publish, a stopped process, a
//! reader that is stuck, restarts, ten thousand reconnects.
//!
//! This program is its own peer: started with a role in the environment it plays that
//! role. Hence a `main` of its own instead of the test harness; names on the command
//! line select tests, as usual.

#[path = "faults/babble.rs"]
mod babble;
#[path = "faults/peers.rs"]
mod peers;
#[path = "faults/recovery.rs"]
mod recovery;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lapce_ai_ipc::wire::engine::{Reply, Request};
use lapce_ai_ipc::{CallError, Client, Connections, EngineProtocol, Ident, Options, fault};
use peers::{Child, Echo, bounded, connect, listen, until};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("a_client_killed_at_any_step_of_a_publish_leaves_whole_messages", killed_client),
    ("a_server_killed_at_any_step_of_a_publish_fails_the_call", killed_server),
    ("a_server_stopped_for_five_seconds_goes_on", stopped_server),
    ("a_stuck_reader_fills_its_ring_and_nothing_else", stuck_reader),
    ("a_client_that_scribbles_over_its_memory_loses_its_connection_alone", scribbling_client),
    ("a_client_that_babbles_on_its_control_socket_loses_it_alone", babble::babbling_client),
    ("a_server_that_babbles_on_its_control_socket_loses_its_client", babble::babbling_server),
    ("a_killed_server_is_replaced_under_traffic", restart_under_traffic),
    ("eight_clients_go_on_by_themselves_when_their_server_is_killed", recovery::clients_recover),
    ("ten_thousand_reconnects_leak_nothing", reconnects),
    ("sixty_four_connections_at_once", many_connections),
    ("the_portable_transport_leaves_no_names", portable_names),
];

fn main() -> ExitCode {
    if let Ok(role) = std::env::var(peers::ROLE) {
        return peers::play(&role);
    }
    let filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.iter().any(|f| f == "--list") {
        for (name, _) in TESTS {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let exact = filters.iter().any(|f| f == "--exact");
    let names: Vec<&String> = filters.iter().filter(|f| !f.starts_with('-')).collect();
    let wanted = |name: &str| {
        names.is_empty()
            || names.iter().any(|n| if exact { *n == name } else { name.contains(n.as_str()) })
    };
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let outcome = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(outcome.is_err());
    }
    println!("\ntest result: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was published before the death is served, what was not is invisible, and a
/// neighbour notices nothing.
fn killed_client() {
    bounded(async {
        let (path, _dir, listener) = listen();
        let connections = Connections::default();
        let neighbour_echo = Arc::new(Echo::default());
        let neighbour = {
            let (a, b) = tokio::net::UnixStream::pair().unwrap();
            let connections = connections.clone();
            tokio::spawn(async move {
                connections
                    .serve::<EngineProtocol, _>(
                        b,
                        Ident::new("s", "1"),
                        Options::default(),
                        neighbour_echo,
                    )
                    .await
            });
            Client::<EngineProtocol>::over(a, Ident::new("neighbour", "1")).await.unwrap()
        };
        for point in fault::POINTS {
            for passage in [1u64, 2, 9] {
                let mut child = Child::start(
                    "traffic",
                    &path,
                    &[(fault::VARIABLE, &format!("{point}:{passage}"))],
                );
                let (stream, _) = listener.accept().await.unwrap();
                let echo = Arc::new(Echo::default());
                let served = connections
                    .serve::<EngineProtocol, _>(
                        stream,
                        Ident::new("s", "1"),
                        Options::default(),
                        Arc::clone(&echo),
                    )
                    .await;
                served.unwrap_or_else(|e| panic!("{point}:{passage}: {e}"));
                child.expect_killed();
                let seen = echo.requests.load(Ordering::SeqCst);
                // Every message of this client is one record, except across a wrap.
                let published = match point {
                    "tail-published" => Some(passage),
                    "wrap-written" => None,
                    _ => Some(passage - 1),
                };
                if let Some(published) = published {
                    assert_eq!(seen, published, "{point}:{passage}");
                } else {
                    assert!(
                        seen >= 4 * passage,
                        "{point}:{passage}: only {seen} requests before a wrap"
                    );
                }
                assert_eq!(echo.torn.load(Ordering::SeqCst), 0);
                assert_eq!(neighbour.call(Request::Ping).await.unwrap(), Reply::Pong);
            }
        }
        assert_eq!(connections.len(), 1);
    });
}

fn killed_server() {
    bounded(async {
        for point in fault::POINTS {
            let (path, _dir, listener) = listen();
            drop(listener);
            std::fs::remove_file(&path).unwrap();
            let mut child =
                Child::start("serve", &path, &[(fault::VARIABLE, &format!("{point}:3"))]);
            let client = connect(&path).await;
            let mut replies = 0;
            let error = loop {
                // Large enough to come to a wrap soon.
                let text = "x".repeat(300);
                match client.call(Request::CancelRun { run_id: text }).await {
                    Ok(_) => replies += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, CallError::Disconnected(_)), "{point}: {error}");
            child.expect_killed();
            match point {
                "tail-published" => assert_eq!(replies, 3),
                "wrap-written" => assert!(replies > 20, "{replies}"),
                _ => assert_eq!(replies, 2, "{point}"),
            }
        }
    });
}

fn stopped_server() {
    bounded(async {
        let (path, _dir, listener) = listen();
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let child = Child::start("serve", &path, &[]);
        let client = connect(&path).await;
        assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
        child.signal(libc::SIGSTOP);
        let mut waiting = Box::pin(client.call(Request::Ping));
        let early = tokio::time::timeout(Duration::from_secs(5), &mut waiting).await;
        assert!(early.is_err(), "answered by a stopped process: {early:?}");
        assert!(!client.is_closed());
        child.signal(libc::SIGCONT);
        assert_eq!(waiting.await.unwrap(), Reply::Pong);
    });
}

fn stuck_reader() {
    bounded(async {
        let (path, _dir, listener) = listen();
        let mut child = Child::start("greedy", &path, &[]);
        let (stream, _) = listener.accept().await.unwrap();
        let connections = Connections::default();
        let echo = Arc::new(Echo::default());
        let serving = {
            let (connections, echo) = (connections.clone(), Arc::clone(&echo));
            tokio::spawn(async move {
                connections
                    .serve::<EngineProtocol, _>(
                        stream,
                        Ident::new("s", "1"),
                        Options::default(),
                        echo,
                    )
                    .await
            })
        };
        until("it asks", || echo.requests.load(Ordering::SeqCst) >= 20).await;
        child.signal(libc::SIGSTOP);
        // Everything runs into its bound now, and stays there.
        let (mut sent, mut same) = (0, 0);
        let stays = async {
            while same < 10 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = connections.snapshot()[0].messages_out;
                same = if now == sent { same + 1 } else { 0 };
                sent = now;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), stays).await.expect("it still sends");
        let after = connections.snapshot()[0].clone();
        // Two rings, the queue's limit, and one more message.
        assert!(after.high_water < (8 << 20), "{after:?}");
        assert!(after.stalls > 0, "the ring was never full: {after:?}");
        // Others are served.
        let (a, b) = tokio::net::UnixStream::pair().unwrap();
        let other = Arc::new(Echo::default());
        tokio::spawn(lapce_ai_ipc::serve::<EngineProtocol, _>(b, Ident::new("s", "1"), other));
        let client = Client::<EngineProtocol>::over(a, Ident::new("c", "1")).await.unwrap();
        assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
        // It goes on where it was, then dies; nothing of it stays.
        child.signal(libc::SIGCONT);
        until("it reads on", || connections.snapshot()[0].messages_out > after.messages_out).await;
        child.signal(libc::SIGKILL);
        child.expect_killed();
        serving.await.unwrap().unwrap();
        assert!(connections.is_empty());
    });
}

/// A process that writes random words all over the memory it shares, every other time over
/// the server's words too.
fn scribbling_client() {
    bounded(async {
        let (path, _dir, listener) = listen();
        let connections = Connections::default();
        let (a, b) = tokio::net::UnixStream::pair().unwrap();
        let echo = Arc::new(Echo::default());
        tokio::spawn(lapce_ai_ipc::serve::<EngineProtocol, _>(
            b,
            Ident::new("s", "1"),
            Arc::clone(&echo),
        ));
        let neighbour = Client::<EngineProtocol>::over(a, Ident::new("c", "1")).await.unwrap();
        let mut caught = 0;
        for seed in 0..24 {
            let child = Child::start("scribble", &path, &[(peers::SEED, &seed.to_string())]);
            let (stream, _) = listener.accept().await.unwrap();
            let (connections, echo) = (connections.clone(), Arc::clone(&echo));
            let mut serving = tokio::spawn(async move {
                let (ident, options) = (Ident::new("s", "1"), Options::default());
                connections.serve::<EngineProtocol, _>(stream, ident, options, echo).await
            });
            let waiting = async {
                loop {
                    tokio::select! {
                        outcome = &mut serving => break outcome.expect("no panic"),
                        () = tokio::time::sleep(Duration::from_millis(5)) => {
                            assert_eq!(neighbour.call(Request::Ping).await.unwrap(), Reply::Pong);
                        }
                    }
                }
            };
            // Its own side may find the damage first, and hang up.
            match tokio::time::timeout(Duration::from_mins(1), waiting).await.expect("an end") {
                Ok(()) => {}
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("broke the protocol"), "{text}");
                    caught += 1;
                }
            }
            drop(child);
        }
        assert!(caught >= 3, "{caught}: the server hardly ever saw the damage");
        assert_eq!(neighbour.call(Request::Ping).await.unwrap(), Reply::Pong);
        assert!(connections.is_empty());
    });
}

fn restart_under_traffic() {
    bounded(async {
        let (path, _dir, listener) = listen();
        drop(listener);
        for round in 0..5 {
            std::fs::remove_file(&path).unwrap();
            let mut child = Child::start("serve", &path, &[]);
            let client = connect(&path).await;
            let done = AtomicU32::new(0);
            let calls = (0..8).map(|_| async {
                loop {
                    match client.call(Request::Ping).await {
                        Ok(_) => done.fetch_add(1, Ordering::SeqCst),
                        Err(CallError::Disconnected(_)) => return,
                        Err(error) => panic!("{error}"),
                    };
                }
            });
            let killer = async {
                until("traffic", || done.load(Ordering::SeqCst) > 100 + round * 200).await;
                child.signal(libc::SIGKILL);
            };
            tokio::join!(futures::future::join_all(calls), killer);
            child.expect_killed();
        }
        // The last socket file stays: its process was killed. Nothing else does.
        std::fs::remove_file(&path).unwrap();
    });
}

fn reconnects() {
    bounded(async {
        let (mut fds, mut rss) = (0, 0);
        for round in 0..10_000 {
            let (a, b) = tokio::net::UnixStream::pair().unwrap();
            let echo = Arc::new(Echo::default());
            let server = tokio::spawn(lapce_ai_ipc::serve::<EngineProtocol, _>(
                b,
                Ident::new("s", "1"),
                echo,
            ));
            let client = Client::<EngineProtocol>::over(a, Ident::new("c", "1")).await.unwrap();
            assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
            drop(client);
            server.await.unwrap().unwrap();
            if round == 1000 {
                fds = peers::open_fds();
                rss = peers::rss_kib();
            }
        }
        // The client's driver ends a turn after its client.
        until("descriptors are back", || peers::open_fds() <= fds).await;
        let grown = peers::rss_kib().saturating_sub(rss);
        assert!(grown < 2048, "RSS grew by {grown} KiB over 9,000 connections");
    });
}

fn many_connections() {
    bounded(async {
        let (path, _dir, listener) = listen();
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let _child = Child::start("serve", &path, &[]);
        let mut clients = vec![connect(&path).await];
        for _ in 1..64 {
            clients.push(connect(&path).await);
        }
        let calls = clients.iter().enumerate().map(|(i, client)| async move {
            for n in 0..50 {
                let text = format!("{i}-{n}-").repeat(100 + i * 40);
                let Reply::Run(run) =
                    client.call(Request::CancelRun { run_id: text.clone() }).await.unwrap()
                else {
                    panic!("another reply")
                };
                assert_eq!(run.run_id, text);
            }
        });
        futures::future::join_all(calls).await;
        let stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let error = Client::<EngineProtocol>::over(stream, Ident::new("c", "1")).await.unwrap_err();
        assert!(error.to_string().contains("64 connections are open"), "{error}");
    });
}

fn portable_names() {
    let names = || {
        std::fs::read_dir("/dev/shm").map_or(0, |d| {
            d.filter_map(Result::ok)
                .filter(|e| e.file_name().to_string_lossy().starts_with("shmem_"))
                .count()
        })
    };
    bounded(async {
        let before = names();
        let (path, _dir, listener) = listen();
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        let mut child = Child::start("serve", &path, &[]);
        let transport = lapce_ai_ipc::Transport::Portable;
        let options = Options { transport, ..Options::default() };
        let client = peers::connect_with(&path, options).await;
        for size in [1usize, 3000, 100_000, 3 << 20] {
            let text = "x".repeat(size);
            let Reply::Run(run) =
                client.call(Request::CancelRun { run_id: text.clone() }).await.unwrap()
            else {
                panic!("another reply")
            };
            assert!(run.run_id == text);
        }
        until("the names are gone", || names() <= before).await;
        child.signal(libc::SIGKILL);
        child.expect_killed();
        client.closed().await;
        assert!(names() <= before);
    });
}
