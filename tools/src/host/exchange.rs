//! One helper from its start to its end: the request goes in, frames come out. Used by
//! [`super::ToolHost`].

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::process::{Live, kill_group, send, spawn};
use super::{Invocation, Seal, ToolHost};
use crate::cgroup::{Cgroups, Scope};
use crate::envelope::LimitHit;
use crate::journal::Journal;
use crate::limits::{
    FRAME_BUFFER, KILL_GRACE_MS, Limits, MAX_FRAME_BYTES, PICTURE_BYTES, READ_PICTURES,
};
use crate::protocol::{
    FRAME_BEFORE, FRAME_HIDDEN, FRAME_OUTPUT, FRAME_PICTURE, FRAME_REPORT, KEPT, NOT_KEPT, Report,
    Request,
};
use crate::proxy::Gate;
use crate::terminal;

/// What came out of one helper.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) report: Option<Report>,
    pub(super) output: Vec<u8>,
    /// Opened with the first file that changes.
    pub(super) journal: Option<Journal>,
    pub(super) changed: Vec<String>,
    /// Images that were read.
    pub(super) pictures: Vec<Vec<u8>>,
    /// Whether a command had a group of its own, or why not.
    pub(super) group: Option<Result<(), String>>,
    /// What a command may open, until it says what it did.
    pub(super) seal: Option<Seal>,
    /// A limit that the group enforced.
    pub(super) limit: Option<LimitHit>,
}

/// Why the helper's result is not the whole story.
pub(super) enum End {
    Exited(Option<i32>),
    Cancelled,
    Late,
    Broken(String),
}

impl ToolHost {
    /// Starts the helper, gives it the request and takes its frames until it ends.
    pub(super) async fn exchange(
        &self,
        request: Request,
        mut gate: Option<Gate>,
        invocation: &Invocation,
    ) -> (Gathered, End) {
        let mut gathered = Gathered::default();
        let broken = |what: &str, e: &dyn std::fmt::Display| End::Broken(format!("{what}: {e}"));
        let text = match serde_json::to_vec(&request) {
            Ok(text) => text,
            Err(e) => return (gathered, broken("the request cannot be written", &e)),
        };
        let (tool, root, limits) = needed_later(request);
        let way = gate.as_mut().and_then(Gate::take_descriptor);
        let mut child = match spawn(&self.helper, way, Stdio::null()) {
            Ok(child) => child,
            Err(e) => {
                let what = format!("{} cannot be started", self.helper.display());
                return (gathered, broken(&what, &e));
            }
        };
        let _live = Live::new(self.live.clone(), child.id());
        let command = tool == "execute_command";
        let scope = command.then(|| self.group(&child, &limits));
        gathered.group = scope.as_ref().map(|s| s.as_ref().map(drop).map_err(Clone::clone));
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return (gathered, End::Broken("the helper has no pipes".into()));
        };
        let wall = Duration::from_millis(limits.wall_ms + KILL_GRACE_MS);
        let end = {
            let talk = async {
                send(&mut stdin, &text).await?;
                drop(text);
                let most = limits.output_bytes as usize;
                self.receive(&mut stdout, &mut stdin, &mut gathered, (&root, most), invocation)
                    .await
            };
            let network = async {
                if let Some(gate) = gate {
                    let _ = gate.serve().await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = network => None,
                talked = talk => match talked {
                    Ok(()) => None,
                    Err(e) => Some(End::Broken(e.to_string())),
                },
                () = invocation.cancel.cancelled() => Some(End::Cancelled),
                () = tokio::time::sleep(wall) => Some(End::Late),
            }
        };
        // Closing the pipe tells a helper that still runs to end its call.
        drop(stdin);
        let waited = tokio::time::timeout(Duration::from_millis(KILL_GRACE_MS), child.wait()).await;
        let code = match waited {
            Ok(Ok(status)) => status.code(),
            _ => {
                kill_group(&child);
                let _ = child.kill().await;
                None
            }
        };
        gathered.limit = scope.and_then(Result::ok).and_then(|s| s.hit(&limits));
        (gathered, end.unwrap_or(End::Exited(code)))
    }

    /// A group for a helper that waits for its request: nothing of the call runs outside it.
    pub(crate) fn group(&self, child: &Child, limits: &Limits) -> Result<Scope, String> {
        let scope = self.cgroups.get_or_init(Cgroups::find).scope(limits)?;
        let pid = child.id().ok_or("the helper has ended")?;
        scope.add(pid).map_err(|e| e.to_string())?;
        Ok(scope)
    }

    /// Takes frames until the helper ends; of output at most so many bytes.
    async fn receive(
        &self,
        stdout: &mut ChildStdout,
        stdin: &mut ChildStdin,
        gathered: &mut Gathered,
        (root, most): (&Path, usize),
        invocation: &Invocation,
    ) -> std::io::Result<()> {
        let mut stdout = tokio::io::BufReader::with_capacity(FRAME_BUFFER, stdout);
        let mut lossy = terminal::Utf8::default();
        loop {
            let Some((kind, payload)) = frame(&mut stdout, MAX_FRAME_BYTES).await? else {
                return Ok(());
            };
            match kind {
                FRAME_OUTPUT => {
                    if let Some(job) = &invocation.job {
                        job.push(&payload, most);
                    } else {
                        let room = most.saturating_sub(gathered.output.len());
                        gathered.output.extend_from_slice(&payload[..payload.len().min(room)]);
                    }
                    if let Some(sender) = &invocation.on_output {
                        let text = lossy.push(&payload);
                        if !text.is_empty() {
                            let _ = sender.try_send(text);
                        }
                    }
                }
                FRAME_BEFORE => {
                    let kept = self.keep_before(&payload, gathered, root, invocation);
                    stdin.write_all(&[if kept.is_ok() { KEPT } else { NOT_KEPT }]).await?;
                    stdin.flush().await?;
                }
                FRAME_HIDDEN => {
                    let hidden = serde_json::from_slice(&payload).map_err(std::io::Error::other)?;
                    gathered.seal = Some(self.sealed().begin(root, hidden));
                    stdin.write_all(&[KEPT]).await?;
                    stdin.flush().await?;
                }
                FRAME_PICTURE
                    if gathered.pictures.len() < READ_PICTURES
                        && payload.len() <= PICTURE_BYTES =>
                {
                    gathered.pictures.push(payload);
                }
                FRAME_REPORT => {
                    gathered.report =
                        Some(serde_json::from_slice(&payload).map_err(std::io::Error::other)?);
                }
                other => {
                    return Err(std::io::Error::other(format!(
                        "the helper sent a frame of kind {other}"
                    )));
                }
            }
        }
    }
}

/// What has been sent is not kept besides: calls may last, and there may be many.
fn needed_later(request: Request) -> (String, PathBuf, Limits) {
    (request.tool, request.root, request.limits)
}

/// The next frame: its kind and its payload of at most `most` bytes. `None` when there is no
/// more, or no whole one: killed in the middle of a frame, what came before it counts.
pub(crate) async fn frame(
    from: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    let mut payload = Vec::new();
    let read = async {
        from.read_exact(&mut head).await?;
        let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > most {
            return Err(std::io::Error::other("the helper sent a frame that is too long"));
        }
        payload.resize(length, 0);
        from.read_exact(&mut payload).await
    };
    match read.await {
        Ok(_) => Ok(Some((head[0], payload))),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}
