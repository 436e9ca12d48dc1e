//! Who of a key's clients is told when lists change. Performs no I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp::list::List;

use crate::{Account, Scope};

/// How many streams there are on which changes of each list are told, by the URL they belong to.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<HashMap<Scope, [usize; List::ALL.len()]>>);

/// As long as it is held, its client is told of changes.
#[derive(Debug)]
pub struct Listening {
    account: Arc<Account>,
    scope: Scope,
    lists: Vec<List>,
}

impl Listening {
    pub(crate) fn new(account: Arc<Account>, scope: Scope, lists: Vec<List>) -> Self {
        account.listeners.change(&scope, &lists, |count| count + 1);
        Self { account, scope, lists }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.account.listeners.change(&self.scope, &self.lists, |count| count.saturating_sub(1));
    }
}

impl Listeners {
    pub(crate) fn hear_of(&self, list: List, scope: &Scope) -> bool {
        let listeners = self.lock();
        let counts = listeners.get(scope).map_or(&[0; List::ALL.len()], |counts| counts);
        counts.iter().zip(List::ALL).any(|(count, of)| of == list && *count > 0)
    }

    fn change(&self, scope: &Scope, lists: &[List], by: impl Fn(usize) -> usize) {
        let mut listeners = self.lock();
        let counts = listeners.entry(scope.clone()).or_default();
        for (count, _) in counts.iter_mut().zip(List::ALL).filter(|(_, of)| lists.contains(of)) {
            *count = by(*count);
        }
        if counts.iter().all(|count| *count == 0) {
            listeners.remove(scope);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, [usize; List::ALL.len()]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerName;

    #[test]
    fn who_listens_hears_of_its_lists_at_its_url_until_it_leaves() {
        let account = Arc::new(Account::default());
        let (all, one) = (Scope::All, Scope::Server(ServerName::new("one")));

        let first = account.listen(&all, vec![List::Tools, List::Resources]);
        let second = account.listen(&all, vec![List::Tools]);

        assert!(account.hears_of(List::Tools, &all));
        assert!(!account.hears_of(List::Prompts, &all));
        assert!(!account.hears_of(List::Tools, &one));
        drop(first);
        assert!(account.hears_of(List::Tools, &all));
        assert!(!account.hears_of(List::Resources, &all));
        drop(second);
        assert!(!account.hears_of(List::Tools, &all));
    }
}
