//! `Search`: the index worker's answer, checked on the way in.

use lapce_ai_ipc::wire::engine::{Search, SearchMode, SearchReply};
use lapce_ai_ipc::wire::{ErrorKind, WireError};

use super::check_text;
use crate::limits;
use crate::state::Engine;
use crate::workspace::Root;

pub async fn handle(engine: &Engine, request: Search) -> Result<SearchReply, WireError> {
    check_text("query", &request.query, limits::QUERY_BYTES)?;
    if !(1..=limits::HITS).contains(&request.limit) {
        return Err(WireError::new(
            ErrorKind::Invalid,
            format!("limit {} is out of range; 1 to {} are taken", request.limit, limits::HITS),
        ));
    }
    let root = Root::open(&request.root)?;
    let found = engine.index.search(&root, &request.query, request.limit, request.explain).await?;
    let fresh = engine.index.freshness(&root);
    Ok(SearchReply {
        hits: found.hits,
        mode: if found.hybrid { SearchMode::Hybrid } else { SearchMode::Lexical },
        behind: fresh.behind,
        indexed_files: found.indexed_files,
        took_us: found.took_us,
        partial: fresh.partial,
        built_at: fresh.built_at,
        watch: fresh.watch,
    })
}
