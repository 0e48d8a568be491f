//! Paths that documents name exist: a map that shows rooms which were torn down is worse than none.

use std::path::Path;

use crate::tidy::Complaint;

/// Checks the paths in backticks and in relative links of one document.
pub fn check(root: &Path, document: &str, text: &str) -> Vec<Complaint> {
    let beside = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut complaints = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for path in paths(line) {
            if !root.join(path).exists() && !root.join(beside).join(path).exists() {
                complaints.push(Complaint::new(
                    format!("{document}:{}", index + 1),
                    format!("{path} does not exist"),
                ));
            }
        }
    }
    complaints
}

/// Paths of this repository that a line names: plain words with a slash, in backticks or as the target of a link.
fn paths(line: &str) -> Vec<&str> {
    let ticked = line.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && is_path(word));
    let linked = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', '#']).next())
        .filter(|word| is_path(word));
    ticked.chain(linked).collect()
}

/// Not a path of ours: absolute, with a placeholder or a space, a system or a media type.
fn is_path(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let generated = ["target/", "./", "refs/"].iter().any(|start| word.starts_with(start));
    !word.is_empty()
        && word.bytes().all(plain)
        && !word.starts_with('/')
        && !word.contains("...")
        && !generated
        && !word.split('/').any(|part| part.len() > 1 && part.bytes().all(|byte| byte.is_ascii_uppercase()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_of_a_line() {
        let check = |line: &str, expected: &[&str]| assert_eq!(super::paths(line), expected, "{line}");
        check("see `docs/tour.md` and `coordinator/`", &["docs/tour.md", "coordinator/"]);
        check("see [the tour](docs/tour.md#life)", &["docs/tour.md"]);
        check("`/nix/store`, `a b/c`, `docs/*.md`, `DIR/NAME.pem`, `./result`, `plain`", &[]);
        check("[elsewhere](https://example.org/x)", &[]);
    }
}
