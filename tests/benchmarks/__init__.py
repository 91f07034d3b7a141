"""Benchmarks with labelled workloads: the workloads and scores must be right."""
