//! Frames to the host, on standard output.

use std::io::{self, Write as _};

use crate::protocol::{
    BeforeHead, FRAME_BEFORE, FRAME_HIDDEN, FRAME_OUTPUT, FRAME_PICTURE, FRAME_REPORT, KEPT, Report,
};

pub(crate) fn output(bytes: &[u8]) -> io::Result<()> {
    frame(FRAME_OUTPUT, bytes)
}

pub(crate) fn picture(bytes: &[u8]) -> io::Result<()> {
    frame(FRAME_PICTURE, bytes)
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

/// What is hidden from a command; waits until the host has taken it.
pub(crate) fn hidden(paths: &[String]) -> io::Result<()> {
    let text = serde_json::to_vec(paths).map_err(io::Error::other)?;
    frame(FRAME_HIDDEN, &text)?;
    kept()
}

/// Waits for the host's word that a file's state is kept.
pub(crate) fn kept() -> io::Result<()> {
    let mut answer = [0];
    io::Read::read_exact(&mut io::stdin().lock(), &mut answer)?;
    if answer[0] == KEPT { Ok(()) } else { Err(io::Error::other("the undo journal refused it")) }
}

fn frame(kind: u8, payload: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    out.write_all(&[kind])?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(payload)?;
    out.flush()
}
