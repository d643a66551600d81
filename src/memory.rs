// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! Memory mappings: base, transparent huge and huge pages, and BPF maps.
//!
//! The kernel reads and writes a [`Region`] behind the compiler's back while a
//! request is in flight. [`crate::submission`] returns only when every request
//! has completed, so whoever holds a slice never shares it with the kernel.

use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Failure;
use crate::spec::PageKind;

/// Where a huge page begins and ends.
pub const HUGE_PAGE: usize = 2 << 20;

/// A mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    /// The mapping itself, which alignment may have made larger.
    mapped: (NonNull<u8>, usize),
    /// What other processes can map it by.
    file: Option<File>,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it.
unsafe impl Send for Memory {}

impl Memory {
    /// Zeroed memory of at least `len` bytes, every page present: private, but
    /// for what a client's block requests are made of.
    pub fn anonymous(len: usize, pages: PageKind) -> Result<Self, Failure> {
        match pages {
            PageKind::Base => {
                let memory = Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
                // Khugepaged must not turn base pages into huge ones.
                memory.advise(libc::MADV_NOHUGEPAGE);
                memory.populate();
                Ok(memory)
            }
            PageKind::Thp => {
                let len = len.next_multiple_of(HUGE_PAGE);
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                let mut memory = Self::map(len + HUGE_PAGE, flags, None)?;
                let skip = memory.start.as_ptr().align_offset(HUGE_PAGE);
                // SAFETY: skip < HUGE_PAGE, within the mapping made above.
                memory.start = unsafe { memory.start.add(skip) };
                memory.len = len;
                memory.advise(libc::MADV_HUGEPAGE);
                memory.populate();
                Ok(memory)
            }
            PageKind::Kernel => {
                let file = crate::sys::memory_file(c"uringbpf", len)
                    .map_err(|error| Failure::io(format!("make {len} bytes of memory"), &error))?;
                Self::shared(file, len)
            }
            PageKind::Huge => {
                let len = len.next_multiple_of(HUGE_PAGE);
                let flags = libc::MAP_PRIVATE
                    | libc::MAP_ANONYMOUS
                    | libc::MAP_HUGETLB
                    | libc::MAP_HUGE_2MB;
                let memory = Self::map(len, flags, None).map_err(|failure| {
                    failure.next(format!(
                        "reserve huge pages: sysctl vm.nr_hugepages={}",
                        len / HUGE_PAGE
                    ))
                })?;
                memory.populate();
                Ok(memory)
            }
        }
    }

    /// Memory that a file holds: what is dropped from the page tables comes
    /// back from there.
    pub fn of_file(file: BorrowedFd<'_>, len: usize) -> Result<Self, Failure> {
        Self::map(len, libc::MAP_SHARED, Some(file))
    }

    /// Private memory that nobody has touched: no page is there.
    pub fn untouched(len: usize) -> Result<Self, Failure> {
        let memory = Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)?;
        memory.advise(libc::MADV_NOHUGEPAGE);
        Ok(memory)
    }

    /// An arena, at the address that its programs know: nothing else may be
    /// mapped there.
    pub fn at(address: u64, map: BorrowedFd<'_>, len: usize) -> Result<Self, Failure> {
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping.
        let start = unsafe {
            libc::mmap(
                address as *mut _,
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                map.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr() as u64 == address => Ok(Memory {
                start,
                len,
                mapped: (start, len),
                file: None,
            }),
            _ => Err(Failure::io(
                format!("map the arena at {address:#x}"),
                &std::io::Error::last_os_error(),
            )),
        }
    }

    /// The first `len` bytes of a file, which may be mapped elsewhere, too.
    pub fn shared(file: File, len: usize) -> Result<Self, Failure> {
        let mut memory = Self::map(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            Some(file.as_fd()),
        )?;
        memory.file = Some(file);
        Ok(memory)
    }

    /// The file of shared memory, as other processes of this user can open it.
    pub fn path(&self) -> Option<PathBuf> {
        let file = self.file.as_ref()?;
        let (process, fd) = (std::process::id(), file.as_raw_fd());
        Some(PathBuf::from(format!("/proc/{process}/fd/{fd}")))
    }

    /// The values of a BPF array map that allows to be mapped.
    pub fn of_map(map: BorrowedFd<'_>, len: usize) -> Result<Self, Failure> {
        let len = len.next_multiple_of(crate::sys::page_size());
        Self::map(len, libc::MAP_SHARED, Some(map))
    }

    fn map(len: usize, flags: i32, fd: Option<BorrowedFd<'_>>) -> Result<Self, Failure> {
        let fd = fd.map_or(-1, |fd| fd.as_raw_fd());
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(Failure::io(format!("map {len} bytes of memory"), &error));
        }
        let start = NonNull::new(start.cast())
            .ok_or_else(|| Failure::environment("map memory: the kernel chose address 0"))?;
        Ok(Memory {
            start,
            len,
            mapped: (start, len),
            file: None,
        })
    }

    /// Advice may be refused (no THP in this kernel): the memory works without.
    fn advise(&self, advice: i32) {
        // SAFETY: the range is within our mapping, and the advice changes no data.
        unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) };
    }

    /// Touches every page: callbacks that cannot sleep take no page faults.
    fn populate(&self) {
        for offset in (0..self.len).step_by(crate::sys::page_size()) {
            // SAFETY: offset is within our private, writable mapping.
            unsafe { self.start.add(offset).write_volatile(0) };
        }
    }

    pub fn region(&mut self) -> Region<'_> {
        Region {
            start: self.start,
            len: self.len,
            owner: PhantomData,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let (start, len) = self.mapped;
        // SAFETY: our own mapping; regions of it have ended with the borrow.
        unsafe { libc::munmap(start.as_ptr().cast(), len) };
    }
}

/// What may be done with pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    None,
    Read,
    ReadWrite,
}

/// The 64-bit words of a file or of a BPF map, mapped: threads and programs
/// read and write them at any time. What is stored is the file's from then on,
/// whatever becomes of this process.
#[derive(Debug)]
pub struct SharedWords {
    memory: Memory,
    count: usize,
}

// SAFETY: the words are only reached as atomics.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// `count` words from the beginning; the file must be as long.
    pub fn new(file: BorrowedFd<'_>, count: usize) -> Result<Self, Failure> {
        Ok(SharedWords {
            memory: Memory::of_map(file, (count * 8).max(8))?,
            count,
        })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Acquire)
    }

    pub fn store(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::Release);
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "word {index} of {}", self.count);
        // SAFETY: inside the mapping, aligned as it is, and mapped as long as
        // `self` is borrowed; everybody in this process uses atomics.
        unsafe { AtomicU64::from_ptr(self.memory.start.as_ptr().cast::<u64>().add(index)) }
    }
}

/// Part of a mapping, used by one buffer alone.
#[derive(Debug)]
pub struct Region<'m> {
    start: NonNull<u8>,
    len: usize,
    owner: PhantomData<&'m mut [u8]>,
}

// SAFETY: like the exclusive slice that it stands for.
unsafe impl Send for Region<'_> {}

impl<'m> Region<'m> {
    /// # Safety
    /// `start` … `start + len` must be mapped writable for `'m`, and nothing
    /// else in this process may use it for that long.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Region {
            start,
            len,
            owner: PhantomData,
        }
    }

    /// The first `len` bytes, and the rest.
    pub fn split_at(self, len: usize) -> (Region<'m>, Region<'m>) {
        assert!(len <= self.len, "a region is split inside itself");
        // SAFETY: both parts are within this region, disjoint, and it is consumed.
        let rest = unsafe { Region::new(self.start.add(len), self.len - len) };
        // SAFETY: as above.
        (unsafe { Region::new(self.start, len) }, rest)
    }

    pub fn address(&self) -> u64 {
        self.start.as_ptr() as u64
    }

    /// The same memory for a shorter time.
    pub fn reborrow(&mut self) -> Region<'_> {
        Region {
            start: self.start,
            len: self.len,
            owner: PhantomData,
        }
    }

    /// Maps a file's beginning here, or nothing that may be touched: as
    /// munmap(2) does, but nobody else's mapping can take the place. Until the
    /// file is back, `bytes` must not be used.
    pub fn replace(&self, file: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let (protection, flags, fd) = match file {
            Some(file) => (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
            ),
            None => (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        };
        // SAFETY: replaces only pages of this region, which nobody else uses,
        // with as many.
        let start = unsafe {
            libc::mmap(
                self.start.as_ptr().cast(),
                self.len,
                protection,
                flags | libc::MAP_FIXED,
                fd,
                0,
            )
        };
        match start == libc::MAP_FAILED {
            false => Ok(()),
            true => Err(Failure::os(
                "replace a mapping",
                crate::errno::Errno::last(),
            )),
        }
    }

    /// Makes every page of an arena present. A program cannot do that, and
    /// whoever touches a page that is not there may be killed for it: an arena
    /// takes its pages with alloc_pages_nolock() (kernel/bpf/arena.c), which
    /// waits for no lock and reclaims nothing, so that it may find none where
    /// the page cache has filled the memory.
    pub fn populate(&mut self) -> Result<(), Failure> {
        /// Linux 5.14: an error where a touch is a signal.
        const MADV_POPULATE_WRITE: i32 = 23;
        const STEP: usize = 4 << 20;
        const ATTEMPTS: usize = 64;
        let skipped = self.start.as_ptr() as usize % crate::sys::page_size();
        let end = skipped + self.len;
        for offset in (0..end).step_by(STEP) {
            let len = STEP.min(end - offset);
            let mut attempts = 0;
            loop {
                // SAFETY: the pages of this region, which are writable; none
                // that is there changes.
                let result = unsafe {
                    let page = self.start.as_ptr().sub(skipped).add(offset);
                    libc::madvise(page.cast(), len, MADV_POPULATE_WRITE)
                };
                if result == 0 {
                    break;
                }
                let errno = crate::errno::Errno::last();
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(Failure::os("get pages for an arena", errno)
                        .next("free memory, or ask for less of it"));
                }
                // For ordinary memory the kernel does reclaim, and then has some.
                drop(Memory::anonymous(STEP, PageKind::Base)?);
            }
        }
        Ok(())
    }

    /// Takes the pages of a file's mapping out of the page tables.
    pub fn drop_pages(&self) -> Result<(), Failure> {
        self.advise(libc::MADV_DONTNEED)
    }

    /// Asks for the pages to be written to swap.
    pub fn page_out(&self) -> Result<(), Failure> {
        /// Linux 5.4.
        const MADV_PAGEOUT: i32 = 21;
        self.advise(MADV_PAGEOUT)
    }

    fn advise(&self, advice: i32) -> Result<(), Failure> {
        // SAFETY: the range is mapped for 'm; whoever gives up private memory
        // this way gets zeros, which are bytes, too.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), self.len, advice) } {
            0 => Ok(()),
            _ => Err(Failure::os("madvise", crate::errno::Errno::last())),
        }
    }

    /// Bytes of the region that are in memory.
    pub fn resident(&self) -> Result<usize, Failure> {
        let page = crate::sys::page_size();
        let mut pages = vec![0u8; self.len.div_ceil(page)];
        // SAFETY: the vector has a byte for each page of the mapped range.
        let result =
            unsafe { libc::mincore(self.start.as_ptr().cast(), self.len, pages.as_mut_ptr()) };
        if result != 0 {
            return Err(Failure::os("mincore", crate::errno::Errno::last()));
        }
        Ok(pages.iter().filter(|page| **page & 1 != 0).count() * page)
    }

    /// Changes what may be done with the pages of a range. Until everything
    /// is back to reading and writing, `bytes` of the range must not be used.
    pub fn protect(
        &self,
        range: std::ops::Range<usize>,
        protection: Protection,
    ) -> Result<(), Failure> {
        let page = crate::sys::page_size();
        let start = range.start / page * page;
        let end = range.end.next_multiple_of(page).min(self.len);
        let flags = match protection {
            Protection::None => libc::PROT_NONE,
            Protection::Read => libc::PROT_READ,
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: whole pages within the region; what is still used of them,
        // the caller sees to.
        match unsafe { libc::mprotect(self.start.as_ptr().add(start).cast(), end - start, flags) } {
            0 => Ok(()),
            _ => Err(Failure::os("mprotect", crate::errno::Errno::last())),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for 'm, ours alone, and no request is in flight.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// The values of a mapped BPF array, which programs write at any time.
#[derive(Debug)]
pub struct MappedArray<T> {
    memory: Memory,
    count: usize,
    element: PhantomData<T>,
}

// SAFETY: an element is only read and written as a whole, volatile, as the
// programs do; who uses which one is the callers' agreement.
unsafe impl<T: Copy + Send> Sync for MappedArray<T> {}

impl<T: Copy> MappedArray<T> {
    pub fn new(map: BorrowedFd<'_>, count: usize) -> Result<Self, Failure> {
        assert!(
            size_of::<T>().is_multiple_of(8),
            "array maps pad their values to 8 bytes"
        );
        Ok(MappedArray {
            memory: Memory::of_map(map, count * size_of::<T>())?,
            count,
            element: PhantomData,
        })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn get(&self, index: usize) -> T {
        // SAFETY: `element` stays inside the mapping; T is plain old data, as
        // request.rs asserts of each that is used here.
        unsafe { self.element(index).read_volatile() }
    }

    pub fn set(&self, index: usize, value: T) {
        // SAFETY: as in `get`.
        unsafe { self.element(index).write_volatile(value) }
    }

    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.count, "index {index} of {}", self.count);
        // SAFETY: index < count, and the mapping holds count elements.
        unsafe { self.memory.start.as_ptr().cast::<T>().add(index) }
    }
}
