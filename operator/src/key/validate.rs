//! A key as gateways take it, or what is wrong with it. Performs no I/O.

use std::sync::Arc;

use crds::McpApiKey;
use gateway_core::{Entry, Invalid, KeyValue, Minted, Pepper, Record, References, Resource};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::observe::{Observed, output_name};
use crate::context::claim;
use crate::owner::{Owner, owner};

/// When a key in a Secret of ours was made.
pub(super) const MINTED_AT: &str = "fairway.dev/minted-at";
/// Asks for a new key whenever its value changes.
pub(super) const ROTATE: &str = "fairway.dev/rotate";
/// Values of one key that work at a time: the newest, and those it overlaps with. An hourly rotation
/// with an overlap of a day has 25.
const MOST_VALUES: usize = 32;
/// Of a key that is replaced by hand and has no rotation of its own.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
/// Characters of a key that are kept for people: of 64 digits they tell 5.
const PREFIX: usize = 8;

/// A key that is good.
#[derive(Debug)]
pub(super) struct ValidKey {
    pub(super) entry: Entry,
    /// To be handed out, because it was made just now.
    pub(super) fresh: Option<Fresh>,
    pub(super) next_rotation: Option<Timestamp>,
}

/// A key that nobody has seen yet.
pub(super) struct Fresh {
    pub(super) value: String,
    pub(super) at: Timestamp,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fresh(…, {})", self.at)
    }
}

/// Why a key makes no entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Refusal {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(
        "the Secret {0} exists and does not belong to this resource; delete it, or set another \
         spec.secretName"
    )]
    SecretTaken(String),
    #[error("the Secret {0} of the resource of this name that was there before is being deleted")]
    SecretLeaving(String),
}

impl Refusal {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(Invalid::Reference { .. }) => "SecretNotUsable",
            Self::Invalid(_) => "Invalid",
            Self::SecretTaken(_) => "SecretTaken",
            Self::SecretLeaving(_) => "Pending",
        }
    }
}

pub(super) fn validate(
    key: &McpApiKey,
    observed: &Observed,
    pepper: &Pepper,
) -> Result<ValidKey, Refusal> {
    let (minted, fresh, next_rotation) = if key.spec.value_from.is_some() {
        (Vec::new(), None, None)
    } else {
        match observed.output.as_ref().map(|secret| owner(secret, key)) {
            None | Some(Owner::Us) => {}
            Some(Owner::Predecessor) => return Err(Refusal::SecretLeaving(output_name(key))),
            Some(Owner::Somebody) => return Err(Refusal::SecretTaken(output_name(key))),
        }
        let values = values_so_far(observed, pepper);
        rotate(key, values, observed, pepper)
    };
    let references = References {
        minted,
        ..References::without_cluster(claim(&key.metadata), &observed.given, pepper)
    };
    let entry = Entry::from_resource(&Resource::Key(Box::new(key.clone())), references)?;
    Ok(ValidKey { entry, fresh, next_rotation })
}

/// What a key is denied though its new version is not valid: to disable it, or to end it sooner,
/// must not wait until the rest is mended.
pub(super) fn denied(key: &McpApiKey, last: Option<&Record>) -> Option<Entry> {
    let Entry::Key(last) = &last?.entry else { return None };
    let mut denied = (**last).clone();
    denied.disabled |= key.spec.disabled;
    let ends = key.spec.expires_at.as_ref().map(|time| time.0);
    denied.expires_at = denied.expires_at.into_iter().chain(ends).min();
    (denied != **last).then(|| Entry::Key(Arc::new(denied)))
}

/// Those of the entry; and the one in the Secret, if the operator was ended after it had handed it
/// out and before it was written into the entry.
fn values_so_far(observed: &Observed, pepper: &Pepper) -> Vec<KeyValue> {
    let mut values = match observed.record.as_ref().map(|record| &record.entry) {
        Some(Entry::Key(key)) => key.values.clone(),
        _ => Vec::new(),
    };
    values.retain(|value| value.minted.is_some());
    let handed_out = observed.output.as_ref().and_then(|secret| {
        let key = std::str::from_utf8(&secret.data.as_ref()?.get("key")?.0).ok()?;
        let at: Timestamp = secret.annotations().get(MINTED_AT)?.parse().ok()?;
        let request = secret.annotations().get(ROTATE).cloned();
        Some(value(key, at, request, pepper))
    });
    let newest = values.first().and_then(|value| Some(value.minted.as_ref()?.at));
    if let Some(value) = handed_out
        && newest < value.minted.as_ref().map(|minted| minted.at)
        && values.iter().all(|known| known.digest != value.digest)
    {
        values.insert(0, value);
    }
    values
}

fn value(key: &str, at: Timestamp, request: Option<String>, pepper: &Pepper) -> KeyValue {
    let prefix = key.chars().take(PREFIX).collect();
    KeyValue {
        digest: pepper.digest(key.as_bytes()),
        not_after: None,
        minted: Some(Minted { at, prefix, request }),
    }
}

/// Makes a new key when it is time to, or when somebody asks, and lets the one before end.
fn rotate(
    key: &McpApiKey,
    mut values: Vec<KeyValue>,
    observed: &Observed,
    pepper: &Pepper,
) -> (Vec<KeyValue>, Option<Fresh>, Option<Timestamp>) {
    let now = observed.now;
    let rotation = key.spec.rotation.as_ref();
    // A key that has ended needs no other.
    let has_ended = key.spec.expires_at.as_ref().is_some_and(|end| end.0 <= now);
    let rotates = rotation.filter(|_| !has_ended);
    let interval = rotates.and_then(|rotation| duration(&rotation.interval));
    let overlap = rotation.map_or(Some(OVERLAP), |rotation| duration(&rotation.overlap));
    let request = key.annotations().get(ROTATE);
    let due = |minted: &Minted| interval.and_then(|interval| minted.at.checked_add(interval).ok());
    let newest = values.first().and_then(|value| value.minted.as_ref());
    let make = newest.is_none_or(|newest| {
        due(newest).is_some_and(|due| due <= now)
            || request.is_some_and(|request| newest.request.as_ref() != Some(request))
    });
    let fresh = make.then(|| {
        let at = to_second(now);
        values.insert(0, value(&observed.candidate, at, request.cloned(), pepper));
        Fresh { value: observed.candidate.clone(), at }
    });
    for (newer, older) in (1..values.len()).map(|older| (older - 1, older)) {
        let since = values.get(newer).and_then(|newer| Some(newer.minted.as_ref()?.at));
        if let (Some(older), Some(since)) = (values.get_mut(older), since)
            && older.not_after.is_none()
        {
            older.not_after =
                overlap.and_then(|overlap| since.checked_add(overlap).ok()).or(Some(since));
        }
    }
    values.retain(|value| value.not_after.is_none_or(|end| now < end));
    values.truncate(MOST_VALUES);
    let next = values.first().and_then(|value| due(value.minted.as_ref()?));
    (values, fresh, next)
}

/// As an annotation and a status have it.
fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `1h30m`, as the CRD admits it.
fn duration(text: &str) -> Option<SignedDuration> {
    text.parse().ok()
}
