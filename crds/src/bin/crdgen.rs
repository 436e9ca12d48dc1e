//! Writes the CRDs to `crds/generated` and to the chart, one file a kind.

use std::error::Error;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    for directory in ["generated", "../charts/fairway/crds"] {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        fs::create_dir_all(&directory)?;
        for file in crds::generate::files()? {
            let path = directory.join(&file.name);
            fs::write(&path, &file.yaml)?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
