//! Texts for the shell, for `restore_command`, and for a configuration file.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

const OPTION: &str = "restore_command";
/// The program that PostgreSQL calls for each file of WAL.
const PROGRAM: &str = "highwater-restore-cmd";

/// The command by which the restored server fetches WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreCommand {
    program: String,
    arguments: Vec<String>,
}

impl RestoreCommand {
    /// A program by its full path, with the arguments that stand before `%f %p`.
    ///
    /// # Errors
    /// [`Error::Option`] where the path is relative, or something is not text or holds what no line of a configuration
    /// file can hold.
    pub fn new<P: AsRef<Path>>(
        program: impl AsRef<Path>,
        arguments: impl IntoIterator<Item = P>,
    ) -> Result<RestoreCommand> {
        let program = program.as_ref();
        if !program.is_absolute() {
            return Err(unfit(program, "is not a full path", "name the program by its full path"));
        }
        let arguments =
            arguments.into_iter().map(|argument| text(argument.as_ref())).collect::<Result<_>>()?;
        Ok(RestoreCommand { program: text(program)?, arguments })
    }

    /// `highwater-restore-cmd` in the folder of the program that runs now.
    ///
    /// # Errors
    /// [`Error::Option`] where it is not there.
    pub fn beside_this_program<P: AsRef<Path>>(
        arguments: impl IntoIterator<Item = P>,
    ) -> Result<RestoreCommand> {
        let own = std::env::current_exe().map_err(Error::file("find", PROGRAM))?;
        let program = own.with_file_name(PROGRAM);
        if !program.is_file() {
            return Err(unfit(
                &program,
                "is not there",
                "install it beside highwater: the restored server needs it",
            ));
        }
        RestoreCommand::new(program, arguments)
    }

    /// The program.
    pub fn program(&self) -> PathBuf {
        PathBuf::from(&self.program)
    }

    /// The setting's value, with `more` arguments. PostgreSQL replaces `%f` and `%p` and makes `%%` one `%` (`BuildRestoreCommand`), then hands
    /// it to a shell. Both replacements are plain names.
    pub(crate) fn text(&self, more: &[String]) -> String {
        let words = std::iter::once(&self.program).chain(&self.arguments).chain(more);
        let words: Vec<String> = words.map(|word| shell_word(word).replace('%', "%%")).collect();
        format!("{} %f %p", words.join(" "))
    }
}

fn unfit(path: &Path, reason: &str, hint: &str) -> Error {
    Error::Option { option: OPTION, reason: format!("{} {reason}", path.display()), hint: hint.to_owned() }
}

fn text(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains(['\n', '\r', '\0']) => Ok(text.to_owned()),
        _ => Err(unfit(
            path,
            "cannot stand in a configuration file",
            "use a path without line feeds, in UTF-8",
        )),
    }
}

/// A word for the shell: as it is where nothing in it has a meaning, else in single quotes.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A value for a configuration file: in single quotes, with quotes and backslashes doubled, as `ALTER SYSTEM` writes it
/// (`escape_single_quotes_ascii`).
pub(super) fn conf_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_are_quoted_for_the_shell_and_for_postgresql() {
        let table = [
            (
                &["/bin/cmd", "--config", "/etc/highwater.toml"][..],
                "/bin/cmd --config /etc/highwater.toml %f %p",
            ),
            (&["/my programs/cmd"], "'/my programs/cmd' %f %p"),
            (&["/bin/cmd", "100%", "it's"], r"/bin/cmd '100%%' 'it'\''s' %f %p"),
            (&["/bin/cmd", ""], "/bin/cmd '' %f %p"),
        ];
        for (words, text) in table {
            assert_eq!(RestoreCommand::new(words[0], &words[1..]).unwrap().text(&[]), text);
        }
        assert_eq!(conf_value(r"a'b\c"), r"'a''b\\c'");
    }

    #[test]
    fn what_cannot_stand_in_a_configuration_file_is_refused() {
        let none: [&str; 0] = [];
        for program in ["cmd", "./cmd", "/a\nb", ""] {
            assert!(RestoreCommand::new(program, none).is_err(), "{program:?}");
        }
        assert!(RestoreCommand::new("/cmd", ["a\rb"]).is_err());
        let beside = RestoreCommand::beside_this_program(none).unwrap_err().to_string();
        assert!(beside.contains("hint: install it"), "{beside}");
    }

    /// As `BuildRestoreCommand` does it.
    fn replaced(command: &str) -> String {
        command.replace("%%", "\0").replace("%f", "FILE").replace("%p", "PATH").replace('\0', "%")
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn the_shell_sees_each_word_as_it_was(words in prop::collection::vec("[ -~ä]{0,8}", 0..4)) {
            let command = RestoreCommand::new("/bin/echo", &words).unwrap().text(&[]);
            let shown = replaced(&command).replacen("/bin/echo", "printf '%s\\n'", 1);
            let output = Command::new("sh").args(["-c", &shown]).output().unwrap();
            let mut expected = words.join("\n");
            expected += if words.is_empty() { "FILE\nPATH\n" } else { "\nFILE\nPATH\n" };
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        }
    }
}
