//! The admin port: readiness in detail, metrics, reports and lists.
//!
//! In a cluster everything but the bare status needs a token: isolation never rests on a
//! NetworkPolicy alone.

use std::sync::Arc;

use gateway_core::{Namespace, ServerName};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};

use crate::config::Config;
use crate::downstream::health::{self, Status};
use crate::downstream::reply::{self, Response};
use crate::peer::Fleet;
use crate::report::Reporter;
use crate::source::Contact;
use crate::state::{Keyring, Token, Tokens};
use crate::table::Table;
use crate::telemetry::Telemetry;

/// What the admin port serves.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) table: Arc<Table>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) contact: Arc<Contact>,
    pub(crate) config: Arc<Config>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) access: Access,
}

/// Who may see what.
#[derive(Debug)]
pub(crate) enum Access {
    /// On one's own machine all see everything.
    Open,
    /// In a cluster. Only there is somebody to report to.
    Tokens(Arc<Keyring>, Reporter),
}

impl Admin {
    pub(crate) fn serve<B>(&self, request: &Request<B>) -> Response {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return reply::error(StatusCode::NOT_FOUND, "no such path");
        }
        match &self.access {
            Access::Open => match path {
                "/health" => health::health(&self.table, Status::Detail),
                "/readyz" => self.readiness(Status::Detail),
                "/metrics" => self.metrics(),
                _ => reply::error(StatusCode::NOT_FOUND, "no such path"),
            },
            Access::Tokens(keyring, reporter) => {
                let granted = Granted::of(request.headers(), &keyring.tokens.load());
                self.serve_with_token(path, granted, reporter)
            }
        }
    }

    fn serve_with_token(&self, path: &str, granted: Granted, reporter: &Reporter) -> Response {
        let status = if granted == Granted::Everything { Status::Detail } else { Status::Bare };
        let list = path.strip_prefix("/catalog/").and_then(|path| path.split_once('/'));
        match (path, list) {
            ("/health", _) => health::health(&self.table, status),
            ("/readyz", _) => self.readiness(status),
            ("/metrics", _) if granted != Granted::Nothing => self.metrics(),
            ("/report", _) if granted == Granted::Everything => reply::lines(reporter.report()),
            (_, Some((namespace, server))) if granted == Granted::Everything => {
                self.list(namespace, server)
            }
            ("/metrics" | "/report", _) | (_, Some(_)) => {
                reply::unauthorized("this path needs the token of the admin port")
            }
            _ => reply::error(StatusCode::NOT_FOUND, "no such path"),
        }
    }

    fn readiness(&self, show: Status) -> Response {
        health::readiness(&self.table, &self.contact, &self.config, &self.fleet, show)
    }

    fn metrics(&self) -> Response {
        self.telemetry.staleness.set(self.contact.staleness().as_secs_f64());
        reply::metrics(self.telemetry.text())
    }

    /// The list of a server as it last gave it, whole.
    fn list(&self, namespace: &str, server: &str) -> Response {
        let id = (Namespace::new(namespace), ServerName::new(server));
        let published = self.table.load();
        let listed = published.upstreams.get(&id).and_then(|upstream| upstream.standing.listed());
        let Some(listed) = listed else {
            return reply::error(StatusCode::NOT_FOUND, "this server has not listed its tools");
        };
        let mut response = reply::json(StatusCode::OK, listed.catalog.to_json());
        // Which list it is: another one may have been reported since.
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", listed.hash)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// What a request may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Granted {
    Nothing,
    Metrics,
    Everything,
}

impl Granted {
    fn of(headers: &HeaderMap, tokens: &Tokens) -> Self {
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, presented)) = text.and_then(|text| text.split_once(' ')) else {
            return Self::Nothing;
        };
        let is =
            |token: &Option<Token>| token.as_ref().is_some_and(|token| token.is(presented.trim()));
        if !scheme.eq_ignore_ascii_case("bearer") {
            Self::Nothing
        } else if is(&tokens.admin) {
            Self::Everything
        } else if is(&tokens.metrics) {
            Self::Metrics
        } else {
            Self::Nothing
        }
    }
}
