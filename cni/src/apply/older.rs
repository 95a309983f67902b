//! Tables of the kernel's older packet filter (iptables-legacy) in a namespace. Nothing in there is read or changed:
//! owns noticing that there are any, for who redirected a pod by them has to be told of to people.

use std::fs;

/// The older filter of each family, as the calling thread's namespace has it.
const LISTS: [(&str, &str); 2] =
    [("IPv4", "/proc/thread-self/net/ip_tables_names"), ("IPv6", "/proc/thread-self/net/ip6_tables_names")];

/// Tables in which traffic can be redirected.
const REDIRECTING: [&str; 3] = ["nat", "mangle", "raw"];

/// Such tables of the calling thread's namespace, for people. A kernel without the older filter has none.
pub(super) fn tables() -> Vec<String> {
    LISTS
        .iter()
        .flat_map(|(family, path)| named(family, &fs::read_to_string(path).unwrap_or_default()))
        .collect()
}

/// Those of one list: a name a line.
fn named(family: &str, list: &str) -> Vec<String> {
    let names = list.lines().map(str::trim).filter(|name| REDIRECTING.contains(name));
    names.map(|name| format!("{name} ({family})")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_can_redirect_are_named_and_others_are_not() {
        assert_eq!(named("IPv4", ""), Vec::<String>::new());
        assert_eq!(named("IPv4", "filter\nsecurity\n"), Vec::<String>::new());
        assert_eq!(named("IPv6", "mangle\nfilter\nnat\n"), ["mangle (IPv6)", "nat (IPv6)"]);
    }
}
