use super::super::lines::{Framing, Splitter};
use super::super::wire::Decode;
use super::*;

/// The answer of a whole body, given in pieces of `step` bytes.
fn decode(body: &str, step: usize) -> (String, Vec<Delta>, Result<Finish, ProviderError>) {
    let mut splitter = Splitter::new(Framing::Sse);
    let mut decoder = Box::new(Decoder::new("p"));
    let mut frames = Vec::new();
    for chunk in body.as_bytes().chunks(step) {
        splitter.push(chunk, &mut frames).unwrap();
    }
    splitter.finish(&mut frames).unwrap();
    let mut deltas = Vec::new();
    for frame in frames {
        if let Err(error) = decoder.frame(&frame.event, &frame.data, &mut deltas) {
            return (text(&deltas), deltas, Err(error));
        }
    }
    (text(&deltas), deltas, decoder.finish())
}

fn text(deltas: &[Delta]) -> String {
    deltas
        .iter()
        .filter_map(|d| if let Delta::Text(t) = d { Some(t.as_str()) } else { None })
        .collect()
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

fn delta(delta: &Value) -> String {
    event(&json!({"choices": [{"index": 0, "delta": delta}]}))
}

fn stop(reason: &str) -> String {
    event(&json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

const DONE: &str = "data: [DONE]\n\n";

#[test]
fn text_and_usage() {
    let body = [
        ": keepalive\n\n".to_owned(),
        delta(&json!({"role": "assistant", "content": ""})),
        delta(&json!({"content": "grün"})),
        delta(&json!({"content": " €"})),
        stop("stop"),
        event(&json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 60}, "completion_tokens_details": {"reasoning_tokens": 10}}})),
        DONE.to_owned(),
    ]
    .concat();
    for step in 1..40 {
        let (text, _, finish) = decode(&body, step);
        assert_eq!(text, "grün €");
        let finish = finish.unwrap();
        assert_eq!(finish.stop, Stop::Done);
        assert_eq!(
            finish.usage,
            Usage { input: 40, cache_read: 60, cache_write: 0, reasoning: 10, output: 20 }
        );
    }
}

#[test]
fn usage_of_groq_and_deepseek() {
    let groq = event(
        &json!({"choices": [], "x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}}),
    );
    let (_, _, finish) = decode(&[stop("stop"), groq].concat(), 1000);
    assert_eq!(finish.unwrap().usage, Usage { input: 5, output: 2, ..Usage::default() });
    let deepseek = json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_cache_hit_tokens": 8, "prompt_cache_miss_tokens": 2});
    assert_eq!(
        read_usage(&deepseek),
        Usage { input: 2, cache_read: 8, output: 1, ..Usage::default() }
    );
}

#[test]
fn a_call_in_pieces() {
    let body = [
        delta(&json!({"content": "Let me look."})),
        delta(&json!({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "read_file", "arguments": ""}}]})),
        delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"pa"}}]})),
        delta(&json!({"tool_calls": [{"index": 0, "function": {"arguments": "th\":\"a.rs\"}"}}]})),
        delta(&json!({"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "list_files", "arguments": "{\"path\":\".\"}"}}]})),
        stop("tool_calls"),
        DONE.to_owned(),
    ]
    .concat();
    let (_, deltas, finish) = decode(&body, 7);
    let finish = finish.unwrap();
    assert_eq!(finish.stop, Stop::ToolCalls);
    let calls: Vec<_> = finish
        .calls
        .iter()
        .map(|c| (c.id.as_str(), c.name.as_str(), c.arguments.clone().unwrap()))
        .collect();
    assert_eq!(calls[0].0, "c1");
    assert_eq!(calls[0].2["path"], "a.rs");
    assert_eq!((calls[1].0, calls[1].1), ("c2", "list_files"));
    assert_eq!(deltas.iter().filter(|d| matches!(d, Delta::CallStarted { .. })).count(), 2);
}

#[test]
fn calls_with_one_index_objects_and_no_id() {
    let body = [
        delta(&json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": {"n": 1}}}]})),
        delta(&json!({"tool_calls": [{"index": 0, "id": "b", "function": {"name": "y", "arguments": ""}}]})),
        stop("stop"),
    ]
    .concat();
    let finish = decode(&body, 1000).2.unwrap();
    assert_eq!(finish.stop, Stop::ToolCalls, "a server that says stop although it calls");
    assert_eq!(finish.calls.len(), 2);
    assert_eq!(finish.calls[0].arguments.as_ref().unwrap()["n"], 1);
    assert!(finish.calls[1].arguments.as_ref().unwrap().is_empty());

    let body = [
        delta(&json!({"tool_calls": [{"function": {"name": "x", "arguments": "{}"}}]})),
        stop("tool_calls"),
    ]
    .concat();
    assert_eq!(decode(&body, 1000).2.unwrap().calls[0].id, "call_0");
}

#[test]
fn broken_arguments_go_back_to_the_model() {
    let body = [delta(&json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{\"a\":"}}]})), stop("tool_calls")].concat();
    let finish = decode(&body, 1000).2.unwrap();
    assert!(finish.calls[0].arguments.is_err());
    assert_eq!(finish.calls[0].raw, "{\"a\":");
}

/// Cut after every event: never a success, never a call.
#[test]
fn a_missing_terminal_is_truncated() {
    let parts = [
        delta(&json!({"content": "a"})),
        delta(
            &json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}}]}),
        ),
    ];
    for n in 0..=parts.len() {
        let finish = decode(&parts[..n].concat(), 1000).2.unwrap();
        assert_eq!(finish.stop, Stop::Truncated);
        assert!(finish.calls.is_empty());
    }
    // `[DONE]` alone ends text, but does not vouch for a call.
    assert_eq!(decode(&[parts[0].clone(), DONE.into()].concat(), 1000).2.unwrap().stop, Stop::Done);
    let finish = decode(&[parts.concat(), DONE.into()].concat(), 1000).2.unwrap();
    assert_eq!((finish.stop, finish.calls.len()), (Stop::Truncated, 0));
}

#[test]
fn the_output_limit_voids_calls() {
    let body = [delta(&json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "x", "arguments": "{}"}}]})), stop("length")].concat();
    let finish = decode(&body, 1000).2.unwrap();
    assert_eq!((finish.stop, finish.calls.len()), (Stop::Length, 0));
}

#[test]
fn an_error_in_the_stream_is_terminal() {
    let body = [delta(&json!({"content": "a"})), event(&json!({"error": {"code": 502, "message": "upstream"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]})), DONE.into()].concat();
    let (text, _, finish) = decode(&body, 3);
    assert_eq!(text, "a");
    assert_eq!(finish.unwrap_err().fault, Fault::Server);
    assert_eq!(decode("data: {broken\n\n", 3).2.unwrap_err().fault, Fault::Protocol);
}

#[test]
fn a_whole_answer_instead_of_a_stream() {
    let body = event(
        &json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "whole"}, "finish_reason": "stop"}]}),
    );
    let (text, _, finish) = decode(&body, 1000);
    assert_eq!((text.as_str(), finish.unwrap().stop), ("whole", Stop::Done));
}

#[test]
fn reasoning_and_refusals() {
    let body = [
        delta(&json!({"reasoning_content": "hm"})),
        delta(&json!({"refusal": "no"})),
        stop("stop"),
    ]
    .concat();
    let (text, deltas, finish) = decode(&body, 1000);
    assert!(matches!(&deltas[0], Delta::Reasoning(r) if r == "hm"));
    assert_eq!((text.as_str(), finish.unwrap().stop), ("no", Stop::Refused));
}

#[test]
fn the_number_of_calls_is_bounded() {
    let many: String = (0..=limits::CALLS)
        .map(|n| delta(&json!({"tool_calls": [{"index": n, "id": n.to_string(), "function": {"name": "x", "arguments": "{}"}}]})))
        .collect();
    assert_eq!(decode(&many, 100_000).2.unwrap_err().fault, Fault::Protocol);
}

#[test]
fn the_request_body() {
    let request = ChatRequest {
        system: "sys".into(),
        messages: vec![
            super::super::types::Message::user("hello"),
            super::super::types::Message {
                role: Role::Assistant,
                parts: vec![
                    Part::Opaque { format: "anthropic", value: json!({"x": 1}) },
                    Part::Call { id: "c1".into(), name: "x".into(), arguments: String::new() },
                ],
            },
            super::super::types::Message {
                role: Role::User,
                parts: vec![
                    Part::Text("go on".into()),
                    Part::CallResult {
                        id: "c1".into(),
                        name: "x".into(),
                        text: "fine".into(),
                        ok: true,
                    },
                ],
            },
        ],
        max_output: 7,
        stop: vec!["a".into(); 6],
        ..ChatRequest::default()
    };
    let body = body("m", &request, "max_tokens");
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "sys"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "x", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "fine"},
            {"role": "user", "content": "go on"},
        ])
    );
    assert_eq!(body["max_tokens"], 7);
    assert_eq!(body["stop"].as_array().unwrap().len(), limits::STOPS);
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert!(body.get("tools").is_none());
}
