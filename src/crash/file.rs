//! The format of a crash report, its writer and its parser.
//!
//! ```text
//! head: one line of JSON | module | tape | checkpoint | memory | BLAKE3 of all bytes before
//! ```
//! The head contains the lengths of the parts. A report may come from an unknown machine, so its
//! contents are not trusted. The parser refuses a report for example if its checksum is wrong, if
//! its lengths do not fit, or if a number is out of range. `crash/brought.rs` lowers the limits in
//! a report. `crash/store.rs` has the folder of reports.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{CrashReport, FORMAT, Head, PictureHead, StartHead, VERSION};
use crate::file;
use crate::plugin::ModuleHash;
use crate::plugin::trace::checkpoint::Picture;
use crate::plugin::trace::tape::{self, Section};

/// The maximum size of a report, in bytes. It is enough for a module and a memory at their limits,
/// and for a long list of points.
pub(super) const MAX_REPORT: u64 = 48 << 20;

/// The maximum length of the head, in bytes. It is enough for as many points as a configuration can
/// have, with 256 bytes for each point.
const MAX_HEAD: usize = 8 << 20;

/// The length of the checksum at the end of a report, in bytes.
const CHECKSUM: usize = blake3::OUT_LEN;

/// The range of stack sizes that the sandbox accepts for a guest, in bytes.
const STACK: std::ops::RangeInclusive<usize> = 8 << 10..=100 << 20;

/// The longest budget for a poll or for `init` in a report. The parser refuses a report with a
/// longer budget, because a call in the replay could run for the whole budget, and the user would
/// have to wait.
const MAX_BUDGET: Duration = Duration::from_secs(60);

/// The fields that the head has in every version of the format.
#[derive(Deserialize)]
struct Identity {
    format: String,
    version: u32,
    camshaft: String,
}

impl CrashReport {
    /// Writes the report to `to`.
    ///
    /// # Errors
    /// When `to` returns an error.
    pub fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        let mut head = serde_json::to_vec(&self.head)?;
        head.push(b'\n');
        let module = self.module.as_deref().unwrap_or_default();
        let parts = [&head[..], module, &self.tape, &self.checkpoint, &self.memory];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(part);
            to.write_all(part)?;
        }
        to.write_all(hasher.finalize().as_bytes())
    }

    /// Reads the report at `path`.
    ///
    /// # Errors
    /// When the file cannot be read, or when it is not a complete and valid report. The error is
    /// the reason, as text.
    pub fn read(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        file::open(path)
            .and_then(|file| file.take(MAX_REPORT + 1).read_to_end(&mut bytes))
            .map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_REPORT {
            return Err(format!("the file is too large: a report has at most {MAX_REPORT} bytes"));
        }
        Self::parse(&bytes)
    }

    /// Parses a report.
    ///
    /// # Errors
    /// When the bytes are not a complete and valid report. The error is the reason, as text.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let is_ours = bytes.starts_with(format!("{{\"format\":\"{FORMAT}\"").as_bytes());
        if !is_ours {
            return Err("the file is not a crash report".into());
        }
        let (body, checksum) = bytes
            .len()
            .checked_sub(CHECKSUM)
            .and_then(|len| bytes.split_at_checked(len))
            .ok_or("the report is cut, because the end is missing; copy the file again")?;
        if blake3::hash(body).as_bytes()[..] != *checksum {
            return Err(
                "the report is cut or damaged, because the checksum is wrong; copy the file again"
                    .into(),
            );
        }
        let end = body.iter().take(MAX_HEAD).position(|&byte| byte == b'\n');
        let (line, rest) = body.split_at(end.ok_or("the head of the report has no end")?);
        let json =
            |error: serde_json::Error| format!("the head of the report cannot be parsed: {error}");
        let Identity { format, version, camshaft } = serde_json::from_slice(line).map_err(json)?;
        if (&*format, version) != (FORMAT, VERSION) {
            return Err(format!(
                "the report has format version {version}, from camshaft {camshaft}; this camshaft \
                 reads only format version {VERSION}"
            ));
        }
        let head: Head = serde_json::from_slice(line).map_err(json)?;
        Self::assemble(head, &rest[1..])
    }

    /// Cuts the bytes after the head into the parts of the report, and checks the whole report.
    fn assemble(head: Head, mut rest: &[u8]) -> Result<Self, String> {
        let mut part = |len: usize, what: &str| {
            let (part, after) =
                rest.split_at_checked(len).ok_or(format!("the {what} in the report is cut"))?;
            rest = after;
            Ok::<_, String>(part.to_vec())
        };
        let lengths = head.lengths;
        if lengths.tape > tape::MAX_EXPORT {
            let (found, most) = (lengths.tape, tape::MAX_EXPORT);
            return Err(format!(
                "the tape of the report has {found} bytes; expected at most {most}"
            ));
        }
        let module = part(lengths.module, "module")?;
        let tape = part(lengths.tape, "tape")?;
        let checkpoint = part(lengths.checkpoint, "checkpoint")?;
        let memory = part(lengths.memory, "memory")?;
        if !rest.is_empty() {
            return Err(format!("the report has {} bytes more than its head says", rest.len()));
        }
        let module = (!module.is_empty()).then_some(module);
        let report = Self { head, module, tape, checkpoint, memory };
        report.check()?;
        Ok(report)
    }

    /// Checks that the module, the memory and the checkpoint agree with the head, that the limits
    /// are in their ranges, and that the tape can be parsed.
    fn check(&self) -> Result<(), String> {
        let Head { hash, limits, poll_budget, start, memory, .. } = &self.head;
        if let Some(module) = &self.module
            && format!("{:#}", ModuleHash::of(module)) != *hash
        {
            return Err(
                "the hash of the module in the report differs from the hash in the head".into()
            );
        }
        let fits = |picture: &PictureHead, bytes: &[u8]| {
            picture.blocks.len().checked_mul(Picture::BLOCK) == Some(bytes.len())
                && picture.bytes <= limits.memory_bytes.max(Picture::BLOCK as u64)
        };
        if !fits(memory, &self.memory) {
            return Err(
                "the size of the memory in the report differs from the size in the head".into()
            );
        }
        if let StartHead::Checkpoint { memory, tape_at, .. } = start
            && (!fits(memory, &self.checkpoint) || *tape_at > self.tape.len())
        {
            return Err(
                "the size of the checkpoint in the report differs from the size in the head".into(),
            );
        }
        let is_short = |budget: Duration| budget <= MAX_BUDGET;
        if !STACK.contains(&limits.stack_bytes)
            || ![*poll_budget, limits.init_budget].into_iter().all(is_short)
        {
            return Err("the limits in the report are out of range".into());
        }
        self.sections().try_for_each(|section| section.map(drop))
    }

    /// Returns the sections of the tape. A section is one call from the host into the module. The
    /// iterator returns each section with its byte position on the tape.
    ///
    /// Function numbers in a section are converted from the numbers in the report to the numbers of
    /// this `camshaft`. The iterator returns an error for an invalid section, or for a function
    /// that this `camshaft` does not have.
    pub(super) fn sections(&self) -> impl Iterator<Item = Result<(usize, Section), String>> {
        let ours = tape::functions();
        let number = |name: &String| ours.iter().position(|own| own == name);
        let numbers: Vec<_> = self.head.functions.iter().map(number).collect();
        tape::parse(&self.tape).map(move |section| {
            let (at, mut section) = section?;
            for called in &mut section.calls {
                let function = usize::from(called.function);
                let found = numbers.get(function).copied().flatten();
                let found = found.and_then(|number| u8::try_from(number).ok());
                called.function = found.ok_or_else(|| {
                    let name = self.head.functions.get(function).map_or("a function", |name| name);
                    format!(
                        "the tape of the report has a call of {name:?}, a function that this \
                         camshaft does not have"
                    )
                })?;
            }
            Ok((at, section))
        })
    }
}
