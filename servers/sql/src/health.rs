//! Whether the database is there, asked at most once a second however many want to know.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::database::Database;

#[derive(Clone, Debug)]
pub(crate) struct Health {
    database: Arc<Database>,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Health {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, last: Arc::default() }
    }

    pub(crate) async fn is_ok(&self) -> bool {
        // Held while the database is asked, so that others wait for the answer.
        let mut last = self.last.lock().await;
        match *last {
            Some((asked, ok)) if asked.elapsed() < FRESH => ok,
            _ => {
                let ok = self.database.is_there().await;
                *last = Some((Instant::now(), ok));
                ok
            }
        }
    }
}

const FRESH: Duration = Duration::from_secs(1);
