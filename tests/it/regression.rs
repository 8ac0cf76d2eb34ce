//! One test for each defect that was found in a running daemon, named after it.

use camshaft::control::Code;
use camshaft::control::client::Error;
use camshaft::image::Value;

use crate::daemon::{Daemon, Keys};
use crate::rig::block_on;

#[test]
fn a_variable_can_be_set() {
    let tables = "[[variable]]\nname = 'setpoint'\ntype = 'int'\n";
    let daemon = Daemon::start(Keys { tables, ..Keys::default() });
    let set = |name: &str, value| match block_on(daemon.client.set_var(name, value)) {
        Ok(()) => Ok(()),
        Err(Error::Failed(failure)) => Err((failure.code, failure.message)),
        Err(other) => panic!("{other}"),
    };
    assert_eq!(set("setpoint", Value::Int(60)), Ok(()));
    let vars = block_on(daemon.client.vars()).unwrap();
    let var = vars.iter().find(|var| var.name == "setpoint").unwrap();
    assert_eq!(var.value, Some(Value::Int(60)), "it is so as soon as it is answered");
    let why = "setpoint: the variable is of type int, which 0.5 is not";
    assert_eq!(set("setpoint", Value::Real(0.5)), Err((Code::Invalid, why.into())));
    let why = "there is no variable \"setpiont\"; did you mean \"setpoint\"?";
    assert_eq!(set("setpiont", Value::Int(1)), Err((Code::Unknown, why.into())));
    let why = "there is no variable \"motor\"; `camshaft vars` lists them";
    assert_eq!(set("motor", Value::Int(1)), Err((Code::Unknown, why.into())));
}
