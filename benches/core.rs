//! The core alone: fit, and removals of random rows, by size and dimension.

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use erase_core::{IdRef, Ids, Matrix, Model, Params, Ratio, Threads};

/// Rows on a sphere around eight directions, by a multiplicative generator: enough to cluster, the same every time.
fn rows(n: usize, dim: usize) -> Vec<f32> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(state >> 48).unwrap_or(0)) / 32_768.0 - 1.0
    };
    let directions: Vec<f32> = (0..8 * dim).map(|_| next()).collect();
    let mut rows = Vec::with_capacity(n * dim);
    for i in 0..n {
        let direction = &directions[i % 8 * dim..][..dim];
        let row: Vec<f32> = direction.iter().map(|x| x + next()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        rows.extend(row.iter().map(|x| x / norm));
    }
    rows
}

fn model(n: usize, dim: usize, epsilon: Ratio) -> Result<Model, erase_core::Error> {
    let params = Params { epsilon, max_norm: Some(1.0), ..Params::default() }.check(dim)?;
    let ids = Ids::Int((0_i64..).take(n).collect());
    Model::fit(params, ids, Matrix::F32(&rows(n, dim)), Threads::new(Some(1)))
}

fn bench_fit(c: &mut Criterion) {
    let mut group = c.benchmark_group("fit");
    group.sample_size(10);
    for (n, dim) in [(1_000, 32), (1_000, 384), (16_000, 32), (16_000, 384)] {
        group.bench_function(BenchmarkId::from_parameter(format!("{n}x{dim}")), |b| {
            b.iter(|| model(n, dim, Ratio { num: 1, den: 2 }));
        });
    }
}

/// Half of the rows one by one, so that the model stays of one order of size: the mean over all paths.
fn bench_remove(c: &mut Criterion) {
    let mut group = c.benchmark_group("remove");
    group.sample_size(10);
    for (name, num) in [("epsilon 0.5", 1), ("epsilon 1.5", 3)] {
        for (n, dim) in [(1_000, 32), (16_000, 32), (1_000, 384), (16_000, 384)] {
            let Ok(fitted) = model(n, dim, Ratio { num, den: 2 }) else { continue };
            group.bench_function(BenchmarkId::new(name, format!("{n}x{dim}")), |b| {
                b.iter_batched_ref(
                    || fitted.clone(),
                    |model| (0..16).try_for_each(|id| model.remove_one(IdRef::Int(id * 37)).map(drop)),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group!(benches, bench_fit, bench_remove);
criterion_main!(benches);
