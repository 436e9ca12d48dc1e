use http::{HeaderMap, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};

use super::seal::{Asked, Unsealed};
use super::*;

fn fleet(secret: u8) -> Arc<Fleet> {
    let keys = Arc::new(PeerKeys::new(&[[secret; 32]]));
    Fleet::new(keys, CancellationToken::new(), Telemetry::new()).0
}

const POST: Method = Method::POST;

fn sealed(from: &Fleet, to: Tag) -> HeaderMap {
    let client = HeaderMap::from_iter([
        (http::header::ACCEPT, HeaderValue::from_static("application/json")),
        (http::header::AUTHORIZATION, HeaderValue::from_static("Bearer secret")),
        (http::HeaderName::from_static("x-api-key"), HeaderValue::from_static("secret")),
        (http::HeaderName::from_static("mcp-session-id"), HeaderValue::from_static("token")),
    ]);
    let session = Some(SessionId::from_bytes([3; 12]));
    let letter = Letter { session, ..Letter::default() };
    from.seal(to, (&POST, "/mcp"), &letter, &client, b"body")
}

#[test]
fn what_one_gateway_sealed_the_other_opens_once() {
    let (one, other) = (fleet(1), fleet(1));
    let headers = sealed(&one, other.own);

    let opened = other.open(&POST, "/mcp", &headers, false).unwrap();

    assert_eq!(opened.from, one.own);
    assert_eq!(opened.letter.session, Some(SessionId::from_bytes([3; 12])));
    assert!(opened.body.is_of(b"body") && !opened.body.is_of(b"another"));
    assert_eq!(headers["mcp-session-id"], "token");
    assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"));
    let again = other.open(&POST, "/mcp", &headers, false).unwrap_err();
    assert_eq!(again, Unsealed::Repeated);
}

#[test]
fn nothing_else_is_opened() {
    let (one, other) = (fleet(1), fleet(1));
    let change = |name: &'static str, value: &'static str| {
        let mut headers = sealed(&one, other.own);
        headers.insert(name, HeaderValue::from_static(value));
        headers
    };
    for (what, headers, target, expected) in [
        ("no seal", HeaderMap::new(), "/mcp", Unsealed::Bare),
        ("for a third", sealed(&one, one.own), "/mcp", Unsealed::Misdirected),
        ("for anyone", sealed(&one, Tag::NONE), "/mcp", Unsealed::Misdirected),
        ("under another key", sealed(&fleet(2), other.own), "/mcp", Unsealed::Forged),
        ("for another path", sealed(&one, other.own), "/mcp/git", Unsealed::Forged),
        ("with another session", change("fairway-session", "AAAA"), "/mcp", Unsealed::Forged),
        ("with another token", change("mcp-session-id", "other"), "/mcp", Unsealed::Forged),
        ("with a header more", change("mcp-name", "x"), "/mcp", Unsealed::Forged),
        ("at another time", change("fairway-at", "0"), "/mcp", Unsealed::Forged),
        ("with an unreadable seal", change("fairway-mac", "!"), "/mcp", Unsealed::Bare),
    ] {
        assert_eq!(other.open(&POST, target, &headers, false).unwrap_err(), expected, "{what}");
    }
    let headers = sealed(&one, Tag::NONE);
    assert!(other.open(&POST, "/mcp", &headers, true).is_ok(), "where anyone is meant");
}

fn with_pods(own: &Fleet, others: &[(u8, Condition)]) {
    let pod = |&(tag, condition): &(u8, Condition)| {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let limit = std::time::Duration::from_secs(1);
        let http = HttpClient::new(&crate::upstream::Connector::to(address, limit));
        let condition = AtomicU8::new(condition as u8);
        let informed = AtomicBool::new(false);
        Arc::new(Pod { tag: Tag([tag; 8]), address, http, condition, informed })
    };
    own.pods.store(Arc::new(others.iter().map(pod).collect()));
}

fn homes(fleet: &Fleet, began: Tag) -> Vec<Option<Tag>> {
    (0..100)
        .map(|number| fleet.home(began, SessionId::from_bytes([number; 12])).map(|pod| pod.tag))
        .collect()
}

#[test]
fn the_home_is_where_a_session_began_then_one_that_all_agree_on() {
    use Condition::{Draining, Lost, Serving};
    let fleet = fleet(1);
    assert_eq!(homes(&fleet, Tag([7; 8])), [None; 100], "alone");

    with_pods(&fleet, &[(7, Serving), (8, Serving)]);
    assert_eq!(homes(&fleet, fleet.own), [None; 100]);
    assert_eq!(homes(&fleet, Tag([7; 8])), [Some(Tag([7; 8])); 100]);
    let spread = homes(&fleet, Tag([9; 8]));
    for place in [None, Some(Tag([7; 8])), Some(Tag([8; 8]))] {
        assert!(spread.contains(&place), "{place:?} gets a share of those whose home is gone");
    }

    for gone in [Draining, Lost] {
        with_pods(&fleet, &[(7, gone), (8, Serving)]);
        let moved = homes(&fleet, Tag([7; 8]));
        assert!(!moved.contains(&Some(Tag([7; 8]))), "{gone:?}");
        for (before, after) in spread.iter().zip(homes(&fleet, Tag([9; 8]))) {
            assert!(*before == Some(Tag([7; 8])) || *before == after, "what stays has not moved");
        }
    }

    fleet.draining.cancel();
    let leaving = homes(&fleet, fleet.own);
    assert_eq!(leaving, [Some(Tag([8; 8])); 100], "who is about to end takes on nothing");
}

#[test]
fn an_old_request_is_not_taken() {
    let (one, other) = (fleet(1), fleet(1));
    let at = Timestamp::now() - SignedDuration::from_secs(60);
    let mut headers = sealed(&one, other.own);
    one.reseal(&mut headers, at);

    assert_eq!(other.open(&POST, "/mcp", &headers, false).unwrap_err(), Unsealed::Untimely);
}

#[test]
fn an_answer_proves_who_gave_it() {
    let (one, other, stranger) = (fleet(1), fleet(1), fleet(2));
    let ask = || Asked::of(&sealed(&one, other.own)).unwrap();
    let asked = ask();
    let answer = |of: &Fleet| {
        let mut headers = HeaderMap::new();
        of.vouch(asked, &mut headers);
        headers
    };

    assert!(one.is_answer(asked, other.own, &answer(&other)));
    assert!(!one.is_answer(asked, one.own, &answer(&other)));
    assert!(!one.is_answer(asked, stranger.own, &answer(&stranger)));
    assert!(!one.is_answer(ask(), other.own, &answer(&other)));
    assert!(!one.is_answer(asked, other.own, &HeaderMap::new()));
}
