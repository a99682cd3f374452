//! Dispatch of the tools that run inside the helper.

use crate::call::ToolCall;
use crate::exec::safe_fs::Tree;
use crate::protocol::{Report, Request};

/// What a tool found, or why it could not.
pub(crate) type Done = Result<String, String>;

pub(crate) fn run(request: &Request) -> Report {
    let call =
        ToolCall { id: String::new(), name: request.tool.clone(), params: request.params.clone() };
    let mut report = Report::default();
    let tree = match Tree::open(request) {
        Ok(tree) => tree,
        Err(e) => {
            report.body = e;
            return report;
        }
    };
    let done = match call.name.as_str() {
        "read_file" => super::read::run(&call, &tree, &mut report),
        "list_files" => super::list::run(&call, &tree),
        "search_files" => super::search::run(&call, &tree),
        super::outline::NAME => super::outline::run(&call, &tree),
        super::notes::NAME => super::notes::run(&call, &tree),
        "read_command_output" => super::artefact::run(&call, &tree),
        super::restore::NAME => super::restore::run(&call, &tree, &mut report),
        super::snapshot::TAKE => super::snapshot::take(&call, &tree),
        super::snapshot::DIFF => super::snapshot::diff(&call, &tree, &mut report),
        name if super::write::is_writer(name) => super::write::run(&call, &tree, &mut report),
        other => Err(format!("{other} is not run by this program")),
    };
    match done {
        Ok(body) => {
            report.ok = true;
            report.body = body;
        }
        Err(error) => report.body = error,
    }
    report
}
