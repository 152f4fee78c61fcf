"""Weights of the TensorFlow Object Detection API, read and written without TensorFlow."""
