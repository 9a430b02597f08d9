//! Becoming another user, for good. Rights belong to threads: it has to happen while there is only
//! one, and the later ones have what this one has then.

use anyhow::{Context, anyhow};
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Where local users stand. Source: `passwd(5)`.
const USERS: &str = "/etc/passwd";

/// Becomes a user of this machine with its main group and no other.
///
/// # Errors
/// There is no such user, or this process may not become it.
pub(super) fn become_user(name: &str) -> anyhow::Result<()> {
    let users = std::fs::read_to_string(USERS).with_context(|| format!("cannot read {USERS}"))?;
    let (uid, gid) = find(&users, name).ok_or_else(|| anyhow!("\"{name}\": no such user"))?;
    let refused = || format!("cannot become user \"{name}\"");
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[gid]).with_context(refused)?;
    set_thread_res_gid(gid, gid, gid).with_context(refused)?;
    set_thread_res_uid(uid, uid, uid).with_context(refused)
}

/// User and group number: the third and the fourth field of the user's line.
fn find(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut lines = users.lines().map(|line| line.split(':'));
    let mut fields = lines.find_map(|mut fields| (fields.next()? == name).then_some(fields))?;
    Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\njobs:x:101:102::/:/bin/false\n";
        assert_eq!(find(users, "jobs"), Some((101, 102)));
        assert_eq!(find(users, "root"), Some((0, 0)));
        assert_eq!(find(users, "x"), None);
    }

    #[test]
    fn somebody_who_is_not_there_is_named() {
        let error = become_user("no such user").unwrap_err().to_string();
        assert!(error.contains("no such user"), "{error}");
    }
}
