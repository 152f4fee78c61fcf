"""Detectron2's and Detectron's checkpoints and configs, read without either."""
