//! Log lines: one for each event, whatever is in it, on standard error.
//!
//! Text is for people. What an event carries from outside is quoted where it has spaces or control characters, so nobody
//! can write a line of their own into the log. JSON is an object a line:
//! `{"timestamp", "level", "target", "message", "request_id", "trace_id", "fields": {…}}`.

use std::fmt;
use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::CURRENT;
use crate::config::{LogFormat, LogSettings};

/// Starts to log as a server does. `override_level` is for one run, and wins.
pub(crate) fn init(settings: &LogSettings, override_level: Option<&str>) {
    let filter = filter(override_level.unwrap_or(&settings.level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.format {
        LogFormat::Json => lines.event_format(Json).init(),
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).event_format(Text).init(),
    }
}

fn filter(level: &str) -> EnvFilter {
    // The scheduler tells of its own beginnings, which nobody asked for.
    let quiet = format!("tokio_cron_scheduler=warn,{level}");
    quiet.parse().unwrap_or_else(|_| EnvFilter::new("tokio_cron_scheduler=warn,info"))
}

/// For people.
struct Text;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Text {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut line)?;
        let (colour, end) =
            if line.has_ansi_escapes() { (colour(*event.metadata().level()), "\u{1b}[0m") } else { ("", "") };
        write!(line, " {colour}{:>5}{end} ", event.metadata().level())?;
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.write_str(&one_line(&fields.message))?;
        for (name, value) in &fields.others {
            write!(line, " {name}={}", quoted(value))?;
        }
        let _ = CURRENT.try_with(|current| {
            current.id.as_ref().map_or(Ok(()), |id| write!(line, " request.id={id}"))?;
            current.trace.as_ref().map_or(Ok(()), |trace| write!(line, " trace.id={}", trace.id()))
        });
        line.write_char('\n')
    }
}

/// For machines.
struct Json;

impl<S: Subscriber + for<'a> LookupSpan<'a>, N: for<'a> FormatFields<'a> + 'static> FormatEvent<S, N> for Json {
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        line.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut line)?;
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (target, message) = (Value::from(metadata.target()), Value::from(fields.message));
        write!(line, "\",\"level\":\"{}\",\"target\":{target},\"message\":{message}", metadata.level())?;
        let _ = CURRENT.try_with(|current| {
            current.id.as_ref().map_or(Ok(()), |id| write!(line, ",\"request_id\":\"{id}\""))?;
            current.trace.as_ref().map_or(Ok(()), |trace| write!(line, ",\"trace_id\":\"{}\"", trace.id()))
        });
        if !fields.others.is_empty() {
            let others: Map<String, Value> =
                fields.others.into_iter().map(|(name, it)| (name.to_owned(), it)).collect();
            write!(line, ",\"fields\":{}", Value::Object(others))?;
        }
        line.write_str("}\n")
    }
}

/// What an event says.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::from(value));
    }
}

/// A value as people read it: bare where it is one word, else as a JSON string.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) if is_bare(text) => text.clone(),
        other => one_line(&other.to_string()).into_owned(),
    }
}

fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|it| !it.is_control() && !it.is_whitespace() && !matches!(it, '"' | '\\' | '='))
}

/// Without control characters, by which a text could begin another line or change what a terminal shows.
fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|it| if it.is_control() { it.escape_default().to_string() } else { it.to_string() }).collect()
    } else {
        text.into()
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::telemetry::{Context, RequestId};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
        }
    }

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn in_a_request(work: impl FnOnce()) {
        let id = RequestId::Made { connection: 0xab, number: 2 };
        CURRENT.sync_scope(Context { id: Some(id), trace: None, client: None }, work);
    }

    const HOSTILE: &str = "two\nlines \u{1b}[2J and \"quotes\"";

    #[test]
    fn a_line_of_text_stays_one_and_says_which_request_it_is_of() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).event_format(Text);

        tracing::subscriber::with_default(subscriber.finish(), || {
            in_a_request(|| tracing::warn!(kid = "k1", count = 3, text = HOSTILE, error = %HOSTILE, "read {HOSTILE}"));
            tracing::info!("outside");
        });

        let text = lines.text();
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        let (time, rest) = first.split_once(' ').expect("a time");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert!(
            rest.starts_with(r#" WARN read two\nlines \u{1b}[2J and "quotes" kid=k1 count=3 text="two\nlines"#),
            "{rest}"
        );
        assert!(rest.ends_with(" request.id=0000000000ab-2"), "{rest}");
        assert!(second.ends_with("  INFO outside"), "{second}");
    }

    #[test]
    fn a_line_of_json_is_an_object_with_the_fields_apart() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).event_format(Json);

        tracing::subscriber::with_default(subscriber.finish(), || {
            in_a_request(|| tracing::warn!(kid = "k1", count = 3, ok = true, text = HOSTILE, "read {HOSTILE}"));
            tracing::info!("outside");
        });

        let text = lines.text();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["target"], module_path!());
        assert_eq!(lines[0]["message"], format!("read {HOSTILE}"));
        assert_eq!(lines[0]["request_id"], "0000000000ab-2");
        assert_eq!(lines[0]["fields"], serde_json::json!({ "kid": "k1", "count": 3, "ok": true, "text": HOSTILE }));
        assert!(lines[0]["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')));
        assert_eq!(lines[1].get("request_id"), None);
    }

    #[test]
    fn the_scheduler_stays_quiet_unless_it_is_named() {
        assert!(filter("debug").to_string().contains("tokio_cron_scheduler=warn"));
        assert!(filter("debug,tokio_cron_scheduler=info").to_string().contains("tokio_cron_scheduler=info"));
    }
}
