//! How a call ended, and the words for it. Used by [`super::ToolHost`].

use std::path::PathBuf;
use std::time::Duration;

use super::exchange::{End, Gathered};
use crate::call::ToolCall;
use crate::envelope::{self, LimitHit};
use crate::limits::Limits;
use crate::protocol::{Report, exit};
use crate::sandbox::layer;

/// How a call ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What the model is given.
    pub envelope: String,
    pub ok: bool,
    pub wall: Duration,
    /// Sandbox layers that were active.
    pub layers: Vec<String>,
    /// Layers that were not, each with the reason.
    pub absent: Vec<(String, String)>,
    /// The limit that stopped the call, in words, or empty.
    pub limit_hit: String,
    /// Name under which the whole output is kept.
    pub artefact: Option<String>,
    /// A picture of the browser's page, JPEG.
    pub screenshot: Option<PathBuf>,
    /// Pictures for a model that takes them: that one, or images that were read.
    pub pictures: Vec<Vec<u8>>,
}

impl Outcome {
    pub(super) fn empty() -> Self {
        Self {
            envelope: String::new(),
            ok: false,
            wall: Duration::ZERO,
            layers: Vec::new(),
            absent: Vec::new(),
            limit_hit: String::new(),
            artefact: None,
            screenshot: None,
            pictures: Vec::new(),
        }
    }

    pub(super) fn note_layers(&mut self, report: &Report) {
        self.layers.clone_from(&report.layers);
        self.absent.clone_from(&report.absent);
    }

    /// Whether a group of the kernel's stood around it.
    pub(super) fn note_group(&mut self, group: &Result<(), String>) {
        match group {
            Ok(()) => self.layers.push(format!("{}-v2", layer::CGROUP)),
            Err(why) => self.absent.push((layer::CGROUP.into(), why.clone())),
        }
    }

    /// Words the result.
    pub(super) fn finish(
        &mut self,
        call: &ToolCall,
        limits: &Limits,
        gathered: &Gathered,
        text: &str,
        end: &End,
    ) {
        let command = call.name == "execute_command";
        let limit = match (&gathered.report, end) {
            (Some(report), _) if report.limit.is_some() => report.limit.clone(),
            (report, _) if gathered.limit.is_some() && report.as_ref().is_none_or(|r| !r.ok) => {
                gathered.limit.clone()
            }
            (_, End::Late) | (None, End::Exited(Some(exit::WALL))) => {
                Some(LimitHit::Wall(limits.wall_ms))
            }
            _ => None,
        };
        if let Some(limit) = &limit {
            self.limit_hit = envelope::limit(limit);
        }
        self.envelope = match (&gathered.report, end) {
            (_, End::Cancelled) | (None, End::Exited(Some(exit::CANCELLED))) => {
                envelope::cancelled(call)
            }
            (_, End::Broken(why)) => envelope::error(call, why),
            (Some(report), _) if !command => {
                if report.ok {
                    self.ok = true;
                    envelope::result(call, &report.body)
                } else {
                    envelope::error(call, &report.body)
                }
            }
            // The command never ran; the body says why.
            (Some(report), _) if !report.body.is_empty() => envelope::error(call, &report.body),
            (report, _) => {
                let empty = Report::default();
                let report = report.as_ref().unwrap_or(&empty);
                if command
                    && (limit.is_some() || report.exit_code.is_some() || report.signal.is_some())
                {
                    self.ok = report.ok;
                    envelope::command(
                        call,
                        report,
                        limit.as_ref(),
                        limits,
                        text,
                        self.artefact.as_deref(),
                    )
                } else if let Some(limit) = &limit {
                    envelope::error(call, &envelope::limit(limit))
                } else {
                    envelope::error(
                        call,
                        "the helper process ended without a result; it may have run out of memory",
                    )
                }
            }
        };
    }
}
