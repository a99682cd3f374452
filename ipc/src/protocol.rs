//! What a protocol is: three message types, a name, and a hash of their definition.

use std::fmt;

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::wire;

/// A set of messages that a server answers. A call sends one `Request`, receives any
/// number of `Event`s, and ends with one `Reply` or error.
pub trait Protocol: Send + Sync + 'static {
    type Request: Wire;
    type Event: Wire;
    type Reply: Wire;
    /// Shown in refusals and logs.
    const NAME: &'static str;
    /// Changes whenever a message type changes.
    const SCHEMA: u64;

    /// Joins `next` to `last` when the reader is behind (tokens of one text), or gives
    /// it back when the two must stay apart.
    fn merge(_last: &mut Self::Event, next: Self::Event) -> Option<Self::Event> {
        Some(next)
    }
}

/// A message that can cross the ring. Implemented for every type with rkyv's derives.
pub trait Wire: Sized + Send + Sync + 'static {
    /// Appends the encoding of `self` to `into`, whose length is a multiple of 16.
    fn encode(&self, into: AlignedVec<16>) -> Result<AlignedVec<16>, rancor::Error>;
    /// Validates and reads; `bytes` starts on a 16-byte boundary.
    fn decode(bytes: &[u8]) -> Result<Self, rancor::Error>;
}

impl<T> Wire for T
where
    T: Archive
        + for<'a> Serialize<HighSerializer<AlignedVec<16>, ArenaHandle<'a>, rancor::Error>>
        + Send
        + Sync
        + 'static,
    T::Archived: for<'a> CheckBytes<HighValidator<'a, rancor::Error>>
        + Deserialize<T, HighDeserializer<rancor::Error>>,
{
    fn encode(&self, into: AlignedVec<16>) -> Result<AlignedVec<16>, rancor::Error> {
        rkyv::api::high::to_bytes_in(self, into)
    }

    fn decode(bytes: &[u8]) -> Result<Self, rancor::Error> {
        rkyv::from_bytes(bytes)
    }
}

/// Who speaks, as the other side shows it: `lapce-ai-lsp 0.1.0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident {
    pub name: String,
    pub version: String,
}

impl Ident {
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into() }
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Clients and the engine.
#[derive(Debug, Clone, Copy)]
pub struct EngineProtocol;

impl Protocol for EngineProtocol {
    type Request = wire::engine::Request;
    type Event = wire::engine::Event;
    type Reply = wire::engine::Reply;
    const NAME: &'static str = "engine";
    const SCHEMA: u64 = schema(&[
        include_str!("wire/mod.rs"),
        include_str!("wire/engine.rs"),
        include_str!("wire/index.rs"),
    ]);

    fn merge(last: &mut Self::Event, next: Self::Event) -> Option<Self::Event> {
        use wire::engine::Event::{Text, ToolOutput};
        match (last, next) {
            (Text(a), Text(b)) => {
                a.push_str(&b);
                None
            }
            (ToolOutput { call_id: a, text }, ToolOutput { call_id: b, text: more }) if *a == b => {
                text.push_str(&more);
                None
            }
            (_, next) => Some(next),
        }
    }
}

/// The engine and the index process.
#[derive(Debug, Clone, Copy)]
pub struct IndexProtocol;

impl Protocol for IndexProtocol {
    type Request = wire::index::Request;
    type Event = wire::index::Event;
    type Reply = wire::index::Reply;
    const NAME: &'static str = "index";
    const SCHEMA: u64 = schema(&[include_str!("wire/mod.rs"), include_str!("wire/index.rs")]);
}

/// FNV-1a over the definitions, without comments and white space, so that a build with
/// other messages is told apart and one with other comments is not.
pub const fn schema(sources: &[&str]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut s = 0;
    while s < sources.len() {
        let text = sources[s].as_bytes();
        let mut i = 0;
        while i < text.len() {
            if text[i] == b'/' && i + 1 < text.len() && text[i + 1] == b'/' {
                while i < text.len() && text[i] != b'\n' {
                    i += 1;
                }
            } else {
                if !text[i].is_ascii_whitespace() {
                    hash = (hash ^ text[i] as u64).wrapping_mul(0x0100_0000_01b3);
                }
                i += 1;
            }
        }
        hash = (hash ^ 0xff).wrapping_mul(0x0100_0000_01b3);
        s += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_ignores_comments_and_layout_only() {
        let a = schema(&["pub struct A { x: u32 } // note"]);
        assert_eq!(a, schema(&["// other\npub struct A {\n  x: u32\n}\n"]));
        assert_ne!(a, schema(&["pub struct A { x: u64 }"]));
        assert_ne!(schema(&["a", "b"]), schema(&["ab"]));
        assert_ne!(EngineProtocol::SCHEMA, IndexProtocol::SCHEMA);
    }

    #[test]
    fn messages_survive_the_codec() {
        let request = wire::engine::Request::CancelRun { run_id: "r1".into() };
        let bytes = request.encode(AlignedVec::new()).unwrap();
        assert_eq!(wire::engine::Request::decode(&bytes).unwrap(), request);
        assert!(wire::engine::Request::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn tokens_merge_and_other_events_do_not() {
        use wire::engine::Event;
        let mut last = Event::Text("a".into());
        assert_eq!(EngineProtocol::merge(&mut last, Event::Text("b".into())), None);
        assert_eq!(last, Event::Text("ab".into()));
        assert!(EngineProtocol::merge(&mut last, Event::Notice("n".into())).is_some());
    }
}
