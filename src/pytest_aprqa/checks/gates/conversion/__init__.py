"""Gates about what a conversion keeps: tensors by kind of defect, settings, files, whole paths."""
