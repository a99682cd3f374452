//! The provider layer against a scripted server: what comes over a real socket, in every
//! shape that providers were seen to send.

mod support;

use std::sync::Arc;

use lapce_ai_engine::config::Config;
use lapce_ai_engine::provider::{
    ChatRequest, Delta, Fault, FimRequest, Finish, Message, Model, Ports, ProviderError, Providers,
    Stop,
};
use serde_json::json;
use support::scripted::{
    self, Script, Scripted, Step, closed_port, cut, delta, dribble, end, error, event, hanging,
    json_body, stream, words,
};
use support::within;

const KEY_VARIABLE: &str = "CARGO_MANIFEST_DIR";

fn model(base_url: &str, extra: &str) -> Model {
    let config = Config::parse(&format!(
        "[providers.p]\nkind = \"openai\"\nbase_url = \"{base_url}\"\n{extra}"
    ))
    .unwrap();
    Model::from_config(&config, "p/m").unwrap()
}

/// Everything a stream brought.
struct Heard {
    text: String,
    notices: Vec<String>,
    end: Result<Finish, ProviderError>,
}

impl Heard {
    fn fault(&self) -> Fault {
        self.end.as_ref().unwrap_err().fault
    }

    fn stop(&self) -> Stop {
        self.end.as_ref().unwrap().stop.clone()
    }
}

async fn hear(model: &Model) -> Heard {
    let providers = Providers::default();
    let request = ChatRequest {
        messages: vec![Message::user("hi")],
        max_output: 10,
        ..ChatRequest::default()
    };
    let mut stream = providers.chat(model, request);
    let (mut text, mut notices) = (String::new(), Vec::new());
    within(async {
        loop {
            match stream.next().await {
                Delta::Text(t) => text.push_str(&t),
                Delta::Notice(t) => notices.push(t),
                Delta::End(end) => break Heard { text, notices, end },
                Delta::Reasoning(_) | Delta::CallStarted { .. } => {}
            }
        }
    })
    .await
}

async fn hear_scripts(scripts: Vec<Script>) -> (Heard, Scripted) {
    let server = Scripted::new(scripts).await;
    (hear(&model(&server.base_url(), "")).await, server)
}

#[tokio::test]
async fn bytes_cut_anywhere_make_the_same_answer() {
    let body = format!(
        ": OPENROUTER PROCESSING\r\n\r\n{}{}: keepalive\n\n{}",
        delta(&json!({"content": "grün "})).replace('\n', "\r\n"),
        delta(&json!({"content": "日本"})),
        end("stop")
    );
    for size in [1, 2, 3, 7, 4096] {
        let (heard, server) = hear_scripts(vec![dribble(&body, size)]).await;
        assert_eq!(heard.text, "grün 日本");
        let finish = heard.end.unwrap();
        assert_eq!((finish.stop, finish.usage.input, finish.usage.output), (Stop::Done, 20, 5));
        let seen = &server.seen()[0];
        assert_eq!(seen.target(), "/v1/chat/completions");
        assert_eq!(
            (seen.body["model"].as_str(), seen.body["max_tokens"].as_u64()),
            (Some("m"), Some(10))
        );
        assert!(seen.header("user-agent").unwrap().starts_with("lapce-ai/"));
    }
}

#[tokio::test]
async fn a_rate_limit_is_waited_out_and_told_at_once() {
    let limit = error(
        429,
        &[("retry-after-ms", "20")],
        r#"{"error":{"message":"slow down","type":"rate_limit_exceeded"}}"#,
    );
    let (heard, server) = hear_scripts(vec![limit.clone(), limit, words("fine")]).await;
    assert_eq!((heard.text.as_str(), server.seen().len()), ("fine", 3));
    assert_eq!(heard.notices.len(), 2);
    assert!(
        heard.notices[0].starts_with("p: rate limited, next try in 0."),
        "{}",
        heard.notices[0]
    );
    assert!(heard.notices[0].ends_with("s (try 2 of 4)"), "{}", heard.notices[0]);
}

#[tokio::test]
async fn quota_and_billing_errors_are_not_tried_again() {
    for (status, body) in [
        (
            429,
            r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
        ),
        (402, r#"{"error":{"message":"Insufficient Balance"}}"#),
    ] {
        let (heard, server) = hear_scripts(vec![error(
            status,
            &[("retry-after", "0"), ("x-should-retry", "true")],
            body,
        )])
        .await;
        assert_eq!((heard.fault(), server.seen().len()), (Fault::Quota, 1));
        assert!(heard.notices.is_empty());
        assert!(heard.end.unwrap_err().wire().hint.contains("credit"));
    }
}

#[tokio::test]
async fn tries_are_bounded_and_the_provider_may_forbid_them() {
    let busy = error(503, &[("retry-after-ms", "1")], "busy");
    let (heard, server) = hear_scripts(vec![busy; 9]).await;
    assert_eq!((heard.fault(), server.seen().len(), heard.notices.len()), (Fault::Server, 4, 3));
    let never = error(503, &[("x-should-retry", "false")], "busy");
    let (heard, server) = hear_scripts(vec![never]).await;
    assert_eq!((heard.fault(), server.seen().len()), (Fault::Server, 1));
}

#[tokio::test]
async fn an_answer_cut_in_the_middle_is_truncated_and_not_asked_for_again() {
    let part = delta(&json!({"content": "half an"}));
    // Closed without a terminal, cut below its declared length, cut in mid-event.
    for script in
        [stream(&part), cut(&part), stream(&format!("{part}data: {{\"choices\":[{{\"del"))]
    {
        let (heard, server) = hear_scripts(vec![script, words("second")]).await;
        assert_eq!(
            (heard.text.as_str(), heard.stop(), server.seen().len()),
            ("half an", Stop::Truncated, 1)
        );
        assert!(heard.notices[0].contains("cut off"), "{:?}", heard.notices);
    }
}

#[tokio::test]
async fn a_call_of_a_cut_answer_is_lost() {
    let call = delta(
        &json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}}]}),
    );
    let (heard, _server) = hear_scripts(vec![stream(&call)]).await;
    let finish = heard.end.unwrap();
    assert_eq!((finish.stop, finish.calls.len()), (Stop::Truncated, 0));
}

#[tokio::test]
async fn before_the_first_token_a_broken_stream_is_tried_again() {
    let in_stream = stream(&event(&json!({"error": {"code": 502, "message": "upstream"}})));
    for script in [stream(""), cut(": keepalive\n\n"), in_stream] {
        let (heard, server) = hear_scripts(vec![script, words("second")]).await;
        assert_eq!(
            (heard.text.as_str(), server.seen().len(), heard.notices.len()),
            ("second", 2, 1)
        );
    }
}

#[tokio::test]
async fn an_error_after_the_first_token_ends_the_answer() {
    let body = format!(
        "{}{}",
        delta(&json!({"content": "a"})),
        event(&json!({"error": {"code": 502, "message": "upstream died"}}))
    );
    let (heard, server) = hear_scripts(vec![stream(&body), words("second")]).await;
    assert_eq!((heard.text.as_str(), heard.fault(), server.seen().len()), ("a", Fault::Server, 1));
    assert!(heard.end.unwrap_err().message.contains("upstream died"));
}

#[tokio::test]
async fn a_whole_answer_or_error_instead_of_a_stream() {
    let whole = json_body(
        r#"{"choices":[{"index":0,"message":{"content":"whole"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#,
    );
    let (heard, _server) = hear_scripts(vec![whole]).await;
    assert_eq!((heard.text.as_str(), heard.end.unwrap().usage.input), ("whole", 3));
    let refused = json_body(r#"{"error":{"message":"model not loaded","code":"model_not_found"}}"#);
    let (heard, _server) = hear_scripts(vec![refused]).await;
    assert_eq!(heard.fault(), Fault::NotFound);
}

#[tokio::test]
async fn a_line_without_an_end_ends_the_answer() {
    let body = format!("{}data: {}", delta(&json!({"content": "a"})), "x".repeat(2 * 1024 * 1024));
    let (heard, _server) = hear_scripts(vec![stream(&body)]).await;
    assert_eq!(heard.fault(), Fault::Protocol);
    assert!(heard.end.unwrap_err().message.contains("longer than"));
}

#[tokio::test]
async fn the_end_does_not_wait_for_the_connection() {
    let (heard, _server) =
        hear_scripts(vec![hanging(&format!("{}{}", delta(&json!({"content": "a"})), end("stop")))])
            .await;
    assert_eq!(heard.stop(), Stop::Done);
}

#[tokio::test]
async fn silence_ends_an_answer() {
    let server =
        Scripted::new(vec![hanging(&delta(&json!({"content": "a"}))), Script(vec![Step::Hang])])
            .await;
    let model =
        model(&server.base_url(), "[network]\nidle_timeout_s = 1\nfirst_byte_timeout_s = 4\n");
    let heard = hear(&model).await;
    assert_eq!((heard.text.as_str(), heard.stop()), ("a", Stop::Truncated));
    assert!(heard.notices[0].contains("silence for 1 s"));
    // Nothing at all: an error, and not asked for again, for it may be billed.
    let heard = hear(&model).await;
    assert_eq!((heard.fault(), server.seen().len()), (Fault::Timeout, 2));
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    let server = Scripted::new(vec![hanging(&delta(&json!({"content": "a"})))]).await;
    let providers = Providers::default();
    let request = ChatRequest { messages: vec![Message::user("hi")], ..ChatRequest::default() };
    let mut stream = providers.chat(&model(&server.base_url(), ""), request);
    within(async {
        assert!(matches!(stream.next().await, Delta::Text(_)));
        drop(stream);
        server.client_left().await;
    })
    .await;
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let key = std::env::var(KEY_VARIABLE).unwrap();
    let extra = format!("key = {{ env = \"{KEY_VARIABLE}\" }}\n");
    let body = json!({"error": {"message": format!("Incorrect API key provided: {key}."), "code": "invalid_api_key"}}).to_string();
    let server = Scripted::new(vec![
        error(401, &[], &body),
        stream(&event(&json!({"error": {"message": format!("no {key}")}}))),
    ])
    .await;
    let model = model(&server.base_url(), &extra);
    let heard = hear(&model).await;
    assert_eq!(heard.fault(), Fault::Auth);
    let shown = heard.end.unwrap_err();
    assert_eq!(shown.message, "Incorrect API key provided: [key].");
    assert!(!format!("{shown:?}").contains(&key));
    assert_eq!(server.seen()[0].header("authorization"), Some(format!("Bearer {key}").as_str()));
    assert_eq!(hear(&model).await.end.unwrap_err().message, "no [key]");

    let server = Scripted::new(vec![words("a")]).await;
    hear(&self::model(&server.base_url(), &format!("{extra}auth = \"api-key\"\n"))).await;
    assert_eq!(server.seen()[0].header("api-key"), Some(key.as_str()));
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Scripted::new(vec![words("stolen")]).await;
    let location = format!("{}/chat/completions", other.base_url());
    let (heard, _server) = hear_scripts(vec![error(307, &[("location", &location)], "")]).await;
    assert_eq!((heard.fault(), other.seen().len()), (Fault::NotFound, 0));
    assert!(heard.end.unwrap_err().hint.contains("base_url"));
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let heard = hear(&model(&format!("http://127.0.0.1:{}/v1", closed_port()), "")).await;
    assert_eq!(heard.fault(), Fault::Network);
    assert!(heard.notices.is_empty());
    let wire = heard.end.unwrap_err().wire();
    assert!(
        wire.message.contains("127.0.0.1:") && wire.message.contains("refused"),
        "{}",
        wire.message
    );
    assert!(wire.hint.contains("start the model server"), "{}", wire.hint);
}

#[tokio::test]
async fn a_proxy_carries_the_rest_of_the_world_but_not_this_machine() {
    let proxy = Scripted::new(vec![words("through the proxy")]).await;
    let network = format!("[network]\nproxy = \"http://127.0.0.1:{}\"\n", proxy.port);
    let heard = hear(&model("http://model.invalid/v1", &network)).await;
    assert_eq!(heard.text, "through the proxy");
    assert_eq!(proxy.seen()[0].target(), "http://model.invalid/v1/chat/completions");
    let direct = Scripted::new(vec![words("direct")]).await;
    assert_eq!(hear(&model(&direct.base_url(), &network)).await.text, "direct");
    assert_eq!(proxy.seen().len(), 1);
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_it_is_named() {
    let fixtures = std::env::current_dir().unwrap().join("tests/fixtures");
    let fixtures = fixtures.to_str().unwrap();
    let server = Scripted::tls(vec![words("over TLS")], tls_config(fixtures)).await;
    let url = format!("https://localhost:{}/v1", server.port);
    let heard = hear(&model(&url, "")).await;
    assert_eq!(heard.fault(), Fault::Network);
    let error = heard.end.unwrap_err();
    assert!(
        error.message.contains("certificate") && error.hint.contains("ca_file"),
        "{error} {}",
        error.hint
    );
    assert!(heard.notices.is_empty(), "a bad certificate does not get better");
    let heard = hear(&model(&url, &format!("[network]\nca_file = \"{fixtures}/ca.pem\"\n"))).await;
    assert_eq!(heard.text, "over TLS");
}

fn tls_config(fixtures: &str) -> Arc<rustls::ServerConfig> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(format!("{fixtures}/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("{fixtures}/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn ghost_text_in_each_form() {
    for (kind, body, target) in [
        ("llamacpp", r#"{"content":"x","stop":true}"#, "/infill"),
        ("openai", r#"{"choices":[{"text":"x"}]}"#, "/v1/completions"),
        ("mistral", r#"{"choices":[{"message":{"content":"x"}}]}"#, "/v1/fim/completions"),
        ("ollama", r#"{"response":"x","done":true}"#, "/api/generate"),
    ] {
        let server =
            Scripted::new(vec![json_body(body), error(500, &[], r#"{"error":"no insert"}"#)]).await;
        let config = Config::parse(&format!(
            "[providers.p]\nkind = \"{kind}\"\nbase_url = \"{}\"\n",
            server.base_url()
        ))
        .unwrap();
        let model = Model::from_config(&config, "p/m").unwrap();
        let request =
            FimRequest { prefix: "a".into(), suffix: "b".into(), max_tokens: 5, stop: vec![] };
        let providers = Providers::default();
        assert_eq!(providers.fill(&model, &request).await.unwrap(), "x");
        assert_eq!(server.seen()[0].target(), target);
        let failed = providers.fill(&model, &request).await.unwrap_err();
        assert_eq!(
            (failed.fault, failed.message.as_str(), server.seen().len()),
            (Fault::Server, "no insert", 2)
        );
    }
}

#[tokio::test]
async fn model_servers_of_this_machine_are_found_and_told_apart() {
    let llama = r#"{"object":"list","data":[{"id":"/models/smollm2.gguf","object":"model","owned_by":"llamacpp"}]}"#;
    let other = "<html>a web page</html>";
    let none = closed_port();
    let find = async |llama: u16, ollama: u16, studio: u16| {
        let providers =
            Providers::with_ports(Ports { llama_server: llama, ollama, lm_studio: studio });
        let config = Config::default();
        let found = providers.chat_model(&config, "").await.unwrap();
        assert_eq!(
            providers.describe_chat(&config).0,
            found.as_ref().map(Model::id).unwrap_or_default()
        );
        found
    };
    let server = Scripted::new(vec![
        json_body(llama),
        json_body(r#"{"default_generation_settings":{"n_ctx":4096}}"#),
    ])
    .await;
    let found = find(server.port, none, none).await.unwrap();
    assert_eq!((found.id().as_str(), found.context), ("llama-server/smollm2", 4096));

    let page = Scripted::new(vec![json_body(other)]).await;
    let tags = r#"{"models":[{"name":"nomic-embed-text:latest"},{"name":"qwen2.5-coder:7b"}]}"#;
    let ollama = Scripted::new(vec![json_body(tags)]).await;
    let found = find(page.port, ollama.port, none).await.unwrap();
    assert_eq!(found.id(), "ollama/qwen2.5-coder:7b");

    let page = Scripted::new(vec![json_body(other)]).await;
    assert_eq!(find(page.port, none, none).await, None);

    let off = Config::parse("[models]\ndetect_local = false\n").unwrap();
    let server = Scripted::new(vec![json_body(llama)]).await;
    let providers =
        Providers::with_ports(Ports { llama_server: server.port, ollama: none, lm_studio: none });
    assert_eq!(providers.chat_model(&off, "").await.unwrap(), None);
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn what_was_found_is_remembered_and_may_be_named() {
    let llama = r#"{"data":[{"id":"s","owned_by":"llamacpp"}]}"#;
    let server = Scripted::new(vec![json_body(llama), error(404, &[], "")]).await;
    let none = closed_port();
    let providers =
        Providers::with_ports(Ports { llama_server: server.port, ollama: none, lm_studio: none });
    let config = Config::default();
    assert_eq!(
        providers.chat_model(&config, "llama-server/s").await.unwrap().unwrap().id(),
        "llama-server/s"
    );
    assert_eq!(providers.chat_model(&config, "").await.unwrap().unwrap().id(), "llama-server/s");
    assert_eq!(server.seen().len(), 2, "asked once: the list and the properties");
    let error = providers.chat_model(&config, "nobody/x").await.unwrap_err();
    assert!(error.message.contains("nobody: is not configured"), "{}", error.message);
    let _ = scripted::closed_port();
}
