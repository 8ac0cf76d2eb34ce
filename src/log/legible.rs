//! Makes log events legible: the one place where texts from outside lose their power over a
//! terminal and over the lines of a log.
//!
//! A message quotes file names, reasons of brokers and texts of guests. A line end in such a text
//! would begin a line that looks like one of the daemon's. An escape sequence would reach the
//! terminal of a person who reads the log. So every event passes through this layer on its way to
//! the output, and the code that logs need not care. Text that is legible already stays as it is.
//! The rule for legible text is in `text.rs`.

use std::fmt::{self, Debug};

use tracing::field::{Field, Value, Visit, display};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use crate::text::legible;

/// Most fields of one event: the macros of `tracing` take no more.
const MAX_FIELDS: usize = 32;

/// A layer that passes only legible events to the output below it.
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

    // Spans are made only by libraries, from their own data, so they pass unchanged.
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

/// The fields of an event in their order: numbers as they are, everything else as legible text.
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
