//! Legs that are opened again though no call asks for them: their clients subscribed to something.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::Upstream;
use super::leg::Leg;
use super::supervisor::jittered;

/// Legs that are opened again at one server at once: one that restarts has calls to answer, too.
pub(super) const AT_ONCE: usize = 8;
/// Between two attempts, at first and in the end.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(60);

impl Upstream {
    /// Opens a client's leg again that is lost, if the client is to hear of something on it. Who was
    /// faster, a call above all, has done it. Boxed, since a leg that is opened has itself revived.
    pub(super) fn revive<'a>(self: &'a Arc<Self>, lost: &'a Arc<Leg>) -> BoxFuture<'a, ()> {
        let revive = async move {
            let mut pause = PAUSE;
            while !self.is_revived(lost).await {
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(PAUSE_LAST);
            }
        };
        Box::pin(async move {
            self.stop.run_until_cancelled(revive).await;
        })
    }

    /// Whether nothing is left to do.
    async fn is_revived(self: &Arc<Self>, lost: &Arc<Leg>) -> bool {
        let Some(lodger) = lost.lodger() else { return true };
        let home = lodger.home.as_ref();
        if !home.is_some_and(|home| home.is_subscribed(&self.id())) || lodger.is_leaving() {
            return true;
        }
        // It is never closed.
        let _place = self.revivals.acquire().await;
        let Some(slot) = self.slot_of(&lodger.key).filter(|slot| slot.holds(lost)) else {
            return true;
        };
        slot.open_here(self, Some(lost)).await.is_ok()
    }
}
