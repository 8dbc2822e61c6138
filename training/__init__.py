"""Training and evaluation of DCPL: data sets in, a model directory and its measured figures out."""
