"""The benchmarks that judge by labels: their workloads and scores must be right."""
