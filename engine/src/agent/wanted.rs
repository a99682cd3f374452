//! The calls that a model's answer holds, read or not: native function calls, or one call in XML.
//! Pure; used by the loop.

use lapce_ai_tools::call::{Invalid, ToolCall};
use lapce_ai_tools::envelope;
use lapce_ai_tools::spec::{self, ToolSpec};
use lapce_ai_tools::xml::ParseError;

use super::listen::Answer;
use crate::provider::NativeCall;

/// A call of the model, readable or not.
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) call: Result<ToolCall, String>,
}

impl Wanted {
    /// The head of its result.
    pub(super) fn head(&self) -> String {
        match &self.call {
            Ok(call) => envelope::head(call),
            Err(_) => envelope::head(&ToolCall::new(self.id.clone(), self.name.clone())),
        }
    }
}

/// The calls of an answer, in order.
pub(super) fn all(answer: &Answer, specs: &[&'static ToolSpec]) -> Vec<Wanted> {
    match &answer.xml {
        Some(Ok(call)) => {
            vec![Wanted { id: call.id.clone(), name: call.name.clone(), call: Ok(call.clone()) }]
        }
        Some(Err(error)) => vec![broken_xml(error)],
        None => answer.finish.calls.iter().map(|c| native(c, specs)).collect(),
    }
}

fn native(call: &NativeCall, specs: &[&'static ToolSpec]) -> Wanted {
    let wanted = |read| Wanted { id: call.id.clone(), name: call.name.clone(), call: read };
    let Some(spec) = specs.iter().find(|s| s.name == call.name) else {
        return wanted(Err(String::new()));
    };
    let read = match &call.arguments {
        Ok(params) => {
            ToolCall { id: call.id.clone(), name: call.name.clone(), params: params.clone() }
                .normalise(spec)
        }
        Err(problem) => Err(Invalid::Wrong { name: "arguments".into(), problem: problem.clone() }),
    };
    wanted(read.map_err(|problem| envelope::invalid(spec, &problem, false)))
}

/// A call in XML that cannot run, with what the model is told.
fn broken_xml(error: &ParseError) -> Wanted {
    let wrong =
        |problem: &str| Invalid::Wrong { name: "parameters".into(), problem: problem.into() };
    let (tool, problem) = match error {
        ParseError::Cut { tool } => (tool, None),
        ParseError::Invalid { tool, problem } => (tool, Some(problem.clone())),
        ParseError::Malformed { tool, problem } => (tool, Some(wrong(problem))),
        ParseError::TooLong { tool } => {
            (tool, Some(wrong("the call is too long; write it in smaller pieces")))
        }
    };
    let text = match problem {
        None => envelope::cut_call(tool),
        Some(problem) => {
            spec::find(tool).map(|s| envelope::invalid(s, &problem, true)).unwrap_or_default()
        }
    };
    Wanted { id: "xml".to_owned(), name: tool.clone(), call: Err(text) }
}
