"""TensorFlow Datasets without TensorFlow: builders of FFHQ and AFHQv2, and a reader."""
