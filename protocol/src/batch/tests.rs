//! Behaviour of batches.

use super::*;
use bytes::Bytes;

#[test]
fn a_batch_survives_the_way_through_its_bytes() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(compression);
        let value = "value ".repeat(50);
        for n in 0..20 {
            builder.append(1000 + n, Some(b"key"), Some(value.as_bytes()), &[("h", Some(b"1")), ("h", None)]).unwrap();
        }
        let batch = builder.build(ProducerStamp::NONE).unwrap().freeze();
        let header = check_produced_batch(&batch, &BatchLimits::CLIENT, &ProduceRules::default()).unwrap();
        assert_eq!(header.compression().unwrap(), compression);
        let batch = RecordBatch::decode(batch).unwrap();
        let records = batch.records(&BatchLimits::CLIENT).unwrap();
        assert_eq!(records.iter().count(), 20);
        for (n, record) in records.iter().enumerate() {
            let record = record.unwrap();
            assert_eq!(record.offset, n as i64);
            assert_eq!(record.timestamp, 1000 + n as i64);
            assert_eq!(record.key, Some(&b"key"[..]));
            assert_eq!(record.value, Some(value.as_bytes()));
            assert_eq!(&records.payload()[record.value_range().unwrap()], value.as_bytes());
            assert_eq!(record.headers().map(Result::unwrap).collect::<Vec<_>>(), [("h", Some(&b"1"[..])), ("h", None)]);
        }
        let mut two = Bytes::from([batch.bytes().as_ref(), batch.bytes().as_ref()].concat());
        assert!(RecordBatch::split_first(&mut two).unwrap().is_some());
        assert_eq!(RecordBatch::split_first(&mut two).unwrap().unwrap(), batch);
        assert!(RecordBatch::split_first(&mut two).unwrap().is_none());
    }
}
