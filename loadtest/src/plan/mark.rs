//! The mark of a run: in the ids of its tasks and in the names of its accounts, so that it finds
//! its own again among whatever else the servers hold.

use std::fmt;

use uuid::{Builder, Uuid};

/// 30 random bits, as the bytes 9 to 12 of an id: beside the two bits of the UUID's variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark([u8; 4]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) number: usize,
    /// When its first message was scheduled for, in microseconds since 1970.
    pub(crate) scheduled: i64,
}

impl Mark {
    pub(crate) fn random() -> Self {
        Self::of(fastrand::u32(..))
    }

    const fn of(bits: u32) -> Self {
        let [first, second, third, fourth] = bits.to_be_bytes();
        Self([(first & 0x3f) | 0x80, second, third, fourth])
    }

    /// The id with that number: a UUIDv7 whose sub-millisecond bits are used too, and which so
    /// tells when it was scheduled to the microsecond.
    pub(crate) fn id(self, Stamp { number, scheduled }: Stamp) -> Uuid {
        let micros = u64::try_from(scheduled).unwrap_or_default();
        let mut rest = [0; 10];
        // 0 to 999: it fits into the 12 bits that follow the version.
        rest[..2].copy_from_slice(&((micros % 1000) as u16).to_be_bytes());
        rest[2..6].copy_from_slice(&self.0);
        rest[6..].copy_from_slice(&(number as u32).to_be_bytes());
        Builder::from_unix_timestamp_millis(micros / 1000, &rest).into_uuid()
    }

    /// What an id says; `None` if it is not of this run.
    pub(crate) fn read(self, id: Uuid) -> Option<Stamp> {
        let bytes = id.as_bytes();
        if bytes[6] >> 4 != 7 || bytes[8..12] != self.0 {
            return None;
        }
        let millis = bytes[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
        let micros = i64::from(u16::from_be_bytes([bytes[6] & 0x0f, bytes[7]]));
        let number = u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        Some(Stamp { number: number as usize, scheduled: millis * 1000 + micros })
    }

    pub(crate) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lt-{:08x}", u32::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_that_tells_its_number_and_its_time() {
        for (bits, number, scheduled) in
            [(0, 0, 1_790_000_000_000_000), (u32::MAX, 4_294_967_295, 1_790_000_000_123_999)]
        {
            let stamp = Stamp { number, scheduled };
            let id = Mark::of(bits).id(stamp);
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
            assert_eq!(Mark::of(bits).read(id), Some(stamp));
            assert_eq!(Mark::of(bits ^ 1).read(id), None);
        }
        assert_eq!(Mark::of(0).read(Uuid::nil()), None);
    }

    #[test]
    fn ids_are_in_the_order_of_their_times() {
        let id = |scheduled| Mark::of(7).id(Stamp { number: 1, scheduled });
        assert!(id(1_790_000_000_000_999) < id(1_790_000_000_001_000));
        assert!(id(1_790_000_000_001_000) < id(1_790_000_000_001_001));
    }

    #[test]
    fn it_reads_as_the_beginning_of_an_account_name() {
        assert_eq!(Mark::of(0x1234_5678).to_string(), "lt-92345678");
    }
}
