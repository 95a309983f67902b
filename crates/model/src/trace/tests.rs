//! Headers of traces, by tables.

use http::HeaderValue;

use super::*;
use crate::sample::Always;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
    let one = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    all.iter().map(one).collect()
}

/// The trace, the span and the decision, as far as there are any.
fn said(all: &[(&'static str, &str)]) -> String {
    let Incoming { parent, sampled, debug, .. } = Incoming::read(&headers(all));
    let parent = parent.map_or_else(|| "new".into(), |(trace, span)| format!("{trace} {span}"));
    let decided = sampled.map_or("undecided", |it| if it { "yes" } else { "no" });
    format!("{parent} {decided}{}", if debug { " debug" } else { "" })
}

#[test]
fn what_w3c_says_is_read_and_what_is_malformed_begins_a_new_trace() {
    let good = format!("{TRACE} {SPAN}");
    for (value, wanted) in [
        (format!("00-{TRACE}-{SPAN}-01"), format!("{good} yes")),
        (format!("00-{TRACE}-{SPAN}-00"), format!("{good} no")),
        (format!("00-{TRACE}-{SPAN}-03"), format!("{good} yes")),
        (format!("cc-{TRACE}-{SPAN}-01"), format!("{good} yes")),
        (format!("cc-{TRACE}-{SPAN}-01-more"), format!("{good} yes")),
        (format!("cc-{TRACE}-{SPAN}-01more"), "new undecided".into()),
        (format!("00-{TRACE}-{SPAN}-01-more"), "new undecided".into()),
        (format!("ff-{TRACE}-{SPAN}-01"), "new undecided".into()),
        (format!("00-{}-{SPAN}-01", "0".repeat(32)), "new undecided".into()),
        (format!("00-{TRACE}-{}-01", "0".repeat(16)), "new undecided".into()),
        (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), "new undecided".into()),
        (format!("00-{TRACE}-{SPAN}-0g"), "new undecided".into()),
        (format!("00-{TRACE}-{SPAN}"), "new undecided".into()),
        ("é".into(), "new undecided".into()),
        (String::new(), "new undecided".into()),
    ] {
        assert_eq!(said(&[("traceparent", &value)]), wanted, "{value}");
    }
    let one = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(said(&[("traceparent", &one), ("traceparent", &one)]), "new undecided", "there is one parent");
}

#[test]
fn what_b3_says_is_read_in_both_forms_and_w3c_goes_before_it() {
    let (good, short) = (format!("{TRACE} {SPAN}"), format!("0000000000000000a3ce929d0e0e4736 {SPAN}"));
    let single = format!("{TRACE}-{SPAN}-1-{SPAN}");
    for (all, wanted) in [
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)][..], format!("{good} undecided")),
        (
            &[("x-b3-traceid", &TRACE[16..]), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")],
            format!("{short} yes"),
        ),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "0")], format!("{good} no")),
        (&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-flags", "1")], format!("{good} yes debug")),
        (&[("x-b3-traceid", "1234"), ("x-b3-spanid", SPAN)], "new undecided".into()),
        (&[("x-b3-traceid", TRACE)], "new undecided".into()),
        (&[("x-b3-sampled", "0")], "new no".into()),
        (&[("b3", "0")], "new no".into()),
        (&[("b3", "d")], "new yes debug".into()),
        (&[("b3", &single)], format!("{good} yes")),
        (&[("b3", &single[..49])], format!("{good} undecided")),
        (&[("b3", &format!("{TRACE}-{SPAN}-x"))], "new undecided".into()),
        (&[("b3", TRACE)], "new undecided".into()),
        (&[("b3", "0"), ("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)], format!("{good} undecided")),
        (
            &[("b3", &single), ("traceparent", &format!("00-{SPAN}{SPAN}-{SPAN}-00"))],
            format!("{SPAN}{SPAN} {SPAN} no"),
        ),
    ] {
        assert_eq!(said(all), wanted, "{all:?}");
    }
}

#[test]
fn who_has_decided_is_obeyed_and_else_chance_decides() {
    let half = Sampling::percent(50.0).unwrap();
    let decide = |all: &[(&'static str, &str)], chance: u64| {
        let headers = headers(all);
        Incoming::read(&headers).is_sampled(&headers, half, &mut Always(chance))
    };
    for (all, chance, wanted) in [
        (&[][..], 4_999, true),
        (&[], 5_000, false),
        (&[("x-envoy-force-trace", "true")], 9_999, true),
        (&[("x-b3-sampled", "0")], 0, false),
        (&[("x-b3-sampled", "0"), ("x-envoy-force-trace", "true")], 0, false),
        (&[("b3", "1")], 9_999, true),
        (&[("x-b3-flags", "1")], 9_999, true),
    ] {
        assert_eq!(decide(all, chance), wanted, "{all:?} {chance}");
    }
    assert_eq!(Sampling::percent(0.01).map(Sampling::parts), Some(1));
    assert_eq!(
        (Sampling::percent(100.1), Sampling::percent(-1.0), Sampling::percent(f64::NAN)),
        (None, None, None)
    );
    assert_eq!((Sampling::of(10_000), Sampling::of(10_001)), (Some(Sampling::ALL), None));
}

#[test]
fn the_next_hop_is_told_in_the_forms_that_are_wanted_and_in_no_other() {
    let (trace, span) = (trace_id(TRACE).unwrap(), span_id(SPAN).unwrap());
    let parent = span_id("00000000000000aa").unwrap();
    let this = Outgoing { trace, span, parent, sampled: true, debug: false };
    let came = [
        ("traceparent", "junk"),
        ("tracestate", "a=b"),
        ("b3", "0"),
        ("x-b3-sampled", "0"),
        ("x-b3-flags", "0"),
        ("x-mine", "1"),
    ];
    let written = |this: &Outgoing, forms: Forms| {
        let mut map = headers(&came);
        this.write(&mut map, forms, &Incoming::read(&headers(&came)));
        let mut all: Vec<_> =
            map.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        all.sort_unstable();
        all
    };
    let w3c = Forms { w3c: true, ..Forms::default() };
    assert_eq!(written(&this, w3c), [format!("traceparent: 00-{TRACE}-{SPAN}-01"), "x-mine: 1".into()]);
    let b3 = Forms { b3: true, b3_single: true, w3c: false };
    assert_eq!(
        written(&this, b3),
        [
            format!("b3: {TRACE}-{SPAN}-1-{parent}"),
            format!("x-b3-parentspanid: {parent}"),
            "x-b3-sampled: 1".into(),
            format!("x-b3-spanid: {SPAN}"),
            format!("x-b3-traceid: {TRACE}"),
            "x-mine: 1".into(),
        ]
    );
    let debug = Outgoing { debug: true, ..this };
    assert!(written(&debug, b3).contains(&"x-b3-flags: 1".to_owned()));
    // What belongs to a trace that is kept stays as it is.
    let mut kept = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-00")), ("tracestate", "a=b")]);
    let came = Incoming::read(&kept);
    Outgoing { sampled: false, ..this }.write(&mut kept, w3c, &came);
    assert_eq!(kept["tracestate"], "a=b");
    assert_eq!(kept["traceparent"], format!("00-{TRACE}-{SPAN}-00"));
}

#[test]
fn ids_are_never_zero_and_have_their_full_length() {
    let mut least = Always(0);
    assert_eq!(TraceId::make(&mut least).to_string(), "00000000000000010000000000000001");
    assert_eq!(SpanId::make(&mut least).to_string(), "0000000000000001");
    let mut most = Always(u64::MAX - 1);
    assert_eq!(TraceId::make(&mut most).bytes(), [0xff; 16]);
    assert_eq!(SpanId::make(&mut most).bytes(), [0xff; 8]);
}
