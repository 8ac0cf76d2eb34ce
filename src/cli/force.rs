//! The verbs `force`, `unforce`, `forces` and `fault`.
//!
//! A force sets a point to a value of the operator, in place of the value of the device or the
//! program. A fault is a simulated failure of a device, for practice and tests. The effect of a
//! force, and its precedence, are implemented in `process/overlay.rs`. The order to the daemon is
//! defined in `control/force.rs`.
//!
//! Example of the output of `camshaft force`:
//!
//! ```text
//! tank.level: forced to 42.5 for 15m
//! ```

use super::args::{Force, List, Unforce};
use super::screen::Screen;
use super::table::{Cell, Paint, Side, Style, Table};
use super::unit::{age_s, value};
use super::{CommandResult, client};
use crate::control::client::Client;
use crate::control::{ForceOrder, ForceView};

use Side::{Left, Right};

/// Runs the verb `camshaft force`. An output can be forced while it is made safe. The force then
/// waits, and the printed text says so.
pub(super) async fn force(what: Force, screen: &mut Screen) -> CommandResult {
    let Force { point, value, lasting, forever, owner, reason, reach } = what;
    let owner = owner.unwrap_or_else(user);
    let for_ms = (!forever).then(|| u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX));
    let order = ForceOrder { value, for_ms, forever, owner, reason };
    let client = client(reach);
    client.force(&point, &order).await?;
    let how_long = match forever {
        true => "until `camshaft unforce` or the end of the daemon".to_owned(),
        false => format!("for {}", humantime::format_duration(lasting)),
    };
    screen.print(&format!("{point}: forced to {value} {how_long}\n"))?;
    let forces = client.forces().await?;
    if forces.iter().any(|view| view.point == point && !view.active) {
        let waits = "no running program owns this output, so the output has its safe value; the \
                     force takes effect when a running program owns the output";
        screen.print(&format!("{point}: {waits}\n"))?;
    }
    Ok(())
}

/// Runs the verb `camshaft fault`. Without a kind, the verb ends the fault of the device.
pub(super) async fn fault(
    device: &str,
    kind: Option<String>,
    settings: Vec<(String, serde_json::Value)>,
    client: &Client,
    screen: &mut Screen,
) -> CommandResult {
    let Some(kind) = kind else {
        client.clear(device).await?;
        return Ok(screen.print(&format!("{device}: fault ended\n"))?);
    };
    let mut injection = serde_json::Map::from_iter(settings);
    injection.insert("kind".into(), kind.as_str().into());
    // A fault ends by itself after the time in its setting `for`.
    let until = match injection.get("for").map(|time| (time.as_str(), time)) {
        Some((Some(time), _)) => format!("for {time}"),
        Some((None, time)) => format!("for {time}"),
        None => format!("until `camshaft fault {device} --clear`"),
    };
    client.inject(device, &injection.into()).await?;
    Ok(screen.print(&format!("{device}: {kind} {until}\n"))?)
}

/// Runs the verb `camshaft unforce`.
pub(super) async fn unforce(what: Unforce, screen: &mut Screen) -> CommandResult {
    client(what.reach).unforce(what.point.as_deref()).await?;
    let said = match what.point {
        Some(point) => format!("{point}: not forced any more\n"),
        None => "no point is forced any more\n".into(),
    };
    Ok(screen.print(&said)?)
}

/// Runs the verb `camshaft forces`.
pub(super) async fn forces(list: List, screen: &mut Screen) -> CommandResult {
    let views = client(list.reach).forces().await?;
    Ok(screen.show(&views[..], list.json, table)?)
}

/// Returns the forces as a table.
fn table(views: &[ForceView], paint: Paint) -> String {
    if views.is_empty() {
        return "no point is forced\n".into();
    }
    let mut table = Table::new([
        (Left, "POINT"),
        (Right, "VALUE"),
        (Left, "STATE"),
        (Right, "LEFT"),
        (Left, "OWNER"),
        (Left, "SINCE"),
        (Left, "REASON"),
    ]);
    for view in views {
        let state = match view.active {
            true => Cell::styled(Style::Warn, "forced"),
            false => Cell::styled(Style::Dim, "waits, the output is safe"),
        };
        table.row([
            Cell::from(&view.point),
            value(view.value).into(),
            state,
            // The seconds are rounded up, because a force with 900 ms left is still in effect.
            view.left_ms.map_or("-".into(), |ms| age_s(ms.div_ceil(1000))).into(),
            Cell::from(&view.owner),
            Cell::from(&view.since),
            Cell::from(&view.reason),
        ]);
    }
    table.render(paint)
}

/// Returns the name of the user: the environment variable `SUDO_USER`, or `USER`, or the numeric
/// user id.
fn user() -> String {
    let named = |name| std::env::var(name).ok().filter(|name: &String| !name.is_empty());
    let uid = || format!("uid {}", nix::unistd::getuid());
    named("SUDO_USER").or_else(|| named("USER")).unwrap_or_else(uid)
}
