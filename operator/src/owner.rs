//! To whom an object belongs. Performs no I/O.

use kube::{Resource, ResourceExt};

/// To whom an object belongs, as a resource of ours sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// To this resource.
    Us,
    /// To the one of its name that was there before. Kubernetes is about to delete it.
    Predecessor,
    /// To somebody else, or to nobody.
    Somebody,
}

/// To whom an object belongs.
pub(crate) fn owner<K, R>(object: &K, resource: &R) -> Owner
where
    K: Resource,
    R: Resource<DynamicType = ()>,
{
    let references = object.owner_references();
    let (meta, kind) = (resource.meta(), R::kind(&()));
    if references.iter().any(|owner| Some(&owner.uid) == meta.uid.as_ref()) {
        Owner::Us
    } else if references
        .iter()
        .any(|owner| owner.kind == kind && Some(&owner.name) == meta.name.as_ref())
    {
        Owner::Predecessor
    } else {
        Owner::Somebody
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::json;

    use super::*;
    use crate::testing::resources::a_key;

    #[test]
    fn an_object_belongs_to_one_uid() {
        let key = a_key("alice", json!({"user": "alice"}));
        let reference = |kind: &str, name: &str, uid: &str| json!([{"apiVersion": "fairway.dev/v1alpha1", "kind": kind, "name": name, "uid": uid}]);

        for (references, expected) in [
            (reference("McpApiKey", "alice", "uid"), Owner::Us),
            (reference("McpApiKey", "alice", "before"), Owner::Predecessor),
            (reference("McpApiKey", "bob", "other"), Owner::Somebody),
            (reference("McpServer", "alice", "other"), Owner::Somebody),
            (json!([]), Owner::Somebody),
        ] {
            let secret: Secret =
                serde_json::from_value(json!({"metadata": {"ownerReferences": references}}))
                    .unwrap();
            assert_eq!(owner(&secret, &key), expected, "{references}");
        }
    }
}
