//! The smallest program that a runtime can use as its shim: `shim --dir DIR`. Tests run it in place of weft.

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["shim", "--dir", dir] => weft_runtime::shim::main(Path::new(dir)),
        _ => {
            eprintln!("usage: shim shim --dir DIR");
            std::process::exit(2);
        }
    }
}
