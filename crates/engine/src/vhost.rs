//! A virtual host: a name space with its own routing. Queues themselves are the state's, by id.

use std::sync::Arc;

use bytes::Bytes;
use model::{Lsn, QueueSpec};

use crate::routing::Router;

/// One virtual host.
#[derive(Debug)]
pub(crate) struct Vhost {
    pub name: Bytes,
    /// Its exchanges, bindings and queue names.
    pub router: Router,
    /// End of the last record about its exchanges and bindings. Volatile.
    pub changed: Lsn,
    /// The last declared queue spec: most queues of an application are declared alike.
    last_spec: Option<Arc<QueueSpec>>,
}

impl Vhost {
    pub(crate) fn new(name: Bytes) -> Self {
        Self { name, router: Router::new(), changed: Lsn::ZERO, last_spec: None }
    }

    /// One copy of equal neighbours.
    pub(crate) fn share(&mut self, spec: QueueSpec) -> Arc<QueueSpec> {
        match &self.last_spec {
            Some(last) if **last == spec => Arc::clone(last),
            _ => Arc::clone(self.last_spec.insert(Arc::new(spec))),
        }
    }
}
