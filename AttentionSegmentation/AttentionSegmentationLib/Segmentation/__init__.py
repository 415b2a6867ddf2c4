"""Organs in CT: what the module AttentionSegmentation adds to the library that both Slicer modules share."""
