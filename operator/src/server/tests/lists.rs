//! What is kept of a server's list, and what of a changed one is accepted.

use std::sync::Arc;

use crds::{McpServer, ToolChanges};
use gateway_core::{Catalog, Entry};
use serde_json::json;

use super::{catalog, nothing, pepper};
use crate::server::catalogs::{Definitions, Verified, definitions, fits};
use crate::server::observe::Observed;
use crate::server::validate::validate;
use crate::server::verify::{ACCEPT, difference, lists, unaccepted};
use crate::testing::resources::a_server;

fn server(tool_changes: ToolChanges) -> McpServer {
    let mut server = a_server("git", json!({"url": "http://git.example"}));
    server.spec.tool_changes = tool_changes;
    server
}

fn accepting(catalog: &Catalog) -> McpServer {
    let mut server = server(ToolChanges::Quarantine);
    server.metadata.annotations = Some([(ACCEPT.to_owned(), catalog.hash().to_string())].into());
    server
}

fn first() -> Catalog {
    catalog(&[("log", "shows"), ("push", "sends")])
}

fn second() -> Catalog {
    catalog(&[("log", "shows and sends it away"), ("push", "sends"), ("reset", "deletes")])
}

fn seen(verified: Option<Verified>, news: Option<Catalog>) -> Observed {
    Observed { verified, news, ..nothing() }
}

/// The first list was kept, and the gateways have another.
fn changed() -> Observed {
    seen(Some(Verified::first("uid", &first())), Some(second()))
}

#[test]
fn without_a_list_there_is_nothing_to_keep() {
    let lists = lists(&server(ToolChanges::Quarantine), &seen(None, None));

    assert!(lists.keep.is_none() && lists.change.is_none());
}

#[test]
fn the_first_list_is_trusted() {
    for tool_changes in [ToolChanges::Accept, ToolChanges::Quarantine] {
        let lists = lists(&server(tool_changes), &seen(None, Some(first())));

        let kept = lists.keep.unwrap();
        assert_eq!((&*kept.uid, kept.hash), ("uid", first().hash()));
        assert_eq!(*kept.accepted, definitions(&first()));
        assert_eq!(lists.change, None);
    }
}

#[test]
fn the_same_list_is_not_kept_again() {
    let verified = Some(Verified::first("uid", &first()));

    assert!(lists(&server(ToolChanges::Accept), &seen(verified, None)).keep.is_none());
}

#[test]
fn a_change_is_told_and_accepted_by_default() {
    let lists = lists(&server(ToolChanges::Accept), &changed());

    let kept = lists.keep.unwrap();
    assert_eq!(kept.hash, second().hash());
    assert_eq!(*kept.accepted, definitions(&second()));
    assert_eq!(lists.change.as_deref(), Some("changed: log; new: reset"));
}

#[test]
fn a_change_in_quarantine_is_kept_and_not_accepted() {
    let server = server(ToolChanges::Quarantine);
    let lists = lists(&server, &changed());

    let kept = lists.keep.unwrap();
    assert_eq!(*kept.tools, definitions(&second()));
    assert_eq!(*kept.accepted, definitions(&first()));
    assert_eq!(lists.change.as_deref(), Some("changed: log; new: reset"));
    assert_eq!(unaccepted(&server, &kept).as_deref(), Some("changed: log; new: reset"));
}

#[test]
fn the_hash_of_a_list_accepts_that_list_and_no_other() {
    let verified = lists(&server(ToolChanges::Quarantine), &changed()).keep;
    let observed = seen(verified, None);

    let server = accepting(&second());
    let kept = lists(&server, &observed).keep.unwrap();
    assert_eq!(*kept.accepted, definitions(&second()));
    assert_eq!(unaccepted(&server, &kept), None);

    assert!(lists(&accepting(&first()), &observed).keep.is_none());
    assert!(lists(&accepting(&catalog(&[])), &observed).keep.is_none());
}

#[test]
fn a_list_that_was_accepted_beforehand_is_accepted() {
    let kept = lists(&accepting(&second()), &changed()).keep.unwrap();

    assert_eq!(*kept.accepted, definitions(&second()));
}

#[test]
fn an_acceptance_does_not_hold_for_the_next_list() {
    let server = accepting(&second());
    let verified = lists(&server, &changed()).keep;
    let third = catalog(&[("log", "does something else")]);

    let kept = lists(&server, &seen(verified, Some(third))).keep.unwrap();

    assert_eq!(*kept.accepted, definitions(&second()));
    assert!(unaccepted(&server, &kept).is_some());
}

#[test]
fn a_list_that_is_as_it_was_needs_no_acceptance() {
    let server = server(ToolChanges::Quarantine);
    let verified = lists(&server, &changed()).keep;

    let kept = lists(&server, &seen(verified, Some(first()))).keep.unwrap();

    assert_eq!(unaccepted(&server, &kept), None);
}

#[test]
fn a_tool_that_is_gone_needs_no_acceptance() {
    let server = server(ToolChanges::Quarantine);
    let fewer = catalog(&[("log", "shows")]);
    let verified = Some(Verified::first("uid", &first()));

    let lists = lists(&server, &seen(verified, Some(fewer)));

    assert_eq!(lists.change.as_deref(), Some("gone: push"));
    assert_eq!(unaccepted(&server, &lists.keep.unwrap()), None);
}

#[test]
fn ending_the_quarantine_accepts_what_was_in_it() {
    let verified = lists(&server(ToolChanges::Quarantine), &changed()).keep;

    let kept = lists(&server(ToolChanges::Accept), &seen(verified, None)).keep.unwrap();

    assert_eq!(*kept.accepted, definitions(&second()));
}

#[test]
fn an_order_is_no_change() {
    let turned = catalog(&[("push", "sends"), ("log", "shows")]);

    assert_eq!(first().hash(), turned.hash());
}

#[test]
fn only_a_quarantine_is_told_to_the_gateways() {
    let pinned = |server: &McpServer, observed: &Observed| {
        let entry = validate(server, observed, &pepper()).unwrap().entry.unwrap();
        let Entry::Server(entry) = entry else { panic!() };
        serde_json::to_value(&*entry).unwrap()["tools"]["accepted"].clone()
    };

    assert!(pinned(&server(ToolChanges::Accept), &changed()).is_null());
    assert!(pinned(&server(ToolChanges::Quarantine), &nothing()).is_null());
    let held = pinned(&server(ToolChanges::Quarantine), &changed());
    assert_eq!(held, json!(definitions(&first())));
    let accepted = pinned(&accepting(&second()), &changed());
    assert_eq!(accepted, json!(definitions(&second())));
}

#[test]
fn a_list_that_is_too_large_to_be_kept_is_not_trusted_in_quarantine() {
    let names: Vec<String> = (0..10_000).map(|number| format!("tool_{number}")).collect();
    let tools: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "")).collect();
    let huge = catalog(&tools);
    assert!(!fits(&huge) && fits(&first()));
    let observed = seen(None, Some(huge));
    let server = server(ToolChanges::Quarantine);

    let lists = lists(&server, &observed);
    assert!(lists.keep.is_none() && lists.too_large);
    let Some(Entry::Server(entry)) = validate(&server, &observed, &pepper()).unwrap().entry else {
        panic!()
    };
    assert_eq!(serde_json::to_value(&*entry).unwrap()["tools"]["accepted"], json!({}));
}

#[test]
fn a_difference_names_some_and_counts_the_rest() {
    let hash = first().hash();
    let many: Definitions = (0..13).map(|number| (format!("t{number:02}"), hash)).collect();

    let text = difference(&Definitions::new(), &many);

    assert_eq!(text, "new: t00, t01, t02, t03, t04, t05, t06, t07, t08, t09 and 3 more");
    assert_eq!(difference(&many, &many), "");
    let other: Definitions = [("t00".to_owned(), second().hash())].into();
    let one: Definitions = [("t00".to_owned(), hash), ("t01".to_owned(), hash)].into();
    assert_eq!(difference(&one, &other), "changed: t00; gone: t01");
    let _ = Arc::new(one);
}
