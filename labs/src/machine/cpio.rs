//! An archive as the kernel unpacks it at boot: cpio in the `newc` format
//! (Documentation/driver-api/early-userspace/buffer-format.rst). Owns the format; never reads one.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Component, Path};

/// File types of an entry's mode (inode(7)).
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
/// Headers, names and contents begin at multiples of this.
const ALIGN: usize = 4;

/// Writes entries one after the other; folders above an entry are made as they are needed.
pub(super) struct Archive<W: Write> {
    to: W,
    entries: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Archive<W> {
        Archive {
            to,
            entries: 0,
            folders: BTreeSet::new(),
        }
    }

    /// A folder with these permissions, and those above it.
    pub(super) fn folder(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.above(path)?;
        let name = inside(path);
        if self.folders.insert(name.clone()) {
            self.entry(&name, FOLDER | mode, &[])?;
        }
        Ok(())
    }

    /// A file with these permissions.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(&inside(path), FILE | mode, bytes)
    }

    /// A symbolic link, unless something of that name is there.
    pub(super) fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.above(path)?;
        let name = inside(path);
        if self.folders.insert(name.clone()) {
            self.entry(&name, LINK | 0o777, target.as_bytes())?;
        }
        Ok(())
    }

    /// The closing entry; what it was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn above(&mut self, path: &str) -> io::Result<()> {
        let mut above = String::new();
        let mut parts: Vec<&str> = parts(path).collect();
        parts.pop();
        for part in parts {
            above = if above.is_empty() {
                part.to_owned()
            } else {
                format!("{above}/{part}")
            };
            if self.folders.insert(above.clone()) {
                self.entry(&above, FOLDER | 0o755, &[])?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let size = u32::try_from(bytes.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is too large"))
        })?;
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // inode, mode, user, group, links, time, size, device twice, node's device twice, name, checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.to.write_all(header.as_bytes())?;
        self.to.write_all(name.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.to.write_all(bytes)?;
        self.pad(bytes.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.to
            .write_all(&[0; ALIGN][..written.next_multiple_of(ALIGN) - written])
    }
}

/// A path as an archive names it: without the leading slash.
fn inside(path: &str) -> String {
    parts(path).collect::<Vec<_>>().join("/")
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    Path::new(path)
        .components()
        .filter_map(|component| match component {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_what_the_format_says() {
        let mut archive = Archive::new(Vec::new());
        archive.folder("/dev", 0o755).unwrap();
        archive.file("/bin/weft", 0o755, b"hello").unwrap();
        archive.link("/lib", "usr/lib").unwrap();
        archive.link("/lib", "usr/lib").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % ALIGN, 0);
        let text = String::from_utf8_lossy(&bytes);
        let heads = text.matches("070701").count();
        // dev, bin, bin/weft, lib, the closing one.
        assert_eq!(heads, 5);
        let weft = text.find("bin/weft\0").unwrap();
        // 110 bytes of header and 9 of name, to the next multiple of 4.
        assert_eq!(&text[weft - 110..weft - 110 + 6], "070701");
        assert_eq!(&text[weft - 110 + 14..weft - 110 + 22], "000081ed");
        assert_eq!(&text[weft - 110 + 54..weft - 110 + 62], "00000005");
        assert_eq!(&text[weft + 10..weft + 15], "hello");
    }
}
