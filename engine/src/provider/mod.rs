//! Model providers: which model a request uses, and how it is asked.
//!
//! [`Providers`] is the only entry for handlers and the agent loop. Below it: `format`
//! chooses the wire format, one file each (`openai`, …) translates, `chat` streams,
//! `http` talks to the network. Formats are pure. Nothing here knows tools, policies,
//! workspaces or rings, and nothing here is built before a request needs a model.

pub mod anthropic;
pub mod chat;
pub mod detect;
pub mod embed;
pub mod error;
pub mod fim;
pub mod format;
pub mod gemini;
pub mod http;
pub mod image;
pub mod keys;
pub mod limits;
pub mod lines;
pub mod model;
pub mod ollama;
pub mod openai;
pub mod responses;
pub mod retry;
pub mod types;
pub mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lapce_ai_ipc::wire::{ErrorKind, WireError};

pub use self::chat::ChatStream;
pub use self::detect::Ports;
pub use self::error::{Fault, ProviderError};
pub use self::fim::FimRequest;
pub use self::model::Model;
pub use self::types::{
    ChatRequest, Delta, Finish, Message, NativeCall, Part, Picture, Role, Stop, ToolDef,
};

use self::http::Http;
use self::keys::Keys;
use crate::config::{Config, KeySource, Network};
use crate::secret::Secret;

/// What to do when there is no model.
pub const NO_MODEL_HINT: &str = "configure one in config.toml ([models] chat = \"provider/model\"; see docs/reference/config.md), or start llama-server, Ollama or LM Studio on this machine";
/// What to do when there is no model for ghost text.
pub const NO_COMPLETION_HINT: &str =
    "set [models] complete = \"provider/model\" in config.toml to a model with fill-in-the-middle";

/// All providers, and what is known about them.
#[derive(Debug, Default)]
pub struct Providers {
    http: Arc<Http>,
    keys: Arc<Keys>,
    ports: Ports,
    found: Mutex<Option<(Instant, Option<Model>)>>,
    /// Held while looking, so that two requests do not both look.
    looking: tokio::sync::Mutex<()>,
}

impl Providers {
    /// With other ports for the servers on this machine.
    pub fn with_ports(ports: Ports) -> Self {
        Self { ports, ..Self::default() }
    }

    /// The model for `ask` and `run`: the wanted one, the configured one, or one that runs
    /// on this machine; `None` when there is none of them.
    pub async fn chat_model(
        &self,
        config: &Config,
        wanted: &str,
    ) -> Result<Option<Model>, WireError> {
        let id = if wanted.is_empty() { config.chat.as_str() } else { wanted };
        if !id.is_empty() {
            let known = id
                .split_once('/')
                .is_some_and(|(provider, _)| config.providers.contains_key(provider));
            // One that was found, named by the user.
            if !known
                && let Some(found) = self.found_model(config).await
                && found.id() == id
            {
                return Ok(Some(found));
            }
            return Ok(Some(Model::from_config(config, id)?));
        }
        Ok(self.found_model(config).await)
    }

    /// The model for ghost text; an error when none is configured.
    pub fn completion_model(&self, config: &Config) -> Result<Model, WireError> {
        if config.complete.is_empty() {
            return Err(WireError::new(
                ErrorKind::Unavailable,
                "no model for ghost text is configured",
            )
            .hint(NO_COMPLETION_HINT));
        }
        Ok(Model::from_config(config, &config.complete)?)
    }

    /// What `status` shows, without asking the network: the chat model (configured, or
    /// found a while ago) and, when there is none, what to do.
    pub fn describe_chat(&self, config: &Config) -> (String, String) {
        if !config.chat.is_empty() {
            return (config.chat.clone(), String::new());
        }
        match &*self.found() {
            Some((_, Some(model))) => (model.id(), String::new()),
            _ => (String::new(), NO_MODEL_HINT.to_owned()),
        }
    }

    async fn found_model(&self, config: &Config) -> Option<Model> {
        if !config.detect_local {
            return None;
        }
        let _looking = self.looking.lock().await;
        if let Some((at, model)) = &*self.found() {
            let keep =
                if model.is_some() { limits::DETECT_FOUND_FOR } else { limits::DETECT_NOTHING_FOR };
            if at.elapsed() < keep {
                return model.clone();
            }
        }
        let model = detect::find(&self.http, &config.network, self.ports).await;
        *self.found() = Some((Instant::now(), model.clone()));
        model
    }

    fn found(&self) -> MutexGuard<'_, Option<(Instant, Option<Model>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys to be taken out of what goes into prompts, events and journals.
    pub fn keys_at_hand(&self, config: &Config) -> Vec<Secret> {
        self.keys.at_hand(config)
    }

    /// A key by its place, for what else the user configured with one.
    pub async fn key(&self, name: &str, source: &KeySource) -> Result<Secret, ProviderError> {
        Ok(self.keys.get(name, Some(source)).await?.unwrap_or_default())
    }

    /// The keyring, and what was read of it.
    pub fn keyring(&self) -> Arc<Keys> {
        self.keys.clone()
    }

    /// The client for an address, which follows no redirect.
    pub fn http_client(
        &self,
        name: &str,
        url: &str,
        network: &Network,
    ) -> Result<reqwest::Client, ProviderError> {
        self.http.client(name, url, network)
    }

    /// Asks for an answer. Drop the stream to cancel. Needs a tokio runtime.
    pub fn chat(&self, model: &Model, request: ChatRequest) -> ChatStream {
        chat::start(self.http.clone(), self.keys.clone(), model.clone(), request)
    }

    /// Has the configured model make an image. Drop the future to cancel; the provider may
    /// bill it all the same.
    pub async fn image(
        &self,
        config: &Config,
        request: &image::ImageRequest,
    ) -> Result<Vec<u8>, ProviderError> {
        if config.image.is_empty() {
            return Err(ProviderError::new(
                Fault::Config,
                "models",
                "no model for images is configured",
            )
            .hint("set `image = \"provider/model\"` under [models] in config.toml"));
        }
        let model = Model::from_config(config, &config.image)?;
        let key = self.keys.get(&model.provider, model.key.as_ref()).await?;
        let boundary = crate::ids::approval_id();
        let outgoing = image::outgoing(&model, key.as_ref(), &boundary, request)?;
        let time = crate::limits::IMAGE_TIMEOUT;
        let made = tokio::time::timeout(time, async {
            let mut response = self.http.send(&outgoing, &model.network, time).await?;
            let most = crate::handlers::own::IMAGE_ANSWER_BYTES;
            let body = http::read_body(&mut response, most, time).await.map_err(|why| {
                let text = format!("the image was cut off: {why}");
                ProviderError::new(Fault::Network, &model.provider, text)
            })?;
            image::read(&model.provider, &body)
        });
        made.await.unwrap_or_else(|_| {
            let text = format!("no image within {} s", time.as_secs());
            Err(ProviderError::new(Fault::Timeout, &model.provider, text))
        })
    }

    /// The vectors of some texts, as bytes; retried as an answer is.
    pub async fn embed(
        &self,
        model: &Model,
        texts: &[String],
    ) -> Result<Vec<Vec<i8>>, ProviderError> {
        let key = self.keys.get(&model.provider, model.key.as_ref()).await?;
        let outgoing = embed::outgoing(model, key.as_ref(), texts);
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.embed_once(model, &outgoing, texts.len()).await {
                Ok(vectors) => return Ok(vectors),
                Err(error) => error,
            };
            if error.fault == Fault::Auth {
                self.keys.forget();
            }
            let Some(pause) = retry::pause(&error, tries, retry::jitter()) else {
                return Err(embed::advise(error));
            };
            tracing::info!(%error, ?pause, "embeddings are asked for again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn embed_once(
        &self,
        model: &Model,
        outgoing: &http::Outgoing,
        texts: usize,
    ) -> Result<Vec<Vec<i8>>, ProviderError> {
        let mut response = self.http.send(outgoing, &model.network, model.first_byte()).await?;
        let body = http::read_body(&mut response, limits::EMBEDDINGS_BYTES, model.idle())
            .await
            .map_err(|why| {
                let what = format!("the embeddings were cut off: {why}");
                ProviderError::new(Fault::Network, &model.provider, what)
            })?;
        embed::read(&model.provider, &body, texts)
    }

    /// Asks for the text between a prefix and a suffix. Drop the future to cancel.
    pub async fn fill(&self, model: &Model, request: &FimRequest) -> Result<String, ProviderError> {
        let Some(fim) = model.fim else {
            return Err(ProviderError::new(
                Fault::Config,
                &model.provider,
                format!("has no fill-in-the-middle for {}", model.name),
            )
            .hint("choose a model with fill-in-the-middle for [models] complete in config.toml"));
        };
        let key = self.keys.get(&model.provider, model.key.as_ref()).await?;
        let outgoing = fim::outgoing(model, key.as_ref(), fim, request);
        let late =
            || ProviderError::new(Fault::Timeout, &model.provider, "ghost text took too long");
        tokio::time::timeout(limits::COMPLETION_TIMEOUT, async {
            let mut response =
                self.http.send(&outgoing, &model.network, limits::COMPLETION_TIMEOUT).await?;
            let body =
                http::read_body(&mut response, limits::BODY_BYTES, limits::COMPLETION_TIMEOUT)
                    .await
                    .map_err(|why| {
                        ProviderError::new(
                            Fault::Network,
                            &model.provider,
                            format!("the completion was cut off: {why}"),
                        )
                    })?;
            fim::read(&model.provider, &body)
        })
        .await
        .unwrap_or_else(|_| Err(late()))
    }
}
