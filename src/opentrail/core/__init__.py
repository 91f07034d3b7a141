"""The domain: records, resources, file formats, errors. No I/O, no clock."""
