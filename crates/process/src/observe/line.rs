//! One event as one line: tab-separated text, or a JSON object (`ztunnel.md` 11.3).
//! Owns the two formats. Queueing is `queue`'s.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The format of events and of span fields.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    pub(super) json: bool,
    pub(super) own_prefix: &'static str,
}

impl<'w> FormatFields<'w> for Lines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        if self.json {
            let mut found = Object::default();
            fields.record(&mut found);
            return write!(writer, "{}", Value::Object(found.0));
        }
        let mut found = Pairs::default();
        fields.record(&mut found);
        writer.write_str(&found.pairs)
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().name() == super::AS_IT_IS {
            let mut found = Pairs::default();
            event.record(&mut found);
            return writeln!(writer, "{}", found.message);
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        if self.json {
            let mut line = Object::default();
            line.0.insert("level".into(), level.into());
            line.0.insert("time".into(), time.into());
            line.0.insert("scope".into(), event.metadata().target().into());
            event.record(&mut line);
            for (name, fields) in spans::<S, N>(ctx) {
                line.0.insert(name.into(), serde_json::from_str(&fields).unwrap_or(Value::String(fields)));
            }
            return writeln!(writer, "{}", Value::Object(line.0));
        }
        let target = event.metadata().target();
        write!(writer, "{time}\t{level}\t{}", target.strip_prefix(self.own_prefix).unwrap_or(target))?;
        for (name, fields) in spans::<S, N>(ctx) {
            write!(writer, ":{name}{{{fields}}}")?;
        }
        let mut found = Pairs::default();
        event.record(&mut found);
        write!(writer, "\t{}", found.message)?;
        if !found.pairs.is_empty() {
            write!(writer, "\t{}", found.pairs)?;
        }
        writeln!(writer)
    }
}

/// The enclosing spans, outermost first, with their formatted fields.
fn spans<S, N>(ctx: &FmtContext<'_, S, N>) -> Vec<(&'static str, String)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let mut all = Vec::new();
    for span in ctx.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>().map(|f| f.fields.clone()).unwrap_or_default();
        all.push((span.name(), fields));
    }
    all
}

/// `k=v k=v`, the message apart. Texts are quoted, everything else is shown as it displays.
#[derive(Default)]
struct Pairs {
    message: String,
    pairs: String,
}

impl Pairs {
    fn push(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing into a String cannot fail.
        if field.name() == "message" {
            let _ = write!(self.message, "{value}");
            return;
        }
        let space = if self.pairs.is_empty() { "" } else { " " };
        let _ = write!(self.pairs, "{space}{}={value}", field.name());
    }
}

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format_args!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.push(field, format_args!("{value}"));
        }
        self.push(field, format_args!("{value:?}"));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, format_args!("{:?}", chain(value)));
    }
}

/// Fields as JSON values.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Visit for Object {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.insert(field.name().into(), chain(value).into());
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(json: bool, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let lines = Lines { json, own_prefix: "ambit_process::" };
        let to = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(lines.clone())
            .fmt_fields(lines)
            .with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_plain_line_has_time_level_target_message_and_pairs_between_tabs() {
        let line = written(false, || {
            let source = std::net::SocketAddr::from(([10, 0, 0, 1], 80));
            let absent: Option<&str> = None;
            tracing::info!(target: "access", { src.addr = %source, src.workload = "client", dst.service = absent, n = 3 }, "connection complete");
        });
        let parts: Vec<_> = line.trim_end().split('\t').collect();
        assert_eq!(
            parts[1..],
            ["info", "access", "connection complete", "src.addr=10.0.0.1:80 src.workload=\"client\" n=3"]
        );
        let time = parts[0].as_bytes();
        assert_eq!((time.len(), time[10], time[26]), (27, b'T', b'Z'), "{line}");
    }

    #[test]
    fn spans_follow_the_target_and_the_own_prefix_is_left_out() {
        let line = written(false, || {
            let span = tracing::info_span!("xds", id = 7);
            let _in = span.enter();
            tracing::warn!("stream ended");
        });
        assert!(line.contains("\twarn\tobserve::line::tests:xds{id=7}\tstream ended\n"), "{line}");
    }

    #[test]
    fn a_line_that_is_whole_is_written_as_it_is() {
        for json in [false, true] {
            let line = "[now] \"GET /\" 200";
            let written =
                written(json, || tracing::info!(name: super::super::AS_IT_IS, target: "access", "{line}"));
            assert_eq!(written, format!("{line}\n"));
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_an_object_per_span() {
        let line = written(true, || {
            let span = tracing::info_span!("xds", id = 7);
            let _in = span.enter();
            tracing::warn!(bytes = 5, "stream ended");
        });
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "warn");
        assert_eq!(value["message"], "stream ended");
        assert_eq!(value["bytes"], 5);
        assert_eq!(value["xds"]["id"], 7);
    }
}
