//! The part of the NBD protocol that QEMU speaks to a plain disk: fixed newstyle handshake, simple replies.
//! Source: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>.
//!
//! Owns: bytes on the connection and the bounds of what a client may ask. Never: what a disk does.

use std::io::{self, Read, Write};

use super::volatile::{Disk, Image, SECTOR};

const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const SIMPLE_REPLY: u32 = 0x6744_6698;

/// Of the handshake: fixed newstyle, no zeroes after the old option.
const HANDSHAKE_FLAGS: u16 = 0b11;
/// Of the export: flags are here, flush, forced unit access.
const EXPORT_FLAGS: u16 = 0b1101;

const OPT_EXPORT_NAME: u32 = 1;
const OPT_ABORT: u32 = 2;
const OPT_INFO: u32 = 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUP: u32 = (1 << 31) + 1;
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
/// Forced unit access: the write is safe when it is answered.
const FLAG_FUA: u16 = 1;

const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// Most bytes of one read or write: QEMU's own bound.
const PAYLOAD_MAX: u32 = 32 << 20;
/// Most bytes of an option: a name and a few numbers.
const OPTION_MAX: u32 = 8192;

/// Agrees on the export; `false`: the client left.
pub(super) fn handshake(stream: &mut (impl Read + Write), size: u64) -> io::Result<bool> {
    stream.write_all(&NBDMAGIC.to_be_bytes())?;
    stream.write_all(&IHAVEOPT.to_be_bytes())?;
    stream.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
    stream.flush()?;
    let client_flags = u32_of(stream)?;
    if client_flags & 1 == 0 {
        return Err(bad("the client does not speak fixed newstyle"));
    }
    let with_zeroes = client_flags & 2 == 0;
    loop {
        if u64_of(stream)? != IHAVEOPT {
            return Err(bad("no option where one is expected"));
        }
        let (option, length) = (u32_of(stream)?, u32_of(stream)?);
        if length > OPTION_MAX {
            return Err(bad("an option is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPT_EXPORT_NAME => {
                stream.write_all(&size.to_be_bytes())?;
                stream.write_all(&EXPORT_FLAGS.to_be_bytes())?;
                if with_zeroes {
                    stream.write_all(&[0; 124])?;
                }
                stream.flush()?;
                return Ok(true);
            }
            OPT_ABORT => {
                reply(stream, option, REP_ACK, &[])?;
                return Ok(false);
            }
            OPT_GO | OPT_INFO => {
                let mut export = INFO_EXPORT.to_be_bytes().to_vec();
                export.extend(size.to_be_bytes());
                export.extend(EXPORT_FLAGS.to_be_bytes());
                reply(stream, option, REP_INFO, &export)?;
                let mut blocks = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
                for size in [SECTOR as u32, 4096, PAYLOAD_MAX] {
                    blocks.extend(size.to_be_bytes());
                }
                reply(stream, option, REP_INFO, &blocks)?;
                reply(stream, option, REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            _ => reply(stream, option, REP_ERR_UNSUP, &[])?,
        }
    }
}

fn reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_all(&OPTION_REPLY.to_be_bytes())?;
    for number in [option, kind, data.len() as u32] {
        stream.write_all(&number.to_be_bytes())?;
    }
    stream.write_all(data)?;
    stream.flush()
}

/// A request as it stands on the connection, its data read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    flags: u16,
    kind: u16,
    handle: u64,
    at: u64,
    length: u32,
    data: Vec<u8>,
}

/// The next request; none: the client left.
pub(super) fn request(stream: &mut impl Read) -> io::Result<Option<Request>> {
    let mut magic = [0; 4];
    match stream.read_exact(&mut magic) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if u32::from_be_bytes(magic) != REQUEST {
        return Err(bad("no request where one is expected"));
    }
    let mut request = Request {
        flags: u16_of(stream)?,
        kind: u16_of(stream)?,
        handle: u64_of(stream)?,
        at: u64_of(stream)?,
        length: u32_of(stream)?,
        data: Vec::new(),
    };
    if request.kind == CMD_DISC {
        return Ok(None);
    }
    if request.kind == CMD_WRITE {
        if request.length > PAYLOAD_MAX {
            return Err(bad("a write is too long"));
        }
        request.data.resize(request.length as usize, 0);
        stream.read_exact(&mut request.data)?;
    }
    Ok(Some(request))
}

/// Does it; the error number of the reply, 0 if none, and what was read.
pub(super) fn act<I: Image>(disk: &mut Disk<I>, size: u64, request: &Request) -> (u32, Vec<u8>) {
    let (at, length) = (request.at, u64::from(request.length));
    let sector = SECTOR as u64;
    let inside = at.checked_add(length).is_some_and(|end| end <= size)
        && at.is_multiple_of(sector)
        && length.is_multiple_of(sector)
        && request.length <= PAYLOAD_MAX;
    let mut read = Vec::new();
    let done = match request.kind {
        CMD_FLUSH => disk.flush(),
        CMD_READ | CMD_WRITE if !inside => return (EINVAL, read),
        CMD_READ => {
            read.resize(request.length as usize, 0);
            disk.read(at, &mut read)
        }
        CMD_WRITE if request.flags & FLAG_FUA != 0 => disk.write_through(at, &request.data),
        CMD_WRITE => disk.write(at, &request.data),
        _ => return (EINVAL, read),
    };
    match done {
        Ok(()) => (0, read),
        Err(_) => (EIO, Vec::new()),
    }
}

/// Answers a request.
pub(super) fn answer(
    stream: &mut impl Write,
    request: &Request,
    (error, read): (u32, Vec<u8>),
) -> io::Result<()> {
    stream.write_all(&SIMPLE_REPLY.to_be_bytes())?;
    stream.write_all(&error.to_be_bytes())?;
    stream.write_all(&request.handle.to_be_bytes())?;
    stream.write_all(&read)?;
    stream.flush()
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn bytes_of<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u16_of(stream: &mut impl Read) -> io::Result<u16> {
    bytes_of(stream).map(u16::from_be_bytes)
}

fn u32_of(stream: &mut impl Read) -> io::Result<u32> {
    bytes_of(stream).map(u32::from_be_bytes)
}

fn u64_of(stream: &mut impl Read) -> io::Result<u64> {
    bytes_of(stream).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// What a client sends, and what it is sent.
    struct Wire(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Wire {
        fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn raw(flags: u16, kind: u16, at: u64, length: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = REQUEST.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(7u64.to_be_bytes());
        bytes.extend(at.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        bytes
    }

    fn ask(disk: &mut Disk<Vec<u8>>, bytes: Vec<u8>) -> (u32, Vec<u8>) {
        let request = request(&mut Cursor::new(bytes)).unwrap().unwrap();
        act(disk, 8 * SECTOR as u64, &request)
    }

    #[test]
    fn what_is_outside_or_not_of_whole_sectors_is_refused() {
        let mut disk = Disk::new(vec![0; 8 * SECTOR]);
        let one = [5; SECTOR];
        assert_eq!(
            ask(&mut disk, raw(0, CMD_WRITE, 512, 512, &one)),
            (0, vec![])
        );
        assert_eq!(
            ask(&mut disk, raw(0, CMD_READ, 512, 512, &[])),
            (0, one.to_vec())
        );
        for (at, length) in [(8 * 512, 512), (1, 512), (0, 100), (u64::MAX - 511, 512)] {
            assert_eq!(ask(&mut disk, raw(0, CMD_READ, at, length, &[])).0, EINVAL);
        }
        assert_eq!(ask(&mut disk, raw(0, 9, 0, 0, &[])).0, EINVAL);
        assert!(
            disk.image().iter().all(|byte| *byte == 0),
            "nothing was flushed"
        );
        assert_eq!(ask(&mut disk, raw(FLAG_FUA, CMD_WRITE, 0, 512, &one)).0, 0);
        assert_eq!(disk.image()[..SECTOR], one);
        assert_eq!(disk.image()[SECTOR], 0);
        assert_eq!(ask(&mut disk, raw(0, CMD_FLUSH, 0, 0, &[])).0, 0);
        assert_eq!(disk.image()[SECTOR], 5);
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut hello = vec![0, 0, 0, 1];
            hello.extend(IHAVEOPT.to_be_bytes());
            hello.extend(&bytes);
            let _ = handshake(&mut Wire(Cursor::new(hello), Vec::new()), 1 << 20);
            let mut asked = REQUEST.to_be_bytes().to_vec();
            asked.extend(bytes);
            if let Ok(Some(request)) = request(&mut Cursor::new(asked)) {
                act(&mut Disk::new(vec![0; 8 * SECTOR]), 8 * SECTOR as u64, &request);
            }
        }
    }

    #[test]
    fn a_client_that_asks_for_what_is_not_there_is_told_and_then_served() {
        let mut hello = vec![0, 0, 0, 3];
        for option in [8u32, OPT_GO] {
            hello.extend(IHAVEOPT.to_be_bytes());
            hello.extend(option.to_be_bytes());
            hello.extend(0u32.to_be_bytes());
        }
        let mut wire = Wire(Cursor::new(hello), Vec::new());
        assert!(handshake(&mut wire, 4096).unwrap());
        let kinds: Vec<u32> = wire.1[18..]
            .windows(20)
            .filter(|w| w[..8] == OPTION_REPLY.to_be_bytes())
            .map(|w| u32::from_be_bytes(w[12..16].try_into().unwrap()))
            .collect();
        assert_eq!(kinds, [REP_ERR_UNSUP, REP_INFO, REP_INFO, REP_ACK]);
    }
}
