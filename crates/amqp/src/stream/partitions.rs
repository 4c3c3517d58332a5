//! The stream that events are appended to, or the partitions of a super stream, and which of these an event goes to.

use settled_pipeline::outbox::Publication;

use super::settings::StreamSettings;

/// The stream of the settings, in one or more partitions.
#[derive(Clone, Debug)]
pub struct EventStream {
    /// Its name, and what it keeps.
    pub settings: StreamSettings,
    /// With more than one it is a super stream.
    pub partitions: usize,
}

impl From<&StreamSettings> for EventStream {
    fn from(settings: &StreamSettings) -> Self {
        Self { settings: settings.clone(), partitions: 1 }
    }
}

impl EventStream {
    /// Whether it is a super stream: an exchange whose bindings say which streams are its partitions.
    pub(crate) const fn is_super(&self) -> bool {
        self.partitions > 1
    }

    /// Returns the names of the streams, in the order of the partitions: those that RabbitMQ's own tools give them.
    pub(crate) fn names(&self) -> Vec<String> {
        let name = &self.settings.name;
        match self.is_super() {
            false => vec![name.clone()],
            true => (0..self.partitions).map(|place| format!("{name}-{place}")).collect(),
        }
    }
}

/// Returns the place of an event's partition, as RabbitMQ's own clients choose it for the payment's id as routing key.
pub(super) fn place(message: &Publication<'_>, partitions: usize) -> usize {
    const SEED: u32 = 104_729;
    if partitions == 1 { 0 } else { murmur3(message.payment_id().as_bytes(), SEED) as usize % partitions }
}

/// Computes the hash MurmurHash3 x86 32.
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let scrambled = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, tail) = bytes.as_chunks();
    let mut hash = seed;
    for block in blocks {
        hash ^= scrambled(u32::from_le_bytes(*block));
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    hash ^= scrambled(u32::from_le_bytes(last));
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Python's mmh3 5.3.1 has them: `mmh3.hash(text, 104729, signed=False)`.
    #[test]
    fn the_hash_is_the_one_of_the_official_clients() {
        for (text, hash) in [
            ("", 3_329_588_566),
            ("a", 1_086_686_554),
            ("ab", 398_604_456),
            ("abc", 3_409_700_625),
            ("abcd", 3_421_720_556),
            ("hello", 1_321_743_225),
            ("019a5b1e-7c00-7000-8000-000000000001", 3_933_848_051),
            ("01a1f9c1-3010-7000-8000-00000000000e", 287_699_645),
            ("zażółć", 1_911_769_601),
        ] {
            assert_eq!(murmur3(text.as_bytes(), 104_729), hash, "{text:?}");
        }
    }

    #[test]
    fn partitions_have_the_names_that_rabbitmqs_tools_give_them_and_one_stream_its_own() {
        let of = |partitions| EventStream { partitions, ..EventStream::from(&StreamSettings::default()) }.names();
        assert_eq!(of(1), ["payments.events.log"]);
        assert_eq!(of(2), ["payments.events.log-0", "payments.events.log-1"]);
    }
}
