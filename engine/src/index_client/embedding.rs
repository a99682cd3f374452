//! The embedder that the user named in `[index]`, as the index processes see it.
//!
//! They have no network: a build hands its texts over the ring, batch by batch, and a
//! question's vector goes with the question. One batch is under way at a time, so a slow
//! provider holds the build back and nothing piles up. The model is a provider's, or one in a
//! folder of this machine (`onnx`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapce_ai_ipc::wire::index::{Embed, Given, Remote, Vectors};
use lapce_ai_ipc::wire::{ErrorKind, WireError};
use tokio::time::Instant;

use super::meta;
use super::onnx::Onnx;
use crate::config::{self, Config, ConfigStore};
use crate::limits;
use crate::provider::{Model, Providers};

/// The embedder of the configuration as it is now; the file may change while the engine runs.
pub type Source = Arc<dyn Fn() -> Result<Option<Arc<Embedding>>, WireError> + Send + Sync>;

/// What was made of which configuration.
type Made = Option<(Arc<Config>, Option<Arc<Embedding>>)>;

/// A model that makes vectors.
pub struct Embedding(Maker);

enum Maker {
    Provider(Box<Hosted>),
    Local(Arc<Onnx>),
}

/// A provider's model, and the pace it is asked at.
struct Hosted {
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
        if let Some(folder) = index.embedder.strip_prefix(config::ONNX) {
            return Ok(Some(Self(Maker::Local(Onnx::new(folder.into())))));
        }
        let per_minute = index.requests_per_minute;
        let pause = if per_minute == 0 { Duration::ZERO } else { MINUTE / per_minute };
        Ok(Some(Self(Maker::Provider(Box::new(Hosted {
            providers: providers.clone(),
            model: Model::from_config(config, &index.embedder)?,
            pause,
            next: tokio::sync::Mutex::new(Instant::now()),
            price: index.price_per_million_tokens.map(|p| p.to_string()).unwrap_or_default(),
        })))))
    }

    /// What makes the vectors and how long they are, so that a build begins only when it can
    /// be finished.
    pub async fn remote(&self) -> Result<Remote, WireError> {
        match &self.0 {
            Maker::Provider(hosted) => {
                let probe = hosted.vectors(&[PROBE.to_owned()]).await?;
                let dims = probe.first().map_or(0, Vec::len);
                let name = format!("{}{dims}", hosted.prefix());
                Ok(Remote { name, dims: dims as u32, price: hosted.price.clone() })
            }
            Maker::Local(model) => {
                let (name, dims) = model.describe().await?;
                Ok(Remote { name, dims: dims as u32, price: String::new() })
            }
        }
    }

    /// The process of a local model, while there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.0 {
            Maker::Provider(_) => None,
            Maker::Local(model) => model.pid(),
        }
    }

    /// The answer to a build's batch.
    pub async fn answer(&self, embed: Embed) -> Vectors {
        let bytes: usize = embed.texts.iter().map(String::len).sum();
        let result = if embed.texts.len() > limits::EMBED_TEXTS || bytes > limits::EMBED_BYTES {
            Err(WireError::new(ErrorKind::Internal, "a batch of texts is too large"))
        } else {
            match &self.0 {
                Maker::Provider(hosted) => hosted.vectors(&embed.texts).await,
                Maker::Local(model) => model.vectors(&embed.texts, false).await,
            }
        };
        match result {
            Ok(vectors) => Vectors { batch: embed.batch, vectors, error: None },
            Err(error) => Vectors { batch: embed.batch, vectors: Vec::new(), error: Some(error) },
        }
    }

    /// A question's vector for an index that this embedder made; `None` for another's.
    pub(super) async fn question(&self, index: &meta::Meta, query: &str) -> Option<Given> {
        let embedder = &index.embedder;
        let vector = match tokio::time::timeout(
            limits::EMBED_QUESTION,
            self.vector(embedder, query),
        )
        .await
        {
            Ok(Ok(vector)) => vector?,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the question has no vector; the search is by words alone");
                return None;
            }
            Err(_) => {
                tracing::warn!("the embedder is slow; the search is by words alone");
                return None;
            }
        };
        Some(Given { embedder: embedder.clone(), vector })
    }

    /// `None` when another embedder made the index.
    async fn vector(&self, embedder: &str, query: &str) -> Result<Option<Vec<i8>>, WireError> {
        let texts = [query.to_owned()];
        let (vectors, dims) = match &self.0 {
            Maker::Provider(hosted) => {
                let dims = embedder.strip_prefix(&hosted.prefix()).and_then(|d| d.parse().ok());
                let Some(dims) = dims else { return Ok(None) };
                (hosted.vectors(&texts).await?, dims)
            }
            Maker::Local(model) => {
                // Only then is it worth starting it.
                if !embedder.starts_with(config::ONNX) {
                    return Ok(None);
                }
                let (name, dims) = model.describe().await?;
                if name != embedder {
                    return Ok(None);
                }
                (model.vectors(&texts, true).await?, dims)
            }
        };
        Ok(vectors.into_iter().next().filter(|v: &Vec<i8>| v.len() == dims))
    }
}

impl Hosted {
    /// How an index names it, up to the number of dimensions.
    fn prefix(&self) -> String {
        format!("remote:{}:", self.model.id())
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
