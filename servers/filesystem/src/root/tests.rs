use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::PathBuf,
    process::Command,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::*;

/// A root with a secret beside it, in one temporary directory.
struct Place {
    root: Root,
    path: PathBuf,
    outside: PathBuf,
    _temporary: TempDir,
}

fn place() -> Place {
    let temporary = tempfile::tempdir().unwrap();
    let (path, outside) = (temporary.path().join("root"), temporary.path().join("outside"));
    fs::create_dir(&path).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    Place { root: Root::open(&path).unwrap(), path, outside, _temporary: temporary }
}

#[test]
fn what_was_written_is_read_back_and_listed() {
    let place = place();
    let Place { root, .. } = &place;

    root.write("a/b/c.txt", "first, and longer").unwrap();
    root.write("a/b/c.txt", "second ü").unwrap();

    assert_eq!(root.read("a/b/c.txt").unwrap(), "second ü");
    assert_eq!(root.list(".").unwrap(), "[DIR] a");
    assert_eq!(root.list("").unwrap(), "[DIR] a");
    assert_eq!(root.list("a/b/").unwrap(), "c.txt");
}

#[test]
fn paths_that_lead_outside_are_refused_by_every_tool() {
    let place = place();
    let Place { root, path, outside, .. } = &place;
    fs::create_dir(path.join("sub")).unwrap();
    symlink(outside, path.join("absolute")).unwrap();
    symlink("../outside", path.join("relative")).unwrap();
    symlink(outside.join("new"), path.join("dangling")).unwrap();
    symlink("absolute", path.join("chain")).unwrap();

    for leading_out in [
        "../outside",
        "../outside/secret",
        "sub/../../outside/secret",
        "../root/../outside/secret",
        "..",
        "absolute",
        "absolute/secret",
        "absolute/new/deeper",
        "relative/secret",
        "relative/new/deeper",
        "dangling",
        "chain/secret",
        "sub/../relative/secret",
    ] {
        for (tool, answer) in [
            ("list", root.list(leading_out)),
            ("read", root.read(leading_out)),
            ("write", root.write(leading_out, "overwritten").map(|()| "written".to_owned())),
        ] {
            let refused = matches!(answer, Err(Refusal::Outside(_)));
            assert!(refused, "{tool} {leading_out}: {answer:?}");
        }
    }
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(outside).unwrap().count(), 1, "nothing was made outside");
}

#[test]
fn absolute_paths_are_refused_even_those_under_the_root() {
    let place = place();
    let Place { root, path, .. } = &place;
    fs::write(path.join("file"), "text").unwrap();

    for absolute in ["/", "/etc/passwd", "//file", path.join("file").to_str().unwrap()] {
        let answer = root.read(absolute);
        assert!(matches!(answer, Err(Refusal::Absolute(_))), "{absolute}: {answer:?}");
    }
}

#[test]
fn dots_and_symlinks_that_stay_inside_are_followed() {
    let place = place();
    let Place { root, path, .. } = &place;
    fs::create_dir_all(path.join("sub/deeper")).unwrap();
    fs::write(path.join("file"), "text").unwrap();
    symlink("../../file", path.join("sub/deeper/up")).unwrap();
    symlink("sub", path.join("link")).unwrap();
    symlink("nowhere", path.join("broken")).unwrap();

    for inside in ["sub/../file", "./file", "sub/deeper/up", "link/deeper/up"] {
        assert_eq!(root.read(inside).unwrap(), "text", "{inside}");
    }
    assert_eq!(root.list(".").unwrap(), "[DIR] link\n[DIR] sub\nbroken\nfile");
}

#[test]
fn refusals_say_what_to_do_instead() {
    let place = place();
    let Place { root, path, .. } = &place;
    fs::create_dir(path.join("dir")).unwrap();
    fs::write(path.join("file"), "text").unwrap();
    fs::write(path.join("image"), [0x89, b'P', b'N', b'G', 0xff]).unwrap();
    let written = |path: &str| root.write(path, "").map(|()| String::new());

    for (case, answer, part) in [
        ("missing file", root.read("nope"), "does not exist. Use list_files"),
        ("missing directory", root.list("nope"), "does not exist. Use list_files"),
        ("directory read", root.read("dir"), "is a directory. Use list_files"),
        ("directory written", written("dir"), "is a directory. Use list_files"),
        ("file listed", root.list("file"), "is not a directory. Use read_file"),
        ("binary file", root.read("image"), "is not UTF-8 text"),
        ("file as a parent", written("file/below"), "file/below can't be used"),
        ("NUL in a path", root.read("a\0b"), "can't be used"),
        ("long name", written(&"x".repeat(300)), "can't be used"),
    ] {
        let message = answer.map_err(|refusal| refusal.to_string()).unwrap_err();
        assert!(message.contains(part), "{case}: {message}");
    }
}

#[test]
fn pipes_and_sockets_are_refused_at_once() {
    let (sender, receiver) = mpsc::channel();
    let test = thread::spawn(move || {
        pipes_and_sockets_are_refused();
        sender.send(()).unwrap();
    });

    // A tool that waits for a pipe would wait for ever.
    let finished = receiver.recv_timeout(Duration::from_secs(20));

    assert_ne!(finished, Err(mpsc::RecvTimeoutError::Timeout), "a tool waited");
    test.join().unwrap();
}

fn pipes_and_sockets_are_refused() {
    let place = place();
    let Place { root, path, .. } = &place;
    let pipe = path.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _socket = UnixListener::bind(path.join("socket")).unwrap();

    for special in ["pipe", "socket"] {
        let written = root.write(special, "x").map(|()| String::new());
        for (tool, answer) in [("read", root.read(special)), ("write", written)] {
            let refused = matches!(answer, Err(Refusal::Special(_)));
            assert!(refused, "{tool} {special}: {answer:?}");
        }
        assert!(matches!(root.list(special), Err(Refusal::NotDirectory(_))), "list {special}");
    }
    // A pipe with a reader opens for writing; it is still no file.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    assert!(matches!(root.write("pipe", "x"), Err(Refusal::Special(_))));
    drop(reader);
}

#[test]
fn reading_stops_at_the_cap_between_two_characters_and_says_so() {
    let place = place();
    let Place { root, path, .. } = &place;
    fs::write(path.join("full"), "x".repeat(MAX_BYTES)).unwrap();
    fs::write(path.join("over"), "x".repeat(MAX_BYTES + 1)).unwrap();
    fs::write(path.join("wide"), format!("x{}", "ü".repeat(MAX_BYTES))).unwrap();
    fs::write(path.join("binary"), vec![0xff; MAX_BYTES + 1]).unwrap();

    let (full, over, wide) =
        (root.read("full").unwrap(), root.read("over").unwrap(), root.read("wide").unwrap());

    assert_eq!(full.len(), MAX_BYTES);
    assert!(over.ends_with("x\n[cut: these are the first 1048576 of 1048577 bytes]"));
    assert!(wide.ends_with("ü\n[cut: these are the first 1048575 of 2097153 bytes]"));
    assert!(matches!(root.read("binary"), Err(Refusal::NotText(_))));
}

#[test]
fn writing_too_much_is_refused_and_leaves_the_file_alone() {
    let place = place();
    let Place { root, .. } = &place;
    root.write("file", "before").unwrap();

    let refused = root.write("file", &"x".repeat(MAX_BYTES + 1));

    assert!(matches!(refused, Err(Refusal::TooLarge(1_048_577))), "{refused:?}");
    assert_eq!(root.read("file").unwrap(), "before");
    root.write("file", &"x".repeat(MAX_BYTES)).unwrap();
}

#[test]
fn a_symlink_swapped_in_at_the_last_moment_leads_nowhere() {
    let place = place();
    let Place { root, path, outside, .. } = &place;
    fs::create_dir(path.join("inside")).unwrap();
    fs::write(path.join("inside/secret"), "harmless").unwrap();
    let done = AtomicBool::new(false);

    thread::scope(|scope| {
        scope.spawn(|| {
            for target in [PathBuf::from("inside"), outside.clone()].iter().cycle() {
                symlink(target, path.join("next")).unwrap();
                fs::rename(path.join("next"), path.join("flip")).unwrap();
                if done.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let (mut reads, mut harmless) = (0, 0);
        let deadline = SystemTime::now() + Duration::from_secs(20);
        // At least one through a link that stays inside: before, there may be no link at all yet.
        while reads < 5_000 || (harmless == 0 && SystemTime::now() < deadline) {
            reads += 1;
            match root.read("flip/secret") {
                Ok(text) => {
                    assert_eq!(text, "harmless");
                    harmless += 1;
                }
                Err(refusal) => assert!(!refusal.to_string().is_empty()),
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(harmless > 0, "the swapping never let a read through");
    });
}
