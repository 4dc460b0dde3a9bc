//! Brokers by letter, and sets of them.

use std::fmt;

/// Replication factor 3 on three brokers: each holds a replica of every log.
pub(crate) const BROKERS: usize = 3;

/// `min.insync.replicas`.
pub(crate) const MIN_ISR: usize = 2;

/// A broker; `A` leads at the start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BrokerId(pub(crate) u8);

impl BrokerId {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..BROKERS as u8).map(Self)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Debug for BrokerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", char::from(b'A' + self.0))
    }
}

/// A set of brokers, one bit each: an ISR, an ELR, those fenced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(crate) struct BrokerSet(pub(crate) u8);

impl BrokerSet {
    pub(crate) const EMPTY: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << BROKERS) - 1);

    pub(crate) fn only(broker: BrokerId) -> Self {
        Self(1 << broker.0)
    }

    pub(crate) fn contains(self, broker: BrokerId) -> bool {
        self.0 & Self::only(broker).0 != 0
    }

    pub(crate) fn with(self, broker: BrokerId) -> Self {
        self.union(Self::only(broker))
    }

    pub(crate) fn without(self, broker: BrokerId) -> Self {
        self.minus(Self::only(broker))
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        other.minus(self).is_empty()
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn reaches_min_isr(self) -> bool {
        self.len() >= MIN_ISR
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = BrokerId> {
        BrokerId::all().filter(move |broker| self.contains(*broker))
    }
}

impl fmt::Debug for BrokerSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(out, "∅");
        }
        self.iter().try_for_each(|broker| write!(out, "{broker:?}"))
    }
}
