//! What the daemon says between a request and its result (the stderr loop).
use crate::wire::{Cursor, Fault, malformed};

pub(crate) const NEXT: u64 = 0x6f6c_6d67;
pub(crate) const LAST: u64 = 0x616c_7473;
pub(crate) const ERROR: u64 = 0x6378_7470;
pub(crate) const START: u64 = 0x5354_5254;
pub(crate) const STOP: u64 = 0x5354_4f50;
pub(crate) const RESULT: u64 = 0x5253_4c54;

/// Traces of one error, and fields of one activity, at most.
const PARTS_MAX: usize = 10_000;

/// One message of the daemon.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Text for people.
    Log(String),
    /// Progress, of no interest here.
    Activity,
    /// The operation succeeded; its result follows.
    Last,
    /// The operation failed; no result follows.
    Error(String),
}

/// Decodes one message (the form of 1.26 and later).
pub(crate) fn message(cursor: &mut Cursor<'_>) -> Result<Message, Fault> {
    match cursor.number()? {
        NEXT => Ok(Message::Log(cursor.message("log text")?)),
        LAST => Ok(Message::Last),
        ERROR => error(cursor).map(Message::Error),
        START => {
            for _identifier_level_type in 0..3 {
                cursor.number()?;
            }
            cursor.message("activity")?;
            fields(cursor)?;
            cursor.number()?;
            Ok(Message::Activity)
        }
        STOP => cursor.number().map(|_| Message::Activity),
        RESULT => {
            cursor.number()?;
            cursor.number()?;
            fields(cursor)?;
            Ok(Message::Activity)
        }
        code => malformed(format!("{code:#x} is not the code of a message")),
    }
}

fn error(cursor: &mut Cursor<'_>) -> Result<String, Fault> {
    cursor.word("kind of error")?;
    cursor.number()?;
    cursor.word("name of error")?;
    let message = cursor.message("error")?;
    cursor.number()?;
    for _trace in 0..cursor.length("traces", PARTS_MAX)? {
        cursor.number()?;
        cursor.message("trace")?;
    }
    Ok(message)
}

fn fields(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    for _field in 0..cursor.length("fields", PARTS_MAX)? {
        match cursor.number()? {
            0 => {
                cursor.number()?;
            }
            1 => {
                cursor.message("field")?;
            }
            kind => return malformed(format!("{kind} is not the kind of a field")),
        }
    }
    Ok(())
}
