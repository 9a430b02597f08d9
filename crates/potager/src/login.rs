//! Password checks of the running server: off the main thread, a few at a time, remembered, and
//! slowed down for whoever guesses. One [`Logins`] per server. Who a user is and what he may do
//! is the engine's; hashing itself is `password`.

use std::{
    cell::RefCell,
    collections::HashSet,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use blake2::{
    Blake2sMac,
    digest::{FixedOutput, KeyInit, Update, consts::U16},
};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::password;

/// Password checks at the same time: each takes 19 MiB and a core for some 20 ms.
const CHECKS_MAX: usize = 4;
/// Logins remembered, in each of two generations.
const REMEMBERED_MAX: usize = 4096;
/// Wrong passwords of one user that are answered without delay.
const FAILURES_FREE: u32 = 10;
/// Time after which one of them is forgiven: ten a minute.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6);
/// Longest delay; below the ten seconds that a connection has for its login.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Users share this many failure counters by keyed hash, so that made-up names cost no memory.
const COUNTERS: usize = 4096;

/// A keyed digest of user, password and stored hash: neither can be found from it.
type Tag = [u8; 16];

/// See the head of the file.
pub(crate) struct Logins {
    /// Random for each process.
    key: [u8; 32],
    checks: Arc<Semaphore>,
    remembered: RefCell<Remembered>,
    failures: RefCell<Failures>,
}

/// Good logins. When the younger generation is full it becomes the older one and that is dropped.
#[derive(Default)]
struct Remembered {
    younger: HashSet<Tag>,
    older: HashSet<Tag>,
}

/// When the failures of each counter will all be forgiven; in the past means none.
struct Failures {
    begin: Instant,
    /// Milliseconds after `begin`.
    clear_at: Vec<u64>,
}

impl Logins {
    /// Nobody is known yet.
    ///
    /// # Panics
    /// The operating system gives no random numbers: nothing that keeps secrets may start.
    pub(crate) fn new() -> Self {
        let mut key = [0; 32];
        let given = getrandom::fill(&mut key);
        assert!(given.is_ok(), "the operating system gives no random numbers: {given:?}");
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            key,
            checks: Arc::new(Semaphore::new(cores.min(CHECKS_MAX))),
            remembered: RefCell::default(),
            failures: RefCell::new(Failures::new()),
        }
    }

    /// `Some(true)` for a login that was good before with the same stored hash; `None` when it
    /// has to be checked. Costs a microsecond.
    pub(crate) fn check_cached(
        &self,
        user: &[u8],
        password: &[u8],
        hash: Option<&[u8]>,
    ) -> Option<bool> {
        let tag = self.tag(&[user, password, hash?]);
        self.remembered.borrow().has(&tag).then_some(true)
    }

    /// Checks a password; `hash` is `None` for an unknown user, which takes as long. After ten
    /// failures a minute the answers of a user are delayed, right ones too.
    ///
    /// Dropping the future gives up the answer; a check that has begun ends by itself.
    pub(crate) async fn verify(&self, user: Bytes, password: Bytes, hash: Option<Bytes>) -> bool {
        let counter = self.counter(&user);
        let delay = self.failures.borrow().delay(counter, Instant::now());
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let Ok(permit) = Arc::clone(&self.checks).acquire_owned().await else { return false };
        if self.check_cached(&user, &password, hash.as_deref()) == Some(true) {
            // Somebody with the same login was checked while this one waited.
            return true;
        }
        let check = {
            let (password, hash) = (password.clone(), hash.clone());
            tokio::task::spawn_blocking(move || {
                let is_ok = password::matches(&password, hash.as_deref());
                drop(permit);
                is_ok
            })
        };
        let is_ok = check.await.unwrap_or(false);
        match hash {
            Some(hash) if is_ok => self.remember(&user, &password, &hash),
            Some(_) | None => self.failures.borrow_mut().add(counter, Instant::now()),
        }
        is_ok
    }

    /// Hashes a new password for storage, on the same few threads.
    ///
    /// # Errors
    /// The password cannot be used, in words.
    pub(crate) async fn hash(&self, password: Bytes) -> Result<Bytes, String> {
        let stopped = |_| "the server is stopping".to_owned();
        let permit = Arc::clone(&self.checks).acquire_owned().await.map_err(stopped)?;
        let work = tokio::task::spawn_blocking(move || {
            let hash = password::hash(&password);
            drop(permit);
            hash
        });
        let hash = work.await.map_err(|_| "the server is stopping".to_owned())?;
        hash.map(Bytes::from).map_err(|error| error.to_string())
    }

    fn remember(&self, user: &[u8], password: &[u8], hash: &[u8]) {
        let tag = self.tag(&[user, password, hash]);
        self.remembered.borrow_mut().add(tag);
    }

    /// Each part goes in with its length, so that parts cannot be shifted against each other.
    fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut mac = Blake2sMac::<U16>::new(&self.key.into());
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            mac.update(&length.to_le_bytes());
            mac.update(part);
        }
        mac.finalize_fixed().into()
    }

    fn counter(&self, user: &[u8]) -> usize {
        let [low, high, ..] = self.tag(&[user]);
        usize::from(u16::from_le_bytes([low, high])) % COUNTERS
    }
}

impl Remembered {
    fn has(&self, tag: &Tag) -> bool {
        self.younger.contains(tag) || self.older.contains(tag)
    }

    fn add(&mut self, tag: Tag) {
        if self.younger.len() >= REMEMBERED_MAX {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(tag);
    }
}

impl Failures {
    fn new() -> Self {
        Self { begin: Instant::now(), clear_at: vec![0; COUNTERS] }
    }

    fn add(&mut self, counter: usize, now: Instant) {
        let now = self.millis(now);
        if let Some(clear_at) = self.clear_at.get_mut(counter) {
            let step = u64::try_from(FORGIVEN_AFTER.as_millis()).unwrap_or(u64::MAX);
            *clear_at = (*clear_at).max(now).saturating_add(step);
        }
    }

    /// How long the next answer has to wait: until at most the free number is not forgiven.
    fn delay(&self, counter: usize, now: Instant) -> Duration {
        let clear_at = self.clear_at.get(counter).copied().unwrap_or(0);
        let owed = Duration::from_millis(clear_at.saturating_sub(self.millis(now)));
        owed.saturating_sub(FORGIVEN_AFTER * (FAILURES_FREE - 1)).min(DELAY_MAX)
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begin);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weak parameters, so that tests are quick.
    const HASH: &str = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$";

    fn stored(password: &[u8]) -> Bytes {
        use argon2::password_hash::PasswordHasher;
        let params = argon2::Params::new(64, 1, 1, None).unwrap();
        let hash = argon2::Argon2::from(params).hash_password_with_salt(password, b"saltsalt");
        let hash = hash.unwrap().to_string();
        assert!(hash.starts_with(HASH), "{hash}");
        hash.into()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn a_good_login_is_remembered_until_its_hash_changes() {
        let (logins, hash) = (Logins::new(), stored(b"pw"));
        assert_eq!(logins.check_cached(b"ann", b"pw", Some(&hash)), None);
        assert!(run(logins.verify("ann".into(), "pw".into(), Some(hash.clone()))));
        assert_eq!(logins.check_cached(b"ann", b"pw", Some(&hash)), Some(true));
        assert_eq!(logins.check_cached(b"ann", b"PW", Some(&hash)), None);
        assert_eq!(logins.check_cached(b"bob", b"pw", Some(&hash)), None);
        assert_eq!(logins.check_cached(b"ann", b"pw", Some(&stored(b"new"))), None);
        assert_eq!(logins.check_cached(b"ann", b"pw", None), None, "the user was deleted");
        assert_eq!(logins.check_cached(b"annp", b"w", Some(&hash)), None, "parts shifted");
    }

    #[test]
    fn a_bad_login_is_not_remembered() {
        let (logins, hash) = (Logins::new(), stored(b"pw"));
        assert!(!run(logins.verify("ann".into(), "no".into(), Some(hash.clone()))));
        assert_eq!(logins.check_cached(b"ann", b"no", Some(&hash)), None);
        assert!(run(logins.verify("ann".into(), "pw".into(), Some(hash))), "and does not stick");
    }

    #[test]
    fn a_storm_of_one_login_is_checked_once() {
        let (logins, hash) = (Logins::new(), stored(b"pw"));
        let all = run(async {
            let mut all = 0;
            for _ in 0..1000 {
                all += u32::from(logins.verify("a".into(), "pw".into(), Some(hash.clone())).await);
            }
            all
        });
        assert_eq!(all, 1000);
        assert_eq!(logins.remembered.borrow().younger.len(), 1);
    }

    #[test]
    fn memory_of_logins_is_bounded() {
        let mut remembered = Remembered::default();
        for number in 0..10 * REMEMBERED_MAX as u128 {
            remembered.add(number.to_le_bytes());
            assert!(remembered.has(&number.to_le_bytes()));
        }
        assert!(remembered.younger.len() + remembered.older.len() <= 2 * REMEMBERED_MAX);
    }

    #[test]
    fn ten_failures_a_minute_are_free_then_answers_wait() {
        let mut failures = Failures::new();
        let now = failures.begin;
        for _ in 0..FAILURES_FREE {
            assert_eq!(failures.delay(7, now), Duration::ZERO);
            failures.add(7, now);
        }
        let delay = failures.delay(7, now);
        assert!(delay > Duration::ZERO && delay <= DELAY_MAX, "{delay:?}");
        assert_eq!(failures.delay(8, now), Duration::ZERO, "another user is not delayed");
        for _ in 0..100 {
            failures.add(7, now);
        }
        assert_eq!(failures.delay(7, now), DELAY_MAX, "a delay ends");
        let much_later = now + Duration::from_hours(1);
        assert_eq!(failures.delay(7, much_later), Duration::ZERO, "everything is forgiven");
    }

    #[test]
    fn a_failed_check_is_counted_and_a_good_one_is_not() {
        let (logins, hash) = (Logins::new(), stored(b"pw"));
        let owed = |logins: &Logins| {
            let failures = logins.failures.borrow();
            failures.clear_at.iter().filter(|at| **at > 0).count()
        };
        assert!(run(logins.verify("ann".into(), "pw".into(), Some(hash.clone()))));
        assert_eq!(owed(&logins), 0);
        assert!(!run(logins.verify("ann".into(), "no".into(), Some(hash))));
        assert_eq!(owed(&logins), 1);
    }

    #[test]
    fn two_processes_have_different_keys() {
        assert_ne!(Logins::new().tag(&[b"x"]), Logins::new().tag(&[b"x"]));
    }
}
