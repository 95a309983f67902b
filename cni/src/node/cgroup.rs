//! Which pod a process belongs to, as the kernel's list of its control groups tells (`cni.md` 3.5). Pure.
//!
//! Container runtimes write the pod's uid into the group's path, each in its own manner: folders or systemd slices,
//! dashes, underscores or nothing between the uid's parts, the container's id behind `/`, `-` or `:`, below whatever
//! prefix the node itself lives in. What is common to all is read; anything else is not a pod's.

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The pod's uid, in its usual spelling: small letters, with dashes.
    pub pod: String,
    /// The container's id.
    pub id: String,
}

/// Why a list of groups says nothing about a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupError {
    /// It is no list of groups.
    #[error("line {line:?} is not of the form number:controllers:path")]
    Line {
        /// The line.
        line: String,
    },
    /// Its lines name different containers.
    #[error("the process is in two containers at once: {one} and {other}")]
    Torn {
        /// One of them.
        one: String,
        /// Another.
        other: String,
    },
}

/// The lengths of a uid's parts, in hexadecimal digits.
const PARTS: [usize; 5] = [8, 4, 4, 4, 12];

/// A line that is quoted in an error.
const QUOTED: usize = 128;

/// The container that a process is in, from its `/proc/<pid>/cgroup`; none: it is in no pod.
///
/// # Errors
/// When the text is no such list, or its lines contradict each other.
pub fn container_of(text: &str) -> Result<Option<Container>, CgroupError> {
    let mut found: Option<Container> = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(_), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(CgroupError::Line { line: line.chars().take(QUOTED).collect() });
        };
        match (container_in(path), &found) {
            (Some(this), Some(before)) if this != *before => {
                let name = |it: &Container| format!("{} of pod {}", it.id, it.pod);
                return Err(CgroupError::Torn { one: name(before), other: name(&this) });
            }
            (Some(this), _) => found = Some(this),
            (None, _) => {}
        }
    }
    Ok(found)
}

/// The part of a path above all pods, with the number of its components: `/kubepods.slice`. None for other paths.
#[must_use]
pub fn pods_root(path: &str) -> Option<(&str, u32)> {
    let (pod, _, _) = last_pod(path)?;
    // The root is where the kubelet's own naming begins; what stands before is the node's.
    let begin = path.get(..pod)?.find("kubepods")?;
    let end = path.get(begin..)?.find('/').map_or(path.len(), |at| begin + at);
    let root = path.get(..end)?;
    let depth = root.split('/').filter(|it| !it.is_empty()).count();
    Some((root, u32::try_from(depth).ok()?))
}

/// The last pod in a path is the one: those before are where the node itself runs.
fn container_in(path: &str) -> Option<Container> {
    let (_, pod, rest) = last_pod(path)?;
    let rest = rest.strip_prefix(".slice").unwrap_or(rest);
    let rest = rest.strip_prefix(|c: char| c.is_ascii_punctuation())?;
    // Below the container's own group, its processes may make others as they like.
    let own = rest.split('/').next()?;
    let own = own.strip_suffix(".scope").unwrap_or(own);
    let id = own.rsplit(|c: char| c.is_ascii_punctuation()).next()?;
    let is_id = !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric());
    is_id.then(|| Container { pod, id: id.to_owned() })
}

/// Where `pod` begins in its last occurrence with a uid behind it, that uid, and what follows.
fn last_pod(path: &str) -> Option<(usize, String, &str)> {
    path.rmatch_indices("pod").find_map(|(at, word)| {
        let before = path.get(..at)?.chars().next_back()?;
        let (uid, rest) = uid_at(path.get(at + word.len()..)?)?;
        before.is_ascii_punctuation().then_some((at, uid, rest))
    })
}

/// A uid at the beginning of a text, and the rest.
fn uid_at(text: &str) -> Option<(String, &str)> {
    let mut uid = String::new();
    let mut rest = text;
    for (number, length) in PARTS.into_iter().enumerate() {
        if number > 0 {
            rest = rest.strip_prefix(|c: char| c.is_ascii_punctuation() && c != '/').unwrap_or(rest);
            uid.push('-');
        }
        let (part, after) = rest.split_at_checked(length)?;
        if !part.chars().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        uid.extend(part.chars().map(|c| c.to_ascii_lowercase()));
        rest = after;
    }
    Some((uid, rest)).filter(|(_, rest)| !rest.starts_with(|c: char| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1d9f1ed1-8c4e-4f5b-9c1f-0a1b2c3d4e5f";
    const ID: &str = "c8a2ee2e3d6a4b3fb9b1b3d1c7f0a9e5d4c3b2a1f0e9d8c7b6a5948372615043";

    #[test]
    fn every_runtimes_spelling_of_a_container_is_read() {
        let under = UID.replace('-', "_");
        let bare = UID.replace('-', "");
        for line in [
            format!("0::/kubepods/besteffort/pod{UID}/{ID}"),
            format!("0::/kubepods/pod{bare}/{ID}"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope"),
            format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/init.scope"),
            format!("0::/kubepods.slice/kubepods-pod{under}.slice/docker-{ID}.scope/system.slice/x.service"),
            format!(
                "4:memory:/system.slice/containerd.service/kubepods-besteffort-pod{under}.slice:cri-containerd:{ID}"
            ),
            format!("11:cpu,cpuacct:/docker/f0e1/kubelet/kubepods/burstable/pod{UID}/{ID}"),
            format!(
                "0::/docker/f0e1/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-{ID}.scope"
            ),
            format!("0::/../../../kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"),
            format!("0::/../../pod{}/{ID}", UID.to_uppercase()),
            format!("0::/kubepods/pod0d9f1ed1-8c4e-4f5b-9c1f-0a1b2c3d4e5f/aaaa/kubepods/pod{UID}/{ID}"),
        ] {
            let read = container_of(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(read, Some(Container { pod: UID.into(), id: ID.into() }), "{line}");
        }
    }

    #[test]
    fn what_is_not_in_a_pods_container_is_in_none() {
        for line in [
            String::new(),
            "0::/".into(),
            "0::/system.slice/kubelet.service".into(),
            format!("0::/crio-{ID}"),
            format!("0::/kubepods/pod{UID}"),
            format!("0::/kubepods/pod{UID}/"),
            format!("0::/kubepods.slice/kubepods-pod{UID}.slice"),
            format!("0::/kubepods/xpod{UID}/{ID}"),
            format!("0::/kubepods/pod{UID}0/{ID}"),
            format!("0::/kubepods/pod{}/{ID}", &UID[1..]),
            format!("0::/podman-{ID}.scope"),
        ] {
            assert_eq!(container_of(&line), Ok(None), "{line}");
        }
    }

    #[test]
    fn hierarchies_must_agree_and_those_without_a_pod_say_nothing() {
        let of = |id: &str| format!("/kubepods/pod{UID}/{id}");
        let two = format!("12:pids:{}\n5:freezer:/\n1:name=systemd:{}\n0::/\n", of(ID), of(ID));
        assert_eq!(container_of(&two).unwrap().unwrap().id, ID);
        let torn = format!("12:pids:{}\n1:name=systemd:{}\n", of(ID), of("other"));
        assert!(matches!(container_of(&torn), Err(CgroupError::Torn { .. })));
        assert!(matches!(container_of("0:/kubepods"), Err(CgroupError::Line { .. })));
    }

    #[test]
    fn the_group_above_all_pods_is_found_in_any_pods_path() {
        let under = UID.replace('-', "_");
        for (path, root) in [
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), Some(("/kubepods", 1))),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/x-{ID}.scope"
                ),
                Some(("/kubepods.slice", 1)),
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/x-{ID}.scope"
                ),
                Some(("/kubelet.slice/kubelet-kubepods.slice", 2)),
            ),
            (format!("/pod{UID}/{ID}"), None),
            ("/kubepods/other".into(), None),
        ] {
            assert_eq!(pods_root(&path), root, "{path}");
        }
    }
}
