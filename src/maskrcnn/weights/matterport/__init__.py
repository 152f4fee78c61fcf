"""Matterport's Mask_RCNN, of Keras."""
