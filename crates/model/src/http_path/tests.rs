//! One form of each path, what is refused, and that what has its form keeps it.

use Normalization::{Base, DecodeAndMergeSlashes, MergeSlashes};
use proptest::prelude::*;

use super::*;

fn normal(path: &str, mode: Normalization) -> Result<String, PathError> {
    NormalPath::read(path, mode).map(|path| path.to_string())
}

#[test]
fn a_path_has_one_form_in_each_mode() {
    for (path, base, merged, decoded) in [
        ("/", "/", "/", "/"),
        ("/a/b", "/a/b", "/a/b", "/a/b"),
        ("/a/b/", "/a/b/", "/a/b/", "/a/b/"),
        ("/admin/../public", "/public", "/public", "/public"),
        ("/a/./b", "/a/b", "/a/b", "/a/b"),
        ("/a/.", "/a/", "/a/", "/a/"),
        ("/a/..", "/", "/", "/"),
        ("/a/b/..", "/a/", "/a/", "/a/"),
        ("/.", "/", "/", "/"),
        ("/...", "/...", "/...", "/..."),
        ("/.well-known/x", "/.well-known/x", "/.well-known/x", "/.well-known/x"),
        ("/a/%2e%2E/b", "/b", "/b", "/b"),
        ("/a/%2e/b", "/a/b", "/a/b", "/a/b"),
        ("/a\\b", "/a/b", "/a/b", "/a/b"),
        ("/a\\..\\b", "/b", "/b", "/b"),
        ("/%61dmin", "/admin", "/admin", "/admin"),
        ("/%7Euser", "/~user", "/~user", "/~user"),
        ("/a%20b", "/a%20b", "/a%20b", "/a%20b"),
        ("/a//b", "/a//b", "/a/b", "/a/b"),
        ("//a", "//a", "/a", "/a"),
        ("/a//", "/a//", "/a/", "/a/"),
        // An empty element is one, until slashes are merged at the end.
        ("/a//../b", "/a/b", "/a/b", "/a/b"),
        ("/admin%2Fx", "/admin%2Fx", "/admin%2Fx", "/admin/x"),
        ("/admin%2fx", "/admin%2fx", "/admin%2fx", "/admin/x"),
        ("/admin%5Cx", "/admin%5Cx", "/admin%5Cx", "/admin/x"),
        ("/a/..%2Fb", "/a/..%2Fb", "/a/..%2Fb", "/b"),
        ("/a%2F%2Fb", "/a%2F%2Fb", "/a%2F%2Fb", "/a/b"),
        // What was escaped twice is left alone.
        ("/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a", "/%252e%252e/a"),
        ("/%25%32%65", "/%252e", "/%252e", "/%252e"),
    ] {
        assert_eq!(normal(path, Normalization::None).as_deref(), Ok(path));
        assert_eq!(normal(path, Base).as_deref(), Ok(base), "{path}");
        assert_eq!(normal(path, MergeSlashes).as_deref(), Ok(merged), "{path}");
        assert_eq!(normal(path, DecodeAndMergeSlashes).as_deref(), Ok(decoded), "{path}");
    }
}

#[test]
fn what_is_no_path_is_refused() {
    for (path, wanted) in [
        ("", PathError::NoSlash),
        ("a", PathError::NoSlash),
        ("/..", PathError::AboveRoot),
        ("/a/../../b", PathError::AboveRoot),
        ("/%2e%2e/a", PathError::AboveRoot),
        ("/a%", PathError::Escape),
        ("/a%2", PathError::Escape),
        ("/a%zz", PathError::Escape),
        ("/a%+1", PathError::Escape),
        ("/%%32", PathError::Escape),
        ("/a%00", PathError::Nul),
        ("/a\0", PathError::Character('\0')),
        ("/a\r", PathError::Character('\r')),
        ("/a b", PathError::Character(' ')),
        ("/a#b", PathError::Character('#')),
        ("/\u{7f}", PathError::Character('\u{7f}')),
        ("/é", PathError::Character('é')),
    ] {
        assert_eq!(normal(path, Base), Err(wanted), "{path:?}");
    }
    // Above the root only once slashes are what they are taken for.
    assert_eq!(normal("/..%2Fb", DecodeAndMergeSlashes), Err(PathError::AboveRoot));
}

#[test]
fn a_query_stays_as_it_came() {
    let read = |target| RequestTarget::read(target, Base).map(|it| (it.path.to_string(), it.query));
    assert_eq!(read("/a/../b?x=/../y&z=%2e"), Ok(("/b".into(), Some("x=/../y&z=%2e"))));
    assert_eq!(read("/a?"), Ok(("/a".into(), Some(""))));
    assert_eq!(read("/a"), Ok(("/a".into(), None)));
    assert_eq!(read("*"), Ok(("*".into(), None)));
    assert_eq!(read("/a?b#c"), Err(PathError::Character('#')));
    assert_eq!(read("/a?b c"), Err(PathError::Character(' ')));
}

fn mode() -> impl Strategy<Value = Normalization> {
    proptest::sample::select(vec![Normalization::None, Base, MergeSlashes, DecodeAndMergeSlashes])
}

proptest! {
    #[test]
    fn what_is_normal_stays_as_it_is(path in "(/(\\.|\\.\\.|%2e|%2F|%5c|%41|%25|\\\\|a|b|)){0,8}", mode in mode()) {
        let Ok(once) = normal(&path, mode) else { return Ok(()) };
        prop_assert_eq!(normal(&once, mode), Ok(once));
    }

    #[test]
    fn nothing_that_leads_elsewhere_is_left(path in "(/(\\.|\\.\\.|%2e%2E|%2F|%5c|\\\\|a|)){0,8}", mode in mode()) {
        prop_assume!(mode != Normalization::None);
        let Ok(once) = normal(&path, mode) else { return Ok(()) };
        prop_assert!(once.starts_with('/'));
        prop_assert!(!once.contains('\\'));
        prop_assert!(once.split('/').all(|element| element != "." && element != ".."), "{}", once);
        prop_assert!(mode == Base || !once.contains("//"));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".{0,40}", mode in mode()) {
        let _ = RequestTarget::read(&text, mode);
    }
}
