//! The words for what happens, as Nix 2.34 puts them where it has words. Pure.
use crate::event::{Finished, TaskChange, TaskState, Waiting};
use crate::submit::Admitted;
use model::{FailureClass, StorePath};

/// Lines of a failed build's log that are shown, as Nix does.
const LOG_LINES_SHOWN: usize = 25;
/// In place of log lines that the coordinator no longer had.
pub const LOG_MISSED: &str =
    "elsewhere: a part of the log is missing here: it came faster than the link to the cluster carried it";

/// An error as Nix prints it: what follows the first line is indented to stand below it.
pub fn error(message: &str) -> String {
    let mut text = String::from("error: ");
    for (index, line) in message.trim_end().lines().enumerate() {
        if index > 0 {
            text.push('\n');
            if !line.is_empty() {
                text.push_str("       ");
            }
        }
        text.push_str(line);
    }
    text
}

/// A message as a program that Nix starts says it, so that it reaches Nix's user and not the log of nix-daemon.
pub fn for_nix(message: &str) -> String {
    let message = serde_json::json!({ "action": "msg", "level": 0, "msg": format!("elsewhere: {message}") });
    format!("@nix {message}")
}

/// Columns from one tab stop to the next.
const TAB_COLUMNS: usize = 8;

/// Text from elsewhere without what could steer a terminal: control characters and colours stay out. Tabs become spaces, as
/// Nix shows them: what precedes a line would move their stops.
fn harmless(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut column = 0;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                while rest.next_if(|parameter| (' '..='?').contains(parameter)).is_some() {}
                rest.next_if(|last| ('@'..='~').contains(last));
            } else if rest.next_if_eq(&']').is_some() {
                // A title or a link, up to a bell or to `ESC \`, whose second half is dropped here.
                while rest.next_if(|inside| !matches!(inside, '\u{7}' | '\u{1b}' | '\n')).is_some() {}
                if rest.next_if_eq(&'\u{1b}').is_some() {
                    rest.next_if_eq(&'\\');
                }
            }
        } else if character == '\t' {
            let spaces = TAB_COLUMNS - column % TAB_COLUMNS;
            plain.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else if !character.is_control() || character == '\n' {
            plain.push(character);
            column = if character == '\n' { 0 } else { column + 1 };
        }
    }
    plain
}

/// A log in which a carriage return begins its line anew, as in Nix. Where it ends the line it means nothing (Nix 2.34 loses
/// such lines, its successors do not).
fn overwritten(log: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(log.len());
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let (line, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |line| (line, b"\n"));
        let last = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let kept = line[..last].rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
        text.extend_from_slice(kept);
        text.extend_from_slice(end);
    }
    text
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    let (mut whole, mut tenths, mut unit) = (bytes, 0, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if whole < 1024 {
            break;
        }
        (tenths, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, next);
    }
    if unit == "B" { format!("{whole} B") } else { format!("{whole}.{tenths} {unit}") }
}

fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Milliseconds for people.
pub fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    if seconds < 60 {
        format!("{seconds}.{} s", milliseconds % 1000 / 100)
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// The plan belongs to the cluster.
pub fn admitted(admitted: &Admitted) -> String {
    format!(
        "plan {}: {}, {} to build, {} there already",
        admitted.plan,
        count(usize::try_from(admitted.tasks_total).unwrap_or(usize::MAX), "derivation", "derivations"),
        admitted.tasks_to_build,
        admitted.tasks_held,
    )
}

/// So much comes down.
pub fn import(paths: usize, bytes: u64) -> String {
    format!("fetching {} ({}) from the cluster", count(paths, "path", "paths"), size(bytes))
}

/// A requirement that nobody meets, or somebody again.
pub fn waiting(waiting: &Waiting) -> String {
    let requirement = harmless(&waiting.requirement);
    match waiting.tasks_total {
        0 => format!("an executor offers {requirement} again"),
        total => {
            let tasks =
                count(usize::try_from(total).unwrap_or(usize::MAX), "derivation waits", "derivations wait");
            match waiting.full_executors.as_slice() {
                [] => format!("{tasks}: no executor of the cluster offers {requirement}"),
                full => {
                    let names = harmless(&full.join(", "));
                    format!("{tasks} for {requirement}: no room on the disk of {names}")
                }
            }
        }
    }
}

/// The plan ended.
pub fn finished(finished: &Finished) -> String {
    let Finished { tasks_built, tasks_held, tasks_failed, tasks_dependency_failed, duration_ms, .. } =
        finished;
    let end = if finished.cancelled { "cancelled" } else { "finished" };
    let at_best = match finished.bound_ms {
        0 => String::new(),
        bound_ms => format!(" (at best {})", duration(bound_ms)),
    };
    let mut text = format!(
        "plan {end} after {}{at_best}: {tasks_built} built, {tasks_held} there already",
        duration(*duration_ms)
    );
    if *tasks_failed > 0 {
        text.push_str(&format!(", {tasks_failed} failed"));
    }
    if *tasks_dependency_failed > 0 {
        text.push_str(&format!(", {tasks_dependency_failed} not tried because of those"));
    }
    text
}

/// Beginning and end of a build.
pub fn task(task: &TaskChange) -> Option<String> {
    let TaskChange { derivation, executor, attempt, .. } = task;
    let place = match &task.platform {
        Some(platform) => format!("{} ({platform})", harmless(executor)),
        None => harmless(executor),
    };
    match task.state {
        TaskState::Running if !task.phase.is_empty() => None,
        TaskState::Running if *attempt > 1 => {
            Some(format!("building '{derivation}' on {place}, attempt {attempt}..."))
        }
        TaskState::Running => Some(format!("building '{derivation}' on {place}...")),
        TaskState::Done if !task.was_held => {
            Some(format!("built '{derivation}' in {}", duration(task.duration_ms)))
        }
        _ => None,
    }
}

/// A failed build as Nix reports it: the message, and the end of the log.
pub fn failure(task: &TaskChange, with_log: bool) -> Option<String> {
    failure_message(task, with_log).map(|message| error(&message))
}

/// The same without the word and the form of an error.
pub fn failure_message(task: &TaskChange, with_log: bool) -> Option<String> {
    let TaskChange { derivation, state: TaskState::Failed, failure: Some(failure), .. } = task else {
        return None;
    };
    let mut message = harmless(&failure.message);
    if !message.contains(derivation.as_str()) {
        // Nix names no derivation for a time limit; in a plan of many that would not help.
        message = format!("{message}\nwhile building '{derivation}'");
    }
    let shows_log = matches!(
        failure.class,
        FailureClass::BuildFailed
            | FailureClass::TimedOut
            | FailureClass::LogLimitExceeded
            | FailureClass::OutOfMemory
    );
    let log = harmless(&String::from_utf8_lossy(&overwritten(task.log_tail.as_bytes())));
    if with_log && shows_log && !log.trim().is_empty() {
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        message.push_str(&format!("\nLast {}:", count(shown.len(), "log line", "log lines")));
        for line in shown {
            message.push_str("\n> ");
            message.push_str(line);
        }
    }
    Some(message)
}

/// A derivation that was not tried, as Nix reports it.
pub fn dependency_failed(derivation: &StorePath, failed: usize, outputs: &[StorePath]) -> String {
    let dependencies = count(failed.max(1), "dependency", "dependencies");
    let mut message = format!("Cannot build '{derivation}'.\nReason: {dependencies} failed.");
    if !outputs.is_empty() {
        message.push_str("\nOutput paths:");
        outputs.iter().for_each(|path| message.push_str(&format!("\n  {path}")));
    }
    error(&message)
}

/// Lines of a build log, each with the name of its build.
pub fn log_lines(derivation: &StorePath, log: &[u8]) -> Vec<String> {
    let name = name(derivation);
    harmless(&String::from_utf8_lossy(&overwritten(log)))
        .lines()
        .map(|line| format!("{name}> {line}"))
        .collect()
}

/// What a derivation is called: without directory, hash and suffix.
pub fn name(derivation: &StorePath) -> &str {
    let base_name = derivation.as_str().rsplit('/').next().unwrap_or_default();
    let name = base_name.split_once('-').map_or(base_name, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::{harmless, overwritten};

    #[test]
    fn tabs_become_spaces_up_to_their_stops_and_nothing_steers_a_terminal() {
        for (text, expected) in [
            ("a\tb", "a       b"),
            ("12345678\tb", "12345678        b"),
            ("\u{e9}\tb\n\tc", "\u{e9}       b\n        c"),
            ("\u{1b}[31mred\u{1b}[0m\tb\r\u{7}", "red     b"),
            ("a\u{1b}[\nb\u{1b}[3\nc\u{1b}[3é\u{1b}", "a\nb\ncé"),
            ("a\u{1b}]0;title\u{7}b\u{1b}]8;;x\u{1b}\\c\u{1b}]cut\nd", "abc\nd"),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }

    #[test]
    fn carriage_returns_begin_their_line_anew() {
        for (log, expected) in [
            ("one\rtwo\r\nthree\r\r\nlonger\rx\n\rfour\n", "two\nthree\nx\nfour\n"),
            ("10%\r50%\r100%\ndone", "100%\ndone"),
            ("\r\n\r", "\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&overwritten(log.as_bytes())), expected, "{log:?}");
        }
    }
}
