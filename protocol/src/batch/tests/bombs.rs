//! Payloads that become too much, and payloads that are not what their codec makes. covers reliability §4.4 (bombs)

use crate::batch::{BatchError, BatchLimits, Compression};
use crate::compression::{Compressor, Decompressor};
use crate::limits;
use crate::tests::measure;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::Write;

fn decompress(codec: Compression, payload: &[u8], limits: &BatchLimits) -> Result<Vec<u8>, BatchError> {
    Decompressor::default().decompress(codec, payload, limits)
}

fn client(codec: Compression, payload: &[u8]) -> Result<Vec<u8>, BatchError> {
    decompress(codec, payload, &BatchLimits::CLIENT)
}

fn assert_broken(codec: Compression, payload: &[u8], words: &str) {
    match client(codec, payload) {
        Err(BatchError::Decompression { reason, .. }) => assert!(reason.contains(words), "{reason:?} lacks {words:?}"),
        other => panic!("expected {words:?}, got {:?}", other.map(|records| records.len())),
    }
}

fn assert_too_large(codec: Compression, payload: &[u8], limits: &BatchLimits, held_bytes_max: usize) {
    let (outcome, usage) = measure(|| decompress(codec, payload, limits));
    match outcome {
        Err(BatchError::DecompressedTooLarge { compressed, .. }) => assert_eq!(compressed, payload.len()),
        other => panic!("{} bytes came to {:?}", payload.len(), other.map(|records| records.len())),
    }
    assert!(usage.peak_bytes <= held_bytes_max, "{usage:?}, allowed {held_bytes_max}");
}

/// A zstd frame of repeated bytes, 128 KiB for every 4; `content_bytes` is what it claims to hold, if anything.
fn zstd_bomb(blocks: usize, window_log: u8, content_bytes: Option<u64>) -> Vec<u8> {
    let mut frame = 0xfd2f_b528_u32.to_le_bytes().to_vec();
    let content_flag = if content_bytes.is_some() { 3 << 6 } else { 0 };
    frame.push(content_flag);
    frame.push((window_log - 10) << 3);
    frame.extend(content_bytes.into_iter().flat_map(u64::to_le_bytes));
    for block in 1..=blocks {
        let repeated = 1 << 1;
        let header = (128_u32 << 10) << 3 | repeated | u32::from(block == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An LZ4 frame of zeros in blocks of 4 MiB: the best ratio the format has, 255.
fn lz4_bomb(bytes: usize) -> Vec<u8> {
    let info = FrameInfo::new().block_size(BlockSize::Max4MB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&vec![0; bytes]).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_kilobyte_of_zstd_stops_at_the_cap() {
    let honest = zstd_bomb(250, 17, Some(250 << 17));
    assert!(honest.len() < 1100);
    // It says what it holds: refused before a byte is reserved.
    assert_too_large(Compression::Zstd, &honest, &BatchLimits::CLIENT, 1000);
    let endless = zstd_bomb(250, 17, Some(1 << 60));
    assert_too_large(Compression::Zstd, &endless, &BatchLimits::CLIENT, 1000);
    let silent = zstd_bomb(250, 17, None);
    assert_too_large(Compression::Zstd, &silent, &BatchLimits::CLIENT, 2 * limits::RATIO_FREE_BYTES_MAX + (64 << 10));
    // One byte more than the cap is over it, though it all came out at once.
    let (compressed, max) = (zstd_bomb(1, 17, None), (128 << 10) - 1);
    let narrow = BatchLimits { decompressed_bytes_max: max, ..BatchLimits::CLIENT };
    assert_too_large(Compression::Zstd, &compressed, &narrow, 1 << 20);
    // It says less than it holds: only that much is reserved, and it does not fit.
    let (outcome, usage) = measure(|| client(Compression::Zstd, &zstd_bomb(250, 17, Some(1000))));
    assert!(matches!(outcome, Err(BatchError::Decompression { .. })), "{:?}", outcome.map(|records| records.len()));
    assert!(usage.peak_bytes < 10_000, "{usage:?}");
    // The same frame within the cap is fine.
    assert_eq!(client(Compression::Zstd, &zstd_bomb(8, 17, None)).map(|records| records.len()), Ok(1 << 20));
    assert_eq!(client(Compression::Zstd, &zstd_bomb(8, 17, Some(1 << 20))).map(|records| records.len()), Ok(1 << 20));
}

#[test]
fn a_larger_zstd_bomb_stops_at_the_byte_cap() {
    // Noise in front makes the ratio harmless; what remains is the absolute cap.
    let limits = BatchLimits { decompression_ratio_max: usize::MAX, ..BatchLimits::CLIENT };
    let silent = zstd_bomb(520, 17, None);
    let held = 2 * limits.decompressed_bytes_max + (64 << 10);
    assert_too_large(Compression::Zstd, &silent, &limits, held);
    let exactly = zstd_bomb(512, 17, None);
    assert_eq!(decompress(Compression::Zstd, &exactly, &limits).map(|r| r.len()), Ok(limits.decompressed_bytes_max));
}

#[test]
fn an_lz4_bomb_stops_at_the_cap() {
    let bomb = lz4_bomb(32 << 20);
    assert!(bomb.len() < 140_000);
    let cap = bomb.len() * limits::DECOMPRESSION_RATIO_MAX;
    let codec_bytes = 9 << 20;
    assert_too_large(Compression::Lz4, &bomb, &BatchLimits::CLIENT, 2 * cap + codec_bytes);
    let kilobyte = lz4_bomb(200 << 10);
    assert!(kilobyte.len() < 1024);
    let narrow = BatchLimits { decompressed_bytes_max: 16 << 10, ..BatchLimits::CLIENT };
    assert_too_large(Compression::Lz4, &kilobyte, &narrow, (32 << 10) + codec_bytes);
    let exactly = BatchLimits { decompressed_bytes_max: 200 << 10, ..BatchLimits::CLIENT };
    assert_eq!(decompress(Compression::Lz4, &kilobyte, &exactly).map(|records| records.len()), Ok(200 << 10));
}

#[test]
fn a_zstd_window_beyond_the_limit_is_refused() {
    // With a declared content size the output itself is the window; without one, up to 8 MiB may be asked for.
    assert!(client(Compression::Zstd, &zstd_bomb(1, 23, None)).is_ok());
    for window_log in [24, 27, 31, 41] {
        assert_broken(Compression::Zstd, &zstd_bomb(1, window_log, None), "too much memory");
    }
}

#[test]
fn zstd_without_a_content_size_reads() {
    // As Kafka's Java client writes it: a stream whose size is not known in front.
    let text = "so that there is something to compress, ".repeat(10_000);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(text.as_bytes()).unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(client(Compression::Zstd, &frame), Ok(text.clone().into_bytes()));
    // And one context serves one form after the other, also after a failure.
    let whole = Compressor::default().compress(Compression::Zstd, text.as_bytes()).unwrap().to_vec();
    let mut decompressor = Decompressor::default();
    for payload in [&frame, &whole, &whole, &frame] {
        let cut = &payload[..payload.len() - 1];
        assert!(decompressor.decompress(Compression::Zstd, cut, &BatchLimits::CLIENT).is_err());
        let records = decompressor.decompress(Compression::Zstd, payload, &BatchLimits::CLIENT);
        assert_eq!(records, Ok(text.clone().into_bytes()));
    }
}

#[test]
fn a_payload_is_one_frame_and_nothing_else() {
    for codec in [Compression::Lz4, Compression::Zstd] {
        let frame = Compressor::default().compress(codec, b"records, records, records").unwrap().to_vec();
        assert!(client(codec, &frame).is_ok());
        assert_broken(codec, &[&frame[..], &[0]].concat(), "follow");
        assert_broken(codec, &[&frame[..], &frame[..]].concat(), "follow");
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        assert_broken(codec, &[&skippable[..], &frame[..]].concat(), "frame");
        for length in 0..frame.len() {
            assert!(client(codec, &frame[..length]).is_err(), "{codec} cut to {length}");
        }
    }
}

#[test]
fn lz4_frames_that_kafkas_readers_refuse_are_refused() {
    let frame = |info: FrameInfo| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&b"a block, ".repeat(20_000)).unwrap();
        encoder.finish().unwrap()
    };
    let plain = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let linked = frame(FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Linked));
    assert_broken(Compression::Lz4, &linked, "independent");
    assert_broken(Compression::Lz4, &[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0], "independent");
    for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        assert!(client(Compression::Lz4, &frame(plain.clone().block_size(size))).is_ok());
    }

    let summed = frame(plain.clone().content_checksum(true).block_checksums(true));
    assert!(client(Compression::Lz4, &summed).is_ok());
    let mut bad_content = summed.clone();
    *bad_content.last_mut().unwrap() ^= 1;
    assert_broken(Compression::Lz4, &bad_content, "Checksum");
    let mut bad_header = frame(plain);
    bad_header[6] ^= 1;
    assert_broken(Compression::Lz4, &bad_header, "Checksum");
}

#[test]
fn codecs_are_named_as_everyone_names_them() {
    for (codec, name, bits) in [
        (Compression::None, "none", 0),
        (Compression::Gzip, "gzip", 1),
        (Compression::Snappy, "snappy", 2),
        (Compression::Lz4, "lz4", 3),
        (Compression::Zstd, "zstd", 4),
    ] {
        assert_eq!((codec.to_string().as_str(), codec.bits()), (name, bits));
        assert_eq!(name.parse(), Ok(codec));
        assert_eq!(Compression::from_bits(bits), Some(codec));
    }
    assert!("LZ4".parse::<Compression>().is_err());
    assert_eq!(Compression::from_bits(5), None);
}
