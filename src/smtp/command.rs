//! Commands and their arguments (RFC 5321 §4.1.1).

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// QUIT.
    Quit,
}

/// What is wrong with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandFault {
    /// No such command.
    Unknown,
}
