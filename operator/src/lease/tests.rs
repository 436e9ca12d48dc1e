use http::Method;
use tokio::task::JoinHandle;
use tokio::time::advance;

use super::*;
use crate::testing::{Api, Failure};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/fairway/leases/lease";

/// A replica that wants to lead.
struct Replica {
    leadership: Arc<Leadership>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    fn new(api: &Api, identity: &str) -> Self {
        Self::after(api, identity, 0)
    }

    /// Knows of entries of this term.
    fn after(api: &Api, identity: &str, highest: Term) -> Self {
        let leadership = Arc::new(Leadership::default());
        let (name, identity) = ("lease".to_owned(), identity.to_owned());
        let own = leadership.clone();
        let candidate =
            Candidate::new(api.client(), "fairway", name, identity, own, move || highest);
        let stop = CancellationToken::new();
        let task = tokio::spawn(candidate.run(stop.clone()));
        Self { leadership, stop, task }
    }

    fn term(&self) -> Option<Term> {
        self.leadership.term()
    }

    /// Until it leads; gives the term.
    async fn leads(&self) -> Term {
        let mut term = self.leadership.watch();
        let leads = async { term.wait_for(Option::is_some).await.unwrap().unwrap() };
        timeout(Duration::from_secs(60), leads).await.expect("it should lead")
    }

    /// Until it leads no more.
    async fn steps_down(&self) {
        let mut term = self.leadership.watch();
        let down = async { term.wait_for(Option::is_none).await.map(drop).unwrap() };
        timeout(Duration::from_secs(60), down).await.expect("it should step down");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_replica_leads_and_goes_on() {
    let api = Api::default();
    let replica = Replica::new(&api, "one");

    assert_eq!(replica.leads().await, 1);
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(replica.term(), Some(1));
    }
    assert_eq!(api.get::<Lease>(LEASE).spec.unwrap().holder_identity.as_deref(), Some("one"));
}

#[tokio::test(start_paused = true)]
async fn a_standby_waits_as_long_as_the_lease_is_renewed() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;

    let two = Replica::new(&api, "two");
    sleep(Duration::from_secs(60)).await;

    assert_eq!((one.term(), two.term()), (Some(1), None));
}

#[tokio::test(start_paused = true)]
async fn of_two_who_begin_at_once_one_leads() {
    let api = Api::default();
    let (one, two) = (Replica::new(&api, "one"), Replica::new(&api, "two"));

    sleep(Duration::from_secs(2)).await;

    assert_eq!(usize::from(one.term().is_some()) + usize::from(two.term().is_some()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_lets_go_at_once() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;
    let two = Replica::new(&api, "two");
    sleep(Duration::from_secs(1)).await;

    one.stop.cancel();
    one.task.await.unwrap();
    let stopped = Instant::now();

    assert_eq!(two.leads().await, 2);
    assert!(stopped.elapsed() <= RETRY, "{:?}", stopped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_when_its_lease_expires() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;
    let two = Replica::new(&api, "two");
    sleep(Duration::from_secs(1)).await;

    one.task.abort();
    let died = Instant::now();

    assert_eq!(two.leads().await, 2);
    let took = died.elapsed();
    assert!(DURATION - RETRY <= took && took <= DURATION + 2 * RETRY, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_gives_up_before_another_may_begin() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;
    sleep(Duration::from_secs(10)).await;

    api.fail(Method::PUT, "/leases/", Failure::Status(500), usize::MAX);
    let cut_off = Instant::now();
    one.steps_down().await;

    assert!(cut_off.elapsed() < DURATION, "{:?}", cut_off.elapsed());
    assert_eq!(one.term(), None);
    api.mend();
    // Whatever it did is over: it is another term.
    assert_eq!(one.leads().await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_apiserver_that_is_silent_ends_a_term_too() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;

    api.fail(Method::GET, "/leases/", Failure::Silence, usize::MAX);
    let cut_off = Instant::now();
    one.steps_down().await;

    assert!(cut_off.elapsed() < DURATION, "{:?}", cut_off.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_ends_no_term() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;

    api.fail(Method::PUT, "/leases/", Failure::Status(503), 3);
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(one.term(), Some(1));
    }
}

/// The process stands still: nothing of it runs, but the clock.
#[tokio::test(start_paused = true)]
async fn a_paused_leader_leads_no_more_when_it_wakes() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;

    advance(GIVE_UP).await;

    assert_eq!(one.term(), None);
}

#[tokio::test(start_paused = true)]
async fn a_term_that_lost_its_force_for_a_moment_begins_anew_for_those_who_listen() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;
    let mut term = one.leadership.watch();
    term.borrow_and_update();
    // Two renewals that take nearly too long: the second comes after the first has lost its force.
    api.fail(Method::PUT, "/leases/", Failure::Late(1900), 2);

    while one.term().is_some() {
        sleep(Duration::from_millis(10)).await;
    }
    // Meanwhile writes were refused, and who was refused waits to be rung for.
    assert!(!term.has_changed().unwrap());
    while one.term().is_none() {
        sleep(Duration::from_millis(10)).await;
    }

    assert_eq!(one.term(), Some(1));
    assert!(term.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_taken_over_is_not_taken_back() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;

    api.edit(LEASE, |lease| {
        lease["spec"]["holderIdentity"] = "two".into();
        lease["spec"]["leaseTransitions"] = 2.into();
    });
    one.steps_down().await;

    sleep(RETRY).await;
    assert_eq!(one.term(), None);
    // Two never renews.
    assert_eq!(one.leads().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_no_leadership() {
    let api = Api::default();
    api.fail(Method::POST, "/leases", Failure::Status(409), 1);
    let one = Replica::new(&api, "one");

    sleep(RETRY / 2).await;
    assert_eq!(one.term(), None);

    assert_eq!(one.leads().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_restarted_need_not_wait_for_itself() {
    let api = Api::default();
    let one = Replica::new(&api, "one");
    one.leads().await;
    one.task.abort();

    let again = Replica::new(&api, "one");
    let began = Instant::now();

    assert_eq!(again.leads().await, 2);
    assert!(began.elapsed() <= RETRY);
}

#[tokio::test(start_paused = true)]
async fn terms_go_on_where_the_entries_stand_though_the_lease_was_deleted() {
    let api = Api::default();
    let one = Replica::after(&api, "one", 7);

    assert_eq!(one.leads().await, 8);
    api.remove(LEASE);
    sleep(2 * RETRY).await;

    assert!(one.term() >= Some(8), "{:?}", one.term());
}
