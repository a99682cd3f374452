//! The embedder that the user named in `[index]`, as the index processes see it.
//!
//! They have no network: a build hands its texts over the ring, batch by batch, and a
//! question's vector goes with the question. One batch is under way at a time, so a slow
//! provider holds the build back and nothing piles up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::index::{Embed, Given, Remote, Vectors};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::time::Instant;

use super::meta;
use crate::config::{Config, ConfigStore};
use crate::limits;
use crate::provider::{Model, Providers};

/// The embedder of the configuration as it is now; the file may change while the engine runs.
pub type Source = Arc<dyn Fn() -> Result<Option<Arc<Embedding>>, WireError> + Send + Sync>;

/// What was made of which configuration.
type Made = Option<(Arc<Config>, Option<Arc<Embedding>>)>;

/// A model that makes vectors, and the pace it is asked at.
pub struct Embedding {
    providers: Arc<Providers>,
    model: Model,
    /// Least time between two requests.
    pause: Duration,
    next: tokio::sync::Mutex<Instant>,
    price: String,
}

impl Embedding {
    /// What the configuration names, made anew when it changes.
    pub fn source(config: Arc<ConfigStore>, providers: Arc<Providers>) -> Source {
        let made: Mutex<Made> = Mutex::default();
        Arc::new(move || {
            let config = config.get()?;
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            match &*made {
                Some((of, embedding)) if Arc::ptr_eq(of, &config) => Ok(embedding.clone()),
                _ => {
                    let embedding = Self::configured(&config, &providers)?.map(Arc::new);
                    *made = Some((config, embedding.clone()));
                    Ok(embedding)
                }
            }
        })
    }

    /// `None` when the configuration names none.
    fn configured(config: &Config, providers: &Arc<Providers>) -> Result<Option<Self>, WireError> {
        let index = &config.index;
        if index.embedder.is_empty() {
            return Ok(None);
        }
        let per_minute = index.requests_per_minute;
        let pause = if per_minute == 0 { Duration::ZERO } else { MINUTE / per_minute };
        Ok(Some(Self {
            providers: providers.clone(),
            model: Model::from_config(config, &index.embedder)?,
            pause,
            next: tokio::sync::Mutex::new(Instant::now()),
            price: index.price_per_million_tokens.map(|p| p.to_string()).unwrap_or_default(),
        }))
    }

    /// How an index names it, up to the number of dimensions.
    fn prefix(&self) -> String {
        format!("remote:{}:", self.model.id())
    }

    /// Asks for one vector, so that a build begins only when it can be finished.
    pub async fn remote(&self) -> Result<Remote, WireError> {
        let probe = self.vectors(&[PROBE.to_owned()]).await?;
        let dims = probe.first().map_or(0, Vec::len);
        let name = format!("{}{dims}", self.prefix());
        Ok(Remote { name, dims: dims as u32, price: self.price.clone() })
    }

    /// The answer to a build's batch.
    pub async fn answer(&self, embed: Embed) -> Vectors {
        let bytes: usize = embed.texts.iter().map(String::len).sum();
        let result = if embed.texts.len() > limits::EMBED_TEXTS || bytes > limits::EMBED_BYTES {
            Err(WireError::new(ErrorKind::Internal, "a batch of texts is too large"))
        } else {
            self.vectors(&embed.texts).await
        };
        match result {
            Ok(vectors) => Vectors { batch: embed.batch, vectors, error: None },
            Err(error) => Vectors { batch: embed.batch, vectors: Vec::new(), error: Some(error) },
        }
    }

    /// A question's vector for an index that this embedder made; `None` for another's.
    pub(super) async fn question(&self, index: &meta::Meta, query: &str) -> Option<Given> {
        let embedder = &index.embedder;
        let dims: usize = embedder.strip_prefix(&self.prefix())?.parse().ok()?;
        let texts = [query.to_owned()];
        let vectors = tokio::time::timeout(limits::EMBED_QUESTION, self.vectors(&texts));
        let vector = match vectors.await {
            Ok(Ok(vectors)) => vectors.into_iter().next()?,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the question has no vector; the search is by words alone");
                return None;
            }
            Err(_) => {
                tracing::warn!("the embedder is slow; the search is by words alone");
                return None;
            }
        };
        (vector.len() == dims).then(|| Given { embedder: embedder.clone(), vector })
    }

    async fn vectors(&self, texts: &[String]) -> Result<Vec<Vec<i8>>, WireError> {
        if !self.pause.is_zero() {
            let mut next = self.next.lock().await;
            tokio::time::sleep_until(*next).await;
            *next = Instant::now() + self.pause;
        }
        Ok(self.providers.embed(&self.model, texts).await?)
    }
}

const MINUTE: Duration = Duration::from_mins(1);
/// What is embedded to learn the number of dimensions.
const PROBE: &str = "fn main() {}";
