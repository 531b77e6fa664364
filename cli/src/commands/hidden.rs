//! What weft starts of itself; not for people.

use std::path::Path;

/// `weft shim --dir DIR`: holds one container.
pub fn shim(args: &[String]) -> ! {
    match args {
        [flag, dir] if flag == "--dir" => weft_agent::runtime::shim::main(Path::new(dir)),
        _ => {
            eprintln!("error: `weft shim` is started by an agent; it is not for people");
            std::process::exit(2)
        }
    }
}
