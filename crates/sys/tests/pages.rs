//! What a whole process keeps resident: a target of its own, whose tests take turns, since every other test of the same
//! process would be measured with them.

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use ambit_sys::pages::release_program;

    /// One that failed does not keep the others from being tried.
    fn alone() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resident KiB of what is mapped from files to be run.
    fn of_programs() -> usize {
        let text = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut sum, mut counts) = (0, false);
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["Rss:", kilobytes, "kB"] if counts => sum += kilobytes.parse::<usize>().unwrap(),
                [_, rights, _, _, _, file] => counts = rights == "r-xp" && file.starts_with('/'),
                _ => {}
            }
        }
        sum
    }

    #[test]
    fn released_code_is_no_longer_resident_and_still_runs() {
        let _turn = alone();
        let before = of_programs();
        let covered = release_program().unwrap();
        let after = of_programs();
        assert!(after < before && before <= covered / 1024, "{after} KiB of {before}, {covered} bytes");
        assert_eq!(format!("{:e} {:?}", 1.5, std::net::Ipv4Addr::LOCALHOST), "1.5e0 127.0.0.1");
    }

    /// Resident KiB that are no file's.
    #[cfg(target_env = "gnu")]
    fn anonymous() -> usize {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn a_heap_with_one_object_at_its_end_gives_back_what_is_free_before_it() {
        let _turn = alone();
        let mut held: Vec<Vec<u8>> =
            (0..20_000).map(|n| vec![u8::try_from(n % 251).unwrap(); 1000]).collect();
        let last = held.pop();
        drop(held);
        let before = anonymous();
        ambit_sys::pages::release_heap();
        let after = anonymous();
        assert!(after + 10_000 < before, "{after} KiB of {before}");
        assert_eq!(last.map(|object| object.len()), Some(1000));
    }
}
