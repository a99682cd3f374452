//! Calls over a connection inside one process: the shape of a call, streams, credits,
//! cancel, deadlines, errors, death.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapce_ai_ipc::wire::engine::{Ask, AskReply, Event, Reply, Request, Search, Usage};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use lapce_ai_ipc::{
    CallError, Cancelled, Client, Connections, Cx, EngineClient, EngineProtocol, Handler, Ident,
    Options, serve,
};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

#[derive(Default)]
struct Echo {
    cancelled: AtomicU32,
    running: AtomicU32,
}

fn ask_reply(stop: &str) -> Reply {
    Reply::Ask(AskReply {
        answered: true,
        model: String::new(),
        citations: vec![],
        usage: Usage::default(),
        stop: stop.into(),
        hint: String::new(),
        conversation: String::new(),
    })
}

impl Handler<EngineProtocol> for Echo {
    async fn handle(&self, request: Request, cx: Cx<EngineProtocol>) -> Result<Reply, WireError> {
        match request {
            Request::Ping => Ok(Reply::Pong),
            // Comes back as it is.
            Request::CancelRun { run_id } => Ok(ask_reply(&run_id)),
            Request::Search(search) if search.query == "panic" => panic!("as asked"),
            Request::Search(_) => {
                Err(WireError::new(ErrorKind::NotFound, "no such index").hint("build it"))
            }
            Request::Ask(ask) => {
                self.running.fetch_add(1, Ordering::SeqCst);
                let tokens: u32 = ask.model.parse().unwrap();
                for i in 0..tokens {
                    if let Err(Cancelled) =
                        cx.emit(Event::Text(format!("{}{i} ", ask.question))).await
                    {
                        self.cancelled.fetch_add(1, Ordering::SeqCst);
                        return Err(WireError::new(ErrorKind::Cancelled, "cancelled"));
                    }
                }
                cx.emit(Event::Notice("end".into())).await.ok();
                Ok(ask_reply("stop"))
            }
            // Waits until it is cancelled.
            Request::Status => {
                self.running.fetch_add(1, Ordering::SeqCst);
                cx.cancelled().cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                Err(WireError::new(ErrorKind::Cancelled, "cancelled"))
            }
            // Ignores cancelling.
            Request::Stop => {
                self.running.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
            other => Err(WireError::new(ErrorKind::Unsupported, format!("{other:?}"))),
        }
    }
}

type Served = JoinHandle<Result<(), lapce_ai_ipc::ServeError>>;

async fn pair_with(options: Options) -> (Client<EngineProtocol>, Arc<Echo>, Served) {
    let (a, b) = UnixStream::pair().unwrap();
    let echo = Arc::new(Echo::default());
    let handler = Arc::clone(&echo);
    let server = tokio::spawn(async move {
        Connections::default()
            .serve::<EngineProtocol, _>(b, Ident::new("server", "2"), Options::default(), handler)
            .await
    });
    let client = Client::over_with(a, Ident::new("client", "1"), options).await.unwrap();
    (client, echo, server)
}

async fn pair() -> (Client<EngineProtocol>, Arc<Echo>, Served) {
    pair_with(Options::default()).await
}

fn ask(prefix: &str, tokens: u32) -> Request {
    Request::Ask(Ask {
        root: String::new(),
        question: prefix.into(),
        editor: None,
        model: tokens.to_string(),
        transcript: false,
        ..Ask::default()
    })
}

const MINUTE: Duration = Duration::from_mins(1);

/// Messages that have come, once ten looks in a row have shown the same: between two looks
/// a writer that goes on would have sent more.
async fn settled(client: &Client<EngineProtocol>) -> u64 {
    let (mut seen, mut same) = (0, 0);
    let settling = async {
        while same < 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = client.info().messages_in;
            same = if now == seen && now > 0 { same + 1 } else { 0 };
            seen = now;
        }
    };
    tokio::time::timeout(MINUTE, settling).await.expect("the writer stops");
    seen
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

/// The text that `count` events with this prefix add up to.
fn numbered(prefix: &str, count: usize) -> String {
    let parts: Vec<_> = (0..count).map(|i| format!("{prefix}{i} ")).collect();
    parts.concat()
}

#[tokio::test]
async fn a_call_gets_its_reply_and_both_sides_know_each_other() {
    let (client, _, _server) = pair().await;
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
    assert_eq!(client.peer().name, "server");
    assert_eq!(client.peer().pid, std::process::id());
    assert_eq!(client.peer().session.len(), 32);
}

#[tokio::test]
async fn without_spinning_it_works_the_same() {
    let options = Options { spin: false, ..Options::default() };
    let (client, _, _server) = pair_with(options).await;
    for _ in 0..100 {
        assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_share_one_connection() {
    let (client, _, _server) = pair().await;
    let tasks: Vec<_> = (0..16)
        .map(|t| {
            let client = client.clone();
            tokio::spawn(async move {
                for i in 0..200 {
                    let size = (t * 7919 + i * 101) % 40_000;
                    let text = format!("{t}-{i}-").repeat(size / 6 + 1);
                    let reply = client.call(Request::CancelRun { run_id: text.clone() }).await;
                    assert_eq!(reply.unwrap(), ask_reply(&text));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test]
async fn large_messages_travel_in_fragments_while_small_ones_pass() {
    let (client, _, _server) = pair().await;
    for size in [0, 1, 32 << 10, (32 << 10) + 1, 131_000, 1 << 20, 16 << 20] {
        let text = "x".repeat(size);
        let (large, small) = tokio::join!(
            client.call(Request::CancelRun { run_id: text.clone() }),
            client.call(Request::Ping)
        );
        assert_eq!(small.unwrap(), Reply::Pong);
        assert_eq!(large.unwrap(), ask_reply(&text));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_an_error_for_its_caller_alone() {
    let (client, _, _server) = pair().await;
    let text = "x".repeat(64 << 20);
    let error = client.call(Request::CancelRun { run_id: text }).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge(_)), "{error}");
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test]
async fn events_come_whole_in_order_and_before_the_reply() {
    let (client, _, _server) = pair().await;
    let mut call = client.start(ask("t", 1000));
    let mut text = String::new();
    let mut end = false;
    while let Some(event) = call.next().await {
        match event {
            Event::Text(part) => {
                assert!(!end);
                text.push_str(&part);
            }
            Event::Notice(_) => end = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(end);
    assert_eq!(text, numbered("t", 1000));
    assert_eq!(call.finish().await.unwrap(), ask_reply("stop"));
}

#[tokio::test]
async fn events_of_mixed_sizes_keep_their_order() {
    let (client, _, _server) = pair().await;
    // 20 kB events go over control until credit runs out; 50 kB ones over bulk.
    for prefix in ["x".repeat(20_000), "y".repeat(50_000)] {
        let mut call = client.start(ask(&prefix, 40));
        let mut text = String::new();
        while let Some(event) = call.next().await {
            if let Event::Text(part) = event {
                text.push_str(&part);
            }
        }
        assert!(text == numbered(&prefix, 40));
        call.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_writer_and_nobody_else() {
    let (client, echo, _server) = pair().await;
    let call = client.start(ask("slow", 1_000_000));
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    let stalled_at = settled(&client).await;
    assert!(stalled_at <= 64, "{stalled_at} events without credit");
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
    drop(call);
    until("cancelled", || echo.cancelled.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn tokens_merge_while_the_reader_is_behind() {
    let (client, _, _server) = pair().await;
    let mut call = client.start(ask("t", 400));
    settled(&client).await;
    let mut events = 0;
    let mut text = String::new();
    while let Some(event) = call.next().await {
        events += 1;
        if let Event::Text(part) = event {
            text.push_str(&part);
        }
    }
    assert_eq!(text, numbered("t", 400));
    assert!(events < 200, "{events} events for 400 tokens");
}

#[tokio::test]
async fn a_held_back_token_leaves_by_itself() {
    struct OneMore;
    impl Handler<EngineProtocol> for OneMore {
        async fn handle(&self, _: Request, cx: Cx<EngineProtocol>) -> Result<Reply, WireError> {
            // More than the reader may be behind, then silence.
            for i in 0..40 {
                cx.emit(Event::Text(format!("{i} "))).await.unwrap();
            }
            cx.cancelled().cancelled().await;
            Ok(Reply::Done)
        }
    }
    let (a, b) = UnixStream::pair().unwrap();
    tokio::spawn(serve::<EngineProtocol, _>(b, Ident::new("s", "1"), Arc::new(OneMore)));
    let client = Client::<EngineProtocol>::over(a, Ident::new("c", "1")).await.unwrap();
    let mut call = client.start(Request::Ping);
    let mut text = String::new();
    while !text.ends_with("39 ") {
        let event = tokio::time::timeout(MINUTE, call.next()).await;
        let Ok(Some(Event::Text(part))) = event else { panic!("{text:?}, then {event:?}") };
        text.push_str(&part);
    }
}

#[tokio::test]
async fn dropping_a_call_cancels_it() {
    let (client, echo, _server) = pair().await;
    let call = client.start(Request::Status);
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    drop(call);
    until("cancelled", || echo.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test]
async fn a_cancel_passes_a_queue_of_bulk() {
    let (client, echo, _server) = pair().await;
    let waiting = client.start(Request::Status);
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    let text = "x".repeat(8 << 20);
    let bulk: Vec<_> =
        (0..4).map(|_| client.start(Request::CancelRun { run_id: text.clone() })).collect();
    drop(waiting);
    // Before anything of the bulk could be answered the cancel is out.
    until("cancelled", || echo.cancelled.load(Ordering::SeqCst) == 1).await;
    // Cancelled while queued and half sent: they never run, and nothing breaks.
    drop(bulk);
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
    assert_eq!(
        client.call(Request::CancelRun { run_id: text.clone() }).await.unwrap(),
        ask_reply(&text)
    );
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let (client, echo, _server) = pair().await;
    // Late enough that the other side has begun.
    let error = client.call_within(Duration::from_secs(2), Request::Status).await.unwrap_err();
    assert!(matches!(error, CallError::Deadline), "{error}");
    until("cancelled", || echo.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test]
async fn a_handler_that_ignores_its_cancel_is_dropped() {
    let (client, echo, server) = pair().await;
    let call = client.start(Request::Stop);
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
    drop(call);
    drop(client);
    // The server waits for its handlers, so this ends only when the handler was dropped.
    tokio::time::timeout(MINUTE, server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn errors_and_panics_come_back_typed() {
    let (client, _, _server) = pair().await;
    let search = |query: &str| {
        Request::Search(Search {
            root: String::new(),
            query: query.into(),
            limit: 1,
            explain: false,
        })
    };
    let Err(CallError::Remote(error)) = client.call(search("x")).await else { panic!() };
    assert_eq!((error.kind, error.hint.as_str()), (ErrorKind::NotFound, "build it"));
    let Err(CallError::Remote(error)) = client.call(search("panic")).await else { panic!() };
    assert_eq!(error.kind, ErrorKind::Internal);
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test]
async fn the_engine_client_picks_the_reply_it_asked_for() {
    let (client, _, _server) = pair().await;
    let engine = EngineClient(client);
    engine.ping().await.unwrap();
    let ask = Ask {
        root: String::new(),
        question: "q".into(),
        editor: None,
        model: "3".into(),
        transcript: false,
        ..Ask::default()
    };
    let mut answer = engine.ask(ask);
    let events: Vec<Event> = (&mut answer).collect().await;
    assert_eq!(events.len(), 4);
    assert!(answer.finish().await.unwrap().answered);
    // The server answers CancelRun with an Ask reply here: the type says so.
    let error = engine.cancel_run("x").await.unwrap_err();
    assert_eq!(error.to_string(), "unexpected reply: Ask");
}

#[tokio::test]
async fn a_server_that_goes_fails_what_is_open() {
    let (client, echo, server) = pair().await;
    let call = client.start(Request::Status);
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    server.abort();
    let error = call.finish().await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error}");
    client.closed().await;
    assert!(matches!(client.call(Request::Ping).await, Err(CallError::Disconnected(_))));
}

#[tokio::test]
async fn a_client_that_goes_cancels_what_it_asked_for() {
    let (client, echo, server) = pair().await;
    let call = client.start(Request::Status);
    until("started", || echo.running.load(Ordering::SeqCst) == 1).await;
    drop(client);
    assert!(!server.is_finished());
    drop(call);
    server.await.unwrap().unwrap();
    assert_eq!(echo.cancelled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn too_many_calls_are_an_error_not_a_wait() {
    let (client, echo, _server) = pair().await;
    let calls: Vec<_> = (0..256).map(|_| client.start(Request::Status)).collect();
    let error = client.call(Request::Ping).await.unwrap_err();
    assert!(matches!(error, CallError::Busy(_)), "{error}");
    until("all run", || echo.running.load(Ordering::SeqCst) == 256).await;
    drop(calls);
    until("all cancelled", || echo.cancelled.load(Ordering::SeqCst) == 256).await;
    assert_eq!(client.call(Request::Ping).await.unwrap(), Reply::Pong);
}

#[tokio::test]
async fn counters_count() {
    let connections = Connections::new(2);
    let (a, b) = UnixStream::pair().unwrap();
    let served = connections.clone();
    let server = tokio::spawn(async move {
        let echo = Arc::new(Echo::default());
        served.serve::<EngineProtocol, _>(b, Ident::new("s", "1"), Options::default(), echo).await
    });
    let client = Client::<EngineProtocol>::over(a, Ident::new("c", "9")).await.unwrap();
    for _ in 0..10 {
        client.call(Request::Ping).await.unwrap();
    }
    let ours = client.info();
    assert_eq!((ours.messages_in, ours.messages_out), (10, 10));
    let all = connections.snapshot();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].client, "c 9");
    assert_eq!(all[0].session, ours.session);
    assert_eq!((all[0].messages_in, all[0].bytes_in), (10, ours.bytes_out));
    assert!(all[0].high_water > 0 && all[0].call_p99_us > 0);
    drop(client);
    server.await.unwrap().unwrap();
    assert!(connections.is_empty());
}

#[tokio::test]
async fn more_connections_than_allowed_are_refused_with_a_message() {
    let connections = Connections::new(1);
    let mut clients = vec![];
    for expected in [true, false] {
        let (a, b) = UnixStream::pair().unwrap();
        let served = connections.clone();
        tokio::spawn(async move {
            let echo = Arc::new(Echo::default());
            served
                .serve::<EngineProtocol, _>(b, Ident::new("s", "1"), Options::default(), echo)
                .await
        });
        let client = Client::<EngineProtocol>::over(a, Ident::new("c", "9")).await;
        assert_eq!(client.is_ok(), expected);
        if let Err(error) = &client {
            assert!(error.to_string().contains("1 connections are open"), "{error}");
        }
        clients.push(client);
    }
}
