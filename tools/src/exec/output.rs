//! Frames to the host, on standard output.

use std::io::{self, Write as _};

use crate::protocol::{BeforeHead, FRAME_BEFORE, FRAME_OUTPUT, FRAME_REPORT, Report};

pub(crate) fn output(bytes: &[u8]) -> io::Result<()> {
    frame(FRAME_OUTPUT, bytes)
}

pub(crate) fn report(report: &Report) -> io::Result<()> {
    let text = serde_json::to_vec(report).map_err(io::Error::other)?;
    frame(FRAME_REPORT, &text)
}

pub(crate) fn before(head: &BeforeHead, content: &[u8]) -> io::Result<()> {
    let mut payload = serde_json::to_vec(head).map_err(io::Error::other)?;
    payload.push(b'\n');
    payload.extend_from_slice(content);
    frame(FRAME_BEFORE, &payload)
}

fn frame(kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(payload)?;
    out.flush()
}
