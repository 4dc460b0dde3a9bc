use super::*;
use crate::testing::batch_of;

const BASE_OFFSET: i64 = 100;

/// Headers of batches, one record each, with these timestamps.
fn headers(timestamps: &[i64]) -> Vec<BatchHeader> {
    let batches = timestamps.iter().zip(BASE_OFFSET..);
    batches.map(|(timestamp, offset)| BatchHeader::decode(&batch_of(offset, 0, &[*timestamp], 2000)).unwrap()).collect()
}

fn index_of(headers: &[BatchHeader], interval_bytes: u64) -> SegmentIndex {
    let mut index = SegmentIndex::new(BASE_OFFSET, interval_bytes);
    headers.iter().for_each(|header| index.push(header));
    index
}

#[test]
fn every_offset_is_found_from_its_place() {
    for interval_bytes in [0, 3000, 10_000, 1 << 30] {
        let headers = headers(&[5; 20]);
        let index = index_of(&headers, interval_bytes);
        let bytes = headers[0].total_bytes() as u64;
        for offset in BASE_OFFSET..BASE_OFFSET + 25 {
            let place = index.place_of(offset);
            assert!(place.offset <= offset);
            assert_eq!(place.position, (place.offset - BASE_OFFSET) as u64 * bytes, "a batch begins there");
            let distance = (offset.min(BASE_OFFSET + 19) - place.offset) as u64 * bytes;
            assert!(distance <= index.interval_bytes() + bytes, "sparse, but not sparser than asked");
        }
        assert_eq!(index.place_of(0), Place { offset: BASE_OFFSET, position: 0 });
        assert_eq!(index.covered_bytes(), bytes * 20);
    }
}

#[test]
fn nothing_before_a_place_reaches_the_timestamp() {
    let timestamps = [10, 30, 20, 20, 50, 40, 10, 60, 60, 55];
    let index = index_of(&headers(&timestamps), 0);
    for wanted in 0..70 {
        let place = index.place_before(wanted);
        let before = &timestamps[..(place.offset - BASE_OFFSET) as usize];
        assert!(before.iter().all(|timestamp| *timestamp < wanted), "{wanted}: {place:?}");
    }
    assert_eq!(index.place_before(45).offset, BASE_OFFSET + 4, "and it is as late as can be");
    assert_eq!(index.newest(), Some(Newest { timestamp: 60, base_offset: BASE_OFFSET + 7 }));
}

#[test]
fn what_is_written_is_read() {
    for timestamps in [&[][..], &[7], &[10, 30, 20, 50]] {
        let index = index_of(&headers(timestamps), 0);
        let (offsets, times) = (index.encode_offsets(), index.encode_times());
        assert_eq!(index.encoded_bytes(), (offsets.len() + times.len()) as u64);
        let mut read = SegmentIndex::decode(BASE_OFFSET, index.covered_bytes(), 0, &offsets, &times).unwrap();
        read.bytes_since_entry = index.bytes_since_entry;
        assert_eq!(read, index);
    }
}

// covers LOG-4
#[test]
fn the_index_of_other_bytes_is_refused() {
    let index = index_of(&headers(&[10, 30, 20, 50]), 0);
    let (offsets, times) = (index.encode_offsets(), index.encode_times());
    let covered = index.covered_bytes();
    assert!(SegmentIndex::decode(BASE_OFFSET, covered, 0, &offsets, &times).is_ok());
    assert!(SegmentIndex::decode(BASE_OFFSET + 1, covered, 0, &offsets, &times).is_err());
    assert!(SegmentIndex::decode(BASE_OFFSET, covered - 1, 0, &offsets, &times).is_err());
    assert!(SegmentIndex::decode(BASE_OFFSET, covered, 0, &times, &offsets).is_err());
}

// covers LOG-4
#[test]
fn senseless_entries_are_refused() {
    let frame = |kind, entries: &[u8], head: usize| {
        let identity = [BASE_OFFSET.to_be_bytes(), 100_u64.to_be_bytes(), 0_i64.to_be_bytes(), 0_i64.to_be_bytes()];
        checkpoint::encode(kind, VERSION, &[&identity.concat()[..head], entries].concat())
    };
    let pair = |first: u32, second: u32| [first.to_be_bytes(), second.to_be_bytes()].concat();
    let good_times = frame(TIMES_KIND, &[], 32);
    let decode = |offsets: &[u8], times: &[u8]| SegmentIndex::decode(BASE_OFFSET, 100, 0, offsets, times);
    let good_offsets = frame(OFFSETS_KIND, &pair(1, 50), 16);
    assert!(decode(&good_offsets, &good_times).is_ok());
    for entries in [pair(1, 100), [pair(2, 50), pair(1, 60)].concat(), [pair(1, 50), pair(2, 50)].concat(), vec![1]] {
        assert!(decode(&frame(OFFSETS_KIND, &entries, 16), &good_times).is_err(), "{entries:?}");
    }
    let time = |timestamp: i64, offset: u32| [&timestamp.to_be_bytes()[..], &offset.to_be_bytes()].concat();
    let falling = frame(TIMES_KIND, &[time(7, 1), time(6, 2)].concat(), 32);
    assert!(decode(&good_offsets, &falling).is_err());
}
