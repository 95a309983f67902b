//! Pages of the process. Owns giving back those that hold program code and constants as they are in their files, and
//! those of the heap that hold nothing, and how many come with one that is used; when that is worth doing is decided
//! elsewhere.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use nix::unistd::{SysconfVar, sysconf};

/// Of an entry of `/proc/self/pagemap`, which has 8 bytes: the page is in memory, or swapped out, …
const HELD: u64 = 0b11 << 62;
/// … and is the file's.
const OF_FILE: u64 = 1 << 61;

/// Of a program, so much comes into memory around what is used. The kernel would bring four times as much.
const AROUND: usize = 16 * 1024;

/// Has the kernel bring less of programs and libraries into memory around what is used of them, and returns how many
/// bytes of address space that concerns. To be called once, at the start.
///
/// With each page that is used it maps those around it, up to the ends of the mapping. Most of them are never used: a
/// program keeps all of its code resident though it runs through a third. Mappings have ends where a property changes,
/// and whether a page would be part of a core dump is one that changes nothing else: code is in none.
pub fn map_narrowly() -> usize {
    let mut concerned = 0;
    for range in segments() {
        let Some(range) = whole_pages(range, AROUND) else { continue };
        concerned += range.len();
        if !narrow(range) {
            break;
        }
    }
    concerned
}

/// Divides a mapping, and returns whether that could be done. When not, there most likely are as many mappings as may
/// be, and it goes on as it is.
fn narrow(range: Range<usize>) -> bool {
    range.step_by(2 * AROUND).all(|at| {
        // SAFETY: the advice changes neither the bytes of a mapping nor its rights.
        // WHY: no safe wrapper takes an address.
        unsafe { libc::madvise(at as *mut c_void, AROUND, libc::MADV_DONTDUMP) == 0 }
    })
}

/// Lets go of the pages of programs and libraries that are as in their files, and returns how many bytes of address
/// space they cover. Nothing is lost and nothing is written: each comes back from the kernel's copy of the file when
/// it is next used. What only the start needed, or was mapped merely as its neighbour, does not.
///
/// # Errors
/// When the process may not look at itself; then everything stays.
pub fn release_program() -> io::Result<usize> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| usize::try_from(size).ok()).unwrap_or(4096);
    let map = File::open("/proc/self/pagemap")?;
    let mut covered = 0;
    for range in segments().into_iter().filter_map(|bytes| whole_pages(bytes, page)) {
        // A debugger's breakpoint, for example, is a page that is no longer the file's.
        if !is_of_file(&map, &range, page)? {
            continue;
        }
        // SAFETY: the range lies in a segment that is mapped from its file without the right to write, and none of
        // its pages differs from the file. What is dropped is read from there again.
        // WHY: no safe wrapper knows that nothing that changes lives at these addresses.
        let code = unsafe { libc::madvise(range.start as *mut c_void, range.len(), libc::MADV_DONTNEED) };
        // A refusal leaves everything as it was.
        covered += if code == 0 { range.len() } else { 0 };
    }
    Ok(covered)
}

/// Lets go of all that a process keeps resident without need: pages of the heap, then of programs; see both.
///
/// # Errors
/// As [`release_program`].
pub fn release_unused() -> io::Result<usize> {
    release_heap();
    release_program()
}

/// Gives back the heap's pages that hold nothing. The allocator does so by itself only at the heap's end, where one
/// small object that lives on keeps all before it.
pub fn release_heap() {
    crate::heap::release();
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches nothing that is allocated.
    // WHY: there is no safe wrapper.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Segments that are never writable. Constants that hold addresses are in writable ones, which the loader protects
/// once it has filled them in.
fn segments() -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // SAFETY: `collect` has the signature that is asked for, is called only during this call, and gets back the
    // pointer to `found`, which nobody else uses meanwhile.
    // WHY: only the loader knows where the segments of programs and libraries are.
    unsafe { libc::dl_iterate_phdr(Some(collect), (&raw mut found).cast::<c_void>()) };
    found
}

/// # Safety
/// For [`libc::dl_iterate_phdr`] only, with a pointer to a `Vec<Range<usize>>`.
unsafe extern "C" fn collect(object: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader hands out a valid description for the length of this call, and our own pointer.
    // WHY: this is the signature of the loader's callback.
    let (object, found) = unsafe { (&*object, &mut *found.cast::<Vec<Range<usize>>>()) };
    if object.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: the loader describes that many headers there, which live as long as the object is loaded.
    // WHY: they are handed out as pointer and count.
    let headers = unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        found.extend(between(object.dlpi_addr.checked_add(header.p_vaddr), header.p_memsz));
    }
    0
}

fn between(start: Option<u64>, bytes: u64) -> Option<Range<usize>> {
    let start = usize::try_from(start?).ok()?;
    Some(start..start.checked_add(usize::try_from(bytes).ok()?)?)
}

fn whole_pages(bytes: Range<usize>, page: usize) -> Option<Range<usize>> {
    let range = bytes.start.checked_next_multiple_of(page)?..bytes.end - bytes.end % page;
    (!range.is_empty()).then_some(range)
}

/// Whether none of the pages is the process's own.
fn is_of_file(map: &File, range: &Range<usize>, page: usize) -> io::Result<bool> {
    let mut entries = vec![0; range.len() / page * size_of::<u64>()];
    map.read_exact_at(&mut entries, (range.start / page * size_of::<u64>()) as u64)?;
    let (entries, _) = entries.as_chunks();
    Ok(entries
        .iter()
        .map(|entry| u64::from_ne_bytes(*entry))
        .all(|page| page & HELD == 0 || page & OF_FILE != 0))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use super::*;

    /// How many pages of a range the process has mapped.
    fn mapped(range: &Range<usize>) -> usize {
        let map = File::open("/proc/self/pagemap").unwrap();
        let mut entries = vec![0; range.len() / 4096 * 8];
        map.read_exact_at(&mut entries, (range.start / 4096 * 8) as u64).unwrap();
        entries.as_chunks().0.iter().filter(|entry| u64::from_ne_bytes(**entry) & HELD != 0).count()
    }

    /// The program's file, mapped once more for one test: of this, nobody else uses a page.
    fn mapped_again(bytes: usize) -> usize {
        let file = File::open("/proc/self/exe").unwrap();
        let (rights, kind) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE);
        // SAFETY: a new mapping, where the kernel likes. It stays until the process ends.
        // WHY: a test of the kernel's ways with mappings needs one.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights, kind, file.as_raw_fd(), 0) };
        assert_ne!(at, libc::MAP_FAILED);
        at as usize
    }

    #[test]
    fn with_a_page_that_is_used_come_only_those_close_to_it() {
        const SIZE: usize = 256 * 1024;
        let start = mapped_again(SIZE).next_multiple_of(AROUND);
        let whole = start..start + SIZE - AROUND;
        assert!(narrow(whole.clone()));
        // SAFETY: the address lies in that mapping.
        // WHY: only a pointer reads a byte of which it is known where it is.
        unsafe { ((start + SIZE / 2) as *const u8).read_volatile() };
        let came = mapped(&whole);
        assert!((1..=AROUND / 4096).contains(&came), "{came} pages of {whole:x?}");
    }

    #[test]
    fn the_program_and_its_libraries_are_mapped_narrowly() {
        let divided = map_narrowly();
        let program = std::fs::metadata("/proc/self/exe").unwrap().len();
        assert!(divided > 1024 * 1024, "{divided} bytes of a program of {program}");
    }

    #[test]
    fn what_the_process_has_changed_is_not_the_files() {
        let page = 4096;
        let map = File::open("/proc/self/pagemap").unwrap();
        let own = vec![1_u8; 16 * page];
        let at = own.as_ptr() as usize;
        let code = mapped as *const () as usize;
        for (address, wanted) in [(at, false), (code, true)] {
            let range = whole_pages(address - page..address + 8 * page, page).unwrap();
            assert_eq!(is_of_file(&map, &range, page).unwrap(), wanted, "{address:x}");
        }
    }

    #[test]
    fn only_whole_pages_of_a_segment_are_released() {
        for (bytes, wanted) in [
            (4096..12288, Some(4096..12288)),
            (4097..12289, Some(8192..12288)),
            (4097..8193, None),
            (0..4095, None),
            (usize::MAX - 1..usize::MAX, None),
        ] {
            assert_eq!(whole_pages(bytes.clone(), 4096), wanted, "{bytes:?}");
        }
    }
}
