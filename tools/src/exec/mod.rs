//! The tools themselves; they run in `lapce-ai-tool`, inside the sandbox.
