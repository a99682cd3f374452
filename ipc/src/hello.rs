//! The first words on a socket, as bytes. Pure: no input or output.
//!
//! Fixed little-endian layout, so that programs of different builds can tell each other
//! why they cannot talk. Bytes 0..20 keep their place for ever.
//!
//! ```text
//!  0 magic "LAPCERNG"   8 body length u32   12 version min u16   14 version max u16
//! 16 role u8 (1 client, 2 accept, 3 refuse)  17 reason u8  18 transport u8  19 zero
//! 20 schema u64   28 features u64   36 control ring u32   40 bulk ring u32
//! 44 session [16]  60 texts: protocol, name, version, memory name, message,
//!                     each u16 length and UTF-8
//! ```

use crate::error::Refusal;
use crate::limits::{HELLO_MAX, IDENT_MAX};

pub(crate) const MAGIC: [u8; 8] = *b"LAPCERNG";
/// Magic and body length.
pub(crate) const PRELUDE: usize = 12;
const FIXED: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client = 1,
    Accept = 2,
    Refuse = 3,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    pub role: Role,
    pub reason: u8,
    pub transport: u8,
    pub schema: u64,
    pub features: u64,
    pub control: u32,
    pub bulk: u32,
    pub session: [u8; 16],
    pub protocol: String,
    pub name: String,
    pub version: String,
    /// Name of the shared memory, for transports that have one.
    pub memory: String,
    pub message: String,
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&[self.role as u8, self.reason, self.transport, 0]);
        out.extend_from_slice(&self.schema.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.control.to_le_bytes());
        out.extend_from_slice(&self.bulk.to_le_bytes());
        out.extend_from_slice(&self.session);
        let short = [&self.protocol, &self.name, &self.version, &self.memory];
        for (text, max) in short.map(|t| (t, IDENT_MAX)).into_iter().chain([(&self.message, 512)]) {
            let text = clip(text, max);
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        let body = (out.len() - PRELUDE) as u32;
        out[8..12].copy_from_slice(&body.to_le_bytes());
        out
    }

    /// The length of what follows the prelude, or why this is no hello.
    pub(crate) fn body_len(prelude: &[u8; PRELUDE]) -> Result<usize, String> {
        if prelude[..8] != MAGIC {
            return Err(format!(
                "not a lapce-ai program on the other side (it said {:?})",
                String::from_utf8_lossy(&prelude[..8])
            ));
        }
        let len = u32::from_le_bytes([prelude[8], prelude[9], prelude[10], prelude[11]]) as usize;
        if (FIXED - PRELUDE..=HELLO_MAX).contains(&len) {
            Ok(len)
        } else {
            Err(format!("a hello of {len} bytes"))
        }
    }

    /// Reads what follows the prelude. Bytes after the known texts are ignored: a newer
    /// program may say more.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, String> {
        let mut at = Reader(body);
        let version_min = at.u16()?;
        let version_max = at.u16()?;
        let [role, reason, transport, _] = at.array()?;
        let role = match role {
            1 => Role::Client,
            2 => Role::Accept,
            3 => Role::Refuse,
            other => return Err(format!("a hello in role {other}")),
        };
        Ok(Self {
            version_min,
            version_max,
            role,
            reason,
            transport,
            schema: u64::from_le_bytes(at.array()?),
            features: u64::from_le_bytes(at.array()?),
            control: u32::from_le_bytes(at.array()?),
            bulk: u32::from_le_bytes(at.array()?),
            session: at.array()?,
            protocol: at.text(IDENT_MAX)?,
            name: at.text(IDENT_MAX)?,
            version: at.text(IDENT_MAX)?,
            memory: at.text(IDENT_MAX)?,
            message: at.text(512)?,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or("a hello cut short")?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Text for people: no control characters get through to a log or a terminal.
    fn text(&mut self, max: usize) -> Result<String, String> {
        let len = usize::from(self.u16()?);
        if len > max || len > self.0.len() {
            return Err(format!("a text of {len} bytes in a hello"));
        }
        let (text, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(printable(text))
    }
}

/// Bytes of a peer as one harmless line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn clip(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

pub(crate) fn reason_code(reason: Refusal) -> u8 {
    match reason {
        Refusal::Version => 1,
        Refusal::Schema => 2,
        Refusal::Protocol => 3,
        Refusal::Busy => 4,
        Refusal::User => 5,
        Refusal::Memory => 6,
        Refusal::Other => 0,
    }
}

pub(crate) fn reason_from(code: u8) -> Refusal {
    match code {
        1 => Refusal::Version,
        2 => Refusal::Schema,
        3 => Refusal::Protocol,
        4 => Refusal::Busy,
        5 => Refusal::User,
        6 => Refusal::Memory,
        _ => Refusal::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            version_min: 1,
            version_max: 3,
            role: Role::Refuse,
            reason: 2,
            transport: 0,
            schema: 7,
            features: 1,
            control: 1 << 18,
            bulk: 1 << 20,
            session: [9; 16],
            protocol: "engine".into(),
            name: "lapce-ai-lsp".into(),
            version: "0.1.0".into(),
            memory: String::new(),
            message: "é".repeat(400),
        }
    }

    #[test]
    fn a_hello_survives_and_long_texts_are_clipped() {
        let bytes = hello().encode();
        let len = Hello::body_len(bytes[..PRELUDE].try_into().unwrap()).unwrap();
        assert_eq!(len, bytes.len() - PRELUDE);
        let read = Hello::decode(&bytes[PRELUDE..]).unwrap();
        assert_eq!(read, Hello { message: "é".repeat(256), ..hello() });
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_an_error_or_a_hello_never_a_panic() {
        let bytes = hello().encode();
        for cut in 0..bytes.len() - PRELUDE {
            assert!(Hello::decode(&bytes[PRELUDE..PRELUDE + cut]).is_err());
        }
        for at in PRELUDE..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[at] ^= 1 << bit;
                let _ = Hello::decode(&bad[PRELUDE..]);
            }
        }
    }

    #[test]
    fn other_programs_are_told_apart() {
        assert!(Hello::body_len(b"GET / HTTP/1").unwrap_err().contains("GET / HT"));
        let mut long = hello().encode();
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Hello::body_len(long[..PRELUDE].try_into().unwrap()).is_err());
    }

    #[test]
    fn a_peer_cannot_write_to_our_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
