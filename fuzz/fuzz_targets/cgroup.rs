//! Lists of control groups, as processes of anybody may arrange them: read or refused; what is read has its spelling.
#![no_main]

use ambit_cni::node::{container_of, pods_root};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(Some(it)) = container_of(text) {
        let parts: Vec<usize> = it.pod.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert!(it.pod.chars().all(|c| c == '-' || (c.is_ascii_hexdigit() && !c.is_ascii_uppercase())));
        assert!(!it.id.is_empty() && it.id.chars().all(|c| c.is_ascii_alphanumeric()));
        assert_eq!(container_of(&format!("0::/kubepods/pod{}/{}", it.pod, it.id)), Ok(Some(it)));
    }
    if let Some((root, depth)) = pods_root(text) {
        assert!(text.starts_with(root) && root.contains("kubepods") && depth > 0);
    }
});
