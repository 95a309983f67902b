//! The images of our programs: what each holds, as whom it runs.
//! Owns the list; where the programs are built is the caller's.

use std::path::Path;

use crate::image::{Image, ImageError};

/// One image of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// The last part of the image's name, and the name of its tar.
    pub name: &'static str,
    /// Programs inside, the first of which is started.
    pub programs: &'static [&'static str],
    /// Whether it must be root: it enters the namespaces of pods, or writes to folders of the node.
    pub root: bool,
}

/// Every image of the mesh.
const COMPONENTS: [Component; 5] = [
    // Enters pods' network namespaces and binds there; root without most of its rights, as its chart says.
    Component { name: "ztunnel", programs: &["ztunnel"], root: true },
    Component { name: "istiod-lite", programs: &["istiod-lite"], root: false },
    // Writes the plugin and its configuration to folders that belong to the node's root.
    Component { name: "cni", programs: &["ambit-cni-node"], root: true },
    Component { name: "waypoint", programs: &["ambit-waypoint"], root: false },
    Component { name: "ambit", programs: &["ambit"], root: false },
];

/// Where our programs are inside.
const HOME: &str = "usr/local/bin";

impl Component {
    /// All of them.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &COMPONENTS
    }

    /// The image, from programs found in `programs`; its name is `REGISTRY/NAME:TAG`.
    ///
    /// `plugin` is the CNI plugin, which the `cni` image carries to nodes: it runs there, beside libraries that
    /// nobody knows, and must be static.
    pub fn image(
        &self,
        reference: (&str, &str),
        programs: &Path,
        plugin: &Path,
    ) -> Result<Image, ImageError> {
        let (registry, tag) = reference;
        let mut image = Image::new(&format!("{registry}/{}:{tag}", self.name));
        for program in self.programs {
            image = image.program(&format!("{HOME}/{program}"), &programs.join(program))?;
        }
        if self.name == "cni" {
            image = image.program(&format!("{HOME}/ambit-cni"), plugin)?;
        }
        if self.root {
            image = image.user(0, 0);
        }
        let first = self.programs.first().copied().unwrap_or_default();
        Ok(image.entrypoint(&[&format!("/{HOME}/{first}")]))
    }
}

/// The component of this name.
#[must_use]
pub fn component(name: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|component| component.name == name)
}
