//! A disk, its files and directories: what of them is synced, and what is not yet.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use fastrand::Rng;

use crate::Result;

const BLOCK: u64 = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A change of the files below the disk's root. Paths are relative to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// An empty file, unless there is one.
    Create(String),
    MakeDirectory(String),
    Write {
        path: String,
        at: u64,
        bytes: Vec<u8>,
    },
    SetLength(String, u64),
    Rename(String, String),
    Remove(String),
    /// Of a file its bytes and its length, of a directory its entries.
    Sync(String),
}

/// What of that which was not synced survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    /// Nothing.
    Least,
    /// Everything.
    All,
    /// Of each file any of its writes, whole or cut off at a sector; of each directory its first changes. Drawn from
    /// this seed.
    Some(u64),
}

/// Bytes with holes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Bytes {
    length: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Piece {
    Write(u64, Vec<u8>),
    SetLength(u64),
}

#[derive(Debug, Clone)]
enum Entry {
    Link(String, usize),
    Unlink(String),
    Move(String, String, usize),
}

#[derive(Debug, Clone)]
enum Node {
    File { synced: Bytes, pending: Vec<Piece> },
    Directory { now: BTreeMap<String, usize>, synced: BTreeMap<String, usize>, pending: Vec<Entry> },
}

/// The disk. The node 0 is its root, which is there from the beginning.
#[derive(Debug, Clone)]
pub(crate) struct Model {
    nodes: Vec<Node>,
}

impl Bytes {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.length = self.length.max(at + bytes.len() as u64);
        let (mut at, mut bytes) = (at, bytes);
        while !bytes.is_empty() {
            let offset = usize::try_from(at % BLOCK).unwrap_or(0);
            let step = bytes.len().min(usize::try_from(BLOCK).unwrap_or(0) - offset);
            let block =
                self.blocks.entry(at / BLOCK).or_insert_with(|| vec![0; usize::try_from(BLOCK).unwrap_or(0)]);
            block[offset..offset + step].copy_from_slice(&bytes[..step]);
            (at, bytes) = (at + step as u64, &bytes[step..]);
        }
    }

    fn set_length(&mut self, length: u64) {
        self.length = length;
        self.blocks.retain(|it, _| it * BLOCK < length);
        if let Some(block) = self.blocks.get_mut(&(length / BLOCK)) {
            block[usize::try_from(length % BLOCK).unwrap_or(0)..].fill(0);
        }
    }

    fn apply(&mut self, piece: &Piece) {
        match piece {
            Piece::Write(at, bytes) => self.put(*at, bytes),
            Piece::SetLength(length) => self.set_length(*length),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let mut bytes = Self::default();
        let all = fs::read(path)?;
        for (number, block) in all.chunks(usize::try_from(BLOCK)?).enumerate() {
            if block.iter().any(|it| *it != 0) {
                bytes.put(number as u64 * BLOCK, block);
            }
        }
        bytes.length = all.len() as u64;
        Ok(bytes)
    }

    /// Blocks of zeros are holes.
    fn trimmed(mut self) -> Self {
        self.blocks.retain(|_, it| it.iter().any(|it| *it != 0));
        self
    }

    fn write(&self, path: &Path) -> Result<()> {
        let mut file = File::create(path)?;
        file.set_len(self.length)?;
        for (number, block) in &self.blocks {
            let left = usize::try_from((self.length - number * BLOCK).min(BLOCK))?;
            file.seek(SeekFrom::Start(number * BLOCK))?;
            file.write_all(&block[..left])?;
        }
        Ok(())
    }
}

impl Node {
    fn directory() -> Self {
        Self::Directory { now: BTreeMap::new(), synced: BTreeMap::new(), pending: Vec::new() }
    }
}

impl Model {
    /// A disk on which all that is in this directory is synced.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let mut model = Self { nodes: vec![Node::directory()] };
        model.fill(0, path)?;
        Ok(model)
    }

    fn fill(&mut self, at: usize, path: &Path) -> Result<()> {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = self.nodes.len();
            if entry.file_type()?.is_dir() {
                self.nodes.push(Node::directory());
                self.fill(id, &entry.path())?;
            } else {
                let synced = Bytes::read(&entry.path())?;
                self.nodes.push(Node::File { synced, pending: Vec::new() });
            }
            if let Node::Directory { now, synced, .. } = &mut self.nodes[at] {
                now.insert(name.clone(), id);
                synced.insert(name, id);
            }
        }
        Ok(())
    }

    fn find(&self, path: &str) -> Option<usize> {
        path.split('/').filter(|it| !it.is_empty()).try_fold(0, |at, name| match &self.nodes[at] {
            Node::Directory { now, .. } => now.get(name).copied(),
            Node::File { .. } => None,
        })
    }

    /// The directory that this path is in, and its name there.
    fn parent<'a>(&self, path: &'a str) -> Option<(usize, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.find(parent)?, name))
    }

    fn note(&mut self, directory: usize, entry: Entry) {
        if let Node::Directory { now, pending, .. } = &mut self.nodes[directory] {
            entry.apply(now);
            pending.push(entry);
        }
    }

    fn link(&mut self, path: &str, node: Node) {
        if let Some((parent, name)) = self.parent(path) {
            self.nodes.push(node);
            self.note(parent, Entry::Link(name.to_owned(), self.nodes.len() - 1));
        }
    }

    fn change_file(&mut self, path: &str, piece: Piece) {
        if let Some(Node::File { pending, .. }) = self.find(path).map(|it| &mut self.nodes[it]) {
            pending.push(piece);
        }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path) if self.find(path).is_some() => {}
            Change::Create(path) => {
                let file = Node::File { synced: Bytes::default(), pending: Vec::new() };
                self.link(path, file);
            }
            Change::MakeDirectory(path) => self.link(path, Node::directory()),
            Change::Write { path, at, bytes } => self.change_file(path, Piece::Write(*at, bytes.clone())),
            Change::SetLength(path, length) => self.change_file(path, Piece::SetLength(*length)),
            Change::Rename(from, to) => {
                let (Some(id), Some(old), Some(new)) = (self.find(from), self.parent(from), self.parent(to))
                else {
                    return;
                };
                if old.0 == new.0 {
                    self.note(old.0, Entry::Move(old.1.to_owned(), new.1.to_owned(), id));
                } else {
                    self.note(new.0, Entry::Link(new.1.to_owned(), id));
                    self.note(old.0, Entry::Unlink(old.1.to_owned()));
                }
            }
            Change::Remove(path) => {
                if let Some((parent, name)) = self.parent(path) {
                    self.note(parent, Entry::Unlink(name.to_owned()));
                }
            }
            Change::Sync(path) => {
                let Some(id) = self.find(path) else { return };
                match &mut self.nodes[id] {
                    Node::File { synced, pending, .. } => pending.drain(..).for_each(|it| synced.apply(&it)),
                    Node::Directory { now, synced, pending } => {
                        pending.clear();
                        synced.clone_from(now);
                    }
                }
            }
        }
    }

    /// Every file of an image, and every directory as `None`, by its path.
    fn image(&self, fate: Fate) -> BTreeMap<String, Option<Bytes>> {
        let mut rng = match fate {
            Fate::Some(seed) => Rng::with_seed(seed),
            Fate::Least | Fate::All => Rng::with_seed(0),
        };
        let mut found = BTreeMap::new();
        self.gather(0, "", fate, &mut rng, &mut found);
        found
    }

    fn gather(
        &self,
        at: usize,
        path: &str,
        fate: Fate,
        rng: &mut Rng,
        found: &mut BTreeMap<String, Option<Bytes>>,
    ) {
        match &self.nodes[at] {
            Node::File { synced, pending, .. } => {
                let mut bytes = synced.clone();
                for piece in pending {
                    match (fate, piece) {
                        (Fate::Least, _) => {}
                        (Fate::All, _) => bytes.apply(piece),
                        (Fate::Some(_), Piece::Write(at, all)) => match rng.u32(0..3) {
                            0 => {}
                            1 => bytes.apply(piece),
                            _ => {
                                let kept = rng.usize(0..=all.len()) / SECTOR * SECTOR;
                                bytes.put(*at, &all[..kept]);
                            }
                        },
                        (Fate::Some(_), Piece::SetLength(_)) => {
                            if rng.bool() {
                                bytes.apply(piece);
                            }
                        }
                    }
                }
                found.insert(path.to_owned(), Some(bytes.trimmed()));
            }
            Node::Directory { synced, pending, .. } => {
                let mut entries = synced.clone();
                let kept = match fate {
                    Fate::Least => 0,
                    Fate::All => pending.len(),
                    Fate::Some(_) => rng.usize(0..=pending.len()),
                };
                pending.iter().take(kept).for_each(|it| it.apply(&mut entries));
                if !path.is_empty() {
                    found.insert(path.to_owned(), None);
                }
                for (name, id) in entries {
                    let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                    self.gather(id, &below, fate, rng, found);
                }
            }
        }
    }

    pub(crate) fn digest(&self, fate: Fate) -> blake3::Hash {
        let mut hash = blake3::Hasher::new();
        for (path, bytes) in self.image(fate) {
            hash.update(format!("{path}\n").as_bytes());
            let Some(bytes) = bytes else { continue };
            hash.update(&bytes.length.to_be_bytes());
            for (number, block) in &bytes.blocks {
                hash.update(&number.to_be_bytes()).update(block);
            }
        }
        hash.finalize()
    }

    /// Writes an image into this directory.
    pub(crate) fn write(&self, fate: Fate, to: &Path) -> Result<()> {
        for (path, bytes) in self.image(fate) {
            match bytes {
                Some(bytes) => bytes.write(&to.join(path))?,
                None => fs::create_dir(to.join(path))?,
            }
        }
        Ok(())
    }

    /// Whether this directory is what the model says, so that nothing was missed.
    pub(crate) fn compare(&self, path: &Path) -> Result<()> {
        let (model, real) = (self.image(Fate::All), Self::of(path)?.image(Fate::Least));
        let differs = |it: &&String| model.get(*it) != real.get(*it);
        match model.keys().chain(real.keys()).find(differs) {
            None => Ok(()),
            Some(path) => Err(format!("what was written down is not what is there: {path}").into()),
        }
    }
}

impl Entry {
    fn apply(&self, entries: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, id) => drop(entries.insert(name.clone(), *id)),
            Self::Unlink(name) => drop(entries.remove(name)),
            Self::Move(from, to, id) => {
                entries.remove(from);
                entries.insert(to.clone(), *id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(changes: &[Change]) -> Model {
        let folder = tempfile::tempdir().unwrap();
        let mut model = Model::of(folder.path()).unwrap();
        changes.iter().for_each(|it| model.apply(it));
        model
    }

    fn files(model: &Model, fate: Fate) -> Vec<(String, u64)> {
        let all = model.image(fate).into_iter();
        all.filter_map(|(path, bytes)| Some((path, bytes?.length))).collect()
    }

    #[test]
    fn a_synced_file_is_lost_with_its_entry_until_its_directory_is_synced() {
        let path = || "d/f".to_owned();
        let mut model = after(&[
            Change::MakeDirectory("d".into()),
            Change::Sync(String::new()),
            Change::Create(path()),
            Change::Write { path: path(), at: 0, bytes: vec![1; 9] },
            Change::Sync(path()),
        ]);
        assert_eq!(files(&model, Fate::Least), []);
        assert_eq!(files(&model, Fate::All), [(path(), 9)]);
        model.apply(&Change::Sync("d".into()));
        assert_eq!(files(&model, Fate::Least), [(path(), 9)]);
        model.apply(&Change::Write { path: path(), at: 9, bytes: vec![2; 5000] });
        assert_eq!(files(&model, Fate::Least), [(path(), 9)]);
        assert_eq!(files(&model, Fate::All), [(path(), 5009)]);
        model.apply(&Change::Rename(path(), "d/g".into()));
        assert_eq!(files(&model, Fate::Least), [(path(), 9)]);
        assert_eq!(files(&model, Fate::All), [("d/g".into(), 5009)]);
    }

    #[test]
    fn an_image_on_the_disk_is_what_the_model_says() {
        let model = after(&[
            Change::MakeDirectory("d".into()),
            Change::Create("d/f".into()),
            Change::SetLength("d/f".into(), 1 << 20),
            Change::Write { path: "d/f".into(), at: 4090, bytes: (0..40).collect() },
        ]);
        let folder = tempfile::tempdir().unwrap();
        model.write(Fate::All, folder.path()).unwrap();
        model.compare(folder.path()).unwrap();
        fs::write(folder.path().join("d/g"), "").unwrap();
        assert!(model.compare(folder.path()).is_err());
    }
}
