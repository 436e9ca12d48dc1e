use super::*;

fn session() -> SessionId {
    let mut id = [0; 12];
    aws_lc_rs::rand::fill(&mut id).unwrap();
    SessionId::from_bytes(id)
}

fn question() -> Question {
    Question::Call { key: String::new(), answers: mpsc::channel(1).0 }
}

#[test]
fn a_home_that_is_in_use_is_kept_and_another_is_given_up_in_the_end() {
    let (homes, used, unused) = (Homes::new(), session(), session());
    let stream = homes.of(used);
    stream.set_capabilities(Bytes::from_static(b"{}"));
    homes.of(unused);

    homes.sweep(Instant::now() + IDLE);

    assert!(homes.get(used).is_some_and(|home| home.capabilities() == "{}"));
    assert!(homes.get(unused).is_none());
    drop(stream);
    homes.sweep(Instant::now() + IDLE);
    assert!(homes.get(used).is_none());
}

#[test]
fn a_home_that_is_made_anew_does_not_count_from_the_same_number() {
    let numbers: Vec<u64> = (0..8).filter_map(|_| Home::default().ask(question())).collect();

    assert!(numbers.iter().any(|number| *number != numbers[0]), "{numbers:?}");
    assert!(numbers.iter().all(|number| *number < 1 << 53), "{numbers:?}");
}

#[test]
fn questions_are_bounded_and_an_answer_makes_room() {
    let home = Home::default();
    let asked: Vec<u64> = (0..MAX_QUESTIONS).filter_map(|_| home.ask(question())).collect();
    assert_eq!(asked.len(), MAX_QUESTIONS);
    assert_eq!(home.ask(question()), None);

    home.withdraw(asked[0]);

    assert!(home.ask(question()).is_some());
}

#[test]
fn a_client_that_does_not_read_is_told_no_more_than_fits() {
    let home = Home::default();
    let (outlet, mut stream) = mpsc::channel(8);
    home.connect(outlet);
    let half = || Bytes::from(vec![0; MAX_UNREAD / 2]);

    assert!(home.say(half()) && home.say(half()));
    assert!(!home.say(Bytes::from_static(b"x")));
    assert!(stream.try_recv().is_ok());
    assert!(home.say(half()));
    while stream.try_recv().is_ok() {}
    // One that is larger than that passes where nothing else waits.
    assert!(home.say(Bytes::from(vec![0; MAX_UNREAD * 2])));
    assert!(!home.say(Bytes::from_static(b"x")));
}
