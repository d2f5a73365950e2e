//! The project's documents, from which journeys take the commands that they run.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{Output, Site};

/// A page of `docs/`.
pub struct Document(String);

impl Document {
    pub fn open(name: &str) -> Document {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
        Document(fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The text below the heading that begins so, up to the next heading of any kind.
    fn section(&self, heading: &str) -> &str {
        let is_meant = |section: &&str| section.trim_start_matches('#').trim_start().starts_with(heading);
        let section = self.0.split("\n#").find(is_meant);
        section.unwrap_or_else(|| panic!("no section {heading}"))
    }

    /// The commands in a section's blocks, in their order.
    pub fn commands(&self, heading: &str) -> Vec<String> {
        let lines = self.blocks(heading, "sh");
        let lines = lines.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// The text of a section's blocks of one kind.
    pub fn blocks(&self, heading: &str, kind: &str) -> String {
        let fence = format!("```{kind}\n");
        let blocks = self.section(heading).split(fence.as_str()).skip(1);
        blocks.map(|block| block.split("```").next().unwrap_or_default()).collect()
    }

    /// Whether a section has this command within a sentence.
    pub fn mentions(&self, heading: &str, command: &str) -> bool {
        self.section(heading).contains(&format!("`{command}`"))
    }
}

/// Commands of a document, run with a site's own names, times and numbers in the place of the examples.
pub struct Story {
    pub site: Site,
    /// An example in the document, and what this run says instead.
    pub instead: Vec<(&'static str, String)>,
}

impl Story {
    /// Runs a command, which has to succeed.
    pub fn run(&self, command: &str) -> Output {
        let mut words = words(command);
        for word in &mut words {
            for (example, ours) in &self.instead {
                if word == example {
                    word.clone_from(ours);
                }
            }
        }
        assert_eq!(words.remove(0), "highwater", "{command}");
        self.site.highwater(&words).run().succeeds()
    }

    /// Runs several in their order, and answers how many there were.
    pub fn run_all(&self, commands: &[String]) -> usize {
        for command in commands {
            self.run(command);
        }
        commands.len()
    }
}

/// A command's words, as a shell takes them apart.
pub fn words(command: &str) -> Vec<String> {
    let parts = command.split('\'').enumerate();
    let words = parts.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}
