//! Model servers that run on this machine: llama-server, Ollama, LM Studio.
//!
//! Asked only when no model is configured, all at once, within a fraction of a second. A
//! server is used only when its answer has the shape of that very program: any other
//! program on the port is left alone.

use serde_json::Value;

use super::http::{self, Http, Outgoing};
use super::limits;
use super::model::Model;
use crate::config::{Auth, Kind, ModelConfig, Network, ProviderConfig};

/// Where the three are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub llama_server: u16,
    pub ollama: u16,
    pub lm_studio: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { llama_server: 8080, ollama: 11434, lm_studio: 1234 }
    }
}

/// The first model found, llama-server before Ollama before LM Studio.
pub async fn find(http: &Http, network: &Network, ports: Ports) -> Option<Model> {
    let (llama, ollama, studio) = futures::join!(
        llama_server(http, network, ports.llama_server),
        ollama(http, network, ports.ollama),
        lm_studio(http, network, ports.lm_studio),
    );
    llama.or(ollama).or(studio)
}

async fn llama_server(http: &Http, network: &Network, port: u16) -> Option<Model> {
    let base = format!("http://127.0.0.1:{port}");
    let list = get(http, network, "llama-server", format!("{base}/v1/models")).await?;
    let first = list["data"].as_array()?.iter().find(|m| m["owned_by"] == "llamacpp")?;
    // Without an alias the name is the path of the weights.
    let id = first["id"].as_str()?;
    let name = id.rsplit('/').next().unwrap_or(id);
    let name = name.strip_suffix(".gguf").unwrap_or(name).to_owned();
    // The context it was started with; the model's own limit may be larger.
    let props = get(http, network, "llama-server", format!("{base}/props")).await;
    let context = props.and_then(|p| p["default_generation_settings"]["n_ctx"].as_u64());
    Some(model("llama-server", Kind::LlamaCpp, format!("{base}/v1"), &name, context, network))
}

async fn ollama(http: &Http, network: &Network, port: u16) -> Option<Model> {
    let base = format!("http://127.0.0.1:{port}");
    let list = get(http, network, "ollama", format!("{base}/api/tags")).await?;
    let models = list["models"].as_array()?;
    let name = models.iter().filter_map(|m| m["name"].as_str()).find(|name| !is_embedder(name))?;
    Some(model("ollama", Kind::Ollama, base, name, None, network))
}

async fn lm_studio(http: &Http, network: &Network, port: u16) -> Option<Model> {
    let base = format!("http://127.0.0.1:{port}/v1");
    let list = get(http, network, "lm-studio", format!("{base}/models")).await?;
    let models = list["data"].as_array()?;
    let name = models
        .iter()
        .filter(|m| m["object"] == "model")
        .filter_map(|m| m["id"].as_str())
        .find(|name| !is_embedder(name))?;
    Some(model("lm-studio", Kind::OpenAi, base, name, None, network))
}

fn is_embedder(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["embed", "bge-", "minilm", "rerank"].iter().any(|part| name.contains(part))
}

fn model(
    provider: &str,
    kind: Kind,
    base_url: String,
    name: &str,
    context: Option<u64>,
    network: &Network,
) -> Model {
    let settings = ModelConfig {
        context: context.and_then(|c| u32::try_from(c).ok()),
        ..ModelConfig::default()
    };
    let config = ProviderConfig {
        kind,
        base_url,
        key: None,
        auth: Auth::Auto,
        models: std::iter::once((name.to_owned(), settings)).collect(),
    };
    Model::new(provider, name, &config, network)
}

async fn get(http: &Http, network: &Network, provider: &str, url: String) -> Option<Value> {
    let outgoing =
        Outgoing { provider: provider.to_owned(), url, headers: Vec::new(), body: None, key: None };
    let ask = async {
        let mut response = http.send(&outgoing, network, limits::DETECT_TIMEOUT).await.ok()?;
        let body = http::read_body(&mut response, limits::BODY_BYTES, limits::DETECT_TIMEOUT)
            .await
            .ok()?;
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(limits::DETECT_TIMEOUT, ask).await.ok()?
}
