//! Orders that only look: texts and images that a repository offers, and whether a file may
//! be written. Used by the engine, through [`super::ToolHost`].

use super::{Invocation, Outcome, ToolHost};
use crate::call::ToolCall;
use crate::exec;
use crate::limits::Limits;
use crate::workspace::Workspace;

impl ToolHost {
    /// A text that the repository offers, or the names of those there are; see
    /// [`exec::notes`]. An error says why there is none.
    pub async fn note(&self, workspace: &Workspace, file: &str) -> Result<String, String> {
        self.notes(workspace, ToolCall::new("note", exec::notes::NAME).with("file", file)).await
    }

    /// The names in some folders of the workspace, as `FOLDER/NAME`.
    pub async fn note_names(
        &self,
        workspace: &Workspace,
        folders: &[&str],
    ) -> Result<Vec<String>, String> {
        let call = ToolCall::new("note", exec::notes::NAME).with("folders", folders.to_vec());
        let names = self.notes(workspace, call).await?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The bytes of an image of the workspace.
    pub async fn read_image(&self, workspace: &Workspace, file: &str) -> Result<Vec<u8>, String> {
        let call = ToolCall::new("note", exec::notes::NAME).with("image", file);
        let hex = self.notes(workspace, call).await?;
        exec::restore::from_hex(&hex).ok_or_else(|| "the image could not be read".into())
    }

    /// Whether the file that `invocation` would write may be written. An error says why not.
    pub async fn check_write(&self, invocation: &Invocation) -> Result<(), String> {
        self.told(invocation, Limits::WRITE).await.map(drop)
    }

    async fn notes(&self, workspace: &Workspace, call: ToolCall) -> Result<String, String> {
        self.told(&Invocation::new(call, workspace.clone()), Limits::READ).await
    }

    async fn told(&self, invocation: &Invocation, limits: Limits) -> Result<String, String> {
        let mut outcome = Outcome::empty();
        match self.run_helper(&invocation.call, invocation, limits, &mut outcome).await {
            Some(report) if report.ok => Ok(report.body),
            Some(report) => Err(report.body),
            None => Err(outcome.envelope),
        }
    }
}
