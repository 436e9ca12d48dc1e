//! The Secrets that resources refer to. Performs no I/O.

use std::collections::BTreeMap;
use std::fmt;

use crds::SecretKeyRef;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::field::consists;
use super::{Invalid, SUBDOMAIN};
use crate::Namespace;

/// Longest API key and longest credential that is read: no header carries more to every server.
const MAX_SECRET: usize = 4096;
/// Longest list of certificates: some 100 of them.
const MAX_CERTIFICATES: usize = 256 * 1024;

/// The Secrets that resources may refer to: those of their own namespace.
#[derive(Default)]
pub struct Secrets(BTreeMap<(Namespace, String), Secret>);

impl Secrets {
    /// Adds a Secret, or puts it in the place of the one of that name.
    pub fn insert(&mut self, secret: Secret) {
        let namespace = Namespace::new(secret.namespace().as_deref().unwrap_or("default"));
        self.0.insert((namespace, secret.name_any()), secret);
    }

    /// The text that `reference`, which stands at `field`, refers to.
    pub(super) fn read(
        &self,
        field: &str,
        reference: &SecretKeyRef,
        namespace: &Namespace,
    ) -> Result<String, Invalid> {
        self.read_within(MAX_SECRET, field, reference, namespace)
    }

    /// The same for certificates.
    pub(super) fn read_large(
        &self,
        field: &str,
        reference: &SecretKeyRef,
        namespace: &Namespace,
    ) -> Result<String, Invalid> {
        self.read_within(MAX_CERTIFICATES, field, reference, namespace)
    }

    fn read_within(
        &self,
        most: usize,
        field: &str,
        reference: &SecretKeyRef,
        namespace: &Namespace,
    ) -> Result<String, Invalid> {
        check(field, reference)?;
        let SecretKeyRef { name, key } = reference;
        let wrong = |problem: String| Invalid::Reference {
            field: field.to_owned(),
            secret: name.clone(),
            problem,
        };
        let secret = self
            .0
            .get(&(namespace.clone(), name.clone()))
            .ok_or_else(|| wrong(format!("does not exist in namespace {namespace}")))?;
        let plain = secret.string_data.as_ref().and_then(|data| data.get(key));
        let bytes = match plain {
            // As in an apiserver, where it is written over `data`.
            Some(text) => text.as_bytes(),
            None => secret
                .data
                .as_ref()
                .and_then(|data| data.get(key))
                .map(|bytes| &*bytes.0)
                .ok_or_else(|| wrong(format!("has no key {key}")))?,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|_| wrong(format!("holds bytes that are no text under the key {key}")))?;
        // `echo key | base64` leaves a line end that no header can carry.
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() > most {
            return Err(wrong(format!("must hold 1 to {most} bytes under the key {key}")));
        }
        Ok(text.to_owned())
    }
}

// Names only.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn check(field: &str, reference: &SecretKeyRef) -> Result<(), Invalid> {
    check_name(format_args!("{field}.name"), &reference.name)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if reference.key.len() > SUBDOMAIN || !consists(&reference.key, allowed) {
        let problem = "must be a key of the Secret's data: A-Z, a-z, 0-9, '-', '_' and '.'";
        return Err(Invalid::field(format_args!("{field}.key"), problem));
    }
    Ok(())
}

/// The name of a Secret, which stands at `field`.
pub(super) fn check_name(field: impl fmt::Display, name: &str) -> Result<(), Invalid> {
    if is_secret_name(name) {
        return Ok(());
    }
    let problem = "must be the name of a Secret: a-z, 0-9, '-' and '.', with a letter or digit at \
                   both ends";
    Err(Invalid::field(field, problem))
}

pub(super) fn is_secret_name(name: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| end(c) || matches!(c, '.' | '-');
    name.len() <= SUBDOMAIN && consists(name, inner) && name.starts_with(end) && name.ends_with(end)
}
