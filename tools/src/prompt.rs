//! What a model without native function calls is told about the tools, and the same
//! text as documentation.

use std::fmt::Write as _;

use crate::spec::{Kind, ToolSpec};

/// The tools section of a system prompt, for the XML form.
pub fn xml_section<'a>(tools: impl IntoIterator<Item = &'a ToolSpec>) -> String {
    let mut out = String::from(
        "# Tools\n\n\
         Call a tool by writing its name and parameters as XML tags, exactly as shown. One call \
         ends your turn; its result comes with the next message. Text between a parameter's tags \
         is taken as it is: do not escape it and do not wrap it in CDATA.\n",
    );
    for spec in tools {
        out.push('\n');
        section(&mut out, spec);
    }
    out
}

/// One tool, as Markdown.
pub fn section(out: &mut String, spec: &ToolSpec) {
    let _ = writeln!(out, "## {}\n\n{}", spec.name, crate::schema::description(spec));
    out.push_str("\nParameters:\n");
    for param in spec.params {
        let need = if param.required { "required" } else { "optional" };
        let _ = write!(out, "- {} ({need}", param.name);
        match param.kind {
            Kind::Text | Kind::Code => {}
            Kind::Choice(words) => {
                let _ = write!(out, ", one of: {}", words.join(", "));
            }
            kind => {
                let _ = write!(out, ", {}", kind.word());
            }
        }
        let _ = writeln!(out, "): {}", param.doc);
    }
    let _ = writeln!(out, "\nExample:\n{}", spec.example);
}
