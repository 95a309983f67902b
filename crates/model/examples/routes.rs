//! What routes cost: `cargo run --release -p ambit-model --example routes`. Prints what finding the rule of a request
//! takes among 5,000 routes (at most 5 µs), what 40,000 routes take to be known (at most 2 s), and what one more
//! takes. Fails beyond these. Owns the shapes of routes that are measured.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ambit_model::delta::{Change, Delta};
use ambit_model::http_path::{Normalization, RequestTarget};
use ambit_model::http_route::{
    Around, Asked, Backend, Choice, Filters, HeaderMatch, Match, Parent, PathMatch, Route, Rule, Timeouts,
    Upstream, ValueMatch,
};
use ambit_model::name::ServiceKey;
use ambit_model::snapshot::Snapshot;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

const ROUTES: u32 = 5_000;
const MATCH: Duration = Duration::from_micros(5);
const MANY: u32 = 40_000;
const LOAD: Duration = Duration::from_secs(2);
const ROUNDS: u32 = 200_000;

fn main() -> ExitCode {
    let mut good = true;
    for (shape, of) in [("by path", by_path as Shape), ("by header", by_header), ("by exact path", exactly)] {
        let world = world(of, ROUTES, 1);
        let (target, headers) = request(ROUTES / 2);
        let took = found(&world, &target, &headers);
        println!("{ROUTES} routes of one service {shape}: {took:?} to find one");
        good &= took <= MATCH;
    }
    for services in [1, 1_000] {
        let began = Instant::now();
        let full = world(by_path, MANY, services);
        let took = began.elapsed();
        println!("{MANY} routes of {services} service(s): {took:?} to be known");
        good &= took <= LOAD;
        let began = Instant::now();
        black_box(full.with(&delta(by_path, MANY..MANY + 1, services)));
        println!("  {:?} for one more", began.elapsed());
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Shape = fn(u32) -> Match;

fn by_path(at: u32) -> Match {
    Match { path: PathMatch::Prefix(format!("/shop/{at}").into()), ..Match::default() }
}

fn exactly(at: u32) -> Match {
    Match { path: PathMatch::Exact(format!("/shop/{at}/cart").into()), ..Match::default() }
}

fn by_header(at: u32) -> Match {
    let value = ValueMatch::Exact(format!("user-{at}").into());
    let headers = vec![HeaderMatch { name: HeaderName::from_static("x-user"), value }];
    Match { headers, ..Match::default() }
}

fn key(at: u32, services: u32) -> Option<ServiceKey> {
    format!("shop/s{}.shop.svc.cluster.local", at % services).parse().ok()
}

fn route(of: Shape, at: u32, services: u32) -> Option<Route> {
    let service = key(at, services)?;
    let upstream = Upstream { service: service.clone(), port: 80, subset: None };
    let rule = Rule {
        name: "".into(),
        matches: vec![of(at)],
        filters: Ok(Filters::default()),
        backends: vec![Backend { to: Ok(upstream), weight: 1, filters: Ok(Filters::default()) }],
        timeouts: Timeouts::default(),
        retry: None,
        session: None,
    };
    Some(Route {
        key: format!("HTTPRoute/shop/r{at}").parse().ok()?,
        created_s: at.into(),
        parents: vec![Parent { service, port: Some(80) }],
        rules: vec![Arc::new(rule)],
    })
}

fn delta(of: Shape, routes: std::ops::Range<u32>, services: u32) -> Delta {
    routes.filter_map(|at| route(of, at, services)).map(|it| Change::Route(Arc::new(it))).collect()
}

fn world(of: Shape, routes: u32, services: u32) -> Snapshot {
    Snapshot::default().with(&delta(of, 0..routes, services))
}

fn request(at: u32) -> (String, HeaderMap) {
    let mut headers = HeaderMap::new();
    for (name, value) in [("host", "s0"), ("accept", "*/*"), ("user-agent", "curl/8"), ("x-request-id", "1")]
    {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(user) = HeaderValue::try_from(format!("user-{at}")) {
        headers.insert(HeaderName::from_static("x-user"), user);
    }
    (format!("/shop/{at}/cart?item=7"), headers)
}

/// What one takes, the path's form included; a request that finds nothing takes for ever.
fn found(world: &Snapshot, target: &str, headers: &HeaderMap) -> Duration {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let tables = key(0, 1).and_then(|service| world.tables_of(&service));
        let (Some(tables), Ok(target)) =
            (tables, RequestTarget::read(black_box(target), Normalization::Base))
        else {
            return Duration::MAX;
        };
        let asked = Asked {
            path: &target.path,
            query: target.query,
            method: &Method::GET,
            headers,
            around: Around::default(),
        };
        match tables.table(80, None).map(|table| table.choose(&asked)) {
            Some(Choice::Found(found)) => drop(black_box(found)),
            Some(Choice::NoMatch(_) | Choice::NoRoutes) | None => return Duration::MAX,
        }
    }
    began.elapsed() / ROUNDS
}
