//! The running server as this door's [`Node`]: questions go to its desk, counters come from the
//! pipeline and the log.

use std::future::Future;

use bytes::Bytes;
use model::{Reply, Request};
use replica::Alarm;

use super::{Node, NodeStats};
use crate::serve::Desk;

impl Node for Desk {
    fn ask(&self, vhost: Option<Bytes>, request: Request) -> impl Future<Output = Reply> {
        Self::ask(self, vhost, request)
    }

    fn stats(&self) -> NodeStats {
        let read = self.server().read(|node| NodeStats {
            connections: u64::try_from(node.session_count()).unwrap_or(u64::MAX),
            is_disk_alarm: node.alarm() == Some(Alarm::Disk),
            is_memory_alarm: node.alarm() == Some(Alarm::Memory),
            ..NodeStats::default()
        });
        read.unwrap_or(NodeStats { is_stopping: true, ..NodeStats::default() })
    }
}
