//! Google's Gemini format. Pure: values in, values out.
//!
//! Thoughts are signed and must come back unchanged with the calls they belong to, so the
//! model's whole content is kept and repeated as it was.

use lapce_ai_ipc::wire::engine::Usage;
use serde_json::{Value, json};

use super::error::{ProviderError, clean};
use super::limits;
use super::openai::arguments_object;
use super::types::{ChatRequest, Delta, Finish, Message, NativeCall, Part, Role, Stop};
use super::wire::{Decode, payload_error, protocol};

const FORMAT: &str = "gemini";

/// The body of a request.
pub fn body(request: &ChatRequest) -> Value {
    let mut config = json!({});
    if request.max_output > 0 {
        config["maxOutputTokens"] = json!(request.max_output);
    }
    if let Some(temperature) = request.temperature {
        config["temperature"] = json!(temperature);
    }
    if !request.stop.is_empty() {
        config["stopSequences"] =
            json!(request.stop.iter().take(limits::STOPS).collect::<Vec<_>>());
    }
    let contents: Vec<Value> = request.messages.iter().map(content).collect();
    let mut body = json!({"contents": contents, "generationConfig": config});
    if !request.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": request.system}]});
    }
    if !request.tools.is_empty() {
        let functions: Vec<Value> = request
            .tools
            .iter()
            .map(|t| json!({"name": t.name, "description": t.description, "parametersJsonSchema": t.parameters}))
            .collect();
        body["tools"] = json!([{"functionDeclarations": functions}]);
    }
    body
}

fn content(message: &Message) -> Value {
    let role = if message.role == Role::User { "user" } else { "model" };
    let own = message.parts.iter().find_map(|p| match p {
        Part::Opaque { format, value } if *format == FORMAT => Some(value.clone()),
        _ => None,
    });
    if let Some(parts) = own {
        return json!({"role": role, "parts": parts});
    }
    let parts: Vec<Value> = message
        .parts
        .iter()
        .filter_map(|part| {
            Some(match part {
                Part::Text(text) => json!({"text": text}),
                Part::Call { name, arguments, .. } => {
                    json!({"functionCall": {"name": name, "args": arguments_object(arguments)}})
                }
                Part::CallResult { name, text, ok, .. } => {
                    let key = if *ok { "result" } else { "error" };
                    json!({"functionResponse": {"name": name, "response": {key: text}}})
                }
                Part::Image(picture) => {
                    json!({"inlineData": {"mimeType": picture.media, "data": &*picture.base64}})
                }
                Part::Opaque { .. } => return None,
            })
        })
        .collect();
    json!({"role": role, "parts": parts})
}

#[derive(Debug)]
pub struct Decoder {
    provider: String,
    parts: Vec<Value>,
    calls: Vec<NativeCall>,
    stop: Option<Stop>,
    usage: Usage,
}

impl Decoder {
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            parts: Vec::new(),
            calls: Vec::new(),
            stop: None,
            usage: Usage::default(),
        }
    }

    fn part(&mut self, part: &Value, out: &mut Vec<Delta>) -> Result<(), ProviderError> {
        if let Some(text) = part["text"].as_str() {
            if !text.is_empty() {
                let text = text.to_owned();
                out.push(if part["thought"] == true {
                    Delta::Reasoning(text)
                } else {
                    Delta::Text(text)
                });
            }
            // Neighbouring pieces of words become one part, or the list has no end.
            if part.get("thoughtSignature").is_none()
                && let Some(last) = self.parts.last_mut()
                && last["text"].is_string()
                && last["thought"] == part["thought"]
                && last.get("thoughtSignature").is_none()
            {
                let joined = format!("{}{text}", last["text"].as_str().unwrap_or_default());
                last["text"] = Value::String(joined);
                return Ok(());
            }
        } else if part["functionCall"].is_object() {
            let call = &part["functionCall"];
            if call.get("partialArgs").is_some()
                || call.get("willContinue").is_some_and(|w| w == true)
            {
                return Err(protocol(
                    &self.provider,
                    "calls in pieces are not understood; switch streaming of arguments off",
                ));
            }
            if self.calls.len() >= limits::CALLS {
                return Err(protocol(
                    &self.provider,
                    format!("more than {} tool calls in one answer", limits::CALLS),
                ));
            }
            let name = call["name"].as_str().unwrap_or_default().to_owned();
            out.push(Delta::CallStarted { name: name.clone() });
            let n = self.calls.len();
            let arguments = call["args"].as_object().cloned().unwrap_or_default();
            self.calls.push(NativeCall {
                id: call["id"].as_str().map_or_else(|| format!("call_{n}"), str::to_owned),
                name,
                raw: Value::Object(arguments.clone()).to_string(),
                arguments: Ok(arguments),
            });
        } else {
            return Ok(());
        }
        if self.parts.len() >= 4 * limits::CALLS {
            return Err(protocol(&self.provider, "the answer has too many parts"));
        }
        self.parts.push(part.clone());
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
        if data.trim().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(data).map_err(|e| {
            protocol(&self.provider, format!("an event of the stream is not valid JSON: {e}"))
        })?;
        if let Some(error) = payload_error(&self.provider, None, &value) {
            return Err(error);
        }
        let usage = &value["usageMetadata"];
        if usage.is_object() {
            let number = |name: &str| usage[name].as_u64().unwrap_or(0);
            // Here the prompt's count includes the cache; the answer's leaves thoughts out.
            let prompt =
                number("promptTokenCount").saturating_add(number("toolUsePromptTokenCount"));
            let cache_read = number("cachedContentTokenCount").min(prompt);
            self.usage = Usage {
                input: prompt - cache_read,
                cache_read,
                cache_write: 0,
                reasoning: number("thoughtsTokenCount"),
                output: number("candidatesTokenCount"),
            };
        }
        if value["promptFeedback"]["blockReason"].is_string() {
            self.stop = Some(Stop::Refused);
        }
        let candidate = &value["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, out)?;
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            self.stop = Some(match reason {
                "STOP" => Stop::Done,
                "MAX_TOKENS" => Stop::Length,
                "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII"
                | "LANGUAGE" => Stop::Refused,
                other => Stop::Other(clean(other, None).to_lowercase()),
            });
        }
        Ok(())
    }

    /// There is no terminal behind the reason; the connection closes.
    fn ended(&self) -> bool {
        false
    }

    fn announced(&self) -> bool {
        self.stop.is_some()
    }

    fn finish(self: Box<Self>) -> Result<Finish, ProviderError> {
        let mut stop = self.stop.unwrap_or(Stop::Truncated);
        let mut calls = Vec::new();
        let mut opaque = Vec::new();
        if stop == Stop::Done {
            // `STOP` is said for calls as well.
            if !self.calls.is_empty() {
                stop = Stop::ToolCalls;
                calls = self.calls;
            }
            if !self.parts.is_empty() {
                opaque.push(Part::Opaque { format: FORMAT, value: Value::Array(self.parts) });
            }
        }
        Ok(Finish { stop, usage: self.usage, calls, opaque })
    }
}
