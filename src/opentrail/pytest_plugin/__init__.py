"""The pytest plugin: records the calls of tests and checks them."""
