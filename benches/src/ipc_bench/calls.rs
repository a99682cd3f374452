//! Whole typed calls: codec, call table, runtime and ring, in two processes. And what an
//! idle connection costs.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lapce_ai_ipc::wire::WireError;
use lapce_ai_ipc::wire::engine::{CompleteReply, Reply, Request};
use lapce_ai_ipc::{Client, Connections, Cx, EngineProtocol, Handler, Ident, Options, Transport};

use super::links::pair;
use super::machine::{Peer, Place};
use crate::home::runtime;

struct Echo;

impl Handler<EngineProtocol> for Echo {
    async fn handle(&self, request: Request, _: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        Ok(match request {
            Request::CancelRun { run_id } => {
                Reply::Complete(CompleteReply { text: run_id, model: String::new() })
            }
            _ => Reply::Pong,
        })
    }
}

/// The child: one connection on `fd`.
pub fn serve(fd: RawFd, spin: bool) -> Result<()> {
    // SAFETY: the parent passed it on for us alone.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_nonblocking(true)?;
    runtime()?.block_on(async {
        let options = Options { spin, ..Options::default() };
        Connections::default()
            .serve::<EngineProtocol, _>(
                tokio::net::UnixStream::from_std(socket)?,
                Ident::new("bench", "0"),
                options,
                Arc::new(Echo),
            )
            .await
            .context("serving")
    })
}

async fn connect(
    transport: Transport,
    place: Place,
    spin: bool,
) -> Result<(Client<EngineProtocol>, Peer)> {
    let (ours, theirs) = pair()?;
    let name = if spin { "calls" } else { "calls-parked" };
    let peer = Peer::start(name, place, (0, 0), &[theirs.as_raw_fd()], false)?;
    drop(theirs);
    ours.set_nonblocking(true)?;
    let options = Options { spin, transport, ..Options::default() };
    let socket = tokio::net::UnixStream::from_std(ours)?;
    let client = Client::over_with(socket, Ident::new("bench", "0"), options).await?;
    Ok((client, peer))
}

/// Microseconds of `n` calls: back to back, and with a text of 64 KiB there and back.
pub fn round_trips(
    transport: Transport,
    place: Place,
    spin: bool,
    n: usize,
) -> Result<Vec<(String, Vec<f64>)>> {
    let n = if spin { n } else { n / 10 + 10 };
    runtime()?.block_on(async {
        let (client, _peer) = connect(transport, place, spin).await?;
        let kind = if spin { "hot" } else { "parked" };
        let mut small = Vec::with_capacity(n);
        for i in 0..n + n / 10 {
            let started = Instant::now();
            client.call(Request::Ping).await?;
            if i >= n / 10 {
                small.push(started.elapsed().as_secs_f64() * 1e6);
            }
        }
        let mut large = Vec::with_capacity(n / 10);
        let text = "x".repeat(64 << 10);
        for _ in 0..=n / 10 {
            let request = Request::CancelRun { run_id: text.clone() };
            let started = Instant::now();
            client.call(request).await?;
            large.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(vec![(format!("call {kind}"), small), (format!("call 64 KiB {kind}"), large)])
    })
}

/// Microseconds of pings to a real engine: back to back, and each after a millisecond of
/// silence, when both sides sleep.
pub fn engine(n: usize) -> Result<Vec<(String, Vec<f64>)>> {
    let home = crate::home::Home::new()?;
    runtime()?.block_on(async {
        let client = home.connect().await?;
        let mut cases = Vec::new();
        for (name, n, pause) in [
            ("engine ping hot", n, None),
            ("engine ping parked", n / 20 + 20, Some(Duration::from_millis(1))),
        ] {
            let mut values = Vec::with_capacity(n);
            for i in 0..n + n / 10 {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                let started = Instant::now();
                client.call(Request::Ping).await?;
                if i >= n / 10 {
                    values.push(started.elapsed().as_secs_f64() * 1e6);
                }
            }
            cases.push((name.to_owned(), values));
        }
        home.stop(client).await?;
        Ok(cases)
    })
}

/// Share of one CPU that a server with one open, silent connection uses.
pub fn idle_cpu(transport: Transport, time: Duration) -> Result<f64> {
    runtime()?.block_on(async {
        let (client, peer) = connect(transport, Place::Free, true).await?;
        client.call(Request::Ping).await?;
        // Its own tidying comes a second after the last message.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let before = peer.cpu_ns()?;
        tokio::time::sleep(time).await;
        let used = peer.cpu_ns()? - before;
        Ok(used as f64 / time.as_nanos() as f64)
    })
}
