//! Every variant that the processor has against the plain one, and the plain one against its definition.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Rows and vectors of one shape, with the extremes of 16 bits among their entries.
fn operands() -> impl Strategy<Value = (Vec<i16>, Vec<i16>, Vec<u32>)> {
    (1_usize..40, 0_usize..40).prop_flat_map(|(pairs, vectors)| {
        let entry = || prop_oneof![4 => any::<i16>(), 1 => Just(i16::MIN), 1 => Just(i16::MAX), 1 => Just(0)];
        (vec(entry(), pairs * 2 * LANES), vec(entry(), pairs * 2 * vectors), vec(any::<u32>(), vectors))
    })
}

fn lane(block: &[i16], lane: usize) -> Vec<i16> {
    let mut row = vec![0; block.len() / LANES];
    read_lane(block, lane, &mut row);
    row
}

/// By the definition, in unbounded arithmetic.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "modulo 2^32")]
fn key(row: &[i16], vector: &[i16], bias: u32) -> u32 {
    let product: i128 = row.iter().zip(vector).map(|(&x, &c)| i128::from(x) * i128::from(c)).sum();
    (i128::from(bias) - 2 * product).rem_euclid(1 << 32) as u32
}

proptest! {
    #[test]
    fn keys_are_those_of_the_definition_at_every_level((block, vectors, biases) in operands()) {
        let width = block.len() / LANES;
        let expected: Vec<u32> = vectors
            .chunks_exact(width)
            .zip(&biases)
            .flat_map(|(vector, &bias)| (0..LANES).map(|l| key(&lane(&block, l), vector, bias)).collect::<Vec<_>>())
            .collect();
        for level in Level::available() {
            let mut out = vec![7; biases.len() * LANES];
            keys_at(level, &block, &vectors, &biases, &mut out);
            prop_assert_eq!(&out, &expected, "{}", level.name());
            for l in [0, LANES - 1] {
                let mut of_row = vec![7; biases.len()];
                row_keys_at(level, &lane(&block, l), &vectors, &biases, &mut of_row);
                let of_block: Vec<u32> = expected.chunks_exact(LANES).map(|keys| keys[l]).collect();
                prop_assert_eq!(&of_row, &of_block, "{}", level.name());
            }
        }
    }

    #[test]
    fn shifted_keys_are_those_of_the_moved_centres(
        (block, vectors, biases) in operands(),
        places in vec((any::<prop::sample::Index>(), -3_i16..3), 0..20),
        change: u32,
    ) {
        prop_assume!(!vectors.is_empty());
        let width = block.len() / LANES;
        let mut moved = vectors.clone();
        for (place, by) in places {
            let entry = place.get_mut(&mut moved);
            *entry = entry.saturating_add(by);
        }
        let shifted: Vec<u32> = biases.iter().map(|bias| bias.wrapping_add(change)).collect();
        let centre = |of: &[i16], j: usize| of[j * width..(j + 1) * width].to_vec();
        let shifts: Vec<Shift> = (0..biases.len())
            .filter_map(|j| {
                Shift::between(j, (&centre(&vectors, j), biases[j]), (&centre(&moved, j), shifted[j]), width)
            })
            .collect();
        prop_assert_eq!(shifts.len(), biases.len());
        for level in Level::available() {
            let mut expected = vec![0; biases.len() * LANES];
            keys_at(level, &block, &moved, &shifted, &mut expected);
            let mut out = vec![0; biases.len() * LANES];
            keys_at(level, &block, &vectors, &biases, &mut out);
            shift_keys_at(level, &block, &shifts, &mut out);
            prop_assert_eq!(&out, &expected, "{}", level.name());
        }
    }

    #[test]
    fn nearest_takes_the_first_of_equals(keys in vec(0_u32..4, 0..9), high: bool) {
        let offset = if high { u32::MAX - 3 } else { 0 };
        let spread: Vec<u32> =
            keys.iter().flat_map(|&key| (0..LANES).map(move |lane| offset + (key + u32::from(lane == 3)) % 4)).collect();
        for level in Level::available() {
            let (mut best, mut labels) = ([0; LANES], [9; LANES]);
            nearest_at(level, &spread, &mut best, &mut labels);
            for lane in 0..LANES {
                let of_lane = || spread.iter().skip(lane).step_by(LANES);
                let least = of_lane().copied().min().unwrap_or(u32::MAX);
                prop_assert_eq!(best[lane], least);
                let first = of_lane().position(|&key| key == least && key != u32::MAX).unwrap_or(0);
                prop_assert_eq!(usize::from(labels[lane]), first);
            }
        }
    }

    #[test]
    fn cells_are_floors(
        cells in vec((-(1_i64 << 45)..1 << 45, -40_000_i32..40_000), 0..30),
        den in 1_i64..1 << 31,
        half_pitch in 1_i64..1 << 13,
        boundary: bool,
        phase: u16,
    ) {
        let pitch = 2 * half_pitch;
        let phi = i32::from(phase) % i32::try_from(pitch).unwrap();
        // Numerators within what a mean of 16-bit numbers allows, or right at the boundary of a cell.
        let bound = den << 15;
        let slack: Vec<i64> = cells
            .iter()
            .map(|&(v, l)| {
                let num = if boundary { (v % 7) * pitch * den - i64::from(phi) * den + v % 2 } else { v % bound };
                num - i64::from(l) * den
            })
            .collect();
        let corners: Vec<i32> = cells.iter().map(|&(_, l)| l).collect();
        let phases = vec![phi; cells.len()];
        for level in Level::available() {
            let (mut v, mut l) = (slack.clone(), corners.clone());
            settle_at(level, &mut v, &mut l, &phases, Span { den, pitch });
            for i in 0..cells.len() {
                let num = slack[i] + i64::from(corners[i]) * den;
                let corner = (num + i64::from(phi) * den).div_euclid(pitch * den) * pitch - i64::from(phi);
                prop_assert_eq!(i64::from(l[i]), corner);
                prop_assert_eq!(v[i], num - corner * den);
            }
        }
    }

    #[test]
    fn changed_cells_hold_or_not(
        cells in vec((0_i64..1000, -50_i32..50, -40_i64..40, -50_i16..50), 0..40),
        lack in -2_i32..2,
        den in -2_i32..2,
        limit in 900_i64..1100,
        has_sum: bool,
    ) {
        let slack: Vec<i64> = cells.iter().map(|c| c.0).collect();
        let corners: Vec<i32> = cells.iter().map(|c| c.1).collect();
        let sum: Vec<i64> = cells.iter().filter(|_| has_sum).map(|c| c.2).collect();
        let centre: Vec<i16> = cells.iter().map(|c| c.3).collect();
        let moved: Vec<i64> = cells
            .iter()
            .map(|&(v, l, s, c)| v + s * i64::from(has_sum) + i64::from(lack) * i64::from(c) - i64::from(den) * i64::from(l))
            .collect();
        let change = Cells { sum: &sum, centre: &centre, lack, den, limit };
        for level in Level::available() {
            let holds = moved.iter().all(|v| (0..limit).contains(v));
            prop_assert_eq!(cells_hold_at(level, change, &slack, &corners), holds);
            let mut shifted = slack.clone();
            shift_cells_at(level, change, &mut shifted, &corners);
            prop_assert_eq!(&shifted, &moved);
        }
    }

    #[test]
    fn the_rest_is_the_same_at_every_level(
        row in vec(any::<i16>(), 0..70),
        floats in vec(-2.0_f64..2.0, 0..70),
        lane in 0..LANES,
        wide in vec(-(1_i64 << 40)..1 << 40, 70),
        words: [u32; 2 * LANES],
        sign in prop_oneof![Just(-1_i64), Just(1)],
    ) {
        let row = &row[..row.len() & !1];
        let singles: Vec<f32> = floats.iter().map(|&x| x.to_string().parse().unwrap()).collect();
        let (low, high): ([u32; LANES], [u32; LANES]) =
            (words[..LANES].try_into().unwrap(), words[LANES..].try_into().unwrap());
        let scale = 16384.0;
        for level in Level::available() {
            let mut sum = wide.clone();
            add_row_at(level, &mut sum, row, sign);
            let expected: Vec<i64> =
                (0..70).map(|i| wide[i] + sign * row.get(i).map_or(0, |&x| i64::from(x))).collect();
            prop_assert_eq!(sum, expected);

            let mut block = vec![5; row.len() * LANES];
            write_lane(&mut block, lane, row);
            let mut back = vec![0; row.len()];
            read_lane_at(level, &block, lane, &mut back);
            prop_assert_eq!(&back, row);
            let others = block.chunks_exact(2).enumerate().filter(|(i, _)| i % LANES != lane);
            prop_assert!(others.flat_map(|(_, pair)| pair).all(|&x| x == 5));

            let exact: i128 = row.iter().zip(&wide).map(|(&a, &b)| i128::from(a) * i128::from(b)).sum();
            prop_assert_eq!(i128::from(wide_dot_at(level, row, &wide)), exact);

            let draws = philox_at(level, [1, 2], &low, &high, 3, 4);
            prop_assert_eq!(draws, portable::philox([1, 2], &low, &high, 3, 4));

            for (values, single) in [(&floats, false), (&singles.iter().map(|&x| f64::from(x)).collect(), true)] {
                let mut out = vec![0; values.len()];
                let square = if single {
                    round_single_at(level, &singles, scale, &mut out)
                } else {
                    round_double_at(level, values, scale, &mut out)
                };
                #[allow(clippy::cast_possible_truncation, reason = "they are small")]
                let expected: Vec<i64> = values.iter().map(|x| (x * scale).round_ties_even() as i64).collect();
                prop_assert_eq!(square, expected.iter().map(|v| v * v).sum::<i64>());
                #[allow(clippy::cast_possible_truncation, reason = "modulo 2^16, as documented")]
                let narrow: Vec<i16> = expected.iter().map(|&v| v as i16).collect();
                prop_assert_eq!(out, narrow);
                let energy = if single { energy_single_at(level, &singles) } else { energy_double_at(level, values) };
                let about: f64 = values.iter().map(|x| x * x).sum();
                prop_assert!((energy - about).abs() <= 1e-12 * about);
            }
        }
    }
}

proptest! {
    #[test]
    fn candidates_are_not_missed(
        words: [[u32; LANES]; 4],
        weights: [u32; LANES],
        small: bool,
        energy in 0_u64..1 << 54,
        weight in 1_u32..,
    ) {
        let weights = weights.map(|weight| if small { weight % 3 } else { weight });
        #[allow(clippy::cast_precision_loss, reason = "rounded up behind")]
        let limit = energy as f64 / f64::from(weight) * (1.0 + 1e-12);
        for level in Level::available() {
            let masks = candidates_at(level, &words, &weights, [limit, f64::INFINITY, 0.0]);
            prop_assert_eq!(masks[1], 0xFFFF);
            for lane in 0..LANES {
                let wide = words.iter().rev().fold(0_u128, |wide, word| wide << 32 | u128::from(word[lane]));
                let bits = wide & ((1 << 42) - 1);
                // The least energy, in units of 2^-48, rounded down.
                let least = ((1_u128 << 43) - (2 * bits + 1)) << 5;
                let may_win = least * u128::from(weight) <= u128::from(energy) * u128::from(weights[lane]);
                prop_assert!(!may_win || masks[0] >> lane & 1 == 1);
                #[allow(clippy::cast_precision_loss, reason = "far from the border")]
                let is_far = least as f64 > 1.001 * limit * f64::from(weights[lane]) + 100.0;
                prop_assert!(!is_far || masks[0] >> lane & 1 == 0, "it filters");
            }
        }
    }

    #[test]
    fn distances_and_their_sums(keys: [u32; 3 * LANES], squares: [u32; LANES], weights: [u32; LANES], live in 0_u32..1 << 16) {
        for level in Level::available() {
            let mut distances = keys;
            to_distances_at(level, &mut distances, &squares, 77);
            let expected: Vec<u32> =
                (0..keys.len()).map(|i| keys[i].wrapping_sub(77).wrapping_add(squares[i % LANES])).collect();
            prop_assert_eq!(&distances[..], &expected[..]);
            let mut smaller = weights;
            least_at(level, &mut smaller, &squares);
            prop_assert_eq!(smaller, std::array::from_fn(|lane| weights[lane].min(squares[lane])));
            let mut sums = [5; 3];
            least_sums_at(level, &weights, &distances, live, &mut sums);
            for (j, sum) in sums.into_iter().enumerate() {
                let lanes = (0..LANES).filter(|lane| live >> lane & 1 == 1);
                let exact: i64 = lanes.map(|lane| i64::from(distances[j * LANES + lane].min(weights[lane]))).sum();
                prop_assert_eq!(sum, 5 + exact);
            }
        }
    }
}

/// Norms that are too large are seen to be, and what is not finite too.
#[test]
fn out_of_range_floats_show() {
    for level in Level::available() {
        for x in [1e30_f32, -1e30, f32::INFINITY, f32::NAN] {
            let mut row = vec![0.5_f32; 37];
            row[20] = x;
            if x.is_finite() {
                assert!(round_single_at(level, &row, 16384.0, &mut [0; 37]) >= 1 << 40);
                assert!(energy_single_at(level, &row).is_finite());
            } else {
                assert!(!energy_single_at(level, &row).is_finite());
            }
        }
    }
}

#[test]
fn a_level_has_its_name() {
    let names: Vec<&str> = Level::available().map(Level::name).collect();
    assert_eq!(names[0], "baseline");
    assert!(Level::available().any(|level| level == Level::detected()));
}

#[test]
#[should_panic(expected = "coordinates that the rows have")]
fn a_shift_beyond_the_row_is_refused() {
    let shift = Shift::between(0, (&[0; 6], 0), (&[0, 0, 0, 0, 1, 0], 0), 6).unwrap();
    shift_keys(&[0; 4 * LANES], &[shift], &mut [0; LANES]);
}
