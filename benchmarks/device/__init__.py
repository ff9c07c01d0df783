"""What `benchmarks.gpu` runs: agreement with a CPU, throughput, training."""
