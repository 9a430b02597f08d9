//! The codec alone: any bytes as frames, methods, headers; what decodes is encoded and decodes to
//! the same, and content of any size comes back whole from its frames.

use bytes::BytesMut;
use proto_amqp::codec;
use proto_amqp::table::Method;

use crate::source::Source;

/// The first byte chooses between the bytes as a stream of frames and as one method's payload.
pub fn run(data: &[u8]) {
    let mut source = Source::new(data);
    match source.below(3) {
        0 => stream(source.rest(), 4096 + source.u32() % 200_000),
        1 => method(source.rest()),
        _ => content(&mut source),
    }
}

fn stream(mut input: &[u8], frame_max: u32) {
    while let Ok(Some(head)) = codec::peek(input, frame_max) {
        let payload = head.payload(input);
        assert_eq!(payload.len(), head.size);
        match head.kind {
            codec::METHOD => method(payload),
            codec::HEADER => {
                if let Some(header) = codec::content_header(payload) {
                    assert_eq!(header.properties.len() + codec::CONTENT_HEAD, payload.len());
                }
            }
            _ => {}
        }
        input = &input[head.total()..];
    }
}

fn method(payload: &[u8]) {
    let Ok(method) = Method::parse(payload) else { return };
    let mut out = BytesMut::new();
    method.put(&mut out, 3);
    let head = codec::peek(&out, u32::MAX).expect("own frame").expect("own frame, whole");
    assert_eq!((head.kind, head.channel, head.total()), (codec::METHOD, 3, out.len()));
    assert_eq!(Method::parse(head.payload(&out)), Ok(method));
    assert_ne!(method.name(), "unknown");
}

fn content(source: &mut Source<'_>) {
    let frame_max = 9 + u32::from(source.u8());
    let properties = source.bytes(64);
    let body = source.rest();
    let mut out = BytesMut::new();
    codec::put_content(&mut out, 9, properties, body, frame_max);
    let (mut rest, mut found) = (&out[..], Vec::new());
    let mut is_first = true;
    while !rest.is_empty() {
        // A header is one frame whatever frame-max says; the pieces of the body obey it.
        let limit = if is_first { u32::MAX } else { frame_max };
        let head = codec::peek(rest, limit).expect("own frame").expect("own frame, whole");
        assert_eq!(head.channel, 9);
        if is_first {
            let header = codec::content_header(head.payload(rest)).expect("own header");
            assert_eq!((header.class, header.body_size), (60, body.len() as u64));
            let expected = if properties.is_empty() { &[0, 0][..] } else { properties };
            assert_eq!(header.properties, expected);
        } else {
            assert_eq!(head.kind, codec::BODY);
            found.extend_from_slice(head.payload(rest));
        }
        is_first = false;
        rest = &rest[head.total()..];
    }
    assert_eq!(found, body);
}
