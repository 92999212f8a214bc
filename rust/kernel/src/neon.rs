//! NEON: products of a block's rows with vectors.
//!
//! # Safety
//!
//! Every function here wants slices of the lengths that `lib.rs` checks; the pointers below are offsets into them, as in
//! `x86.rs`.

use std::arch::aarch64::{
    int16x8_t, int32x4_t, vaddq_s32, vdupq_n_s32, vdupq_n_u32, vget_low_s16, vld1q_s16, vmull_high_s16, vmull_s16,
    vpaddq_s32, vreinterpretq_s16_s32, vreinterpretq_u32_s32, vshlq_n_s32, vst1q_s32, vst1q_u32, vsubq_u32,
};

use crate::LANES;
use crate::portable::Shift;

/// Rows in a register of products.
const QUARTER: usize = LANES / 4;

/// Adds the products of one line of a block with a pair, which is repeated in `by`.
///
/// # Safety
///
/// The feature; 32 entries at `line`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn multiply_add(products: &mut [int32x4_t; 4], line: *const i16, by: int16x8_t) {
    for (quarter, product) in products.iter_mut().enumerate() {
        // SAFETY: entries 8 quarter .. 8 quarter + 8 of 32.
        let rows = unsafe { vld1q_s16(line.add(quarter * 2 * QUARTER)) };
        let low = vmull_s16(vget_low_s16(rows), vget_low_s16(by));
        let high = vmull_high_s16(rows, by);
        *product = vaddq_s32(*product, vpaddq_s32(low, high));
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn repeated(pair: [i16; 2]) -> int16x8_t {
    vreinterpretq_s16_s32(vdupq_n_s32(i32::from(pair[1]) << 16 | i32::from(pair[0].cast_unsigned())))
}

/// # Safety
///
/// The feature, and lengths as the module states.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn keys(block: &[i16], vectors: &[i16], biases: &[u32], out: &mut [u32]) {
    let width = block.len() / LANES;
    for ((vector, &bias), out) in vectors.chunks_exact(width).zip(biases).zip(out.chunks_exact_mut(LANES)) {
        let mut products = [vdupq_n_s32(0); 4];
        for (line, pair) in block.chunks_exact(2 * LANES).zip(vector.chunks_exact(2)) {
            // SAFETY: the line has 32 entries.
            unsafe { multiply_add(&mut products, line.as_ptr(), repeated([pair[0], pair[1]])) };
        }
        for (out, product) in out.chunks_exact_mut(QUARTER).zip(products) {
            let doubled = vreinterpretq_u32_s32(vshlq_n_s32::<1>(product));
            // SAFETY: the chunk has 4 entries.
            unsafe { vst1q_u32(out.as_mut_ptr(), vsubq_u32(vdupq_n_u32(bias), doubled)) };
        }
    }
}

/// # Safety
///
/// The feature, and lengths as the module states.
#[target_feature(enable = "neon")]
pub(crate) unsafe fn shift_keys(block: &[i16], shifts: &[Shift], keys: &mut [u32]) {
    for shift in shifts {
        let mut products = [vdupq_n_s32(0); 4];
        for &(p, by) in &shift.moves {
            // SAFETY: the caller has checked that the block has line p.
            unsafe { multiply_add(&mut products, block.as_ptr().add(p as usize * 2 * LANES), repeated(by)) };
        }
        let mut sums = [0_i32; LANES];
        for (sums, product) in sums.chunks_exact_mut(QUARTER).zip(products) {
            // SAFETY: the chunk has 4 entries.
            unsafe { vst1q_s32(sums.as_mut_ptr(), product) };
        }
        shift.apply(sums, &mut keys[shift.centre * LANES..][..LANES]);
    }
}
