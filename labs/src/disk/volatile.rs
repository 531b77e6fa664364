//! A drive's write cache, and what a power cut leaves of it. Pure but for the image behind it.
//!
//! A drive may write what it caches in any order and at any time, each sector as a whole. So after a cut a sector
//! holds what was flushed last, or any of the versions written since. Owns: sectors that were not flushed, with their
//! versions. Never: reorders around a flush; what was flushed is safe.

use std::collections::BTreeMap;
use std::io;

use crate::random::Random;

/// What a drive writes as a whole, bytes.
pub(super) const SECTOR: usize = 512;
/// Versions that the cache holds: beyond it the drive writes all of them out, as its memory is finite.
const VERSIONS_MAX: usize = (64 << 20) / SECTOR;

type Sector = [u8; SECTOR];

/// Where flushed sectors are.
pub(super) trait Image {
    fn load(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
    fn store(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A disk with a cache.
#[derive(Debug)]
pub(super) struct Disk<I> {
    image: I,
    /// By number: the versions since the last flush, the newest last.
    cache: BTreeMap<u64, Vec<Sector>>,
    versions: usize,
}

/// What a power cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// Sectors that were not flushed.
    pub(super) unflushed: u64,
    /// Those of them that hold something older than what was written last.
    pub(super) lost: u64,
}

impl<I: Image> Disk<I> {
    pub(super) fn new(image: I) -> Disk<I> {
        Disk {
            image,
            cache: BTreeMap::new(),
            versions: 0,
        }
    }

    /// Reads what was written last. `at` and the length are whole sectors.
    pub(super) fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.image.load(at, bytes)?;
        let first = at / SECTOR as u64;
        let count = (bytes.len() / SECTOR) as u64;
        for (number, versions) in self.cache.range(first..first + count) {
            if let Some(newest) = versions.last() {
                let from = ((number - first) as usize) * SECTOR;
                bytes[from..from + SECTOR].copy_from_slice(&newest[..]);
            }
        }
        Ok(())
    }

    /// Writes whole sectors to the cache.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let first = at / SECTOR as u64;
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        for (number, sector) in (first..).zip(sectors) {
            let versions = self.cache.entry(number).or_default();
            versions.push(*sector);
            self.versions += 1;
        }
        if self.versions > VERSIONS_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes whole sectors past the cache (forced unit access).
    pub(super) fn write_through(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.image.store(at, bytes)?;
        let first = at / SECTOR as u64;
        for number in first..first + (bytes.len() / SECTOR) as u64 {
            self.forget(number);
        }
        Ok(())
    }

    fn forget(&mut self, number: u64) {
        if let Some(versions) = self.cache.remove(&number) {
            self.versions -= versions.len();
        }
    }

    /// What was written before is safe when this returns.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some((&number, versions)) = self.cache.first_key_value() {
            if let Some(newest) = versions.last() {
                self.image.store(number * SECTOR as u64, &newest[..])?;
            }
            self.forget(number);
        }
        Ok(())
    }

    /// The power is cut: of each sector that was not flushed, chance says which version there is.
    pub(super) fn cut(&mut self, random: &mut Random) -> io::Result<Loss> {
        let mut loss = Loss::default();
        while let Some((&number, versions)) = self.cache.first_key_value() {
            loss.unflushed += 1;
            let kept = random.below(versions.len() + 1);
            loss.lost += u64::from(kept < versions.len());
            if let Some(version) = kept.checked_sub(1).and_then(|index| versions.get(index)) {
                self.image.store(number * SECTOR as u64, &version[..])?;
            }
            self.forget(number);
        }
        Ok(loss)
    }

    #[cfg(test)]
    pub(super) fn image(&self) -> &I {
        &self.image
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sectors of the disk under test.
    const SIZE: usize = 16;

    impl Image for Vec<u8> {
        fn load(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
            let at = at as usize;
            bytes.copy_from_slice(&self[at..at + bytes.len()]);
            Ok(())
        }
        fn store(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let at = at as usize;
            self[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Write { first: usize, count: usize },
        Through { first: usize, count: usize },
        Flush,
        Read,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let span = || (0..SIZE, 1..4usize).prop_map(|(f, c)| (f, c.min(SIZE - f)));
        let op = prop_oneof![
            4 => span().prop_map(|(first, count)| Op::Write { first, count }),
            1 => span().prop_map(|(first, count)| Op::Through { first, count }),
            1 => Just(Op::Flush),
            1 => Just(Op::Read),
        ];
        prop::collection::vec(op, 0..60)
    }

    proptest! {
        /// Against the plainest model: all versions of a sector since it was last safe.
        #[test]
        fn reads_see_the_last_write_and_a_cut_leaves_what_a_drive_may(ops in ops(), seed: u64) {
            let mut disk = Disk::new(vec![0; SIZE * SECTOR]);
            let mut model: Vec<Vec<u8>> = vec![vec![0]; SIZE];
            for (mark, op) in (1u8..).zip(ops) {
                let bytes = vec![mark; 3 * SECTOR];
                match op {
                    Op::Write { first, count } => {
                        disk.write((first * SECTOR) as u64, &bytes[..count * SECTOR]).unwrap();
                        model[first..first + count].iter_mut().for_each(|s| s.push(mark));
                    }
                    Op::Through { first, count } => {
                        let bytes = &bytes[..count * SECTOR];
                        disk.write_through((first * SECTOR) as u64, bytes).unwrap();
                        model[first..first + count].iter_mut().for_each(|s| *s = vec![mark]);
                    }
                    Op::Flush => {
                        disk.flush().unwrap();
                        model.iter_mut().for_each(|s| *s = vec![*s.last().unwrap()]);
                    }
                    Op::Read => {}
                }
                let mut seen = vec![0; SIZE * SECTOR];
                disk.read(0, &mut seen).unwrap();
                for (sector, versions) in seen.chunks(SECTOR).zip(&model) {
                    prop_assert!(sector.iter().all(|byte| byte == versions.last().unwrap()));
                }
            }
            let unflushed = model.iter().filter(|versions| versions.len() > 1).count() as u64;
            let loss = disk.cut(&mut Random::named(seed, "disk")).unwrap();
            prop_assert_eq!(loss.unflushed, unflushed);
            let mut lost = 0;
            for (sector, versions) in disk.image().chunks(SECTOR).zip(&model) {
                prop_assert!(sector.iter().all(|byte| *byte == sector[0]), "a torn sector");
                prop_assert!(versions.contains(&sector[0]));
                lost += u64::from(sector[0] != *versions.last().unwrap());
            }
            prop_assert_eq!(loss.lost, lost);
        }
    }

    #[test]
    fn the_same_seed_loses_the_same_and_another_loses_other_sectors() {
        let after = |seed| {
            let mut disk = Disk::new(vec![0; 64 * SECTOR]);
            disk.write(0, &vec![1; 64 * SECTOR]).unwrap();
            let loss = disk.cut(&mut Random::named(seed, "disk")).unwrap();
            assert!((8..56).contains(&loss.lost), "{loss:?}");
            disk.image().clone()
        };
        assert_eq!(after(1), after(1));
        assert_ne!(after(1), after(2));
    }
}
