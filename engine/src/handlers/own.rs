//! The tools that the engine carries out itself: texts by name, and images of a provider.
//! Called by the `tool` request and by the agent loop, after the policy has agreed.

use std::collections::BTreeMap;

use lapce_ai_ipc::wire::WireError;
use lapce_ai_tools::call::ToolCall;
use lapce_ai_tools::host::{Invocation, Ledger};
use lapce_ai_tools::workspace::Workspace;
use lapce_ai_tools::{envelope, image};
use tokio_util::sync::CancellationToken;

use crate::provider::image::ImageRequest;
use crate::provider::{Fault, ProviderError};
use crate::state::Engine;
use crate::texts::{self, Kind};
use crate::{ids, limits};

/// What the call belongs to.
pub struct Place<'a> {
    pub workspace: &'a Workspace,
    pub ledger: &'a Ledger,
    pub buffers: &'a BTreeMap<String, String>,
    pub cancel: &'a CancellationToken,
}

/// What it gave.
#[derive(Debug)]
pub struct Done {
    pub envelope: String,
    pub ok: bool,
    pub layers: Vec<String>,
    /// Whose fault a failure is: the call's, or that of the configuration or a provider.
    pub mistake: bool,
}

/// Carries `call` out. An error is the engine's: no sandbox, no readable configuration.
pub async fn run(engine: &Engine, call: &ToolCall, place: Place<'_>) -> Result<Done, WireError> {
    match call.name.as_str() {
        "generate_image" => generate_image(engine, call, place).await,
        "fetch_instructions" => Ok(said(
            call,
            texts::instructions(call.text("task"))
                .map(str::to_owned)
                .ok_or_else(|| "there are no instructions for this".to_owned()),
        )),
        "skill" => text(engine, call, Kind::Skill, "skill", place).await,
        _ => text(engine, call, Kind::Command, "command", place).await,
    }
}

fn said(call: &ToolCall, text: Result<String, String>) -> Done {
    let ok = text.is_ok();
    let envelope = match text {
        Ok(text) => envelope::result(call, text.trim_end()),
        Err(why) => envelope::error(call, &why),
    };
    Done { envelope, ok, layers: Vec::new(), mistake: !ok }
}

async fn text(
    engine: &Engine,
    call: &ToolCall,
    kind: Kind,
    parameter: &str,
    place: Place<'_>,
) -> Result<Done, WireError> {
    let (name, args) = (call.text(parameter), call.text("args"));
    let config = &engine.paths.config;
    let found = texts::find(kind, name, args, config, engine.tools()?, place.workspace).await;
    let mark = ids::approval_id();
    let text = found.map(|found| {
        let name = name.trim().trim_start_matches('/');
        envelope::offered_text(kind.word(), name, found.own, &mark[..8], &found.text)
    });
    Ok(said(call, text))
}

async fn generate_image(
    engine: &Engine,
    call: &ToolCall,
    place: Place<'_>,
) -> Result<Done, WireError> {
    let failed = |why: &str, mistake| {
        Ok(Done { envelope: envelope::error(call, why), ok: false, layers: Vec::new(), mistake })
    };
    let Some(format) = image::format_of(call.text("path")) else {
        return failed("the path must end with .png, .jpg, .webp or .gif", true);
    };
    let host = engine.tools()?;
    let invocation = |payload| {
        let mut invocation = Invocation::new(call.clone(), place.workspace.clone());
        invocation.cancel = place.cancel.clone();
        invocation.ledger = place.ledger.clone();
        invocation.buffers = place.buffers.clone();
        invocation.payload = payload;
        invocation
    };
    // Whatever would refuse the file is found out before money is spent.
    if let Err(why) = host.check_write(&invocation(None)).await {
        return failed(&why, true);
    }
    let from = match call.text("image") {
        "" => None,
        path => match host.read_image(place.workspace, path).await {
            Ok(bytes) => match image::check(&bytes) {
                Ok(image) => Some((image.format, bytes)),
                Err(why) => return failed(&format!("'{path}': {why}"), true),
            },
            Err(why) => return failed(&why, true),
        },
    };
    let request = ImageRequest { prompt: call.text("prompt").to_owned(), format, from };
    let config = engine.config.get()?;
    let made = tokio::select! {
        made = engine.providers.image(&config, &request) => made,
        () = place.cancel.cancelled() => {
            return Ok(Done {
                envelope: envelope::cancelled(call), ok: false, layers: Vec::new(), mistake: false,
            });
        }
    };
    let bytes = match made {
        Ok(bytes) => bytes,
        Err(error) => return failed(&provider_words(&error), false),
    };
    if let Err(why) = image::check(&bytes) {
        return failed(&format!("what the provider sent was not written: {why}"), false);
    }
    let outcome = host.run(invocation(Some(bytes))).await;
    Ok(Done { envelope: outcome.envelope, ok: outcome.ok, layers: outcome.layers, mistake: false })
}

/// A provider's error for the model, with the next step for the user.
fn provider_words(error: &ProviderError) -> String {
    let wire = error.wire();
    if error.fault == Fault::Config {
        return format!("no image was made: {}. The user can change that: {}", error, wire.hint);
    }
    format!("no image was made: {error}")
}

/// Most of an image answer: the image in base64 and a little around it.
pub const IMAGE_ANSWER_BYTES: usize = limits::IMAGE_BYTES / 3 * 4 + (64 << 10);
