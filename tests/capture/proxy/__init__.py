"""Tests of the AWS endpoint, over raw sockets."""
