//! A program with all that it needs to run elsewhere: its loader and its shared libraries, at their own paths.
//!
//! The very binary that runs the lab goes into the machines, so there is no second build and no doubt which one is
//! tried. The loader itself is asked for the libraries, for it alone knows where it looks.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadRef};

/// The files beside `program` that it needs; none if it is linked statically.
pub(super) fn needs(program: &Path) -> io::Result<Vec<PathBuf>> {
    let bytes = std::fs::read(program)?;
    let invalid = |e: object::Error| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {e}", program.display()),
        )
    };
    let Some(loader) = loader_of(bytes.as_slice()).map_err(invalid)? else {
        return Ok(Vec::new());
    };
    let output = Command::new(&loader)
        .arg("--list")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| io::Error::other(format!("{}: {e}", loader.display())))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!(
            "{} --list: {}",
            loader.display(),
            said.trim()
        )));
    }
    let mut needs = libraries(&listed).map_err(io::Error::other)?;
    needs.push(loader);
    needs.sort();
    needs.dedup();
    Ok(needs)
}

/// The interpreter that an ELF file asks for.
fn loader_of<'d>(bytes: impl ReadRef<'d>) -> Result<Option<PathBuf>, object::Error> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, bytes)? {
        if let Some(path) = segment.interpreter(endian, bytes)? {
            return Ok(Some(PathBuf::from(
                String::from_utf8_lossy(path).into_owned(),
            )));
        }
    }
    Ok(None)
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f..)`; what the kernel brings has no path.
fn libraries(listed: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in listed.lines() {
        let Some((name, place)) = line.trim().split_once(" => ") else {
            continue;
        };
        match place.split_whitespace().next() {
            Some(path) if path.starts_with('/') => found.push(PathBuf::from(path)),
            _ => return Err(format!("the library {name} is not found")),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_s_list_is_read() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffc)\n\
                      \tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f01)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        let found = libraries(listed).unwrap();
        assert_eq!(found, [PathBuf::from("/lib/x86_64-linux-gnu/libm.so.6")]);
        let missing = libraries("\tlibx.so => not found\n").unwrap_err();
        assert!(missing.contains("libx.so"), "{missing}");
    }

    #[test]
    fn this_very_program_is_found_with_its_libraries() {
        let own = std::env::current_exe().unwrap();
        for need in needs(&own).unwrap() {
            assert!(need.is_file(), "{}", need.display());
        }
    }
}
