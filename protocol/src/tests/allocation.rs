//! Counts what a piece of work allocates, on its own thread only, so that tests can run side by side.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What [`measure`]d work took from the heap. zstd's own memory is C's and not counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Calls of the allocator that asked for memory.
    pub(crate) allocations: usize,
    /// Most bytes held at once beyond what was held before.
    pub(crate) peak_bytes: usize,
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn took(bytes: usize) {
    let held = HELD.get() + bytes as isize;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

fn gave(bytes: usize) {
    HELD.set(HELD.get() - bytes as isize);
}

#[expect(unsafe_code, reason = "only an allocator can count allocations; every call goes to the system's")]
// SAFETY: all calls are passed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        gave(layout.size());
        took(size);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does `work` and says what it allocated.
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    let before = HELD.get();
    PEAK.set(before);
    ALLOCATIONS.set(0);
    let value = work();
    let usage = Usage { allocations: ALLOCATIONS.get(), peak_bytes: (PEAK.get() - before) as usize };
    (value, usage)
}

#[test]
fn allocations_are_counted() {
    let (value, usage) = measure(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1000))));
    let () = value;
    assert_eq!(usage.allocations, 1);
    assert_eq!(usage.peak_bytes, 1000);
}
