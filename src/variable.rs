//! Variables: named, typed values that the host owns and programs share.
//!
//! A program's writes are provisional until its poll has returned: [`Variables::commit`] keeps
//! them, [`Variables::revert`] undoes them. Everything is allocated in advance, because writes
//! happen inside a cycle. Who is polling is not known here; polls come one after the other.

use serde::{Deserialize, Serialize};

use crate::image::Value;

/// The most variables at one time; with [`MAX_NAME_BYTES`] this bounds the table to 128 KiB of
/// names.
pub const MAX_VARIABLES: usize = 1024;

/// The longest name of a variable, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// The type of a variable, fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariableKind {
    /// True or false.
    Boolean,
    /// A 32-bit signed integer.
    Int,
    /// A 64-bit float.
    Double,
}

impl std::fmt::Display for VariableKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
        })
    }
}

/// A variable's value; the variant is its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Variable {
    /// True or false.
    Boolean(bool),
    /// A 32-bit signed integer.
    Int(i32),
    /// A 64-bit float.
    Double(f64),
}

impl Variable {
    /// The type.
    pub const fn kind(self) -> VariableKind {
        match self {
            Self::Boolean(_) => VariableKind::Boolean,
            Self::Int(_) => VariableKind::Int,
            Self::Double(_) => VariableKind::Double,
        }
    }

    /// Whether it is the same, bit for bit: not a number is the same as itself.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Double(one), Self::Double(other)) => one.to_bits() == other.to_bits(),
            _ => self == other,
        }
    }

    /// The value that a new variable of `kind` has before anybody writes it.
    pub const fn initial(kind: VariableKind) -> Self {
        match kind {
            VariableKind::Boolean => Self::Boolean(false),
            VariableKind::Int => Self::Int(0),
            VariableKind::Double => Self::Double(0.0),
        }
    }

    /// `value` as a variable of `kind`, if it is one: an int must fit 32 bits, a double takes any
    /// number.
    pub fn from_value(kind: VariableKind, value: Value) -> Option<Self> {
        match (kind, value) {
            (VariableKind::Boolean, Value::Bool(value)) => Some(Self::Boolean(value)),
            (VariableKind::Int, Value::Int(value)) => value.try_into().ok().map(Self::Int),
            (VariableKind::Double, Value::Int(value)) => Some(Self::Double(value as f64)),
            (VariableKind::Double, Value::Real(value)) => Some(Self::Double(value)),
            _ => None,
        }
    }
}

impl From<Variable> for Value {
    fn from(variable: Variable) -> Self {
        match variable {
            Variable::Boolean(value) => Self::Bool(value),
            Variable::Int(value) => Self::Int(value.into()),
            Variable::Double(value) => Self::Real(value),
        }
    }
}

/// Why a variable was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It exists with this other type.
    OtherType(VariableKind),
    /// The table is full, or the name is empty or too long.
    Limit,
}

/// All variables. Ids count up in order of creation; none is ever removed while the daemon runs.
#[derive(Debug)]
pub struct Variables {
    /// All names, one after the other.
    names: String,
    /// Where the name of each variable ends in `names`.
    ends: Vec<usize>,
    values: Vec<Variable>,
    /// Ids in order of name: sorted, because a look-up by bisection needs no allocation.
    by_name: Vec<u16>,
    /// What each variable written since the last commit was before; `None` for one created since.
    journal: Vec<(u16, Option<Variable>)>,
    /// For each variable, whether the journal has it already.
    noted: Vec<bool>,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            names: String::with_capacity(MAX_VARIABLES * MAX_NAME_BYTES),
            ends: Vec::with_capacity(MAX_VARIABLES),
            values: Vec::with_capacity(MAX_VARIABLES),
            by_name: Vec::with_capacity(MAX_VARIABLES),
            journal: Vec::with_capacity(MAX_VARIABLES),
            noted: Vec::with_capacity(MAX_VARIABLES),
        }
    }
}

impl Clone for Variables {
    /// By hand, because a derived copy would have no spare room.
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.copy_from(self);
        copy.journal.clone_from(&self.journal);
        copy
    }
}

impl Variables {
    /// The value of the variable `name`.
    pub fn read(&self, name: &str) -> Option<Variable> {
        let found = self.position(name).ok()?;
        Some(self.values[usize::from(self.by_name[found])])
    }

    /// Writes `value`, creating the variable if it is new; provisional until the next commit.
    ///
    /// # Errors
    /// When it has another type, or the table or the name has reached its limit; nothing changes
    /// then.
    pub fn write(&mut self, name: &str, value: Variable) -> Result<(), Denied> {
        match self.position(name) {
            Ok(found) => {
                let id = self.by_name[found];
                let old = self.values[usize::from(id)];
                if old.kind() != value.kind() {
                    return Err(Denied::OtherType(old.kind()));
                }
                self.note(id, Some(old));
                self.values[usize::from(id)] = value;
            }
            Err(place) => {
                let full = self.values.len() >= MAX_VARIABLES;
                if full || name.is_empty() || name.len() > MAX_NAME_BYTES {
                    return Err(Denied::Limit);
                }
                let id = self.values.len() as u16;
                self.names.push_str(name);
                self.ends.push(self.names.len());
                self.values.push(value);
                self.noted.push(false);
                self.by_name.insert(place, id);
                self.note(id, None);
            }
        }
        Ok(())
    }

    fn note(&mut self, id: u16, old: Option<Variable>) {
        let noted = &mut self.noted[usize::from(id)];
        if !*noted {
            *noted = true;
            self.journal.push((id, old));
        }
    }

    /// Ids of the variables that were written since the last commit.
    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = u16> {
        self.journal.iter().map(|(id, _)| *id)
    }

    /// All values, by id.
    pub(crate) fn values(&self) -> &[Variable] {
        &self.values
    }

    /// Gives the variable `id` a value that it had before.
    pub(crate) fn put_back(&mut self, id: u16, value: Variable) {
        self.note(id, Some(self.values[usize::from(id)]));
        self.values[usize::from(id)] = value;
    }

    /// Keeps everything written since the last commit.
    pub fn commit(&mut self) {
        for (id, _) in self.journal.drain(..) {
            self.noted[usize::from(id)] = false;
        }
    }

    /// Undoes everything written since the last commit.
    pub fn revert(&mut self) {
        // Backwards: the variables created last are the last ones in every list.
        while let Some((id, old)) = self.journal.pop() {
            match old {
                Some(old) => {
                    self.values[usize::from(id)] = old;
                    self.noted[usize::from(id)] = false;
                }
                None => self.remove_last(id),
            }
        }
    }

    fn remove_last(&mut self, id: u16) {
        let place = self.by_name.iter().position(|&other| other == id);
        self.by_name.remove(place.expect("every variable is in the index"));
        self.ends.pop();
        self.names.truncate(self.ends.last().copied().unwrap_or(0));
        self.values.pop();
        self.noted.pop();
    }

    /// Every variable with its name, in order of creation.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Variable)> {
        self.values.iter().zip(0u16..).map(|(&value, id)| (self.name(id), value))
    }

    /// What was written since the last commit, in order of the first write; whether that changed
    /// anything makes no difference.
    pub fn written(&self) -> Vec<(String, Variable)> {
        let entry = |&(id, _): &(u16, _)| (self.name(id).to_owned(), self.values[usize::from(id)]);
        self.journal.iter().map(entry).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Becomes equal to `other`, which has nothing uncommitted, without allocating.
    pub fn copy_from(&mut self, other: &Self) {
        let common = self.ends.last().copied().unwrap_or(0);
        if other.ends.get(..self.ends.len()) == Some(&self.ends) {
            // Committed names only ever grow, so an older copy lacks just the tail.
            self.names.push_str(&other.names[common..]);
        } else {
            self.names.clone_from(&other.names);
        }
        self.ends.clone_from(&other.ends);
        self.values.clone_from(&other.values);
        self.by_name.clone_from(&other.by_name);
        self.noted.clone_from(&other.noted);
    }

    fn name(&self, id: u16) -> &str {
        let id = usize::from(id);
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.names[start..self.ends[id]]
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&id| self.name(id).cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revert_leaves_no_trace() {
        let mut variables = Variables::default();
        variables.write("b", Variable::Int(1)).unwrap();
        variables.commit();
        variables.write("c", Variable::Boolean(true)).unwrap();
        variables.write("a", Variable::Double(0.5)).unwrap();
        variables.write("b", Variable::Int(2)).unwrap();
        variables.write("b", Variable::Int(3)).unwrap();
        assert_eq!(variables.read("b"), Some(Variable::Int(3)));
        variables.revert();
        assert_eq!(variables.iter().collect::<Vec<_>>(), [("b", Variable::Int(1))]);
        assert_eq!((variables.read("a"), variables.read("c")), (None, None));
        variables.write("a", Variable::Int(9)).unwrap();
        variables.commit();
        variables.revert();
        assert_eq!(variables.read("a"), Some(Variable::Int(9)));
    }

    #[test]
    fn types_are_fixed_and_the_table_is_bounded() {
        let mut variables = Variables::default();
        for n in 0..MAX_VARIABLES {
            variables.write(&format!("v{n}"), Variable::Int(0)).unwrap();
        }
        assert_eq!(variables.write("more", Variable::Int(0)), Err(Denied::Limit));
        let denied = variables.write("v7", Variable::Boolean(true));
        assert_eq!(denied, Err(Denied::OtherType(VariableKind::Int)));
        variables.revert();
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(variables.write(&long, Variable::Int(0)), Err(Denied::Limit));
        assert_eq!(variables.write("", Variable::Int(0)), Err(Denied::Limit));
        assert!(variables.is_empty());
    }

    #[test]
    fn what_was_written_counts_whatever_the_value() {
        let mut variables = Variables::default();
        variables.write("same", Variable::Int(1)).unwrap();
        variables.write("other", Variable::Int(1)).unwrap();
        variables.commit();
        variables.write("new", Variable::Double(f64::NAN)).unwrap();
        variables.write("same", Variable::Int(2)).unwrap();
        variables.write("same", Variable::Int(1)).unwrap();
        let written = variables.written();
        assert_eq!(written[1..], [("same".to_string(), Variable::Int(1))]);
        assert_eq!((written[0].0.as_str(), written.len()), ("new", 2));
        variables.commit();
        assert_eq!(variables.written(), []);
    }

    #[test]
    fn a_copy_catches_up() {
        let mut variables = Variables::default();
        let mut copy = variables.clone();
        for name in ["z", "a", "m"] {
            variables.write(name, Variable::Double(1.0)).unwrap();
            variables.commit();
            copy.copy_from(&variables);
            assert!(copy.iter().eq(variables.iter()));
            assert_eq!(copy.read(name), Some(Variable::Double(1.0)));
        }
    }
}
