//! Rules about the text of source files: length, first line, the home of `unsafe`, lints lifted without a reason.

use crate::tidy::Complaint;

const LINES_MAX: usize = 500;
/// The directory or file that may say `unsafe`.
const UNSAFE_HOME: &str = "executor/sandbox/src/sys";
/// Split, so that this file does not contain what it forbids.
const OUTSIDE: &[&str] = &[concat!("..", "/shared"), concat!("/work", "/main"), concat!("/work", "/brief")];

/// Every complaint about one file.
pub fn check(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let rust = path.ends_with(".rs");
    let written =
        rust || [".sh", ".nix", ".proto", ".md", ".lua", ".c"].iter().any(|ending| path.ends_with(ending));
    if written {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(Complaint::new(
                path,
                format!("{lines} lines; {LINES_MAX} at most: find the two ideas in it"),
            ));
        }
    }
    let first = text.lines().next().unwrap_or_default();
    let said =
        if rust { first.starts_with("//! ") } else { !path.ends_with(".sh") || first.starts_with('#') };
    if !said {
        complaints.push(Complaint::new(path, "the first line must say what the file holds"));
    }
    if path.ends_with("/utils.rs") || path.ends_with("/helpers.rs") {
        complaints.push(Complaint::new(path, "a name that says nothing"));
    }
    for (index, line) in text.lines().enumerate() {
        for word in OUTSIDE.iter().filter(|word| line.contains(**word)) {
            complaints.push(Complaint::new(place(path, index), format!("{word} does not exist in a clone")));
        }
    }
    if rust {
        complaints.extend(check_rust(path, text));
    }
    complaints
}

fn check_rust(path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let code = code(line);
        let mut complain = |text: &str| complaints.push(Complaint::new(place(path, index), text));
        let says = |words: &[&str]| words.iter().any(|word| code.contains(word));
        if says(&[
            concat!("un", "safe {"),
            concat!("un", "safe fn"),
            concat!("un", "safe impl"),
            concat!("un", "safe extern"),
            concat!("#[un", "safe("),
        ]) && !path.starts_with(UNSAFE_HOME)
        {
            complain("unsafe has one home: executor/sandbox/src/sys.rs");
        }
        if says(&[concat!("to", "do!("), concat!("unimple", "mented!(")]) {
            complain("a promise instead of code");
        }
        if says(&[concat!("#[ig", "nore]")]) {
            complain("a test that is left out says why");
        }
        if says(&[
            concat!("#[al", "low("),
            concat!("#![al", "low("),
            concat!("#[ex", "pect("),
            concat!("#![ex", "pect("),
        ]) {
            let attribute = attribute_from(text, index);
            if !attribute.contains("reason") {
                complain("a lint is lifted without a reason");
            }
        }
    }
    complaints
}

/// A line without its comment. A `//` inside a string cuts too much, which no rule here minds.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// The attribute that starts on a line, to its closing bracket.
fn attribute_from(text: &str, line: usize) -> String {
    let mut attribute = String::new();
    for line in text.lines().skip(line) {
        attribute.push_str(line);
        if line.contains(")]") {
            break;
        }
    }
    attribute
}

fn place(path: &str, index: usize) -> String {
    format!("{path}:{}", index + 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn complaints_about_text() {
        let check = |path: &str, text: &str, expected: &[&str]| {
            let found: Vec<String> =
                super::check(path, text).into_iter().map(|complaint| complaint.place).collect();
            assert_eq!(found, expected, "{path}: {text}");
        };
        let risky = format!("//! A file.\nfn f() {{ {} {{ g() }} }}\n", concat!("un", "safe"));
        check("a/b.rs", "//! A file.\nfn f() {}\n", &[]);
        check("a/b.rs", "fn f() {}\n", &["a/b.rs"]);
        check("a/b.rs", &risky, &["a/b.rs:2"]);
        check("executor/sandbox/src/sys.rs", &risky, &[]);
        check("executor/sandbox/src/sys/mount.rs", &risky, &[]);
        check("a/b.rs", "//! A file.\n// unsafe { in a comment }\n", &[]);
        check("a/b.rs", &format!("//! A file.\n#[{}(dead_code)]\nfn f() {{}}\n", "allow"), &["a/b.rs:2"]);
        check(
            "a/b.rs",
            &format!("//! A file.\n#[{}(\n    dead_code,\n    reason = \"r\"\n)]\n", "expect"),
            &[],
        );
        check("a/b.rs", &format!("//! A file.\n#[{}]\nfn f() {{}}\n", "ignore"), &["a/b.rs:2"]);
        check("a/b.rs", &format!("//! A file.\n{}", "\n".repeat(500)), &["a/b.rs"]);
        check("a/b.sh", "echo\n", &["a/b.sh"]);
        check("a/b.sh", "# Says a line.\necho\n", &[]);
        check("a/utils.rs", "//! A file.\n", &["a/utils.rs"]);
        check("notes.txt", &format!("see {}\n", concat!("..", "/shared/x")), &["notes.txt:1"]);
    }
}
