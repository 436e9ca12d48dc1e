//! What must hold of any bytes that clients give back to us: the bodies of the fuzz targets in
//! `gateway/fuzz`, replayed over their corpora by a test. Each panics when something does not hold.

/// The id of a session, and what one holds inside.
pub fn session(bytes: &[u8]) {
    crate::session::fuzz(bytes);
}

/// The cursor of a list.
pub fn cursor(bytes: &[u8]) {
    crate::downstream::fuzz_cursor(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_corpora_hold() {
        for (target, check) in [("session", super::session as fn(&[u8])), ("cursor", super::cursor)]
        {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
            let mut replayed = 0;
            for file in std::fs::read_dir(&corpus).unwrap() {
                check(&std::fs::read(file.unwrap().path()).unwrap());
                replayed += 1;
            }
            assert!(replayed > 0, "no corpus of {target}");
        }
    }
}
