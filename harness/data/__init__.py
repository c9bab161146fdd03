"""Data sets: folders of features, annotations, the embedded synthetic set."""
