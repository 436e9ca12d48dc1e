//! Browsers say which site a request comes from, and by which name they reached us; pages of other
//! sites may not use the gateway.

use http::{HeaderMap, HeaderValue, Uri, header};

use crate::config::Config;

/// Refuses what a page of another site may have sent.
///
/// `Origin` must be this very host or the user's own machine (2025-11-25, transports, security
/// warning), or configured. As a page can make its own name resolve to the user's machine, who reaches us on a
/// loopback address (`local`) must call us by a loopback name or by one of `allowed`.
pub(super) fn check(
    headers: &HeaderMap,
    local: bool,
    allowed: &[String],
    config: &Config,
) -> Result<(), &'static str> {
    let own = headers.get(header::HOST).and_then(host_of);
    let expected = |host: &str| {
        is_loopback(host)
            || allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(host))
    };
    if local && own.as_deref().is_some_and(|own| !expected(own)) {
        return Err("this name (Host) is not one of the gateway's; start it with --allowed-host");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let settings = config.settings();
    if settings.is_own(origin) || settings.admits(origin) {
        return Ok(());
    }
    match host_of(origin) {
        Some(origin) if is_loopback(&origin) || own.as_deref() == Some(&*origin) => Ok(()),
        _ => Err("requests from pages of other sites are refused (Origin)"),
    }
}

fn host_of(value: &HeaderValue) -> Option<String> {
    let uri: Uri = value.to_str().ok()?.parse().ok()?;
    uri.host().map(str::to_ascii_lowercase)
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sites_are_refused() {
        for (origin, host, local, accepted) in [
            (None, "gateway.test", false, true),
            (None, "gateway.test", true, false),
            (None, "own.test:8080", true, true),
            (None, "localhost:8080", true, true),
            (Some("http://localhost:6274"), "127.0.0.1:8080", true, true),
            (Some("https://gateway.test"), "gateway.test", false, true),
            (Some("https://evil.test"), "gateway.test", false, false),
            (Some("http://evil.test"), "127.0.0.1:8080", true, false),
            (Some("http://evil.test:8080"), "evil.test:8080", true, false),
            (Some("null"), "127.0.0.1:8080", true, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let allowed = ["own.test".to_owned()];
            let checked = check(&headers, local, &allowed, &Config::default());
            assert_eq!(checked.is_ok(), accepted, "{origin:?} at {host}, local {local}");
        }
    }
}
