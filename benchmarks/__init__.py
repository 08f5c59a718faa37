"""Measurements of skgd against its peers; ``python -m benchmarks`` takes them all."""
