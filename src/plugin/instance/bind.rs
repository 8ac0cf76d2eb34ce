//! Connects the host functions to an instance: makes one wasmer function with the right types for
//! each import of the module.
//!
//! The code of the host functions is in `abi.rs` and `wasi.rs`. The wasmer functions call this
//! code, and record a call on the tape, with its arguments and its answer, if `is_on_tape` is true
//! for its function. `memory.rs` records the bytes that a call reads from the guest's memory or
//! writes into it. In a replay, `bind/played.rs` makes functions that answer these calls from the
//! tape.
//!
//! ```text
//!   guest's code -> function made here -> abi.rs or wasi.rs -> guest.rs, memory.rs, world
//!                        |                                          |
//!                        +------> tape: call, bytes, answer <-------+
//! ```

mod played;

use wasmer::{Function, FunctionEnv, FunctionEnvMut, Imports, Module, RuntimeError, Store};

use super::abi;
use super::guest::{ExitReason, Guest};
use super::memory::Memory;
use super::wasi::{self, Errno};
use crate::plugin::module::offer::wasi::{BAD_DESCRIPTOR, UNSUPPORTED, WASI, WORKING};
use crate::plugin::module::offer::{ENV, Offer};
use crate::plugin::trace::player::Player;
use crate::plugin::trace::tape::{Tag, Tape};
use crate::process::call::{CallResult, Code};
use crate::process::image::Value;
use crate::process::variable::{Variable, VariableKind};

/// The host's data that every host function of an instance can use.
#[derive(Debug)]
pub(in crate::plugin) struct Host {
    /// The host's data about this instance as a guest: rights, state and log.
    pub(in crate::plugin) guest: Guest,
    /// The memory that the module exports; `None` until the instance exists, or if the module
    /// exports no memory.
    pub(in crate::plugin) memory: Option<wasmer::Memory>,
    /// The tape of this instance. The tape records nothing in a replay, and if recording is
    /// switched off in the configuration.
    pub(in crate::plugin) tape: Tape,
    /// In a replay, the player that answers the guest's calls; otherwise `None`.
    pub(in crate::plugin) player: Option<Player>,
}

type Context<'a> = FunctionEnvMut<'a, Host>;

/// Runs a function of the contract (import module `env`) and records the call. If the module
/// exports no memory, the guest gets an error, because no pointer can be valid.
fn env(
    mut context: Context<'_>,
    tag: Tag,
    words: &[u64],
    call: impl FnOnce(&mut Guest, &Memory<'_>) -> CallResult,
) -> i32 {
    let (host, store) = context.data_and_store_mut();
    let Host { guest, memory, tape, .. } = host;
    tape.call(tag, words);
    guest.begin_call(tag.id);
    let result = memory
        .as_ref()
        .map_or(Err(Code::Error), |memory| call(guest, &Memory::new(memory.view(&store), tape)));
    let code = guest.end_call(result);
    tape.answer(code);
    code
}

/// Runs a function of the contract that has no pointer arguments, and records the call. A guest can
/// call this function even if its module exports no memory.
fn unpointed(
    mut context: Context<'_>,
    tag: Tag,
    words: &[u64],
    call: impl FnOnce(&mut Guest, ()) -> CallResult,
) -> i32 {
    let host = context.data_mut();
    host.tape.call(tag, words);
    host.guest.begin_call(tag.id);
    let result = call(&mut host.guest, ());
    let code = host.guest.end_call(result);
    host.tape.answer(code);
    code
}

/// Runs a function of WASI preview 1 and records the call. If the module exports no memory, the
/// guest gets the error `fault`.
fn preview1(
    mut context: Context<'_>,
    tag: Tag,
    words: &[u64],
    call: impl FnOnce(&mut Guest, &Memory<'_>) -> Result<(), Errno>,
) -> i32 {
    let (host, store) = context.data_and_store_mut();
    let Host { guest, memory, tape, .. } = host;
    tape.call(tag, words);
    let code = memory.as_ref().map_or(Errno::Fault as i32, |memory| {
        let memory = Memory::new(memory.view(&store), tape);
        call(guest, &memory).map_or_else(|errno| errno as i32, |()| 0)
    });
    tape.answer(code);
    code
}

/// An argument of a host function that can be converted to 64 bits. A tape stores every argument as
/// 64 bits.
trait Word {
    /// Returns the bits of the argument. A type with fewer than 64 bits is extended with zeros.
    fn word(self) -> u64;
}

impl Word for u32 {
    fn word(self) -> u64 {
        self.into()
    }
}

impl Word for i32 {
    fn word(self) -> u64 {
        self.cast_unsigned().into()
    }
}

impl Word for i64 {
    fn word(self) -> u64 {
        self.cast_unsigned()
    }
}

impl Word for f64 {
    fn word(self) -> u64 {
        self.to_bits()
    }
}

/// Stores the reason why the guest ends itself, and makes the wasmer error that ends the call.
fn exit_reason(context: &mut Context<'_>, exit_reason: ExitReason) -> RuntimeError {
    context.data_mut().guest.exit_reason = Some(exit_reason);
    RuntimeError::new("the guest ended itself")
}

/// Makes the functions that `module` imports. The host offers all of them, because the check of the
/// module (`module/check.rs`) refuses any other import.
pub(super) fn imports(module: &Module, store: &mut Store, host: &FunctionEnv<Host>) -> Imports {
    let mut imports = Imports::new();
    let is_replay = host.as_ref(store).player.is_some();
    for import in module.imports() {
        let function = match import.module() {
            _ if is_replay && is_on_tape(import.name()) => played::function(&import, store, host),
            ENV => env_function(import.name(), store, host),
            _ => wasi_function(import.name(), store, host),
        };
        if let Some(function) = function {
            imports.define(import.module(), import.name(), function);
        }
    }
    imports
}

/// Whether the tape records the calls of this function. The other functions need no record, because
/// a replay can run them: each of them returns nothing, always returns the same answer, or ends the
/// guest.
fn is_on_tape(name: &str) -> bool {
    let mut answering = WORKING.iter().filter(|offer| !offer.parameters.is_empty());
    let is_constant = matches!(name, "args_get" | "environ_get" | "proc_exit");
    name.starts_with("wasm_") || (answering.any(|offer| offer.name == name) && !is_constant)
}

/// Makes a wasmer function from a closure with the given arguments. The guest passes pointers and
/// lengths as i32, and the closure gets them as u32.
macro_rules! function {
    ($store:ident, $host:ident, $tag:ident, $run:ident, ($($arg:ident: $ty:ty),*), $call:expr) => {
        Function::new_typed_with_env(
            $store,
            $host,
            move |context: Context<'_>, $($arg: $ty),*| -> i32 {
                $run(context, $tag, &[$($arg.word()),*], $call)
            },
        )
    };
}

/// Makes the function of the contract with this name for the instance; `None` for an unknown name.
fn env_function(name: &str, store: &mut Store, host: &FunctionEnv<Host>) -> Option<Function> {
    let tag = Tag::of(ENV, name);
    if let Some(function) = point_function(name, store, host) {
        return Some(function);
    }
    if let Some(function) = variable_function(name, store, host) {
        return Some(function);
    }
    Some(match name {
        "wasm_log" => function!(
            store, host, tag, env,
            (level: i32, file: u32, file_len: u32, line: i32, msg: u32, msg_len: u32),
            |g, m| abi::log(g, m, level, (file, file_len), line, (msg, msg_len))
        ),
        "wasm_read_input" => function!(store, host, tag, env, (address: u32, buf: u32, len: u32),
            |g, m| abi::read_input(g, m, address, buf, len)),
        "wasm_write_output" => {
            function!(store, host, tag, env, (address: u32, data: u32, len: u32),
            |g, m| abi::write_output(g, m, address, data, len))
        }
        "wasm_read_output" => function!(store, host, tag, env, (address: u32, buf: u32, len: u32),
            |g, m| abi::read_output(g, m, address, buf, len)),
        "wasm_current_time" => function!(store, host, tag, env, (secs: u32, nanos: u32),
            |g, m| abi::current_time(g, m, secs, nanos)),
        "wasm_cycle" => function!(store, host, tag, env, (count: u32, period: u32),
            |g, m| abi::cycle(g, m, count, period)),
        "wasm_degraded" => function!(store, host, tag, env, (degraded: u32),
            |g, m| abi::point::degraded(g, m, degraded)),
        "wasm_state_write" => function!(store, host, tag, env, (data: u32, len: u32),
            |g, m| abi::state_write(g, m, data, len)),
        "wasm_state_read" => function!(store, host, tag, env, (buf: u32, len: u32, read: u32),
            |g, m| abi::state_read(g, m, buf, len, read)),
        "abort" => Function::new_typed_with_env(store, host, abort),
        "emscripten_notify_memory_growth" => Function::new_typed(store, |_: i32| {}),
        _ => return None,
    })
}

/// Makes the function with this name that reads or writes a variable; `None` for any other name.
fn variable_function(name: &str, store: &mut Store, host: &FunctionEnv<Host>) -> Option<Function> {
    let tag = Tag::of(ENV, name);
    macro_rules! read {
        ($kind:expr) => {
            function!(store, host, tag, env, (name: u32, len: u32, value: u32),
                |g, m| abi::variable_read(g, m, (name, len), value, $kind))
        };
    }
    macro_rules! write {
        ($ty:ty, $variable:expr) => {
            function!(store, host, tag, env, (name: u32, len: u32, value: $ty),
                |g, m| abi::variable_write(g, m, (name, len), $variable(value)))
        };
    }
    Some(match name {
        "wasm_variable_read_boolean" => read!(VariableKind::Boolean),
        "wasm_variable_read_double" => read!(VariableKind::Double),
        "wasm_variable_read_int" => read!(VariableKind::Int),
        "wasm_variable_write_boolean" => write!(i32, |on| Variable::Boolean(on != 0)),
        "wasm_variable_write_double" => write!(f64, Variable::Double),
        "wasm_variable_write_int" => write!(i32, Variable::Int),
        _ => return None,
    })
}

/// Makes the function with this name that finds, reads or writes a point; `None` for any other
/// name.
fn point_function(name: &str, store: &mut Store, host: &FunctionEnv<Host>) -> Option<Function> {
    let tag = Tag::of(ENV, name);
    macro_rules! read {
        ($kind:expr) => {
            function!(store, host, tag, env, (id: i32, value: u32, quality: u32),
                |g, m| abi::point::read(g, m, id, value, quality, $kind))
        };
    }
    macro_rules! write {
        ($ty:ty, $value:expr) => {
            function!(store, host, tag, unpointed, (id: i32, value: $ty),
                |g, ()| abi::point::write(g, id, $value(value)))
        };
    }
    Some(match name {
        "wasm_point_find" => function!(store, host, tag, env, (name: u32, len: u32, id: u32),
            |g, m| abi::point::find(g, m, (name, len), id)),
        "wasm_point_quality" => {
            function!(store, host, tag, env, (id: i32, status: u32, age_ms: u32),
            |g, m| abi::point::quality(g, m, id, status, age_ms))
        }
        "wasm_point_read_boolean" => read!(VariableKind::Boolean),
        "wasm_point_read_double" => read!(VariableKind::Double),
        "wasm_point_read_int" => read!(VariableKind::Int),
        "wasm_point_write_boolean" => write!(i32, |on| Value::Bool(on != 0)),
        "wasm_point_write_double" => write!(f64, Value::Real),
        "wasm_point_write_int" => write!(i32, |number| Value::Int(i128::from(number))),
        _ => return None,
    })
}

/// Makes the function of WASI with this name for the instance; `None` for an unknown name.
fn wasi_function(name: &str, store: &mut Store, host: &FunctionEnv<Host>) -> Option<Function> {
    let tag = Tag::of(WASI, name);
    Some(match name {
        "fd_write" => function!(
            store, host, tag, preview1, (fd: i32, buffers: u32, count: u32, written: u32),
            |g, m| wasi::fd_write(g, m, fd, buffers, count, written)
        ),
        "clock_time_get" => function!(
            store, host, tag, preview1, (clock: i32, precision: i64, time: u32),
            |g, m| wasi::clock_time_get(g, m, clock, time)
        ),
        "random_get" => function!(store, host, tag, preview1, (buffer: u32, len: u32),
            |g, m| wasi::random_get(g, m, buffer, len)),
        "args_sizes_get" | "environ_sizes_get" => function!(
            store, host, tag, preview1, (count: u32, size: u32),
            |_, m| wasi::no_sizes(m, count, size)
        ),
        "args_get" | "environ_get" => Function::new_typed(store, |_: u32, _: u32| 0i32),
        "sched_yield" => Function::new_typed(store, || 0i32),
        "proc_exit" => Function::new_typed_with_env(store, host, exit),
        _ => {
            let named = |offers: &[Offer]| offers.iter().find(|o| o.name == name).copied();
            let (offer, errno) = named(BAD_DESCRIPTOR)
                .map(|offer| (offer, Errno::Badf))
                .or_else(|| named(UNSUPPORTED).map(|offer| (offer, Errno::Nosys)))?;
            refusal(store, offer.parameters, errno as i32)?
        }
    })
}

/// Makes a function of WASI that returns `errno` for all arguments. `parameters` has one letter for
/// the type of each parameter. Returns `None` for a list of types that is not in this function.
fn refusal(store: &mut Store, parameters: &str, errno: i32) -> Option<Function> {
    macro_rules! constant {
        ($($ty:ty),*) => { Function::new_typed(store, move |$(_: $ty),*| errno) };
    }
    Some(match parameters {
        "i" => constant!(i32),
        "ii" => constant!(i32, i32),
        "iii" => constant!(i32, i32, i32),
        "iiii" => constant!(i32, i32, i32, i32),
        "iiiii" => constant!(i32, i32, i32, i32, i32),
        "iiiiii" => constant!(i32, i32, i32, i32, i32, i32),
        "iiiiiii" => constant!(i32, i32, i32, i32, i32, i32, i32),
        "iII" => constant!(i32, i64, i64),
        "iIIi" => constant!(i32, i64, i64, i32),
        "iI" => constant!(i32, i64),
        "iIii" => constant!(i32, i64, i32, i32),
        "iiiIi" => constant!(i32, i32, i32, i64, i32),
        "iiiiIIi" => constant!(i32, i32, i32, i32, i64, i64, i32),
        "iiiiiIIii" => constant!(i32, i32, i32, i32, i32, i64, i64, i32, i32),
        _ => return None,
    })
}

/// `proc_exit(code)`: ends the guest.
fn exit(mut context: Context<'_>, code: i32) -> Result<(), RuntimeError> {
    Err(exit_reason(&mut context, ExitReason::Exit(code)))
}

/// AssemblyScript's `abort(message, file, line, column)`: ends the guest with its message.
fn abort(
    mut context: Context<'_>,
    message: u32,
    _file: u32,
    line: i32,
    column: i32,
) -> Result<(), RuntimeError> {
    let (host, store) = context.data_and_store_mut();
    let Host { memory, tape, .. } = host;
    let text = memory.as_ref().map_or_else(String::new, |memory| {
        abi::abort_message(&Memory::new(memory.view(&store), tape), message)
    });
    let text = format!("{text} (line {line}, column {column})");
    Err(exit_reason(&mut context, ExitReason::Abort(text.trim_start().into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::module::offer;

    /// Makes each offered function and compares its type with the type in the offer.
    #[test]
    fn every_offer_binds_with_the_type_that_it_promises() {
        let mut count = 0;
        for offer in offer::offers() {
            let mut store = Store::default();
            let host = FunctionEnv::new(&mut store, super::super::wasm::tests::host());
            let function = match offer.module {
                ENV => env_function(offer.name, &mut store, &host),
                _ => wasi_function(offer.name, &mut store, &host),
            };
            let ty = function.unwrap_or_else(|| panic!("{offer:?} is not bound")).ty(&store);
            let letters: String = ty.params().iter().map(|ty| letter(*ty)).collect();
            assert_eq!(letters, offer.parameters, "{offer:?}");
            assert_eq!(ty.results().len(), usize::from(offer.returns), "{offer:?}");
            count += 1;
        }
        assert_eq!(count, 10 + 13 + 2 + 46);
    }

    fn letter(ty: wasmer::Type) -> char {
        match ty {
            wasmer::Type::I32 => 'i',
            wasmer::Type::I64 => 'I',
            wasmer::Type::F64 => 'd',
            other => panic!("{other} is in no offer"),
        }
    }
}
