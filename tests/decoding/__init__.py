"""Conformance test "Decoding": requests made by botocore and the records they must give."""
