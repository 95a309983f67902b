//! Step 7, the trace of a request: a collector in the mesh, and what it is told of a request that a waypoint tried twice.
//! Owns reading the collector's lines; which service is asked, and why it is tried again, is `waypoint`'s.

use serde_json::Value;

use super::enrolment::CART;
use super::report::Scene;
use super::stage::{SOON, Shown, Stage, eventually};

const MANIFEST: &str = "traces.yaml";
/// Requests that are asked together: of two pods one fails, so nearly certainly it is asked first by some of them.
const ASKED: usize = 8;

/// A client's own span, which is the parent of what becomes of its request.
struct Own {
    trace: String,
    span: String,
}

impl Own {
    fn make() -> Self {
        // Never all zeros.
        let half = || fastrand::u64(1..);
        Self { trace: format!("{:016x}{:016x}", half(), half()), span: format!("{:016x}", half()) }
    }

    /// As W3C has it: it is to be kept.
    fn field(&self) -> String {
        format!("traceparent: 00-{}-{}-01", self.trace, self.span)
    }
}

/// A trace is shown: the client's span, the waypoint's below it, and one below that for each attempt.
pub(super) fn told(stage: &Stage, scene: &mut Scene) -> Shown<()> {
    stage.write(MANIFEST, include_str!("../../../deploy/demo-steps/traces.yaml"))?;
    let seen = eventually(SOON * 2, || {
        let asked: Vec<Own> = (0..ASKED).map(|_| Own::make()).collect();
        for own in &asked {
            stage.fetch_with("shop/web", CART, &["--timeout-ms", "2000", "-H", &own.field()])?;
        }
        // Spans are gathered for a second before they are told.
        eventually(SOON / 4, || {
            let spans = collected(stage)?;
            asked.iter().find_map(|own| shown(own, &spans)).ok_or_else(|| {
                format!("of {ASKED} requests none was seen that was tried again; spans: {}", spans.len())
            })
        })
    });
    scene.see("a trace", seen);
    stage.remove(MANIFEST)
}

/// All spans that the collector was told of.
fn collected(stage: &Stage) -> Shown<Vec<Value>> {
    let pod = stage.pod("shop/collector")?;
    let logs = pod.containers.iter().map(|it| std::fs::read_to_string(&it.log).unwrap_or_default());
    let text = logs.collect::<String>();
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// A request's trace in words, if all of it is there and it was tried again.
fn shown(own: &Own, spans: &[Value]) -> Option<String> {
    let text = |span: &Value, key: &str| span.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |span: &Value, key: &str| span.get(key).and_then(Value::as_u64).unwrap_or_default();
    let is_below = |span: &&Value, parent: &str, kind: &str| {
        text(span, "trace") == own.trace && text(span, "parent") == parent && text(span, "kind") == kind
    };
    let server = spans.iter().find(|it| is_below(it, &own.span, "server"))?;
    let id = text(server, "span");
    let mut tries: Vec<&Value> = spans.iter().filter(|it| is_below(it, &id, "client")).collect();
    tries.sort_by_key(|it| number(it, "began_us"));
    let (last, before) = tries.split_last()?;
    let failed = |span: &Value| span.get("failed").and_then(Value::as_bool) == Some(true);
    let is_whole = number(last, "status") == 200 && !failed(server) && !before.is_empty();
    if !is_whole || !before.iter().all(|it| failed(it)) {
        return None;
    }
    let millis = |span: &Value| {
        format!("{:.1} ms", std::time::Duration::from_micros(number(span, "took_us")).as_secs_f64() * 1e3)
    };
    let tries = tries
        .iter()
        .map(|it| format!("{} answered {} ({})", text(it, "peer"), number(it, "status"), millis(it)));
    Some(format!(
        "a trace, as a collector has it: {} of {}'s span {}: the waypoint's {} answered {} ({}); below it {}",
        own.trace,
        text(server, "source"),
        own.span,
        text(server, "name"),
        number(server, "status"),
        millis(server),
        tries.collect::<Vec<_>>().join(", then ")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_is_shown_when_its_spans_are_each_others_and_the_last_try_succeeded() {
        let own = Own { trace: "t".into(), span: "c".into() };
        let span = |id: &str, parent: &str, kind: &str, (status, failed): (u16, bool), at: u64| {
            json!({"trace": "t", "span": id, "parent": parent, "kind": kind, "name": "cart:8080/*", "took_us": 1500,
                   "began_us": at, "failed": failed, "status": status, "peer": format!("10.0.0.{at}"), "source": "web"})
        };
        let server = span("s", "c", "server", (200, false), 0);
        let (bad, good) =
            (span("b", "s", "client", (500, true), 1), span("g", "s", "client", (200, false), 2));
        let whole = [good.clone(), server.clone(), bad.clone()];
        let told = shown(&own, &whole).unwrap();
        assert!(
            told.contains("web's span c") && told.contains("10.0.0.1 answered 500 (1.5 ms), then 10.0.0.2"),
            "{told}"
        );
        for part in [
            &[server.clone(), good.clone()][..],
            &[bad.clone(), good.clone()],
            &[server.clone(), bad.clone()],
            &[span("s", "x", "server", (200, false), 0), bad.clone(), good.clone()],
            &[server, span("b", "x", "client", (500, true), 1), good],
        ] {
            assert_eq!(shown(&own, part), None, "{part:?}");
        }
    }
}
