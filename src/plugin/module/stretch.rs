//! This file measures the distance between two checks of the stop flag: the cost of the code in
//! between.
//!
//! The code of a guest checks the flag at every loop and function entry (`flag.rs`). But code
//! without loops and calls can run for milliseconds: in a test, 4 095 stores to fresh pages took 18
//! ms. So [`Stretch`] adds up the cost of the operators of one function, in the order of the code.
//! When the sum exceeds [`MOST`], a further check is due. The code here only decides when a check
//! is due: `flag.rs` inserts the check.
//!
//! Several paths may lead to one place in the code. At this place, [`Stretch`] uses the highest
//! cost of all paths:
//!
//! - A jump forward passes its sum of costs on to its target. If this path jumps over every check,
//!   a check becomes due at the target.
//! - A jump backward leads to the beginning of a loop, which checks the flag at every turn.

use wasmer::sys::wasmparser::Operator;

/// The highest cost of code without a check: above this cost a check is due. The unit is the cost
/// of a plain operator, for example an addition. 512 plain operators take less than a microsecond.
/// 32 accesses to memory have the same cost, and take at most 0.15 ms (see [`ACCESS`]).
const MOST: u32 = 512;

/// Cost of an access to linear memory. If the access is the first to its page, the kernel must
/// provide the page. This took up to 4.4 us (measured in a virtual machine).
const ACCESS: u32 = 16;

/// Cost of an access to a vector in memory. The bytes of a vector may be on two pages.
const WIDE_ACCESS: u32 = 32;

/// Cost of an operator for which wasmer calls its own code. Such a call takes some nanoseconds.
const CALL_OUT: u32 = 8;

/// Cost of a division or a square root, which takes tens of CPU cycles.
const SLOW: u32 = 4;

/// A block of the function that is open at the present operator: the end of the block comes later.
#[derive(Debug)]
struct Open {
    /// Whether the block is a loop. A jump to a loop goes back to the beginning of the loop.
    is_loop: bool,
    /// For an `if`: the cost at the beginning of the `if`. Its `else` branch begins with this cost.
    /// `None` after the `else`, and for other blocks.
    at_if: Option<u32>,
    /// The highest cost of all paths that lead to the end of the block: jumps to the end and, for
    /// an `if`, the end of its first branch.
    most: u32,
}

/// The sum of the costs since the last check of the flag, up to the present operator of one
/// function.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    done: u32,
    open: Vec<Open>,
    /// Whether the end of the function was reached.
    is_over: bool,
}

impl Stretch {
    /// Adds the cost of the next operator. Returns whether a check is due after this operator.
    pub(super) fn take(&mut self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Block { .. } => self.enter(false, None),
            Operator::Loop { .. } => self.enter(true, None),
            Operator::If { .. } => self.enter(false, Some(self.done)),
            Operator::Else => self.turn(),
            Operator::End => self.leave(),
            Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                self.jump(*relative_depth);
            }
            Operator::BrTable { targets } => {
                // The targets can be parsed, because the validator has parsed them before.
                targets.targets().flatten().for_each(|depth| self.jump(depth));
                self.jump(targets.default());
            }
            _ => {}
        }
        self.done = self.done.saturating_add(cost(operator));
        self.done > MOST && !self.is_over && !ends_the_way(operator)
    }

    /// Records that a check of the flag is inserted at this point, so the sum begins at 0 again.
    pub(super) fn looked(&mut self) {
        self.done = 0;
    }

    fn enter(&mut self, is_loop: bool, at_if: Option<u32>) {
        self.open.push(Open { is_loop, at_if, most: 0 });
    }

    fn turn(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.most = open.most.max(self.done);
            self.done = open.at_if.take().unwrap_or(self.done);
        }
    }

    fn leave(&mut self) {
        let Some(open) = self.open.pop() else {
            self.is_over = true;
            return;
        };
        // For an `if` without `else`, the path that skips the `if` joins here.
        self.done = self.done.max(open.most).max(open.at_if.unwrap_or(0));
    }

    fn jump(&mut self, depth: u32) {
        let target = self.open.iter_mut().rev().nth(depth as usize);
        if let Some(open) = target.filter(|open| !open.is_loop) {
            open.most = open.most.max(self.done);
        }
    }
}

/// Whether the operator never continues with the operator after it: it jumps away, returns or
/// traps.
fn ends_the_way(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Br { .. } | Operator::BrTable { .. } | Operator::Return | Operator::Unreachable
    )
}

/// The highest possible cost of an operator. The unit is the cost of a plain operator.
fn cost(operator: &Operator<'_>) -> u32 {
    use Operator as O;
    match operator {
        O::Block { .. } | O::Loop { .. } | O::If { .. } | O::Else | O::End | O::Nop => 0,
        O::MemorySize { .. }
        | O::TableSize { .. }
        | O::TableGet { .. }
        | O::TableSet { .. }
        | O::RefFunc { .. }
        | O::Call { .. }
        | O::CallIndirect { .. } => CALL_OUT,
        O::I32DivS | O::I32DivU | O::I32RemS | O::I32RemU => SLOW,
        O::I64DivS | O::I64DivU | O::I64RemS | O::I64RemU => SLOW,
        O::F32Div | O::F64Div | O::F32Sqrt | O::F64Sqrt => SLOW,
        O::F32x4Div | O::F64x2Div | O::F32x4Sqrt | O::F64x2Sqrt => SLOW,
        _ if accesses_wide(operator) => WIDE_ACCESS,
        _ if accesses(operator) => ACCESS,
        _ => 1,
    }
}

/// Whether the operator reads or writes a number in memory.
fn accesses(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::I32Load { .. }
            | O::I64Load { .. }
            | O::F32Load { .. }
            | O::F64Load { .. }
            | O::I32Load8S { .. }
            | O::I32Load8U { .. }
            | O::I32Load16S { .. }
            | O::I32Load16U { .. }
            | O::I64Load8S { .. }
            | O::I64Load8U { .. }
            | O::I64Load16S { .. }
            | O::I64Load16U { .. }
            | O::I64Load32S { .. }
            | O::I64Load32U { .. }
            | O::I32Store { .. }
            | O::I64Store { .. }
            | O::F32Store { .. }
            | O::F64Store { .. }
            | O::I32Store8 { .. }
            | O::I32Store16 { .. }
            | O::I64Store8 { .. }
            | O::I64Store16 { .. }
            | O::I64Store32 { .. }
    )
}

/// Whether the operator reads or writes a vector in memory, or one lane of a vector.
fn accesses_wide(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::V128Load { .. }
            | O::V128Load8x8S { .. }
            | O::V128Load8x8U { .. }
            | O::V128Load16x4S { .. }
            | O::V128Load16x4U { .. }
            | O::V128Load32x2S { .. }
            | O::V128Load32x2U { .. }
            | O::V128Load8Splat { .. }
            | O::V128Load16Splat { .. }
            | O::V128Load32Splat { .. }
            | O::V128Load64Splat { .. }
            | O::V128Load32Zero { .. }
            | O::V128Load64Zero { .. }
            | O::V128Store { .. }
            | O::V128Load8Lane { .. }
            | O::V128Load16Lane { .. }
            | O::V128Load32Lane { .. }
            | O::V128Load64Lane { .. }
            | O::V128Store8Lane { .. }
            | O::V128Store16Lane { .. }
            | O::V128Store32Lane { .. }
            | O::V128Store64Lane { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmer::sys::wasmparser::{BlockType, Parser, Payload};

    const BLOCK: Operator<'_> = Operator::Block { blockty: BlockType::Empty };
    const IF: Operator<'_> = Operator::If { blockty: BlockType::Empty };
    const STORE: Operator<'_> = Operator::I32Store {
        memarg: wasmer::sys::wasmparser::MemArg { align: 0, max_align: 2, offset: 0, memory: 0 },
    };

    /// Counts the checks that are inserted into a function with these operators.
    fn looks(operators: impl IntoIterator<Item = Operator<'static>>) -> usize {
        let mut stretch = Stretch::default();
        let is_due = |operator: &Operator<'_>| {
            let is_due = stretch.take(operator);
            if is_due {
                stretch.looked();
            }
            is_due
        };
        operators.into_iter().filter(is_due).count()
    }

    #[test]
    fn straight_code_looks_after_so_much_work() {
        let plain = |n| std::iter::repeat_n(Operator::I32Add, n);
        assert_eq!(looks(plain(MOST as usize)), 0);
        assert_eq!(looks(plain(MOST as usize + 1)), 1);
        assert_eq!(looks(plain(10 * (MOST as usize + 1))), 10);
        assert_eq!(looks(std::iter::repeat_n(STORE, 33)), 1);
    }

    #[test]
    fn the_dearest_way_to_a_place_counts() {
        let work = || std::iter::repeat_n(STORE, 20);
        // Both branches of an `if` begin with the cost before the `if`.
        let branches = |first: bool, second: bool| {
            let mut code: Vec<_> = work().collect();
            code.push(IF);
            code.extend(work().filter(|_| first));
            code.push(Operator::Else);
            code.extend(work().filter(|_| second));
            code.push(Operator::End);
            looks(code)
        };
        assert_eq!([branches(false, false), branches(true, false)], [0, 1]);
        assert_eq!([branches(false, true), branches(true, true)], [1, 2]);
    }

    #[test]
    fn code_that_jumps_over_the_look_gets_one_where_it_lands() {
        let mut code = Vec::new();
        for _ in 0..100 {
            code.push(BLOCK);
            code.extend(std::iter::repeat_n(STORE, 30));
            // The code after this jump is never executed, and a check there is never executed
            // either.
            code.push(Operator::Br { relative_depth: 0 });
            code.extend(std::iter::repeat_n(STORE, 10));
            code.push(Operator::End);
        }
        // The path executes 3 000 stores. The stores after each jump are not on the path.
        let mut stretch = Stretch::default();
        let (mut done, mut most, mut is_on_the_way) = (0, 0, true);
        for operator in &code {
            let is_due = stretch.take(operator);
            match operator {
                Operator::Br { .. } => is_on_the_way = false,
                Operator::End => is_on_the_way = true,
                _ => {}
            }
            done += cost(operator) * u32::from(is_on_the_way);
            most = most.max(done);
            if is_due {
                stretch.looked();
                done *= u32::from(!is_on_the_way);
            }
        }
        assert!(most <= MOST + ACCESS, "{most}");
    }

    #[test]
    fn every_operator_that_touches_memory_is_dear() {
        let text = "(module (memory 1) (func (param i32 v128)
            (drop (i64.load32_u (local.get 0)))
            (drop (v128.load32_zero (local.get 0)))
            (f64.store (local.get 0) (f64.const 0))
            (v128.store64_lane 1 (local.get 0) (local.get 1))))";
        let bytes = wat::parse_str(text).expect("it is valid text");
        let body = Parser::new(0).parse_all(&bytes).find_map(|payload| match payload {
            Ok(Payload::CodeSectionEntry(body)) => Some(body),
            _ => None,
        });
        let operators = body.expect("it has a function").get_operators_reader();
        let costs = operators.expect("it is sound").into_iter().map(|o| cost(&o.expect("sound")));
        assert_eq!(costs.filter(|&cost| cost >= ACCESS).count(), 4);
    }
}
