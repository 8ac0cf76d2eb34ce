//! Tests of the file `NOTICE`: it must name each library whose licence requires a notice, and no
//! other library.
//!
//! The list of libraries and licences comes from `cargo metadata`. Which licences are allowed at
//! all is written in `deny.toml`; CI checks that file.

use std::collections::BTreeMap;
use std::process::Command;

const NOTICE: &str = include_str!("../../NOTICE");

/// Every package that Cargo.lock has for this machine, with its licence; the file that has the text
/// where it names none.
fn licences() -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", std::env::consts::ARCH)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let packages = metadata["packages"].as_array().expect("it has packages");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entry = |package: &serde_json::Value| {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        (name, text(&package["license"]))
    };
    packages.iter().map(entry).collect()
}

/// Whether NOTICE must name a package: there is no free licence among those to choose from.
fn must_be_named(licence: &str) -> bool {
    licence.is_empty() || licence.contains("MPL") && !licence.contains("OR")
}

#[test]
fn notice_names_each_part_that_wants_it() {
    let licences = licences();
    assert!(licences.len() > 200, "{licences:?}");
    let wanted: Vec<_> = licences
        .iter()
        .filter(|(_, licence)| must_be_named(licence))
        .map(|(name, _)| name)
        .collect();
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    let named = NOTICE.lines().filter(|line| line.contains("  https://github.com/"));
    let mut named: Vec<_> = named.filter_map(name).collect();
    named.sort_unstable();
    assert_eq!(named.iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_choice_of_licences_need_not_be_named() {
    for (licence, expected) in [
        ("MPL-2.0", true),
        ("", true),
        ("MIT OR MPL-2.0", false),
        ("MIT", false),
        ("MPL-2.0 AND MIT", true),
    ] {
        assert_eq!(must_be_named(licence), expected, "{licence}");
    }
}
