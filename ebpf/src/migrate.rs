//! Maps of the ABI before this one. Those that mean the same in both are not copied but shared: the new generation pins the
//! very same maps, so what packets leave in them (the flows that chains remember, counters) is there for the old programs
//! and the new ones alike, whichever of them an interface carries. A copy would miss what is written while it is made, and a
//! chain's flow that is not remembered may go by another instance, or nowhere. The others are new; those that are made from
//! documents are filled before any interface is brought over, as in any new generation.
//!
//! Of an ABI that is older still, nothing is known here and nothing is read.

use std::path::Path;

use aya::maps::MapData;

use crate::datapath::{Build, same_shape};
use crate::error::Error;

/// Maps that mean something else than in the ABI before, whether they look the same or not. Whoever raises
/// [`ABI_VERSION`](weft_ebpf_abi::ABI_VERSION) begins this list anew. The configuration is always in it, for it says of
/// which ABI its generation is.
const CHANGED: [&str; 1] = ["config"];

/// Pins in `new` what of `old` this build can go on with; which maps those are.
pub(crate) fn share(
    build: &Build,
    object: &aya_obj::Object,
    old: &Path,
    new: &Path,
) -> Result<Vec<&'static str>, Error> {
    let mut shared = Vec::new();
    for &name in build.maps {
        if CHANGED.contains(&name) || !same_shape(object, old, name) {
            continue;
        }
        let fail = |source| Error::Pin {
            program: name.into(),
            action: "pinning its map anew",
            source,
        };
        let map = MapData::from_pin(old.join(name));
        let map = map.map_err(|e| fail(std::io::Error::other(e)))?;
        map.pin(new.join(name))
            .map_err(|e| fail(std::io::Error::other(e)))?;
        shared.push(name);
    }
    Ok(shared)
}
