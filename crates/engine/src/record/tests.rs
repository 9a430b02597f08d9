//! Layouts: what is written reads back, what is cut is refused, and the bytes are those of the
//! committed fixture, which every later release must still read.

use proptest::prelude::*;

use model::{ExchangeKind, ExchangeSpec, Overflow, QueueKind, QueueOptions, QueueSpec};

use super::*;

fn bytes(max: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
}

fn written(head: &Head<'_>, targets: &[QueueId], keys: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::new();
    head.begin(targets, keys, &mut out);
    let MessageRef { exchange, routing_key, properties, body } = head.message;
    [&out, exchange, routing_key, properties, body].concat()
}

proptest! {
    #[test]
    fn messages_read_back(
        (vhost, priority, at) in any::<(u16, u8, u64)>(),
        (ttl, due) in any::<(Option<u64>, Option<u64>)>(),
        targets in proptest::collection::vec(any::<u32>(), 0..4),
        keys in proptest::collection::vec(bytes(255), 0..3),
        (exchange, key, properties, body) in (bytes(255), bytes(255), bytes(400), bytes(400)),
    ) {
        let message = MessageRef {
            exchange: &exchange,
            routing_key: &key,
            properties: &properties,
            body: &body,
        };
        let vhost = VhostId(vhost);
        let head = Head { vhost, priority, at, ttl, due, message, ..Head::default() };
        let targets: Vec<QueueId> = targets.into_iter().map(QueueId).collect();
        let payload = written(&head, &targets, &keys);
        let read = Head::read(&payload).unwrap();
        prop_assert_eq!(read.target_ids().collect::<Vec<_>>(), targets);
        prop_assert_eq!(split_keys(read.extra_keys), keys);
        prop_assert_eq!(Head { targets: &[], extra_keys: &[], ..read }, head);
        for cut in 0..payload.len() - body.len() {
            prop_assert_eq!(Head::read(&payload[..cut]), None);
        }
    }

    #[test]
    fn runs_join_without_changing_what_they_name(
        seqs in proptest::collection::btree_set((0..3_u32, 0..2_u8, 0..40_u64), 0..40),
    ) {
        let one = |(queue, level, seq)| Run::one(QueueId(queue), level, seq);
        let mut runs: Vec<Run> = seqs.iter().rev().copied().map(one).collect();
        join(&mut runs);
        let mut payload = Vec::new();
        for run in &runs {
            run.put(&mut payload);
        }
        let read = read_runs(&payload).unwrap();
        prop_assert_eq!(&read, &runs);
        let named = read.iter().flat_map(|run| {
            (run.first..run.first + run.count).map(|seq| (run.queue.0, run.level, seq))
        });
        prop_assert!(named.eq(seqs.iter().copied()));
    }

    #[test]
    fn anything_may_stand_in_a_record(payload in proptest::collection::vec(any::<u8>(), 0..80)) {
        // Whatever the answer is, it is one.
        let head = Head::read(&payload);
        prop_assert!(head.is_none_or(|head| head.message.body.len() <= payload.len()));
        let runs = read_runs(&payload);
        prop_assert!(runs.is_none_or(|runs| runs.len() <= payload.len()));
        let promote = Promote::read(&payload);
        prop_assert!(promote.is_none_or(|it| it.targets.len() <= payload.len()));
        let rest = &mut payload.as_slice();
        let specs = (take_queue_spec(rest), take_exchange_spec(rest), take_binding(rest));
        prop_assert!(specs.0.is_none_or(|spec| spec.arguments.len() <= payload.len()));
    }
}

fn spec() -> QueueSpec {
    QueueSpec {
        is_durable: true,
        is_exclusive: false,
        is_auto_delete: true,
        options: QueueOptions {
            kind: QueueKind::Quorum,
            message_ttl_ms: Some(1),
            expires_ms: Some(300),
            length_max: Some(u64::MAX),
            bytes_max: None,
            overflow: Overflow::RejectPublishDeadLetter,
            dead_letter_exchange: Some(Bytes::new()),
            dead_letter_routing_key: Some("dead".into()),
            delivery_max: Some(5),
            priority_max: 9,
            is_single_active_consumer: true,
        },
        arguments: "raw".into(),
    }
}

#[test]
fn specs_and_bindings_read_back() {
    for spec in [spec(), QueueSpec::default()] {
        let mut out = Vec::new();
        put_queue_spec(&mut out, &spec);
        assert_eq!(take_queue_spec(&mut out.as_slice()), Some(spec));
    }
    for kind in [
        ExchangeKind::Direct,
        ExchangeKind::Fanout,
        ExchangeKind::Topic,
        ExchangeKind::Headers,
        ExchangeKind::ConsistentHash,
    ] {
        let spec = ExchangeSpec {
            kind,
            is_durable: true,
            is_auto_delete: false,
            is_internal: true,
            is_delayed: kind == ExchangeKind::Topic,
            alternate: Some("other".into()),
            arguments: Bytes::new(),
        };
        let mut out = Vec::new();
        put_exchange_spec(&mut out, &spec);
        assert_eq!(take_exchange_spec(&mut out.as_slice()), Some(spec));
    }
}

#[test]
fn a_promotion_reads_back() {
    for ttl in [None, Some(7)] {
        let targets = vec![QueueId(1), QueueId(9)];
        let promote = Promote { lsn: Lsn(5), due: 6, at: 7, ttl, priority: 2, targets };
        let mut out = Vec::new();
        promote.put(&mut out);
        assert_eq!(Promote::read(&out), Some(promote));
        out.pop();
        assert_eq!(Promote::read(&out), None);
    }
}
