"""Every operation of every service, by the models; and moto's own test suites."""
