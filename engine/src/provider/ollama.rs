//! Ollama's own chat format: lines of JSON. Pure: values in, values out.
//!
//! Its `/v1` is not used: it ignores the context size, and a prompt that does not fit is
//! cut without a word.

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Value, json};

use super::error::{Fault, ProviderError, clean};
use super::limits;
use super::openai::arguments_object;
use super::types::{ChatRequest, Delta, Finish, NativeCall, Part, Role, Stop, parse_arguments};
use super::wire::{Decode, payload_error, protocol};

/// The body of a request. `context` is the window the model is to be loaded with.
pub fn body(model: &str, context: u32, request: &ChatRequest) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in &request.messages {
        for part in &message.parts {
            if let Part::CallResult { name, text, .. } = part {
                messages.push(json!({"role": "tool", "tool_name": name, "content": text}));
            }
        }
        let text: Vec<&str> = message
            .parts
            .iter()
            .filter_map(|p| if let Part::Text(t) = p { Some(t.as_str()) } else { None })
            .collect();
        let calls: Vec<Value> = message
            .parts
            .iter()
            .filter_map(|p| match p {
                Part::Call { name, arguments, .. } => Some(
                    json!({"function": {"name": name, "arguments": arguments_object(arguments)}}),
                ),
                _ => None,
            })
            .collect();
        let pictures: Vec<&str> = message
            .parts
            .iter()
            .filter_map(|p| if let Part::Image(p) = p { Some(&*p.base64) } else { None })
            .collect();
        if text.is_empty() && calls.is_empty() && pictures.is_empty() {
            continue;
        }
        let role = if message.role == Role::User { "user" } else { "assistant" };
        let mut value = json!({"role": role, "content": text.join("\n\n")});
        if !calls.is_empty() {
            value["tool_calls"] = Value::Array(calls);
        }
        if !pictures.is_empty() {
            value["images"] = json!(pictures);
        }
        messages.push(value);
    }
    let mut options = json!({"num_ctx": context});
    if request.max_output > 0 {
        options["num_predict"] = json!(request.max_output);
    }
    if let Some(temperature) = request.temperature {
        options["temperature"] = json!(temperature);
    }
    if !request.stop.is_empty() {
        options["stop"] = json!(request.stop.iter().take(limits::STOPS).collect::<Vec<_>>());
    }
    let mut body =
        json!({"model": model, "messages": messages, "stream": true, "options": options});
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|t| json!({"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}))
            .collect();
    }
    body
}

#[derive(Debug)]
pub struct Decoder {
    provider: String,
    calls: Vec<NativeCall>,
    stop: Option<Stop>,
    usage: Usage,
}

impl Decoder {
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            calls: Vec::new(),
            stop: None,
            usage: Usage::default(),
        }
    }
}

impl Decode for Decoder {
    fn frame(
        &mut self,
        _event: &str,
        data: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        if self.stop.is_some() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(data).map_err(|e| {
            protocol(&self.provider, format!("a line of the stream is not valid JSON: {e}"))
        })?;
        if let Some(mut error) = payload_error(&self.provider, None, &value) {
            // A text alone, without a code: the model runner died or ran out of memory.
            if error.fault == Fault::BadRequest {
                error.fault = Fault::Server;
            }
            return Err(error);
        }
        let message = &value["message"];
        if let Some(text) = message["thinking"].as_str().filter(|t| !t.is_empty()) {
            out.push(Delta::Reasoning(text.to_owned()));
        }
        if let Some(text) = message["content"].as_str().filter(|t| !t.is_empty()) {
            out.push(Delta::Text(text.to_owned()));
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            if self.calls.len() >= limits::CALLS {
                return Err(protocol(
                    &self.provider,
                    format!("more than {} tool calls in one answer", limits::CALLS),
                ));
            }
            let function = &call["function"];
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            out.push(Delta::CallStarted { name: name.clone() });
            let raw = match &function["arguments"] {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let id = call["id"]
                .as_str()
                .map_or_else(|| format!("call_{}", self.calls.len()), str::to_owned);
            self.calls.push(NativeCall { id, name, arguments: parse_arguments(&raw), raw });
        }
        if value["done"] == true {
            let number = |name: &str| value[name].as_u64().unwrap_or(0);
            self.usage = Usage {
                input: number("prompt_eval_count"),
                output: number("eval_count"),
                ..Usage::default()
            };
            self.stop = Some(match value["done_reason"].as_str().unwrap_or("stop") {
                "stop" | "" => Stop::Done,
                "length" => Stop::Length,
                other => Stop::Other(clean(other, None)),
            });
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.stop.is_some()
    }

    fn announced(&self) -> bool {
        self.stop.is_some()
    }

    fn finish(self: Box<Self>) -> Result<Finish, ProviderError> {
        let mut stop = self.stop.unwrap_or(Stop::Truncated);
        let mut calls = Vec::new();
        if stop == Stop::Done && !self.calls.is_empty() {
            stop = Stop::ToolCalls;
            calls = self.calls;
        }
        Ok(Finish { stop, usage: self.usage, calls, opaque: Vec::new() })
    }
}
