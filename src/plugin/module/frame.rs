//! The limit on frames. A frame is the part of the guest's stack that one call of a function uses.
//!
//! The lowest page of the stack, 4 KiB long, is protected: an access to this page raises a signal,
//! and so the host notices a stack overflow. A function can move the stack pointer by more than a
//! page without an access to the bytes in between. Such a function would skip the protected page.
//! Its code would then write into memory that does not belong to the guest.
//!
//! Code of Cranelift accesses every page of a large frame. Code of Singlepass (7.4.2) accesses only
//! the pages of locals, and does so 8 to 16 bytes too late. Singlepass also reserves space for
//! results of blocks and calls in advance, without an access to that space. So this file limits the
//! number of parameters and results for both compilers. For Singlepass, this file also limits
//! locals and open blocks. The other limits of a module are in `size.rs`.

use wasmer::sys::wasmparser::{
    BinaryReaderError, BlockType, FuncType, FunctionBody, Operator, Parser, Payload,
};

use super::malformed;
use super::size::locals;
use crate::plugin::{Compiler, Refusal};

/// Most values of one type of functions or blocks: its parameters and its results together. Each
/// value that does not fit into the CPU's registers takes 8 bytes of the stack. The types of real
/// modules have at most a few dozen values.
const MAX_VALUES: usize = 128;

/// Most locals of one function, if Singlepass compiles the module. Each local, each parameter and
/// each saved register takes 8 bytes. All of them together take less than a page.
const MAX_LOCALS: u64 = 320;

/// Most results of all blocks that are open at one place in the code, if Singlepass compiles the
/// module. The number includes the parameters of open loops. A call reserves space for its results
/// twice. At this limit, a call with [`MAX_VALUES`] results skips at most 3 136 bytes: 128 open
/// results and 256 values for the call, with 8 bytes each, and about 64 bytes that Singlepass
/// saves. In a test with 256 open results the code skipped more than a page, and the daemon
/// crashed.
const MAX_OPEN_RESULTS: usize = 128;

/// Checks that each type of the module has at most [`MAX_VALUES`] values. For Singlepass, also
/// checks the locals and the results of open blocks in each function.
///
/// # Errors
/// A refusal that names the type or function that exceeds a limit.
pub(super) fn check(module: &[u8], compiler: Compiler) -> Result<(), Refusal> {
    let bad = |error: BinaryReaderError| malformed(&error);
    let mut types = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.map_err(bad)? {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.push(values(types.len(), &ty.map_err(bad)?)?);
                }
            }
            Payload::CodeSectionEntry(body) if compiler == Compiler::Singlepass => {
                at_most(&body, "locals", locals(&body)?, MAX_LOCALS)?;
                check_blocks(&body, &types)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Counts the parameters and the results of a type, and checks the sum against [`MAX_VALUES`].
fn values(index: usize, ty: &FuncType) -> Result<[usize; 2], Refusal> {
    let found = [ty.params().len(), ty.results().len()];
    let sum: usize = found.iter().sum();
    if sum > MAX_VALUES {
        return Err(Refusal::new(
            format!("its type {index} has {sum} parameters and results"),
            format!("the limit is {MAX_VALUES}; pass further values through the memory"),
        ));
    }
    Ok(found)
}

/// Checks at each place in a function how many results the open blocks have together.
fn check_blocks(body: &FunctionBody<'_>, types: &[[usize; 2]]) -> Result<(), Refusal> {
    let bad = |error: BinaryReaderError| malformed(&error);
    let of = |ty: BlockType, is_loop: bool| match ty {
        BlockType::Empty => 0,
        BlockType::Type(_) => 1,
        BlockType::FuncType(index) => {
            let [params, results] = types.get(index as usize).copied().unwrap_or_default();
            results + if is_loop { params } else { 0 }
        }
    };
    let (mut open, mut sum) = (Vec::new(), 0);
    for operator in body.get_operators_reader().map_err(bad)? {
        let results = match operator.map_err(bad)? {
            Operator::Block { blockty } | Operator::If { blockty } => of(blockty, false),
            Operator::Loop { blockty } => of(blockty, true),
            Operator::End => {
                sum -= open.pop().unwrap_or(0);
                continue;
            }
            _ => continue,
        };
        open.push(results);
        sum += results;
        at_most(body, "results of open blocks", sum as u64, MAX_OPEN_RESULTS as u64)?;
    }
    Ok(())
}

fn at_most(body: &FunctionBody<'_>, what: &str, found: u64, limit: u64) -> Result<(), Refusal> {
    if found <= limit {
        return Ok(());
    }
    let place = body.range().start;
    Err(Refusal::new(
        format!("the function at offset {place:#x} has {found} {what}"),
        format!("the limit with Singlepass is {limit}; use compiler = \"cranelift\""),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str, compiler: Compiler) -> Option<String> {
        let module = wat::parse_str(text).expect("it is valid text");
        check(&module, compiler).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn no_function_may_step_over_the_page_below_the_stack() {
        let function = |inside: &str| format!("(module (func {inside}))");
        let locals = |n: usize| function(&format!("(local {})", "i64 ".repeat(n)));
        assert_eq!(reason(&locals(320), Compiler::Singlepass), None);
        let found = reason(&locals(321), Compiler::Singlepass).expect("it is refused");
        assert!(found.ends_with("has 321 locals"), "{found}");
        assert_eq!(reason(&locals(5000), Compiler::Cranelift), None);

        let types = |n: usize| format!("(module (type (func (param {}))))", "i32 ".repeat(n));
        for compiler in [Compiler::Cranelift, Compiler::Singlepass] {
            assert_eq!(reason(&types(128), compiler), None);
            let found = reason(&types(129), compiler).expect("it is refused");
            assert_eq!(found, "its type 0 has 129 parameters and results");
        }

        let blocks = |n: usize| {
            let (open, close) = ("(block (result i32) ".repeat(n), ")".repeat(n));
            function(&format!("(drop {open} i32.const 1 {close})"))
        };
        assert_eq!(reason(&blocks(128), Compiler::Singlepass), None);
        let found = reason(&blocks(129), Compiler::Singlepass).expect("it is refused");
        assert!(found.ends_with("has 129 results of open blocks"), "{found}");
        assert_eq!(reason(&blocks(300), Compiler::Cranelift), None);
        // The limit applies to open blocks only: 300 blocks in sequence, each closed before the
        // next, are allowed.
        let row = "(drop (block (result i32) i32.const 1))".repeat(300);
        assert_eq!(reason(&function(&row), Compiler::Singlepass), None);
    }
}
