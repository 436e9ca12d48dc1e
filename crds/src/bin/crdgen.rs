//! Writes the CRDs to `crds/generated`, one file a kind.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    fs::create_dir_all(&directory)?;
    for file in crds::generate::files()? {
        fs::write(directory.join(&file.name), &file.yaml)?;
        println!("{}", file.name);
    }
    Ok(())
}
