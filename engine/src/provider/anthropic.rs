//! Anthropic's Messages format. Pure: values in, values out.
//!
//! The system prompt and the newest message are marked for the provider's cache. Thinking
//! blocks are kept with their signatures and sent back as they came.

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Value, json};

use super::error::{ProviderError, clean};
use super::limits;
use super::openai::arguments_object;
use super::types::{ChatRequest, Delta, Finish, NativeCall, Part, Role, Stop, parse_arguments};
use super::wire::{Decode, payload_error, protocol};

const FORMAT: &str = "anthropic";

/// The body of a request.
pub fn body(model: &str, request: &ChatRequest) -> Value {
    let cached = json!({"type": "ephemeral"});
    let mut messages: Vec<Value> = request
        .messages
        .iter()
        .map(|message| {
            let mut blocks: Vec<Value> = message.parts.iter().filter_map(block).collect();
            // Results of tools must come before anything else.
            blocks.sort_by_key(|b| b["type"] != "tool_result");
            let role = if message.role == Role::User { "user" } else { "assistant" };
            json!({"role": role, "content": blocks})
        })
        .filter(|m| m["content"].as_array().is_some_and(|c| !c.is_empty()))
        .collect();
    if let Some(last) = messages.last_mut().and_then(|m| m["content"].as_array_mut()?.last_mut()) {
        last["cache_control"] = cached.clone();
    }
    let mut body = json!({
        "model": model,
        "max_tokens": if request.max_output == 0 { limits::MAX_OUTPUT } else { request.max_output },
        "messages": messages,
        "stream": true,
    });
    if !request.system.is_empty() {
        body["system"] = json!([{"type": "text", "text": request.system, "cache_control": cached}]);
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    if !request.stop.is_empty() {
        body["stop_sequences"] = json!(request.stop.iter().take(limits::STOPS).collect::<Vec<_>>());
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|t| json!({"name": t.name, "description": t.description, "input_schema": t.parameters}))
            .collect();
    }
    body
}

fn block(part: &Part) -> Option<Value> {
    Some(match part {
        Part::Text(text) if text.trim().is_empty() => return None,
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Call { id, name, arguments } => {
            json!({"type": "tool_use", "id": id, "name": name, "input": arguments_object(arguments)})
        }
        Part::CallResult { id, text, ok, .. } => {
            json!({"type": "tool_result", "tool_use_id": id, "content": text, "is_error": !ok})
        }
        Part::Image(picture) => json!({
            "type": "image",
            "source": {"type": "base64", "media_type": picture.media, "data": &*picture.base64},
        }),
        Part::Opaque { format, value } if *format == FORMAT => value.clone(),
        Part::Opaque { .. } => return None,
    })
}

#[derive(Debug)]
enum Block {
    Text,
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    /// Thinking, in the shape it is sent back in.
    Thinking(Value),
    Other,
}

#[derive(Debug)]
pub struct Decoder {
    provider: String,
    blocks: Vec<(u64, Block)>,
    stop: Option<Stop>,
    done: bool,
    usage: Usage,
}

impl Decoder {
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            blocks: Vec::new(),
            stop: None,
            done: false,
            usage: Usage::default(),
        }
    }

    fn start(&mut self, value: &Value, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        let content = &value["content_block"];
        let block = match content["type"].as_str().unwrap_or_default() {
            "text" => {
                push_text(&content["text"], out);
                Block::Text
            }
            "tool_use" => {
                let name = content["name"].as_str().unwrap_or_default().to_owned();
                out.push(Delta::CallStarted { name: name.clone() });
                // Usually empty here; the arguments follow in pieces.
                let input = &content["input"];
                let whole = input.as_object().is_some_and(|o| !o.is_empty());
                Block::Call {
                    id: content["id"].as_str().unwrap_or_default().to_owned(),
                    name,
                    arguments: if whole { input.to_string() } else { String::new() },
                }
            }
            "thinking" | "redacted_thinking" => Block::Thinking(content.clone()),
            _ => Block::Other,
        };
        if self.blocks.len() >= 4 * limits::CALLS {
            return Err(protocol(&self.provider, "the answer has too many blocks"));
        }
        let index = value["index"].as_u64().unwrap_or(self.blocks.len() as u64);
        self.blocks.push((index, block));
        Ok(())
    }

    fn delta(&mut self, value: &Value, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        let delta = &value["delta"];
        let index = value["index"].as_u64().unwrap_or(0);
        let open = self.blocks.iter_mut().rev().find(|(i, _)| *i == index).map(|(_, b)| b);
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => push_text(&delta["text"], out),
            "thinking_delta" => {
                let text = delta["thinking"].as_str().unwrap_or_default();
                if let Some(Block::Thinking(block)) = open {
                    let so_far = block["thinking"].as_str().unwrap_or_default();
                    block["thinking"] = Value::String(format!("{so_far}{text}"));
                }
                if !text.is_empty() {
                    out.push(Delta::Reasoning(text.to_owned()));
                }
            }
            "signature_delta" => {
                if let Some(Block::Thinking(block)) = open {
                    block["signature"] = delta["signature"].clone();
                }
            }
            "input_json_delta" => {
                if let Some(Block::Call { arguments, .. }) = open {
                    arguments.push_str(delta["partial_json"].as_str().unwrap_or_default());
                    if arguments.len() > limits::ARGUMENT_BYTES {
                        return Err(protocol(
                            &self.provider,
                            format!(
                                "the arguments of a tool call are longer than {} bytes",
                                limits::ARGUMENT_BYTES
                            ),
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts are cumulative: the newest word counts. Here the input leaves the cache out.
    fn count(&mut self, usage: &Value) {
        let newest = |value: &Value, old: u64| value.as_u64().unwrap_or(old);
        self.usage.input = newest(&usage["input_tokens"], self.usage.input);
        self.usage.cache_read = newest(&usage["cache_read_input_tokens"], self.usage.cache_read);
        self.usage.cache_write =
            newest(&usage["cache_creation_input_tokens"], self.usage.cache_write);
        self.usage.output = newest(&usage["output_tokens"], self.usage.output);
    }
}

fn push_text(value: &Value, out: &mut Vec<Delta>) {
    if let Some(text) = value.as_str().filter(|t| !t.is_empty()) {
        out.push(Delta::Text(text.to_owned()));
    }
}

impl Decode for Decoder {
    fn frame(
        &mut self,
        event: &str,
        data: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        if data.trim().is_empty() || self.done {
            return Ok(());
        }
        let value: Value = serde_json::from_str(data).map_err(|e| {
            protocol(&self.provider, format!("an event of the stream is not valid JSON: {e}"))
        })?;
        if let Some(error) = payload_error(&self.provider, None, &value) {
            return Err(error);
        }
        match value["type"].as_str().unwrap_or(event) {
            // May be missing, or come twice where streams were joined.
            "message_start" => self.count(&value["message"]["usage"]),
            "content_block_start" => self.start(&value, out)?,
            "content_block_delta" => self.delta(&value, out)?,
            "message_delta" => {
                self.count(&value["usage"]);
                if let Some(reason) = value["delta"]["stop_reason"].as_str() {
                    self.stop = Some(match reason {
                        "end_turn" | "stop_sequence" => Stop::Done,
                        "tool_use" => Stop::ToolCalls,
                        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
                        "refusal" => Stop::Refused,
                        other => Stop::Other(clean(other, None)),
                    });
                }
            }
            "message_stop" => self.done = true,
            // A whole answer instead of a stream.
            "message" => {
                for content in value["content"].as_array().into_iter().flatten() {
                    self.start(
                        &json!({"index": self.blocks.len(), "content_block": content}),
                        out,
                    )?;
                }
                self.count(&value["usage"]);
                self.stop = Some(if value["stop_reason"] == "max_tokens" {
                    Stop::Length
                } else {
                    Stop::Done
                });
                self.done = true;
            }
            _ => {}
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
        let mut stop = if self.done { self.stop.unwrap_or(Stop::Done) } else { Stop::Truncated };
        let whole = !matches!(stop, Stop::Truncated | Stop::Length | Stop::Refused);
        let (mut calls, mut opaque) = (Vec::new(), Vec::new());
        for (n, (_, block)) in self.blocks.into_iter().enumerate() {
            match block {
                Block::Call { id, name, arguments } if whole => calls.push(NativeCall {
                    id: if id.is_empty() { format!("call_{n}") } else { id },
                    name,
                    arguments: parse_arguments(&arguments),
                    raw: arguments,
                }),
                Block::Thinking(value)
                    if value["signature"].is_string() || value["data"].is_string() =>
                {
                    opaque.push(Part::Opaque { format: FORMAT, value });
                }
                _ => {}
            }
        }
        if !calls.is_empty() {
            stop = Stop::ToolCalls;
        }
        Ok(Finish { stop, usage: self.usage, calls, opaque })
    }
}
