//! What judging a request costs: `cargo run --release -p ambit-model --example request_policies`. Prints what 1,000
//! rules take, of which the last matches, or none (at most 20 µs). Fails beyond that.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_model::http_path::{NormalPath, Normalization};
use ambit_model::policy::{Condition, TextMatch};
use ambit_model::request_policy::{
    Facts, Http, Operation, PathPattern, RequestAction, RequestPolicy, RequestRule, Source, judge, text_match,
};
use http::{HeaderMap, Method};

const RULES: usize = 1_000;
const JUDGED: Duration = Duration::from_micros(20);
const ROUNDS: u32 = 5_000;

fn main() -> ExitCode {
    let mut good = true;
    for (path, shape) in [("/shop/999/cart", "the last matches"), ("/other", "none matches")] {
        for action in [RequestAction::Allow, RequestAction::Deny] {
            let Some(took) = judged(action.clone(), path) else { return ExitCode::FAILURE };
            println!("{RULES} rules, {action:?}, {shape}: {took:?}");
            good &= took <= JUDGED;
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn judged(action: RequestAction, path: &str) -> Option<Duration> {
    let one = |text: TextMatch| Condition { any: vec![text], none: Vec::new() };
    let rule = |at: usize| {
        let path = PathPattern::Text(text_match(&format!("/shop/{at}/*")));
        let operation = Operation {
            methods: one(text_match("GET")),
            paths: Condition { any: vec![path], none: Vec::new() },
            ..Operation::default()
        };
        let source = Source { principals: one(text_match("cluster.local/ns/shop/*")), ..Source::default() };
        RequestRule { from: vec![source], to: vec![operation], when: Vec::new() }
    };
    let key = "shop/p".parse().ok()?;
    let rules = (0..RULES).map(rule).collect();
    let policies = [Arc::new(RequestPolicy { key, targets: Vec::new(), action, rules, dry_run: false })];
    let peer = "spiffe://cluster.local/ns/shop/sa/web".parse().ok()?;
    let path = NormalPath::read(path, Normalization::Base).ok()?;
    let headers = HeaderMap::new();
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let mut facts = Facts::new(Some(&peer), "10.0.0.1".parse().ok()?, "10.1.0.1:80".parse().ok()?);
        facts.http =
            Some(Http { host: "cart", method: &Method::GET, path: &path, headers: &headers, token: None });
        black_box(judge(black_box(&policies), &facts));
    }
    Some(began.elapsed() / ROUNDS)
}
