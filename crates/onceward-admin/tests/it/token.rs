use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Barrier};

use onceward_admin::{Created, Token, TokenError};

use crate::audit::Log;

#[test]
fn a_token_is_made_once_and_then_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.token");
    let (made, created) = Token::load_or_create(&path).unwrap();
    assert_eq!(created, Created::Yes);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim_end().len(), 64);
    assert!(text.trim_end().bytes().all(|it| it.is_ascii_hexdigit()));
    let (read, created) = Token::load_or_create(&path).unwrap();
    assert_eq!(created, Created::No);
    for token in [&made, &read] {
        assert!(token.matches(text.trim_end().as_bytes()));
        assert!(!token.matches(text.as_bytes()), "the line break is no part of it");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn two_made_tokens_differ() {
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|it| directory.path().join(it));
    Token::load_or_create(&one).unwrap();
    Token::load_or_create(&two).unwrap();
    assert_ne!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
}

#[test]
fn racing_processes_get_the_same_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = Arc::new(directory.path().join("admin.token"));
    let start = Arc::new(Barrier::new(8));
    let racers: Vec<_> = (0..8)
        .map(|_| {
            let (path, start) = (Arc::clone(&path), Arc::clone(&start));
            std::thread::spawn(move || {
                start.wait();
                Token::load_or_create(&path).unwrap()
            })
        })
        .collect();
    let tokens: Vec<_> = racers.into_iter().map(|it| it.join().unwrap()).collect();
    let text = std::fs::read_to_string(&*path).unwrap();
    assert!(tokens.iter().all(|it| it.0.matches(text.trim_end().as_bytes())));
    assert_eq!(tokens.iter().filter(|it| it.1 == Created::Yes).count(), 1);
}

#[test]
fn blanks_around_a_token_in_a_file_do_not_count() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.token");
    std::fs::write(&path, "  0123456789abcdef\r\n").unwrap();
    assert!(Token::load_or_create(&path).unwrap().0.matches(b"0123456789abcdef"));
}

#[test]
fn a_file_that_holds_no_token_is_refused_with_its_name_and_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.token");
    for wrong in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdé0123", &"a".repeat(5000)] {
        std::fs::write(&path, wrong).unwrap();
        let error = Token::load_or_create(&path).unwrap_err();
        assert!(matches!(error, TokenError::Unusable { .. }), "{wrong:?}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("delete it"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), wrong.as_bytes(), "it is left as it is");
    }
    let nowhere = directory.path().join("no-such-directory/admin.token");
    let error = Token::load_or_create(&nowhere).unwrap_err();
    assert!(matches!(error, TokenError::Create { .. }), "{error:?}");
    assert!(error.to_string().contains(nowhere.to_str().unwrap()), "{error}");
    let error = Token::load_or_create(directory.path()).unwrap_err();
    assert!(matches!(error, TokenError::Read { .. }), "{error:?}");
}

#[test]
fn a_file_that_others_may_read_is_used_with_a_warning() {
    let (log, _guard) = Log::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.token");
    Token::load_or_create(&path).unwrap();
    Token::load_or_create(&path).unwrap();
    assert_eq!(log.text(), "", "a file of its owner alone is no matter");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    Token::load_or_create(&path).unwrap();
    assert!(log.text().contains("chmod 600") && log.text().contains("0640"), "{}", log.text());
}

#[test]
fn a_token_stands_in_no_debug_output() {
    assert_eq!(format!("{:?}", Token::parse("0123456789abcdef").unwrap()), "Token(…)");
}
