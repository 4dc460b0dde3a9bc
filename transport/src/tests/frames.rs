//! Frames through real connections.

use super::support::{LIMITS, Pair, pattern, prefix, tag};
use crate::error::FramePart;
use crate::*;
use bytes::Bytes;
use std::time::Duration;

/// Limits under which a peer that dawdles is given up soon.
fn impatient() -> TransportLimits {
    TransportLimits { partial_frame_ms_max: 100, body_bytes_per_second_min: 1 << 20, ..Default::default() }
}

/// A raw stream from a client, and what the server reads from it.
async fn raw(pair: &Pair) -> (quinn::SendStream, FramedRecv, [Connection; 2]) {
    let (client, server) = pair.connect().await;
    let (mut send, _recv) = client.open_raw().await;
    // The server sees the stream with its first byte: a whole empty frame.
    send.write_all(&prefix(0, 0)).await.unwrap();
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    assert!(recv.next(&LIMITS, &ByteBudget::new(0)).await.unwrap().is_some());
    (send, recv, [client, server])
}

#[tokio::test]
async fn frames_come_back_as_they_were_sent() {
    let pair = Pair::new(TransportLimits::default());
    let (client, server) = pair.connect().await;
    let budget = ByteBudget::new(32 << 20);
    let echo = tokio::spawn({
        let budget = budget.clone();
        async move {
            let (mut send, mut recv) = server.accept().await.unwrap().unwrap();
            while let Some(frame) = recv.next(&LIMITS, &budget).await.unwrap() {
                send.send((&frame.prefix).into(), &frame.header, &[frame.body]).await.unwrap();
            }
            send.finish();
            send.delivered().await.unwrap();
        }
    });
    let (mut send, mut recv) = client.open().await.unwrap();
    let big = pattern(8 << 20);
    // The big one in chunks of uneven sizes, one of them empty.
    let chunks = [big.slice(..1), Bytes::new(), big.slice(1..300_001), big.slice(300_001..)];
    let frames: [(&[u8], &[Bytes]); 4] =
        [(b"", &[]), (b"header", &[]), (b"", &[Bytes::from_static(b"body")]), (&[7; 1024], &chunks)];
    let sending = async {
        for (correlation, (header, body)) in frames.iter().enumerate() {
            send.send(tag(correlation as u32), header, body).await.unwrap();
        }
        send.finish();
    };
    let receiving = async {
        for (correlation, (header, body)) in frames.iter().enumerate() {
            let frame = recv.next(&LIMITS, &budget).await.unwrap().unwrap();
            assert_eq!(frame.prefix.correlation, correlation as u32);
            assert_eq!(frame.header, header);
            assert!(frame.body == body.concat(), "frame {correlation}");
            assert_eq!(frame.permit.bytes() as usize, frame.body.len());
            assert!(frame.body.is_empty() || frame.body.try_into_mut().is_ok());
        }
        assert!(recv.next(&LIMITS, &budget).await.unwrap().is_none());
        assert!(recv.next(&LIMITS, &budget).await.unwrap().is_none());
    };
    tokio::join!(sending, receiving);
    echo.await.unwrap();
    assert_eq!(budget.free_bytes(), budget.capacity_bytes());
    assert!(client.datagram_bytes() > 1452, "MTU discovery reached {}", client.datagram_bytes());
}

#[tokio::test]
async fn lengths_over_the_limit_end_the_stream_before_anything_is_taken() {
    // covers reliability §4.4: frame length > max
    let pair = Pair::new(TransportLimits::default());
    let (header_max, body_max) = (LIMITS.header_bytes_max, LIMITS.body_bytes_max);
    for (header, body) in [(header_max + 1, 0), (0, body_max + 1), (u32::MAX, u32::MAX), (1 << 31, 0)] {
        let (mut send, mut recv, connections) = raw(&pair).await;
        send.write_all(&prefix(header, body)).await.unwrap();
        let budget = ByteBudget::new(usize::MAX);
        let error = recv.next(&LIMITS, &budget).await.unwrap_err();
        assert!(matches!(error, RecvError::Frame(_)) && error.is_peer_misbehaviour(), "{error}");
        assert_eq!(budget.free_bytes(), budget.capacity_bytes());
        assert!(recv.next(&LIMITS, &budget).await.unwrap().is_none());
        drop(connections);
    }
}

#[tokio::test]
async fn a_frame_cut_short_is_the_peers_fault_and_frees_what_it_took() {
    // covers reliability §4.4: half-closed, reset mid-frame
    let pair = Pair::new(TransportLimits::default());
    let budget = ByteBudget::new(1 << 20);
    let parts: [(&[u8], FramePart, usize); 3] = [
        (&prefix(0, 0)[..7], FramePart::Prefix, 7),
        (&[&prefix(10, 0)[..], b"123"].concat(), FramePart::Header, 3),
        (&[&prefix(1, 1000)[..], b"hbody"].concat(), FramePart::Body, 4),
    ];
    for (bytes, part_sent, received) in parts {
        let (mut send, mut recv, _connections) = raw(&pair).await;
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        match recv.next(&LIMITS, &budget).await.unwrap_err() {
            RecvError::Truncated { part, received_bytes, .. } => {
                assert_eq!((part, received_bytes), (part_sent, received));
            }
            other => panic!("{other}"),
        }
    }
    let (mut send, mut recv, _connections) = raw(&pair).await;
    send.write_all(&[&prefix(0, 1000)[..], b"half"].concat()).await.unwrap();
    let reading = tokio::spawn({
        let budget = budget.clone();
        async move { recv.next(&LIMITS, &budget).await }
    });
    while budget.free_bytes() == budget.capacity_bytes() {
        tokio::task::yield_now().await;
    }
    send.reset(9_u32.into()).unwrap();
    let error = reading.await.unwrap().unwrap_err();
    assert!(matches!(error, RecvError::Reset { code: 9 }) && error.is_peer_misbehaviour(), "{error}");
    assert_eq!(budget.free_bytes(), budget.capacity_bytes());
}

#[tokio::test]
async fn a_slow_frame_is_given_up_but_a_slow_stream_is_not() {
    // covers reliability §4.4: slow-loris
    let pair = Pair::new(impatient());
    let budget = ByteBudget::new(1 << 20);
    let parts: [(&[u8], FramePart); 3] = [
        (&prefix(0, 0)[..1], FramePart::Prefix),
        (&prefix(10, 0), FramePart::Header),
        (&prefix(0, 1000), FramePart::Body),
    ];
    for (bytes, slow) in parts {
        let (mut send, mut recv, _connections) = raw(&pair).await;
        // Between frames it may be silent for longer than a frame may take.
        let waiting = tokio::time::timeout(Duration::from_millis(300), recv.next(&LIMITS, &budget)).await;
        assert!(waiting.is_err());
        send.write_all(bytes).await.unwrap();
        match recv.next(&LIMITS, &budget).await.unwrap_err() {
            RecvError::TooSlow { part, .. } => assert_eq!(part, slow),
            other => panic!("{other}"),
        }
        assert_eq!(budget.free_bytes(), budget.capacity_bytes());
    }
}

#[tokio::test]
async fn without_budget_nothing_is_read_and_the_sender_waits() {
    let stream_window = 256 << 10;
    let pair = Pair::new(TransportLimits { stream_window_bytes: stream_window, ..impatient() });
    let (client, server) = pair.connect().await;
    let budget = ByteBudget::new(2 << 20);
    let held = budget.take(2 << 20).await.unwrap();
    let (mut send, _recv) = client.open().await.unwrap();
    let body = pattern(2 << 20);
    let mut sending = tokio::spawn({
        let body = body.clone();
        async move {
            send.send(tag(1), b"h", &[body]).await.unwrap();
            send.finish();
            send.delivered().await.unwrap();
        }
    });
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    // Far longer than a frame may take: waiting for the budget is our doing and not held against the peer.
    let waiting = tokio::time::timeout(Duration::from_millis(400), recv.next(&LIMITS, &budget)).await;
    assert!(waiting.is_err());
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut sending).await.is_err());
    // More than the window before authentication has come, and no more than the one after it allows.
    while server.stats().udp_rx.bytes < 200 << 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let arrived = server.stats().udp_rx.bytes;
    assert!(arrived < 2 * u64::from(stream_window), "{arrived} bytes arrived");

    drop(held);
    let frame = recv.next(&LIMITS, &budget).await.unwrap().unwrap();
    assert!(frame.body == body);
    assert_eq!(budget.free_bytes(), 0);
    assert!(recv.next(&LIMITS, &budget).await.unwrap().is_none());
    sending.await.unwrap();
    drop(frame);
    assert_eq!(budget.free_bytes(), budget.capacity_bytes());
}

#[tokio::test]
async fn receiving_can_be_cancelled_at_any_point() {
    let pair = Pair::new(TransportLimits::default());
    let budget = ByteBudget::new(1 << 20);
    let (mut send, mut recv, _connections) = raw(&pair).await;
    let body = pattern(5000);
    let frame = [&prefix(6, 5000)[..], b"header", &body].concat();
    for piece in frame.chunks(3) {
        send.write_all(piece).await.unwrap();
        tokio::select! {
            biased;
            outcome = recv.next(&LIMITS, &budget) => {
                let frame = outcome.unwrap().unwrap();
                assert_eq!((&frame.header[..], frame.body == body), (&b"header"[..], true));
                return;
            }
            () = tokio::time::sleep(Duration::from_micros(300)) => {}
        }
    }
    let frame = recv.next(&LIMITS, &budget).await.unwrap().unwrap();
    assert_eq!((&frame.header[..], frame.body == body), (&b"header"[..], true));
}

#[tokio::test]
async fn a_cancelled_send_resets_the_stream() {
    let pair = Pair::new(TransportLimits { stream_window_bytes: 64 << 10, ..Default::default() });
    let (client, server) = pair.connect().await;
    let (mut send, _recv) = client.open().await.unwrap();
    let body = [pattern(1 << 20)];
    let sending = tokio::time::timeout(Duration::from_millis(100), send.send(tag(1), b"", &body)).await;
    assert!(sending.is_err(), "the window holds it back");
    assert!(matches!(send.send(tag(2), b"", &[]).await, Err(SendError::Closed)));
    drop(send);
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    let error = recv.next(&LIMITS, &ByteBudget::new(1 << 20)).await.unwrap_err();
    assert!(matches!(error, RecvError::Reset { .. }), "{error}");
}

#[tokio::test]
async fn a_body_larger_than_the_whole_budget_is_our_error() {
    let pair = Pair::new(TransportLimits::default());
    let (mut send, mut recv, _connections) = raw(&pair).await;
    send.write_all(&prefix(0, 101)).await.unwrap();
    let error = recv.next(&LIMITS, &ByteBudget::new(100)).await.unwrap_err();
    assert!(matches!(error, RecvError::OverBudget(_)) && !error.is_peer_misbehaviour(), "{error}");
}

#[tokio::test]
async fn a_closed_connection_is_told_from_a_bad_frame() {
    let pair = Pair::new(TransportLimits::default());
    let (mut send, mut recv, [client, server]) = raw(&pair).await;
    send.write_all(&prefix(4, 0)).await.unwrap();
    client.close(CloseCode::ProtocolViolation, "bad\x1b[31m");
    match recv.next(&LIMITS, &ByteBudget::new(0)).await.unwrap_err() {
        RecvError::Lost(ConnectionLost::ClosedByPeer { code: 2, reason }) => {
            assert_eq!(reason, "bad\\u{1b}[31m", "escaped: it goes to terminals");
        }
        other => panic!("{other}"),
    }
    assert!(matches!(server.accept().await, Err(ConnectionLost::ClosedByPeer { code: 2, .. })));

    let (client, server) = pair.connect().await;
    client.close(CloseCode::Done, "");
    assert!(server.accept().await.unwrap().is_none());
    assert!(matches!(client.open().await, Err(ConnectionLost::ClosedHere)));
}

#[tokio::test]
async fn a_stream_that_the_receiver_stops_tells_the_sender() {
    let pair = Pair::new(TransportLimits::default());
    let (client, server) = pair.connect().await;
    let (mut send, _recv) = client.open().await.unwrap();
    send.send(tag(1), b"", &[]).await.unwrap();
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    recv.stop(CloseCode::LimitReached);
    assert!(matches!(send.delivered().await, Err(SendError::Stopped { code: 4 })));
    assert!(matches!(send.send(tag(2), b"", &[]).await, Err(SendError::Stopped { code: 4 })));
}

#[tokio::test]
async fn streams_beyond_the_limit_wait_for_one_to_end() {
    let pair = Pair::new(TransportLimits { streams_max: 2, ..Default::default() });
    let (client, server) = pair.connect().await;
    let (mut first, first_recv) = client.open().await.unwrap();
    let _second = client.open().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), client.open()).await.is_err());
    first.send(tag(1), b"", &[]).await.unwrap();
    drop((first, first_recv));
    let (_, mut recv) = server.accept().await.unwrap().unwrap();
    let budget = ByteBudget::new(0);
    while recv.next(&LIMITS, &budget).await.unwrap().is_some() {}
    drop(recv);
    client.open().await.unwrap();
}
