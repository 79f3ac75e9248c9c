"""The sample and the shards it is stored in: the only form in which data travels."""

from humansd.data.sample import Sample, SampleError, decode_sample, encode_sample
from humansd.data.shards import ShardError, count_samples, read_shards, write_shards

__all__ = [
    "Sample",
    "SampleError",
    "ShardError",
    "count_samples",
    "decode_sample",
    "encode_sample",
    "read_shards",
    "write_shards",
]
