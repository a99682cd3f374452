//! The HTTP client of a connection whose server wants a token: each request carries the
//! current one, and one that is not taken is renewed and tried once more.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::BoxStream;
use http::{HeaderName, HeaderValue};
use rmcp::model::ClientJsonRpcMessage;
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};

use super::tokens::Tokens;

type Error = StreamableHttpError<reqwest::Error>;
type Headers = HashMap<HeaderName, HeaderValue>;
type Events = BoxStream<'static, Result<sse_stream::Sse, SseError>>;

/// An HTTP client with tokens.
#[derive(Clone, Debug)]
pub struct Authorised {
    pub client: reqwest::Client,
    pub tokens: Arc<Tokens>,
}

impl Authorised {
    async fn with_token<T, F>(&self, call: impl Fn(Option<String>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let said = |why: String| StreamableHttpError::UnexpectedServerResponse(Cow::Owned(why));
        let token = self.tokens.current().await.map_err(said)?;
        match call(Some(token.clone())).await {
            Err(StreamableHttpError::AuthRequired(challenge)) => {
                match self.tokens.other_than(&token).await.map_err(said)? {
                    Some(other) => call(Some(other)).await,
                    None => Err(StreamableHttpError::AuthRequired(challenge)),
                }
            }
            other => other,
        }
    }
}

impl StreamableHttpClient for Authorised {
    type Error = reqwest::Error;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<StreamableHttpPostResponse, Error> {
        self.with_token(|token| {
            let (uri, message) = (uri.clone(), message.clone());
            self.client.post_message(uri, message, session.clone(), token, headers.clone())
        })
        .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        headers: Headers,
        limits: StreamableHttpResponseLimits,
    ) -> Result<StreamableHttpPostResponse, Error> {
        self.with_token(|token| {
            let (uri, message, session) = (uri.clone(), message.clone(), session.clone());
            let headers = headers.clone();
            self.client
                .post_message_with_response_limits(uri, message, session, token, headers, limits)
        })
        .await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<(), Error> {
        self.with_token(|token| {
            self.client.delete_session(uri.clone(), session.clone(), token, headers.clone())
        })
        .await
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        headers: Headers,
    ) -> Result<Events, Error> {
        self.with_token(|token| {
            let (uri, last) = (uri.clone(), last_event.clone());
            self.client.get_stream(uri, session.clone(), last, token, headers.clone())
        })
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        headers: Headers,
        most: usize,
    ) -> Result<Events, Error> {
        self.with_token(|token| {
            let (uri, last, session) = (uri.clone(), last_event.clone(), session.clone());
            self.client.get_stream_with_max_sse_event_size(
                uri,
                session,
                last,
                token,
                headers.clone(),
                most,
            )
        })
        .await
    }
}
