//! The layer that makes every log event legible: control characters in texts from outside are
//! escaped.
//!
//! A log message may contain file names, reasons from brokers and texts of guests. Such a text is
//! dangerous in two ways. With a line end it could add a line that looks like a line of the daemon.
//! With an escape sequence it could change the terminal of the person who reads the log. Every
//! event passes through this layer before it is written. So the code that logs needs no
//! precautions. A text without such characters is not changed. `text.rs` has the rule for legible
//! text.

use std::fmt::{self, Debug};

use tracing::field::{Field, Value, Visit, display};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::text::legible;

/// The maximum number of fields in one event. The macros of `tracing` have the same limit.
const MAX_FIELDS: usize = 32;

/// The layer. It makes the texts of an event legible, and passes the event to the next layer, which
/// writes it.
pub(super) struct Legible<L>(pub(super) L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Legible<L> {
    fn on_layer(&mut self, subscriber: &mut S) {
        self.0.on_layer(subscriber);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let Some((first, _)) = words.0.first() else {
            return self.0.on_event(event, context);
        };
        let mut values: [(&Field, Option<&dyn Value>); MAX_FIELDS] = [(first, None); MAX_FIELDS];
        for (value, (field, word)) in values.iter_mut().zip(&words.0) {
            *value = (field, Some(&**word));
        }
        let metadata = event.metadata();
        let values = metadata.fields().value_set(&values);
        self.0.on_event(&Event::new(metadata, &values), context);
    }

    // Only libraries make spans, and spans contain no texts from outside. So spans pass unchanged.
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, span: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(span, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_enter(id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.0.on_exit(id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.0.on_close(id, context);
    }
}

/// The fields of an event, in their order. Numbers and booleans are unchanged, and all other values
/// are legible text.
#[derive(Default)]
struct Words(Vec<(Field, Box<dyn Value>)>);

impl Words {
    fn push(&mut self, field: &Field, value: impl Value + 'static) {
        self.0.push((field.clone(), Box::new(value)));
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, display(legible(&format!("{value:?}"))));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, legible(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }
}

impl<L> fmt::Debug for Legible<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Legible")
    }
}
