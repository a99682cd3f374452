//! What a server is asked for: a tool's call, a resource, a prompt; each within the
//! configuration's lists, rates and sizes, and without secrets in what comes back.

use std::sync::Arc;

use lapce_ai_ipc::wire::ErrorKind;
use rmcp::ServiceError;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, GetPromptRequestParams, GetPromptResponse, JsonObject,
    ReadResourceRequestParams, ReadResourceResponse,
};

use super::server::{Answer, Failure, Server};
use super::session::{Needs, transport_error};
use super::text;

impl Server {
    pub async fn call_tool(
        self: &Arc<Self>,
        needs: Needs<'_>,
        tool: &str,
        arguments: Option<JsonObject>,
    ) -> Result<Answer, Failure> {
        if !self.config.allows(tool) {
            return Err(Failure::new(
                ErrorKind::Denied,
                format!(
                    "the user's configuration of {} does not allow its tool {tool:?}",
                    self.name
                ),
            ));
        }
        self.within_rate(Some(tool))?;
        let definitions = self.definitions(needs).await?;
        // The lists may have changed since they were kept: look once more before saying no.
        if !definitions.tools.iter().any(|t| t.name == tool) {
            self.session(needs, false).await?;
            let now = self.known().definitions.unwrap_or_default();
            if !now.tools.iter().any(|t| t.name == tool) {
                let names: Vec<&str> = now.tools.iter().map(|t| t.name.as_str()).take(40).collect();
                return Err(Failure::new(
                    ErrorKind::NotFound,
                    format!(
                        "{} has no tool {tool:?}; its tools are: {}",
                        self.name,
                        names.join(", ")
                    ),
                ));
            }
        }
        let mut params = CallToolRequestParams::new(tool.to_owned());
        params.arguments = arguments;
        let timeout = self.config.tool_timeout(tool);
        let (answer, session) =
            self.ask(needs, timeout, async |s| s.peer().call_tool_once(params).await).await?;
        match answer {
            CallToolResponse::Complete(result) => {
                let (text, pictures) = text::result(&result, self.config.output_bytes);
                Ok(Answer {
                    text: session.redact(text),
                    ok: result.is_error != Some(true),
                    pictures,
                    layers: session.layers.clone(),
                })
            }
            _ => Err(wants_more(&self.name)),
        }
    }

    pub async fn read_resource(
        self: &Arc<Self>,
        needs: Needs<'_>,
        uri: &str,
    ) -> Result<Answer, Failure> {
        if !text::is_uri(uri) {
            return Err(Failure::new(ErrorKind::Invalid, "this is no address of a resource"));
        }
        self.within_rate(None)?;
        let params = ReadResourceRequestParams::new(uri);
        let (answer, session) = self
            .ask(needs, self.config.timeout, async |s| s.peer().read_resource_once(params).await)
            .await?;
        match answer {
            ReadResourceResponse::Complete(result) => {
                let (text, pictures) = text::resource(&result.contents, self.config.output_bytes);
                let layers = session.layers.clone();
                Ok(Answer { text: session.redact(text), ok: true, pictures, layers })
            }
            _ => Err(wants_more(&self.name)),
        }
    }

    pub async fn get_prompt(
        self: &Arc<Self>,
        needs: Needs<'_>,
        prompt: &str,
        arguments: Option<JsonObject>,
    ) -> Result<Answer, Failure> {
        self.within_rate(None)?;
        let mut params = GetPromptRequestParams::new(prompt);
        params.arguments = arguments;
        let (answer, session) = self
            .ask(needs, self.config.timeout, async |s| s.peer().get_prompt_once(params).await)
            .await?;
        match answer {
            GetPromptResponse::Complete(result) => Ok(Answer {
                text: session.redact(text::prompt(&result.messages, self.config.output_bytes)),
                ok: true,
                pictures: Vec::new(),
                layers: session.layers.clone(),
            }),
            _ => Err(wants_more(&self.name)),
        }
    }
}

fn wants_more(name: &str) -> Failure {
    Failure::new(
        ErrorKind::Unsupported,
        format!("{name} wants to ask the user something first, which is not possible here"),
    )
}

/// What a server answered instead of a result, on one line.
pub(super) fn service_error(error: &ServiceError) -> String {
    let text = match error {
        ServiceError::McpError(error) => text::clean(&error.message),
        ServiceError::UnexpectedResponse => "what it answered is not what the call asks for".into(),
        ServiceError::TransportClosed => "the connection was closed".into(),
        ServiceError::TransportSend(error) => transport_error(error.error.as_ref()),
        other => other.to_string(),
    };
    lapce_ai_tools::call::one_line(&text, 2_000)
}
