//! The `OpenAI` Responses format: `OpenAI` and xAI. Pure: values in, values out.
//!
//! Nothing is stored at the provider; reasoning that came encrypted is sent back.

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Value, json};

use super::error::{Fault, ProviderError, classify, clean};
use super::limits;
use super::types::{ChatRequest, Delta, Finish, NativeCall, Part, Role, Stop, parse_arguments};
use super::wire::{Decode, payload_error, protocol};

const FORMAT: &str = "responses";

/// The body of a request.
pub fn body(model: &str, request: &ChatRequest) -> Value {
    let mut input = Vec::new();
    for message in &request.messages {
        // Results first: they belong right behind their calls.
        for part in &message.parts {
            if let Part::CallResult { id, text, .. } = part {
                input.push(json!({"type": "function_call_output", "call_id": id, "output": text}));
            }
        }
        for part in &message.parts {
            match part {
                Part::Text(text) => {
                    let (role, kind) = if message.role == Role::User {
                        ("user", "input_text")
                    } else {
                        ("assistant", "output_text")
                    };
                    input.push(json!({"role": role, "content": [{"type": kind, "text": text}]}));
                }
                Part::Call { id, name, arguments } => {
                    let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
                    input.push(json!({"type": "function_call", "call_id": id, "name": name, "arguments": arguments}));
                }
                Part::Opaque { format, value } if *format == FORMAT => input.push(value.clone()),
                Part::Image(picture) => input.push(json!({
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": picture.data_url()}],
                })),
                Part::CallResult { .. } | Part::Opaque { .. } => {}
            }
        }
    }
    let mut body = json!({"model": model, "input": input, "stream": true, "store": false});
    if !request.system.is_empty() {
        body["instructions"] = json!(request.system);
    }
    if request.max_output > 0 {
        body["max_output_tokens"] = json!(request.max_output);
    }
    if let Some(temperature) = request.temperature {
        body["temperature"] = json!(temperature);
    }
    // Models without reasoning refuse the question for it.
    if model.starts_with("gpt-5")
        || model.starts_with("o3")
        || model.starts_with("o4")
        || model.starts_with("grok")
    {
        body["include"] = json!(["reasoning.encrypted_content"]);
    }
    if !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|t| json!({"type": "function", "name": t.name, "description": t.description, "parameters": t.parameters, "strict": false}))
            .collect();
    }
    body
}

#[derive(Debug)]
struct Slot {
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

#[derive(Debug)]
pub struct Decoder {
    provider: String,
    slots: Vec<Slot>,
    opaque: Vec<Part>,
    stop: Option<Stop>,
    refused: bool,
    usage: Usage,
}

impl Decoder {
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            slots: Vec::new(),
            opaque: Vec::new(),
            stop: None,
            refused: false,
            usage: Usage::default(),
        }
    }

    fn slot(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots.iter_mut().rev().find(|s| s.index == index)
    }

    fn item(
        &mut self,
        value: &Value,
        done: bool,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        let item = &value["item"];
        let index = value["output_index"].as_u64().unwrap_or(0);
        match item["type"].as_str().unwrap_or_default() {
            "function_call" => {
                if self.slot(index).is_none() {
                    if self.slots.len() >= limits::CALLS {
                        return Err(protocol(
                            &self.provider,
                            format!("more than {} tool calls in one answer", limits::CALLS),
                        ));
                    }
                    let name = item["name"].as_str().unwrap_or_default().to_owned();
                    out.push(Delta::CallStarted { name: name.clone() });
                    let id = item["call_id"]
                        .as_str()
                        .or(item["id"].as_str())
                        .unwrap_or_default()
                        .to_owned();
                    self.slots.push(Slot { index, id, name, arguments: String::new() });
                }
                if let Some(whole) = item["arguments"].as_str().filter(|a| done && !a.is_empty()) {
                    self.arguments(index, whole, true)?;
                }
            }
            "reasoning"
                if done
                    && item["encrypted_content"].is_string()
                    && self.opaque.len() < limits::CALLS =>
            {
                self.opaque.push(Part::Opaque { format: FORMAT, value: item.clone() });
            }
            _ => {}
        }
        Ok(())
    }

    fn arguments(&mut self, index: u64, text: &str, whole: bool) -> Result<(), ProviderError> {
        let Some(slot) = self.slot(index) else { return Ok(()) };
        if whole {
            slot.arguments.clear();
        }
        slot.arguments.push_str(text);
        if slot.arguments.len() > limits::ARGUMENT_BYTES {
            return Err(protocol(
                &self.provider,
                format!(
                    "the arguments of a tool call are longer than {} bytes",
                    limits::ARGUMENT_BYTES
                ),
            ));
        }
        Ok(())
    }

    fn failed(&self, error: &Value) -> ProviderError {
        let code = error["code"].as_str().or(error["type"].as_str()).unwrap_or_default();
        let message = clean(error["message"].as_str().unwrap_or("the answer failed"), None);
        let fault = classify(None, code, &message);
        // Without a code that says otherwise the fault is the provider's.
        let fault = if fault == Fault::BadRequest && !code.contains("invalid") {
            Fault::Server
        } else {
            fault
        };
        ProviderError::new(fault, &self.provider, message)
    }

    fn count(&mut self, usage: &Value) {
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let input = number(&usage["input_tokens"]);
        let cache_read = number(&usage["input_tokens_details"]["cached_tokens"]).min(input);
        let output = number(&usage["output_tokens"]);
        let reasoning = number(&usage["output_tokens_details"]["reasoning_tokens"]).min(output);
        self.usage = Usage {
            input: input - cache_read,
            cache_read,
            cache_write: 0,
            reasoning,
            output: output - reasoning,
        };
    }
}

impl Decode for Decoder {
    fn frame(
        &mut self,
        event: &str,
        data: &str,
        out: &mut Vec<Delta>,
    ) -> Result<(), ProviderError> {
        let data = data.trim();
        if data.is_empty() || data == "[DONE]" {
            return Ok(());
        }
        let value: Value = serde_json::from_str(data).map_err(|e| {
            protocol(&self.provider, format!("an event of the stream is not valid JSON: {e}"))
        })?;
        let words = |value: &Value, wrap: fn(String) -> Delta, out: &mut Vec<Delta>| {
            if let Some(text) = value["delta"].as_str().filter(|t| !t.is_empty()) {
                out.push(wrap(text.to_owned()));
            }
        };
        match value["type"].as_str().unwrap_or(event) {
            "error" => {
                let inner = if value["error"].is_object() { &value["error"] } else { &value };
                return Err(self.failed(inner));
            }
            "response.failed" => return Err(self.failed(&value["response"]["error"])),
            "response.output_text.delta" => words(&value, Delta::Text, out),
            "response.refusal.delta" => {
                self.refused = true;
                words(&value, Delta::Text, out);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                words(&value, Delta::Reasoning, out);
            }
            "response.output_item.added" => self.item(&value, false, out)?,
            "response.output_item.done" => self.item(&value, true, out)?,
            "response.function_call_arguments.delta" => {
                let index = value["output_index"].as_u64().unwrap_or(0);
                self.arguments(index, value["delta"].as_str().unwrap_or_default(), false)?;
            }
            "response.function_call_arguments.done" => {
                let index = value["output_index"].as_u64().unwrap_or(0);
                if let Some(whole) = value["arguments"].as_str() {
                    self.arguments(index, whole, true)?;
                }
            }
            "response.completed" => {
                self.count(&value["response"]["usage"]);
                self.stop = Some(Stop::Done);
            }
            "response.incomplete" => {
                let response = &value["response"];
                self.count(&response["usage"]);
                self.stop = Some(
                    match response["incomplete_details"]["reason"].as_str().unwrap_or_default() {
                        "content_filter" => Stop::Refused,
                        _ => Stop::Length,
                    },
                );
            }
            _ => {
                if let Some(error) = payload_error(&self.provider, None, &value) {
                    return Err(error);
                }
            }
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
        if stop == Stop::Done {
            for (n, slot) in self.slots.into_iter().enumerate() {
                calls.push(NativeCall {
                    id: if slot.id.is_empty() { format!("call_{n}") } else { slot.id },
                    name: slot.name,
                    arguments: parse_arguments(&slot.arguments),
                    raw: slot.arguments,
                });
            }
            if !calls.is_empty() {
                stop = Stop::ToolCalls;
            } else if self.refused {
                stop = Stop::Refused;
            }
        }
        Ok(Finish { stop, usage: self.usage, calls, opaque: self.opaque })
    }
}
