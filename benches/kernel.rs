//! The products of a block's rows with vectors, at every level of instructions that this processor has.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use erase_core_kernel::{LANES, Level, keys_at};

fn bench_keys(c: &mut Criterion) {
    for (dim, vectors) in [(384, 8), (384, 64), (32, 8)] {
        let mut group = c.benchmark_group(format!("keys of {LANES} rows, {dim} x {vectors}"));
        group.throughput(Throughput::Elements((LANES * dim * vectors) as u64));
        let block: Vec<i16> = (0_i16..).take(LANES * dim).collect();
        let centres: Vec<i16> = (0_i16..).map(|i| i.wrapping_mul(7)).take(vectors * dim).collect();
        let biases = vec![1 << 31; vectors];
        let mut keys = vec![0; vectors * LANES];
        for level in Level::available() {
            group.bench_function(BenchmarkId::from_parameter(level.name()), |b| {
                b.iter(|| keys_at(level, &block, &centres, &biases, &mut keys));
            });
        }
    }
}

criterion_group!(benches, bench_keys);
criterion_main!(benches);
