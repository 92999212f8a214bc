//! SSE2, AVX2 and AVX-512: products of a block's rows with vectors, by multiply-adds of pairs of 16-bit numbers.
//!
//! # Safety
//!
//! Every function here wants the features that it names, and slices of the lengths that `lib.rs` checks. The pointers
//! below are offsets into those slices: with `pairs = block.len() / 32`, line `p < pairs` of the block is its entries
//! `32 p .. 32 p + 32`, pair `p` of vector `j` is entries `2 pairs j + 2 p` and the next, and the keys of
//! vector `j` are `16 j .. 16 j + 16`. Loads and stores are unaligned ones.

use std::arch::x86_64::{
    _MM_HINT_T0, _mm_add_epi32, _mm_loadu_si128, _mm_madd_epi16, _mm_prefetch, _mm_set1_epi32, _mm_setzero_si128,
    _mm_slli_epi32, _mm_storeu_si128, _mm_sub_epi32, _mm256_add_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm512_add_epi32, _mm512_dpwssd_epi32, _mm512_loadu_epi16, _mm512_set1_epi32, _mm512_setzero_si512,
    _mm512_slli_epi32, _mm512_storeu_epi32, _mm512_sub_epi32,
};

use crate::LANES;
use crate::portable::Shift;

/// A pair of 16-bit numbers as one 32-bit number, to be broadcast.
///
/// # Safety
///
/// Two numbers can be read at `at`.
#[inline]
unsafe fn pair(at: *const i16) -> i32 {
    // SAFETY: by the caller's promise; the alignment is not relied on.
    unsafe { at.cast::<i32>().read_unaligned() }
}

/// Asks for a line of the block that follows in memory, which is most often the next one to be worked on. Nothing is read: any
/// address will do.
#[inline]
fn prefetch(at: *const i16) {
    // SAFETY: a hint, which has no effect on what a program computes.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
}

fn packed(by: [i16; 2]) -> i32 {
    i32::from(by[1]) << 16 | i32::from(by[0].cast_unsigned())
}

/// Runs a function for all vectors, as many at once as there are registers for; where those are few, with several
/// chains of sums for each, since one alone would wait for itself.
macro_rules! in_groups {
    ($function:ident, $block:ident, $vectors:ident, $biases:ident, $out:ident, [$(($group:literal, $chains:literal)),*]) => {
        let width = $block.len() / LANES;
        let mut j = 0;
        $(while $biases.len() - j >= $group {
            // SAFETY: lengths as the module states, for vectors j .. j + group.
            unsafe {
                $function::<$group, $chains>(
                    $block,
                    $vectors.as_ptr().add(j * width),
                    $biases.as_ptr().add(j),
                    $out.as_mut_ptr().add(j * LANES),
                );
            }
            j += $group;
        })*
    };
}

/// # Safety
///
/// The features, and lengths as the module states.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) unsafe fn keys_avx512(block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    in_groups!(group_avx512, block, vectors, biases, out, [(16, 1), (8, 1), (4, 2), (3, 2), (2, 4), (1, 4)]);
}

/// # Safety
///
/// The features; `M` vectors at `vectors`, biases at `biases`, and room for their keys at `out`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn group_avx512<const M: usize, const CHAINS: usize>(
    block: &[i16],
    vectors: *const i16,
    biases: *const u32,
    out: *mut u32,
) {
    let width = block.len() / LANES;
    let mut products = [[_mm512_setzero_si512(); CHAINS]; M];
    let lines = block.chunks_exact(2 * LANES * CHAINS);
    let rest = lines.remainder();
    let behind = (block.len() - rest.len()) / (2 * LANES);
    for (p, lines) in lines.enumerate() {
        for chain in 0..CHAINS {
            // SAFETY: each line has 32 entries; pair p of each of M vectors is there.
            unsafe {
                let rows = _mm512_loadu_epi16(lines.as_ptr().add(chain * 2 * LANES));
                for (j, products) in products.iter_mut().enumerate() {
                    let pair = _mm512_set1_epi32(pair(vectors.add(j * width + 2 * (p * CHAINS + chain))));
                    products[chain] = _mm512_dpwssd_epi32(products[chain], rows, pair);
                }
            }
        }
    }
    for (p, line) in (behind..).zip(rest.chunks_exact(2 * LANES)) {
        // SAFETY: as above.
        unsafe {
            let rows = _mm512_loadu_epi16(line.as_ptr());
            for (j, products) in products.iter_mut().enumerate() {
                let pair = _mm512_set1_epi32(pair(vectors.add(j * width + 2 * p)));
                products[0] = _mm512_dpwssd_epi32(products[0], rows, pair);
            }
        }
    }
    for (j, products) in products.iter().enumerate() {
        let product = products[1..].iter().fold(products[0], |sum, product| _mm512_add_epi32(sum, *product));
        // SAFETY: M biases, and room for 16 keys for each.
        unsafe {
            let bias = _mm512_set1_epi32((*biases.add(j)).cast_signed());
            let keys = _mm512_sub_epi32(bias, _mm512_slli_epi32::<1>(product));
            _mm512_storeu_epi32(out.add(j * LANES).cast(), keys);
        }
    }
}

/// # Safety
///
/// The features, and lengths as the module states.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(crate) unsafe fn shift_keys_avx512(block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    // As many chains of sums as keep the unit busy.
    const CHAINS: usize = 4;
    let next = block.as_ptr().wrapping_add(block.len());
    for shift in shifts {
        let mut products = [_mm512_setzero_si512(); CHAINS];
        let (groups, rest) = shift.moves.as_chunks::<CHAINS>();
        for group in groups {
            for (chain, product) in products.iter_mut().enumerate() {
                let (p, by) = group[chain];
                let line = p as usize * 2 * LANES;
                prefetch(next.wrapping_add(line));
                // SAFETY: the caller has checked that the block has line p.
                let rows = unsafe { _mm512_loadu_epi16(block.as_ptr().add(line)) };
                *product = _mm512_dpwssd_epi32(*product, rows, _mm512_set1_epi32(packed(by)));
            }
        }
        for &(p, by) in rest {
            let line = p as usize * 2 * LANES;
            prefetch(next.wrapping_add(line));
            // SAFETY: as above.
            let rows = unsafe { _mm512_loadu_epi16(block.as_ptr().add(line)) };
            products[0] = _mm512_dpwssd_epi32(products[0], rows, _mm512_set1_epi32(packed(by)));
        }
        let halves = [_mm512_add_epi32(products[0], products[1]), _mm512_add_epi32(products[2], products[3])];
        let mut sums = [0_i32; LANES];
        // SAFETY: the array has 16 entries.
        unsafe { _mm512_storeu_epi32(sums.as_mut_ptr(), _mm512_add_epi32(halves[0], halves[1])) };
        shift.apply(sums, &mut keys[shift.centre * LANES..][..LANES]);
    }
}

/// `keys` and `shift_keys` for registers narrower than a block's lanes, several of which hold a line of a block.
macro_rules! narrow_registers {
    ($feature:literal, $keys:ident, $shift_keys:ident, $registers:literal, [$($group:literal),*],
     $load:ident, $store:ident, $zero:ident, $broadcast:ident, $madd:ident, $add:ident, $sub:ident, $double:ident) => {
        /// # Safety
        ///
        /// The feature, and lengths as the module states.
        #[target_feature(enable = $feature)]
        pub(crate) unsafe fn $keys(block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
            /// # Safety
            ///
            /// The feature; `M` vectors at `vectors`, biases at `biases`, and room for their keys at `out`.
            #[target_feature(enable = $feature)]
            unsafe fn group<const M: usize, const CHAINS: usize>(
                block: &[i16],
                vectors: *const i16,
                biases: *const u32,
                out: *mut u32,
            ) {
                let width = block.len() / LANES;
                let mut products = [[$zero(); $registers]; M];
                for (p, line) in block.chunks_exact(2 * LANES).enumerate() {
                    // SAFETY: the line has 32 entries, in equal parts; pair p of each of M vectors is there.
                    unsafe {
                        let rows: [_; $registers] =
                            std::array::from_fn(|part| $load(line.as_ptr().add(part * 2 * LANES / $registers).cast()));
                        for (j, products) in products.iter_mut().enumerate() {
                            let vector = $broadcast(pair(vectors.add(j * width + 2 * p)));
                            for (product, rows) in products.iter_mut().zip(rows) {
                                *product = $add(*product, $madd(rows, vector));
                            }
                        }
                    }
                }
                for (j, products) in products.iter().enumerate() {
                    // SAFETY: M biases, and room for 16 keys for each.
                    unsafe {
                        let bias = $broadcast((*biases.add(j)).cast_signed());
                        for (part, product) in products.iter().enumerate() {
                            let keys = $sub(bias, $double::<1>(*product));
                            $store(out.add(j * LANES + part * LANES / $registers).cast(), keys);
                        }
                    }
                }
            }
            in_groups!(group, block, vectors, biases, out, [$(($group, 1)),*]);
        }

        /// # Safety
        ///
        /// The feature, and lengths as the module states.
        #[target_feature(enable = $feature)]
        pub(crate) unsafe fn $shift_keys(block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
            let next = block.as_ptr().wrapping_add(block.len());
            for shift in shifts {
                let mut products = [$zero(); $registers];
                for &(p, by) in &shift.moves {
                    prefetch(next.wrapping_add(p as usize * 2 * LANES));
                    let by = $broadcast(packed(by));
                    for (part, product) in products.iter_mut().enumerate() {
                        let at = p as usize * 2 * LANES + part * 2 * LANES / $registers;
                        // SAFETY: the caller has checked that the block has line p, of 32 entries in equal parts.
                        let rows = unsafe { $load(block.as_ptr().add(at).cast()) };
                        *product = $add(*product, $madd(rows, by));
                    }
                }
                let mut sums = [0_i32; LANES];
                for (part, product) in products.iter().enumerate() {
                    // SAFETY: the array has 16 entries, in equal parts.
                    unsafe { $store(sums.as_mut_ptr().add(part * LANES / $registers).cast(), *product) };
                }
                shift.apply(sums, &mut keys[shift.centre * LANES..][..LANES]);
            }
        }
    };
}

narrow_registers!(
    "avx2",
    keys_avx2,
    shift_keys_avx2,
    2,
    [4, 3, 2, 1],
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    _mm256_setzero_si256,
    _mm256_set1_epi32,
    _mm256_madd_epi16,
    _mm256_add_epi32,
    _mm256_sub_epi32,
    _mm256_slli_epi32
);

narrow_registers!(
    "sse2",
    keys_sse2,
    shift_keys_sse2,
    4,
    [2, 1],
    _mm_loadu_si128,
    _mm_storeu_si128,
    _mm_setzero_si128,
    _mm_set1_epi32,
    _mm_madd_epi16,
    _mm_add_epi32,
    _mm_sub_epi32,
    _mm_slli_epi32
);
