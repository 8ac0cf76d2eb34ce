//! The verbs `points`, `vars` and `set`: show values, and set one value by hand.
//!
//! A value that `set` writes can be overwritten in the next cycle. A force lasts for a longer time;
//! its verbs are in `force.rs`. The daemon decides whether a value can be set. The parser of typed
//! values is in `value.rs`.
//!
//! Example of a line of `camshaft points`:
//!
//! ```text
//! POINT       DIR  VALUE  UNIT  QUALITY      AGE  TYPE  ADDRESS  SAFE  OWNER  DEVICE
//! tank.level  in    42.5  %     good     3.10 ms  f64         0     -  -      plant
//! ```

use super::args::List;
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{age_ms, value};
use super::{CommandResult, Exit, Failed, client};
use crate::control::client::Client;
use crate::control::{PointView, SafeView, VarView};
use crate::driver::Delivery;
use crate::process::image::{Class, Direction, Quality, Value};
use crate::text::nearest;

use Side::{Left, Right};

/// Runs the verb `camshaft points`.
pub(super) async fn points(list: List, screen: &mut Screen) -> CommandResult {
    let views = client(list.reach).points().await?;
    Ok(screen.show(&views[..], list.json, point_table)?)
}

/// Runs the verb `camshaft vars`.
pub(super) async fn vars(list: List, screen: &mut Screen) -> CommandResult {
    let views = client(list.reach).vars().await?;
    Ok(screen.show(&views[..], list.json, variable_table)?)
}

/// Runs the verb `camshaft set`. If a point and a variable have the same name, the point is set.
pub(super) async fn set(
    name: &str,
    value: Value,
    client: &Client,
    screen: &mut Screen,
) -> CommandResult {
    let (points, vars) = (client.points().await?, client.vars().await?);
    let is_point = points.iter().any(|point| point.name == name);
    let is_var = vars.iter().any(|var| var.name == name);
    let note =
        if is_point && is_var { " (the point, not the variable of the same name)" } else { "" };
    let result = match (is_point, is_var) {
        (true, _) => client.set(name, value).await,
        (false, true) => client.set_var(name, value).await,
        (false, false) => {
            let points = points.iter().map(|point| &*point.name);
            let remedy = match nearest(name, points.chain(vars.iter().map(|var| &*var.name))) {
                Some(near) => format!("did you mean {near:?}?"),
                None => "`camshaft points` and `camshaft vars` list all names".into(),
            };
            let message = format!("there is no point or variable {name:?}; {remedy}");
            return Err(Failed::new(Exit::Failure, message));
        }
    };
    result.map_err(|error| {
        let failed = Failed::from(error);
        Failed { message: failed.message + note, ..failed }
    })?;
    screen.print(&format!("{name}: set to {value}{note}\n"))?;
    let point = points.iter().find(|point| point.name == name);
    match point.filter(|point| point.reason == Quality::Forced) {
        Some(_) => {
            let forced = "the point is forced; the forced value is used until the force ends";
            Ok(screen.print(&format!("{name}: {forced}\n"))?)
        }
        None => Ok(()),
    }
}

/// Returns the points as a table.
fn point_table(views: &[PointView], paint: Paint) -> String {
    let mut table = Table::new([
        (Left, "POINT"),
        (Left, "DIR"),
        (Right, "VALUE"),
        (Left, "UNIT"),
        (Left, "QUALITY"),
        (Right, "AGE"),
        (Left, "TYPE"),
        (Right, "ADDRESS"),
        (Right, "SAFE"),
        (Left, "OWNER"),
        (Left, "DEVICE"),
        (Left, "DESCRIPTION"),
    ]);
    // Without any description, the column would only make the table wider.
    table.may_omit_last();
    for view in views {
        let safe = match view.safe {
            None => "-".into(),
            Some(SafeView::Hold(_)) => "hold".into(),
            Some(SafeView::Value(safe)) => value(safe),
        };
        table.row([
            Cell::from(&view.name),
            if view.direction == Direction::In { "in" } else { "out" }.into(),
            value(view.value).into(),
            Cell::from(&view.unit),
            quality(view),
            view.age_ms.map_or("-".into(), age_ms).into(),
            view.kind.to_string().into(),
            Cell::from(&view.address),
            safe.into(),
            view.owner.as_deref().unwrap_or("-").into(),
            Cell::from(&view.device),
            Cell::from(&view.description),
        ]);
    }
    table.render(paint)
}

/// Returns the quality of a value, with the reason if the quality is not good. For an output of
/// good quality, the text says if the device has not confirmed the value yet.
fn quality(view: &PointView) -> Cell {
    let reason = view.reason.word();
    match view.quality {
        Class::Good if view.reason == Quality::Forced => Cell::styled(Style::Warn, reason),
        Class::Good if view.delivery == Some(Delivery::UnderWay) => "under way".into(),
        Class::Good if view.delivery == Some(Delivery::Unconfirmed) => {
            Cell::styled(Style::Warn, "unconfirmed")
        }
        Class::Good => reason.into(),
        Class::Uncertain => Cell::styled(Style::Warn, format!("uncertain, {reason}")),
        Class::Bad => Cell::styled(Style::Bad, format!("bad, {reason}")),
    }
}

/// Returns the variables as a table.
fn variable_table(views: &[VarView], paint: Paint) -> String {
    if views.is_empty() {
        return "no variables\n".into();
    }
    let mut table = Table::new([
        (Left, "VARIABLE"),
        (Left, "TYPE"),
        (Right, "VALUE"),
        (Left, "RETAIN"),
        (Right, "WRITTEN"),
        (Left, "BY"),
    ]);
    for view in views {
        table.row([
            Cell::from(&view.name),
            view.kind.to_string().into(),
            value(view.value).into(),
            if view.retain { "yes" } else { "" }.into(),
            match view.age_ms {
                None => "-".into(),
                Some(0) => "now".into(),
                Some(ms) => format!("{} ago", age_ms(ms)).into(),
            },
            writer(view),
        ]);
    }
    table.render(paint)
}

/// Returns the plugin or the operator that wrote a variable last.
fn writer(view: &VarView) -> Cell {
    match &view.writer {
        Some(writer) if view.writer_runs => Cell::from(writer),
        Some(writer) => Cell::styled(Style::Warn, format!("{writer}, which does not run")),
        None if view.set_by_operator => "an operator".into(),
        None if view.age_ms.is_some() => Cell::styled(Style::Warn, "a removed plugin"),
        None => "-".into(),
    }
}
