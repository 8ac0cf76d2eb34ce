//! The host functions of an instance in a replay: each function gets the recorded answer from the
//! player.
//!
//! The functions here do not read or change the process image, the variables or the log.
//! `trace/player.rs` compares the calls with the tape. The host functions of a running program are
//! made in `bind.rs`.

use wasmer::{
    ExternType, Function, FunctionEnv, FunctionEnvMut, ImportType, RuntimeError, Store, Value,
};

use super::Host;
use crate::plugin::trace::tape::Tag;

/// Makes the host function for one import in a replay; `None` if the import is no function.
pub(super) fn function(
    import: &ImportType,
    store: &mut Store,
    host: &FunctionEnv<Host>,
) -> Option<Function> {
    let ExternType::Function(ty) = import.ty() else { return None };
    let tag = Tag::of(import.module(), import.name());
    let answer = move |mut context: FunctionEnvMut<'_, Host>, arguments: &[Value]| {
        let words = arguments.iter().map(bits).collect();
        let (host, store) = context.data_and_store_mut();
        let view = host.memory.as_ref().map(|memory| memory.view(&store));
        let player = host.player.as_mut();
        match player.and_then(|player| player.answer(tag.id, words, view.as_ref())) {
            Some(code) => Ok(vec![Value::I32(code)]),
            None => Err(RuntimeError::new("the replay has ended")),
        }
    };
    Some(Function::new_with_env(store, host, ty.clone(), answer))
}

fn bits(value: &Value) -> u64 {
    match value {
        Value::I32(number) => number.cast_unsigned().into(),
        Value::I64(number) => number.cast_unsigned(),
        Value::F64(number) => number.to_bits(),
        // No function that a module may import has parameters of other types.
        _ => 0,
    }
}
