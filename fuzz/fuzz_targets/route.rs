//! Routes, and requests that are looked up in them, from arbitrary bytes: two bytes of length, a route, then the target
//! and the value of a header, parted by a line's end. A route is read or refused; what is read is written and read back
//! the same, and can be shown; what is found is one of its rules, and whatever it makes of a path is a path.
#![no_main]

use std::sync::Arc;

use ambit_model::delta::{Change, Delta};
use ambit_model::http_path::{NormalPath, Normalization, RequestTarget};
use ambit_model::http_route::{Around, Asked, Choice, Redirected, Scheme};
use ambit_model::snapshot::Snapshot;
use ambit_wire::convert::{route_from_pb, route_to_pb};
use ambit_wire::pb::waypoint::Route;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const MODES: [Normalization; 4] = [
    Normalization::None,
    Normalization::Base,
    Normalization::MergeSlashes,
    Normalization::DecodeAndMergeSlashes,
];

fuzz_target!(|data: &[u8]| {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (route, request) = rest.split_at(length);
    let Ok(route) = Route::decode(route) else { return };
    let Ok(route) = route_from_pb(route) else { return };
    assert_eq!(route_from_pb(route_to_pb(&route)).as_ref(), Ok(&route));
    let _ = ambit_wire::local::route(&route);
    let change = Change::Route(Arc::new(route.clone()));
    let world = Snapshot::default().with(&Delta { changes: vec![change] });
    let Ok(request) = std::str::from_utf8(request) else { return };
    let (target, value) = request.split_once('\n').unwrap_or((request, "one"));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(HeaderName::from_static("version"), value.clone());
        headers.append(HeaderName::from_static("origin"), value);
    }
    for mode in MODES {
        let Ok(target) = RequestTarget::read(target, mode) else { continue };
        let again = NormalPath::read(target.path.as_str(), mode);
        assert_eq!(again.as_ref(), Ok(&target.path));
        let asked = Asked { path: &target.path, query: target.query, method: &Method::GET, headers: &headers, around: Around::default() };
        for parent in &route.parents {
            let tables = world.tables_of(&parent.service).expect("a table of each parent");
            let table = tables.table(parent.port.unwrap_or(80), Some(&route.key.namespace));
            if let Some(Choice::Found(found)) = table.map(|table| table.choose(&asked)) {
                follow(&found, &target, &mut headers.clone());
            }
        }
    }
});

fn follow(found: &ambit_model::http_route::Found<'_>, target: &RequestTarget<'_>, headers: &mut HeaderMap) {
    assert!(found.route.rules.iter().any(|rule| Arc::ptr_eq(rule, found.rule)));
    let Ok(filters) = &found.rule.filters else { return };
    filters.request_headers.apply(headers);
    if let Some(cors) = &filters.cors {
        let _ = cors.preflight(&Method::OPTIONS, headers);
        cors.mark(headers.get("origin").cloned().as_ref(), headers);
    }
    if let Some(redirect) = &filters.redirect {
        let asked = Redirected { scheme: Scheme::Http, host: "echo:80", port: 80, target };
        let location = redirect.location(&asked, found);
        assert!(location.is_none_or(|it| HeaderValue::from_bytes(it.as_bytes()).is_ok()));
    }
    let change = filters.rewrite.as_ref().and_then(|rewrite| rewrite.path.as_ref());
    let path = change.and_then(|change| change.apply(target.path.as_str(), found));
    assert!(path.is_none_or(|path| path.starts_with('/')));
}
