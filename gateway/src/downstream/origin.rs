//! Browsers say which site a request comes from; pages of other sites may not use the gateway.

use http::{HeaderMap, Uri, header};

/// Accepts requests without `Origin`, from a page of this very host, and from pages on the user's
/// own machine (2025-11-25, transports, security warning).
pub(super) fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    const REFUSED: &str = "requests from pages of other sites are refused (Origin)";
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let host = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        uri.host().map(str::to_ascii_lowercase)
    };
    let origin = origin.to_str().ok().and_then(host).ok_or(REFUSED)?;
    let own = headers.get(header::HOST).and_then(|value| host(value.to_str().ok()?));
    let local = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    // A page of another site that made its name resolve to us sends that name as Host, too; but
    // then the Host is not local while we were reached on a loopback address by a local name.
    if local(&origin) || own.is_some_and(|own| own == origin && !local(&own)) {
        Ok(())
    } else {
        Err(REFUSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_refused() {
        for (origin, host, accepted) in [
            (None, "gateway.test", true),
            (Some("http://localhost:6274"), "127.0.0.1:8080", true),
            (Some("https://gateway.test"), "gateway.test", true),
            (Some("https://evil.test"), "gateway.test", false),
            (Some("http://evil.test"), "127.0.0.1:8080", false),
            (Some("null"), "127.0.0.1:8080", false),
            (Some("\u{1}"), "127.0.0.1:8080", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(Ok(origin)) = origin.map(|origin| origin.parse()) {
                headers.insert(header::ORIGIN, origin);
            } else if origin.is_some() {
                continue;
            }
            assert_eq!(check(&headers).is_ok(), accepted, "{origin:?} at {host}");
        }
    }
}
