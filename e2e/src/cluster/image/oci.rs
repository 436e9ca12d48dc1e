//! Assembles OCI images without a container engine: layers of files, a config, a manifest, one archive.
//!
//! The same files make the same bytes, so that an image's tag can be its content.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::super::programs::hex;

/// A tar archive that becomes part of the image's file system.
#[derive(Debug)]
pub(crate) struct Layer {
    tar: Vec<u8>,
}

/// Collects what is in a layer, each directory before what is in it.
pub(crate) struct LayerBuilder {
    tar: Builder<Vec<u8>>,
    directories: Vec<String>,
}

impl LayerBuilder {
    pub(crate) fn new() -> Self {
        Self { tar: Builder::new(Vec::new()), directories: Vec::new() }
    }

    /// `path` is absolute, as in the container.
    pub(crate) fn directory(mut self, path: &str, mode: u32) -> Result<Self> {
        self.parents(path)?;
        self.add_directory(path, mode)?;
        Ok(self)
    }

    pub(crate) fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Result<Self> {
        self.parents(path)?;
        let mut header = header(EntryType::Regular, mode);
        header.set_size(u64::try_from(content.len())?);
        self.tar.append_data(&mut header, relative(path), content)?;
        Ok(self)
    }

    pub(crate) fn build(self) -> Result<Layer> {
        Ok(Layer { tar: self.tar.into_inner()? })
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        let ends = path.char_indices().filter(|&(at, c)| c == '/' && at > 0).map(|(at, _)| at);
        for end in ends {
            self.add_directory(path.get(..end).unwrap_or_default(), 0o755)?;
        }
        Ok(())
    }

    fn add_directory(&mut self, path: &str, mode: u32) -> Result<()> {
        if self.directories.iter().any(|known| known == path) {
            return Ok(());
        }
        let name = format!("{}/", relative(path));
        self.tar.append_data(&mut header(EntryType::Directory, mode), name, &[][..])?;
        self.directories.push(path.to_owned());
        Ok(())
    }
}

/// An image of these layers, with the names that it is to have.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    layers: &'a [&'a Layer],
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl<'a> Bundle<'a> {
    /// `settings` is what the OCI image spec calls `config`: User, Env, Entrypoint and so on.
    pub(crate) fn new(layers: &'a [&'a Layer], settings: &Value) -> Result<Self> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let differences: Vec<_> = layers.iter().map(|layer| sha256(&layer.tar)).collect();
        let config = serde_json::to_vec(&json!({
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": differences},
        }))?;
        let layer = |layer: &&Layer| descriptor(LAYER_TYPE, &layer.tar);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &config),
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        }))?;
        Ok(Self { layers, config, manifest })
    }

    /// Twelve digits of what the image is, for a tag. Helm takes one without letters for a number.
    pub(crate) fn content(&self) -> String {
        let digits = hex(digest(&SHA256, &self.manifest).as_ref());
        format!("sha-{}", digits.get(..12).unwrap_or_default())
    }

    /// Writes the archive, whole or not at all.
    pub(crate) fn write(&self, path: &Path, references: &[&str]) -> Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let draft = path.with_extension("draft");
        let file = File::create(&draft).with_context(|| draft.display().to_string())?;
        let mut file = self.append(BufWriter::new(file), references)?;
        file.flush()?;
        Ok(fs::rename(draft, path)?)
    }

    fn append<W: Write>(&self, output: W, references: &[&str]) -> Result<W> {
        let mut tar = Builder::new(output);
        let mut file = |name: &str, content: &[u8]| -> Result<()> {
            let mut header = header(EntryType::Regular, 0o644);
            header.set_size(u64::try_from(content.len())?);
            Ok(tar.append_data(&mut header, name, content)?)
        };
        file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        file("index.json", &serde_json::to_vec(&self.index(references))?)?;
        let blobs = [&self.manifest, &self.config].into_iter();
        for blob in blobs.chain(self.layers.iter().map(|layer| &layer.tar)) {
            file(&format!("blobs/sha256/{}", hex(digest(&SHA256, blob).as_ref())), blob)?;
        }
        Ok(tar.into_inner()?)
    }

    /// One entry for each name. containerd reads the first annotation, others the second.
    fn index(&self, references: &[&str]) -> Value {
        let entry = |reference: &&str| {
            let mut entry = descriptor(MANIFEST_TYPE, &self.manifest);
            let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
            entry["annotations"] = json!({
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": tag,
            });
            entry
        };
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": references.iter().map(entry).collect::<Vec<_>>(),
        })
    }
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(blob), "size": blob.len()})
}

fn sha256(blob: &[u8]) -> String {
    format!("sha256:{}", hex(digest(&SHA256, blob).as_ref()))
}

/// Nobody's, and of no time.
fn header(entry: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read as _};

    use super::*;

    fn layer(content: &[u8]) -> Layer {
        let builder = LayerBuilder::new().directory("/tmp", 0o1777).unwrap();
        builder.file("/usr/bin/program", 0o755, content).unwrap().build().unwrap()
    }

    fn unpack(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    /// The blob that a descriptor names, which must be what the descriptor says.
    fn follow<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let name = descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
        let blob = &files[&name];
        assert_eq!(descriptor["digest"], sha256(blob));
        assert_eq!(descriptor["size"], blob.len());
        blob
    }

    #[test]
    fn every_digest_leads_to_what_it_names() {
        let (base, top) = (layer(b"one"), layer(b"two"));
        let layers = [&base, &top];
        let bundle = Bundle::new(&layers, &json!({"User": "1:1"})).unwrap();

        let archive = bundle.append(Vec::new(), &["a/b:c", "a/b:d"]).unwrap();

        let files = unpack(&archive);
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let names: Vec<_> = index["manifests"].as_array().unwrap().iter().collect();
        assert_eq!(names[0]["annotations"]["io.containerd.image.name"], "a/b:c");
        assert_eq!(names[1]["annotations"]["org.opencontainers.image.ref.name"], "d");
        let manifest: Value = serde_json::from_slice(follow(&files, names[0])).unwrap();
        let config: Value = serde_json::from_slice(follow(&files, &manifest["config"])).unwrap();
        assert_eq!(config["config"]["User"], "1:1");
        for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            assert_eq!(config["rootfs"]["diff_ids"][at], sha256(follow(&files, layer)));
        }
    }

    #[test]
    fn directories_come_before_what_is_in_them_and_once() {
        let files = unpack(&layer(b"x").tar);

        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["tmp/", "usr/", "usr/bin/", "usr/bin/program"]);
    }

    #[test]
    fn same_files_are_the_same_image() {
        let content = |bytes: &[u8]| {
            let layer = layer(bytes);
            Bundle::new(&[&layer], &json!({})).unwrap().content()
        };

        assert_eq!(content(b"a"), content(b"a"));
        assert_ne!(content(b"a"), content(b"b"));
    }
}
