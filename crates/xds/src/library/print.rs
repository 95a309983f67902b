//! A fingerprint of which names there are in which versions. Two sides that have the same have the same print, in
//! whatever order they tell it; so a subscriber that comes back is known by it without being compared name by name.
//! It is taken of names and versions as they lie in a request, which needs no reading.

use twox_hash::XxHash64;

/// Names and versions, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Print {
    count: usize,
    sum: u64,
}

impl Print {
    /// With one more name.
    pub(crate) fn add(&mut self, name: &str, version: &str) {
        self.add_entry(&entry(name, version));
    }

    /// With one more name, as it lies in a request.
    pub(crate) fn add_entry(&mut self, entry: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(XxHash64::oneshot(0, entry));
    }

    /// With one name less, which was there.
    pub(crate) fn remove(&mut self, name: &str, version: &str) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(XxHash64::oneshot(0, &entry(name, version)));
    }
}

/// An entry as every encoder writes it that writes fields in order. What another one writes has another print, and is
/// compared.
fn entry(name: &str, version: &str) -> Vec<u8> {
    let mut entry = Vec::with_capacity(name.len() + version.len() + 6);
    for (field, text) in [(1, name), (2, version)] {
        if !text.is_empty() {
            prost::encoding::bytes::encode(field, &text.as_bytes().to_vec(), &mut entry);
        }
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_print_depends_on_every_name_and_version_and_on_no_order() {
        let print = |pairs: &[(&str, &str)]| {
            let mut print = Print::default();
            pairs.iter().for_each(|(name, version)| print.add(name, version));
            print
        };
        let both = print(&[("a", "1"), ("b", "2")]);
        assert_eq!(print(&[("b", "2"), ("a", "1")]), both);
        for other in [vec![("a", "2"), ("b", "1")], vec![("a", "1")], vec![("a", "1"), ("b", "")]] {
            assert_ne!(print(&other), both, "{other:?}");
        }
        let mut less = both;
        less.remove("b", "2");
        assert_eq!(less, print(&[("a", "1")]));
    }
}
