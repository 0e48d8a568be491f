//! A failed build as its user sees it, from what Nix or the client wrote: exit code, message and log, paths masked. Pure.

/// How a command about one derivation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Of the command.
    pub exit_code: i32,
    /// What it says went wrong.
    pub message: String,
    /// What the builders wrote.
    pub log: String,
}

/// What Nix says about a control line of a build that it does not understand.
const NOT_UNDERSTOOD: &[&str] = &[
    "warning: Unable to handle a JSON message from the derivation builder: ",
    "bad JSON log message from the derivation builder: ",
];

/// What `nix-store --realise` wrote: plain log lines, then messages.
pub fn of_nix(exit_code: i32, text: &str) -> Failure {
    let (mut message, mut log) = (Vec::new(), Vec::new());
    let (mut in_message, mut in_list) = (false, false);
    for line in text.lines().map(plain) {
        let announces =
            line.ends_with(" derivation will be built:") || line.ends_with(" derivations will be built:");
        if announces || in_list && line.starts_with("  /nix/store/") {
            in_list = true;
        } else if line.starts_with("building '/nix/store/") {
            (in_message, in_list) = (false, false);
        } else if NOT_UNDERSTOOD.iter().any(|words| line.starts_with(words)) {
            // About a control line, which it shows as well.
        } else if line.starts_with("error: executing '") {
            // The build's own process says this, in its log.
            log.push(line);
        } else if let Some(inner) = line.strip_prefix("       error: ").filter(|_| in_message) {
            // What precedes it says where Nix was when it happened.
            message = vec![format!("error: {inner}")];
        } else if line.starts_with("error:") || in_message && continues(&line) {
            (in_message, in_list) = (true, false);
            message.push(line);
        } else {
            (in_message, in_list) = (false, false);
            log.push(line);
        }
    }
    log.extend(last_words(&mut message));
    Failure { exit_code, message: joined(&message), log: joined(&log) }
}

/// A builtin's last words are in its log, but Nix shows them like a message of its own, before the build's.
fn last_words(message: &mut Vec<String>) -> Vec<String> {
    // The second form is that of Nix before 2.29.
    let of_build = message.iter().position(|line| {
        line.starts_with("error: Cannot build '") || line.starts_with("error: builder for '")
    });
    let is_exit = |at: usize| {
        message.iter().skip(at).take(2).any(|line| line.contains("builder failed with exit code"))
            || message[at].contains("' failed with exit code")
    };
    let count = of_build.filter(|at| is_exit(*at)).unwrap_or(0);
    let unindented = |line: String| line.strip_prefix("       ").map(str::to_owned).unwrap_or(line);
    message.drain(..count).map(unindented).collect()
}

/// What `elsewhere build --log` wrote: log lines with the name of their build, messages, and lines about the cluster.
pub fn of_client(exit_code: i32, text: &str) -> Failure {
    let (mut message, mut log) = (Vec::new(), Vec::new());
    let mut in_message = false;
    for line in text.lines().map(plain) {
        if line.starts_with("       while building '/nix/store/") {
            // Added where Nix names no derivation: in a plan of many that would not help.
            continue;
        }
        if line.starts_with("error:") || in_message && continues(&line) {
            in_message = true;
            message.push(line);
            continue;
        }
        in_message = false;
        if let Some((name, written)) = line.split_once('>')
            && !name.contains(' ')
        {
            log.push(written.strip_prefix(' ').unwrap_or(written).to_owned());
        }
    }
    Failure { exit_code, message: joined(&message), log: joined(&log) }
}

/// Words that every version of Nix has for one kind of failure, and what the kind is called here.
const CLASSES: &[(&str, &str)] = &[
    ("failed to produce output path", "an output is missing"),
    ("suspicious ownership or permission", "suspicious ownership or permission"),
    ("invalid ownership on file", "invalid ownership"),
    ("has an unsupported type", "unsupported type"),
    ("cycle detected in build", "cycle"),
    ("hash mismatch in fixed-output derivation", "hash mismatch"),
    ("should be a non-executable regular file", "a flat output is no plain file"),
    ("must not reference store paths", "a fixed output refers to something"),
    ("not allowed to refer to other store paths", "a fixed output refers to something"),
    ("is not allowed to refer to the following paths", "reference that is not allowed"),
    ("is too large at", "too large"),
    ("illegal reference specifier", "specifier"),
    ("not a valid output of this derivation", "specifier"),
    ("odd number of tokens", "odd number of tokens"),
    ("invalid file name '", "invalid file name"),
    ("cannot export references of path", "graph of what is no input"),
    ("missing system features", "requirement"),
    ("platform mismatch", "requirement"),
    ("is required to build", "requirement"),
    ("unsupported builtin builder", "unknown builtin"),
    ("'__noChroot'", "__noChroot"),
    ("maximum NAR directory depth", "too deep"),
    ("dependencies of derivation", "dependency failed"),
    ("dependencies failed.", "dependency failed"),
    ("dependency failed.", "dependency failed"),
];

/// The kind of a failure, the same for every version of Nix; its first line where the kind is not known.
pub fn class(message: &str) -> String {
    for words in ["failed with exit code ", "failed due to signal "] {
        if let Some((_, rest)) = message.split_once(words) {
            let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return format!("{words}{number}");
        }
    }
    let known = CLASSES.iter().find(|(words, _)| message.contains(words)).map(|(_, class)| *class);
    known.or_else(|| message.lines().next()).unwrap_or_default().to_owned()
}

fn continues(line: &str) -> bool {
    line.is_empty() || line.starts_with(' ')
}

fn joined(lines: &[String]) -> String {
    lines.join("\n").trim_end().to_owned()
}

/// A line without its end and without where a build's root was: that is the host's business.
fn plain(line: &str) -> String {
    let quoted = |part: &str| {
        let elsewhere = part.contains(".drv.chroot/root/") || part.starts_with("/var/lib/elsewhere/");
        let inside = part.rfind("/nix/store/").filter(|_| elsewhere && part.starts_with('/'));
        inside.map_or(part, |at| &part[at..]).to_owned()
    };
    let double: Vec<String> = line.trim_end().split('"').map(quoted).collect();
    let single: Vec<String> = double.join("\"").split('\'').map(quoted).collect();
    single.join("'")
}

#[cfg(test)]
mod tests {
    use super::{Failure, of_client, of_nix};

    #[test]
    fn both_tell_the_same_story() {
        let nix = "this derivation will be built:\n  /nix/store/x-a.drv\nbuilding '/nix/store/x-a.drv'...\nfirst\n \
                   second\nerror: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed.\n";
        let client = "plan 1: 1 derivation\nbuilding '/nix/store/x-a.drv' on one (native)...\na> first\na>  second\n\
                      error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed.\nplan finished\n";
        let message = "error: Cannot build '/nix/store/x-a.drv'.\n       Reason: builder failed.";
        let expected = Failure { exit_code: 100, message: message.into(), log: "first\n second".into() };
        assert_eq!(of_nix(100, nix), expected);
        assert_eq!(of_client(100, client), expected);
    }

    #[test]
    fn only_the_way_to_a_build_is_masked() {
        let check = |line: &str, expected: &str| assert_eq!(super::plain(line), expected);
        check("file \"/nix/store/x-a.drv.chroot/root/nix/store/y-a/f\" odd", "file \"/nix/store/y-a/f\" odd");
        check("path '/var/lib/elsewhere/builds/1/nix/store/y-a'", "path '/nix/store/y-a'");
        check("path '//nix/store/x-a.drv.chroot/root/nix/store/y-a' it's", "path '/nix/store/y-a' it's");
        check("path '/nix/store/y-a'  ", "path '/nix/store/y-a'");
    }
}
