//! The GPIO chips of this machine, and the search for a line that the configuration names.
//!
//! Each attempt to request lines lists the chips again. The reason: an operator can unplug an
//! expander on USB at any time and plug it in again. The expander may then have another chip
//! number. This file does not request lines; `claim.rs` does.

use std::fs;
use std::path::{Path, PathBuf};

use gpiocdev::line::Info;
use gpiocdev::{Error, chip};

use super::line::LinePlace;

/// A chip and its lines.
#[derive(Debug, Default)]
pub(super) struct Chip {
    pub(super) path: PathBuf,
    name: String,
    label: String,
    lines: Vec<Info>,
}

/// All chips that exist at the time of one attempt to request lines.
#[derive(Debug, Default)]
pub(super) struct Survey {
    chips: Vec<Chip>,
    /// The chips that could not be opened, each with the reason.
    refused: Vec<String>,
}

impl Survey {
    /// Opens all chips and lists their lines.
    pub(super) fn take() -> Result<Self, Error> {
        let mut survey = Self::default();
        for path in chip::chips()? {
            match Chip::open(&path) {
                Ok(chip) => survey.chips.push(chip),
                Err(error) => survey.refused.push(format!("{}: {error}", path.display())),
            }
        }
        Ok(survey)
    }

    /// Finds the chip and the line at `place`.
    ///
    /// # Errors
    /// A text with the reason: no chip or two chips fit, or no line or two lines fit.
    pub(super) fn find(&self, place: &LinePlace) -> Result<(&Chip, &Info), String> {
        let (chip, what) = match place {
            LinePlace::Named(chip, line) => (chip.as_ref(), format!("line {line:?}")),
            LinePlace::Numbered(chip, offset) => (Some(chip), format!("line {offset}")),
        };
        let chips: Vec<_> =
            self.chips.iter().filter(|known| chip.is_none_or(|chip| known.is(chip))).collect();
        let Some(called) = chip else {
            let absent = || self.without(&format!("there is no {what}"));
            return one(&chips, place, &what)?.ok_or_else(absent);
        };
        match chips[..] {
            [] => Err(self.without(&format!("there is no chip {called:?}"))),
            [_] => {
                let what = format!("{what} on {called:?}");
                one(&chips, place, &what)?.ok_or_else(|| format!("there is no {what}"))
            }
            [first, second, ..] => {
                let (first, second) = (&first.name, &second.name);
                Err(format!(
                    "two chips have the name {called:?}: {first} and {second}; write one of \
                     these names at `chip`"
                ))
            }
        }
    }

    /// Makes the message for an absent line or chip. The message lists the chips that could not be
    /// opened, because the line may be on one of these chips.
    fn without(&self, why: &str) -> String {
        match (&self.refused[..], self.chips.len()) {
            ([], 0) => format!("{why}, because there is no /dev/gpiochip* at all"),
            ([], _) => why.to_owned(),
            (refused, _) => format!("{why}; not opened: {}", refused.join("; ")),
        }
    }
}

/// Finds the line at `place` on `chips`. Returns `None` if no line fits, and an error if two lines
/// fit.
fn one<'c>(
    chips: &[&'c Chip],
    place: &LinePlace,
    what: &str,
) -> Result<Option<(&'c Chip, &'c Info)>, String> {
    let is_it = |info: &Info| match place {
        LinePlace::Named(_, name) => info.name == *name,
        LinePlace::Numbered(_, offset) => info.offset == *offset,
    };
    let on = |chip: &&'c Chip| {
        let chip = *chip;
        chip.lines.iter().filter(|info| is_it(info)).map(move |info| (chip, info)).collect()
    };
    let found: Vec<(&Chip, &Info)> = chips.iter().flat_map(|chip| -> Vec<_> { on(chip) }).collect();
    match found[..] {
        [one] => Ok(Some(one)),
        [] => Ok(None),
        [(first, at), (second, too), ..] => Err(format!(
            "{what} exists twice, as line {} of {} and as line {} of {}; select one of the two \
             lines with `chip` and `offset`",
            at.offset, first.name, too.offset, second.name
        )),
    }
}

impl Chip {
    /// Opens a chip and lists its lines.
    fn open(path: &Path) -> Result<Self, Error> {
        let chip = chip::Chip::from_path(path)?;
        let info = chip.info()?;
        let lines = chip.line_info_iter()?.collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), name: info.name, label: info.label, lines })
    }

    /// Whether `called` is the chip's label, the chip's name, or a path or link to the chip's
    /// device file.
    fn is(&self, called: &str) -> bool {
        let is_file = || fs::canonicalize(called).is_ok_and(|path| path == self.path);
        called == self.label || called == self.name || called.starts_with('/') && is_file()
    }
}

/// Returns the user of a line, for messages. This is the name that the kernel lists or, if the
/// kernel lists no name, `the kernel`.
pub(super) fn consumer(info: &Info) -> String {
    match &*info.consumer {
        "" => "the kernel".to_owned(),
        consumer => format!("{consumer:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chip(number: usize, label: &str, names: &[&str]) -> Chip {
        let line = |(offset, name): (u32, &&str)| Info {
            offset,
            name: (*name).to_owned(),
            ..Info::default()
        };
        Chip {
            path: format!("/dev/gpiochip{number}").into(),
            name: format!("gpiochip{number}"),
            label: label.to_owned(),
            lines: (0..).zip(names).map(line).collect(),
        }
    }

    #[test]
    fn lines_are_found_by_name_or_by_number() {
        let chips = vec![
            chip(0, "soc", &["GPIO0", "GPIO1", ""]),
            chip(1, "expander", &["A", "GPIO1", "A"]),
            chip(2, "twin", &["X"]),
            chip(3, "twin", &["Y"]),
        ];
        let survey = Survey { chips, refused: Vec::new() };
        let check = |chip: Option<&str>, line: Result<u32, &str>, expected: Result<&str, &str>| {
            let chip = chip.map(str::to_owned);
            let place = match line {
                Ok(offset) => LinePlace::Numbered(chip.unwrap(), offset),
                Err(name) => LinePlace::Named(chip, name.to_owned()),
            };
            let found =
                survey.find(&place).map(|(chip, info)| format!("{}:{}", chip.name, info.offset));
            assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{place:?}");
        };
        check(None, Err("GPIO0"), Ok("gpiochip0:0"));
        check(Some("soc"), Err("GPIO1"), Ok("gpiochip0:1"));
        check(Some("gpiochip1"), Ok(2), Ok("gpiochip1:2"));
        check(None, Err("Y"), Ok("gpiochip3:0"));
        let both = "line \"GPIO1\" exists twice, as line 1 of gpiochip0 and as line 1 of \
                    gpiochip1; select one of the two lines with `chip` and `offset`";
        check(None, Err("GPIO1"), Err(both));
        let both = "line \"A\" on \"expander\" exists twice, as line 0 of gpiochip1 and as line 2 \
                    of gpiochip1; select one of the two lines with `chip` and `offset`";
        check(Some("expander"), Err("A"), Err(both));
        check(None, Err("GPIO9"), Err("there is no line \"GPIO9\""));
        check(Some("soc"), Ok(3), Err("there is no line 3 on \"soc\""));
        check(Some("usb"), Ok(3), Err("there is no chip \"usb\""));
        let both = "two chips have the name \"twin\": gpiochip2 and gpiochip3; write one of \
                    these names at `chip`";
        check(Some("twin"), Ok(0), Err(both));
    }

    #[test]
    fn what_could_not_be_looked_at_is_told_with_what_is_not_there() {
        let soc = || chip(0, "soc", &["A", "B"]);
        let refused = || vec!["/dev/gpiochip1: EACCES".to_owned()];
        let check = |chips: Vec<Chip>, refused: Vec<String>, place: LinePlace, expected: &str| {
            let why = Survey { chips, refused }.find(&place).map(|_| ()).unwrap_err();
            assert_eq!(why, expected, "{place:?}");
        };
        let named = |chip: Option<&str>| LinePlace::Named(chip.map(str::to_owned), "GPIO17".into());
        let absent = "there is no line \"GPIO17\"";
        check(vec![soc()], vec![], named(None), absent);
        check(
            vec![soc()],
            refused(),
            named(None),
            &format!("{absent}; not opened: /dev/gpiochip1: EACCES"),
        );
        check(
            vec![],
            refused(),
            named(None),
            &format!("{absent}; not opened: /dev/gpiochip1: EACCES"),
        );
        let none = "because there is no /dev/gpiochip* at all";
        check(vec![], vec![], named(None), &format!("{absent}, {none}"));
        // The configuration names the chip, and that chip does not have the line.
        check(vec![soc()], refused(), named(Some("soc")), &format!("{absent} on \"soc\""));
        let chip = "there is no chip \"usb\"";
        check(vec![], vec![], named(Some("usb")), &format!("{chip}, {none}"));
        check(
            vec![],
            refused(),
            named(Some("usb")),
            &format!("{chip}; not opened: /dev/gpiochip1: EACCES"),
        );
        // A line on a chip that could be opened is found, even if another chip could not be opened.
        assert!(
            Survey { chips: vec![soc()], refused: refused() }
                .find(&LinePlace::Named(None, "A".into()))
                .is_ok()
        );
    }
}
