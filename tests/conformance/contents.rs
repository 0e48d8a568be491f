//! What two outputs with different hashes have, as texts, and the lines of them that differ.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Of each file.
const FILE_BYTES_SHOWN: usize = 64 << 10;
/// Of each side.
const LINES_SHOWN: usize = 40;

/// Those lines of two trees that only one of them has.
pub fn differing(one: &Path, other: &Path) -> (String, String) {
    let texts = [one, other].map(|path| {
        let mut lines = Vec::new();
        describe(path, "", &mut lines);
        lines
    });
    let sets = texts.each_ref().map(|lines| lines.iter().collect::<BTreeSet<_>>());
    let only = |own: usize| {
        let lines = texts[own].iter().filter(|line| !sets[1 - own].contains(line));
        lines.take(LINES_SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n")
    };
    let (first, second) = (only(0), only(1));
    if first.is_empty() && second.is_empty() && texts[0] != texts[1] {
        return ("the same lines".into(), "in another order".into());
    }
    (first, second)
}

/// Names, kinds and contents; what cannot be read says so.
fn describe(path: &Path, name: &str, lines: &mut Vec<String>) {
    let Ok(status) = path.symlink_metadata() else {
        lines.push(format!("{name}: not there"));
        return;
    };
    if status.is_symlink() {
        lines.push(format!("{name} -> {:?}", fs::read_link(path).unwrap_or_default()));
    } else if status.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        lines.push(format!("{name}/"));
        for entry in entries {
            describe(&entry.path(), &format!("{name}/{}", entry.file_name().to_string_lossy()), lines);
        }
    } else {
        let executable = if status.permissions().mode() & 0o100 == 0 { "" } else { " executable" };
        lines.push(format!("{name}: {} bytes{executable}", status.len()));
        let contents = fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&contents[..contents.len().min(FILE_BYTES_SHOWN)]).into_owned();
        lines.extend(text.lines().map(|line| format!("{name}| {line}")));
    }
}
