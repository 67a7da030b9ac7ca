"""Replay: the Reverb tables, how they are sampled and read.

`etbs` needs nothing but Reverb and TensorFlow.
"""
