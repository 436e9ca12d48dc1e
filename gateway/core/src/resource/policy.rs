//! An McpPolicy to its entry. Performs no I/O.

use std::sync::Arc;

use crds::{Effect, McpPolicySpec};

use super::Invalid;
use super::field::{MANY, NAME, access, count, length};
use crate::entry::Subject;
use crate::{PolicyEntry, ResourceRef};

pub(super) fn entry(
    spec: &McpPolicySpec,
    ResourceRef { namespace, name, .. }: ResourceRef,
) -> Result<Arc<PolicyEntry>, Invalid> {
    if spec.subjects.is_empty() {
        return Err(Invalid::field("spec.subjects", "must name at least one user, group or key"));
    }
    if spec.rules.is_empty() {
        return Err(Invalid::field("spec.rules", "must have at least one rule"));
    }
    count("spec.subjects", spec.subjects.len(), MANY)?;
    count("spec.rules", spec.rules.len(), MANY)?;
    let subjects = spec.subjects.iter().enumerate().map(|(at, given)| subject(at, given));
    let subjects = subjects.collect::<Result<_, _>>()?;
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for (at, rule) in spec.rules.iter().enumerate() {
        let access = access(&format!("spec.rules[{at}]"), &rule.servers, &rule.tools)?;
        match rule.effect {
            Effect::Allow => allow.push(access),
            Effect::Deny => deny.push(access),
        }
    }
    Ok(Arc::new(PolicyEntry { namespace, name, subjects, allow, deny }))
}

fn subject(at: usize, subject: &crds::Subject) -> Result<Subject, Invalid> {
    let (kind, name, make): (_, _, fn(String) -> Subject) =
        match (&subject.user, &subject.group, &subject.key) {
            (Some(user), None, None) => ("user", user, Subject::User),
            (None, Some(group), None) => ("group", group, Subject::Group),
            (None, None, Some(key)) => ("key", key, Subject::Key),
            _ => {
                let problem = "must have exactly one of user, group, key; list another subject \
                               for another one";
                return Err(Invalid::field(format_args!("spec.subjects[{at}]"), problem));
            }
        };
    length(format_args!("spec.subjects[{at}].{kind}"), name, NAME)?;
    Ok(make(name.clone()))
}
