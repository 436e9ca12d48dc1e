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
    let own = headers.get(header::HOST).and_then(|host| host.to_str().ok()).map(without_port);
    let expected = |host: &str| {
        is_loopback(host)
            || allowed.iter().any(|name| name == "*" || name.eq_ignore_ascii_case(host))
    };
    if local && own.is_some_and(|own| !expected(own)) {
        return Err("this name (Host) is not one of the gateway's; start it with --allowed-host");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let settings = config.settings();
    if settings.is_own(origin) || settings.admits(origin) {
        return Ok(());
    }
    let same = |origin: &str| own.is_some_and(|own| own.eq_ignore_ascii_case(origin));
    match host_of(origin) {
        Some(origin) if is_loopback(&origin) || same(&origin) => Ok(()),
        _ => Err("requests from pages of other sites are refused (Origin)"),
    }
}

fn host_of(origin: &HeaderValue) -> Option<String> {
    let uri: Uri = origin.to_str().ok()?.parse().ok()?;
    uri.host().map(str::to_owned)
}

/// The host of a `Host` (RFC 9110 §7.2).
fn without_port(host: &str) -> &str {
    let end = host.rfind(':').filter(|end| !host[*end..].contains(']'));
    end.map_or(host, |end| &host[..end])
}

fn is_loopback(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|own| own.eq_ignore_ascii_case(host))
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
            (None, "LOCALHOST:8080", true, true),
            (None, "[::1]", true, true),
            (None, "[::1]:8080", true, true),
            (None, "localhost:8080:80", true, false),
            (None, "", true, false),
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
