//! Who makes a request: authentication by API key, before any body is read.

use std::sync::Arc;

use gateway_core::{Namespace, Principal, Refusal};
use http::request::Parts;
use http::{HeaderMap, header};
use jiff::Timestamp;

use crate::state::Keyring;
use crate::table::Table;

/// Longest key that is looked at.
const MAX_KEY: usize = 4096;

/// Tells principals by their keys.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    /// Has one pepper, or during a rotation two.
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) table: Arc<Table>,
}

/// Why a request is not served: always 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unauthorized {
    /// Neither header nor query holds a key.
    #[error("missing API key")]
    Missing,
    /// The key is not good.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// Where a key was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Header,
    /// In the URL, which clients drop when they follow an `endpoint` event.
    Query,
}

impl Authenticator {
    /// The principal of a request to the URL of `tenant`, or to a plain URL. Another tenant's URL
    /// answers as for an unknown key.
    pub(crate) fn authenticate(
        &self,
        parts: &Parts,
        tenant: Option<&Namespace>,
    ) -> Result<(Principal, Source), Unauthorized> {
        let (key, source) = presented(&parts.headers, parts.uri.query())?;
        let (table, now) = (self.table.load(), Timestamp::now());
        let mut found = Err(Refusal::Unknown);
        for pepper in self.keyring.peppers.load().iter() {
            found = table.snapshot.authenticate(&pepper.digest(key.as_bytes()), now);
            if !matches!(found, Err(Refusal::Unknown)) {
                break;
            }
        }
        let principal = found?;
        principal.key.account.note(now);
        match tenant {
            Some(tenant) if *tenant != principal.key.namespace => {
                Err(Unauthorized::Refused(Refusal::Unknown))
            }
            _ => Ok((principal, source)),
        }
    }
}

/// The key that a request presents. The first place that holds one decides:
/// `X-Api-Key`, `?api_key=`, `Authorization: Bearer`.
fn presented<'a>(
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<(std::borrow::Cow<'a, str>, Source), Unauthorized> {
    let unusable = Unauthorized::Refused(Refusal::Unknown);
    let (key, source) = if let Some(value) = headers.get("x-api-key") {
        (value.to_str().map_err(|_| unusable)?.into(), Source::Header)
    } else if let Some(value) = query.and_then(|query| parameter(query, "api_key")) {
        (value, Source::Query)
    } else if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| unusable)?;
        let (scheme, key) = text.split_once(' ').ok_or(unusable)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unusable);
        }
        (key.trim().into(), Source::Header)
    } else {
        return Err(Unauthorized::Missing);
    };
    if key.is_empty() {
        Err(Unauthorized::Missing)
    } else if key.len() > MAX_KEY {
        Err(unusable)
    } else {
        Ok((key, source))
    }
}

/// The first value of a query parameter, decoded.
pub(crate) fn parameter<'a>(query: &'a str, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_that_holds_a_key_decides() {
        for (headers, query, expected) in [
            (vec![], None, Err(Unauthorized::Missing)),
            (vec![], Some("a=b"), Err(Unauthorized::Missing)),
            (vec![], Some("api_key="), Err(Unauthorized::Missing)),
            (vec![("x-api-key", "one")], Some("api_key=two"), Ok("one")),
            (vec![("authorization", "Bearer three")], Some("api_key=t%77o"), Ok("two")),
            (vec![("authorization", "bearer three")], None, Ok("three")),
            (
                vec![("authorization", "Basic three")],
                None,
                Err(Unauthorized::Refused(Refusal::Unknown)),
            ),
        ] {
            let mut map = HeaderMap::new();
            for (name, value) in &headers {
                map.insert(*name, value.parse().unwrap());
            }

            let key = presented(&map, query).map(|(key, _)| key.into_owned());

            assert_eq!(key, expected.map(str::to_owned), "{headers:?} {query:?}");
        }
    }
}
