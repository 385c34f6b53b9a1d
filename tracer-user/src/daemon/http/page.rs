//! Answers requests: makes the pages.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{self, HeaderValue},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{admission::Service, shared::Shared, targets};
use crate::{daemon::metrics::Format, escape::escape_json};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The pages that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Metrics,
    Health,
    Ready,
    Config,
    Targets,
}

/// The content of an answer.
struct Content {
    status: StatusCode,
    kind: &'static str,
    body: Bytes,
    /// Room for a large page.
    held: Option<OwnedSemaphorePermit>,
}

impl Page {
    const ALL: [Self; 5] = [
        Self::Metrics,
        Self::Health,
        Self::Ready,
        Self::Config,
        Self::Targets,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Health => "/healthz",
            Self::Ready => "/readyz",
            Self::Config => "/health/config",
            Self::Targets => "/targets",
        }
    }

    /// Whether it is also served on connections beyond the limit.
    const fn is_about_health(self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }
}

/// Answers a request. The permit, if there is one, must be kept until the answer was sent.
pub async fn answer(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
    service: Service,
) -> (Response<Full<Bytes>>, Option<OwnedSemaphorePermit>) {
    let path = request.uri().path();
    let page = Page::ALL.into_iter().find(|page| page.path() == path);
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_beyond_limit = service == Service::HealthOnly;
    let content = match (shared.pages.hosts.check(request), page) {
        (Err(unwanted), _) => text(unwanted.status(), unwanted.message().into()),
        (Ok(()), None) => text(StatusCode::NOT_FOUND, no_such_page()),
        (Ok(()), Some(_)) if !is_read => text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into()),
        (Ok(()), Some(page)) if is_beyond_limit && !page.is_about_health() => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "there are too many connections (http.max_connections): only /healthz and /readyz are answered\n"
                .into(),
        ),
        (Ok(()), Some(page)) => make(shared, page, request).await,
    };
    shared
        .counters
        .answered(page.map_or("other", Page::path), content.status.as_u16());
    let mut answer = Response::new(Full::new(content.body));
    *answer.status_mut() = content.status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if content.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    // Bodies are not read, so nothing can follow one.
    if !request.body().is_end_stream() || is_beyond_limit {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    (answer, content.held)
}

async fn make(shared: &Arc<Shared>, page: Page, request: &Request<Incoming>) -> Content {
    match page {
        Page::Metrics => {
            let accept = request.headers().get_all(header::ACCEPT);
            let format = Format::negotiate(accept.iter().filter_map(|value| value.to_str().ok()));
            large(shared, format.content_type(), move |shared| {
                let view = Arc::clone(&shared.pages.view.borrow());
                let bytes = shared.exposition.render(view, shared.counters.counts(), format);
                bytes.map_err(|e| format!("the metrics could not be written: {e}\n"))
            })
            .await
        }
        Page::Targets => {
            large(shared, JSON, |shared| {
                let view = Arc::clone(&shared.pages.view.borrow());
                json(&targets::list(&view))
            })
            .await
        }
        Page::Config => {
            let health = Arc::clone(&shared.pages.config.borrow());
            match json(&*health) {
                Ok(body) => Content {
                    status: StatusCode::OK,
                    kind: JSON,
                    body,
                    held: None,
                },
                Err(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
            }
        }
        Page::Health => {
            let made = shared.pages.view.borrow().made;
            let age = made.map(|made| Instant::now().saturating_duration_since(made));
            match age.filter(|age| *age > shared.pages.stale_after) {
                None => text(StatusCode::OK, "ok\n".into()),
                Some(age) => {
                    let why = format!("the daemon's loop has not turned for {} s\n", age.as_secs());
                    text(StatusCode::SERVICE_UNAVAILABLE, why)
                }
            }
        }
        Page::Ready => match *shared.pages.ready.borrow() {
            true => text(StatusCode::OK, "ok\n".into()),
            false => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the processes that are there are not all found yet\n".into(),
            ),
        },
    }
}

/// Makes a page on another thread, when there is room for it.
async fn large(
    shared: &Arc<Shared>,
    kind: &'static str,
    make: impl FnOnce(&Shared) -> Result<Bytes, String> + Send + 'static,
) -> Content {
    let failed = |why: String| text(StatusCode::INTERNAL_SERVER_ERROR, why);
    let Ok(held) = Arc::clone(&shared.held).acquire_owned().await else {
        return failed("the daemon ends\n".into());
    };
    let shared = Arc::clone(shared);
    // The room is taken until the page is made, also if the client is gone.
    match tokio::task::spawn_blocking(move || make(&shared).map(|body| (body, held))).await {
        Ok(Ok((body, held))) => Content {
            status: StatusCode::OK,
            kind,
            body,
            held: Some(held),
        },
        Ok(Err(why)) => failed(why),
        Err(e) => {
            log::error!("a page could not be made: {e}");
            failed("a mistake of gmpscope's: the log says more\n".into())
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<Bytes, String> {
    let text = serde_json::to_string(value).map_err(|e| format!("this could not be written: {e}\n"))?;
    Ok(Bytes::from(escape_json(&text).into_owned() + "\n"))
}

fn text(status: StatusCode, body: String) -> Content {
    Content {
        status,
        kind: TEXT,
        body: body.into(),
        held: None,
    }
}

fn no_such_page() -> String {
    let paths = Page::ALL.map(Page::path).join(" ");
    format!("there is no such page; there are {paths}\n")
}
