//! Variables: named, typed values that the host owns and programs share.
//!
//! The writes of a program are provisional until its poll has returned. After a good poll,
//! [`Variables::commit_as`] makes the writes permanent. After a trap, [`Variables::revert`] undoes
//! the writes.
//!
//! ```text
//! write ──▶ new value in the table, old value in `journal` ──▶ commit: empties `journal`
//!                                                          └─▶ revert: restores the old value
//! ```
//!
//! All memory is allocated in advance, because programs write inside a cycle. `grant.rs` decides
//! which program may write which variable; this file only counts how many variables each program
//! has created. The type of one variable is in `variable/value.rs`.

mod value;

use std::time::Duration;

pub use value::{Denied, Maker, Variable, VariableKind, Writers, Written};

/// Maximum number of variables at one time. With [`MAX_NAME_BYTES`], all names together take at
/// most 128 KiB.
pub const MAX_VARIABLES: usize = 1024;

/// Longest name of a variable, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Maximum number of variables that one program may create: a quarter of the table. All programs
/// share the table, and only a cold restart removes a committed variable. A program could create
/// variables without end, for example with a counter in the name. The limit leaves room for the
/// other programs. A program that needs more variables declares them in the configuration.
pub const MAX_MADE: usize = MAX_VARIABLES / 4;

/// The table of all variables. A variable's id is its index in the lists of this table. The ids
/// follow the order of creation. A cold restart keeps the declared variables and removes all
/// others, even committed ones. The variables that stay then get new ids.
#[derive(Debug)]
pub struct Variables {
    /// The names of all variables in one string, without separators, in the order of ids.
    names: String,
    /// For each variable, the end of its name in `names`.
    ends: Vec<usize>,
    values: Vec<Variable>,
    /// The creator of each variable: the program or the host whose quota includes the variable.
    makers: Vec<Maker>,
    /// The last writes of each variable.
    writers: Vec<Writers>,
    /// The number of calls of [`Variables::retain`], which removes variables and renumbers the
    /// others.
    removals: u64,
    /// The ids in alphabetical order of the names. [`Variables::read`] finds a name by binary
    /// search, which needs no allocation.
    by_name: Vec<u16>,
    /// The undo list: each variable that was written after the last commit, with its value at that
    /// commit. The value is `None` if the variable did not exist at that commit.
    journal: Vec<(u16, Option<Variable>)>,
    /// For each variable, whether the variable was written after the last commit, so that `journal`
    /// contains the variable.
    noted: Vec<bool>,
    /// The variables that the configuration declares, with their types. A declared variable may not
    /// exist yet. A copy of the table does not get this list, because only the scan's table creates
    /// variables.
    reserved: Vec<(String, VariableKind)>,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            names: String::with_capacity(MAX_VARIABLES * MAX_NAME_BYTES),
            ends: Vec::with_capacity(MAX_VARIABLES),
            values: Vec::with_capacity(MAX_VARIABLES),
            makers: Vec::with_capacity(MAX_VARIABLES),
            writers: Vec::with_capacity(MAX_VARIABLES),
            removals: 0,
            by_name: Vec::with_capacity(MAX_VARIABLES),
            journal: Vec::with_capacity(MAX_VARIABLES),
            noted: Vec::with_capacity(MAX_VARIABLES),
            reserved: Vec::new(),
        }
    }
}

impl Clone for Variables {
    /// This code is written by hand, because a derived `clone` would make lists without spare
    /// capacity.
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.copy_from(self);
        copy.journal.clone_from(&self.journal);
        copy
    }
}

impl Variables {
    /// Returns the value of the variable `name`; `None` if this variable does not exist.
    pub fn read(&self, name: &str) -> Option<Variable> {
        let found = self.position(name).ok()?;
        Some(self.values[usize::from(self.by_name[found])])
    }

    /// Writes `value` for the host: for the configuration or an operator. If the variable does not
    /// exist, creates it. The write is provisional until the next commit.
    ///
    /// # Errors
    /// The variable has another type, the table is full, or the name is empty or too long. On an
    /// error the table does not change.
    pub fn write(&mut self, name: &str, value: Variable) -> Result<(), Denied> {
        self.write_as(Maker::HOST, name, value)
    }

    /// Writes `value` for the program `maker`. If the variable does not exist, creates it. The
    /// write is provisional until the next commit.
    ///
    /// # Errors
    /// The errors of [`Variables::write`]. In addition, for a new variable: the program has created
    /// [`MAX_MADE`] variables, the configuration declares this name with another type, or the free
    /// places are reserved for declared variables.
    pub fn write_as(&mut self, maker: Maker, name: &str, value: Variable) -> Result<(), Denied> {
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
                let maker = self.admit(maker, name, value.kind())?;
                let id = self.values.len() as u16;
                self.names.push_str(name);
                self.ends.push(self.names.len());
                self.values.push(value);
                self.makers.push(maker);
                self.writers.push(Writers::default());
                self.noted.push(false);
                self.by_name.insert(place, id);
                self.note(id, None);
            }
        }
        Ok(())
    }

    /// Checks whether a new variable with this name and type may be created. Returns the creator
    /// whose quota will include the variable.
    fn admit(&self, maker: Maker, name: &str, kind: VariableKind) -> Result<Maker, Denied> {
        if self.values.len() >= MAX_VARIABLES || name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Denied::Limit);
        }
        if maker == Maker::HOST {
            return Ok(maker);
        }
        if let Some((_, declared)) = self.reserved.iter().find(|(other, _)| other == name) {
            // A declared variable belongs to the configuration, even if a program creates the
            // variable before the host does.
            return if *declared == kind {
                Ok(Maker::HOST)
            } else {
                Err(Denied::OtherType(*declared))
            };
        }
        if self.makers.iter().filter(|other| **other == maker).count() >= MAX_MADE {
            return Err(Denied::Quota);
        }
        let absent = self.reserved.iter().filter(|(name, _)| self.read(name).is_none()).count();
        if self.values.len() + absent >= MAX_VARIABLES {
            return Err(Denied::Limit);
        }
        Ok(maker)
    }

    /// Sets the list of variables that the configuration declares, with their types. Returns the
    /// previous list. A program may create a declared variable before the host does, but only with
    /// the declared type. The program's quota does not include declared variables.
    pub fn reserve(
        &mut self,
        declared: Vec<(String, VariableKind)>,
    ) -> Vec<(String, VariableKind)> {
        std::mem::replace(&mut self.reserved, declared)
    }

    /// Returns the variables that the configuration declares, with their types.
    pub fn reserved(&self) -> &[(String, VariableKind)] {
        &self.reserved
    }

    /// Makes the host the creator of an existing variable. The caller does this when the
    /// configuration begins to declare the variable. From then on, the quota of a program does not
    /// include the variable.
    pub fn take_over(&mut self, name: &str) {
        if let Ok(found) = self.position(name) {
            self.makers[usize::from(self.by_name[found])] = Maker::HOST;
        }
    }

    /// Puts the old value of a variable into `journal`, if this write is the first write of the
    /// variable after the last commit.
    fn note(&mut self, id: u16, old: Option<Variable>) {
        let noted = &mut self.noted[usize::from(id)];
        if !*noted {
            *noted = true;
            self.journal.push((id, old));
        }
    }

    /// Returns the ids of the variables with provisional writes: the variables that were written
    /// after the last commit.
    pub(crate) fn uncommitted(&self) -> impl Iterator<Item = u16> {
        self.journal.iter().map(|(id, _)| *id)
    }

    /// Returns all values with their last writes, in the order of ids.
    pub(crate) fn values(&self) -> impl Iterator<Item = (Variable, Writers)> {
        self.values.iter().copied().zip(self.writers.iter().copied())
    }

    /// Restores an earlier value of the variable `id`, together with the writers of that time. The
    /// scan calls this function in a rollback, while no write is provisional. The restored value is
    /// not recorded as a new write.
    pub(crate) fn put_back(&mut self, id: u16, (value, writers): (Variable, Writers)) {
        debug_assert!(
            self.journal.is_empty(),
            "the restored value must not be recorded as a new write"
        );
        self.values[usize::from(id)] = value;
        self.writers[usize::from(id)] = writers;
    }

    /// Makes all provisional writes permanent, without a record of the writer.
    pub fn commit(&mut self) {
        for (id, _) in self.journal.drain(..) {
            self.noted[usize::from(id)] = false;
        }
    }

    /// Makes all provisional writes permanent, and records `by` as the writer and `at` as the time
    /// of each write.
    pub fn commit_as(&mut self, by: Maker, at: Duration) {
        for (id, old) in &self.journal {
            self.writers[usize::from(*id)].note(Written { by, at }, old.is_none());
        }
        self.commit();
    }

    /// Returns the last writes of the variable `name`. All fields are `None` if this variable does
    /// not exist.
    pub fn writers(&self, name: &str) -> Writers {
        let found = self.position(name).ok();
        found.map_or_else(Writers::default, |found| self.writers[usize::from(self.by_name[found])])
    }

    /// Returns the last write of the variable `name`; `None` while the variable has its initial
    /// value.
    pub fn written_last(&self, name: &str) -> Option<Written> {
        self.writers(name).last
    }

    /// Removes every variable for whose name `is_kept` returns false. The caller makes sure that no
    /// write is provisional. The function does not allocate memory.
    pub fn retain(&mut self, is_kept: impl Fn(&str) -> bool) {
        debug_assert!(self.journal.is_empty(), "the ids in `journal` would be wrong");
        self.removals += 1;
        // For each old id, the new id; `None` if the variable is removed.
        let mut new = [None; MAX_VARIABLES];
        let mut count = 0u16;
        for (id, new) in (0..self.values.len() as u16).zip(&mut new) {
            if is_kept(self.name(id)) {
                *new = Some(count);
                count += 1;
            }
        }
        let (mut at, mut owner, ends) = (0, 0, &self.ends);
        self.names.retain(|c| {
            while ends[owner] == at {
                owner += 1;
            }
            at += c.len_utf8();
            new[owner].is_some()
        });
        let (mut start, mut end) = (0, 0);
        for id in 0..self.ends.len() {
            let len = self.ends[id] - start;
            start = self.ends[id];
            if let Some(new) = new[id] {
                end += len;
                self.ends[usize::from(new)] = end;
            }
        }
        self.ends.truncate(count.into());
        drop_removed(&mut self.values, &new);
        drop_removed(&mut self.makers, &new);
        drop_removed(&mut self.writers, &new);
        self.noted.truncate(count.into());
        self.by_name.retain(|id| new[usize::from(*id)].is_some());
        for id in &mut self.by_name {
            *id = new[usize::from(*id)].unwrap_or_default();
        }
    }

    /// Undoes all provisional writes.
    pub fn revert(&mut self) {
        // The loop starts with the newest entry of `journal`. So variables are removed in the
        // reverse order of their creation, and each of them is the last entry of every list.
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

    /// Removes the variable `id`. It must be the variable that was created last.
    fn remove_last(&mut self, id: u16) {
        let place = self.by_name.iter().position(|&other| other == id);
        self.by_name.remove(place.expect("every variable is in the index"));
        self.ends.pop();
        self.names.truncate(self.ends.last().copied().unwrap_or(0));
        self.values.pop();
        self.makers.pop();
        self.writers.pop();
        self.noted.pop();
    }

    /// Returns all variables with their names, in the order of creation.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Variable)> {
        self.values.iter().zip(0u16..).map(|(&value, id)| (self.name(id), value))
    }

    /// Returns the variables with provisional writes, in the order of their first write. A write
    /// that does not change the value is included.
    pub fn written(&self) -> Vec<(String, Variable)> {
        let entry = |&(id, _): &(u16, _)| (self.name(id).to_owned(), self.values[usize::from(id)]);
        self.journal.iter().map(entry).collect()
    }

    /// Returns the number of variables.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the table contains no variables.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Makes this table a copy of `other`, which must have no provisional writes. The list of
    /// declared variables is not copied. The function does not allocate memory.
    pub fn copy_from(&mut self, other: &Self) {
        let common = self.ends.last().copied().unwrap_or(0);
        let is_older = self.removals == other.removals;
        if is_older && other.ends.get(..self.ends.len()) == Some(&self.ends) {
            // If no variable was removed after the last copy, the only difference is new names at
            // the end. So only the new names are copied.
            self.names.push_str(&other.names[common..]);
        } else {
            self.names.clone_from(&other.names);
        }
        self.ends.clone_from(&other.ends);
        self.values.clone_from(&other.values);
        self.makers.clone_from(&other.makers);
        self.writers.clone_from(&other.writers);
        self.removals = other.removals;
        self.by_name.clone_from(&other.by_name);
        self.noted.clone_from(&other.noted);
    }

    fn name(&self, id: u16) -> &str {
        let id = usize::from(id);
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.names[start..self.ends[id]]
    }

    /// Returns the index of a name in `by_name`. For an unknown name, the error is the index at
    /// which the name would be inserted.
    fn position(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&id| self.name(id).cmp(name))
    }
}

/// Removes from `list` the entries of the removed variables. The index in both lists is the old id
/// of a variable; `new` has `None` for a removed variable.
fn drop_removed<T>(list: &mut Vec<T>, new: &[Option<u16>]) {
    let mut new = new.iter();
    list.retain(|_| new.next().is_some_and(Option::is_some));
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
    fn one_program_does_not_fill_the_table() {
        let (mut variables, [one, two]) = (Variables::default(), [1, 2].map(Maker::program));
        let int = Variable::Int(0);
        for n in 0..MAX_MADE {
            variables.write_as(one, &format!("one{n}"), int).unwrap();
        }
        assert_eq!(variables.write_as(one, "more", int), Err(Denied::Quota));
        // A program at its quota may still write existing variables, and other programs may create
        // variables. A copy of the table applies the same quota.
        assert_eq!(variables.write_as(one, "one7", Variable::Int(5)), Ok(()));
        assert_eq!(variables.write_as(two, "more", int), Ok(()));
        assert_eq!(variables.write("host", int), Ok(()));
        variables.commit();
        assert_eq!(variables.clone().write_as(one, "other", int), Err(Denied::Quota));
        // The quota does not include a variable whose creation was reverted, or a declared
        // variable.
        assert_eq!(variables.write_as(two, "two", int), Ok(()));
        variables.revert();
        variables.take_over("one7");
        assert_eq!(variables.write_as(one, "other", int), Ok(()));
        assert_eq!(variables.write_as(one, "another", int), Err(Denied::Quota));
    }

    #[test]
    fn declared_names_are_kept_with_their_type_and_their_room() {
        let (mut variables, one) = (Variables::default(), Maker::program(1));
        let declared = vec![("a".to_owned(), VariableKind::Int), ("b".into(), VariableKind::Int)];
        assert_eq!(variables.reserve(declared.clone()), []);
        let denied = variables.write_as(one, "a", Variable::Double(1.0));
        assert_eq!(denied, Err(Denied::OtherType(VariableKind::Int)));
        assert_eq!(variables.write_as(one, "a", Variable::Int(1)), Ok(()));
        for n in 0..MAX_VARIABLES - 3 {
            let maker = Maker::program(2 + (n / MAX_MADE) as u64);
            variables.write_as(maker, &format!("v{n}"), Variable::Int(0)).unwrap();
        }
        // The table has room for two more variables, and one of these two entries is reserved.
        assert_eq!(variables.write_as(one, "x", Variable::Int(1)), Ok(()));
        assert_eq!(variables.write_as(one, "y", Variable::Int(1)), Err(Denied::Limit));
        assert_eq!(variables.write_as(one, "b", Variable::Int(1)), Ok(()));
        assert_eq!(variables.len(), MAX_VARIABLES);
        assert_eq!(variables.reserve(Vec::new()), declared);
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
    fn who_wrote_last_is_known_once_it_counts() {
        let mut variables = Variables::default();
        let (one, at) = (Maker::program(1), Duration::from_secs);
        variables.write("a", Variable::Int(1)).unwrap();
        variables.commit();
        assert_eq!(variables.written_last("a"), None);
        variables.write_as(one, "a", Variable::Int(2)).unwrap();
        variables.write_as(one, "b", Variable::Int(2)).unwrap();
        assert_eq!(variables.written_last("a"), None);
        variables.commit_as(one, at(3));
        variables.write("b", Variable::Int(5)).unwrap();
        variables.commit_as(Maker::HOST, at(4));
        variables.write_as(one, "b", Variable::Int(6)).unwrap();
        variables.revert();
        let mut copy = Variables::default();
        copy.copy_from(&variables);
        for variables in [&variables, &copy] {
            assert_eq!(variables.written_last("a"), Some(Written { by: one, at: at(3) }));
            assert_eq!(variables.written_last("b"), Some(Written { by: Maker::HOST, at: at(4) }));
        }
    }

    /// Regression: an earlier release of the daemon treated the last writer as the creator.
    #[test]
    fn who_has_made_a_variable_is_known_whoever_wrote_it_since() {
        let mut variables = Variables::default();
        let ([one, two], at) = ([1, 2].map(Maker::program), Duration::from_secs);
        let mut write = |by: Maker, name: &str, second: u64| {
            variables.write_as(by, name, Variable::Int(1)).unwrap();
            variables.commit_as(by, at(second));
            variables.writers(name)
        };
        let written = |by: Maker, second: u64| Some(Written { by, at: at(second) });
        let made = write(one, "a", 1);
        let by_one = written(one, 1);
        assert_eq!(made, Writers { last: by_one, program: by_one, maker: by_one });
        let set = write(Maker::HOST, "a", 2);
        assert_eq!(set, Writers { last: written(Maker::HOST, 2), ..made });
        let other = write(two, "a", 3);
        let by_two = written(two, 3);
        assert_eq!(other, Writers { last: by_two, program: by_two, maker: by_one });
        assert_eq!(write(one, "a", 4).maker, written(one, 4), "a write of the creator");
        write(Maker::HOST, "b", 5);
        assert_eq!(write(one, "b", 6).maker, None, "the host created it");
        variables.write("c", Variable::Int(1)).unwrap();
        variables.commit();
        assert_eq!(variables.writers("c"), Writers::default());
        assert_eq!(variables.writers("none"), Writers::default());
    }

    #[test]
    fn what_is_removed_leaves_the_others_as_they_were() {
        // The result is compared with a second table, into which only the remaining variables were
        // written.
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut all: Vec<_> =
                (0..random.usize(..20)).map(|n| format!("{}ü{n}", "x".repeat(n % 5))).collect();
            random.shuffle(&mut all);
            let is_kept = |name: &str| name.len() % 2 == 1;
            let (mut variables, mut expected) = (Variables::default(), Variables::default());
            let write = |into: &mut Variables, name: &str, n: i32| {
                let (maker, at) = (Maker::program(1 + n as u64), Duration::from_secs(n as u64));
                into.write_as(maker, name, Variable::Int(n)).unwrap();
                into.commit_as(maker, at);
            };
            for (name, n) in all.iter().zip(0..) {
                write(&mut variables, name, n);
                if is_kept(name) {
                    write(&mut expected, name, n);
                }
            }
            let mut copy = variables.clone();
            variables.retain(is_kept);
            variables.write("same length", Variable::Int(1)).unwrap();
            expected.write("same length", Variable::Int(1)).unwrap();
            variables.commit();
            copy.copy_from(&variables);
            for found in [&variables, &copy] {
                assert!(found.iter().eq(expected.iter()), "{found:?}");
                assert!(all.iter().all(|name| found.read(name) == expected.read(name)));
                assert!(all.iter().all(|name| found.writers(name) == expected.writers(name)));
                assert_eq!(found.makers, expected.makers);
            }
        }
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
