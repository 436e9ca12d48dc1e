//! Container images of this project's programs, from binaries that cargo has built for this host.
//!
//! No container engine and no registry: the host's loader and C library go into each image beside the program.

mod oci;
mod rust;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::layout::Layout;
use oci::{Bundle, Layer, LayerBuilder};

pub(crate) use rust::build;
pub use rust::{Profile, Program};

/// An image in an archive.
#[derive(Clone, Debug)]
pub struct Image {
    reference: String,
    archive: PathBuf,
}

impl Image {
    /// `REPOSITORY:TAG`, where the tag is the content's, so that a changed image has another.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The part of the reference that stays when the image changes.
    pub fn repository(&self) -> &str {
        self.reference.rsplit_once(':').map_or(&self.reference, |(repository, _)| repository)
    }

    /// The part of the reference that tells what is in the image.
    pub fn tag(&self) -> &str {
        self.reference.rsplit_once(':').map_or("", |(_, tag)| tag)
    }

    pub(crate) fn archive(&self) -> &Path {
        &self.archive
    }
}

/// An image of one of the cluster's own programs, which are static, under exactly this reference.
pub(crate) fn of_program(layout: &Layout, reference: &str, program: &str) -> Result<Image> {
    let path = layout.program(program);
    let binary = fs::read(&path).with_context(|| path.display().to_string())?;
    let layer = LayerBuilder::new().file(&format!("/{program}"), 0o755, &binary)?.build()?;
    let settings = json!({"User": USER, "Entrypoint": [format!("/{program}")]});

    assemble(layout, &[&layer], &settings, reference, |_| reference.to_owned())
}

/// Writes the archive of an image, unless it is there. It gets the reference that its content leads to, and `other`.
fn assemble(
    layout: &Layout,
    layers: &[&Layer],
    settings: &Value,
    other: &str,
    reference: impl Fn(&str) -> String,
) -> Result<Image> {
    let bundle = Bundle::new(layers, settings)?;
    let content = bundle.content();
    let reference = reference(&content);
    let name = other.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap_or(other);
    let archive = layout.images().join(format!("{name}-{content}.tar"));
    if !archive.is_file() {
        forget(layout, name)?;
        let mut references = vec![reference.as_str()];
        if reference != other {
            references.push(other);
        }
        bundle.write(&archive, &references)?;
    }
    Ok(Image { reference, archive })
}

/// Earlier archives of this image would fill the disk.
fn forget(layout: &Layout, name: &str) -> Result<()> {
    let Ok(archives) = fs::read_dir(layout.images()) else { return Ok(()) };
    for archive in archives {
        let archive = archive?.path();
        let file = archive.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        let content = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        if content.is_some_and(|content| !content.contains('-')) {
            fs::remove_file(archive)?;
        }
    }
    Ok(())
}

/// `nonroot`, as in the images that many others are built on.
const USER: &str = "65532:65532";
