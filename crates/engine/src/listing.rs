//! Listings for administration: what is there, one row per thing, in a fixed order, as far as
//! whoever asks may see it. Reads only.

use bytes::Bytes;
use model::{
    Cell, DestinationKind, ExchangeKind, Listing, Permission, QueueKind, Row, TopicPermission,
    VhostId,
};

use crate::Engine;
use crate::authorize::Sight;
use crate::queue::Queue;
use crate::routing::Exchange;
use crate::vhost::Vhost;

fn text(value: &Bytes) -> Cell {
    Cell::Text(value.clone())
}

const fn word(value: &'static str) -> Cell {
    Cell::Text(Bytes::from_static(value.as_bytes()))
}

const fn count(value: usize) -> Cell {
    Cell::Number(value as u64)
}

impl Engine {
    /// The rows of a listing.
    pub(crate) fn list(&self, listing: Listing, sight: &Sight) -> Vec<Row> {
        match listing {
            Listing::Users => self.list_users(),
            Listing::Vhosts => self.list_vhosts(sight),
            Listing::Queues => self.list_queues(sight),
            Listing::Exchanges => self.list_exchanges(sight),
            Listing::Bindings => self.list_bindings(sight),
            Listing::Connections => self.list_connections(sight),
            Listing::Consumers => self.list_consumers(sight),
            Listing::Permissions => self.list_permissions(),
            Listing::TopicPermissions => self.list_topic_permissions(),
        }
    }

    fn vhost_name(&self, id: VhostId) -> Cell {
        Cell::Text(self.state.vhost(id).map(|vhost| vhost.name.clone()).unwrap_or_default())
    }

    fn seen_vhosts(&self, sight: &Sight) -> impl Iterator<Item = &Vhost> {
        let all = (0..).map(VhostId).zip(&self.state.vhosts);
        let seen = all.filter(|(id, _)| sight.has_vhost(*id));
        seen.filter_map(|(_, vhost)| vhost.as_deref())
    }

    fn list_users(&self) -> Vec<Row> {
        let users = self.state.users.iter();
        users.map(|(name, user)| vec![("name", text(name)), ("tags", text(&user.tags))]).collect()
    }

    fn list_vhosts(&self, sight: &Sight) -> Vec<Row> {
        let seen = self.state.vhost_ids.iter().filter(|(_, id)| sight.has_vhost(**id));
        seen.map(|(name, _)| vec![("name", text(name))]).collect()
    }

    /// Whoever is unrestricted has a row for every virtual host.
    fn list_permissions(&self) -> Vec<Row> {
        let row = |user: &Bytes, vhost: VhostId, permission: &Permission| {
            vec![
                ("user", text(user)),
                ("vhost", self.vhost_name(vhost)),
                ("configure", text(&permission.configure)),
                ("write", text(&permission.write)),
                ("read", text(&permission.read)),
            ]
        };
        let full = Permission::full();
        let unrestricted = self.state.users.iter().filter(|(_, user)| user.is_unrestricted);
        let vhosts = || self.state.vhost_ids.values();
        let everywhere =
            unrestricted.flat_map(|(user, _)| vhosts().map(|vhost| row(user, *vhost, &full)));
        let mut rows: Vec<Row> = everywhere.collect();
        rows.extend(self.state.rights.rows().map(|(user, vhost, it)| row(user, vhost, it)));
        rows
    }

    fn list_topic_permissions(&self) -> Vec<Row> {
        let rows = self.state.rights.topic_rows();
        let row = |(user, vhost, exchange, permission): (_, _, _, &TopicPermission)| {
            vec![
                ("user", text(user)),
                ("vhost", self.vhost_name(vhost)),
                ("exchange", text(exchange)),
                ("write", text(&permission.write)),
                ("read", text(&permission.read)),
            ]
        };
        rows.map(row).collect()
    }

    fn list_queues(&self, sight: &Sight) -> Vec<Row> {
        let mut queues: Vec<&Queue> = self.state.queues.values().map(|queue| &**queue).collect();
        queues.retain(|queue| sight.has_vhost(queue.vhost));
        queues.sort_unstable_by(|a, b| (a.vhost, &a.name).cmp(&(b.vhost, &b.name)));
        let row = |queue: &&Queue| {
            let spec = &queue.spec;
            let kind = match spec.options.kind {
                QueueKind::Classic => "classic",
                QueueKind::Quorum => "quorum",
                QueueKind::Jobs => "jobs",
            };
            vec![
                ("name", text(&queue.name)),
                ("vhost", self.vhost_name(queue.vhost)),
                ("type", word(kind)),
                ("durable", Cell::Flag(spec.is_durable)),
                ("exclusive", Cell::Flag(spec.is_exclusive)),
                ("auto_delete", Cell::Flag(spec.is_auto_delete)),
                ("messages_ready", Cell::Number(queue.ready)),
                ("messages_unacknowledged", Cell::Number(queue.unsettled)),
                ("messages", Cell::Number(queue.ready + queue.unsettled)),
                ("message_bytes_ready", Cell::Number(queue.ready_bytes)),
                ("consumers", Cell::Number(u64::from(queue.consumer_count()))),
                ("arguments", text(&spec.arguments)),
            ]
        };
        queues.iter().map(row).collect()
    }

    fn list_exchanges(&self, sight: &Sight) -> Vec<Row> {
        let row = |vhost: &Bytes, exchange: &Exchange| {
            let spec = exchange.spec();
            let kind = match spec.kind {
                _ if spec.is_delayed => "x-delayed-message",
                ExchangeKind::Direct => "direct",
                ExchangeKind::Fanout => "fanout",
                ExchangeKind::Topic => "topic",
                ExchangeKind::Headers => "headers",
                ExchangeKind::ConsistentHash => "x-consistent-hash",
            };
            vec![
                ("name", text(exchange.name())),
                ("vhost", text(vhost)),
                ("type", word(kind)),
                ("durable", Cell::Flag(spec.is_durable)),
                ("auto_delete", Cell::Flag(spec.is_auto_delete)),
                ("internal", Cell::Flag(spec.is_internal)),
                ("messages_in", Cell::Number(exchange.published())),
                ("arguments", text(&spec.arguments)),
            ]
        };
        let all = self.seen_vhosts(sight).flat_map(|vhost| {
            vhost.router.exchanges().into_iter().map(|exchange| row(&vhost.name, exchange))
        });
        all.collect()
    }

    fn list_bindings(&self, sight: &Sight) -> Vec<Row> {
        let mut rows = Vec::new();
        for vhost in self.seen_vhosts(sight) {
            rows.extend(vhost.router.bindings().map(|binding| {
                let kind = match binding.kind {
                    DestinationKind::Queue => "queue",
                    DestinationKind::Exchange => "exchange",
                };
                vec![
                    ("vhost", text(&vhost.name)),
                    ("source", text(&binding.source)),
                    ("destination_type", word(kind)),
                    ("destination", text(&binding.destination)),
                    ("routing_key", text(&binding.routing_key)),
                    ("arguments", text(&binding.arguments)),
                ]
            }));
        }
        rows
    }

    fn list_connections(&self, sight: &Sight) -> Vec<Row> {
        let row = |session: &crate::channel::Session| {
            let vhost = session.vhost.map_or_else(|| word(""), |vhost| self.vhost_name(vhost));
            let unsettled: usize =
                session.channels.values().map(|channel| channel.unsettled.len()).sum();
            vec![
                ("peer", text(&session.info.peer)),
                ("protocol", word(session.info.door)),
                ("user", Cell::Text(session.actor.user().cloned().unwrap_or_default())),
                ("vhost", vhost),
                ("channels", count(session.channels.len())),
                ("messages_unacknowledged", count(unsettled)),
                ("paused", Cell::Flag(session.is_paused)),
            ]
        };
        let seen = self.sessions.iter().filter(|session| sight.has_session_of(&session.actor));
        seen.map(row).collect()
    }

    fn list_consumers(&self, sight: &Sight) -> Vec<Row> {
        let row = |consumer: &crate::channel::Consumer| {
            let queue = self.state.queues.get(&consumer.queue);
            let session = self.sessions.get(consumer.session);
            let peer = session.map(|it| it.info.peer.clone());
            let vhost = session.and_then(|it| it.vhost);
            let credit = self
                .sessions
                .channel(consumer.session, consumer.channel)
                .map_or(0, |channel| channel.credit_each);
            vec![
                ("queue", Cell::Text(queue.map(|queue| queue.name.clone()).unwrap_or_default())),
                ("vhost", vhost.map_or_else(|| word(""), |vhost| self.vhost_name(vhost))),
                ("tag", text(&consumer.label)),
                ("peer", Cell::Text(peer.unwrap_or_default())),
                ("channel", Cell::Number(u64::from(consumer.channel))),
                ("ack_required", Cell::Flag(!consumer.no_ack)),
                ("exclusive", Cell::Flag(consumer.is_exclusive)),
                ("prefetch", Cell::Number(u64::from(credit))),
                ("messages_unacknowledged", Cell::Number(u64::from(consumer.unsettled))),
            ]
        };
        let is_seen = |consumer: &&crate::channel::Consumer| {
            let vhost = self.sessions.get(consumer.session).and_then(|it| it.vhost);
            vhost.is_some_and(|vhost| sight.has_vhost(vhost))
        };
        self.sessions.consumers().filter(is_seen).map(row).collect()
    }
}
