//! The rule about files that a comment names: each of these files must exist.
//!
//! A comment names a file by its path from the root, from `src/`, or from a folder that contains
//! the file with the comment. Without this rule, a comment would still name the old place after a
//! file has moved.

/// The files in backquotes that the comments of this file name, and that are not there.
pub(super) fn strangers(path: &str, text: &str, is_there: &dyn Fn(&str) -> bool) -> Vec<String> {
    let module = path.strip_suffix(".rs").unwrap_or(path);
    let folders = module.match_indices('/').map(|(at, _)| &module[..at]);
    let folders: Vec<&str> = folders.chain([module]).collect();
    let is_known = |name: &str| {
        is_there(name) || folders.iter().any(|folder| is_there(&format!("{folder}/{name}")))
    };
    let comments =
        text.lines().zip(1..).filter_map(|(line, n)| Some((line.split_once("//")?.1, n)));
    let names = comments.flat_map(|(comment, n)| {
        let quoted = comment.split('`').skip(1).step_by(2);
        quoted.filter(|name| name.ends_with(".rs")).map(move |name| (name, n))
    });
    let missing = names.filter(|(name, _)| !is_known(name));
    missing.map(|(name, n)| format!("{n}: `{name}` is not there")).collect()
}
