//! Ghost text. Debounce and superseding are the engine's; here the answer is checked against
//! the document once more, since Lapce shows whatever comes.

use std::rc::Rc;

use lapce_ai_ipc::wire::engine::Complete;
use serde_json::json;

use super::super::rpc::{Answer, CONTENT_MODIFIED, Failure};
use super::super::shell::Shell;
use super::super::text;
use super::super::types::InlineCompletion;

pub(in super::super) async fn inline(shell: Rc<Shell>, params: InlineCompletion) -> Answer {
    let uri = params.text_document.uri;
    let encoding = shell.documents.borrow().encoding;
    let (request, version) = shell.with_document(&uri, |document| {
        let at = text::offset(&document.text, params.position, encoding);
        let (prefix, suffix) = text::prefix_suffix(&document.text, at);
        let request = Complete {
            root: shell.root_of(Some(&document.path))?.to_string_lossy().into_owned(),
            path: document.path.to_string_lossy().into_owned(),
            language: document.language.clone(),
            prefix: prefix.to_owned(),
            suffix: suffix.to_owned(),
            key: uri.clone(),
            invoked: params.context.invoked(),
        };
        Ok((request, document.version))
    })?;
    let reply = shell.link.engine().await?.complete(request).await?;
    shell.with_document(&uri, |document| {
        if document.version != version {
            return Err(Failure::new(CONTENT_MODIFIED, "the text has changed since"));
        }
        if reply.text.is_empty() {
            // Takes away what is shown.
            return Ok(json!([]));
        }
        let here = json!({ "start": params.position, "end": params.position });
        Ok(json!({ "items": [{ "insertText": reply.text, "range": here }] }))
    })
}
