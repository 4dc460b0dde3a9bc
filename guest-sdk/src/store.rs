//! State stores with a write-back cache that lives for one call.
//!
//! ```text
//!   prefetch ─► table of keys ─► get-many, packed, once
//!   get ──────► table: known? the cached value : get-many of one
//!   put ──────► table: written, listed as dirty
//!   end of the call, scan, or a full cache ─► put-many of what is dirty, in the order of first writing
//! ```
//!
//! Nothing is remembered from call to call: that is right whatever the host does with a call's effects, and keeps an
//! instance's memory bounded. The contract would allow more (see `wit/headwater.wit`, "The life of an instance").

mod table;

use crate::error::StateError;
use crate::host::Host;
use crate::limits::{GET_KEYS_BYTES_MAX, PUT_ENTRIES_BYTES_MAX, SCAN_PAGE_ENTRIES_MAX, STORE_CACHE_BYTES_MAX};
use crate::packed::{self, Reader};
use std::rc::Rc;
use table::Table;

/// The deployment's stores.
pub struct Stores(Vec<Store>);

impl Stores {
    pub(crate) fn new(host: &Rc<dyn Host>, count: usize) -> Self {
        Self((0..).take(count).map(|number| Store::new(Rc::clone(host), number)).collect())
    }

    /// Store number `store` of the deployment.
    pub fn at(&mut self, store: usize) -> Result<&mut Store, StateError> {
        self.0.get_mut(store).ok_or(StateError::UnknownStore)
    }

    /// Number of stores.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes back what is dirty.
    pub(crate) fn flush(&mut self) -> Result<(), StateError> {
        self.0.iter_mut().try_for_each(Store::flush)
    }

    /// Forgets everything, also what was not written back.
    pub(crate) fn forget(&mut self) {
        self.0.iter_mut().for_each(|store| store.table.clear());
    }
}

/// An ordered map from bytes to bytes that belongs to the task: it survives restarts and moves with the partition.
///
/// Writes are seen by later reads at once and become durable with the step; a discarded call leaves none.
pub struct Store {
    host: Rc<dyn Host>,
    number: u32,
    table: Table,
    /// Reused for what is asked and written.
    request: Vec<u8>,
}

impl Store {
    fn new(host: Rc<dyn Host>, number: u32) -> Self {
        Self { host, number, table: Table::default(), request: Vec::new() }
    }

    /// Reads many keys with one question to the host, so that [`Store::get`] and [`Store::update`] of them ask no more.
    /// Only a matter of speed, but much of it: 5 × when each record touches a few keys.
    pub fn prefetch<K: AsRef<[u8]>>(&mut self, keys: impl IntoIterator<Item = K>) -> Result<(), StateError> {
        self.make_room()?;
        let mut unknown = Vec::new();
        for key in keys {
            let (entry, new) = self.table.find_or_insert(key.as_ref());
            if new {
                unknown.push(entry);
            }
            if self.table.bytes() > STORE_CACHE_BYTES_MAX {
                break;
            }
        }
        self.load(&unknown)
    }

    /// The value of `key`.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&[u8]>, StateError> {
        let entry = self.known(key)?;
        Ok(self.table.value(entry))
    }

    /// Sets the value of `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.make_room()?;
        let (entry, _) = self.table.find_or_insert(key);
        self.table.write(entry, |old| {
            old.clear();
            old.extend_from_slice(value);
        });
        Ok(())
    }

    /// Changes the value of `key` in place and lends the new one. An absent value is handed over as an empty one; what
    /// `change` leaves is written, also when it is empty.
    pub fn update(&mut self, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Result<&[u8], StateError> {
        let entry = self.known(key)?;
        Ok(self.table.write(entry, change))
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), StateError> {
        self.make_room()?;
        let (entry, _) = self.table.find_or_insert(key);
        self.table.delete(entry);
        Ok(())
    }

    /// The entries with `start` ≤ key < `end` (an empty `end`: no bound), ascending.
    pub fn scan(&mut self, start: &[u8], end: &[u8]) -> Result<Scan<'_>, StateError> {
        self.scan_in_order(start, end, false)
    }

    /// The same entries, descending.
    pub fn scan_back(&mut self, start: &[u8], end: &[u8]) -> Result<Scan<'_>, StateError> {
        self.scan_in_order(start, end, true)
    }

    fn scan_in_order(&mut self, start: &[u8], end: &[u8], descending: bool) -> Result<Scan<'_>, StateError> {
        self.flush()?; // the host looks at what it has been told
        let (start, end) = (start.to_vec(), end.to_vec());
        Ok(Scan { store: self, start, end, descending, page: Vec::new(), read_bytes: 0, more: true })
    }

    /// The table entry of `key`, with its value known.
    fn known(&mut self, key: &[u8]) -> Result<usize, StateError> {
        self.make_room()?;
        let (entry, _) = self.table.find_or_insert(key);
        if self.table.is_unknown(entry) {
            self.load(&[entry])?;
        }
        Ok(entry)
    }

    /// Reads the values of entries from the host, in as many questions as its limits ask for.
    fn load(&mut self, entries: &[usize]) -> Result<(), StateError> {
        let mut rest = entries;
        let mut keys_bytes_max = GET_KEYS_BYTES_MAX;
        while !rest.is_empty() {
            self.request.clear();
            let mut count = 0;
            for &entry in rest {
                let key = self.table.key(entry);
                if count > 0 && self.request.len() + packed::size(key) > keys_bytes_max {
                    break;
                }
                packed::push(&mut self.request, Some(key));
                count += 1;
            }
            match self.host.get_many(self.number, &self.request) {
                Ok(values) => {
                    let (asked, behind) = rest.split_at(count);
                    self.table.learn(asked, values)?;
                    // What does not fit into the cache is read when it is asked for.
                    rest = if self.table.bytes() > STORE_CACHE_BYTES_MAX { &[] } else { behind };
                }
                // The values are large: ask for fewer of them.
                Err(StateError::TooLarge) if count > 1 => keys_bytes_max = self.request.len() / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes back and forgets when the cache is full. Entry numbers from before are void.
    fn make_room(&mut self) -> Result<(), StateError> {
        if self.table.bytes() <= STORE_CACHE_BYTES_MAX {
            return Ok(());
        }
        self.flush()?;
        self.table.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StateError> {
        let Self { host, number, table, request } = self;
        request.clear();
        table.drain_dirty(|key, value| {
            let bytes = packed::size(key) + packed::size(value.unwrap_or_default());
            if !request.is_empty() && request.len() + bytes > PUT_ENTRIES_BYTES_MAX {
                host.put_many(*number, request)?;
                request.clear();
            }
            packed::push(request, Some(key));
            packed::push(request, value);
            Ok::<_, StateError>(())
        })?;
        if request.is_empty() { Ok(()) } else { host.put_many(*number, request) }
    }
}

/// Key and value of a store, lent by a [`Scan`].
pub type Entry<'a> = (&'a [u8], &'a [u8]);

/// Reads a range page by page; lends one entry at a time, and keeps its store from being written meanwhile.
///
/// ```
/// # use headwater_guest_sdk::{Context, StateError};
/// # fn sum(context: &mut Context) -> Result<usize, StateError> {
/// let mut bytes = 0;
/// let mut scan = context.stores.at(0)?.scan(b"a", b"b")?;
/// while let Some((_key, value)) = scan.next()? {
///     bytes += value.len();
/// }
/// # Ok(bytes)
/// # }
/// ```
pub struct Scan<'a> {
    store: &'a mut Store,
    start: Vec<u8>,
    end: Vec<u8>,
    descending: bool,
    page: Vec<u8>,
    read_bytes: usize,
    more: bool,
}

impl Scan<'_> {
    /// The next entry, or none at the end of the range.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend from its page")]
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, StateError> {
        if self.read_bytes == self.page.len() && !self.turn_page()? {
            return Ok(None);
        }
        let unread = self.page.get(self.read_bytes..).unwrap_or_default();
        let mut reader = Reader::new(unread);
        let malformed = |_| StateError::Malformed;
        let (key, value) = (reader.present().map_err(malformed)?, reader.present().map_err(malformed)?);
        self.read_bytes += packed::size(key) + packed::size(value);
        if self.read_bytes == self.page.len() && self.more {
            let bound = if self.descending { &mut self.end } else { &mut self.start };
            bound.clear();
            bound.extend_from_slice(key);
            if !self.descending {
                bound.push(0); // the smallest key that is larger
            }
        }
        Ok(Some((key, value)))
    }

    fn turn_page(&mut self) -> Result<bool, StateError> {
        if !self.more {
            return Ok(false);
        }
        let Self { store, start, end, descending, .. } = self;
        let page = store.host.scan(store.number, start, end, SCAN_PAGE_ENTRIES_MAX, *descending)?;
        // An empty page that promises more would be asked for without end.
        self.more = page.more && !page.entries.is_empty();
        self.page = page.entries;
        self.read_bytes = 0;
        Ok(!self.page.is_empty())
    }
}
