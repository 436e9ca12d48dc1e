//! The rules of the CRDs, tried on random values: what they refuse is refused, and what they
//! accept is accepted but for what they cannot say.

use kube::core::cel::validate_cel;
use proptest::prelude::*;
use serde_json::json;

use crate::fixture::{manifest, resource};
use crate::manifests::{Unfit, read};
use gateway_core::{Invalid, Resource};

/// Values that are mostly almost right, for every field that has a rule on its text.
fn field() -> impl Strategy<Value = (&'static str, String)> {
    let field = |path, values: &'static str| values.prop_map(move |value: String| (path, value));
    prop_oneof![
        field("/metadata/name", "sse|messages|[a-z0-9]{1,3}([.A_-][a-z0-9]{0,2})?"),
        field("/spec/url", "(https?|HTTP|ws)://[a0:@#?/\\\\ .\n%\\[\\]é-]{0,8}"),
        field("/spec/path", "/?[a0:@#?/\\\\ .\n%é-]{0,6}"),
        field("/spec/hostHeader", "\\[?[a0g:._ é-]{0,5}\\]?(:[0-9a]{0,6})?"),
        field("/spec/tools/prefix", "[aZ0_ .é\n-]{0,5}"),
        field("/spec/timeouts/connect", "([0-9]{0,7}(h|m|s|ms|d| )){0,4}"),
        field("/spec/timeouts/total", "([0-9]{1,2}h)?([0-9]{1,2}m)?([0-9]{1,2}s)?([0-9]{1,3}ms)?"),
        field("/spec/credentials/header", "[aZ0_ :.é\n-]{0,5}"),
        field("/spec/credentials/scheme", "[aZ0._ é\n-]{0,5}"),
        field("/spec/credentials/secretRef/name", "[aZ0._ é\n-]{0,5}"),
        field("/spec/credentials/secretRef/key", "[aZ0._ é\n-]{0,5}"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rules_of_the_crds_hold((path, value) in field()) {
        let spec = json!({
            "url": "http://git",
            "tools": {},
            "credentials": {"secretRef": {"name": "git", "key": "token"}},
            "timeouts": {},
        });
        let mut given = manifest("McpServer", "tools", "git", &spec);
        let (parent, name) = path.rsplit_once('/').unwrap();
        given.pointer_mut(parent).unwrap()[name] = json!(value);
        let Resource::Server(server) = resource(given.clone()).unwrap() else { unreachable!() };

        let refused = validate_cel(&*server).map_err(|errors| errors[0].to_string()).err();
        let entry = read(given);

        match (refused, entry) {
            (Some(refusal), entry) => prop_assert!(entry.is_err(), "{}", refusal),
            // An apiserver checks names itself, and rules cannot say what is a URL.
            (None, Err(Unfit::Invalid(Invalid::Field { field, .. }))) => prop_assert!(
                ["metadata.name", "spec.url", "spec.path"].contains(&&*field),
                "{} {:?}", field, value
            ),
            (None, entry) => prop_assert!(entry.is_ok(), "{:?}", entry),
        }
    }
}
