//! Which user a container runs as, by its own `/etc/passwd` and `/etc/group`.

use std::{fs::File, io::Read, path::Path};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::Mode,
};

use crate::{Error, SecurityContext};

/// No such file is read beyond this.
const MAX_FILE: u64 = 4 << 20;

/// A user as the kernel knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// Finds out who a container runs as.
pub(super) fn resolve(
    rootfs: &Path,
    image_user: &str,
    security: &SecurityContext,
) -> Result<User, Error> {
    let passwd = read(rootfs, "etc/passwd")?;
    let group = read(rootfs, "etc/group")?;
    resolve_in(&passwd, &group, image_user, security)
}

fn resolve_in(
    passwd: &str,
    group: &str,
    image_user: &str,
    security: &SecurityContext,
) -> Result<User, Error> {
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let asked = match (security.run_as_user, security.run_as_username.as_deref()) {
        (Some(uid), _) => uid.to_string(),
        (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => image_user.to_owned(),
    };
    let asked = if asked.is_empty() {
        "0".to_owned()
    } else {
        asked
    };
    // Name, uid and gid of the entry, by number if it is one.
    let entry = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
        let same = if asked.parse::<u32>().is_ok() {
            uid == asked
        } else {
            name == asked
        };
        same.then_some((name, uid.parse::<u32>().ok()?, gid.parse::<u32>().ok()?))
    });
    let uid = match (asked.parse::<u32>(), entry) {
        (Ok(uid), _) => uid,
        (Err(_), Some((_, uid, _))) => uid,
        (Err(_), None) => {
            return Err(Error::InvalidConfig(format!(
                "unable to find user {asked}: no matching entries in passwd file"
            )));
        }
    };
    let id =
        |n: i64| u32::try_from(n).map_err(|_| Error::InvalidConfig(format!("invalid group {n}")));
    let gid = match (security.run_as_group, image_group) {
        (Some(gid), _) => id(gid)?,
        // A user that was chosen otherwise does not come with the image's group.
        (None, g) if !g.is_empty() && security.run_as_user.is_none() => find_group(group, g)?,
        _ => entry.map_or(0, |(_, _, gid)| gid),
    };
    let mut groups = vec![gid];
    if let Some((name, ..)) = entry {
        for line in group.lines() {
            let mut fields = line.split(':');
            let (Some(_), Some(number)) = (fields.next(), fields.nth(1)) else {
                continue;
            };
            let member = fields
                .next()
                .is_some_and(|m| m.split(',').any(|m| m.trim() == name));
            if let (true, Ok(number)) = (member, number.parse()) {
                groups.push(number);
            }
        }
    }
    for extra in &security.supplemental_groups {
        groups.push(id(*extra)?);
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(User { uid, gid, groups })
}

fn find_group(group: &str, wanted: &str) -> Result<u32, Error> {
    if let Ok(gid) = wanted.parse() {
        return Ok(gid);
    }
    let found = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == wanted)
            .then(|| fields.nth(1)?.parse().ok())
            .flatten()
    });
    found.ok_or_else(|| {
        Error::InvalidConfig(format!(
            "unable to find group {wanted}: no matching entries in group file"
        ))
    })
}

/// Reads a file of an image, which may try to lead elsewhere. Empty if it is not there.
fn read(rootfs: &Path, name: &str) -> Result<String, Error> {
    let fail = |e: Errno| Error::io(format!("read /{name} of the image"), e);
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(rootfs, flags, Mode::empty()).map_err(fail)?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&root, name, how) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(String::new()),
        Err(e) => return Err(fail(e)),
    };
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Ok(String::new());
    }
    let mut out = Vec::new();
    file.take(MAX_FILE)
        .read_to_end(&mut out)
        .map_err(|e| Error::io(format!("read /{name} of the image"), e))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:200:web,other\n";

    fn who(image_user: &str, security: &SecurityContext) -> Result<(u32, u32, Vec<u32>), Error> {
        resolve_in(PASSWD, GROUP, image_user, security).map(|u| (u.uid, u.gid, u.groups))
    }

    #[test]
    fn the_image_names_its_user() {
        let none = SecurityContext::default();
        assert_eq!(who("", &none).unwrap(), (0, 0, vec![0]));
        assert_eq!(who("web", &none).unwrap(), (101, 102, vec![102, 200]));
        assert_eq!(who("web:logs", &none).unwrap(), (101, 200, vec![200]));
        assert_eq!(who("101", &none).unwrap(), (101, 102, vec![102, 200]));
        assert_eq!(who("5000:5001", &none).unwrap(), (5000, 5001, vec![5001]));
        assert!(who("nobody", &none).is_err());
        assert!(who("web:nogroup", &none).is_err());
    }

    #[test]
    fn the_pod_has_the_last_word() {
        let security = SecurityContext {
            run_as_user: Some(1000),
            supplemental_groups: vec![7, 7],
            ..Default::default()
        };
        assert_eq!(who("web:logs", &security).unwrap(), (1000, 0, vec![0, 7]));
        let security = SecurityContext {
            run_as_group: Some(9),
            ..Default::default()
        };
        assert_eq!(who("web", &security).unwrap(), (101, 9, vec![9, 200]));
    }
}
