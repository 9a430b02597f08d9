//! Classes exchange and queue: declare, delete, bind, unbind, purge.
//! Source of the texts: observed, `RabbitMQ` 3.10.8.

use bytes::Bytes;
use model::{Binding, DeclareExchange, DeclareQueue, DestinationKind, QueueSpec, Request};
use wire::Outbox;

use super::{
    Connection, Stop,
    ticket::{self, Ask},
    unimplemented_method,
};
use crate::{
    map::{self, Code, Failure, REPLY_TO},
    table::Method,
};

impl Connection {
    /// A method of the classes exchange or queue on an open channel.
    pub(super) fn on_topology_class(
        &mut self,
        number: u16,
        method: &Method<'_>,
        out: &mut Outbox,
    ) -> Result<(), Stop> {
        let (ask, nowait, request) = match *method {
            Method::ExchangeDeclare { nowait, .. } => {
                (Ask::DeclareExchange, nowait, self.declare_exchange(method)?)
            }
            Method::ExchangeDelete { exchange, if_unused, nowait, .. } => {
                (Ask::DeleteExchange, nowait, self.delete_exchange(exchange, if_unused)?)
            }
            Method::ExchangeBind { nowait, .. } => {
                (Ask::BindExchange, nowait, Request::Bind(exchange_binding(method)?))
            }
            Method::ExchangeUnbind { nowait, .. } => {
                (Ask::UnbindExchange, nowait, Request::Unbind(exchange_binding(method)?))
            }
            Method::QueueDeclare { nowait, .. } => {
                (Ask::DeclareQueue, nowait, self.declare_queue(number, method)?)
            }
            Method::QueueBind { nowait, .. } => {
                (Ask::BindQueue, nowait, Request::Bind(self.queue_binding(number, method)?))
            }
            Method::QueueUnbind { .. } => {
                (Ask::UnbindQueue, false, Request::Unbind(self.queue_binding(number, method)?))
            }
            Method::QueuePurge { queue, nowait, .. } => {
                (Ask::PurgeQueue, nowait, Request::PurgeQueue(self.queue_named(number, queue)?))
            }
            Method::QueueDelete { queue, if_unused, if_empty, nowait, .. } => {
                let name = self.queue_named(number, queue)?;
                (Ask::DeleteQueue, nowait, Request::DeleteQueue { name, if_unused, if_empty })
            }
            _ => return Err(unimplemented_method().into()),
        };
        out.submit(number, ticket::with_nowait(ask, nowait), request);
        Ok(())
    }

    fn declare_exchange(&self, method: &Method<'_>) -> Result<Request, Failure> {
        let &Method::ExchangeDeclare {
            exchange,
            kind,
            passive,
            durable,
            auto_delete,
            internal,
            arguments,
            ..
        } = method
        else {
            return Err(unimplemented_method());
        };
        let name = map::without_line_breaks(exchange);
        not_default(&name)?;
        if passive {
            return Ok(Request::LookupExchange(name));
        }
        if name.starts_with(b"amq.") && !map::is_predeclared_exchange(&name) {
            return Err(reserved("exchange", &name));
        }
        let mut spec = map::exchange_spec(&name, &self.login.vhost, kind, arguments)?;
        spec.is_durable = durable;
        spec.is_auto_delete = auto_delete;
        spec.is_internal = internal;
        Ok(Request::DeclareExchange(Box::new(DeclareExchange { name, spec })))
    }

    fn delete_exchange(&self, exchange: &[u8], if_unused: bool) -> Result<Request, Failure> {
        let name = map::without_line_breaks(exchange);
        not_default(&name)?;
        if map::is_predeclared_exchange(&name) {
            return Err(Failure::new(
                Code::AccessRefused,
                format!(
                    "deletion of system exchange '{}' in vhost '{}' not allowed",
                    map::printable(&name),
                    map::printable(&self.login.vhost)
                ),
            ));
        }
        Ok(Request::DeleteExchange { name, if_unused })
    }

    /// Deviation(AMQP-011): a queue that is neither durable nor exclusive is accepted, as before
    /// `RabbitMQ` 4.3.
    fn declare_queue(&mut self, number: u16, method: &Method<'_>) -> Result<Request, Failure> {
        let &Method::QueueDeclare {
            queue,
            passive,
            durable,
            exclusive,
            auto_delete,
            arguments,
            ..
        } = method
        else {
            return Err(unimplemented_method());
        };
        let name = map::without_line_breaks(queue);
        if passive || name.starts_with(REPLY_TO) {
            // Passive, "" is a name like any other.
            self.remember_queue(number, &name);
            return Ok(Request::LookupQueue(name));
        }
        let name = if name.is_empty() {
            self.names.next("amq.gen-")
        } else if name.starts_with(b"amq.") {
            return Err(reserved("queue", &name));
        } else {
            name
        };
        let options = map::queue_options(&name, &self.login.vhost, arguments)?;
        self.remember_queue(number, &name);
        let spec = QueueSpec {
            // An exclusive queue never outlives its connection.
            // Source: observed, `RabbitMQ` 3.10.8.
            is_durable: durable && !exclusive,
            is_exclusive: exclusive,
            is_auto_delete: auto_delete,
            options,
            arguments: map::name(arguments),
        };
        Ok(Request::DeclareQueue(Box::new(DeclareQueue { name, spec })))
    }

    fn remember_queue(&mut self, number: u16, name: &Bytes) {
        if let Some(channel) = self.channels.get_mut(number) {
            channel.last_queue = name.clone();
        }
    }

    fn queue_binding(&mut self, number: u16, method: &Method<'_>) -> Result<Box<Binding>, Failure> {
        let (queue, exchange, key, arguments, is_new) = match *method {
            Method::QueueBind { queue, exchange, routing_key, arguments, .. } => {
                (queue, exchange, routing_key, arguments, true)
            }
            Method::QueueUnbind { queue, exchange, routing_key, arguments, .. } => {
                (queue, exchange, routing_key, arguments, false)
            }
            _ => return Err(unimplemented_method()),
        };
        let destination = self.queue_named(number, queue)?;
        // With neither queue nor key named, the queue's name is the key as well.
        // Source: AMQP 0-9-1 1.7.2.3.4.
        let routing_key =
            if queue.is_empty() && key.is_empty() { destination.clone() } else { map::name(key) };
        let source = map::without_line_breaks(exchange);
        not_default(&source)?;
        if is_new {
            map::check_binding(arguments)?;
        }
        Ok(Box::new(Binding {
            source,
            kind: DestinationKind::Queue,
            destination,
            routing_key,
            arguments: map::name(arguments),
        }))
    }

    /// Writes the answer to a topology request that was done.
    pub(super) fn write_topology_ok(number: u16, ask: Ask, out: &mut Outbox) {
        let method = match ask {
            Ask::DeclareExchange => Method::ExchangeDeclareOk {},
            Ask::DeleteExchange => Method::ExchangeDeleteOk {},
            Ask::BindExchange => Method::ExchangeBindOk {},
            Ask::UnbindExchange => Method::ExchangeUnbindOk {},
            Ask::BindQueue => Method::QueueBindOk {},
            Ask::UnbindQueue => Method::QueueUnbindOk {},
            _ => return,
        };
        method.put(&mut out.bytes, number);
    }
}

fn exchange_binding(method: &Method<'_>) -> Result<Box<Binding>, Failure> {
    let (destination, source, routing_key, arguments) = match *method {
        Method::ExchangeBind { destination, source, routing_key, arguments, .. } => {
            map::check_binding(arguments)?;
            (destination, source, routing_key, arguments)
        }
        Method::ExchangeUnbind { destination, source, routing_key, arguments, .. } => {
            (destination, source, routing_key, arguments)
        }
        _ => return Err(unimplemented_method()),
    };
    let destination = map::without_line_breaks(destination);
    let source = map::without_line_breaks(source);
    not_default(&destination)?;
    not_default(&source)?;
    Ok(Box::new(Binding {
        source,
        kind: DestinationKind::Exchange,
        destination,
        routing_key: map::name(routing_key),
        arguments: map::name(arguments),
    }))
}

fn not_default(exchange: &[u8]) -> Result<(), Failure> {
    if exchange.is_empty() {
        let text = "operation not permitted on the default exchange";
        return Err(Failure::new(Code::AccessRefused, text));
    }
    Ok(())
}

fn reserved(noun: &str, name: &[u8]) -> Failure {
    let name = map::printable(name);
    Failure::new(
        Code::AccessRefused,
        format!("{noun} name '{name}' contains reserved prefix 'amq.*'"),
    )
}
