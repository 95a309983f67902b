//! Which backend a request goes to (`waypoint.md` 2.14), and whether it is copied. Owns the arithmetic; chance is
//! passed in.

use super::{Backend, Rule, Share};
use crate::balance::Pick;

/// There is nobody to send requests to: none is given, or none with a weight. Answered 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the rule has no backend with a weight")]
pub struct NoBackend;

impl Rule {
    /// The backend that a request goes to. A broken one keeps its share: it is answered with an error, and what is
    /// its share is never added to the others'.
    pub fn backend(&self, pick: &mut impl Pick) -> Result<&Backend, NoBackend> {
        let total: u64 = self.backends.iter().map(|it| u64::from(it.weight)).sum();
        if total == 0 {
            return Err(NoBackend);
        }
        let mut at = pick.below(total);
        for backend in &self.backends {
            match at.checked_sub(backend.weight.into()) {
                Some(rest) => at = rest,
                None => return Ok(backend),
            }
        }
        Err(NoBackend) // of a chance that is not below the total
    }
}

impl Share {
    /// Whether one request is of the share.
    pub fn takes(self, pick: &mut impl Pick) -> bool {
        pick.below(self.whole().into()) < u64::from(self.parts())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Broken, Filters, Timeouts, Upstream};
    use super::*;
    use crate::sample::Always;

    fn rule(weights: &[(&str, u32)]) -> Rule {
        let backend = |(name, weight): &(&str, u32)| {
            let to = match *name {
                "broken" => Err(Broken::because("missing")),
                name => {
                    Ok(Upstream { service: format!("ns/{name}").parse().unwrap(), port: 80, subset: None })
                }
            };
            Backend { to, weight: *weight, filters: Ok(Filters::default()) }
        };
        Rule {
            name: "".into(),
            matches: vec![],
            filters: Ok(Filters::default()),
            backends: weights.iter().map(backend).collect(),
            timeouts: Timeouts::default(),
            retry: None,
            session: None,
        }
    }

    fn shares(weights: &[(&str, u32)]) -> Vec<String> {
        let rule = rule(weights);
        let total: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let of = |at| match rule.backend(&mut Always(at)) {
            Ok(backend) => {
                backend.to.as_ref().map_or_else(|_| "500".into(), |to| to.service.hostname.to_string())
            }
            Err(NoBackend) => "none".into(),
        };
        (0..total.max(1)).map(of).collect()
    }

    #[test]
    fn each_backend_gets_its_share_and_a_broken_one_keeps_it() {
        assert_eq!(shares(&[("a", 1)]), ["a"]);
        assert_eq!(shares(&[("a", 2), ("b", 1)]), ["a", "a", "b"]);
        assert_eq!(shares(&[("a", 1), ("broken", 1)]), ["a", "500"]);
        assert_eq!(
            shares(&[("broken", 0), ("a", 1)]),
            ["a"],
            "without a weight it does not matter what it is"
        );
        assert_eq!(shares(&[("a", 1), ("a", 1), ("b", 1)]), ["a", "a", "b"], "given twice, the weights add");
        assert_eq!(shares(&[("broken", 1)]), ["500"]);
    }

    #[test]
    fn without_any_weight_there_is_no_backend() {
        assert_eq!(shares(&[]), ["none"]);
        assert_eq!(shares(&[("a", 0), ("b", 0)]), ["none"]);
    }

    #[test]
    fn weights_of_the_largest_kind_do_not_overflow() {
        let rule = rule(&[("a", u32::MAX), ("b", u32::MAX)]);
        let last = u64::from(u32::MAX) * 2 - 1;
        let chosen = rule.backend(&mut Always(last)).unwrap();
        assert_eq!(chosen.to.as_ref().unwrap().service.hostname.as_str(), "b");
    }

    #[test]
    fn a_share_takes_as_many_as_it_says() {
        let taken = |share: Share| (0..100).filter(|at| share.takes(&mut Always(*at))).count();
        assert_eq!(taken(Share::new(0, 100).unwrap()), 0);
        assert_eq!(taken(Share::new(30, 100).unwrap()), 30);
        assert_eq!(taken(Share::new(100, 100).unwrap()), 100);
        assert_eq!(taken(Share::ALL), 100);
    }
}
