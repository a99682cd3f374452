//! The `OpenAI` chat format: what `OpenAI`, Mistral, Groq, `DeepSeek`, `OpenRouter`, Azure,
//! LM Studio, vLLM and llama.cpp speak. Pure: values in, values out.

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Map, Value, json};

use super::error::{Fault, ProviderError, clean};
use super::limits;
use super::types::{ChatRequest, Delta, Finish, NativeCall, Part, Role, Stop, parse_arguments};
use super::wire::{Decode, payload_error};

/// The body of a request.
pub fn body(model: &str, request: &ChatRequest, tokens_field: &str) -> Value {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({"role": "system", "content": request.system}));
    }
    for message in &request.messages {
        let text: Vec<&str> = message
            .parts
            .iter()
            .filter_map(|p| if let Part::Text(t) = p { Some(t.as_str()) } else { None })
            .collect();
        let text = text.join("\n\n");
        match message.role {
            Role::Assistant => {
                let calls: Vec<Value> = message
                    .parts
                    .iter()
                    .filter_map(|p| match p {
                        Part::Call { id, name, arguments } => Some(json!({
                            "id": id, "type": "function",
                            "function": {"name": name, "arguments": if arguments.trim().is_empty() { "{}" } else { arguments }},
                        })),
                        _ => None,
                    })
                    .collect();
                let mut value = json!({"role": "assistant", "content": text});
                if !calls.is_empty() {
                    value["tool_calls"] = Value::Array(calls);
                    if text.is_empty() {
                        value["content"] = Value::Null;
                    }
                }
                messages.push(value);
            }
            Role::User => {
                // Results come first: the format wants them right behind their calls.
                for part in &message.parts {
                    if let Part::CallResult { id, text, .. } = part {
                        messages.push(json!({"role": "tool", "tool_call_id": id, "content": text}));
                    }
                }
                let mut pictures: Vec<Value> = message
                    .parts
                    .iter()
                    .filter_map(|p| match p {
                        Part::Image(picture) => Some(json!({
                            "type": "image_url", "image_url": {"url": picture.data_url()},
                        })),
                        _ => None,
                    })
                    .collect();
                if pictures.is_empty() && !text.is_empty() {
                    messages.push(json!({"role": "user", "content": text}));
                } else if !pictures.is_empty() {
                    // Some servers want words beside a picture.
                    let words: &str =
                        if text.is_empty() { "(the picture of the result above)" } else { &text };
                    pictures.insert(0, json!({"type": "text", "text": words}));
                    messages.push(json!({"role": "user", "content": pictures}));
                }
            }
        }
    }
    let mut body = json!({
        "model": model,
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    if request.max_output > 0 {
        body[tokens_field] = json!(request.max_output);
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop.iter().take(limits::STOPS).collect::<Vec<_>>());
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|t| json!({"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.parameters}}))
            .collect();
    }
    body
}

#[derive(Debug, Default)]
struct Slot {
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

/// Reads the stream of one answer.
#[derive(Debug)]
pub struct Decoder {
    provider: String,
    slots: Vec<Slot>,
    stop: Option<Stop>,
    /// `[DONE]` was seen, or a whole answer came in one piece.
    done: bool,
    usage: Usage,
    refused: bool,
}

impl Decoder {
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            slots: Vec::new(),
            stop: None,
            done: false,
            usage: Usage::default(),
            refused: false,
        }
    }

    fn protocol(&self, message: impl Into<String>) -> ProviderError {
        ProviderError::new(Fault::Protocol, &self.provider, message)
    }

    fn call_delta(
        &mut self,
        position: usize,
        call: &Value,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        let index = call["index"].as_u64().unwrap_or(position as u64);
        let id = call["id"].as_str().unwrap_or_default();
        let function = &call["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let open = self.slots.iter().rposition(|s| s.index == index);
        // Some servers give every call the index 0 and tell them apart by id alone.
        let fresh = open.is_none_or(|at| {
            !id.is_empty()
                && !self.slots[at].id.is_empty()
                && self.slots[at].id != id
                && !name.is_empty()
        });
        let at = if fresh {
            if self.slots.len() >= limits::CALLS {
                return Err(
                    self.protocol(format!("more than {} tool calls in one answer", limits::CALLS))
                );
            }
            self.slots.push(Slot { index, ..Slot::default() });
            self.slots.len() - 1
        } else {
            open.unwrap_or_default()
        };
        let slot = &mut self.slots[at];
        if slot.id.is_empty() {
            id.clone_into(&mut slot.id);
        }
        if slot.name.is_empty() && !name.is_empty() {
            name.clone_into(&mut slot.name);
            out.push(Delta::CallStarted { name: name.to_owned() });
        }
        match &function["arguments"] {
            Value::String(text) => slot.arguments.push_str(text),
            Value::Object(map) if !map.is_empty() => {
                slot.arguments = Value::Object(map.clone()).to_string();
            }
            _ => {}
        }
        if slot.arguments.len() > limits::ARGUMENT_BYTES {
            return Err(self.protocol(format!(
                "the arguments of a tool call are longer than {} bytes",
                limits::ARGUMENT_BYTES
            )));
        }
        Ok(())
    }
}

impl Decode for Decoder {
    fn frame(
        &mut self,
        _event: &str,
        data: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        let data = data.trim();
        if data.is_empty() || self.done {
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let value: Value = serde_json::from_str(data)
            .map_err(|e| self.protocol(format!("an event of the stream is not valid JSON: {e}")))?;
        if let Some(error) = payload_error(&self.provider, None, &value) {
            return Err(error);
        }
        for usage in [&value["usage"], &value["x_groq"]["usage"]] {
            if usage.is_object() {
                self.usage = read_usage(usage);
            }
        }
        let Some(choice) = value["choices"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["index"].as_u64().unwrap_or(0) == 0))
        else {
            return Ok(());
        };
        // A server that was asked for a stream and sends one whole answer says `message`.
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = delta[name].as_str().filter(|t| !t.is_empty()) {
                out.push(Delta::Reasoning(text.to_owned()));
                break;
            }
        }
        match &delta["content"] {
            Value::String(text) if !text.is_empty() => out.push(Delta::Text(text.clone())),
            Value::Array(parts) => {
                for text in
                    parts.iter().filter_map(|p| p["text"].as_str()).filter(|t| !t.is_empty())
                {
                    out.push(Delta::Text(text.to_owned()));
                }
            }
            _ => {}
        }
        if let Some(text) = delta["refusal"].as_str().filter(|t| !t.is_empty()) {
            self.refused = true;
            out.push(Delta::Text(text.to_owned()));
        }
        if let Some(calls) = delta["tool_calls"].as_array() {
            for (position, call) in calls.iter().enumerate() {
                self.call_delta(position, call, out)?;
            }
        }
        if let Some(reason) = choice["finish_reason"].as_str().filter(|r| !r.is_empty()) {
            if reason == "error" {
                let text = choice["error"]["message"]
                    .as_str()
                    .unwrap_or("the provider ended the answer with an error");
                return Err(ProviderError::new(Fault::Server, &self.provider, clean(text, None)));
            }
            self.stop = Some(match reason {
                "stop" | "end_turn" | "eos" => Stop::Done,
                "tool_calls" | "function_call" => Stop::ToolCalls,
                "length" | "max_tokens" | "model_length" => Stop::Length,
                "content_filter" | "refusal" => Stop::Refused,
                other => Stop::Other(clean(other, None)),
            });
        }
        Ok(())
    }

    fn ended(&self) -> bool {
        self.done
    }

    fn announced(&self) -> bool {
        self.done || self.stop.is_some()
    }

    fn finish(self: Box<Self>) -> Result<Finish, ProviderError> {
        let mut stop = match (self.stop, self.done) {
            (Some(stop), _) => stop,
            // Text may end with `[DONE]` alone; a call is acted upon only when the
            // provider said that it is whole.
            (None, true) if self.slots.is_empty() => Stop::Done,
            (None, _) => Stop::Truncated,
        };
        if self.refused && stop == Stop::Done {
            stop = Stop::Refused;
        }
        let whole = !matches!(stop, Stop::Truncated | Stop::Length | Stop::Refused);
        let calls = if whole { finish_calls(self.slots) } else { Vec::new() };
        // Several servers say `stop` although they call tools.
        if !calls.is_empty() {
            stop = Stop::ToolCalls;
        } else if stop == Stop::ToolCalls {
            stop = Stop::Done;
        }
        Ok(Finish { stop, usage: self.usage, calls, opaque: Vec::new() })
    }
}

fn finish_calls(slots: Vec<Slot>) -> Vec<NativeCall> {
    slots
        .into_iter()
        .enumerate()
        .map(|(n, slot)| NativeCall {
            id: if slot.id.is_empty() { format!("call_{n}") } else { slot.id },
            arguments: parse_arguments(&slot.arguments),
            name: slot.name,
            raw: slot.arguments,
        })
        .collect()
}

/// Tokens in disjoint buckets: here the prompt's count includes what came from the cache,
/// and the answer's includes the reasoning.
pub fn read_usage(usage: &Value) -> Usage {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let prompt = number(&usage["prompt_tokens"]);
    let details = &usage["prompt_tokens_details"];
    let cache_read = number(&details["cached_tokens"])
        .max(number(&usage["prompt_cache_hit_tokens"]))
        .min(prompt);
    let cache_write = number(&details["cache_write_tokens"]).min(prompt - cache_read);
    let completion = number(&usage["completion_tokens"]);
    let reasoning = number(&usage["completion_tokens_details"]["reasoning_tokens"]).min(completion);
    Usage {
        input: prompt - cache_read - cache_write,
        cache_read,
        cache_write,
        reasoning,
        output: completion - reasoning,
    }
}

/// Arguments as a JSON object, for formats that want one.
pub fn arguments_object(raw: &str) -> Map<String, Value> {
    parse_arguments(raw).unwrap_or_default()
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
