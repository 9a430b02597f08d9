//! Named limits that doors and engine share, with their defaults. Lives here: the numbers. Not
//! here: how an operator changes them (`config`), who checks them (whoever creates the thing).

/// Longest name of anything (exchange, queue, routing key): one length byte.
pub const NAME_BYTES_MAX: usize = 255;
/// Deepest nesting of tables and arrays in a field table.
pub const TABLE_DEPTH_MAX: usize = 32;
/// Most entries in one field table, nested ones included.
pub const TABLE_ENTRIES_MAX: usize = 4096;
/// Largest field table in bytes.
pub const TABLE_BYTES_MAX: usize = 256 * 1024;
/// Longest list of extra routing keys (CC and BCC together).
pub const EXTRA_KEYS_MAX: usize = 1024;

/// Most queues in one request of a worker.
pub const TAKE_QUEUES_MAX: usize = 256;
/// Most jobs handed over by one request of a worker.
pub const TAKE_JOBS_MAX: u32 = 1000;
/// Most results in one answer.
pub const RESULTS_MAX: u32 = 1000;
/// Largest [`crate::StoreResult::notes`] in bytes.
pub const RESULT_NOTES_BYTES_MAX: usize = 64 * 1024;

/// Limits an operator may change; checked where the thing is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest message body in bytes.
    pub message_bytes_max: u32,
    /// Bytes of one uncommitted transaction.
    pub commit_bytes_max: u32,
    /// Steps of one uncommitted transaction.
    pub commit_ops_max: u32,
    /// Consumers of one channel.
    pub consumers_max: u32,
    /// Queues of the node.
    pub queues_max: u32,
    /// Bindings of the node.
    pub bindings_max: u32,
    /// Exchanges of the node.
    pub exchanges_max: u32,
    /// Virtual hosts of the node.
    pub vhosts_max: u32,
    /// Bytes of all messages in volatile queues.
    pub volatile_bytes_max: u64,
    /// Bytes handed to one session that it has not read yet; above, dispatch to it pauses.
    pub undelivered_bytes_max: u32,
    /// Messages of a queue that a door makes for its jobs; `None` for any number.
    pub job_queue_length_max: Option<u64>,
    /// Bytes of the bodies in it; `None` for any number.
    pub job_queue_bytes_max: Option<u64>,
    /// How often a job of it may come back before it is buried; `None` for any number.
    pub job_deliveries_max: Option<u32>,
    /// The failure of a job that makes it the last: then it is dead-lettered or buried. A queue's
    /// own delivery limit goes before.
    pub job_failures_max: u32,
    /// Results of all virtual hosts.
    pub results_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            commit_bytes_max: 32 << 20,
            commit_ops_max: 1 << 20,
            consumers_max: 1024,
            queues_max: 1_000_000,
            bindings_max: 4_000_000,
            exchanges_max: 100_000,
            vhosts_max: 1_000,
            volatile_bytes_max: 1 << 30,
            undelivered_bytes_max: 2 << 20,
            job_queue_length_max: None,
            job_queue_bytes_max: None,
            job_deliveries_max: None,
            job_failures_max: 3,
            results_max: 100_000_000,
        }
    }
}
