//! A page of tables that is printed as it grows, and in the end also written down.

use std::path::Path;
use std::{fs, io};

/// What a command has measured so far, as Markdown.
#[derive(Debug)]
pub struct Page(String);

impl Page {
    /// A page that begins like this, and prints it.
    pub fn begin(head: String) -> Self {
        print!("{head}");
        Self(head)
    }

    /// Adds a part, and prints it.
    pub fn add(&mut self, part: &str) {
        print!("{part}");
        self.0.push_str(part);
    }

    /// Writes the whole page into `file`, where there is one, and makes its folder if need be.
    ///
    /// # Errors
    /// When that cannot be done; the page was printed all the same.
    pub fn end(self, file: Option<&Path>) -> io::Result<()> {
        let Some(file) = file else { return Ok(()) };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, self.0)
    }
}
